//! skelly-gamification: points, levels, streaks and achievements from scores.
//! Owns the player's progress while it runs; storage keeps it.
//! Never starts over when storage is away: it plays on and keeps the progress later.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Deserialize;
use serde_json::json;
use skelly_jelly::app::{App, Failure, Turn, finish, log};
use skelly_jelly::points::{Progress, Reward, count, level};
use skelly_jelly::scoring::Current;

/// Turns scores into points, levels and achievements and publishes `rewards.*`.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Between two times that points alone are kept; a level or an achievement is kept at once.
    keep_every_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            keep_every_ms: 10_000,
        }
    }
}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    finish("gamification", run())
}

fn run() -> Result<(), Failure> {
    let app: App<Current> = App::start()?;
    let settings: Settings = app.module.settings()?;
    let every = Duration::from_millis(settings.keep_every_ms.max(100));
    let (mut progress, mut loaded) = match load(&app) {
        Some(progress) => (progress, true),
        None => (Progress::default(), false),
    };
    log(format!(
        "gamification: begins with {} points",
        progress.points
    ));
    app.subscribe(&["scores.current"], |event| {
        serde_json::from_value(event.payload.clone()).ok()
    });
    app.module.ready();
    tell(&app, &progress);
    let mut keep_at = Instant::now() + every;
    let mut unkept = false;
    loop {
        let mut urgent = false;
        match app.turn(Duration::from_secs(1)) {
            Turn::Stop => break,
            Turn::Idle => {}
            Turn::Item(scores) => {
                let rewards = count(&mut progress, &scores);
                unkept |= !rewards.is_empty();
                urgent = rewards.iter().any(|reward| announce(&app, reward));
                tell(&app, &progress);
            }
        }
        let now = Instant::now();
        if urgent || now >= keep_at {
            keep_at = now + every;
            if !loaded && let Some(earlier) = load(&app) {
                merge(&mut progress, earlier);
                (loaded, unkept) = (true, true);
            }
            if loaded && unkept {
                let kept = app.ask("storage", "storage.keep_progress", &progress);
                unkept = kept.is_none();
            }
        }
    }
    app.module.stopping();
    Ok(())
}

/// Publishes a reward and logs the rare ones; true for a rare one.
fn announce(app: &App<Current>, reward: &Reward) -> bool {
    app.publish(reward.subject(), reward);
    match reward {
        Reward::Points { .. } => return false,
        Reward::LevelUp { level } => log(format!("gamification: level {level}")),
        Reward::Achievement { text, .. } => log(format!("gamification: achievement: {text}")),
    }
    true
}

fn tell(app: &App<Current>, progress: &Progress) {
    app.module.status(format!(
        "level {}, {} points, {} in a row",
        level(progress.points),
        progress.points,
        progress.streak
    ));
}

/// What storage kept; None when storage is away or there is none.
fn load(app: &App<Current>) -> Option<Progress> {
    let answer = app.ask("storage", "storage.progress", json!({}))?;
    match serde_json::from_value(answer) {
        Ok(progress) => Some(progress),
        Err(error) => {
            app.vitals
                .failed(format!("cannot read the progress: {error}"));
            None
        }
    }
}

/// Adds what was reached earlier to what was reached while storage was away.
fn merge(progress: &mut Progress, earlier: Progress) {
    progress.points += earlier.points;
    progress.best_streak = progress.best_streak.max(earlier.best_streak);
    let mut achievements = earlier.achievements;
    for name in progress.achievements.drain(..) {
        if !achievements.contains(&name) {
            achievements.push(name);
        }
    }
    progress.achievements = achievements;
}
