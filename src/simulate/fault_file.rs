//! The fault file: what goes wrong with which module, and how often.
//! Owns its keys, their defaults, and the messages about wrong ones.
//! Never knows what follows from a fault.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::closest;

/// The longest file that is read.
const FILE_MAX: u64 = 1 << 20;
/// What goes wrong if no file says it: something of everything that most modules have to survive.
const DEFAULT: &str = "[every]\nstart_fails = 0.05\ncrashes_every = \"30m\"\n";

/// Why the faults cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}; name a file of faults with --faults")]
    Read { path: String, error: std::io::Error },
    /// It is no fault file.
    #[error("cannot use {path}: {message}\ndocs/simulate.md explains each key of a fault file")]
    Parse { path: String, message: String },
    /// It names a module that there is not.
    #[error("cannot simulate [module.{name}]: the configuration has no module {name}; {hint}")]
    UnknownModule { name: String, hint: String },
    /// The plan cannot run.
    #[error("cannot simulate the configuration: {0}; `mainstay check` shows its problems")]
    Plan(String),
}

/// What goes wrong with a module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModuleFaults {
    /// From the spawn until it is ready, or has failed; of a task, until it is done.
    pub(crate) start_takes: TimeRange,
    /// The share of starts that end with `exit_code`.
    pub(crate) start_fails: f64,
    /// The share of starts that never become ready and do not end.
    pub(crate) start_hangs: f64,
    /// The mean time from ready to an exit with `exit_code`.
    pub(crate) crashes_every: Option<Span>,
    /// The mean time from ready until it hangs.
    pub(crate) hangs_every: Option<Span>,
    /// The share of probes that fail although it is well.
    pub(crate) probe_fails: f64,
    /// From the stop signal to the exit.
    pub(crate) stop_takes: TimeRange,
    /// The share of runs that ignore the stop signal.
    pub(crate) stop_hangs: f64,
    /// Exit code of a failure.
    pub(crate) exit_code: i32,
    /// When all starts fail, and what runs ends: from, to, counted from the start of the system.
    pub(crate) down: Vec<TimeRange>,
}

impl Default for ModuleFaults {
    fn default() -> ModuleFaults {
        let ms = Duration::from_millis;
        ModuleFaults {
            start_takes: TimeRange(ms(100), ms(100)),
            start_fails: 0.0,
            start_hangs: 0.0,
            crashes_every: None,
            hangs_every: None,
            probe_fails: 0.0,
            stop_takes: TimeRange(ms(50), ms(50)),
            stop_hangs: 0.0,
            exit_code: 1,
            down: Vec::new(),
        }
    }
}

/// A fault file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultFile {
    /// Of each module that does not say otherwise.
    #[serde(default)]
    every: RawFaults,
    #[serde(default)]
    module: BTreeMap<String, RawFaults>,
}

/// As written.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFaults {
    start_takes: Option<TimeRange>,
    start_fails: Option<Share>,
    start_hangs: Option<Share>,
    crashes_every: Option<Span>,
    hangs_every: Option<Span>,
    probe_fails: Option<Share>,
    stop_takes: Option<TimeRange>,
    stop_hangs: Option<Share>,
    exit_code: Option<i32>,
    down: Option<Vec<TimeRange>>,
}

/// From 0 to 1.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Share(f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Share, String> {
        if (0.0..=1.0).contains(&share) {
            return Ok(Share(share));
        }
        Err(format!("{share} is no share: 0.0 is never, 1.0 is always"))
    }
}

/// A duration above zero, such as `10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        match parse(&text)? {
            Duration::ZERO => Err("0s is no mean time; leave the key out for never".to_owned()),
            span => Ok(Span(span)),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        humantime::format_duration(span.0).to_string()
    }
}

/// `2s`, or anything between two: `2s..5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TimeRange(pub(crate) Duration, pub(crate) Duration);

impl TryFrom<String> for TimeRange {
    type Error = String;

    fn try_from(text: String) -> Result<TimeRange, String> {
        let (least, most) = text.split_once("..").unwrap_or((&text, &text));
        let (least, most) = (parse(least)?, parse(most)?);
        if most < least {
            return Err(format!("{text} ends before it begins"));
        }
        Ok(TimeRange(least, most))
    }
}

impl From<TimeRange> for String {
    fn from(range: TimeRange) -> String {
        let text = |span| humantime::format_duration(span).to_string();
        if range.0 == range.1 {
            return text(range.0);
        }
        format!("{}..{}", text(range.0), text(range.1))
    }
}

impl std::fmt::Display for TimeRange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&String::from(*self))
    }
}

fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |_| format!("{text:?} is no duration; write \"250ms\", \"2s\" or \"2s..5s\"");
    humantime::parse_duration(text.trim()).map_err(wrong)
}

impl FaultFile {
    /// Reads a fault file.
    ///
    /// # Errors
    /// It cannot be read, or what is wrong with it, with its line.
    pub(crate) fn read(path: &Path) -> Result<FaultFile, FaultError> {
        let text = read_bounded(path).map_err(|error| FaultError::Read {
            path: path.display().to_string(),
            error,
        })?;
        FaultFile::parse(&text, &path.display().to_string())
    }

    /// The faults that are simulated if no file names others.
    pub(crate) fn default_faults() -> FaultFile {
        FaultFile::parse(DEFAULT, "the default faults").unwrap_or_default()
    }

    pub(crate) fn parse(text: &str, path: &str) -> Result<FaultFile, FaultError> {
        toml::from_str(text).map_err(|error| FaultError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })
    }

    /// What goes wrong with a module: as its own table says, else as `[every]`, else nothing.
    pub(crate) fn of(&self, name: &str) -> ModuleFaults {
        let mut faults = ModuleFaults::default();
        let instance = name.split('@').next().unwrap_or(name);
        let own = self.module.get(name).or_else(|| self.module.get(instance));
        for raw in [Some(&self.every), own].into_iter().flatten() {
            raw.lay_over(&mut faults);
        }
        faults
    }

    /// # Errors
    /// The first module that is not one of these.
    pub(super) fn check_names(&self, names: &[String]) -> Result<(), FaultError> {
        let is_known = |name: &String| {
            let of = |known: &String| known.split('@').next() == Some(name);
            names.contains(name) || names.iter().any(of)
        };
        let Some(name) = self.module.keys().find(|name| !is_known(name)) else {
            return Ok(());
        };
        let hint = match closest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("it has {}", names.join(", ")),
        };
        let name = name.clone();
        Err(FaultError::UnknownModule { name, hint })
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(std::io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

impl RawFaults {
    fn lay_over(&self, onto: &mut ModuleFaults) {
        let share = |share: Option<Share>, onto: &mut f64| {
            *onto = share.map_or(*onto, |share| share.0);
        };
        share(self.start_fails, &mut onto.start_fails);
        share(self.start_hangs, &mut onto.start_hangs);
        share(self.probe_fails, &mut onto.probe_fails);
        share(self.stop_hangs, &mut onto.stop_hangs);
        onto.start_takes = self.start_takes.unwrap_or(onto.start_takes);
        onto.stop_takes = self.stop_takes.unwrap_or(onto.stop_takes);
        onto.crashes_every = self.crashes_every.or(onto.crashes_every);
        onto.hangs_every = self.hangs_every.or(onto.hangs_every);
        onto.exit_code = self.exit_code.unwrap_or(onto.exit_code);
        if let Some(down) = &self.down {
            onto.down.clone_from(down);
        }
    }
}
