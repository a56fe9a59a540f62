// Asks a running mainstay everything that Client can, and kills its runtime in between.
// Usage: node against.js SOCKET. Expects the modules `counter` and `quiet`; prints JSON.
import { Client } from "../index.js";

setTimeout(() => process.exit(1), 100_000).unref();
const mainstay = new Client({ socket: process.argv[2] });
const found = { status: (await mainstay.status()).status };
found.modules = (await mainstay.modules()).map((view) => view.module).sort();
const before = await mainstay.module("quiet");
const after = await mainstay.restart("quiet");
found.restarted = [after.state, after.generation - before.generation];
found.stopped = (await mainstay.stop("quiet")).state;
found.started = (await mainstay.start("quiet")).state;
found.why = (await mainstay.why("quiet")).summary;
for await (const part of mainstay.logs("quiet")) found.log = part.lines.at(-1);
await mainstay.module("nobody").catch((error) => {
  found.refused = error.code;
});
const events = mainstay.events({ module: "quiet" });
found.seen = [];
const until = async (key, wanted) => {
  for (;;) {
    const { value } = await events.next();
    found.seen.push(value[key]);
    if (value[key] === wanted) return;
  }
};
await mainstay.restart("quiet");
await until("kind", "module.ready");
process.kill((await mainstay.status()).pid, "SIGKILL");
await until("cause", "adopted");
mainstay.close();
console.log(JSON.stringify(found));
