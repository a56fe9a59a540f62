//! The actors: each owns one thing and performs what policy decided about it.
//! Owns the tree below and is the only folder that knows ractor.
//! Never decides what becomes of a run, never awaits in `handle` except for spawning a child.
//!
//! ```text
//! root ──┬── registry     the only writer of the snapshots that readers get
//!        ├── lifecycle    policy::Lifecycle: desired states, order, restarts
//!        ├── module × n   policy::RunMachine: one run of one process
//!        ├── recovery     procedures before restarts, the record of verdicts, their validation
//!        ├── health       probe schedules
//!        ├── resources    samples
//!        ├── config       the configuration in force, and what the files say now
//!        ├── source files restarts of modules whose own files changed
//!        └── gateway      the sockets and their connections
//! ```
//!
//! Every actor is linked to root. The death of an actor is a bug in mainstay: root starts it again,
//! its state is rebuilt from the others, and no module process notices. Messages find their
//! receiver
//! through the actor references, which lead to the new actor from then on.
//!
//! Mailboxes have no bound in ractor; here they are bounded by credits, stated at the head of each
//! actor.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::ArcSwap;
use mainstay_policy::lifecycle::SystemInfo;
use mainstay_policy::plan::Plan;
use mainstay_policy::{ModuleId, ModuleSpec};
use mainstay_process::Instance;
use mainstay_protocol::Timestamp;

use crate::config::{Configuration, LaunchSpec, LogConfig};
use crate::os::Os;

mod actor_refs;
pub(crate) mod auth_token;
pub(crate) mod config;
pub(crate) mod convert;
pub(crate) mod event_recorder;
mod feature_files;
pub(crate) mod features;
pub(crate) mod gateway;
pub(crate) mod health;
pub(crate) mod holder_setup;
pub(crate) mod launching;
pub(crate) mod lifecycle;
pub(crate) mod log_followers;
pub(crate) mod module;
mod module_memory;
mod notify_parser;
pub(crate) mod planned;
mod probing;
#[cfg(test)]
mod ractor_contract;
pub(crate) mod readiness;
pub(crate) mod record;
pub(crate) mod recorded_exits;
mod recovery_trials;
pub(crate) mod registry;
mod resources;
pub(crate) mod root;
pub(crate) mod secret_files;
pub(crate) mod settings_files;
mod slot_store;
pub(crate) mod snapshots;
pub(crate) mod source_files;
#[cfg(test)]
pub(crate) mod tests;
mod timer;
pub(crate) mod upgrade;

pub(crate) use actor_refs::ActorRefs;
pub(crate) use feature_files::FeatureFiles;
pub(crate) use planned::{CommittedPlan, Planned, PlannedModule};
pub(crate) use slot_store::SlotStore;

#[cfg(panic = "abort")]
compile_error!("supervision of actors needs unwinding: build with panic = \"unwind\"");

/// What every actor shares: the plan in force, the machine, the snapshots, the event recorder.
pub(crate) struct RuntimeContext {
    /// Where the configuration is read from.
    pub(crate) sources: crate::config::ConfigSources,
    /// The newest plan; swapped as a whole.
    pub(crate) planned: ArcSwap<Planned>,
    /// The plan with which a returning runtime continues; the newest may be under watch.
    pub(crate) committed: ArcSwap<CommittedPlan>,
    /// What each module follows at the moment: its run may still be of a former plan.
    pub(crate) definitions: SlotStore<ArcSwap<PlannedModule>>,
    /// The machine.
    pub(crate) os: Arc<dyn Os>,
    /// What readers see.
    pub(crate) snapshots: Arc<snapshots::SnapshotStore>,
    /// Records events in the journal.
    pub(crate) recorder: event_recorder::EventRecorder,
    /// How actors find each other.
    pub(crate) actor_refs: ActorRefs,
    /// Whether the run of each module, or the next one, has features switched off.
    pub(crate) degraded: SlotStore<AtomicBool>,
    /// The files of features that are to be written.
    pub(crate) feature_files: FeatureFiles,
    /// The plain values of secrets.
    pub(crate) secrets: ArcSwap<secret_files::SecretStore>,
    /// The event bus and the modules' connections.
    pub(crate) bus: Arc<crate::bus::Bus>,
    /// Clients and checks that read a module's output while it is written.
    pub(crate) log_followers: log_followers::LogFollowers,
    /// Signs and checks modules' tokens.
    pub(crate) tokens: auth_token::TokenSigner,
    /// When `up` began, on the monotonic clock.
    pub(crate) up_since: mainstay_policy::MonoTime,
    /// The holder's process.
    pub(crate) holder: HolderPid,
    /// The console of `mainstay up`, if there is one.
    pub(crate) announce: Option<ConsoleSink>,
    /// The holder created removed directories again: their files are to be written again.
    pub(crate) directories_restored: tokio::sync::Notify,
    /// The last upgrade that the holder knows of.
    pub(crate) upgrade: upgrade::LastUpgrade,
    /// Ends of runs that an earlier runtime recorded.
    pub(crate) recorded_exits: std::sync::OnceLock<recorded_exits::RecordedExits>,
    /// Reloads that a signal requested.
    pub(crate) signalled_reloads: tokio::sync::watch::Sender<SignalledReloads>,
}

/// The process of the holder, which may be another one after its death.
pub(crate) struct HolderPid {
    first: u32,
    current: AtomicU32,
}

impl From<u32> for HolderPid {
    fn from(pid: u32) -> HolderPid {
        HolderPid {
            first: pid,
            current: AtomicU32::new(pid),
        }
    }
}

impl HolderPid {
    pub(crate) fn get(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    pub(crate) fn replace(&self, pid: u32) {
        self.current.store(pid, Ordering::Relaxed);
    }

    /// Orphans of modules that an earlier one started do not come back to this one.
    pub(crate) fn is_successor(&self) -> bool {
        self.get() != self.first
    }
}

/// Reloads that a signal requested, for a service manager that waits for their end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SignalledReloads {
    /// So far.
    pub(crate) total: u64,
    /// Not completed.
    pub(crate) pending: u64,
}

/// Called with a message whenever a module or the system changes its state.
pub(crate) type ConsoleSink = Arc<dyn Fn(ConsoleMessage<'_>) + Send + Sync>;

/// The target of log lines that say what an announcement says too.
pub(crate) const CONSOLE_TARGET: &str = "mainstay::actors::announced";

/// A message for the console.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ConsoleMessage<'a> {
    /// A module changed its state.
    StateChanged {
        /// Its name.
        module: &'a str,
        /// Its new state.
        state: mainstay_protocol::ModuleState,
        /// More, in words.
        text: &'a str,
        /// What makes it ready, while it starts.
        awaits: Option<&'a str>,
    },
    /// Something about the whole system.
    System(&'a str),
    /// Other limits hold for files of lines.
    LogsChanged(&'a LogConfig),
    /// All modules are to be stopped.
    Stopping,
}

impl RuntimeContext {
    /// The plan in force with what belongs to it. A handler reads it once and keeps the value.
    pub(crate) fn planned(&self) -> Arc<Planned> {
        self.planned.load_full()
    }

    /// Makes room for the modules of a plan that is to follow, so that every reader of the plan
    /// will find them.
    pub(crate) fn make_room(&self, planned: &Planned) {
        // Until the plan is in force, modules keep their names.
        let mut names = self.planned().names();
        names.extend(planned.names().into_iter().skip(names.len()));
        self.set_names(names);
        self.snapshots.grow(planned.slots(), self.os.wall_clock());
        self.actor_refs.grow(planned.slots());
        self.degraded
            .grow(planned.slots(), |_| AtomicBool::default());
        self.definitions
            .grow(planned.slots(), |id| planned.define(id));
    }

    /// Puts a plan in force, after [`RuntimeContext::make_room`]. Each module continues with what
    /// it
    /// follows until [`RuntimeContext::follow_plan`].
    pub(crate) fn replace_plan(&self, planned: Planned) {
        self.set_names(planned.names());
        self.planned.store(Arc::new(planned));
    }

    fn set_names(&self, names: Vec<Arc<str>>) {
        for (slot, name) in (0_u32..).zip(&names) {
            self.bus.register(ModuleId(slot), Arc::clone(name));
        }
        self.recorder.set_names(names);
    }

    /// Lets a module follow the newest plan; returns what it followed before.
    pub(crate) fn follow_plan(&self, module: ModuleId) -> Arc<PlannedModule> {
        let newest = self.planned.load().module(module).clone();
        self.definitions.get(module).swap(Arc::new(newest))
    }

    /// What a module follows at the moment.
    pub(crate) fn definition(&self, module: ModuleId) -> Arc<PlannedModule> {
        self.definitions.get(module).load_full()
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.planned.load().plan)
    }

    /// The configuration in force.
    pub(crate) fn configuration(&self) -> Arc<Configuration> {
        Arc::clone(&self.planned.load().configuration)
    }

    /// The specification that a module follows.
    pub(crate) fn spec(&self, module: ModuleId) -> Arc<ModuleSpec> {
        Arc::clone(&self.definition(module).spec)
    }

    /// How a module is started.
    pub(crate) fn launch(&self, module: ModuleId) -> Arc<LaunchSpec> {
        Arc::clone(&self.definition(module).launch)
    }

    /// How the module in a slot is started, if the plan ever had one there.
    pub(crate) fn launch_of(&self, slot: usize) -> Option<Arc<LaunchSpec>> {
        let slot = u32::try_from(slot).ok()?;
        ((slot as usize) < self.planned().slots()).then(|| self.launch(ModuleId(slot)))
    }

    /// A module's name, by the newest plan that has it.
    pub(crate) fn name(&self, module: ModuleId) -> Arc<str> {
        match self.planned.load().get(module) {
            Some(planned) => Arc::clone(&planned.name),
            None => Arc::clone(&self.definition(module).name),
        }
    }

    /// What the holder runs for a module.
    pub(crate) fn instance(&self, module: ModuleId) -> Instance {
        self.definition(module).instance.clone()
    }

    /// The file with a module's newest output.
    pub(crate) fn log_file(&self, module: ModuleId) -> PathBuf {
        let directory = &self.configuration().system.logs.directory;
        directory.join(format!("{}.log", self.instance(module)))
    }

    /// Their names, for a message.
    pub(crate) fn names(&self, modules: &[ModuleId]) -> String {
        let planned = self.planned();
        let names: Vec<&str> = modules.iter().map(|id| &**planned.name(*id)).collect();
        names.join(", ")
    }

    /// Why the system is not healthy, if so.
    pub(crate) fn reason(&self, summary: &SystemInfo) -> Option<String> {
        let down = summary.stopped.iter().chain(&summary.stopped_optional);
        let down: Vec<ModuleId> = down.copied().collect();
        let waiting = summary.missing.iter().chain(&summary.waiting_optional);
        let waiting: Vec<ModuleId> = waiting.copied().collect();
        let stopped = match &down[..] {
            [_] => "was stopped on request",
            _ => "were stopped on request",
        };
        let parts = [
            ("failed: ", &summary.failing, ""),
            ("not well: ", &summary.degraded, ""),
            ("", &down, stopped),
            ("not running: ", &waiting, ""),
        ];
        let parts = parts.iter().filter(|(_, modules, _)| !modules.is_empty());
        let said = parts.map(|(before, modules, behind)| {
            format!("{before}{} {behind}", self.names(modules))
                .trim_end()
                .to_owned()
        });
        Some(said.collect::<Vec<_>>().join("; ")).filter(|said| !said.is_empty())
    }

    /// The module that the holder runs under this name, also when the newest plan has it no more:
    /// its last run may still be stopping.
    pub(crate) fn find_instance(&self, instance: &str) -> Option<ModuleId> {
        self.planned
            .load()
            .configuration
            .ids
            .find_instance(instance)
    }

    /// The module with this name in the newest plan.
    pub(crate) fn find(&self, name: &str) -> Option<ModuleId> {
        self.planned.load().plan.find(name)
    }

    /// A point of policy's time on the wall.
    pub(crate) fn to_wall_clock(&self, at: mainstay_policy::MonoTime) -> Timestamp {
        let (now, wall) = (self.os.now(), self.os.wall_clock());
        let ahead = u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
        let behind = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        Timestamp(wall.0.saturating_add(ahead).saturating_sub(behind))
    }

    /// Sends a message to the console, if there is one.
    pub(crate) fn announce(&self, what: ConsoleMessage<'_>) {
        if let Some(announce) = &self.announce {
            announce(what);
        }
    }
}
