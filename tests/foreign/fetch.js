// What Node's own clients do with HTTP proxies and a forward; see programs.py.
//
//   node fetch.js HTTP_PORT FORWARD_PORT WEB_PORT
//
// Prints a line for each way: its name, and ok or what was wrong.

"use strict";
const crypto = require("crypto");
const http = require("http");

const [proxy, forward, web] = process.argv.slice(2).map(Number);
const host = `127.0.0.1:${web}`;
const BODY = Buffer.alloc(100000, "x");
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

// The body of the answer to a request with these options.
function ask(options, body, chunks) {
  return new Promise((resolve, reject) => {
    const request = http.request({ timeout: 20000, ...options }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("end", () => resolve(`${answer.statusCode} ${Buffer.concat(pieces)}`));
      answer.on("error", reject);
    });
    request.on("error", reject);
    request.on("timeout", () => request.destroy(new Error("no answer in 20 s")));
    request.on("continue", () => request.end(body));
    for (let start = 0; chunks && start < body.length; start += 4096) {
      request.write(body.subarray(start, start + 4096));
    }
    if (!(options.headers && options.headers.Expect)) request.end(chunks ? undefined : body);
  });
}

// A connection by CONNECT.
function connect(headers) {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port: proxy, method: "CONNECT", path: host, headers };
    const request = http.request({ timeout: 20000, ...options });
    request.on("connect", (answer, socket, head) => {
      if (answer.statusCode !== 200) reject(new Error(`CONNECT is answered ${answer.statusCode}`));
      if (head.length) socket.unshift(head);
      resolve(socket);
    });
    request.on("error", reject);
    request.end();
  });
}

// A websocket: "200", if what is sent comes back.
function websocket(options) {
  return new Promise((resolve, reject) => {
    const key = crypto.randomBytes(16).toString("base64");
    const headers = {
      Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": 13, "Sec-WebSocket-Key": key,
    };
    const request = http.request({ timeout: 20000, path: "/socket", headers, ...options });
    request.on("upgrade", (answer, socket) => {
      const accept = crypto.createHash("sha1").update(key + GUID).digest("base64");
      if (answer.headers["sec-websocket-accept"] !== accept) reject(new Error("a wrong answer"));
      const frame = crypto.randomBytes(200);
      let came = Buffer.alloc(0);
      socket.on("data", (piece) => {
        came = Buffer.concat([came, piece]);
        if (came.length < frame.length) return;
        socket.destroy();
        resolve(came.equals(frame) ? "200" : "other bytes came back");
      });
      socket.write(frame);
    });
    request.on("response", (answer) => resolve(`an answer ${answer.statusCode} and no upgrade`));
    request.on("error", reject);
    request.end();
  });
}

const absolute = { host: "127.0.0.1", port: proxy, path: `http://${host}/page`, headers: { Host: host } };
const post = { ...absolute, method: "POST" };
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const kept = new http.Agent({ keepAlive: true, maxSockets: 1 });
const got = "200 the page";
const whole = `200 got ${BODY}`;

const ways = [
  ["http proxy", got, () => ask(absolute)],
  ["http proxy, login in the URL", got,
    () => ask({ ...absolute, path: `http://me:opensesame@${host}/page` })],
  ["http proxy, a kept connection", got, async () => {
    const answers = [];
    for (let i = 0; i < 3; i++) answers.push(await ask({ ...absolute, agent }));
    agent.destroy();
    return answers.every((answer) => answer.startsWith("200")) ? answers[2] : answers.join(" ");
  }],
  ["http proxy, a body", whole,
    () => ask({ ...post, headers: { ...post.headers, "Content-Length": BODY.length } }, BODY)],
  ["http proxy, a body when it is told to continue", whole,
    () => ask({ ...post, headers: { ...post.headers, "Content-Length": BODY.length, Expect: "100-continue" } }, BODY)],
  ["http proxy, chunks", whole, () => ask(post, BODY, true)],
  ["CONNECT", got, async () => {
    const socket = await connect({ Host: host });
    return ask({ createConnection: () => socket, path: "/page" });
  }],
  ["CONNECT with Content-Length: 0", got, async () => {
    const socket = await connect({ Host: host, "Content-Length": 0 });
    return ask({ createConnection: () => socket, path: "/page" });
  }],
  ["CONNECT, websocket", "200", async () => {
    const socket = await connect({ Host: host });
    return websocket({ createConnection: () => socket });
  }],
  ["forward", got, () => ask({ host: "127.0.0.1", port: forward, path: "/page" })],
  ["forward, a kept connection", got, async () => {
    const options = { host: "127.0.0.1", port: forward, path: "/page", agent: kept };
    const all = await Promise.all([1, 2, 3].map(() => ask(options)));
    kept.destroy();
    return all.every((answer) => answer.startsWith("200")) ? all[2] : all.join(" ");
  }],
  ["forward, websocket", "200", () => websocket({ host: "127.0.0.1", port: forward })],
];

(async () => {
  for (const [name, expected, way] of ways) {
    let found;
    try {
      const said = await way();
      found = said.startsWith(expected) ? "ok" : `wrong: ${said.slice(0, 200)}`;
    } catch (error) {
      found = String(error);
    }
    console.log(`${name}: ${found}`);
  }
  process.exit(0);
})();
