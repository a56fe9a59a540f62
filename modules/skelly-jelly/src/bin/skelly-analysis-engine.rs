//! skelly-analysis-engine: rolling scores from samples.
//! Owns the window of the last five minutes.
//! Never says ready before storage was asked for what happened earlier.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Deserialize;
use serde_json::json;
use skelly_jelly::app::{App, Failure, Turn, finish, log};
use skelly_jelly::sample::Sample;
use skelly_jelly::scoring::Window;

/// Turns samples into scores over one and five minutes and publishes `scores.current`.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Between two publications of scores.
    publish_every_ms: u64,
    /// How often storage is asked for history before it starts without.
    history_tries: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            publish_every_ms: 2000,
            history_tries: 3,
        }
    }
}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    finish("analysis-engine", run())
}

fn run() -> Result<(), Failure> {
    let app: App<Sample> = App::start()?;
    let settings: Settings = app.module.settings()?;
    let every = Duration::from_millis(settings.publish_every_ms.max(100));
    let mut window = Window::default();
    app.subscribe(&["samples.machine"], |event| {
        serde_json::from_value(event.payload.clone()).ok()
    });
    load_history(&app, &mut window, settings.history_tries);
    app.module.ready();
    let mut next = Instant::now();
    loop {
        match app.turn(Duration::from_secs(1)) {
            Turn::Stop => break,
            Turn::Item(sample) => {
                window.add(sample);
                app.vitals.succeeded();
            }
            Turn::Idle => {}
        }
        let now = Instant::now();
        if now >= next
            && let Some(current) = window.current()
        {
            next = now + every;
            app.publish("scores.current", current);
            let minute = current.one_minute;
            app.module.status(format!(
                "focus {:.0}, load {:.0}, steadiness {:.0} over the last minute",
                minute.focus, minute.load, minute.steadiness
            ));
        }
    }
    app.module.stopping();
    Ok(())
}

/// What storage remembers of the last five minutes; without it the scores begin at zero.
fn load_history(app: &App<Sample>, window: &mut Window, tries: u32) {
    for _ in 0..tries {
        let Some(answer) = app.ask("storage", "storage.recent", json!({ "seconds": 300 })) else {
            continue;
        };
        match serde_json::from_value::<Vec<Sample>>(answer["samples"].clone()) {
            Ok(samples) => {
                let count = samples.len();
                samples.into_iter().for_each(|sample| window.add(sample));
                log(format!(
                    "analysis-engine: begins with {count} remembered samples"
                ));
                app.vitals.note(None);
                return;
            }
            Err(error) => app
                .vitals
                .failed(format!("cannot read the history: {error}")),
        }
    }
    log("analysis-engine: begins without history");
    app.vitals
        .note(Some("storage had no history to give at the start"));
}
