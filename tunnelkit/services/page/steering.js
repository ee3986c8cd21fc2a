// Buttons that do something, and what is asked before.
import { act, show } from "./talk.js";
import { element } from "./tables.js";
import { duration } from "./words.js";

const place = (id) => document.getElementById(id);
let quiet = 0;
let answered = Promise.resolve(null);

/** Says something for a while. */
export function say(text) {
  place("say").replaceChildren(element("p", {}, text));
  clearTimeout(quiet);
  quiet = setTimeout(() => place("say").replaceChildren(), 8000);
}

/** Does it, and says what came of it; the answer, or null. */
export async function perform(name, wish, done) {
  try {
    const answer = await act(name, wish);
    say(typeof done === "function" ? done(answer) : done);
    document.dispatchEvent(new Event("steered"));
    return answer;
  } catch (error) {
    say(`That did not work: ${error.message}`);
    return null;
  }
}

/** Asks whether that is meant; null: no, otherwise for how many seconds, if that is asked too. */
export async function ask(title, text, yes, withTime = false) {
  // A dialog says a moment after it has closed that it has: not to who asks next.
  await answered;
  const dialog = place("ask");
  place("ask-title").textContent = title;
  place("ask-text").textContent = text;
  place("ask-yes").textContent = yes;
  place("ask-more").hidden = !withTime;
  place("ask-for").value = "0";
  dialog.returnValue = "no";
  dialog.showModal();
  answered = new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes" ? Number(place("ask-for").value) : null), { once: true });
  });
  return answered;
}

/** Puts these buttons in a place, without touching those that are there already. */
export function offer(where, buttons) {
  const wanted = buttons.map(({ label }) => label).join();
  if (where.dataset.offered === wanted) return;
  where.dataset.offered = wanted;
  where.replaceChildren(...buttons.map(({ label, kind, act: onclick }) => element("button", { type: "button", class: kind || false, onclick }, label)));
}

/** Ends everything of one, after asking whether he may come back. */
export async function throwOut(who) {
  const seconds = await ask(`Throw out ${who}?`, `All of ${who} ends at once.`, "Throw out", true);
  if (seconds === null) return;
  const out = seconds ? `, and he stays out for ${duration(seconds)}` : "";
  perform("disconnect", { peer: who, for: seconds }, `${who} is out${out}.`);
}

/** Ends one channel, pair or session. */
export async function endOne({ id, who, what }) {
  if (await ask("End this one?", `${what} of ${who} is cut off.`, "End it") === null) return;
  perform("disconnect", { channel: id }, ({ ended }) => ended ? "Ended." : "It was over already.");
}

const PORTS = {
  forward: ["Forward", "8080=tcp:web.example:80", "A port here, = and where it leads at the far side, for example 8080=tcp:web.example:80."],
  socks: ["SOCKS", "1080", "A port here for programs that speak SOCKS."],
  "http-proxy": ["HTTP proxy", "3128", "A port here for programs that use an HTTP proxy."],
};

/** Ports that are opened and closed here. */
export function showAdded(added) {
  place("forward-form").hidden = !added;
  place("added-title").hidden = !(added && added.forwards.length);
  if (!added) return;
  const kind = place("forward-kind");
  if (!kind.options.length) {
    kind.append(...added.kinds.map((one) => element("option", { value: one }, (PORTS[one] ?? [one])[0])));
    kind.addEventListener("change", hint);
    hint();
  }
  const list = place("added-list"), shown = JSON.stringify(added.forwards);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...added.forwards.map(({ kind: one, value }) => element("li", {}, `${(PORTS[one] ?? [one])[0]} ${value}`,
    element("button", { type: "button", class: "small danger", "aria-label": `Close ${one} ${value}`, onclick: () => perform("forwards", { remove: one, value }, "Closed; what came in by it goes on.") }, "Close"))));
}

function hint() {
  const [, example, note] = PORTS[place("forward-kind").value] ?? ["", "", ""];
  place("forward-text").placeholder = example;
  place("forward-note").textContent = note;
}

place("forward-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const value = place("forward-text").value.trim();
  const done = await perform("forwards", { add: place("forward-kind").value, value }, ({ opened }) => `Open: ${opened.join(", ")}.`);
  if (done) place("forward-text").value = "";
});

place("explain-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = place("explain-answer");
  const question = new URLSearchParams({ peer: place("explain-peer").value.trim(), destination: place("explain-what").value.trim() });
  try {
    const { allowed, rule, why } = await show(`/policy/explain?${question}`);
    answer.className = allowed === null ? "" : allowed ? "good" : "bad";
    const word = allowed === null ? "It depends" : allowed ? "Allowed" : "Not allowed";
    answer.textContent = `${word}${rule ? `, by the rule ${rule}` : ""}${why ? `: ${why}` : ""}.`;
  } catch (error) {
    answer.className = "bad";
    answer.textContent = `That is no question: ${error.message}`;
  }
});

async function disconnect() {
  if (await ask("Disconnect?", "What is open may finish for a while; nothing new is taken.", "Disconnect") === null) return;
  perform("disconnect", {}, ({ draining }) => draining ? `Disconnecting; ${draining} channels may finish.` : "Disconnected.");
}

async function disconnectNow() {
  if (await ask("End everything now?", "Channels that are open are cut off.", "End now") === null) return;
  perform("disconnect-now", {}, "Disconnected.");
}

/** Asks for the passphrase of the identity, until it is right or somebody has had enough. */
function unlock() {
  place("unlock-text").value = "";
  place("unlock-wrong").textContent = "";
  place("unlock").showModal();
}

place("unlock-cancel").addEventListener("click", () => place("unlock").close());
place("unlock").addEventListener("close", () => { place("unlock-text").value = ""; });
place("unlock-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const passphrase = place("unlock-text").value;
  place("unlock-text").value = "";
  try {
    await act("unlock", { passphrase });
    place("unlock").close();
    say("Unlocked.");
  } catch (error) {
    place("unlock-wrong").textContent = error.message;
    place("unlock-text").focus();
  }
});

/** What can be done about the state. */
export function stateButtons(can, state, locked) {
  const off = state === "disconnected", buttons = [];
  if (locked) buttons.push({ label: "Unlock", kind: "strong", act: unlock });
  if (state === "locked") return buttons;
  if (can.includes("connect") && (off || state === "draining" || state === "down")) {
    const label = state === "down" ? "Try now" : "Connect";
    buttons.push({ label, kind: "strong", act: () => perform("connect", {}, "Connecting.") });
  }
  if (can.includes("disconnect") && !off && state !== "draining") buttons.push({ label: "Disconnect", act: disconnect });
  if (can.includes("disconnect-now") && state === "draining") buttons.push({ label: "End now", kind: "danger", act: disconnectNow });
  return buttons;
}

async function drain() {
  const text = "It takes nothing new, lets what is open finish, and ends. Something else has to start it again.";
  if (await ask("Drain and end this role?", text, "Drain and end") !== null) perform("drain", {}, "Draining: it ends when what is open is over.");
}

/** What can be done to the role as a whole. */
export function wholeButtons(can) {
  const buttons = [];
  if (can.includes("reload")) {
    buttons.push({ label: "Read settings again", act: () => perform("reload", {}, ({ reloaded, what }) => reloaded ? `Read again: ${what}.` : `Not taken over, all is as before: ${what}`) });
  }
  if (can.includes("drain")) buttons.push({ label: "Drain and end", kind: "danger", act: drain });
  return buttons;
}
