// A program that looks at a running mainstay or changes it: a user interface, a script.
// Owns one connection for requests, and one for each stream of events or log lines.
// Never repeats a request by itself: only the caller knows whether that is wanted.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { ConnectionClosed, Lines, MainstayError, RequestTimeout, VERSION } from "./lines.js";

const RETRY_MS = 500;
/** Events that wait for a slow reader; a stream that lags further is opened again from there. */
const QUEUED_MAX = 4096;

/** A connection to the control socket; it opens with the first request, and again after it closed. */
export class Client {
  #path;
  #name;
  #timeoutMs;
  #lines;
  #closed = false;
  #streams = new Set();

  constructor(options = {}) {
    const { name = "mainstay", socket, timeoutMs = 10_000, client } = options;
    this.#path = socket ?? process.env.MAINSTAY_CONTROL ?? controlSocket(name);
    this.#timeoutMs = timeoutMs;
    this.#name = client ?? `${path.basename(process.argv[1] ?? "node")} (node ${VERSION})`;
  }

  async request(method, params = {}, timeoutMs = this.#timeoutMs) {
    if (this.#closed) throw new ConnectionClosed("this client was closed");
    const lines = await this.#connected();
    return lines.request(method, params, timeoutMs);
  }

  status() {
    return this.request("system.status");
  }

  modules() {
    return this.request("module.list");
  }

  module(name) {
    return this.request("module.get", { module: name });
  }

  why(module) {
    return this.request("why", { module });
  }

  start(module, options) {
    return this.#change("module.start", module, options);
  }

  stop(module, options) {
    return this.#change("module.stop", module, options);
  }

  restart(module, options) {
    return this.#change("module.restart", module, options);
  }

  /** Follows the events of the journal from this call on, also while mainstay is replaced: after a
   * lost connection it goes on with the event after the last one. */
  events({ since, module } = {}) {
    const newest = () => this.request("events.list", { limit: 1 });
    const start = since ?? newest().then(({ events }) => events.at(-1)?.seq ?? 0);
    // Whoever reads the events gets the error.
    Promise.resolve(start).catch(() => {});
    return this.#follow(start, module);
  }

  async *#follow(start, module) {
    let last = await start;
    while (!this.#closed) {
      const params = { since: last, module };
      try {
        for await (const event of this.#stream("events.subscribe", params, "event")) {
          last = Math.max(last, event.seq);
          yield event;
        }
      } catch (error) {
        if (!(error instanceof ConnectionClosed || error instanceof RequestTimeout)) throw error;
        if (!this.#closed) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** The newest lines of a module; with `follow` those that come, until mainstay ends. */
  async *logs(module, { lines = 100, follow = false } = {}) {
    const params = { module, lines, follow };
    if (follow) yield* this.#stream("logs.read", params, "log");
    else yield await this.request("logs.read", params);
  }

  close() {
    this.#closed = true;
    this.#lines?.then((lines) => lines.close(), () => {});
    for (const lines of this.#streams) lines.close();
  }

  async #change(method, module, { wait = true, timeoutMs = 300_000 } = {}) {
    const reply = await this.request(method, { module, wait }, timeoutMs);
    return reply.module;
  }

  #connected() {
    if (!this.#lines) {
      const opening = Lines.connect(this.#path, this.#name);
      this.#lines = opening;
      const forget = () => {
        if (this.#lines === opening) this.#lines = undefined;
      };
      opening.then((lines) => {
        lines.onClose = forget;
        if (!lines.isOpen) forget();
      }, forget);
    }
    return this.#lines;
  }

  async *#stream(method, params, name) {
    const lines = await Lines.connect(this.#path, this.#name);
    this.#streams.add(lines);
    const queue = [];
    let wake = () => {};
    lines.onMessage = (message) => {
      if (message.method !== name) return;
      queue.push(message.params);
      if (queue.length > QUEUED_MAX) lines.close();
      wake();
    };
    lines.onClose = () => wake();
    try {
      const first = await lines.request(method, params, this.#timeoutMs);
      if (name === "log") yield first;
      for (;;) {
        while (queue.length > 0) yield queue.shift();
        if (!lines.isOpen) throw new ConnectionClosed("mainstay closed the connection");
        await new Promise((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      this.#streams.delete(lines);
      lines.close();
    }
  }
}

/** The control socket of the instance `name` of this user, where its configuration sets none. */
function controlSocket(name) {
  if (process.platform === "win32") {
    throw new MainstayError("cannot find the control pipe by name on Windows: pass `socket`");
  }
  const uid = process.geteuid();
  const xdg = process.env.XDG_RUNTIME_DIR ?? "";
  let folder;
  if (path.isAbsolute(xdg) && ownerOf(fs.statSync, xdg, uid) === uid) {
    folder = path.join(xdg, "mainstay", name);
  } else if (uid === 0) {
    folder = path.join("/run/mainstay", name);
  } else {
    const shared = path.join(os.tmpdir(), `mainstay-${uid}`);
    if (ownerOf(fs.lstatSync, shared, uid) !== uid) {
      throw new MainstayError(`cannot use ${shared}: it belongs to another user`);
    }
    folder = path.join(shared, name);
  }
  return path.join(folder, "control.sock");
}

/** The owner of a folder; one that is not there is of the user `none`. */
function ownerOf(stat, folder, none) {
  try {
    const found = stat(folder);
    return found.isDirectory() ? found.uid : undefined;
  } catch {
    return none;
  }
}
