// The three processes that the console talks to: the engine and query over REST, the feed over a WebSocket.

const TIMEOUT_MS = 5_000;
const PING_EVERY_MS = 2_000;
const STALE_AFTER_MS = 3_500;
const RETRY_MS = [250, 500, 1_000, 2_000, 4_000];
const SAMPLES = 60;

/** An answer that is an error of the venue's: code, message, details. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.message ?? `status ${status}`);
    this.status = status;
    this.code = body?.code ?? 0;
    this.details = body?.details ?? {};
    this.requestId = body?.request_id ?? "";
  }
}

/** There was no answer. Of an order this means: whether it was taken is unknown. */
export class Unreachable extends Error {}

/** The engine no longer has it in memory, or never had it: query knows. */
export class Elsewhere extends Error {}

export class Latency {
  samples = [];
  add(ms) {
    this.samples.push(ms);
    if (this.samples.length > SAMPLES) this.samples.shift();
  }
  at(share) {
    if (!this.samples.length) return null;
    const sorted = [...this.samples].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }
  get last() {
    return this.samples.at(-1) ?? null;
  }
}

/** One of the two REST processes. */
export class Rest {
  token = "";
  latency = new Latency();
  engineUs = null;
  /** Headers of the last answer. */
  headers = new Headers();

  constructor(base) {
    this.base = `${base}/api/v1`;
  }

  async ask(method, path, body) {
    const headers = {};
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const began = performance.now();
    let reply, json;
    try {
      reply = await fetch(this.base + path, {
        method, headers, body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store", credentials: "omit",
        // A browser that follows one to another origin forgets whose page asks, and is refused there.
        redirect: "manual",
      });
      json = reply.type === "opaqueredirect" ? null : await reply.json();
    } catch (failure) {
      throw new Unreachable(failure.name === "TimeoutError" ? "no answer within 5 s" : "no connection");
    }
    this.latency.add(performance.now() - began);
    if (json === null) throw new Elsewhere();
    this.engineUs = Number(reply.headers.get("X-Engine-Us"));
    this.headers = reply.headers;
    if (!reply.ok) throw new Refused(reply.status, json);
    return json;
  }

  get = (path) => this.ask("GET", path);
}

/** The WebSocket: connects again by itself, knows when it has gone silent, and subscribes anew.
 *
 * Events: `state` (connecting, live, stale, down), `message` (detail: a stream's message), `refused` (detail:
 * the error that a token met).
 */
export class Streams extends EventTarget {
  latency = new Latency();
  state = "connecting";
  epoch = 0;
  reconnects = -1;
  token = "";
  /** What to subscribe to, beside the account's own when there is a token. */
  channels = [];

  #socket = null;
  #waiting = new Map();
  #ids = 0;
  #heard = 0;
  #attempt = 0;
  #retry = 0;

  constructor(url) {
    super();
    this.url = `${url}/ws`;
    setInterval(() => this.#watch(), 500);
    setInterval(() => this.#ping(), PING_EVERY_MS);
  }

  connect() {
    clearTimeout(this.#retry);
    this.reconnects += 1;
    const socket = new WebSocket(this.url, "tradsys.json.v1");
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#heard = performance.now();
      this.#ping();
      this.#subscribe(socket);
    };
    socket.onmessage = (event) => this.#take(JSON.parse(event.data));
    socket.onclose = () => socket === this.#socket && this.#lost();
  }

  /** Begin again, with other channels or another token. */
  restart(channels = this.channels) {
    this.channels = channels;
    const old = this.#socket;
    this.#socket = null;
    old?.close();
    this.#waiting.clear();
    this.connect();
  }

  /** Change the symbol without a new connection. */
  async replace(before, after) {
    this.channels = after;
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    await this.#request({ op: "unsubscribe", channels: before });
    await this.#request({ op: "subscribe", channels: after });
  }

  resync = (channel) => this.#request({ op: "resync", channels: [channel] });

  async #subscribe(socket) {
    try {
      const wanted = [...this.channels];
      if (this.token) {
        const reply = await this.#request({ op: "auth", token: this.token });
        if (reply.ok) wanted.push({ name: "orders" }, { name: "balances" });
        else {
          // The venue closes the connection with it; the next one asks for public channels only.
          this.token = "";
          this.dispatchEvent(new CustomEvent("refused", { detail: reply.error }));
        }
      }
      if (socket !== this.#socket || !wanted.length) return;
      const reply = await this.#request({ op: "subscribe", channels: wanted });
      if (!reply.ok) this.dispatchEvent(new CustomEvent("refused", { detail: reply.error }));
    } catch {
      // The connection was lost meanwhile; the next one subscribes again.
    }
  }

  #request(request) {
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) return reject(new Unreachable("no stream"));
      this.#waiting.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ ...request, id }));
    });
  }

  async #ping() {
    const began = performance.now();
    try {
      await this.#request({ op: "ping" });
      this.latency.add(performance.now() - began);
    } catch {
      // Not connected: the state says so already.
    }
  }

  #take(message) {
    this.#heard = performance.now();
    if (message.ch === undefined) {
      this.#waiting.get(message.id)?.resolve(message);
      this.#waiting.delete(message.id);
      return;
    }
    if (message.epoch !== undefined) this.epoch = message.epoch;
    this.#become("live");
    if (message.ch === "server_shutdown") {
      this.#attempt = 0;
      return;
    }
    this.dispatchEvent(new CustomEvent("message", { detail: message }));
  }

  #watch() {
    if (this.#socket?.readyState === WebSocket.OPEN && performance.now() - this.#heard > STALE_AFTER_MS) {
      this.#become("stale");
      // A connection that has died without a word never closes by itself.
      if (performance.now() - this.#heard > 4 * STALE_AFTER_MS) this.restart();
    }
  }

  #lost() {
    for (const { reject } of this.#waiting.values()) reject(new Unreachable("the stream was closed"));
    this.#waiting.clear();
    this.#become("down");
    const wait = RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)];
    this.#retry = setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state"));
  }
}
