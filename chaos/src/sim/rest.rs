//! What must hold in the world when nothing is about to happen, and what a failure shows of it.
//! Owns the look at processes and their watchdogs. Never changes anything.

use std::time::Duration;

use mainstay_policy::ModuleId;

use super::Sim;
use crate::checker::Checked;
use crate::explain;
use crate::violation::Violation;
use crate::world::SimModule;

impl Sim {
    /// Everything is where it should be, and nothing is about to happen.
    pub(super) fn rest(&mut self) -> Checked {
        self.check.at_rest(&self.plan, self.now, &self.lifecycle)?;
        for module in self.plan.ids() {
            self.watchdog_has_bitten(module)?;
            let at = module.index();
            let spec = self.specs[at].as_ref();
            let watched = spec.is_some_and(|spec| spec.watchdog.is_some());
            let lives = self.modules_in_world[at].known_process().is_some();
            let quiet = self.modules[at].deadline().is_none() || (watched && lives);
            if !quiet || lives != self.modules[at].pid().is_some() {
                return Err(Violation::NotQuiet(Some(module)));
            }
        }
        Ok(())
    }

    /// Why the module that a violation names is where it is, else how the system is.
    pub(super) fn why(&self, violation: &Violation) -> String {
        match violation.module().or_else(|| self.trace.last_module()) {
            Some(module) => explain::why(&self.lifecycle, module),
            None => explain::system(&self.lifecycle),
        }
    }

    /// No ready process that should feed its watchdog has been silent for long.
    fn watchdog_has_bitten(&self, module: ModuleId) -> Checked {
        let at = module.index();
        let every = self.specs[at].as_ref().and_then(|spec| spec.watchdog);
        let (Some(every), Some(process)) = (every, self.modules_in_world[at].process) else {
            return Ok(());
        };
        let most = every + Duration::from_secs(15);
        let silent = process.fed.is_some_and(|fed| self.now.since(fed) > most);
        match silent && self.modules[at].is_ready() {
            true => Err(Violation::WatchdogSleeps(module)),
            false => Ok(()),
        }
    }

    pub(super) fn all_gone(&mut self) -> Checked {
        let lives = |place: &SimModule| place.known_process().is_some() || place.hook.is_some();
        if self.modules_in_world.iter().any(lives) || !self.check.is_stopped() {
            return Err(Violation::StopTooLong);
        }
        Ok(())
    }
}
