//! Reads the logs and the journal of a system that is not running.
//! Owns the notice that says so, and the error if there is nothing to read.
//! Never writes, and never replaces a running system that does not answer.

use std::path::Path;

use mainstay_protocol::Event;
use mainstay_protocol::method::{EventsParams, LogLines, Why};
use mainstay_protocol::words::ExitCode;
use serde_json::Value;

use super::args::Global;
use super::failure::Failure;
use super::{human, screen};
use crate::config::{Configuration, LogFormat, Sources, load};
use crate::journal::{OfflineJournal, ReadError};
use crate::os::tail;

/// The files of a system that is not running.
pub(crate) struct History {
    name: String,
    configuration: Configuration,
    /// Why the system cannot be reached.
    failure: Failure,
}

impl History {
    /// Returns the files of a system that is not running. Returns any other failure as it is: a
    /// running system answers itself.
    pub(crate) fn instead(failure: Failure, global: &Global) -> Result<History, Failure> {
        let Failure::NotRunning { name, .. } = &failure else {
            return Err(failure);
        };
        let socket = std::env::var_os("MAINSTAY_CONTROL").is_some_and(|path| !path.is_empty());
        // The path of a socket does not tell the state directory.
        if (global.socket.is_some() || socket) && global.config.is_none() {
            return Err(failure);
        }
        let name = name.clone();
        match configuration(global) {
            Ok(configuration) => Ok(History {
                name,
                configuration,
                failure,
            }),
            Err(problem) => Err(Failure::new(
                ExitCode::NotRunning,
                format!("{failure}\ncannot find its history either: {problem}"),
            )),
        }
    }

    /// Returns the newest output lines, by module, after printing the notice.
    pub(crate) fn logs(&self, modules: &[String], count: usize) -> Result<Vec<LogLines>, Failure> {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for module in modules {
            match self.log(module, count)? {
                Some(lines) => found.push(lines),
                None => missing.push(format!("no log of {}", human::clean(module))),
            }
        }
        if found.is_empty() {
            let folder = self.configuration.system.logs.directory.display();
            return Err(self.nothing(&format!("{} in {folder}", missing.join(" and "))));
        }
        self.tell(&self.configuration.system.logs.directory);
        for none in missing {
            screen::complain(&format!("there is {none}"));
        }
        Ok(found)
    }

    fn log(&self, module: &str, count: usize) -> Result<Option<LogLines>, Failure> {
        let logs = &self.configuration.system.logs;
        let path = logs.directory.join(format!("{module}.log"));
        let lines = tail::last_lines(&path, count).map_err(|error| {
            let text = format!("cannot read {}: {error}", path.display());
            Failure::new(ExitCode::Failed, text)
        })?;
        // The file is created with the first line: a configured module without one wrote nothing.
        let silent = || self.configures(module) && self.past().is_some();
        if lines.is_empty() && !path.is_file() && !silent() {
            return Ok(None);
        }
        let object = |line: &String| serde_json::from_str(line).ok().filter(Value::is_object);
        let records = match logs.format {
            LogFormat::Json => lines.iter().map(object).collect(),
            LogFormat::Text => Vec::new(),
        };
        Ok(Some(LogLines {
            module: module.to_owned(),
            lines,
            records,
            dropped_bytes: 0,
        }))
    }

    /// Returns the newest events that match.
    pub(crate) fn events(&self, params: &EventsParams) -> Result<Vec<Event>, Failure> {
        let events = self.journal()?.read(params).map_err(unreadable)?;
        if let (true, Some(module)) = (events.is_empty(), &params.module)
            && !self.configures(module)
        {
            let module = human::clean(module);
            return Err(self.nothing(&format!("nothing about {module} in its journal")));
        }
        self.tell(&self.configuration.system.state_dir);
        Ok(events)
    }

    /// Returns what led to the last known state of a module.
    pub(crate) fn why(&self, module: &str) -> Result<Why, Failure> {
        let why = self.journal()?.why(module).map_err(unreadable)?;
        let why = why.ok_or_else(|| {
            let module = human::clean(module);
            self.nothing(&format!("nothing about {module} in its journal"))
        })?;
        self.tell(&self.configuration.system.state_dir);
        Ok(why)
    }

    fn journal(&self) -> Result<OfflineJournal, Failure> {
        let folder = self.configuration.system.state_dir.display();
        self.past()
            .ok_or_else(|| self.nothing(&format!("no journal in {folder}")))
    }

    fn configures(&self, module: &str) -> bool {
        let mut modules = self.configuration.modules.iter();
        modules.any(|(spec, _)| spec.name == module)
    }

    fn past(&self) -> Option<OfflineJournal> {
        OfflineJournal::of(&self.configuration.system.state_dir)
    }

    fn tell(&self, folder: &Path) {
        let (name, folder) = (&self.name, folder.display());
        screen::complain(&format!(
            "mainstay '{name}' is not running: this is its history, from {folder}"
        ));
    }

    fn nothing(&self, what: &str) -> Failure {
        let text = format!("{}\nand there is {what}", self.failure);
        Failure::new(ExitCode::NotRunning, text)
    }
}

fn unreadable(error: ReadError) -> Failure {
    let (journal, source) = (error.journal.display(), error.source);
    let text = format!("cannot read the journal {journal}: {source}");
    Failure::new(ExitCode::Failed, text)
}

/// Reads the configuration as `up` does.
pub(crate) fn configuration(global: &Global) -> Result<Configuration, Failure> {
    let name = global
        .name
        .iter()
        .map(|name| format!("mainstay.name={name}"));
    let sets: Vec<String> = name.collect();
    Sources::find(global.config.as_deref(), &sets)
        .and_then(|sources| load(&sources))
        .map_err(|problems| Failure::new(ExitCode::Configuration, problems.to_string()))
}
