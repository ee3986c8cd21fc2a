// What is said: plain words for states, reasons and numbers.

export const ROLES = {
  "lstp-client-end": "LSTP client end", "lstp-server-end": "LSTP server end", "lstp-middle": "LSTP middle",
  "usher-gate": "Usher gate", "usher-portal": "Usher portal", "tunnel-end": "Tunnel end",
  "secure-proxy-client": "Secure Proxy client", "secure-proxy-server": "Secure Proxy server",
  "wtls-proxy": "WTLS operator's proxy", "wtls-domain-proxy": "WTLS domain proxy",
};

/** state: [tone, words, what to do]. */
export const STATES = {
  connected: ["good", "Connected", ""],
  waiting: ["busy", "Waiting for the other end",
    "This side is ready. Is the other one running, with the same tunnel name and keys of the same CA?"],
  dialling: ["busy", "Connecting", ""],
  securing: ["busy", "Somebody is there and has to prove who he is", ""],
  down: ["bad", "Not connected", "It tries again by itself."],
  locked: ["busy", "Locked", "Its key is encrypted: press Unlock and type the passphrase."],
  disconnected: ["quiet", "Disconnected by hand", "It stays so until somebody presses Connect."],
  draining: ["busy", "Disconnecting: what is open may finish", ""],
};

/** Part of what went wrong: what to do. The first that fits counts. */
const REMEDIES = [
  [/passphrase/i, "Press Connect and type the passphrase."],
  [/cannot reach|refused the connection|timed out|no route/i,
    "Does that machine run, and is its address right? Is there a firewall, or a proxy that --via should name?"],
  [/no such host|not known|look.*up|resolve/i, "Is the name spelt right, and does this machine have a name server?"],
  [/407|proxy/i, "Look at --via: the proxy on the way out does not let this through."],
  [/revoked/i, "Its key was taken out of use. If that is an error: 'tunnelkit keys issue' makes it a new one."],
  [/expired/i, "Issue a new certificate with 'tunnelkit keys issue', or set the clock right."],
  [/not yet valid/i, "Set the clock of this machine, or of the one that made the keys."],
  [/certificate|trust|unknown ca|named/i,
    "Do both ends have keys of the same CA, and does --peer here name the one that should be there?"],
  [/token|admission/i, "Do both have the same admission token?"],
  [/SSH-|HTTP|not an? /i, "Something else listens there: is the port right?"],
];

export function remedy(why) {
  const found = REMEDIES.find(([pattern]) => pattern.test(why));
  return found ? found[1] : "'tunnelkit doctor' tries each step of the way and says which one fails.";
}

/** Why something was not allowed: [in words, what to do if it should be]. */
export const DENIED = {
  "no-rule": ["no rule allows it", "add an --allow rule for it, if it should be"],
  "special-address": ["a special address: this machine, its own network, or metadata",
    "a rule has to name that very address"],
  "own-listener": ["a port of this process itself", "a rule has to name that very address and port"],
  "no-address": ["not an address that can be reached", ""],
  "no-permission": ["the operating system does not let this process", "look at its user and its sandbox"],
};

/** Why a handshake came to nothing. */
export const REJECTED = {
  "not-trusted": ["a certificate of somebody else's CA, or another name than expected", "compare CA, --peer and pins"],
  revoked: ["a revoked key", "its owner needs a new one"],
  "not-proved": ["could not prove who he is", ""],
  protocol: ["spoke something else", "is somebody using the wrong port?"],
  lost: ["went away in the middle of it", "a firewall or a bad line"],
  "too-often": ["tried too often from one address", ""],
  "crowded-out": ["gave way to newer ones while he hesitated", "many strangers at once: is this port open to the internet?"],
  login: ["a wrong password or token", ""],
  "unknown-name": ["asked for a name that is not here", ""],
  "no-hello": ["never said what he wants", ""],
  "no-protocol": ["offered no protocol that is spoken here", ""],
  "no-room": ["no room left", "raise the limit, or the descriptors of the process"],
  "timed-out": ["took too long", ""],
  failed: ["the handshake failed", ""],
};

/** What numbers a role has, in the order in which they are shown: [field, label, kind]. */
export const NUMBERS = [
  ["channels", "Channels open", "count"], ["pairs", "Pairs connected", "count"], ["clients", "Clients present", "count"],
  ["sessions", "Sessions open", "count"], ["associations", "Devices", "count"], ["tunnels", "Devices in tunnel mode", "count"],
  ["mappings", "Mappings", "count"], ["waiting", "Ends waiting", "count"], ["bytes_sent", "Sent since the start", "bytes"],
  ["bytes_received", "Received since the start", "bytes"], ["bytes_relayed", "Relayed since the start", "bytes"],
  ["channels_opened", "Channels so far", "count"], ["pairs_ever", "Pairs so far", "count"],
  ["in_setup", "Just arriving", "count"], ["nameless", "Just arriving", "count"],
  ["channels_refused", "Refused", "count"], ["not_admitted", "Not admitted", "count"], ["dropped", "Datagrams dropped", "count"],
];

const PLACES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(number) {
  let place = 0;
  while (number >= 1000 && place < PLACES.length - 1) { number /= 1024; place++; }
  return `${number.toLocaleString("en", { maximumFractionDigits: place && number < 100 ? 1 : 0 })} ${PLACES[place]}`;
}

export function rate(number) { return `${bytes(number)}/s`; }

export function count(number) { return number.toLocaleString("en"); }

export function milliseconds(number) {
  return number >= 1000 ? `${(number / 1000).toLocaleString("en", { maximumFractionDigits: 1 })} s` : `${number.toLocaleString("en", { maximumSignificantDigits: 3 })} ms`;
}

/** As 'tunnelkit status' has it. */
export function moment(text) { return `${text.slice(0, 16).replace("T", " ")} UTC`; }

export function duration(seconds) {
  const units = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const [size, name] = units.find(([one]) => seconds >= one * 2) ?? units[3];
  const number = Math.floor(seconds / size);
  return `${number} ${name}${number === 1 ? "" : "s"}`;
}
