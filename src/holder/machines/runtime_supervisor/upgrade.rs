//! The change of the program of the runtime: when the new one is tried, and how that ended.
//! Owns the number of upgrades, the one in flight and the result of the last one.
//! Never starts or kills anything: the supervisor does, and reports here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::messages::{UpgradeReport, UpgradeState};

/// Time the runtime has to exit once its upgrade was accepted.
pub(super) const RETIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time the new program has to be ready, from the exit of the old runtime.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const REPLACED: &str = "it was replaced in an upgrade";
pub(super) const TRIAL_UNREADY: &str = "it was not ready within 10s, and was killed";

#[derive(Debug, Serialize, Deserialize)]
enum Phase {
    /// The old runtime has to exit.
    Retiring,
    /// The new program has to be ready by then.
    Trial { ready_by: Duration },
}

/// The upgrades of one holder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Upgrades {
    phase: Option<Phase>,
    last: Option<UpgradeReport>,
    /// The engine has to keep the new program.
    keep: bool,
}

impl Upgrades {
    /// There was none.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The last upgrade, and what became of it.
    pub(super) fn last(&self) -> Option<UpgradeReport> {
        self.last.clone()
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.phase.is_some()
    }

    pub(super) fn is_retiring(&self) -> bool {
        matches!(self.phase, Some(Phase::Retiring))
    }

    /// When the new program has to be ready, while it is tried.
    pub(super) fn ready_by(&self) -> Option<Duration> {
        match self.phase {
            Some(Phase::Trial { ready_by }) => Some(ready_by),
            Some(Phase::Retiring) | None => None,
        }
    }

    /// An upgrade is accepted.
    pub(super) fn begin(&mut self, note: String) {
        self.phase = Some(Phase::Retiring);
        self.last = Some(UpgradeReport {
            number: self.last.as_ref().map_or(0, |last| last.number) + 1,
            state: UpgradeState::Pending,
            note,
        });
    }

    fn end(&mut self, state: UpgradeState) {
        self.phase = None;
        if let Some(last) = &mut self.last {
            last.state = state;
        }
    }

    /// The old runtime has exited.
    pub(super) fn retired(&mut self, now: Duration) {
        let ready_by = now + TRIAL_TIMEOUT;
        self.phase = Some(Phase::Trial { ready_by });
    }

    /// A runtime is ready.
    pub(super) fn ready(&mut self) {
        if self.ready_by().is_some() {
            self.end(UpgradeState::Done);
            self.keep = true;
        }
    }

    /// Ends the trial, if there is one: the old program is in use again.
    pub(super) fn roll_back(&mut self, problem: &str) -> bool {
        let is_trial = self.ready_by().is_some();
        if is_trial {
            let problem = problem.to_owned();
            self.end(UpgradeState::RolledBack { problem });
        }
        is_trial
    }

    /// Whether the engine has to keep the new program; once for each that is ready.
    pub(super) fn take_keep(&mut self) -> bool {
        std::mem::take(&mut self.keep)
    }
}
