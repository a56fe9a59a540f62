//! The validated words of a module, as far as decisions need them.
//! Owns the types that configuration is lowered to; a value of them is known to make sense.
//! Never holds what only the OS needs (command, environment, user): that travels beside it.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_process::Probe;

use crate::group::GroupSpec;

/// The slot of a module instance: the same name has the same slot in every plan of a runtime (see
/// [`crate::module_ids::ModuleIds`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ModuleId(pub u32);

impl ModuleId {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What kind of thing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs until stopped.
    Service,
    /// Runs to completion.
    Task,
    /// Part of the runtime: always up, first, no process.
    Builtin,
}

/// When a module is wished up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// With the system.
    Eager,
    /// On the first request or call, or when a module that is desired up needs it.
    Lazy,
}

/// Which modules are throttled first, and which get stop budget first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// Throttled first.
    Low,
    /// The default.
    Normal,
    /// Throttled late.
    High,
    /// Throttled last.
    Critical,
}

/// What a dependent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyCondition {
    /// The process exists.
    Started,
    /// It is ready.
    Ready,
    /// It is ready and healthy.
    Healthy,
    /// It exited with a clean code.
    Completed,
}

impl DependencyCondition {
    /// The word in configurations and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DependencyCondition::Started => "started",
            DependencyCondition::Ready => "ready",
            DependencyCondition::Healthy => "healthy",
            DependencyCondition::Completed => "completed",
        }
    }
}

/// One dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The module that is needed.
    pub to: ModuleId,
    /// `requires` (true) or `wants` (false).
    pub hard: bool,
    /// What is waited for.
    pub until: DependencyCondition,
}

/// How a module becomes ready.
#[derive(Debug, Clone, PartialEq)]
pub enum Readiness {
    /// The exec succeeded.
    Started,
    /// It lived this long.
    Settle(Duration),
    /// It says so: sd_notify, or its connection.
    Notify,
    /// A line of its output matches this regular expression.
    Log(String),
    /// It writes a newline to this descriptor (s6).
    Fd(u32),
    /// This probe succeeds.
    Probe(Probe),
}

/// Which endings bring a module back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Every end that was not requested.
    Always,
    /// Endings that are failures.
    OnFailure,
    /// None.
    Never,
}

/// The delay between attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Before the first; may be zero.
    pub initial: Duration,
    /// From one to the next, at least 1.
    pub factor: f64,
    /// At most.
    pub max: Duration,
    /// Share of the delay that is random, 0 to 1, both ways.
    pub jitter: f64,
    /// At least, from the second failure in a window on.
    pub floor: Duration,
}

/// The tries of probation, after giving up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probation {
    /// Before the first try.
    pub initial: Duration,
    /// From one try to the next, at least 1.
    pub factor: f64,
    /// At most.
    pub max: Duration,
}

/// One rung of the recovery ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Start it again after a delay.
    Restart,
    /// The same, after what `reset` declares was cleared.
    RestartWithReset,
    /// The same, with the features of `degrade` switched off until a run is stable.
    Degrade,
    /// Stop every module in order, then start them again.
    RestartSystem,
    /// Give up, without probation.
    Stop,
}

/// What to do after a failure.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoverySpec {
    /// `recovery.auto`: false means that a person starts failed modules.
    pub auto: bool,
    /// Which endings bring it back.
    pub restart: RestartPolicy,
    /// Exit codes that are no failure.
    pub clean_exit_codes: Vec<i32>,
    /// Quick restarts within `window` before the next rung; 0 = unlimited.
    pub max_attempts: u32,
    /// The sliding window.
    pub window: Duration,
    /// Delay between attempts.
    pub backoff: Backoff,
    /// A run this long pays one attempt back.
    pub stable_after: Duration,
    /// None: stays failed.
    pub probation: Option<Probation>,
    /// The ladder, never empty.
    pub on_failure: Vec<Strategy>,
}

/// What a dependent does when a hard dependency restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDependencyRestart {
    /// It keeps running and is notified.
    Notify,
    /// It is restarted too.
    Restart,
    /// It keeps running.
    Ignore,
}

/// One module, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleSpec {
    /// Its slot.
    pub id: ModuleId,
    /// Its name, unique in the plan: that of the instance (`web`, `web@2`).
    pub name: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Whether the system is critical without it.
    pub required: bool,
    /// When it is wished up.
    pub start: StartMode,
    /// Which modules are throttled first.
    pub importance: Importance,
    /// What it needs, hard and soft.
    pub edges: Vec<Edge>,
    /// How it becomes ready.
    pub readiness: Readiness,
    /// Commands run before its start.
    pub has_before_start: bool,
    /// Commands run after its end.
    pub has_after_stop: bool,
    /// From the order to run until ready.
    pub startup_timeout: Duration,
    /// From the stop signal to the kill.
    pub shutdown_timeout: Duration,
    /// It must feed its watchdog this often.
    pub watchdog: Option<Duration>,
    /// Whether anything reports its health (needed for `until = "healthy"`).
    pub has_probes: bool,
    /// Whether probes of the role startup have to succeed before it is ready.
    pub has_startup_probes: bool,
    /// Whether probes of the role readiness have to pass before what waits for it starts.
    pub has_readiness_probes: bool,
    /// What to do after a failure.
    pub recovery: RecoverySpec,
    /// What it does when a hard dependency restarts.
    pub on_dependency_restart: OnDependencyRestart,
    /// By what it is throttled.
    pub throttle: crate::resources::ThrottleSpec,
}

/// What holds for the system as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemSpec {
    /// Start everything whose needs are met at once.
    pub parallel_startup: bool,
    /// Pause after each start when not parallel.
    pub module_start_delay: Duration,
    /// For the whole initial startup.
    pub startup_timeout: Duration,
    /// The stop budget of the whole system.
    pub shutdown_timeout: Duration,
    /// Restarts that may be on their way at once; 0 = unlimited.
    pub concurrent_restarts: u32,
    /// When failures count as a cascade.
    pub cascade: Cascade,
    /// The supervision groups.
    pub groups: Vec<GroupSpec>,
}

/// More than this share of the modules that are given up within a window are a cascade.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cascade {
    /// The share, above 0; 1 and more: never.
    pub share: f64,
    /// The sliding window.
    pub window: Duration,
}

impl Default for Cascade {
    fn default() -> Cascade {
        Cascade {
            share: 0.5,
            window: Duration::from_secs(60),
        }
    }
}
