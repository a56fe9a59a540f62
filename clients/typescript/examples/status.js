// A status line for each module, and then what happens. `node status.js NAME`; Ctrl-C ends it.
import { Client, MainstayError } from "../index.js";

const mainstay = new Client({ name: process.argv[2] ?? "mainstay" });
try {
  const system = await mainstay.status();
  console.log(`${system.name}: ${system.status} ${system.reason ?? ""}`);
  for (const module of await mainstay.modules()) {
    const text = module.status_text ?? "";
    console.log(`  ${module.module.padEnd(20)} ${module.state.padEnd(10)} ${text}`);
  }
  for await (const event of mainstay.events()) {
    console.log(`${event.at}  ${event.kind}  ${event.module ?? ""}`);
  }
} catch (error) {
  if (!(error instanceof MainstayError)) throw error;
  console.error(`status: ${error.message}`);
  process.exitCode = 1;
  mainstay.close();
}
