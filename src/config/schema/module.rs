//! The sections of one module: `[module.NAME]`, or a `module.toml` without the prefix.
//! Owns their keys with default, class and availability.
//! Never knows other modules: what refers to them is checked when the plan is made.

use std::collections::BTreeMap;

use mainstay_policy::spec;
use mainstay_process::{Signal, Stdin};

use super::choices::Rung;
use super::compound::{EnvFilePaths, RawDependency};
use super::probes::{RawProbe, RawReadiness};
use super::scalars::{
    BoundedInt, Capability, CommandLine, CpuPercent, Fraction, ModuleName, PositiveDuration,
    Signed, Template,
};
use super::sockets::RawSockets;
use super::system::{HealthSection, PositiveCount, RecoverySection};
use super::{FromConfig, ValueType, section};
use crate::config::read_context::ReadContext;
use crate::config::tree::Node;

section! {
    /// One module.
    ModuleSection {
        /// Its purpose in one line.
        Live description: String = String::new();
        /// Its version, shown in `status`.
        Live version: String = String::new();
        /// Program and arguments. A program with a slash is relative to `directory`, one without
        /// is looked up in PATH.
        Restart command: Option<CommandLine> = None;
        /// The working directory, and what relative paths of this module are relative to.
        Restart directory: Template = Template("${project}".to_owned());
        /// Variables of its environment.
        Restart env: BTreeMap<String, Template> = BTreeMap::new();
        /// Files of NAME=value lines, read before `env`, the last one wins: one path or a list. `-`
        /// before a path: it may be missing.
        Restart env_file: EnvFilePaths = EnvFilePaths::default();
        /// Replace `$NAME` and `${NAME}` in env files, by earlier lines or mainstay's environment.
        Restart env_expand: bool = false;
        /// The module's own table, delivered to it.
        Notify settings: SettingsTable = SettingsTable::default();
        /// Names of `[secrets]` that it gets as files of its own, `${secrets_dir}/NAME`: there
        /// while it runs, for its user alone. A secret that changes restarts the modules that
        /// use it.
        Restart secrets: Vec<ModuleName> = Vec::new();
        /// Names of `[secrets]` that it gets as variables: `{ VARIABLE = "NAME" }`. Children
        /// inherit them; a file is safer.
        Restart secret_env: BTreeMap<String, ModuleName> = BTreeMap::new();
        /// Start from an empty environment.
        Restart clear_env: bool = false;
        /// What it reads: nothing, or an idle pipe, for a program that exits at the end
        /// of its input.
        Restart stdin: Stdin = Stdin::Null;
        /// The user it runs as; only when mainstay runs as root.
        Restart user: Option<String> = None;
        /// The group it runs as; without it the user's.
        Restart group: Option<String> = None;
        /// Hard dependencies. "NAME" waits until ready.
        Live requires: Vec<RawDependency> = Vec::new();
        /// Soft dependencies: it starts after them if they can start, and runs without them
        /// otherwise.
        Live wants: Vec<RawDependency> = Vec::new();
        /// False: without it the system is degraded, never critical.
        Live required: bool = true;
        /// "lazy": on the first request, call or connection, or for a dependent; by call or
        /// connection again after it exited without a request, never after a stop.
        Live start: spec::StartMode = spec::StartMode::Eager;
        /// Free resources that its start requires.
        Live needs: NeedsSection = NeedsSection::default();
        /// Which modules are throttled last and get stop budget first.
        Live importance: spec::Importance = spec::Importance::Normal;
        /// Number of instances.
        Restart replicas: Replicas = Replicas;
        /// "task" runs to completion; "builtin" is the runtime's own.
        Restart kind: spec::Kind = spec::Kind::Service;
        /// How it becomes ready; "started": as soon as its process runs.
        Live ready: RawReadiness = RawReadiness::STARTED;
        /// Timeout from the start until it is ready.
        Live startup_timeout: PositiveDuration = PositiveDuration::seconds(30);
        /// Time of a stop: one deadline for the stop signal, the rest of the tree, `after_stop` and
        /// the kill.
        Live shutdown_timeout: PositiveDuration = PositiveDuration::seconds(10);
        /// The signal of a stop. It is sent to the main process; when that has exited and others of
        /// its tree are alive, they get it too and keep what is left of `shutdown_timeout`.
        Live stop_signal: StopSignal = StopSignal::default();
        /// The signal that tells the main process of changed settings. A module that answers with
        /// RELOADING=1 has `startup_timeout` for its READY=1.
        Live reload_signal: Option<StopSignal> = None;
        /// The command that tells it of changed settings, instead of a signal; it has
        /// `startup_timeout`, and its failure rolls the change back.
        Live reload_command: Option<CommandLine> = None;
        /// Sockets by name, each `address:port` or a path with a `/`: bound before its first start,
        /// kept while it restarts (connections wait), handed to it as `LISTEN_FDS`. A lazy module
        /// starts on the first connection.
        RestartDependents sockets: RawSockets = RawSockets::default();
        /// A lazy module is stopped when it was not used for this time: no connection to its
        /// `sockets`, no call. The next one starts it. Looked at every `resources.check_interval`;
        /// one that a running module requires goes on.
        Live idle_stop: Option<PositiveDuration> = None;
        /// Modules it may call over the bus. Without it: those it requires or wants.
        Live may_call: Option<Vec<ModuleName>> = None;
        /// Commands run before each start; one that fails is a failed start.
        Live before_start: Vec<CommandLine> = Vec::new();
        /// Commands run after each exit, within `shutdown_timeout`; after a stop, in what is left
        /// of it: a process that has to be killed is killed a tenth, at most a second, earlier.
        Live after_stop: Vec<CommandLine> = Vec::new();
        /// For development: files whose change restarts it, as patterns relative to `directory`
        /// (`*`, `?`, `[…]`, `{a,b}`, `**` for any folders). Saves in a row are one restart; what
        /// was stopped on request stays stopped.
        Live watch: Vec<FilePattern> = Vec::new();
        /// Files and folders that `watch` does not look at, as in a .gitignore: a pattern without
        /// `/` holds at every depth.
        Live watch_ignore: Vec<FilePattern> = FilePattern::unwatched();
        /// Commands run at idle priority after the initial startup.
        Live prewarm: Vec<CommandLine> = Vec::new();
        /// Its probes.
        Live health: ModuleHealthSection = ModuleHealthSection::default();
        /// Its limits.
        Restart limits: LimitsSection = LimitsSection::default();
        /// Its recovery after failures.
        Live recovery: ModuleRecoverySection = ModuleRecoverySection::default();
        /// Its isolation.
        Restart isolation: IsolationSection = IsolationSection::default();
        /// The name it had before: a module that runs under that name gets this one when the
        /// configuration is read again, and its process keeps running. Later it has no effect.
        Live renamed_from: Option<ModuleName> = None;
        /// The rungs of its throttle ladder. Without it: those of `[resources]`.
        Live rungs: Option<Vec<Rung>> = None;
    }
}

section! {
    /// Free resources that a start requires.
    NeedsSection {
        /// Free memory in MiB.
        Live memory_mb: Option<PositiveCount> = None;
        /// Free disk in the state directory in MiB.
        Live disk_mb: Option<BoundedInt<1, 1_000_000_000>> = None;
    }
}

section! {
    /// The probes of a module; intervals and thresholds are defaults of its probes.
    ModuleHealthSection over rates: HealthSection {
        /// The probes.
        Live probes: Vec<RawProbe> = Vec::new();
    }
}

section! {
    /// The limits of a module.
    LimitsSection {
        /// Open files (RLIMIT_NOFILE).
        Restart file_handles: Option<BoundedInt<8, 1_000_000_000>> = None;
        /// Its scheduling priority, from -20 (most CPU time) to 19. Only root may go below that of
        /// mainstay: for another user such a start fails with EPERM or EACCES.
        Restart nice: Option<Signed<-20, 19>> = None;
        /// Whom the kernel kills first when memory runs out: from -1000 (never) to 1000 (first).
        /// Only root may go below that of mainstay: for another user the start fails with EACCES.
        Restart oom_score_adj: Option<Signed<-1000, 1000>> = None;
        /// The processors that it may run on, by number. Linux.
        Restart cpu_affinity: Option<Vec<BoundedInt<0, 1023>>> = None;
        /// Disk transfer of all its processes together in MiB a second: for reading, and as much
        /// for writing, on each disk. Only control groups with an io controller enforce it.
        Live io_mb_per_s: Option<PositiveCount> = None;
        /// CPU time of all its processes together, in percent of one core: a standing ceiling.
        Live cpu_percent: Option<CpuPercent> = None;
        /// Memory of all its processes together in MiB.
        Live memory_mb: Option<BoundedInt<1, 1_000_000_000>> = None;
        /// Threads of all its processes together.
        Live threads: Option<PositiveCount> = None;
        /// Processes.
        Live processes: Option<PositiveCount> = None;
    }
}

section! {
    /// The recovery of a module; the defaults are those of `[recovery]`.
    ModuleRecoverySection over each: RecoverySection {
        /// After which endings it is restarted. Default: "always" for a service, "never" for a
        /// task.
        Live restart: Option<spec::RestartPolicy> = None;
        /// Exit codes that are not a failure.
        Live clean_exit_codes: Vec<BoundedInt<0, 255>> = vec![BoundedInt(0)];
        /// What it does when a module it requires is restarted.
        Live on_dependency_restart: spec::OnDependencyRestart = spec::OnDependencyRestart::Notify;
        /// What "restart_with_reset" clears.
        Live reset: ResetSection = ResetSection::default();
        /// What "degrade" switches off.
        Live degrade: DegradeSection = DegradeSection::default();
    }
}

section! {
    /// The isolation of a module.
    IsolationSection {
        /// It cannot gain rights by executing a file (sudo, setuid programs). Without the key: true
        /// where the system has that (Linux, FreeBSD).
        Restart no_new_privileges: Option<bool> = None;
        /// The capabilities it may have, such as "CAP_NET_BIND_SERVICE"; [] for none. Without the
        /// key those of its user. Linux, as root.
        Restart capabilities: Option<Vec<Capability>> = None;
        /// Paths it can only read, with all below them, relative to `directory`. Linux, as root.
        Restart read_only: Vec<Template> = Vec::new();
        /// `/tmp` and `/var/tmp` are its own, empty at each start. They lie in memory: each holds a
        /// tenth of it and 100 000 files at most. Linux, as root.
        Restart private_tmp: bool = false;
    }
}

section! {
    /// What "restart_with_reset" clears before the restart. If that restart fails too, the files
    /// are put back.
    ResetSection {
        /// Files and folders, relative to `directory`: each inside of the state directory, of
        /// `directory` or of the folder of `module.toml`. Links are removed and not followed.
        Live remove: Vec<Template> = Vec::new();
        /// Drop the messages that are queued for it on the bus.
        Live clear_queues: bool = false;
    }
}

section! {
    /// What "degrade" switches off until a run is stable. A module with the SDK is told; every
    /// module finds the features in `MAINSTAY_DEGRADED`.
    DegradeSection {
        /// The features.
        Live disable: Vec<String> = Vec::new();
        /// The share of the load that is left.
        Live reduce_load: Option<Fraction> = None;
    }
}

/// A module's own table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SettingsTable(pub(crate) serde_json::Map<String, serde_json::Value>);

impl FromConfig for SettingsTable {
    const FORM: ValueType = ValueType::Map(&ValueType::Any);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let table = at.table(node, Self::FORM)?;
        Some(SettingsTable(at.open_table(table)))
    }

    fn show(&self) -> String {
        "{}".to_owned()
    }
}

/// Number of instances: one, until routes exist.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Replicas;

impl FromConfig for Replicas {
    const FORM: ValueType = ValueType::Whole { min: 1, max: 1 };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        match node.value {
            crate::config::tree::TreeValue::Whole(1) => Some(Replicas),
            crate::config::tree::TreeValue::Whole(2..) => {
                let message = format!(
                    "cannot use {}: more than one is not available yet",
                    at.path()
                );
                at.problem(node.origin, message, "leave it out; each module runs once")
            }
            _ => at.type_error(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        "1".to_owned()
    }
}

/// A pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePattern(pub(crate) String);

impl FilePattern {
    /// What changes without being a change: what tools keep, and what editors write meanwhile.
    fn unwatched() -> Vec<FilePattern> {
        let names = [
            ".git",
            ".hg",
            ".svn",
            "node_modules",
            "__pycache__",
            ".venv",
            "*~",
            ".*.sw?",
            ".#*",
            "4913",
        ];
        names.map(|name| FilePattern(name.to_owned())).to_vec()
    }
}

impl FromConfig for FilePattern {
    const FORM: ValueType = ValueType::Template;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let Template(text) = Template::read(node, at)?;
        if let Err(why) = globset::Glob::new(&text) {
            let message = format!("cannot use {text:?} for {}: {why}", at.path());
            return at.problem(node.origin, message, "for instance \"src/**/*.py\"");
        }
        Some(FilePattern(text))
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

/// The stop signal of a module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StopSignal {
    pub(crate) name: String,
    pub(crate) signal: Signal,
}

impl Default for StopSignal {
    fn default() -> StopSignal {
        StopSignal {
            name: "SIGTERM".to_owned(),
            signal: Signal::TERMINATE,
        }
    }
}

impl FromConfig for StopSignal {
    const FORM: ValueType = ValueType::Signal;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?;
        let name = if text.starts_with("SIG") {
            text.to_owned()
        } else {
            format!("SIG{text}")
        };
        match super::choices::signal(&name) {
            Some(signal) => Some(StopSignal { name, signal }),
            None => at.type_error(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        self.name.show()
    }
}
