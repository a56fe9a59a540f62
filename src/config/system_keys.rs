//! The keys of `[mainstay]` that say where a system keeps what is its own.
//! Owns how they are read from files that may have problems elsewhere.
//! Never validates a configuration.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use super::default_dirs;
use super::layers::read_text;
use super::overrides;
use super::paths::normalize;
use super::problem::Problems;
use super::sources::{ConfigSources, FILE};
use super::tree::TreeValue;

/// The name of a system whose configuration does not say one.
pub(crate) const DEFAULT_NAME: &str = "mainstay";
/// Limit of the systems of one user that are searched for the one of a folder.
const SYSTEMS_MAX: usize = 256;

/// The keys.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SystemKeys {
    pub(crate) name: Option<String>,
    pub(crate) state_dir: Option<String>,
    pub(crate) runtime_dir: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    mainstay: SystemKeys,
}

/// Why they cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemKeysError {
    /// The file.
    #[error("cannot read {}: {source}; name the system with --name", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The table.
    #[error("cannot read [mainstay] in {}: {text}; name the system with --name", path.display())]
    Parse { path: PathBuf, text: String },
}

/// Reads them from mainstay.toml and then conf.d, where later files win.
pub(crate) fn read_head(folder: &Path) -> Result<SystemKeys, SystemKeysError> {
    let mut head = read_file(&folder.join(FILE))?;
    let mut parts: Vec<PathBuf> = std::fs::read_dir(folder.join("conf.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    parts.sort();
    for path in parts {
        let later = read_file(&path)?;
        head.name = later.name.or(head.name);
        head.state_dir = later.state_dir.or(head.state_dir);
        head.runtime_dir = later.runtime_dir.or(head.runtime_dir);
    }
    Ok(head)
}

fn read_file(path: &Path) -> Result<SystemKeys, SystemKeysError> {
    let text = read_text(path).map_err(|source| SystemKeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    let whole = toml::from_str::<File>(&text);
    // While the file is being edited, `status` still works.
    let file = whole.or_else(|error| toml::from_str(table_text(&text)).map_err(|_| error));
    file.map(|file| file.mainstay)
        .map_err(|error| SystemKeysError::Parse {
            path: path.to_owned(),
            text: error.message().to_owned(),
        })
}

/// Returns the text of the `[mainstay]` table, from its header to the next one.
fn table_text(text: &str) -> &str {
    let mut offset = 0;
    let mut from = None;
    for line in text.split_inclusive('\n') {
        let start = line.trim_start();
        match from {
            None if start.starts_with("[mainstay]") => from = Some(offset),
            Some(from) if start.starts_with('[') => return &text[from..offset],
            _ => {}
        }
        offset += line.len();
    }
    from.map_or("", |from| &text[from..])
}

/// Resolves a path relative to the project, the folder that holds the configuration folder; None:
/// it has a variable that only a running mainstay knows.
pub(crate) fn expand(dir: &str, project: &Path) -> Option<PathBuf> {
    let project_text = project.to_string_lossy();
    // `$${` is a plain `${`.
    let parts = dir
        .split("$${")
        .map(|part| part.replace("${project}", &project_text));
    let parts: Vec<String> = parts.collect();
    if parts.iter().any(|part| part.contains("${")) {
        return None;
    }
    Some(project.join(parts.join("${")))
}

/// What the lines around a mistake in `[mainstay]` say.
pub(crate) fn recovered(folder: &Path) -> std::io::Result<SystemKeys> {
    let text = read_text(&folder.join(FILE))?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let mut table = super::tree::from_table(table.into_inner(), 0);
    let mainstay = table.remove("mainstay").map(|entry| entry.node);
    let text = |key| match &mainstay.as_ref()?.at(&[key])?.value {
        TreeValue::Text(text) => Some(text.clone()),
        _ => None,
    };
    Ok(SystemKeys {
        name: text("name"),
        state_dir: text("state_dir"),
        runtime_dir: text("runtime_dir"),
    })
}

/// Where the state of the system of `sources` may be, although its files have problems: what they
/// and the layers above them say, then the folders of this user's other systems.
pub(crate) fn state_dirs(sources: &ConfigSources) -> (PathBuf, Vec<PathBuf>) {
    let folder = normalize(&sources.folder);
    let head = read_head(&folder).or_else(|_| recovered(&folder));
    let head = head.unwrap_or_default();
    let mut texts = super::origin::SourceMap::new();
    let above = overrides::read(sources, &mut texts, &mut Problems::default());
    let above = |key| match &overrides::find(&above, &["mainstay", key])?.value {
        TreeValue::Text(text) => Some(text.clone()),
        _ => None,
    };
    let project = folder.parent().unwrap_or(&folder);
    let said = above("state_dir").or(head.state_dir);
    if let Some(dir) = said.and_then(|dir| expand(&dir, project)) {
        return (normalize(&dir), Vec::new());
    }
    let named = above("name");
    let name = named.clone().or(head.name);
    let name = name.unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let Ok(own) = default_dirs::state_dir(&name) else {
        return (PathBuf::new(), Vec::new());
    };
    let systems = own.parent().filter(|_| named.is_none());
    let systems = systems.and_then(|systems| std::fs::read_dir(systems).ok());
    let systems = systems.into_iter().flatten().take(SYSTEMS_MAX);
    let systems = systems.filter_map(|entry| Some(entry.ok()?.path()));
    let others = systems.filter(|system| *system != own).collect();
    (own, others)
}
