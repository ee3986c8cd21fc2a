// Lines over the last quarter of an hour, as SVG.

const SPANS = [60, 300, 900];
const SPAN = SPANS[2];
const NS = "http://www.w3.org/2000/svg";
const LEFT = 62, BOTTOM = 20, TOP = 6, RIGHT = 6;

function make(name, attributes, text) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A round number above, so that the axis does not jump at every event. */
function ceiling(value, least, base) {
  if (base === 2) return Math.max(least, 2 ** Math.ceil(Math.log2(value || 1)));
  let step = least;
  for (const factor of [2, 2.5, 2]) {
    if (step >= value) return step;
    step *= factor;
  }
  return step >= value ? step : ceiling(value, step, base);
}

export class Chart {
  /** series: {name, kind}; format: a value in words; least: what the axis reaches at least. */
  constructor(place, legend, series, format, least, base = 10) {
    Object.assign(this, { place, legend, series, format, least, base, pointer: null });
    this.svg = make("svg", { role: "img" });
    place.append(this.svg);
    place.addEventListener("pointermove", (event) => {
      this.pointer = event.clientX - place.getBoundingClientRect().left;
      this.draw();
    });
    place.addEventListener("pointerleave", () => { this.pointer = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(place);
    this.names = series.map(({ name, kind }) => {
      const label = document.createElement("span");
      const value = document.createElement("b");
      label.className = kind;
      label.append(`${name} `, value);
      legend.append(label);
      return value;
    });
    this.points = [];
  }

  /** points: [seconds, value of the first series, of the second ...]; a null is a gap. */
  show(points) {
    this.points = points;
    this.draw();
  }

  draw() {
    const width = this.place.clientWidth, height = this.place.clientHeight;
    if (!width || !height) return;
    const points = this.points;
    const end = points.length ? points[points.length - 1][0] : Date.now() / 1000;
    const begin = points.length ? points[0][0] : end;
    const span = SPANS.find((one) => one >= end - begin) ?? SPAN;
    const most = Math.max(0, ...points.flatMap((point) => point.slice(1).map((one) => one ?? 0)));
    const top = ceiling(most, this.least, this.base);
    const across = (at) => LEFT + (width - LEFT - RIGHT) * (1 - (end - at) / span);
    const up = (value) => height - BOTTOM - (height - BOTTOM - TOP) * (value / top);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const y = up(top * share);
      parts.push(make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
      parts.push(make("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, this.format(top * share)));
    }
    for (const share of [1, 2 / 3, 1 / 3, 0]) {
      const anchor = share === 1 ? "start" : share ? "middle" : "end";
      const text = share ? ago(span * share, share === 1) : "now";
      parts.push(make("text", { x: across(end - span * share), y: height - 3, "text-anchor": anchor }, text));
    }
    this.series.forEach(({ kind }, number) => {
      for (const run of runs(points, number + 1)) {
        const line = run.map(([at, value]) => `${across(at).toFixed(1)},${up(value).toFixed(1)}`);
        const first = across(run[0][0]).toFixed(1), last = across(run[run.length - 1][0]).toFixed(1);
        parts.push(make("polygon", { class: `area ${kind}`, points: `${first},${up(0)} ${line.join(" ")} ${last},${up(0)}` }));
        parts.push(make("polyline", { class: `line ${kind}`, points: line.join(" ") }));
      }
    });
    let shown = points[points.length - 1];
    if (this.pointer !== null && points.length) {
      const at = end - span * (1 - (this.pointer - LEFT) / (width - LEFT - RIGHT));
      shown = points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best);
      const x = across(shown[0]);
      parts.push(make("line", { class: "cross", x1: x, x2: x, y1: TOP, y2: height - BOTTOM }));
    }
    this.names.forEach((place, number) => {
      const value = shown && shown[number + 1];
      place.textContent = value === null || value === undefined ? "–" : this.format(value);
    });
    const said = this.series.map(({ name }, number) => `${name} ${this.names[number].textContent}`);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", `${said.join(", ")}; highest ${this.format(most)}`);
    this.svg.replaceChildren(...parts);
  }
}

function ago(seconds, whole) {
  if (seconds < 180) return `${seconds}${whole ? " s ago" : " s"}`;
  const minutes = (seconds / 60).toLocaleString("en", { maximumFractionDigits: 1 });
  return whole ? `${minutes} min ago` : `${minutes} min`;
}

/** The stretches without a gap, as [seconds, value]. */
function runs(points, column) {
  const found = [];
  let run = [];
  for (const point of points) {
    if (point[column] === null) {
      if (run.length) found.push(run);
      run = [];
    } else run.push([point[0], point[column]]);
  }
  if (run.length) found.push(run);
  return found;
}

/** The last minutes of a role: rates out of what counts up. */
export class Memory {
  constructor() { this.points = []; }

  /** point: [seconds, bytes one way, bytes the other way, round trip or null]. */
  add(point) {
    const last = this.points[this.points.length - 1];
    if (last && (point[0] <= last[0] || point[1] < last[1] || point[2] < last[2])) {
      if (point[0] <= last[0]) return;
      this.points = []; // it has been started again
    }
    this.points.push(point);
    const begin = point[0] - SPAN;
    const stale = this.points.findIndex((one) => one[0] >= begin);
    if (stale > 1) this.points.splice(0, stale - 1);
  }

  rates() {
    return this.points.slice(1).map((point, number) => {
      const before = this.points[number], seconds = point[0] - before[0];
      return [point[0], (point[1] - before[1]) / seconds, (point[2] - before[2]) / seconds];
    });
  }

  trips() { return this.points.map((point) => [point[0], point[3] === null ? null : point[3] * 1000]); }
}
