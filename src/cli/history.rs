//! Reads the logs and the journal of a system that is not running.
//! Owns the notice that says so, and the error if there is nothing to read.
//! Never writes, and never replaces a running system that does not answer.

use std::path::{Path, PathBuf};

use mainstay_protocol::Event;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{EventsParams, WhyResult};

use super::args::GlobalArgs;
use super::error::CliError;
use super::{format, terminal};
use crate::config::{ConfigSources, Configuration, load};
use crate::journal::{OfflineJournal, ReadError};
use crate::os::tail;
use crate::runtime::first_plan::last_instance;

/// The files of a system that is not running.
pub(crate) struct OfflineHistory {
    name: String,
    configuration: Configuration,
    /// Why the system cannot be reached.
    failure: CliError,
}

impl OfflineHistory {
    /// Returns the files of a system that is not running. Returns any other failure as it is: a
    /// running system answers itself.
    pub(crate) fn fallback_for(
        failure: CliError,
        global: &GlobalArgs,
    ) -> Result<OfflineHistory, CliError> {
        let CliError::NotRunning { name, .. } = &failure else {
            return Err(failure);
        };
        let socket = std::env::var_os("MAINSTAY_CONTROL").is_some_and(|path| !path.is_empty());
        // The state directory cannot be derived from the path of a socket.
        if (global.socket.is_some() || socket) && global.config.is_none() {
            return Err(failure);
        }
        let name = name.clone();
        match configuration(global) {
            Ok(configuration) => Ok(OfflineHistory {
                name,
                configuration,
                failure,
            }),
            Err(problem) => Err(CliError::new(
                CliExitCode::NotRunning,
                format!("{failure}\ncannot find its history either: {problem}"),
            )),
        }
    }

    /// Returns the log files of modules, of all that are configured if none is named, after
    /// printing the notice.
    pub(crate) fn logs(&self, modules: &[String]) -> Result<Vec<(String, PathBuf)>, CliError> {
        let configured = self.configuration.modules.iter();
        let configured = configured.map(|(spec, _)| spec.name.to_string());
        let names = match modules {
            [] => configured.collect(),
            named => named.to_owned(),
        };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for module in names {
            match self.log(&module) {
                Some(log) => found.push((module, log)),
                None => missing.push(format!("no log of {}", format::single_line(&module))),
            }
        }
        if found.is_empty() {
            let folder = self.configuration.system.logs.directory.display();
            return Err(self.nothing_found(&format!("{} in {folder}", missing.join(" and "))));
        }
        self.print_notice(&self.configuration.system.logs.directory);
        if !modules.is_empty() {
            for none in missing {
                terminal::print_error(&format!("there is {none}"));
            }
        }
        Ok(found)
    }

    fn log(&self, module: &str) -> Option<PathBuf> {
        let logs = &self.configuration.system.logs;
        let instance = last_instance(&self.configuration.system.state_dir, module);
        let path = logs.directory.join(format!("{instance}.log"));
        // The file is created with the first line: a configured module without one wrote nothing.
        let is_silent = || self.configures(module) && self.past().is_some();
        (path.is_file() || is_silent()).then_some(path)
    }

    /// Returns the newest events that match.
    pub(crate) fn events(&self, params: &EventsParams) -> Result<Vec<Event>, CliError> {
        let events = self.journal()?.read(params).map_err(unreadable)?;
        if let (true, Some(module)) = (events.is_empty(), &params.module)
            && !self.configures(module)
        {
            let module = format::single_line(module);
            return Err(self.nothing_found(&format!("nothing about {module} in its journal")));
        }
        self.print_notice(&self.configuration.system.state_dir);
        Ok(events)
    }

    /// Returns what led to the last known state of a module.
    pub(crate) fn why(&self, module: &str, full: bool) -> Result<WhyResult, CliError> {
        let log_end = || {
            let words = self.log(module).map(|log| tail::last_words(&log));
            words.map_or_else(Default::default, |words| (words.at, words.lines))
        };
        let why = self.journal()?.why(module, full, log_end);
        let why = why.map_err(unreadable)?;
        let why = why.ok_or_else(|| {
            let module = format::single_line(module);
            self.nothing_found(&format!("nothing about {module} in its journal"))
        })?;
        self.print_notice(&self.configuration.system.state_dir);
        Ok(why)
    }

    fn journal(&self) -> Result<OfflineJournal, CliError> {
        let folder = self.configuration.system.state_dir.display();
        self.past()
            .ok_or_else(|| self.nothing_found(&format!("no journal in {folder}")))
    }

    fn configures(&self, module: &str) -> bool {
        let mut modules = self.configuration.modules.iter();
        modules.any(|(spec, _)| spec.name == module)
    }

    fn past(&self) -> Option<OfflineJournal> {
        OfflineJournal::of(&self.configuration.system.state_dir)
    }

    fn print_notice(&self, folder: &Path) {
        let (name, folder) = (&self.name, folder.display());
        terminal::print_error(&format!(
            "mainstay '{name}' is not running: this is its history, from {folder}"
        ));
    }

    fn nothing_found(&self, what: &str) -> CliError {
        let text = format!("{}\nand there is {what}", self.failure);
        CliError::new(CliExitCode::NotRunning, text)
    }
}

fn unreadable(error: ReadError) -> CliError {
    let (journal, source) = (error.journal.display(), error.source);
    let text = format!("cannot read the journal {journal}: {source}");
    CliError::new(CliExitCode::Failed, text)
}

/// Reads the configuration as `up` does.
pub(crate) fn configuration(global: &GlobalArgs) -> Result<Configuration, CliError> {
    let name = global
        .name
        .iter()
        .map(|name| format!("mainstay.name={name}"));
    let sets: Vec<String> = name.collect();
    ConfigSources::find(global.config.as_deref(), &sets)
        .and_then(|sources| load(&sources))
        .map_err(|problems| CliError::new(CliExitCode::Configuration, problems.to_string()))
}
