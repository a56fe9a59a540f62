//! What a history of the holder is made of, what it had in it and how it failed.
//! Owns the list of bugs that can be injected.
//! Never runs anything.

use std::fmt;
use std::time::Duration;

use super::HolderViolation;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct HolderOptions {
    /// The seed of everything random.
    pub seed: u64,
    /// Number of modules that the runtime keeps running.
    pub modules: u32,
    /// Number of faults in the history.
    pub faults: u32,
    /// Something that is broken on purpose.
    pub injected_bug: Option<HolderBug>,
}

/// A deliberate bug, to see a checker find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderBug {
    /// A spawn that the fence refuses is carried out.
    IgnoreFence,
    /// A generation is used up by something else.
    BurnGenerations,
    /// Some exits of processes are not noticed.
    MissExits,
    /// An exit is reported while its sweep or its output is pending.
    ReportEarly,
    /// Each exit is sent twice.
    SendExitsTwice,
    /// Some messages do not arrive though the channel is open.
    LoseMessages,
    /// A new runtime is not sent the exits it missed.
    SkipReplay,
    /// Kills are not carried out.
    IgnoreKills,
    /// Runs are killed by a signal without a request.
    KillUnasked,
    /// Each kill requests itself again.
    RepeatKills,
    /// Signals to a process whose spawn was in flight are not carried out.
    IgnoreDeferred,
    /// The roster is not told of another main process.
    MissMainChange,
    /// An aborted spawn stays in the queue of the spawner.
    KeepAborted,
    /// An instance whose record is saved is dropped.
    ForgetSaved,
    /// Records are not kept.
    LoseRecords,
    /// No deadline is noticed.
    IgnoreDeadlines,
    /// Nothing is done about a deadline of the roster.
    SkipRunDeadlines,
    /// A stop is carried out as a signal, without its deadline.
    IgnoreStopDeadlines,
    /// The roster is not told that a process is stopped by a signal.
    MissSuspensions,
    /// The roster is not told that the runtime reads again.
    NeverSendDeferred,
    /// The supervisor is not told that the setup was refused.
    ForgetRefusal,
    /// A runtime that does not answer is not killed.
    IgnoreUnresponsive,
    /// The supervisor is not told that a request was read.
    LoseRequests,
    /// A runtime that exited is not started again.
    IgnoreStart,
    /// The runtime is started while one runs.
    StartTwice,
    /// A runtime connects twice on one channel.
    ConnectTwice,
    /// The roster is not told that the channel is closed.
    MissDisconnect,
    /// A stop request is not sent.
    LoseStopRequests,
    /// The holder neither exits on request nor at the deadline of a stop.
    NeverExit,
    /// The holder exits and leaves its processes alone.
    SkipFinalKill,
    /// A new program that is ready is not kept for later starts.
    LoseNewProgram,
    /// A runtime that does not exit for its upgrade is not killed.
    SpareRetiring,
    /// The next runtime is not sent what became of an upgrade.
    LoseUpgradeReport,
}

impl HolderBug {
    /// All of them.
    pub const ALL: [HolderBug; 33] = [
        HolderBug::IgnoreFence,
        HolderBug::BurnGenerations,
        HolderBug::MissExits,
        HolderBug::ReportEarly,
        HolderBug::SendExitsTwice,
        HolderBug::LoseMessages,
        HolderBug::SkipReplay,
        HolderBug::IgnoreKills,
        HolderBug::KillUnasked,
        HolderBug::RepeatKills,
        HolderBug::IgnoreDeferred,
        HolderBug::MissMainChange,
        HolderBug::KeepAborted,
        HolderBug::ForgetSaved,
        HolderBug::LoseRecords,
        HolderBug::IgnoreDeadlines,
        HolderBug::SkipRunDeadlines,
        HolderBug::IgnoreStopDeadlines,
        HolderBug::MissSuspensions,
        HolderBug::NeverSendDeferred,
        HolderBug::ForgetRefusal,
        HolderBug::IgnoreUnresponsive,
        HolderBug::LoseRequests,
        HolderBug::IgnoreStart,
        HolderBug::StartTwice,
        HolderBug::ConnectTwice,
        HolderBug::MissDisconnect,
        HolderBug::LoseStopRequests,
        HolderBug::NeverExit,
        HolderBug::SkipFinalKill,
        HolderBug::LoseNewProgram,
        HolderBug::SpareRetiring,
        HolderBug::LoseUpgradeReport,
    ];
}

/// What a history had in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HolderSummary {
    /// Inputs of the two machines.
    pub steps: u64,
    /// Processes that were created.
    pub processes: u64,
    /// Spawns that hung.
    pub hung_spawns: u64,
    /// Kills that did not kill at once.
    pub slow_kills: u64,
    /// Stops with a deadline that were requested.
    pub stop_orders: u64,
    /// Runs that went on after their main process, in a stop.
    pub tree_stops: u64,
    /// Processes whose number had been another's.
    pub reused_pids: u64,
    /// Main processes that a signal stopped.
    pub suspensions: u64,
    /// Runtimes that were started.
    pub runtimes: u64,
    /// Upgrades of the runtime that were accepted.
    pub upgrades: u64,
    /// Holders that died and were succeeded.
    pub successions: u64,
    /// Runtimes that stopped reading and answering.
    pub unresponsive: u64,
    /// Messages that were in flight when a channel closed.
    pub dropped_messages: u64,
    /// Virtual time.
    pub lasted: Duration,
}

impl std::ops::AddAssign for HolderSummary {
    fn add_assign(&mut self, other: HolderSummary) {
        self.steps += other.steps;
        self.processes += other.processes;
        self.hung_spawns += other.hung_spawns;
        self.slow_kills += other.slow_kills;
        self.stop_orders += other.stop_orders;
        self.tree_stops += other.tree_stops;
        self.reused_pids += other.reused_pids;
        self.suspensions += other.suspensions;
        self.runtimes += other.runtimes;
        self.upgrades += other.upgrades;
        self.successions += other.successions;
        self.unresponsive += other.unresponsive;
        self.dropped_messages += other.dropped_messages;
        self.lasted += other.lasted;
    }
}

/// A checker found something.
#[derive(Debug, Clone)]
pub struct HolderFailure {
    /// The history.
    pub options: HolderOptions,
    /// What happened.
    pub violation: HolderViolation,
    /// When.
    pub at: Duration,
    /// The last lines of the history.
    pub trace: Vec<String>,
}

impl fmt::Display for HolderFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let HolderOptions {
            seed,
            modules,
            faults,
            ..
        } = self.options;
        writeln!(f, "{:?} at {:?}", self.violation, self.at)?;
        write!(
            f,
            "again: chaos --model holder --seeds 1 --seed {seed} --modules {modules} \
             --steps {faults}"
        )
    }
}

impl std::error::Error for HolderFailure {}
