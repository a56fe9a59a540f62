//! The state of a module, its cause, and its health.
//! Owns the closed lists; their order is that of the values in JSON.
//! Never spells them: text belongs to the protocol.

/// The observed state of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum State {
    /// Never requested since this mainstay started.
    #[default]
    NotStarted,
    /// Desired up; something it needs is missing.
    Waiting,
    /// Its process is being spawned, or exists and is not ready.
    Starting,
    /// Ready.
    Running,
    /// Being stopped.
    Stopping,
    /// Ended as requested, or a task that is done.
    Stopped,
    /// Failed; the next restart is scheduled.
    Backoff,
    /// Failed, with no restart scheduled except one of probation.
    Failed,
}

impl State {
    /// Every state, in the order of the documents.
    pub const ALL: [State; 8] = [
        State::NotStarted,
        State::Waiting,
        State::Starting,
        State::Running,
        State::Stopping,
        State::Stopped,
        State::Backoff,
        State::Failed,
    ];

    /// Whether there is a run: requested, and not reported as ended.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, State::Starting | State::Running | State::Stopping)
    }

    /// Whether there is a run that is not being stopped.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, State::Starting | State::Running)
    }
}

/// The desired state of a module, apart from the observed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Desired {
    /// It should not run.
    #[default]
    Down,
    /// It should run.
    Up,
}

/// Why a module changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Cause {
    /// The system came up.
    #[default]
    Boot,
    /// A person or program asked.
    Requested,
    /// A module it depends on, or that needs it, changed.
    Dependency,
    /// Its program could not be executed.
    Exec,
    /// Its process ended.
    Exit,
    /// It became ready, or its start failed before the program ran.
    Startup,
    /// It took longer than it may.
    Timeout,
    /// A health probe failed.
    Probe,
    /// It stopped feeding its watchdog.
    Watchdog,
    /// It went over a limit.
    Limit,
    /// The configuration changed.
    Reload,
    /// Its group acted.
    Group,
    /// One try after giving up.
    Probation,
    /// The system goes down.
    Shutdown,
    /// It was not used for its `idle_stop`.
    Idle,
    /// The runtime returned and found it as it is.
    Adopted,
}

/// How a running module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Health {
    /// Nothing was observed yet, or nothing observes it.
    #[default]
    Unknown,
    /// All is well.
    Healthy,
    /// It works, not fully.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// The status of the whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Status {
    /// Initial startup has not finished.
    #[default]
    Starting,
    /// Every module that should run is running and healthy.
    Healthy,
    /// An optional module failed, or a module is degraded or unhealthy.
    Degraded,
    /// A required module failed.
    Critical,
    /// The ordered stop has started.
    Stopping,
}
