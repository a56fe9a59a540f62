// Calls `counter` and hears what it publishes, and says both in its status.
import { Module } from "../index.js";

const module = new Module();
const heard = new Promise((resolve) => module.subscribe("numbers.*", resolve));
module.ready();
await heard;
if (!((await module.call("counter", "count")) > 0)) throw new Error("no count");
await module.call("counter", "nothing").catch((refusal) => {
  module.status(`heard, called, refused: ${refusal.code}`);
});
