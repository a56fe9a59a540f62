// A module of a mainstay application: ready, status, health, bus, calls, settings, features.
// Owns the connection to mainstay, which opens again whenever it closes.
// Never ends the module; without mainstay it does nothing. Keeps it alive until `close`.
import fs from "node:fs";
import { ConnectionClosed, line, Lines, MainstayError, RequestRefused, VERSION } from "./lines.js";

/** Published messages that wait while there is no connection; further ones replace the oldest. */
const PUBLISHES_MAX = 1024;
/** Bytes that wait for a mainstay that does not read; then publishes stay in their queue. */
const QUEUED_BYTES_MAX = 4_194_304;
const UNCONFIRMED_MAX = 256;
const CONFIRM_MS = 60_000;
const RETRY_MS = [20, 1000];

/** The module that this process is; reads the environment that mainstay gave it. */
export class Module {
  #socket;
  #token;
  #settings;
  #lines;
  #closed = false;
  #timer;
  #isReady = false;
  #status;
  #subjects = [];
  #publishes = [];
  #published = 0;
  #unconfirmed = 0;
  #settled = [];
  #connecting = [];
  #listeners = [];
  #serves = new Map();
  #features = new Map();
  #onHealth = () => ({ status: "healthy" });
  #onConfig;
  #prepared;
  #onFeature;
  #onReduceLoad;
  /** Published messages that were dropped or refused. */
  dropped = 0;
  /** The last failure in the background, as text. */
  problem;

  constructor(environment = process.env) {
    this.name = environment.MAINSTAY_MODULE;
    const generation = Number(environment.MAINSTAY_GENERATION);
    this.generation = Number.isInteger(generation) ? generation : undefined;
    this.#socket = environment.MAINSTAY_SOCKET;
    this.#token = environment.MAINSTAY_TOKEN;
    this.#settings = environment.MAINSTAY_SETTINGS;
    for (const name of (environment.MAINSTAY_FEATURES ?? "").split(",")) {
      if (name) this.#features.set(name, true);
    }
    if (this.#socket) this.#connect(RETRY_MS[0]);
  }

  get isConnected() {
    return this.#lines !== undefined;
  }

  ready() {
    this.#isReady = true;
    this.#tell("module.ready", {});
  }

  status(text) {
    this.#status = String(text).replace(/[\r\n]+/g, " ");
    this.#tell("module.status", { text: this.#status });
  }

  reportHealth(health) {
    this.#tell("module.health", healthParams(health));
  }

  publish(subject, payload) {
    if (!this.#socket) return;
    const params = { subject, payload: payload ?? null };
    line({ jsonrpc: "2.0", id: Number.MAX_SAFE_INTEGER, method: "bus.publish", params });
    this.#publishes.push({ number: (this.#published += 1), params });
    if (this.#publishes.length > PUBLISHES_MAX) {
      this.#publishes.shift();
      this.dropped += 1;
    }
    this.#flow();
  }

  /** Resolves with whether mainstay has confirmed all that was published, in time. */
  flush(timeoutMs = 5000) {
    if (!this.#socket || this.#isSettled()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      this.#settled.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  /** Calls another module. */
  async call(module, method, params = null, timeoutMs = 10_000) {
    if (!this.#socket) {
      throw new ConnectionClosed(`cannot call ${module}: mainstay did not start this program`);
    }
    const lines = await this.#connected(timeoutMs, module);
    const timeout_ms = Math.max(1, Math.min(60_000, Math.trunc(timeoutMs)));
    // mainstay itself says that the time is over; the second more is for one that is gone.
    return lines.request("bus.call", { module, method, params, timeout_ms }, timeoutMs + 1000);
  }

  health(handler) {
    this.#onHealth = handler;
  }

  subscribe(subjects, handler) {
    const names = typeof subjects === "string" ? [subjects] : [...subjects];
    this.#listeners.push({ names, handler });
    const fresh = names.filter((name) => !this.#subjects.includes(name));
    this.#subjects.push(...fresh);
    if (fresh.length > 0) this.#tell("bus.subscribe", { subjects: fresh });
  }

  serve(method, handler) {
    this.#serves.set(method, handler);
  }

  settings() {
    return this.#settings ? JSON.parse(fs.readFileSync(this.#settings, "utf8")) : {};
  }

  onConfig(handler) {
    const first = handler(this.settings());
    first?.apply?.();
    this.#onConfig = handler;
  }

  feature(name) {
    return ![undefined, null, false].includes(this.#features.get(name));
  }

  onFeature(handler) {
    this.#onFeature = handler;
  }

  onReduceLoad(handler) {
    this.#onReduceLoad = handler;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#lines?.close();
  }

  async #connect(delay) {
    let next = Math.min(delay * 2, RETRY_MS[1]);
    try {
      const client = `${this.name ?? "module"} (node ${VERSION})`;
      const lines = await Lines.connect(this.#socket, client, this.#token);
      if (this.#closed) return lines.close();
      next = RETRY_MS[0];
      await this.#converse(lines);
    } catch (error) {
      this.problem = error.message;
    }
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.#connect(next), delay * (0.5 + Math.random()));
  }

  #converse(lines) {
    return new Promise((resolve) => {
      lines.onMessage = (message) => this.#asked(lines, message);
      lines.onClose = (reason) => {
        this.problem = reason;
        this.#lines = undefined;
        resolve();
      };
      if (!lines.isOpen) return resolve();
      this.#lines = lines;
      if (this.#subjects.length > 0) this.#tell("bus.subscribe", { subjects: this.#subjects });
      if (this.#isReady) this.#tell("module.ready", {});
      if (this.#status !== undefined) this.#tell("module.status", { text: this.#status });
      for (const connected of this.#connecting.splice(0)) connected(lines);
      this.#flow();
    });
  }

  #connected(timeoutMs, module) {
    if (this.#lines) return this.#lines;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new ConnectionClosed(`cannot call ${module}: mainstay does not answer`));
      }, timeoutMs);
      this.#connecting.push((lines) => {
        clearTimeout(timer);
        resolve(lines);
      });
    });
  }

  #tell(method, params) {
    this.#lines?.request(method, params, CONFIRM_MS).catch((error) => {
      this.problem = error.message;
    });
  }

  /** Sends what was published, as far as mainstay reads it. What it did not confirm is sent again. */
  #flow() {
    const lines = this.#lines;
    const hasRoom = () =>
      lines.queuedBytes < QUEUED_BYTES_MAX && this.#unconfirmed < UNCONFIRMED_MAX;
    while (lines?.isOpen && this.#publishes.length > 0 && hasRoom()) {
      const message = this.#publishes.shift();
      this.#unconfirmed += 1;
      const over = (error) => {
        this.#unconfirmed -= 1;
        if (error instanceof RequestRefused) {
          this.problem = error.message;
          this.dropped += 1;
        } else if (error) {
          this.#publishes.push(message);
          this.#publishes.sort((one, other) => one.number - other.number);
        }
        if (this.#isSettled()) for (const settled of this.#settled.splice(0)) settled();
        this.#flow();
      };
      lines.request("bus.publish", message.params, CONFIRM_MS).then(() => over(), over);
    }
  }

  #isSettled() {
    return this.#publishes.length === 0 && this.#unconfirmed === 0;
  }

  async #asked(lines, message) {
    if (message.method === "event") return this.#deliver(message.params ?? {});
    const reply = { jsonrpc: "2.0", id: message.id };
    try {
      reply.result = (await this.#handle(message.method, message.params ?? {})) ?? {};
      line(reply);
    } catch (error) {
      delete reply.result;
      const code = error.code === "unknown_method" ? error.code : "module_error";
      reply.error = { code: -32000, message: String(error.message ?? error), data: { code } };
    }
    if (message.id !== undefined && lines.isOpen) lines.send(reply);
  }

  async #handle(method, params) {
    switch (method) {
      case "call": {
        const handler = this.#serves.get(params.method);
        if (!handler) throw unknown(`cannot call ${params.method}: the module does not serve it`);
        return handler({ from: params.from, method: params.method, params: params.params });
      }
      case "health.check":
        return this.#check();
      case "load.reduce":
        await this.#onReduceLoad?.(params.factor);
        return { handled: this.#onReduceLoad !== undefined };
      case "feature.set": {
        const isNew = this.#features.get(params.name) !== params.value;
        this.#features.set(params.name, params.value);
        if (isNew) await this.#onFeature?.(params.name, params.value);
        return { handled: this.#onFeature !== undefined };
      }
      case "config.prepare":
        return this.#prepare(params.settings);
      case "config.commit": {
        const prepared = this.#prepared;
        this.#prepared = undefined;
        await prepared?.();
        return {};
      }
      case "config.abort":
        this.#prepared = undefined;
        return {};
      default:
        throw unknown(`cannot answer ${method}: this client does not know it`);
    }
  }

  async #check() {
    try {
      return healthParams(await this.#onHealth());
    } catch (error) {
      return healthParams({ status: "unhealthy", issues: [`the health check failed: ${error.message}`] });
    }
  }

  async #prepare(settings) {
    this.#prepared = undefined;
    if (!this.#onConfig) return { verdict: "unhandled" };
    let change;
    try {
      change = await this.#onConfig(settings);
    } catch (error) {
      return { verdict: "refused", reason: String(error.message ?? error) };
    }
    if (!change?.apply) return { verdict: "restart" };
    this.#prepared = change.apply;
    return { verdict: "accepted" };
  }

  #deliver(event) {
    for (const { names, handler } of this.#listeners) {
      if (!names.some((name) => matches(name, event.subject ?? ""))) continue;
      try {
        Promise.resolve(handler(event)).catch((error) => console.error(error));
      } catch (error) {
        console.error(error);
      }
    }
  }
}

function healthParams({ status, issues = [], metrics = {} }) {
  return { status, issues, metrics };
}

function unknown(text) {
  const error = new MainstayError(text);
  error.code = "unknown_method";
  return error;
}

function matches(pattern, subject) {
  const patterns = pattern.split(".");
  let names = subject.split(".");
  if (patterns.at(-1) === "*" && names.length > patterns.length) names = names.slice(0, patterns.length);
  return (
    patterns.length === names.length && patterns.every((one, at) => one === "*" || one === names[at])
  );
}
