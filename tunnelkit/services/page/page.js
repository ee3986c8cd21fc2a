// The page of one role: shows what it is told, once a second.
import { follow, setToken, show, takeToken } from "./talk.js";
import * as words from "./words.js";
import { Chart, Memory } from "./charts.js";
import { Table, element, setText } from "./tables.js";
import { endOne, offer, stateButtons, showAdded, throwOut, wholeButtons } from "./steering.js";

const place = (id) => document.getElementById(id);
const setHidden = (id, hidden) => { if (place(id).hidden !== hidden) place(id).hidden = hidden; };

const memory = new Memory();
let charts = null, lost = 0, told = null, shownWrong = "", shownFacts = "", tiles = null, peers = null, refusals = null;

// -- the parts of the page --

function showHead({ status }) {
  const role = words.ROLES[status.role] ?? status.role;
  const name = status.name ? `${status.name} · ${role}` : role;
  setText(place("title"), name);
  setText(place("subtitle"), status.where || (status.listening ? `listening on ${status.listening}` : ""));
  document.title = status.state ? `${name}: ${(words.STATES[status.state] ?? ["", status.state])[1]}` : name;
}

function showState({ status, can, draining }) {
  setHidden("now", false);
  let [tone, title, todo] = ["good", "Running", ""];
  if (status.state) [tone, title, todo] = words.STATES[status.state] ?? ["busy", status.state, ""];
  if (draining) [tone, title, todo] = ["busy", "Ending: nothing new is taken", ""];
  if (status.state === "connected" && status.peers.length) title = `Connected to ${names(status.peers)}`;
  const serves = !can.includes("connect");
  if (status.state === "waiting" && serves) [tone, title, todo] = ["quiet", "Nobody is connected", "Others can come in."];
  if (!status.state && status.listening) title = "Running; others can come in";
  const path = status.state === "connected" && status.path.length ? `Path: ${status.path.join(" – ")}` : "";
  const byHand = status.state === "disconnected" || status.state === "draining";
  const why = byHand || !status.last_error ? "" : status.last_error;
  setText(place("state"), title);
  setText(place("path"), path);
  setText(place("why"), why && `Why: ${why}`);
  setText(place("todo"), why ? `${words.remedy(why)} ${status.state === "down" ? todo : ""}` : todo);
  setHidden("why", !why);
  setHidden("todo", !(why || todo));
  place("now").dataset.tone = tone;
  offer(place("state-buttons"), draining ? [] : stateButtons(can, status.state, status.locked));
}

function names(list) {
  return list.length > 3 ? `${list.length} others` : list.join(", ");
}

/** What needs attention: [tone, what, what to do]. */
function wrong({ status }) {
  const found = [];
  const left = status.certificate_seconds;
  if (left !== undefined && left <= 0) found.push(["bad", "The certificate has expired.", "Nobody accepts it any more: issue a new one with 'tunnelkit keys issue'."]);
  else if (left !== undefined && left < 30 * 86400) found.push(["", `The certificate expires in ${words.duration(left)}.`, "Issue a new one with 'tunnelkit keys issue'; it is taken over without a restart."]);
  if (status.locked && status.state !== "locked") found.push(["", "The identity has changed, and its new key waits for its passphrase.", "Press Unlock; the key from before is used until then."]);
  if (status.list_usable === false) found.push(["bad", "The revocation list cannot be used: nobody gets in.", "Bring a new one with 'tunnelkit keys revoke' or copy it again; the log says what is wrong with it."]);
  const denied = Object.entries(status.denied ?? {}).reduce((sum, [, number]) => sum + number, 0);
  if (denied) found.push(["", `The rules here have refused something ${denied === 1 ? "once" : `${words.count(denied)} times`}.`, "See 'Refused since the start' below."]);
  if (status.channels_refused > denied) {
    const number = status.channels_refused - denied;
    found.push(["", `${words.count(number)} ${number === 1 ? "channel" : "channels"} could not be opened.`, "The other end does not allow them, or nobody answered there; the access log says why of each."]);
  }
  if (status.channels_broken) found.push(["", `${words.count(status.channels_broken)} ${status.channels_broken === 1 ? "channel" : "channels"} did not end cleanly.`, "Programs hung up early, or the line broke; the access log names each."]);
  if (lost) found.push(["", `${words.count(lost)} updates did not reach this page.`, "It could not keep up; the numbers are right again."]);
  return found;
}

function showWrong(news) {
  const found = wrong(news);
  setHidden("wrong", !found.length);
  if (shownWrong === String(found)) return;
  shownWrong = String(found);
  place("wrong-list").replaceChildren(...found.map(([tone, what, todo]) => element("li", { class: tone || false }, what, element("span", {}, todo))));
}

function showNumbers({ status }) {
  setHidden("numbers", false);
  const shown = words.NUMBERS.filter(([field]) => typeof status[field] === "number");
  if (tiles === null) {
    tiles = new Map(shown.map(([field, label]) => [field, element("dd", { id: `number-${field}` })]));
    place("tiles").replaceChildren(...shown.map(([field, label]) => element("div", {}, element("dt", {}, label), tiles.get(field))));
  }
  for (const [field, , kind] of shown) {
    if (tiles.has(field)) setText(tiles.get(field), words[kind](status[field]));
  }
}

function showCharts({ status, point }) {
  memory.add(point);
  const measured = "bytes_sent" in status || "bytes_relayed" in status;
  if (!measured) return;
  setHidden("charts", false);
  const trips = "with_peers" in status;
  setHidden("trip-card", !trips);
  if (charts === null) {
    const lines = trips
      ? [{ name: "sent", kind: "one" }, { name: "received", kind: "two" }]
      : [{ name: "relayed", kind: "one" }];
    charts = {
      rate: new Chart(place("rate"), place("rate-legend"), lines, words.rate, 1024, 2),
      trip: new Chart(place("trip"), place("trip-legend"), [{ name: "slowest peer", kind: "three" }], words.milliseconds, 1),
    };
  }
  charts.rate.show(memory.rates());
  charts.trip.show(memory.trips());
}

function showPeers({ status }) {
  const rows = status.with_peers ?? (status.present ?? []).map((peer) => ({ peer, up: true }));
  setHidden("peers", !("with_peers" in status || "present" in status));
  if (place("peers").hidden) return;
  peers ??= new Table(place("peers-table"), "with_peers" in status ? PEERS : PEERS.slice(0, 2), ({ peer }) => peer, peerActions, "Nobody has been here yet.");
  peers.show(rows);
}

function peerActions({ peer, up }) {
  if (!up || peer === "other" || !told.can.includes("channels")) return [];
  return [{ label: "Throw out", danger: true, title: `Throw out ${peer}`, act: () => throwOut(peer) }];
}

const PEERS = [
  { label: "Name", value: ({ peer }) => peer, kind: "strong", sorted: true },
  { label: "State", value: ({ up }) => up ? "connected" : "away" },
  { label: "Open", value: ({ channels }) => channels, text: ({ channels }) => words.count(channels), kind: "number" },
  { label: "So far", value: (peer) => peer.channels_opened, text: (peer) => words.count(peer.channels_opened), kind: "number" },
  { label: "Refused", value: (peer) => peer.channels_refused, text: (peer) => words.count(peer.channels_refused), kind: "number" },
  { label: "Sent to", value: (peer) => peer.bytes_sent, text: (peer) => words.bytes(peer.bytes_sent), kind: "number" },
  { label: "Received from", value: (peer) => peer.bytes_received, text: (peer) => words.bytes(peer.bytes_received), kind: "number" },
  { label: "Round trip", value: (peer) => peer.round_trip ?? Infinity, text: (peer) => peer.round_trip === null ? "–" : words.milliseconds(peer.round_trip * 1000), kind: "number" },
];

function showRefusals({ status }) {
  const kinds = [["rules", status.denied, words.DENIED], ["handshake", status.handshakes_rejected ?? status.rejected, words.REJECTED]];
  const rows = kinds.flatMap(([kind, numbers, known]) => Object.entries(numbers ?? {}).filter(([, number]) => number).map(([reason, number]) => {
    const [why, todo] = known[reason] ?? [reason, ""];
    return { name: `${kind} ${reason}`, what: kind === "rules" ? "Something to reach" : "Somebody new", why, todo, number };
  }));
  setHidden("refusals", !rows.length);
  if (!rows.length) return;
  refusals ??= new Table(place("refusals-table"), [
    { label: "What", value: ({ what }) => what },
    { label: "Why", value: ({ why }) => why },
    { label: "How often", value: ({ number }) => number, text: ({ number }) => words.count(number), kind: "number", sorted: "down" },
    { label: "If that is not right", value: ({ todo }) => todo || "–" },
  ], ({ name }) => name);
  refusals.show(rows);
}

function showPorts({ status, added }) {
  const ports = status.ports ?? [];
  setHidden("ports", !(ports.length || added));
  showAdded(added);
  const shown = place("ports-list");
  if (shown.dataset.shown === String(ports)) return;
  shown.dataset.shown = String(ports);
  shown.replaceChildren(...ports.map((port) => element("li", {}, port)));
}

function showWhole({ status, can, draining }) {
  setHidden("whole", false);
  setHidden("explain", !can.includes("explain"));
  const facts = [["Role", status.role]];
  if (status.tunnel) facts.push(["Tunnel", status.tunnel]);
  if (status.certificate_seconds > 0) facts.push(["Certificate good for", words.duration(status.certificate_seconds)]);
  if (status.list_age !== undefined && status.list_age !== null) facts.push(["Revocation list made", `${words.duration(status.list_age)} ago`]);
  if (status.connects) facts.push(["Connected so far", status.connects === 1 ? "once" : `${words.count(status.connects)} times`]);
  if (status.connects_failed) facts.push(["Attempts that failed", words.count(status.connects_failed)]);
  if (status.last_problem) facts.push(["Last problem, may be over", `${words.moment(status.last_problem_at)}: ${status.last_problem}`]);
  offer(place("whole-buttons"), draining ? [] : wholeButtons(can));
  if (shownFacts === String(facts)) return;
  shownFacts = String(facts);
  place("facts").replaceChildren(...facts.flatMap(([what, value]) => [element("dt", {}, what), element("dd", {}, value)]));
}

// -- what is open now: asked for by itself, and only while somebody looks --

const CHANNELS = [
  { label: "Who", field: "who", value: ({ who }) => who, kind: "strong" },
  { label: "What", field: "what", value: ({ what }) => what },
  { label: "From", field: "origin", value: ({ origin }) => origin || "this process" },
  { label: "State", field: "state", value: ({ state }) => state },
  { label: "Since", field: "seconds", value: ({ seconds }) => seconds ?? 0, text: ({ seconds }) => seconds === null ? "–" : words.duration(seconds), kind: "number", sorted: "down" },
  { label: "Sent", field: "sent", value: ({ sent }) => sent, text: ({ sent }) => words.bytes(sent), kind: "number" },
  { label: "Received", field: "received", value: ({ received }) => received, text: ({ received }) => words.bytes(received), kind: "number" },
];
let channels = null, asking = false;

function channelActions(row) {
  const others = row.whom.map((who) => ({ label: row.whom.length > 1 ? `Throw out ${who}` : "Throw out", danger: true, title: `Throw out ${who}`, act: () => throwOut(who) }));
  return [{ label: "End", title: `End ${row.what} of ${row.who}`, act: () => endOne(row) }, ...others];
}

async function askChannels() {
  if (!told || !told.can.includes("channels") || document.hidden || asking) return;
  setHidden("channels", false);
  channels ??= new Table(place("channels-table"), CHANNELS, ({ id }) => id, channelActions, "Nothing is open.");
  asking = true;
  try {
    const sort = `${channels.down ? "-" : ""}${CHANNELS[channels.sort].field}`;
    const question = new URLSearchParams({ sort, filter: place("channels-filter").value });
    const { total, matching, rows } = await show(`/channels?${question}`);
    channels.show(rows);
    const shown = rows.length < matching ? `; ${words.count(rows.length)} are shown` : "";
    setText(place("channels-note"), total ? `${words.count(matching)} of ${words.count(total)}${shown}` : "");
  } catch { /* the stream of events says that nobody answers */ } finally { asking = false; }
}

place("channels-filter").addEventListener("input", askChannels);
document.addEventListener("visibilitychange", askChannels);
document.addEventListener("steered", askChannels);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, dialog");
  if (event.key !== "/" || typing || place("channels").hidden) return;
  event.preventDefault();
  place("channels-filter").focus();
});
setInterval(askChannels, 2000);

// -- life --

function live(tone, text) {
  place("live").className = `pill ${tone}`;
  setText(place("live"), text);
}

function onEvent(name, data) {
  if (name === "history") data.forEach((point) => memory.add(point));
  else if (name === "lost") lost += data;
  else if (name === "status") {
    told = data;
    live("good", "live");
    setHidden("token", true);
    for (const show of [showHead, showState, showWrong, showNumbers, showPeers, showPorts, showRefusals, showWhole, showCharts]) show(data);
    if (!document.body.dataset.first) {
      document.body.dataset.first = String(performance.now());
      askChannels();
    }
  }
}

function onLost(error) {
  if (error && error.status === 401) {
    live("bad", "not allowed");
    setText(place("subtitle"), "");
    setHidden("token", false);
    place("token-text").focus();
  } else if (error && error.status === 503) {
    live("bad", "too many readers: trying again");
  } else {
    live("bad", told && told.draining ? "ended" : "no answer: trying again");
    if (!told) return;
    place("now").dataset.tone = "bad";
    setText(place("state"), told.draining ? "It has ended" : "This role does not answer");
    setText(place("todo"), told.draining ? "" : "Does it still run? What is shown below is what was last known.");
    setHidden("todo", told.draining);
    offer(place("state-buttons"), []);
  }
}

place("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(place("token-text").value);
  place("token-text").value = "";
  follow(onEvent, onLost);
});

takeToken();
follow(onEvent, onLost);
