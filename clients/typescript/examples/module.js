// A module: counts, says how it is, answers calls, takes new settings without a restart.
import { Module } from "../index.js";

const module = new Module();
let interval = 1;
let count = 0;

module.onConfig((settings) => {
  const seconds = Number(settings.interval ?? 1);
  if (!(seconds > 0)) throw new Error("interval must be above 0");
  return { apply: () => void (interval = seconds) };
});
module.health(() => ({ status: "healthy", metrics: { count } }));
module.serve("count", () => count);
module.ready();

function step() {
  count += 1;
  module.publish("numbers.count", count);
  module.status(`counted to ${count}`);
  timer = setTimeout(step, interval * 1000);
}
let timer = setTimeout(step, interval * 1000);

process.on("SIGTERM", async () => {
  clearTimeout(timer);
  await module.flush();
  process.exit(0);
});
