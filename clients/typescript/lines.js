// Lines of JSON-RPC 2.0 over a local socket.
// Owns the framing, its limit, the answers that are waited for, and the errors.
// Never opens a connection again: its users do.
import net from "node:net";

export const VERSION = "0.1.0";
const PROTOCOL = 1;
const HELLO_MS = 5000;
/** Bytes of one line, at most; a longer one ends the connection. */
export const MAX_LINE_BYTES = 1_048_576;

/** What can go wrong between this program and mainstay. */
export class MainstayError extends Error {}
/** There is no connection: mainstay does not run, or ended it. */
export class ConnectionClosed extends MainstayError {}
/** No answer came in time; nobody knows whether a change was made. */
export class RequestTimeout extends MainstayError {}
/** mainstay refused a request. `code` is for programs, for instance `unknown_module`. */
export class RequestRefused extends MainstayError {
  constructor(error) {
    super(String(error?.message ?? "refused without a reason"));
    this.code = String(error?.data?.code ?? "internal");
    this.detail = error?.data?.detail;
  }
}

/** One message as a line; throws when it is longer than mainstay reads. */
export function line(message) {
  const data = Buffer.from(JSON.stringify(message) + "\n");
  if (data.length > MAX_LINE_BYTES + 1) {
    throw new MainstayError(`cannot send ${data.length - 1} bytes: ${MAX_LINE_BYTES} at most`);
  }
  return data;
}

/** A connected socket. `onMessage` gets what is no answer, `onClose` the reason of the end. */
export class Lines {
  #socket;
  #parts = [];
  #length = 0;
  #number = 0;
  #waiting = new Map();
  #reason;
  onMessage = () => {};
  onClose = () => {};

  /** Connects and says hello. */
  static async connect(path, client, token) {
    const lines = new Lines();
    await lines.#open(path);
    try {
      lines.welcome = await lines.request("hello", { client, protocol: PROTOCOL, token }, HELLO_MS);
    } catch (error) {
      lines.close();
      throw error;
    }
    return lines;
  }

  #open(path) {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ path });
      this.#socket = socket;
      const failed = (error) => {
        const text = `cannot connect to ${path}: ${error.code ?? error.message}; is mainstay running?`;
        reject(new ConnectionClosed(text));
      };
      socket.once("error", failed);
      socket.once("connect", () => {
        socket.off("error", failed);
        socket.on("error", (error) => this.#end(`the connection to mainstay failed: ${error.message}`));
        socket.on("close", () => this.#end("mainstay closed the connection"));
        socket.on("data", (data) => this.#received(data));
        resolve();
      });
    });
  }

  get isOpen() {
    return this.#reason === undefined;
  }

  /** Bytes that the kernel has not taken yet. */
  get queuedBytes() {
    return this.#socket.writableLength;
  }

  send(message) {
    const data = line(message);
    if (!this.isOpen) throw new ConnectionClosed(this.#reason);
    this.#socket.write(data);
  }

  /** Sends a request and resolves with its result. */
  request(method, params, timeoutMs) {
    return new Promise((resolve, reject) => {
      const id = ++this.#number;
      this.send({ jsonrpc: "2.0", id, method, params });
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new RequestTimeout(`mainstay did not answer ${method} in ${timeoutMs} ms`));
      }, timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
    });
  }

  close() {
    this.#end("the connection was closed");
    this.#socket.destroy();
  }

  #received(data) {
    let start = 0;
    for (let end; (end = data.indexOf(10, start)) >= 0; start = end + 1) {
      const text = Buffer.concat([...this.#parts, data.subarray(start, end)]).toString();
      this.#parts = [];
      this.#length = 0;
      if (!this.#take(text)) return;
    }
    if (start < data.length) {
      this.#parts.push(data.subarray(start));
      this.#length += data.length - start;
    }
    if (this.#length > MAX_LINE_BYTES) {
      this.#end("cannot read a line of more than 1 MiB");
      this.#socket.destroy();
    }
  }

  #take(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch (error) {
      this.#end(`cannot read a line of mainstay: ${error.message}`);
      this.#socket.destroy();
      return false;
    }
    const waiting = message.method === undefined && this.#waiting.get(message.id);
    if (waiting) {
      this.#waiting.delete(message.id);
      clearTimeout(waiting.timer);
      if (message.error) waiting.reject(new RequestRefused(message.error));
      else waiting.resolve(message.result);
    } else if (message.method !== undefined) {
      this.onMessage(message);
    }
    return true;
  }

  #end(reason) {
    if (!this.isOpen) return;
    this.#reason = reason;
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new ConnectionClosed(reason));
    }
    this.#waiting.clear();
    this.onClose(reason);
  }
}
