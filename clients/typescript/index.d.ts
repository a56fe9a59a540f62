// Types of mainstay-client. More fields than these may come: docs/protocol.schema.json has all.

export class MainstayError extends Error {}
/** There is no connection: mainstay does not run, or ended it. */
export class ConnectionClosed extends MainstayError {}
/** No answer came in time; nobody knows whether a change was made. */
export class RequestTimeout extends MainstayError {}
/** mainstay refused a request. */
export class RequestRefused extends MainstayError {
  /** For programs, for instance `unknown_module`. */
  readonly code: string;
  readonly detail: unknown;
}

export interface ModuleView {
  module: string;
  state: string;
  desired: string;
  health: string;
  score: number;
  pid?: number | null;
  generation: number;
  restarts: number;
  required: boolean;
  since: string;
  reason?: string | null;
  status_text?: string | null;
  waits_for?: string | null;
  issues?: string[];
  last_exit?: { text: string; [more: string]: unknown } | null;
  [more: string]: unknown;
}

export interface SystemView {
  name: string;
  status: string;
  reason?: string | null;
  issues: string[];
  modules: Record<string, number>;
  uptime_ms: number;
  pid: number;
  plan: number;
  [more: string]: unknown;
}

export interface Event {
  seq: number;
  at: string;
  kind: string;
  module?: string | null;
  cause?: string | null;
  actor?: string | null;
  payload?: unknown;
  [more: string]: unknown;
}

export interface LogLines {
  module: string;
  lines: string[];
  /** For each line, what is known: the stream where `logs.streams` is "split". */
  stamps?: { at?: string; run?: number; stream?: "stdout" | "stderr" }[];
  dropped_bytes?: number;
}

export interface ClientOptions {
  /** The instance; `mainstay` if not said. */
  name?: string;
  /** The path of its control socket; without it `MAINSTAY_CONTROL`, else where `name` has it. */
  socket?: string;
  /** Until an answer must be there. */
  timeoutMs?: number;
  /** Name and version of the program, for the journal. */
  client?: string;
}

export interface ChangeOptions {
  /** Resolve when the change is reached or failed, not when it is accepted (default true). */
  wait?: boolean;
  timeoutMs?: number;
}

/** A program that looks at a running mainstay or changes it. */
export class Client {
  constructor(options?: ClientOptions);
  /** Sends any request of docs/protocol.md. Rejects with a MainstayError. */
  request<T = unknown>(method: string, params?: object, timeoutMs?: number): Promise<T>;
  status(): Promise<SystemView>;
  modules(): Promise<ModuleView[]>;
  module(name: string): Promise<ModuleView>;
  why(module: string): Promise<{ summary: string; [more: string]: unknown }>;
  start(module: string, options?: ChangeOptions): Promise<ModuleView>;
  stop(module: string, options?: ChangeOptions): Promise<ModuleView>;
  restart(module: string, options?: ChangeOptions): Promise<ModuleView>;
  /** Follows the events, also over a restart of mainstay. `since`: a sequence number. */
  events(options?: { since?: number; module?: string }): AsyncGenerator<Event, void>;
  logs(
    module: string,
    options?: { lines?: number; follow?: boolean },
  ): AsyncGenerator<LogLines, void>;
  close(): void;
}

export interface Health {
  status: "healthy" | "degraded" | "unhealthy";
  issues?: string[];
  /** For instance `queue_depth`, `error_rate`, `response_time_ms`. */
  metrics?: Record<string, number>;
}

export interface BusEvent {
  subject: string;
  payload: unknown;
  from: string;
  at: string;
  lag?: number;
}

export interface Call {
  from: string;
  method: string;
  params: unknown;
}

/** With `apply`: called when every module that is concerned has accepted. Without: the module can
 * only begin with the new settings, and mainstay restarts it. */
export interface ConfigChange {
  apply?: () => void | Promise<void>;
}

/** The module that this process is. */
export class Module {
  constructor(environment?: Record<string, string | undefined>);
  readonly name: string | undefined;
  readonly generation: number | undefined;
  readonly isConnected: boolean;
  /** Published messages that were dropped or refused. */
  readonly dropped: number;
  /** The last failure in the background. */
  readonly problem: string | undefined;
  ready(): void;
  status(text: string): void;
  reportHealth(health: Health): void;
  publish(subject: string, payload: unknown): void;
  flush(timeoutMs?: number): Promise<boolean>;
  call<T = unknown>(module: string, method: string, params?: unknown, timeoutMs?: number): Promise<T>;
  health(handler: () => Health | Promise<Health>): void;
  subscribe(subjects: string | string[], handler: (event: BusEvent) => void | Promise<void>): void;
  /** What the handler throws is the answer `module_error`. */
  serve(method: string, handler: (call: Call) => unknown): void;
  settings<T = Record<string, unknown>>(): T;
  /** Called now and whenever the settings change. It changes nothing yet; it throws to refuse. */
  onConfig(handler: (settings: any) => ConfigChange): void;
  feature(name: string): boolean;
  onFeature(handler: (name: string, value: unknown) => void): void;
  onReduceLoad(handler: (factor: number) => void): void;
  close(): void;
}
