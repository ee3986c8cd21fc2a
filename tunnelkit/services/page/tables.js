// Tables that are brought up to date without losing the reader's place in them.

export function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...content);
  return made;
}

export function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

export class Table {
  /**
   * columns: {label, value(row), text(row)?, kind: "number"|"strong"|"", sorted?: true to begin with}.
   * actions(row): [{label, danger, title, act}] for the last column. key(row): what the row is known by.
   */
  constructor(place, columns, key, actions = null, empty = "Nobody.") {
    Object.assign(this, { columns, key, actions, rows: new Map(), data: [] });
    this.sort = Math.max(0, columns.findIndex((column) => column.sorted));
    this.down = columns[this.sort].sorted === "down";
    const heads = columns.map((column, number) => {
      const button = element("button", { type: "button", onclick: () => this.sortBy(number) }, column.label);
      return element("th", { scope: "col", class: column.kind === "number" && "number" }, button);
    });
    if (actions) heads.push(element("th", { scope: "col" }));
    this.heads = heads;
    this.body = element("tbody");
    this.empty = element("tr", {}, element("td", { class: "empty", colspan: heads.length }, empty));
    place.append(element("thead", {}, element("tr", {}, ...heads)), this.body);
  }

  sortBy(number) {
    this.down = this.sort === number ? !this.down : this.columns[number].kind === "number";
    this.sort = number;
    this.show(this.data);
  }

  show(data) {
    this.data = data;
    const { value } = this.columns[this.sort];
    const sign = this.down ? -1 : 1;
    const sorted = [...data].sort((one, other) => {
      const a = value(one) ?? "", b = value(other) ?? "";
      return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    });
    this.heads.forEach((head, number) => {
      if (number === this.sort) head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const kept = new Map();
    const rows = sorted.map((row) => {
      const name = this.key(row);
      const entry = this.rows.get(name) ?? this.make();
      kept.set(name, entry);
      this.fill(entry, row);
      return entry.element;
    });
    this.rows = kept;
    const wanted = rows.length ? rows : [this.empty];
    // Moving an element takes the focus from it: only what is not in its place is moved.
    wanted.forEach((row, number) => {
      if (this.body.children[number] !== row) this.body.insertBefore(row, this.body.children[number] ?? null);
    });
    while (this.body.children.length > wanted.length) this.body.lastChild.remove();
  }

  make() {
    const cells = this.columns.map(({ label, kind }) => element("td", { "data-label": label, class: kind || false }));
    const last = this.actions && element("td", { class: "act" });
    return { element: element("tr", {}, ...cells, ...(last ? [last] : [])), cells, last, offered: "" };
  }

  fill(entry, row) {
    this.columns.forEach(({ value, text }, number) => setText(entry.cells[number], String((text ?? value)(row) ?? "–")));
    if (!this.actions) return;
    const actions = this.actions(row);
    const offered = actions.map(({ label }) => label).join();
    if (offered === entry.offered) return;
    entry.offered = offered;
    entry.last.replaceChildren(...actions.map(({ label, danger, title, act }) =>
      element("button", { type: "button", class: danger ? "small danger" : "small", "aria-label": title, onclick: act }, label)));
  }
}
