//! Where the key of secrets is.
//! Owns how that is written.
//! Never reads a key.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::paths::normalize;

/// How a place in the keyring of the kernel is written.
const KEYRING: &str = "keyring:";

/// Where the key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum KeySource {
    /// In a file that this user alone may read.
    File(PathBuf),
    /// In the kernel's keyring of this user, under a name.
    Keyring(String),
}

impl KeySource {
    /// What a configuration says: `keyring:NAME`, else a path below `folder`. Without a name it is
    /// that of the `system`.
    pub(crate) fn of(text: &str, folder: &Path, system: &str) -> KeySource {
        match text.strip_prefix(KEYRING) {
            Some("") => KeySource::Keyring(system.to_owned()),
            Some(name) => KeySource::Keyring(name.to_owned()),
            None => KeySource::File(normalize(&folder.join(text))),
        }
    }
}

impl Default for KeySource {
    fn default() -> KeySource {
        KeySource::File(PathBuf::new())
    }
}

impl From<String> for KeySource {
    fn from(text: String) -> KeySource {
        match text.strip_prefix(KEYRING) {
            Some(name) => KeySource::Keyring(name.to_owned()),
            None => KeySource::File(text.into()),
        }
    }
}

impl From<KeySource> for String {
    fn from(source: KeySource) -> String {
        source.to_string()
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File(path) => path.display().fmt(f),
            KeySource::Keyring(name) => write!(f, "{KEYRING}{name}"),
        }
    }
}
