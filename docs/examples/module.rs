//! A module on the SDK: publishes a number a second, answers calls, tells how it is.
//! Owns its counter. Never fails for lack of a mainstay: outside of one it just counts.
//!
//! In a configuration:
//!
//! ```toml
//! [module.counter]
//! command = ["target/debug/examples/module"]
//! ready = { notify = true }
//! settings = { step = 2 }
//! health = { probes = [{ sdk = true }] }
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own waits as it likes"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_sdk::{ConfigChange, HealthReport, Module};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::connect();
    // Called now, and whenever `settings` change while it runs; nothing changes before all agree.
    let step = Arc::new(AtomicU64::new(1));
    let current = Arc::clone(&step);
    module.on_config(move |settings: Value| {
        let next = settings["step"].as_u64().unwrap_or(1);
        if next == 0 {
            return Err("step is at least 1".to_owned());
        }
        if settings["fresh"] == true {
            return Ok(ConfigChange::Restart);
        }
        let current = Arc::clone(&current);
        Ok(ConfigChange::apply(move || {
            current.store(next, Ordering::Relaxed)
        }))
    })?;
    let count = Arc::new(AtomicU64::new(0));

    // Asked by the probe `{ sdk = true }`; whoever can answer is healthy.
    let seen = Arc::clone(&count);
    module.health(move || {
        let count = seen.load(Ordering::Relaxed);
        HealthReport::healthy().metric("count", count as f64)
    });
    // Modules that may call this one get the number: bus.call { module, method: "count" }.
    let asked = Arc::clone(&count);
    module.serve("count", move |_call| {
        Ok(json!(asked.load(Ordering::Relaxed)))
    });

    module.ready();
    // `--for N` ends after N numbers: as a task, and for the test of this example.
    let rounds = std::env::args().skip_while(|word| word != "--for").nth(1);
    let rounds: u64 = rounds.map_or(Ok(u64::MAX), |rounds| rounds.parse())?;
    for _ in 0..rounds {
        let step = step.load(Ordering::Relaxed);
        let now = count.fetch_add(step, Ordering::Relaxed) + step;
        module.publish("counter.counted", json!({ "count": now }))?;
        module.status(format!("counted to {now}"));
        println!("{now}");
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
