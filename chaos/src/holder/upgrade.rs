//! Upgrades of the runtime in a history: which program has to run, and what has to be told.
//! Owns the programs as the engine keeps them, and what they have to be.
//! Never asks the supervisor: it is told what happened.

use std::time::Duration;

use mainstay_holder::messages::{UpgradeReport, UpgradeState};

use super::fake_runtime::{Delivery, Request};
use super::{Checked, HolderBug, HolderViolation, Item, Sim};

/// Time the old runtime may take to be gone: 5 seconds, its kill, and a channel that stays open.
const RETIRE_MAX: Duration = Duration::from_secs(8);
/// The same until the new program is ready or has been given up.
const TRIAL_MAX: Duration = Duration::from_secs(13);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The old runtime has to exit.
    Retiring,
    /// The new program has been started, or has failed to start.
    Trial,
}

/// The programs, and the upgrade in flight.
#[derive(Debug, Default)]
pub(super) struct Upgrades {
    /// The number of the last upgrade, which is that of its program too.
    number: u32,
    phase: Option<(Phase, Duration)>,
    rolled_back: bool,
    /// What the next start has to use when no upgrade is in flight.
    program: u32,
    /// What the engine has.
    kept: u32,
    new: Option<u32>,
}

impl Upgrades {
    /// What the next start uses, by what the supervisor returned; it has to be the right one.
    fn starts(&mut self, now: Duration, new_program: bool) -> Checked {
        let expected = match self.phase {
            Some((Phase::Retiring, _)) => {
                self.phase = Some((Phase::Trial, now));
                self.number
            }
            // It has had its one start.
            Some((Phase::Trial, _)) => {
                (self.phase, self.rolled_back) = (None, true);
                self.program
            }
            None => self.program,
        };
        let used = self.new.filter(|_| new_program).unwrap_or(self.kept);
        match used == expected {
            true => Ok(()),
            false => Err(HolderViolation::WrongProgram(used)),
        }
    }

    fn ready(&mut self) {
        if matches!(self.phase, Some((Phase::Trial, _))) {
            (self.phase, self.program) = (None, self.number);
        }
    }

    /// The new program is the one in use from now on.
    pub(super) fn keep_new(&mut self) {
        self.kept = self.new.take().unwrap_or(self.kept);
    }

    pub(super) fn on_time(&self, now: Duration) -> Checked {
        let late = self.phase.is_some_and(|(phase, since)| match phase {
            Phase::Retiring => since + RETIRE_MAX < now,
            Phase::Trial => since + TRIAL_MAX < now,
        });
        match late {
            true => Err(HolderViolation::UpgradeTooLong),
            false => Ok(()),
        }
    }

    /// The holder was suspended: nothing could be in time.
    pub(super) fn slept(&mut self, lasted: Duration) {
        if let Some((_, since)) = &mut self.phase {
            *since += lasted;
        }
    }

    /// A runtime is sent this report.
    pub(super) fn check_report(&self, report: Option<&UpgradeReport>) -> Checked {
        let told = report.map(|report| {
            let rolled_back = matches!(report.state, UpgradeState::RolledBack { .. });
            let pending = report.state == UpgradeState::Pending;
            (report.number, &*report.note, rolled_back, pending)
        });
        let note = self.number.to_string();
        let pending = self.phase.is_some();
        let expected = (self.number, &*note, self.rolled_back && !pending, pending);
        match told == (self.number > 0).then_some(expected) {
            true => Ok(()),
            false => Err(HolderViolation::WrongUpgradeReport),
        }
    }
}

impl Sim {
    pub(super) fn request_upgrade(&mut self) {
        if self.configured {
            self.request(Request::Upgrade);
        }
    }

    /// What the engine does with the request.
    pub(super) fn upgrade(&mut self) -> Checked {
        let number = self.upgrades.number + 1;
        let requested = self
            .supervisor
            .upgrade_requested(self.now, number.to_string());
        let accepted = requested.is_ok();
        if accepted {
            self.summary.upgrades += 1;
            let upgrades = &mut self.upgrades;
            if upgrades.phase.is_some() {
                return Err(HolderViolation::WrongProgram(number));
            }
            upgrades.phase = Some((Phase::Retiring, self.now));
            (upgrades.number, upgrades.new, upgrades.rolled_back) = (number, Some(number), false);
            if let Some(runtime) = &mut self.runtime {
                runtime.may_be_killed = true;
            }
        }
        self.send(Delivery::UpgradeAnswered { accepted })
    }

    /// The runtime exits for its upgrade; some hang instead.
    pub(super) fn upgrade_answered(&mut self, epoch: u32, accepted: bool) {
        if accepted && self.rng.permille(700) {
            let delay = self.rng.span(Duration::from_secs(1));
            self.after(delay, Item::RuntimeExits(epoch));
        }
    }

    /// Checks which program is started, and draws how it fails if it is a new one.
    pub(super) fn program_starts(&mut self, new_program: bool) -> Checked {
        self.upgrades.starts(self.now, new_program)
    }

    /// A runtime of a new program is there: a part of them never becomes ready.
    pub(super) fn break_new_program(&mut self) {
        let Some(runtime) = &mut self.runtime else {
            return;
        };
        runtime.may_be_killed = true;
        match self.rng.below(4) {
            0 => runtime.never_ready = true,
            1 => {
                runtime.never_ready = true;
                let epoch = runtime.epoch;
                let delay = self.rng.span(Duration::from_secs(2));
                self.after(delay, Item::RuntimeExits(epoch));
            }
            _ => {}
        }
    }

    /// A runtime is ready.
    pub(super) fn runtime_is_ready(&mut self) {
        self.supervisor.runtime_ready(self.now);
        let is_retiring = matches!(self.upgrades.phase, Some((Phase::Retiring, _)));
        self.upgrades.ready();
        if let Some(runtime) = self.runtime.as_mut().filter(|_| !is_retiring) {
            runtime.may_be_killed = false;
        }
    }

    /// The report that travels with the takeover state.
    pub(super) fn upgrade_report(&self) -> Option<UpgradeReport> {
        let report = self.supervisor.last_upgrade();
        report.filter(|_| !self.has_bug(HolderBug::LoseUpgradeReport))
    }
}
