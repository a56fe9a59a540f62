//! skelly-ai-integration: the companion's words, by rule and on this machine alone.
//! Owns companion.json, which is replaced whole whenever the companion says something new.
//! Never speaks more often than its settings allow.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Deserialize;
use skelly_jelly::app::{App, Failure, Turn, finish, log};
use skelly_jelly::atomic;
use skelly_jelly::points::Reward;
use skelly_jelly::scoring::Current;
use skelly_jelly::texts::{Message, Mood, compose};

/// Turns scores and rewards into a sentence or two and publishes `companion.message`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The file with the newest message
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Between two messages.
    speak_every_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            speak_every_ms: 3000,
        }
    }
}

enum Item {
    Scores(Current),
    Reward(Reward),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    finish("ai-integration", run(&arguments))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let app: App<Item> = App::start()?;
    let settings: Settings = app.module.settings()?;
    let every = Duration::from_millis(settings.speak_every_ms.max(100));
    app.subscribe(&["scores.current", "rewards.*"], |event| {
        let payload = event.payload.clone();
        if event.subject == "scores.current" {
            serde_json::from_value(payload).ok().map(Item::Scores)
        } else {
            serde_json::from_value(payload).ok().map(Item::Reward)
        }
    });
    let mut message = first_message();
    write(&arguments.out, &message)?;
    log(format!(
        "ai-integration: speaks into {}",
        arguments.out.display()
    ));
    app.module.ready();
    app.module.status(&message.text);
    let mut scores: Option<Current> = None;
    let mut rewards: Vec<Reward> = Vec::new();
    let mut next = Instant::now();
    loop {
        match app.turn(Duration::from_millis(500)) {
            Turn::Stop => break,
            Turn::Idle => {}
            Turn::Item(Item::Scores(current)) => scores = Some(current),
            Turn::Item(Item::Reward(reward)) => {
                if let Reward::Points { total, level, .. } = &reward {
                    (message.points, message.level) = (*total, *level);
                } else if rewards.len() < 16 {
                    // More at once than that is one celebration anyway.
                    rewards.push(reward);
                }
            }
        }
        if Instant::now() < next || (scores.is_none() && rewards.is_empty()) {
            continue;
        }
        next = Instant::now() + every;
        let (mood, text) = compose(scores.as_ref(), &rewards);
        rewards.clear();
        if (mood, &text) == (message.mood, &message.text) {
            continue;
        }
        message.at_ms = scores.map_or(message.at_ms, |scores| scores.at_ms);
        (message.mood, message.text) = (mood, text);
        speak(&app, &arguments.out, &message);
    }
    app.module.stopping();
    Ok(())
}

fn first_message() -> Message {
    let (mood, text) = compose(None, &[]);
    Message {
        mood,
        text,
        points: 0,
        level: 1,
        at_ms: 0,
    }
}

fn speak(app: &App<Item>, out: &Path, message: &Message) {
    app.publish("companion.message", message);
    app.module.status(&message.text);
    match write(out, message) {
        Ok(()) => app.vitals.succeeded(),
        Err(failure) => app.vitals.failed(failure.to_string()),
    }
    if message.mood == Mood::Proud {
        log(format!("ai-integration: {}", message.text));
    }
}

fn write(out: &Path, message: &Message) -> Result<(), Failure> {
    let cannot = |source| Failure::File {
        path: out.display().to_string(),
        source,
    };
    let text = serde_json::to_vec_pretty(message).map_err(|error| cannot(error.into()))?;
    atomic::write(out, &text).map_err(cannot)
}
