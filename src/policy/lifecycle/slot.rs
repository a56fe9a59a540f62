//! What the lifecycle knows of one module.
//! Owns the fields and the questions that need no other module.
//! Never decides.

use crate::module::Ending;
use crate::recovery::Ledger;
use crate::spec::ModuleId;
use crate::states::{Cause, Health, State, Wanted};
use crate::time::Time;

/// Why a run must end although its module is wished up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fall {
    /// What it needs is going.
    Dependency(ModuleId),
    /// A restart was asked for.
    Requested,
    /// A liveness probe failed for good.
    Probe,
    /// The runtime before had begun to end it.
    Adopted,
}

/// One module, from outside its run.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) wanted: Wanted,
    pub(super) cause: Cause,
    pub(super) by: Option<ModuleId>,
    pub(super) since: Time,
    /// Grows with every wish.
    pub(super) intent: u64,
    pub(super) generation: u64,
    pub(super) pid: Option<u32>,
    pub(super) health: Health,
    /// Its last run ended by itself with a clean code; latched until the next run.
    pub(super) completed: bool,
    pub(super) fall: Option<Fall>,
    pub(super) ledger: Ledger,
    /// The end of backoff, or the next probation.
    pub(super) retry_at: Option<Time>,
    /// When the start of the current run is over time.
    pub(super) ready_by: Option<Time>,
    /// The dependency that holds it in `waiting`: a place among its edges.
    pub(super) held_by: u32,
    /// The dependent that must end first: a place among its dependents.
    pub(super) blocked_by: u32,
    pub(super) needs_token: bool,
    pub(super) holds_token: bool,
    /// The first start waits for it.
    pub(super) booting: bool,
    /// Hard dependents that went on were told that it restarts.
    pub(super) owes_hard: bool,
    /// Soft dependents were told that it failed.
    pub(super) owes_soft: bool,
    /// Recorded as running, but no process was found; its exit may still be told.
    pub(super) lost: bool,
    pub(super) adopted: bool,
    pub(super) restarts: u32,
    pub(super) last: Option<Ending>,
}

impl Slot {
    pub(super) fn new() -> Slot {
        Slot {
            state: State::NotStarted,
            wanted: Wanted::Down,
            cause: Cause::Boot,
            by: None,
            since: Time(0),
            intent: 0,
            generation: 0,
            pid: None,
            health: Health::Unknown,
            completed: false,
            fall: None,
            ledger: Ledger::default(),
            retry_at: None,
            ready_by: None,
            held_by: 0,
            blocked_by: 0,
            needs_token: false,
            holds_token: false,
            booting: false,
            owes_hard: false,
            owes_soft: false,
            lost: false,
            adopted: false,
            restarts: 0,
            last: None,
        }
    }

    /// Whether its run, if one is out, has to end.
    pub(super) fn must_fall(&self) -> bool {
        self.wanted == Wanted::Down || self.fall.is_some()
    }

    /// Whether a run is out that nobody has a reason to end.
    pub(super) fn stands(&self) -> bool {
        self.state.is_up() && !self.must_fall()
    }

    /// Whether its last run could not be ended at all.
    pub(super) fn is_stuck(&self) -> bool {
        self.last.is_some_and(Ending::is_stuck)
    }

    /// Whether a run is out that is being ended, or will be.
    pub(super) fn is_falling(&self) -> bool {
        self.state == State::Stopping || (self.state.is_up() && self.must_fall())
    }
}
