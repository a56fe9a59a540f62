//! Env files of modules: their texts, read once, and the variables that they set.
//! Owns the texts, which a plan keeps: files that change later change nothing.
//! Never knows the grammar: that is `env_syntax`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::env_syntax::{Fault, Lookup, parse};
use super::layers::read_text;

pub(crate) use super::env_syntax::is_variable;

/// Variables in the order of their lines.
pub(crate) type EnvLines = Vec<(String, String)>;

/// The files that were read, or those that an earlier process read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnvFiles {
    /// By absolute path; None: it may be missing, and is.
    texts: BTreeMap<String, Option<String>>,
    /// Texts that a configuration before had: taken before a file is read.
    #[serde(skip)]
    known: BTreeMap<String, Option<String>>,
    /// Nothing more is read from disk.
    #[serde(skip)]
    frozen: bool,
}

/// Why a file sets no variables.
#[derive(Debug)]
pub(crate) enum EnvFileError {
    /// It cannot be read.
    Unreadable(String),
    /// Its text has faults.
    Faults(String, Vec<Fault>),
}

impl EnvFiles {
    /// As they were; files that changed since change nothing.
    pub(crate) fn frozen(mut self) -> EnvFiles {
        self.frozen = true;
        self
    }

    /// For keeping: as they are, without what this process may still do.
    pub(crate) fn snapshot(&self) -> EnvFiles {
        EnvFiles {
            texts: self.texts.clone(),
            ..EnvFiles::default()
        }
    }

    /// For a configuration of the same moment: files that changed since change nothing.
    pub(crate) fn of_the_same_moment(&self) -> EnvFiles {
        EnvFiles {
            known: self.texts.clone(),
            ..EnvFiles::default()
        }
    }

    /// All files and what they set, variables in values not replaced.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, EnvLines)> {
        self.texts.iter().map(|(path, text)| {
            let lines = variables(text.as_deref().unwrap_or_default(), None);
            (path.as_str(), lines.unwrap_or_default())
        })
    }

    /// Returns the variables of a file; with `lookup`, those in values are replaced.
    ///
    /// # Errors
    /// It cannot be read, unless it is `optional` and missing; its text has faults.
    pub(crate) fn lines(
        &mut self,
        path: &Path,
        optional: bool,
        lookup: Option<Lookup<'_>>,
    ) -> Result<EnvLines, EnvFileError> {
        let key = path.to_string_lossy().into_owned();
        if !self.texts.contains_key(&key) {
            if self.frozen {
                let reason = "it was not read when this plan was made";
                return Err(EnvFileError::Unreadable(reason.to_owned()));
            }
            let read = || match read_text(path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(EnvFileError::Unreadable(error.to_string())),
            };
            let text = self.known.remove(&key).map_or_else(read, Ok)?;
            self.texts.insert(key.clone(), text);
        }
        let text = self.texts.get(&key).cloned().flatten();
        if text.is_none() && !optional {
            let reason = "No such file or directory (os error 2)";
            return Err(EnvFileError::Unreadable(reason.to_owned()));
        }
        let text = text.unwrap_or_default();
        variables(&text, lookup).map_err(|faults| EnvFileError::Faults(text, faults))
    }
}

fn variables(text: &str, lookup: Option<Lookup<'_>>) -> Result<EnvLines, Vec<Fault>> {
    let read = parse(text, lookup)?;
    Ok(read.into_iter().map(|one| (one.name, one.value)).collect())
}

/// Returns a variable of this process's environment that modules may see too.
pub(crate) fn inherited(name: &str) -> Option<String> {
    let own = ["MAINSTAY", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"];
    match own.iter().any(|prefix| name.starts_with(prefix)) {
        true => None,
        false => std::env::var(name).ok(),
    }
}
