//! One module's run: from the order to run to the last trace of its process.
//! Owns one run at a time (a generation) and its deadlines. Never decides whether to run again:
//! `lifecycle` does; never reads a clock or touches the OS.
// CONTRACT (types below are fixed; the implementer fills in states and logic).

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit { Code(i32), Signal { signal: i32, core: bool }, /* killed by the kernel for memory */ Oom }

/// Why a start failed before its program ran. `errno` 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartFailure { pub step: Step, pub errno: i32 }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step { Fence, Prepare /* before_start failed */, Pipe, Fork, Session, Directory, Limits, Group, User, Descriptors, Exec }

/// How a run ended, as reported to the lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The program never ran.
    NotStarted(StartFailure),
    /// The process ended by itself.
    Exited(Exit),
    /// It was ended because it did not become ready in time.
    StartTimeout,
    /// It was ended because it did not feed its watchdog (or asked for it with `trigger`).
    Watchdog,
    /// It was halted by order; `forced` when the kill was needed.
    Halted { exit: Option<Exit>, forced: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    RunAsked { generation: u64 },
    HaltAsked { generation: u64, grace: Duration },
    /// Hooks: before_start finished (exit 0 or not); after_stop finished.
    Prepared { generation: u64, ok: bool },
    CleanedUp { generation: u64 },
    Spawned { generation: u64, pid: u32 },
    SpawnFailed { generation: u64, failure: StartFailure },
    Exited { generation: u64, exit: Exit },
    /// READY=1, `module.ready`, log line matched, s6 newline.
    ReadyTold { generation: u64 },
    /// The answer to Effect::Probe.
    Probed { generation: u64, ok: bool },
    TimeoutExtended { generation: u64, by: Duration },
    WatchdogFed { generation: u64 },
    WatchdogSet { generation: u64, every: Duration },
    WatchdogTriggered { generation: u64 },
    Woke,
    /// The runtime returned: take over a living process as it is.
    Adopted { generation: u64, pid: u32, ready: bool, ready_by: Option<Time> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Prepare { generation: u64 },
    Spawn { generation: u64 },
    /// Look once whether it is ready; at most one in flight.
    Probe { generation: u64 },
    /// Stop signal, then SIGCONT.
    Terminate { generation: u64 },
    /// The whole tree, now.
    Kill { generation: u64 },
    CleanUp { generation: u64 },
    Report(Report),
}

/// What the lifecycle hears; always about the generation it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report { pub generation: u64, pub what: Reported }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported { Started { pid: u32 }, Ready, Ended(Ending) }

// impl Module {
//   pub fn new() -> Module
//   pub fn note(&mut self, spec: &ModuleSpec, now: Time, event: Event)     // records wishes and facts; stale generations change nothing
//   pub fn settle(&mut self, spec: &ModuleSpec, now: Time) -> Option<Effect>  // call until None
//   pub fn deadline(&self, …) -> Option<Time>
//   pub fn pid(&self) -> Option<u32>;  pub fn generation(&self) -> u64; pub fn is_ready(&self) -> bool; pub fn ready_by(&self) -> Option<Time>
// }
