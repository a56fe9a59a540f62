//! The sources of a configuration: a folder, the environment, the command line.
//! Owns the search for the folder.
//! Never reads the files in it.

use std::path::{Path, PathBuf};

use super::paths::normalize;
use super::problem::{Problem, Problems};
use super::runtime_layer::RuntimeValue;
use super::trust;
use super::write_back::FileEdit;

/// The file every configuration has.
pub(crate) const FILE: &str = "mainstay.toml";

/// The sources of a configuration.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The folder with `mainstay.toml`; absolute.
    pub folder: PathBuf,
    /// Variables; those that start with `MAINSTAY__` are a layer.
    pub environment: Vec<(String, String)>,
    /// `key=value` texts of the command line.
    pub set: Vec<String>,
    /// Files with problems start nothing, not even the last committed plan.
    pub strict: bool,
    /// What `config set` said while the system ran; above all other layers.
    pub overrides: Vec<RuntimeValue>,
    /// A file that is read with the text it is to have, and not the one it has.
    pub edit: Option<FileEdit>,
    /// Modules that the application runs itself: they have no command.
    pub tasks: Vec<String>,
    /// Read instead of `mainstay.toml` (a file), or instead of the folder: what a plan is made of
    /// that is not to be applied. Paths in it are relative to what it stands for.
    pub candidate: Option<PathBuf>,
    /// Paths in it are displayed relative to it.
    pub current: PathBuf,
}

impl ConfigSources {
    /// Returns a folder alone, without environment and command line.
    #[must_use]
    pub fn folder(folder: &Path) -> ConfigSources {
        ConfigSources {
            folder: std::path::absolute(folder)
                .map_or_else(|_| folder.to_owned(), |p| normalize(&p)),
            ..ConfigSources::default()
        }
    }

    /// Returns a folder with the environment of this process and `key=value` texts.
    #[must_use]
    pub fn of_process(folder: &Path, set: &[String]) -> ConfigSources {
        let variables = std::env::vars_os();
        let variables = variables.filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(super::overrides::PREFIX)
                .then(|| (name, value.to_string_lossy().into_owned()))
        });
        ConfigSources {
            environment: variables.collect(),
            set: set.to_vec(),
            current: std::env::current_dir().unwrap_or_default(),
            ..ConfigSources::folder(folder)
        }
    }

    /// Finds the folder: the named one, `$MAINSTAY_CONFIG`, `./config`, the user's.
    ///
    /// # Errors
    /// A problem that names the searched folders and how to create one.
    pub fn find(named: Option<&Path>, set: &[String]) -> Result<ConfigSources, Problems> {
        let asked = std::env::var_os("MAINSTAY_CONFIG").filter(|folder| !folder.is_empty());
        let asked = asked.map(PathBuf::from);
        if let Some(folder) = named.or(asked.as_deref()) {
            return match unusable(folder) {
                None => Ok(ConfigSources::of_process(folder, set)),
                Some(problem) => Err(problem.into()),
            };
        }
        let user = directories::ProjectDirs::from("", "", "mainstay");
        let user = user.map(|user| user.config_dir().to_owned());
        let usual: Vec<PathBuf> = std::iter::once(PathBuf::from("config"))
            .chain(user)
            .collect();
        match usual.iter().find(|folder| folder.join(FILE).exists()) {
            Some(folder) if folder.is_relative() && !trust::is_own(folder) => {
                Err(foreign(folder).into())
            }
            Some(folder) => Ok(ConfigSources::of_process(folder, set)),
            None => Err(not_found(&usual).into()),
        }
    }

    /// Formats a path for display.
    pub(crate) fn display_path(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.current).ok();
        let inside = inside.filter(|_| !self.current.as_os_str().is_empty());
        inside.unwrap_or(path).display().to_string()
    }
}

fn foreign(folder: &Path) -> Problem {
    let shown = folder.display();
    let message = format!("cannot use {shown} here: it is another user's, and nobody named it");
    Problem::new(message).hint("name it with --config if it is meant")
}

/// Returns why a folder cannot be the configuration folder.
fn unusable(folder: &Path) -> Option<Problem> {
    let shown = folder.display();
    let (message, hint) = if folder.is_file() {
        let hint = format!("it is a file; name the folder that holds {FILE}");
        (
            format!("cannot use {shown} as the configuration folder"),
            hint,
        )
    } else if !folder.is_dir() {
        (
            format!("cannot find the configuration folder {shown}"),
            INIT.to_owned(),
        )
    } else if !folder.join(FILE).exists() {
        (format!("cannot find {FILE} in {shown}"), INIT.to_owned())
    } else {
        return None;
    };
    Some(Problem::new(message).hint(hint))
}

const INIT: &str = "`mainstay init` writes one to begin with";

fn not_found(looked: &[PathBuf]) -> Problem {
    let looked: Vec<String> = looked
        .iter()
        .map(|folder| folder.join(FILE).display().to_string())
        .collect();
    let hint = match Path::new(FILE).is_file() {
        true => {
            "there is a mainstay.toml right here: `--config .` takes it, and so does a folder \
                 `config` around it without any word"
        }
        false => {
            "name its folder with --config or $MAINSTAY_CONFIG, or let `mainstay init` write one"
        }
    };
    Problem::new(format!(
        "cannot find a configuration: searched {}",
        looked.join(" and ")
    ))
    .hint(hint)
}
