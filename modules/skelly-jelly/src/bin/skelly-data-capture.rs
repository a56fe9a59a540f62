//! skelly-data-capture: looks at this machine every second and publishes what it sees.
//! Owns the measuring.
//! Never says ready before the first real sample.

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use mainstay_sdk::ConfigChange;
use serde::Deserialize;
use skelly_jelly::app::{App, Failure, Turn, finish, log, now_ms};
use skelly_jelly::sample::{Activity, Sample};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Looks at this machine every second and publishes `samples.machine`.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Between two samples.
    interval_ms: u64,
    /// Percent of CPU from which the machine counts as in use.
    active_above: f64,
    /// Percent of CPU below which it counts as idle.
    idle_below: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            interval_ms: 1000,
            active_above: 10.0,
            idle_below: 5.0,
        }
    }
}

impl Settings {
    /// The interval, and what counts as activity.
    fn parts(&self) -> (Duration, Activity) {
        let interval = Duration::from_millis(self.interval_ms.max(200));
        let activity = Activity::new(self.active_above, self.idle_below);
        (interval, activity)
    }
}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    finish("data-capture", run())
}

fn run() -> Result<(), Failure> {
    let app: App<()> = App::start()?;
    // Those of the start are the first; others follow while it runs.
    let (changed, settings) = mpsc::channel::<Settings>();
    app.module.on_config(move |value| {
        let next = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let changed = changed.clone();
        Ok(ConfigChange::apply(move || drop(changed.send(next))))
    })?;
    let (mut interval, mut activity) = settings.try_recv().unwrap_or_default().parts();
    let cannot = |error: sysinfo::Error| Failure::Machine(error.to_string());
    let mut system = System::new().map_err(cannot)?;
    system.refresh_cpu_usage();
    log(format!(
        "data-capture: a look at the machine every {interval:?}"
    ));
    // A CPU figure needs two looks; this is the least time between them.
    let mut next = Instant::now() + sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;
    let mut last: Option<Sample> = None;
    loop {
        if app.turn(next.saturating_duration_since(Instant::now())) == Turn::Stop {
            break;
        }
        if let Ok(changed) = settings.try_recv() {
            (interval, activity) = changed.parts();
            next = Instant::now();
        }
        if Instant::now() < next {
            continue;
        }
        let sample = look(&mut system, &mut activity).map_err(cannot)?;
        app.publish("samples.machine", sample);
        app.vitals.succeeded();
        next = Instant::now() + interval;
        if last.is_none() {
            app.module.ready();
        }
        if last.is_none_or(|last| last.active != sample.active) {
            let word = if sample.active { "in use" } else { "idle" };
            log(format!("data-capture: the machine is {word}"));
            app.module.status(format!(
                "sees {} processes; the machine is {word}",
                sample.processes
            ));
        }
        last = Some(sample);
    }
    app.module.stopping();
    Ok(())
}

fn look(system: &mut System, activity: &mut Activity) -> Result<Sample, sysinfo::Error> {
    system.refresh_cpu_usage();
    system.refresh_memory();
    let nothing_more = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, nothing_more);
    let cpu_percent = f64::from(system.global_cpu_usage());
    #[expect(
        clippy::cast_precision_loss,
        reason = "bytes of memory, shown as a percentage"
    )]
    let memory_percent = 100.0 * system.used_memory() as f64 / system.total_memory().max(1) as f64;
    Ok(Sample {
        at_ms: now_ms(),
        cpu_percent,
        memory_percent,
        // Windows has no load average; zero is what is known there.
        load: System::load_average().map_or(0.0, |load| load.one),
        processes: u32::try_from(system.processes().len()).unwrap_or(u32::MAX),
        active: activity.judge(cpu_percent),
    })
}
