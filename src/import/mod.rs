//! Configurations of other programs, as modules of mainstay.
//! Owns which file is of which program, and the list of what could not be kept.
//! Never writes a file and never runs anything: `mainstay import` writes what this returns.

mod command_line;
mod compose;
mod draft;
mod ini;
mod interpolation;
pub(crate) mod owned_probe;
mod pm2;
mod process_compose;
mod procfile;
mod supervisor;
mod systemd;
#[cfg(test)]
mod tests;
mod units;
pub(crate) mod wrapper;
mod yaml;

use std::path::{Path, PathBuf};

pub(crate) use draft::{Import, usable_name};

/// The longest file that is read.
const FILE_MAX: u64 = 4 << 20;

/// A kind of file that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A Procfile, as foreman, honcho and Heroku read it.
    Procfile,
    /// A compose file of Docker or Podman.
    Compose,
    /// A configuration of process-compose.
    ProcessCompose,
    /// A configuration of supervisord.
    Supervisor,
    /// An ecosystem file of pm2, as JSON.
    Pm2,
    /// A service unit of systemd.
    Systemd,
}

impl Format {
    /// Each format with its name on the command line.
    pub(crate) const ALL: [(&str, Format); 6] = [
        ("procfile", Format::Procfile),
        ("compose", Format::Compose),
        ("process-compose", Format::ProcessCompose),
        ("supervisord", Format::Supervisor),
        ("pm2", Format::Pm2),
        ("systemd", Format::Systemd),
    ];
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        path: String,
        source: std::io::Error,
    },
    /// It is of no known kind.
    #[error(
        "cannot import {0}: its name and content are of no known kind; say which with --format"
    )]
    UnknownFormat(String),
    /// Its content is wrong.
    #[error("cannot import {path}:{line}: {text}")]
    Content {
        path: String,
        line: usize,
        text: String,
    },
    /// Several files that do not belong together.
    #[error("cannot import several files at once: only systemd units are; import one file")]
    Several,
    /// Nothing in it can be a module.
    #[error("cannot import {0}: nothing in it is a program to run")]
    Empty(String),
}

/// A mistake in a file: its line and what is wrong.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(line: usize, text: impl Into<String>) -> Fault {
        let text = text.into();
        Fault { line, text }
    }
}

/// Reads files of one kind as modules.
///
/// # Errors
/// A file cannot be read, is of no known kind, or its content is wrong.
pub(crate) fn import(files: &[PathBuf], format: Option<Format>) -> Result<Import, ImportError> {
    let mut found = Import::default();
    for path in files {
        let shown = path.display().to_string();
        let unreadable = |source| ImportError::Unreadable {
            path: shown.clone(),
            source,
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > FILE_MAX {
            let error = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
            return Err(unreadable(error));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let known = format.or_else(|| detect(path, &text));
        let known = known.ok_or_else(|| ImportError::UnknownFormat(shown.clone()))?;
        if files.len() > 1 && known != Format::Systemd {
            return Err(ImportError::Several);
        }
        let file = path.file_name().map(|name| name.to_string_lossy());
        found.begin(&file.unwrap_or_default(), folder_of(path));
        let read = match known {
            Format::Procfile => procfile::read(&text, &mut found),
            Format::Compose => compose::read(&text, &mut found),
            Format::ProcessCompose => process_compose::read(&text, &mut found),
            Format::Supervisor => supervisor::read(&text, &mut found),
            Format::Pm2 => pm2::read(&text, &mut found),
            Format::Systemd => systemd::read(&text, &mut found),
        };
        read.map_err(|Fault { line, text }| ImportError::Content {
            path: shown.clone(),
            line,
            text,
        })?;
    }
    if found.modules.is_empty() {
        let first = files.first().map(|path| path.display().to_string());
        return Err(ImportError::Empty(first.unwrap_or_default()));
    }
    found.finish();
    Ok(found)
}

/// The folder of a file, absolute.
fn folder_of(path: &Path) -> PathBuf {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.parent().map(Path::to_owned).unwrap_or_default()
}

/// The kind of a file by its name, else by what is in it.
fn detect(path: &Path, text: &str) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let ends = |end: &str| name.ends_with(end);
    let has = |start: &str| text.lines().any(|line| line.starts_with(start));
    if name.starts_with("procfile") || ends(".procfile") {
        return Some(Format::Procfile);
    }
    if ends(".service") || has("[Service]") {
        return Some(Format::Systemd);
    }
    if has("[program:") || has("[supervisord]") {
        return Some(Format::Supervisor);
    }
    if ends(".yml") || ends(".yaml") {
        return match (has("processes:"), has("services:")) {
            (true, false) => Some(Format::ProcessCompose),
            (false, true) => Some(Format::Compose),
            _ => None,
        };
    }
    (ends(".json") && text.contains("\"script\"")).then_some(Format::Pm2)
}
