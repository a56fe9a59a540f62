//! What a checker of the holder found.
//! Owns the list. Never says how it is found.

/// What must never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderViolation {
    /// Two processes of an instance exist.
    TwoRuns(String),
    /// A generation was started that is not newer.
    OldGeneration(String, u64),
    /// A spawn was refused as stale though its generation is new.
    RefusedSpawn(String, u64),
    /// A process exists whose spawn was reported, and the roster does not know it.
    UnknownProcess(String),
    /// A process survived the holder.
    LeftAlive(String),
    /// A runtime was not sent the exit of a run, though it is connected.
    ExitNotSent(String, u64),
    /// A runtime was sent an exit a second time.
    ExitSentTwice(String, u64),
    /// A runtime was sent an exit that has not happened, or is not complete.
    ExitInvented(String, u64),
    /// Something was sent before the takeover state, or without a channel.
    SentToNobody,
    /// The takeover state was sent twice on a channel.
    TakeoverTwice,
    /// The takeover state is wrong about an instance.
    WrongTakeover(String),
    /// A record is not the one that was saved last.
    RecordLost(String),
    /// A run that was to be killed was not.
    KillLost(String),
    /// A run was killed without a request and before any deadline expired.
    KilledWithoutCause(String),
    /// A run was not sent a signal that was requested.
    SignalLost(String),
    /// A run has timed out and is not killed.
    TimeoutIgnored(String),
    /// The deadline of a stop has passed, and what it was to stop is not killed.
    StopIgnored(String),
    /// A runtime believes that a process is stopped by a signal, and it is not, or the other way.
    SuspensionNotSent(String),
    /// A runtime that reads was not sent the newest status text of a module.
    StatusNotSent(String),
    /// The setup was refused, and the holder stays or exits with another code.
    RefusalIgnored,
    /// An instance was dropped that is no command and that no runtime wanted dropped, or while it
    /// has a process.
    WronglyRemoved(String),
    /// The holder still runs after the deadline of a stop.
    StopTooLong,
    /// A runtime was not sent that a stop has started.
    StopNotSent,
    /// Two runtimes run.
    TwoRuntimes,
    /// No runtime was started for too long.
    RuntimeAbsent,
    /// A runtime that does not answer was not killed.
    UnresponsiveKept,
    /// A runtime that answers was killed.
    ResponsiveKilled,
    /// Long after the last fault a runtime believes something else than the machine shows.
    ViewDiffers(String),
    /// Long after the last fault a module does not run.
    NotRunning(String),
    /// A runtime was started with a program that is not the one in use or on trial.
    WrongProgram(u32),
    /// An upgrade is in flight for too long.
    UpgradeTooLong,
    /// A runtime was sent a wrong result of the last upgrade, or none.
    WrongUpgradeReport,
    /// A deadline has passed and nothing comes of it: the holder would spin.
    Spins,
    /// One input has effects without end.
    Endless,
}

impl HolderViolation {
    /// How many there are.
    pub const COUNT: usize = 34;

    /// The name of the variant, for a list of those that were found.
    #[must_use]
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        let end = text.find('(').unwrap_or(text.len());
        text[..end].to_owned()
    }
}
