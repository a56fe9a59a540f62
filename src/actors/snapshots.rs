//! The published snapshots that readers see: one lock-free cell a module, one for the system.
//! Owns the newest published snapshots; the registry is the only writer.
//! Never waits: a reader gets the newest whole snapshot, a writer swaps a pointer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{ModuleInfo, SystemInfo};
use mainstay_policy::reload::Watching;
use mainstay_policy::resources::Rung;
use mainstay_protocol::health::{ProbeView, Trend};
use mainstay_protocol::view::{LastExit, MachineUsage, SelfUsage, Usage};
use mainstay_protocol::{HealthStatus, Timestamp};
use tokio::sync::watch;

use super::slot_store::SlotStore;

/// What the lifecycle publishes of one module.
#[derive(Debug, Clone)]
pub(crate) struct LifecycleInfo {
    /// What policy knows. Its times are those of this runtime.
    pub(crate) info: ModuleInfo,
    /// The requester of the desired state, until the module changes for another reason.
    pub(crate) requester: Option<String>,
    /// The requester of its hold.
    pub(crate) held_by: Option<String>,
    /// When the state began.
    pub(crate) since: Timestamp,
    /// Why it failed or stopped last.
    pub(crate) reason: Option<String>,
    /// What it waits for, as text.
    pub(crate) waits_for: Option<String>,
    /// Why its current or last run was started.
    pub(crate) started_because: Option<Arc<str>>,
    /// When the next start is tried.
    pub(crate) next_attempt_at: Option<Timestamp>,
}

/// How a run is throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThrottleInfo {
    /// Its rung.
    pub(crate) rung: Rung,
    /// The mechanism that does it.
    pub(crate) mechanism: &'static str,
}

/// The health of a module, as published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HealthInfo {
    /// By its probes and its own report.
    pub(crate) status: HealthStatus,
    /// What is wrong, as text.
    pub(crate) issues: Vec<String>,
    /// What it reports.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// When it was last probed or reported by itself.
    pub(crate) last_check: Option<Timestamp>,
    /// Metrics that grow.
    pub(crate) trends: Vec<Trend>,
    /// Its probes.
    pub(crate) probes: Vec<ProbeView>,
}

impl Default for HealthInfo {
    /// Nothing is known.
    fn default() -> HealthInfo {
        HealthInfo {
            status: HealthStatus::Unknown,
            issues: Vec::new(),
            metrics: BTreeMap::new(),
            last_check: None,
            trends: Vec::new(),
            probes: Vec::new(),
        }
    }
}

impl HealthInfo {
    /// What failing commands printed.
    pub(crate) fn output(&self) -> Option<&str> {
        self.probes.iter().find_map(|probe| probe.output.as_deref())
    }
}

/// What is published of one module.
#[derive(Debug, Clone)]
pub(crate) struct ModuleSnapshot {
    /// From the lifecycle.
    pub(crate) lifecycle: LifecycleInfo,
    /// Its health.
    pub(crate) health: Arc<HealthInfo>,
    /// What its last readiness check found instead.
    pub(crate) not_ready: Option<String>,
    /// The status text it reported.
    pub(crate) status_text: Option<Arc<str>>,
    /// What it uses.
    pub(crate) usage: Option<Usage>,
    /// How it is throttled.
    pub(crate) throttle: Option<ThrottleInfo>,
    /// How its last run ended.
    pub(crate) last_exit: Option<LastExit>,
    /// The signal that its main process is stopped by.
    pub(crate) suspended_by: Option<String>,
    /// Output lost since mainstay started.
    pub(crate) output_dropped_bytes: u64,
    /// Why output is being lost now.
    pub(crate) output_lost: Option<String>,
}

impl ModuleSnapshot {
    /// Before anything happened.
    fn untouched(at: Timestamp) -> ModuleSnapshot {
        ModuleSnapshot {
            lifecycle: LifecycleInfo {
                info: ModuleInfo::default(),
                requester: None,
                held_by: None,
                since: at,
                reason: None,
                waits_for: None,
                started_because: None,
                next_attempt_at: None,
            },
            health: Arc::default(),
            not_ready: None,
            status_text: None,
            usage: None,
            throttle: None,
            last_exit: None,
            suspended_by: None,
            output_dropped_bytes: 0,
            output_lost: None,
        }
    }
}

fn untouched(at: Timestamp) -> ArcSwap<ModuleSnapshot> {
    ArcSwap::from_pointee(ModuleSnapshot::untouched(at))
}

/// What is published of the system.
#[derive(Debug, Clone)]
pub(crate) struct SystemSnapshot {
    /// Its status, and the modules that explain it.
    pub(crate) summary: SystemInfo,
    /// Why the files on disk are not in force.
    pub(crate) config_problem: Option<String>,
    /// The plan that is watched and not committed.
    pub(crate) watching: Option<Watching>,
    /// Why directories that were removed are not there again.
    pub(crate) directory_problem: Option<String>,
    /// What the machine uses.
    pub(crate) machine: MachineUsage,
    /// What mainstay uses.
    pub(crate) self_usage: SelfUsage,
}

/// The whole snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    cells: SlotStore<ArcSwap<ModuleSnapshot>>,
    system: ArcSwap<SystemSnapshot>,
    version: watch::Sender<u64>,
}

impl SnapshotStore {
    /// Snapshots of `modules` modules, none started.
    pub(crate) fn new(modules: usize, at: Timestamp) -> SnapshotStore {
        let system = SystemSnapshot {
            summary: SystemInfo::default(),
            config_problem: None,
            watching: None,
            directory_problem: None,
            machine: MachineUsage::default(),
            self_usage: SelfUsage::default(),
        };
        SnapshotStore {
            cells: SlotStore::new(modules, |_| untouched(at)),
            system: ArcSwap::from_pointee(system),
            version: watch::Sender::new(0),
        }
    }

    /// Makes room for the modules of a later plan.
    pub(super) fn grow(&self, slots: usize, at: Timestamp) {
        self.cells.grow(slots, |_| untouched(at));
    }

    /// The newest snapshot of a module.
    pub(crate) fn module(&self, module: ModuleId) -> Arc<ModuleSnapshot> {
        self.cells.get(module).load_full()
    }

    /// The newest snapshot of the system.
    pub(crate) fn system(&self) -> Arc<SystemSnapshot> {
        self.system.load_full()
    }

    /// Changes with every publication; for readers that wait for a state.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// For the registry alone: replaces parts of one cell.
    pub(super) fn edit(&self, module: ModuleId, change: impl FnOnce(&mut ModuleSnapshot)) {
        let cell = self.cells.get(module);
        let mut next = ModuleSnapshot::clone(&cell.load());
        change(&mut next);
        cell.store(Arc::new(next));
    }

    /// The problem of the files with which a runtime begins, before there is a registry.
    pub(crate) fn begin_with_problem(&self, text: String) {
        self.edit_system(|cell| cell.config_problem = Some(text));
    }

    /// For the registry alone: replaces parts of the system's cell.
    pub(super) fn edit_system(&self, change: impl FnOnce(&mut SystemSnapshot)) {
        let mut next = SystemSnapshot::clone(&self.system.load());
        change(&mut next);
        self.system.store(Arc::new(next));
    }

    /// For the registry alone: notifies waiting readers of a change.
    pub(super) fn publish(&self) {
        self.version.send_modify(|edition| *edition += 1);
    }
}
