//! The lowered configuration beside `policy::spec`: how to start a module, and the system's values.
//! Owns these types; all paths in them are absolute.
//! Never holds what decisions need: that is `policy::spec`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_process::{Isolation, Limits, ListenerOwner, Probe, ProbeRole, Signal, Stdin};
use serde::{Deserialize, Serialize};

pub use super::key_source::KeySource;
pub use super::schema::choices::{EnforcementPolicy, LogFormat, LogStreams, ReloadMode};
pub use super::schema::compound::Principal;
use super::schema::system::{ForensicsSection, IpcSection};

/// The system's values, beside `policy::spec::SystemSpec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemConfig {
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
    /// The output of modules.
    pub logs: LogConfig,
    /// Who may use the control socket.
    pub ipc: IpcConfig,
    /// Interval between two samples of all modules.
    pub check_interval: Duration,
    /// Whether a saved file is applied.
    pub reload: ReloadMode,
    /// How long a reload is watched.
    pub reload_watch: Duration,
    /// The share of the machine above which the least important modules are throttled.
    pub throttle_threshold: f64,
    /// Whether a module starts whose limits this machine cannot enforce.
    pub enforcement: EnforcementPolicy,
    /// How much of the state of killed runs is kept.
    #[serde(default)]
    pub forensics: ForensicsConfig,
    /// Whether faults may be injected on request.
    #[serde(default)]
    pub chaos_allowed: bool,
    /// The key that decrypts secrets.
    #[serde(default)]
    pub secret_key: KeySource,
    /// Encrypted values.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// The features of modules.
    #[serde(default)]
    pub features: BTreeMap<String, Feature>,
}

/// A feature of modules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Feature {
    /// On or off.
    Switch(bool),
    /// On for a share of the instances, in percent.
    Percent(f64),
}

/// What mainstay keeps in the state directory itself, beside the logs.
const OWN_STATE: [&str; 11] = [
    "audit.head",
    "committed.json",
    "forensics",
    "holder.json",
    "key",
    "lock",
    "mark",
    "plans",
    "recovery",
    "secret.key",
    "staged.json",
];

impl SystemConfig {
    /// Whether a path is mainstay's own, or holds what is.
    #[must_use]
    pub fn is_own(&self, path: &Path) -> bool {
        let in_state = path.strip_prefix(&self.state_dir).ok();
        let first = in_state.and_then(|path| path.iter().next()?.to_str());
        let is_file = first.is_some_and(|name| OWN_STATE.contains(&name));
        let is_journal = first.is_some_and(|name| name.starts_with("journal."));
        let whole = [&self.logs.directory, &self.runtime_dir, &self.config_dir];
        let mut holders = whole.into_iter().chain([&self.state_dir]);
        let holds_own = holders.any(|own| own.starts_with(path));
        let is_inside = whole.into_iter().any(|own| path.starts_with(own));
        is_file || is_journal || holds_own || is_inside
    }
}

/// The output of modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The folder of the files.
    pub directory: PathBuf,
    /// A file is rotated at this size.
    pub max_bytes: u64,
    /// Rotated files kept beside the current one.
    pub keep: u32,
    /// The format of lines.
    pub format: LogFormat,
    /// Whether stdout and stderr are told apart.
    #[serde(default)]
    pub streams: LogStreams,
}

/// How much of the state of killed runs is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForensicsConfig {
    /// Bundles; 0: none is written.
    pub keep: u32,
    /// Bytes of all of them.
    pub max_bytes: u64,
}

/// Who may use the local socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpcConfig {
    /// Who may observe.
    pub observers: Vec<Principal>,
    /// Who may start, stop and restart.
    pub operators: Vec<Principal>,
    /// Who may change the configuration and stop the system.
    pub admins: Vec<Principal>,
    /// Changing requests and calls between modules a second, of one user or module.
    pub requests_per_second: u32,
}

impl From<&IpcSection> for IpcConfig {
    fn from(ipc: &IpcSection) -> IpcConfig {
        IpcConfig {
            observers: ipc.observers.clone(),
            operators: ipc.operators.clone(),
            admins: ipc.admins.clone(),
            requests_per_second: ipc.requests_per_second.small(),
        }
    }
}

impl From<&ForensicsSection> for ForensicsConfig {
    fn from(forensics: &ForensicsSection) -> ForensicsConfig {
        ForensicsConfig {
            keep: forensics.keep.small(),
            max_bytes: forensics.max_bytes.0,
        }
    }
}

/// How to start a module, and its description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Its purpose in one line; may be empty.
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
    /// What it reads.
    #[serde(default)]
    pub stdin: Stdin,
    /// The user, by name or number.
    pub user: Option<String>,
    /// The group, by name or number.
    pub group: Option<String>,
    /// The stop signal.
    pub stop_signal: Signal,
    /// How it is told of changed settings without a connection.
    #[serde(default)]
    pub reload: Option<ReloadBy>,
    /// Its own table, variables replaced.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Its limits.
    pub limits: Limits,
    /// It cannot gain rights by executing a file; None: where the system has that.
    pub no_new_privileges: Option<bool>,
    /// What it sees and may change of the system.
    #[serde(default)]
    pub isolation: Isolation,
    /// Commands before each start.
    pub before_start: Vec<Vec<String>>,
    /// Commands after each exit.
    pub after_stop: Vec<Vec<String>>,
    /// Commands at idle priority after the initial startup.
    pub prewarm: Vec<Vec<String>>,
    /// Which process has to hold the port of `ready`.
    #[serde(default)]
    pub ready_owner: ListenerOwner,
    /// Its probes; the watchdog is here and in its `ModuleSpec`.
    pub probes: Vec<ProbeSpec>,
    /// Sockets it receives: name, and `address:port` or an absolute path.
    pub sockets: Vec<(String, String)>,
    /// It is stopped after this time without use.
    #[serde(default)]
    pub idle_stop: Option<Duration>,
    /// Modules it may call over the bus.
    pub may_call: Vec<String>,
    /// Free resources that a start requires.
    pub needs: ResourceRequirements,
    /// What a reset clears.
    #[serde(default)]
    pub reset: ResetSpec,
    /// What is switched off in degraded mode.
    #[serde(default)]
    pub degrade: DegradeSpec,
    /// The secrets it gets.
    #[serde(default)]
    pub secrets: Vec<SecretUse>,
    /// The files it is made of: a change of one restarts it.
    #[serde(default)]
    pub watch: WatchSpec,
}

/// A secret that a module gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Its name.
    pub name: String,
    /// The encrypted value.
    pub sealed: String,
    /// The variable that holds it; without one it is a file.
    pub variable: Option<String>,
}

/// Files whose change restarts a module: patterns, relative to its directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchSpec {
    /// The files; none: nothing is watched.
    pub files: Vec<String>,
    /// Files and folders that are not looked at.
    pub ignore: Vec<String>,
}

/// What a reset clears.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetSpec {
    /// Files and folders: the directory that they are inside of, and the path from there.
    pub remove: Vec<(PathBuf, PathBuf)>,
    /// The messages that are queued for it on the bus.
    pub clear_queues: bool,
}

/// What is switched off in degraded mode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DegradeSpec {
    /// Features.
    pub disable: Vec<String>,
    /// The share of the load that is left.
    pub reduce_load: Option<f64>,
}

/// Free resources that the start of a module requires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRequirements {
    /// Free memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Free disk in the state directory in bytes.
    pub disk_bytes: Option<u64>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// Its kind.
    pub check: ProbeKind,
    /// Its role.
    pub role: ProbeRole,
    /// Which process has to hold the port.
    #[serde(default)]
    pub owner: ListenerOwner,
    /// Whether it checks less often on a busy machine.
    #[serde(default)]
    pub adaptive: bool,
    /// Interval between two probes.
    pub interval: Duration,
    /// Timeout of one probe.
    pub timeout: Duration,
    /// Failures in a row until unhealthy, at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row until healthy again, at least 1.
    pub healthy_threshold: u32,
    /// Delay of the first probe after the start.
    pub initial_delay: Duration,
}

/// The kind of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Calls the module over its connection.
    Sdk,
    /// The module sends `WATCHDOG=1` within this interval.
    Watchdog(Duration),
    /// Probes the module from outside.
    Probe(Probe),
}

/// How a module that runs is told of changed settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadBy {
    /// By a signal to its main process.
    Signal(Signal),
    /// By a command: program and arguments.
    Command(Vec<String>),
}
