//! `report`: packs what a bug report needs into one archive, and prints what is in it.
//! Owns the list of its parts and their bounds.
//! Never packs a value of an environment or of settings: each is replaced wherever it appears.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mainstay_client::blocking::Client;
use mainstay_protocol::Event;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{Empty, EventsParams, PageParams, name};
use serde_json::Value;

use super::args::{GlobalArgs, ReportArgs};
use super::error::CliError;
use super::progress::Progress;
use super::redaction::{Redaction, redacted_toml};
use super::system_locator::SystemLocator;
use super::{format, history, terminal};
use crate::config::Configuration;
use crate::journal::OfflineJournal;
use crate::os::{private, tail};
use crate::runtime::first_plan;

/// Newest events.
const EVENTS: usize = 500;
/// Newest lines of each log, and bytes that are searched for them.
const LOG_LINES: usize = 200;
const LOG_BYTES: u64 = 256 * 1024;
/// Newest forensics bundles.
const BUNDLES: usize = 5;
/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(crate) fn run(args: &ReportArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let _progress = Progress::start("collecting the report");
    let configuration = history::configuration(global);
    let running = SystemLocator::find(global)
        .ok()
        .and_then(|it| it.connect().ok());
    let kept = configuration
        .as_ref()
        .map_or_else(|_| Vec::new(), |it| first_plan::kept(&it.system.state_dir));
    // What is in force may be in no file.
    let in_force: Vec<&Configuration> = configuration.iter().chain(&kept).collect();
    let mut report = Report {
        redaction: Redaction::of(&in_force),
        parts: Vec::new(),
    };
    report.add("about.txt", &about(running.is_some()));
    match &configuration {
        Ok(configuration) => {
            match running {
                Some(mut client) => report.add_running(&mut client),
                None => report.add("not-running.txt", "no mainstay answered\n"),
            }
            report.add_files(configuration);
        }
        // Without it nobody knows what is confidential.
        Err(_) => report.add(
            "configuration-problem.txt",
            "cannot read the configuration: mend what `mainstay check` names; then report again\n",
        ),
    }
    let path = match &args.output {
        Some(path) => path.clone(),
        None => default_path(configuration.as_ref().ok()),
    };
    let length = report.write(&path).map_err(|error| {
        let text = format!("cannot write {}: {error}", path.display());
        CliError::new(CliExitCode::Failed, text)
    })?;
    terminal::print_text(&report.contents(&path, length))?;
    Ok(CliExitCode::Ok)
}

fn about(running: bool) -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let (version, running) = (
        env!("CARGO_PKG_VERSION"),
        if running { "yes" } else { "no" },
    );
    format!("mainstay {version}\n{os} {arch}\nrunning: {running}\n")
}

fn default_path(configuration: Option<&Configuration>) -> PathBuf {
    let name = configuration.map_or("mainstay", |it| it.system.name.as_str());
    let at = format::local_time(terminal::now());
    let at: String = at.chars().filter(char::is_ascii_digit).collect();
    PathBuf::from(format!("mainstay-report-{name}-{at}.tar.gz"))
}

/// The parts of an archive.
struct Report {
    redaction: Redaction,
    parts: Vec<(String, String)>,
}

impl Report {
    fn add(&mut self, name: &str, text: &str) {
        self.parts
            .push((name.to_owned(), self.redaction.apply(text)));
    }

    fn add_json(&mut self, name: &str, value: &Value) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.add(name, &(text + "\n"));
    }

    fn add_events(&mut self, events: &[Event]) {
        let line = |event: &Event| {
            let mut event = event.clone();
            if let Some(payload) = event.payload.as_object_mut() {
                // A command line may carry a secret that no configuration names.
                payload.remove("command");
            }
            serde_json::to_string(&event).unwrap_or_default() + "\n"
        };
        let text: String = events.iter().map(line).collect();
        self.add("events.jsonl", &text);
    }

    /// What a running system answers; what it refuses is said.
    fn add_running(&mut self, client: &mut Client) {
        for (file, method) in [
            ("status.json", name::SYSTEM_STATUS),
            ("doctor.json", name::DOCTOR),
            ("not-started.json", name::WHY_NOT_STARTED),
        ] {
            match client.call::<Value>(method, Empty {}) {
                Ok(value) => self.add_json(file, &value),
                Err(error) => self.add(file, &format!("{error}\n")),
            }
        }
        match client.call::<Value>(name::MODULE_LIST, PageParams::default()) {
            Ok(value) => self.add_json("modules.json", &value),
            Err(error) => self.add("modules.json", &format!("{error}\n")),
        }
        let params = EventsParams {
            limit: Some(EVENTS),
            ..EventsParams::default()
        };
        match client.events(&params) {
            Ok(events) => self.add_events(&events),
            Err(error) => self.add("events.jsonl", &format!("{error}\n")),
        }
    }

    /// What lies in files, whether a system runs or not.
    fn add_files(&mut self, configuration: &Configuration) {
        for (number, path) in configuration.files.iter().enumerate() {
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let text = match private::read_regular(path, FILE_BYTES_MAX) {
                Ok(bytes) => redacted_toml(&String::from_utf8_lossy(&bytes)),
                Err(error) => format!("cannot read it: {error}\n"),
            };
            // An env file holds nothing but values.
            if path.extension().is_some_and(|it| it == "toml") {
                self.add(&format!("configuration/{number}-{file}"), &text);
            }
        }
        let system = &configuration.system;
        let is_packed = self.parts.iter().any(|(name, _)| name == "events.jsonl");
        if let Some(journal) = OfflineJournal::of(&system.state_dir).filter(|_| !is_packed) {
            let params = EventsParams {
                limit: Some(EVENTS),
                ..EventsParams::default()
            };
            match journal.read(&params) {
                Ok(events) => self.add_events(&events),
                Err(error) => self.add("events.jsonl", &format!("{}\n", error.source)),
            }
        }
        let modules = configuration
            .modules
            .iter()
            .map(|(spec, _)| spec.name.as_str());
        let logs = modules.map(|name| format!("{name}.log"));
        for log in logs.chain(["mainstay.out", "mainstay.log"].map(str::to_owned)) {
            let path = system.logs.directory.join(&log);
            let lines = tail::last_lines(&path, LOG_LINES, LOG_BYTES).unwrap_or_default();
            if !lines.is_empty() {
                self.add(&format!("logs/{log}"), &(lines.join("\n") + "\n"));
            }
        }
        self.add_bundles(&system.state_dir.join("forensics"));
    }

    fn add_bundles(&mut self, folder: &Path) {
        for path in newest(folder) {
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Ok(bytes) = private::read_regular(&path, FILE_BYTES_MAX) {
                self.add(
                    &format!("forensics/{file}"),
                    &String::from_utf8_lossy(&bytes),
                );
            }
        }
    }

    /// Writes the archive for this user alone; returns its length.
    fn write(&self, path: &Path) -> std::io::Result<u64> {
        let file = private::create_new(path)?;
        let compressed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        let mut archive = tar::Builder::new(compressed);
        for (name, text) in &self.parts {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(terminal::now().0 / 1000);
            archive.append_data(
                &mut header,
                format!("mainstay-report/{name}"),
                text.as_bytes(),
            )?;
        }
        let mut file = archive.into_inner()?.finish()?;
        file.flush()?;
        Ok(file.metadata()?.len())
    }

    fn contents(&self, path: &Path, length: u64) -> String {
        let mut out = format!("{} ({}):\n", path.display(), format::bytes(length));
        for (name, text) in &self.parts {
            let size = format::bytes(text.len() as u64);
            let _ = writeln!(out, "  {size:>10}  {}", format::single_line(name));
        }
        out.push_str("Values of env and settings are replaced; read it before you send it.\n");
        out
    }
}

/// The newest bundles, by their time of writing.
fn newest(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    let skipped = found.len().saturating_sub(BUNDLES);
    found
        .into_iter()
        .skip(skipped)
        .map(|(_, path)| path)
        .collect()
}
