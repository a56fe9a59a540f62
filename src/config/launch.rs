//! What a configuration is lowered to, beside the words of policy: how to start a module, and
//! what holds for the system. Owns these types; all paths in them are absolute.
//! Never holds what decisions need: that is `policy::spec`.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_process::{Limits, Probe, Signal};
use serde::{Deserialize, Serialize};

pub use super::schema::shapes::Who;
pub use super::schema::words::{LogFormat, Role};

/// What holds for the system, beside `policy::spec::SystemSpec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Names the socket, the state directory and the service.
    pub name: String,
    /// The folder with `mainstay.toml`.
    pub config_dir: PathBuf,
    /// The folder that holds it: `${project}`.
    pub project: PathBuf,
    /// Where the journal and the last committed plan are kept.
    pub state_dir: PathBuf,
    /// Where the sockets are.
    pub runtime_dir: PathBuf,
    /// What modules write.
    pub logs: Logs,
    /// Who may talk to it.
    pub ipc: Ipc,
    /// From one sample of all modules to the next.
    pub check_interval: Duration,
}

/// What modules write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// The folder of the files.
    pub directory: PathBuf,
    /// A file is rotated at this size.
    pub max_bytes: u64,
    /// Rotated files kept beside the current one.
    pub keep: u32,
    /// How lines are kept.
    pub format: LogFormat,
}

/// Who may talk to mainstay over the local socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipc {
    /// Who may look.
    pub observers: Vec<Who>,
    /// Who may start, stop and restart.
    pub operators: Vec<Who>,
    /// Who may change the configuration and stop the system.
    pub admins: Vec<Who>,
    /// Changing requests and calls between modules a second, of one user or module.
    pub requests_per_second: u32,
}

/// How to start a module, and what else the runtime knows of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// One line of what it is for; may be empty.
    pub description: String,
    /// Its version; may be empty.
    pub version: String,
    /// Program and arguments; empty for a builtin.
    pub argv: Vec<String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The folder of its `module.toml`, if it has one.
    pub module_dir: Option<PathBuf>,
    /// Variables: those of `env_file` first, then `env`; each name once.
    pub env: Vec<(String, String)>,
    /// Start from an empty environment.
    pub clear_env: bool,
    /// The user, by name or number.
    pub user: Option<String>,
    /// The group, by name or number.
    pub group: Option<String>,
    /// The signal that asks it to stop.
    pub stop_signal: Signal,
    /// Its own table, variables replaced.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// What it may use.
    pub limits: Limits,
    /// It cannot gain rights by executing a file.
    pub no_new_privileges: bool,
    /// Commands before each start.
    pub before_start: Vec<Vec<String>>,
    /// Commands after each end.
    pub after_stop: Vec<Vec<String>>,
    /// Commands at idle priority after the start of the system.
    pub prewarm: Vec<Vec<String>>,
    /// How it is looked at; the watchdog is here and in its `ModuleSpec`.
    pub probes: Vec<ProbeSpec>,
    /// Sockets it is handed: name, and `address:port` or an absolute path.
    pub sockets: Vec<(String, String)>,
    /// Modules it may call over the bus.
    pub may_call: Vec<String>,
    /// What the machine must have left.
    pub needs: Needs,
}

/// What the machine must have left for a module to start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Free memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Free disk in the state directory in bytes.
    pub disk_bytes: Option<u64>,
}

/// One way a module is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// What is done.
    pub check: Check,
    /// What it is for.
    pub role: Role,
    /// From one look to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row until unhealthy, at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row until healthy again, at least 1.
    pub healthy_threshold: u32,
    /// Before the first look after the start.
    pub initial_delay: Duration,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Asks the module over its connection.
    Sdk,
    /// The module says `WATCHDOG=1` at least this often.
    Watchdog(Duration),
    /// Looks at the module from outside.
    Probe(Probe),
}
