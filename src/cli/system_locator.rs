//! Finds the system that a command addresses, and its control socket.
//! Owns the order of the sources: options, environment, two keys of the configuration.
//! Never validates a configuration: a file with errors elsewhere still names its system.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_client::{Error as ClientError, locate};
use mainstay_protocol::PROTOCOL;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::Hello;
use serde::Deserialize;

use super::args::GlobalArgs;
use super::error::CliError;
use crate::config::ConfigSources;
use crate::config::system_keys::{
    DEFAULT_NAME, SystemKeys, SystemKeysError, expand, read_head, recovered,
};

/// The file a configuration folder must hold.
const FILE: &str = "mainstay.toml";
/// Timeout of the hello: a runtime that is restarting has returned by then.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Time a lost connection is retried.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest number of other systems that are listed.
const OTHERS: usize = 5;
const POLL: Duration = Duration::from_millis(50);

/// A system, running or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SystemLocator {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    /// Its configuration; none if the name or the socket was given as an option.
    pub(crate) config_dir: Option<PathBuf>,
}

/// Why the system cannot be determined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocateError {
    #[error("cannot find {FILE} in {}; name another folder with --config", .0.display())]
    NoFile(PathBuf),
    #[error(transparent)]
    Keys(#[from] SystemKeysError),
    #[error(
        "cannot find the control socket: runtime_dir \"{0}\" uses a variable that only the \
         running mainstay knows; name the socket with --socket"
    )]
    Variable(String),
    #[error(transparent)]
    Locate(ClientError),
}

/// The environment of the process: variables and folders.
pub(crate) struct ProcessEnvironment<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) current: PathBuf,
    pub(crate) user_config: Option<PathBuf>,
}

impl SystemLocator {
    /// Finds the system by options, environment or configuration.
    pub(crate) fn find(global: &GlobalArgs) -> Result<SystemLocator, LocateError> {
        with_surroundings(|around| SystemLocator::find_in(global, around))
    }

    fn find_in(
        global: &GlobalArgs,
        around: &ProcessEnvironment<'_>,
    ) -> Result<SystemLocator, LocateError> {
        let control = (around.variable)("MAINSTAY_CONTROL").map(PathBuf::from);
        if let Some(socket) = global.socket.clone().or(control) {
            let folder = socket.parent().and_then(Path::file_name);
            let folder = folder.map(|name| name.to_string_lossy().into_owned());
            let name = global
                .name
                .clone()
                .or(folder)
                .unwrap_or_else(|| DEFAULT_NAME.to_owned());
            return Ok(SystemLocator {
                name,
                socket,
                config_dir: None,
            });
        }
        // With `--name` and without `--config`, an unreadable configuration is ignored.
        let lenient = global.name.is_some() && global.config.is_none();
        let folder = match config_folder_in(global, around) {
            Err(_) if lenient => None,
            folder => folder?,
        };
        let mut head = match folder.as_deref() {
            None => SystemKeys::default(),
            // The name is said: what can be read of the rest is enough.
            Some(folder) if global.name.is_some() => read_head(folder)
                .ok()
                .or_else(|| recovered(folder).ok())
                .unwrap_or_default(),
            Some(folder) => match read_head(folder) {
                Err(error @ SystemKeysError::Parse { .. }) => {
                    head_in_spite_of_mistakes(folder).ok_or(error)?
                }
                head => head?,
            },
        };
        let text = |key| (around.variable)(key).and_then(|value| value.into_string().ok());
        head.name = text("MAINSTAY__MAINSTAY__NAME").or(head.name);
        head.runtime_dir = text("MAINSTAY__MAINSTAY__RUNTIME_DIR").or(head.runtime_dir);
        let name = global
            .name
            .clone()
            .or(head.name)
            .unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let project = folder
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(&around.current);
        let runtime_dir = match head.runtime_dir {
            Some(dir) => expand(&dir, project).ok_or(LocateError::Variable(dir))?,
            None => locate::runtime_dir(&name).map_err(LocateError::Locate)?,
        };
        Ok(SystemLocator {
            name,
            socket: locate::control_socket(&runtime_dir),
            config_dir: folder.filter(|_| global.name.is_none()),
        })
    }

    /// Connects to the system. If no process listens, the error has what its holder wrote last.
    pub(crate) fn connect(&self) -> Result<Client, CliError> {
        self.connect_calling(&[])
    }

    /// The same; sends these calls in one write with hello, for those that follow.
    pub(crate) fn connect_calling(&self, methods: &[&'static str]) -> Result<Client, CliError> {
        let hello = Hello {
            client: concat!("mainstay-cli ", env!("CARGO_PKG_VERSION")).to_owned(),
            protocol: PROTOCOL,
            token: None,
        };
        let client = Client::connect_calling(&self.socket, &hello, HELLO_TIMEOUT, methods);
        let name = self.name.clone();
        client
            .map(|client| client.with_timeout(mainstay_client::CALL_TIMEOUT))
            .map_err(|error| {
                let mut holder = holder_note(&self.socket).unwrap_or_default();
                if matches!(error, ClientError::NotRunning { .. }) {
                    let folder = locate::runtime_dir(&self.name).ok();
                    let folder = folder.as_deref().and_then(Path::parent);
                    holder += &list_others(folder, &self.name);
                }
                match error {
                    ClientError::NotRunning { path } => CliError::NotRunning {
                        name,
                        holder,
                        path: path.display().to_string(),
                    },
                    source => CliError::NotAnswering {
                        name,
                        holder,
                        source,
                    },
                }
            })
    }

    /// Connects to show what it does, and says on stderr when it is not the system of the
    /// configuration that led to it.
    pub(crate) fn connect_to_show(&self, methods: &[&'static str]) -> Result<Client, CliError> {
        let client = self.connect_calling(methods)?;
        if let Some((theirs, ours)) = self.other_config_dir() {
            let name = &self.name;
            super::terminal::print_error(&format!(
                "warning: '{name}' runs with the configuration {theirs}, and the one here is {ours}"
            ));
        }
        Ok(client)
    }

    /// Connects to change it: only when it runs with the configuration that led to it. Another
    /// system may have the same name.
    pub(crate) fn connect_to_change(&self) -> Result<Client, CliError> {
        let client = self.connect()?;
        match self.other_config_dir() {
            Some((theirs, ours)) => {
                let name = &self.name;
                let text = format!(
                    "cannot change '{name}': it runs with the configuration {theirs}, and the one \
                     here is {ours}; name the system with `--config {theirs}` or `--name {name}`, \
                     or set another mainstay.name here"
                );
                Err(CliError::new(CliExitCode::Refused, text))
            }
            None => Ok(client),
        }
    }

    /// The folder of the running system's configuration and the caller's own, where they differ.
    pub(crate) fn other_config_dir(&self) -> Option<(String, String)> {
        let theirs = PathBuf::from(read_holder_status(&self.socket)?.config_dir);
        let ours = self.config_dir.as_ref()?;
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let differ = !theirs.as_os_str().is_empty() && real(&theirs) != real(ours);
        let shown =
            |path: &Path| super::format::single_line(&path.display().to_string()).into_owned();
        differ.then(|| (shown(&theirs), shown(ours)))
    }

    /// Returns whether the system was or is being stopped in order: its holder removes its file.
    pub(crate) fn is_leaving(&self) -> bool {
        read_holder_status(&self.socket).is_none_or(|holder| holder.state == "stopping")
    }

    /// Reconnects after the connection was lost: a killed runtime returns soon.
    #[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
    pub(crate) fn connect_again(&self) -> Result<Client, CliError> {
        let until = Instant::now() + RECONNECT_TIMEOUT;
        loop {
            match self.connect() {
                Err(CliError::NotAnswering { .. }) if Instant::now() < until => {
                    std::thread::sleep(POLL);
                }
                connected => return connected,
            }
        }
    }
}

fn with_surroundings<T>(find: impl FnOnce(&ProcessEnvironment<'_>) -> T) -> T {
    let dirs = directories::ProjectDirs::from("", "", "mainstay");
    find(&ProcessEnvironment {
        variable: &|name| std::env::var_os(name).filter(|value| !value.is_empty()),
        current: std::env::current_dir().unwrap_or_default(),
        user_config: dirs.map(|dirs| dirs.config_dir().to_owned()),
    })
}

fn config_folder_in(
    global: &GlobalArgs,
    around: &ProcessEnvironment<'_>,
) -> Result<Option<PathBuf>, LocateError> {
    let asked = (around.variable)("MAINSTAY_CONFIG").map(PathBuf::from);
    if let Some(folder) = global.config.clone().or(asked) {
        let folder = ConfigSources::folder(&around.current.join(folder)).folder;
        return if folder.join(FILE).exists() {
            Ok(Some(folder))
        } else {
            Err(LocateError::NoFile(folder))
        };
    }
    let usual = [
        Some(around.current.join("config")),
        around.user_config.clone(),
    ];
    Ok(usual
        .into_iter()
        .flatten()
        .find(|folder| folder.join(FILE).exists()))
}

/// `holder.json`.
#[derive(Deserialize)]
struct HolderStatusFile {
    pid: i32,
    runtime_pid: Option<i32>,
    state: String,
    #[serde(default)]
    restarts: u64,
    since: Option<serde_json::Value>,
    #[serde(default)]
    config_dir: String,
}

fn read_holder_status(socket: &Path) -> Option<HolderStatusFile> {
    let text = std::fs::read(socket.parent()?.join("holder.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The runtime directories in a folder of which a system runs, with what its holder wrote.
fn running(folder: Option<&Path>) -> impl Iterator<Item = (PathBuf, HolderStatusFile)> {
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let found = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    found.filter_map(|found| {
        let holder = read_holder_status(&locate::control_socket(&found))?;
        lives(holder.pid).then_some((found, holder))
    })
}

/// Which system a configuration is of that cannot be read: the one that runs with it, or what is
/// legible. A mistake that is being made must not lock anybody out of what runs.
fn head_in_spite_of_mistakes(folder: &Path) -> Option<SystemKeys> {
    let usual = locate::runtime_dir(DEFAULT_NAME).ok();
    let real = folder.canonicalize().ok()?;
    let of_folder = |holder: &HolderStatusFile| {
        Path::new(&holder.config_dir).canonicalize().ok().as_ref() == Some(&real)
    };
    let mut ours = running(usual.as_deref().and_then(Path::parent))
        .filter(|(_, holder)| of_folder(holder))
        .map(|(dir, _)| dir);
    if let (Some(dir), None) = (ours.next(), ours.next()) {
        return Some(SystemKeys {
            name: Some(dir.file_name()?.to_str()?.to_owned()),
            runtime_dir: Some(dir.to_str()?.replace("${", "$${")),
            ..SystemKeys::default()
        });
    }
    let legible = recovered(folder).ok()?;
    (legible.name.is_some() || legible.runtime_dir.is_some()).then_some(legible)
}

/// Lists the systems that run in this folder under other names, if any.
fn list_others(folder: Option<&Path>, name: &str) -> String {
    let mut names: Vec<String> = running(folder)
        .filter_map(|(found, _)| Some(found.file_name()?.to_str()?.to_owned()))
        .filter(|found| found != name)
        .collect();
    names.sort();
    let more = match names.len().saturating_sub(OTHERS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(OTHERS);
    match names.is_empty() {
        true => String::new(),
        false => {
            let names = super::format::single_line(&names.join(", ")).into_owned();
            format!("\nrunning under other names: {names}{more}; name one with --name")
        }
    }
}

/// Describes the holder by `holder.json` beside the socket, running or dead.
fn holder_note(socket: &Path) -> Option<String> {
    let holder = read_holder_status(socket)?;
    let lives = if lives(holder.pid) {
        ""
    } else {
        ", which is gone"
    };
    let since = match holder.since {
        Some(serde_json::Value::String(since)) => format!(" since {since}"),
        Some(since) if !since.is_null() => format!(" since {since}"),
        _ => String::new(),
    };
    let runtime = match holder.runtime_pid {
        Some(pid) if pid > 0 => format!("runtime {pid}"),
        _ => "no runtime".to_owned(),
    };
    let restarts = match holder.restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        times => format!(", restarted {times} times"),
    };
    Some(format!(
        "\nits holder (pid {}{lives}) last wrote: {}{since}, {runtime}{restarts}",
        holder.pid,
        super::format::single_line(&holder.state),
    ))
}

/// Returns whether a process with this pid exists and is not a zombie.
#[cfg(unix)]
pub(crate) fn lives(pid: i32) -> bool {
    if pid <= 0 {
        return false;
    }
    let dead = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    });
    let asked = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    !dead && asked != Err(nix::errno::Errno::ESRCH)
}

#[cfg(windows)]
pub(crate) fn lives(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(crate::os::machine::lives)
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
