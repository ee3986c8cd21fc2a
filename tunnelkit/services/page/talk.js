// Everything that is said to the role goes with the token, which is kept in this tab alone.

const KEY = "tunnelkit-token";
const PAUSES = [500, 1000, 2000, 5000];

export class Refused extends Error {
  constructor(status, text) {
    super(text || `the role answered ${status}`);
    this.status = status;
  }
}

/** Takes the token out of the address, where it would stay to be seen. */
export function takeToken() {
  const given = location.hash.slice(1);
  if (/^[A-Za-z0-9_-]{43}$/.test(given)) {
    setToken(given);
    history.replaceState(null, "", location.pathname);
  }
}

export function setToken(text) {
  sessionStorage.setItem(KEY, text.trim());
}

async function asked(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  // Of the address without a login that may stand in it.
  const answer = await fetch(new URL(path, location.origin), {
    ...options, headers, cache: "no-store", redirect: "error",
    // Without a token it is the certificate or the login that let this page be read.
    credentials: token ? "omit" : "same-origin",
  });
  if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim());
  return answer;
}

export async function show(path) {
  return (await asked(path)).json();
}

export async function act(name, wish = {}) {
  const answer = await asked(`/${name}`, {
    method: "POST",
    body: JSON.stringify(wish),
    headers: { "Content-Type": "application/json" },
  });
  return answer.json();
}

/** Calls onEvent(name, data) for ever; onLost(error) whenever there is nobody who tells any. */
export async function follow(onEvent, onLost) {
  for (let failed = 0; ;) {
    try {
      const answer = await asked("/events");
      failed = 0;
      await events(answer.body, onEvent);
      onLost(null);
    } catch (error) {
      onLost(error);
      if (error instanceof Refused && error.status === 401) return;
    }
    const pause = PAUSES[Math.min(failed++, PAUSES.length - 1)];
    await new Promise((done) => setTimeout(done, pause));
  }
}

async function events(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const found = /^event: (\w+)\ndata: (.*)$/s.exec(text.slice(0, end));
      if (found) onEvent(found[1], JSON.parse(found[2]));
    }
  }
}
