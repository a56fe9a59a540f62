//! skelly-storage: keeps samples, scores, progress and achievements.
//! Owns the database file; answers `storage.*` calls from it.
//! Never says ready before the database is open and migrated.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use mainstay_sdk::{Call, Module};
use serde::Deserialize;
use serde_json::{Value, json};
use skelly_jelly::app::{App, Failure, Turn, finish, log, now_ms};
use skelly_jelly::points::Progress;
use skelly_jelly::sample::Sample;
use skelly_jelly::scoring::Current;
use skelly_jelly::store::{Store, StoreError};

/// Keeps samples, scores, progress and achievements.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The database file
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Days that samples and scores are kept.
    keep_days: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { keep_days: 30 }
    }
}

enum Item {
    Sample(Sample),
    Scores(Current),
}

type Shared = Arc<Mutex<Store>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    finish("storage", run(&arguments))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let app: App<Item> = App::start()?;
    let settings: Settings = app.module.settings()?;
    let store = Store::open(&arguments.db)?;
    let kept = store.count()?;
    log(format!(
        "storage: {} holds {kept} samples",
        arguments.db.display()
    ));
    let store: Shared = Arc::new(Mutex::new(store));
    serve(&app.module, &store);
    app.subscribe(&["samples.*", "scores.*"], |event| {
        let payload = event.payload.clone();
        match event.subject.as_str() {
            "samples.machine" => serde_json::from_value(payload).ok().map(Item::Sample),
            "scores.current" => serde_json::from_value(payload).ok().map(Item::Scores),
            _ => None,
        }
    });
    app.module.ready();
    work(&app, &store, &settings, kept)
}

fn work(
    app: &App<Item>,
    store: &Shared,
    settings: &Settings,
    mut kept: u64,
) -> Result<(), Failure> {
    let mut tidy_at = Instant::now();
    let mut tell_at = Instant::now();
    loop {
        let outcome = match app.turn(Duration::from_secs(1)) {
            Turn::Stop => break,
            Turn::Idle => Ok(0),
            Turn::Item(Item::Sample(sample)) => lock(store).keep_sample(&sample).map(|()| 1),
            Turn::Item(Item::Scores(scores)) => lock(store).keep_scores(&scores).map(|()| 0),
        };
        match outcome {
            Ok(0) => {}
            Ok(more) => {
                kept += more;
                app.vitals.succeeded();
            }
            Err(error) => app.vitals.failed(error.to_string()),
        }
        let now = Instant::now();
        if now >= tidy_at {
            tidy_at = now + Duration::from_secs(3600);
            match lock(store).forget(now_ms(), settings.keep_days) {
                Ok(0) => {}
                Ok(gone) => log(format!("storage: forgot {gone} old rows")),
                Err(error) => app.vitals.failed(error.to_string()),
            }
        }
        if now >= tell_at {
            tell_at = now + Duration::from_secs(10);
            let moments = if kept == 1 { "moment" } else { "moments" };
            app.module
                .status(format!("remembers {kept} {moments} of this machine"));
        }
    }
    app.module.stopping();
    Ok(())
}

fn lock(store: &Shared) -> MutexGuard<'_, Store> {
    // SQLite keeps its own state whole.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(module: &Module, store: &Shared) {
    let offer = |method: &str, answer: fn(&mut Store, Call) -> Result<Value, Refused>| {
        let store = Arc::clone(store);
        module.serve(method, move |call| {
            answer(&mut lock(&store), call).map_err(|refused| refused.0)
        });
    };
    offer("storage.recent", |store, call| {
        let seconds = call.params["seconds"].as_u64().unwrap_or(300);
        let since = now_ms().saturating_sub(seconds.saturating_mul(1000));
        Ok(json!({ "samples": store.recent(since)? }))
    });
    offer("storage.scores", |store, _| {
        Ok(json!({ "newest": store.newest_scores()? }))
    });
    offer("storage.progress", |store, _| Ok(json!(store.progress()?)));
    offer("storage.keep_progress", |store, call| {
        let progress: Progress = serde_json::from_value(call.params)
            .map_err(|error| Refused(format!("cannot read the progress: {error}")))?;
        store.keep_progress(&progress)?;
        Ok(json!({}))
    });
    offer("storage.achievements", |store, _| {
        let earned = store.achievements()?;
        let named = |(name, at): (String, i64)| json!({ "name": name, "at_ms": at });
        Ok(json!({ "achievements": earned.into_iter().map(named).collect::<Vec<Value>>() }))
    });
}

/// What a caller is told.
struct Refused(String);

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused(error.to_string())
    }
}
