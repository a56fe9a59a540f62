//! A hold: a module is not started until it is released, or a deadline has passed.
//! Owns that deadline. A run that ends meanwhile ends without a failure: it was meant to.
//! Never stops a run: the requester may replace the program while the module still works.

use super::{Lifecycle, SystemPhase};
use crate::mono_time::MonoTime;
use crate::recovery::Failure;
use crate::spec::ModuleId;
use crate::states::{Cause, State};

impl Lifecycle {
    /// Holds a module until then, or releases it.
    pub(super) fn apply_hold(&mut self, module: ModuleId, until: Option<MonoTime>) {
        let refused = matches!(self.phase, SystemPhase::Stopping | SystemPhase::Stopped);
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        if slot.is_builtin() || (refused && until.is_some()) {
            return;
        }
        slot.held_until = until;
        self.mark_dirty(module);
    }

    /// Whether no run of it may start now; it is looked at again when the hold has passed.
    pub(super) fn is_held(&mut self, now: MonoTime, module: ModuleId) -> bool {
        let until = self.module(module).hold(now);
        if let Some(until) = until {
            self.alarms.set(module, until);
        }
        until.is_some()
    }

    /// A run has ended without an order, or because of a probe: a failure, unless it is held or its
    /// start was lost with the holder.
    pub(super) fn judge_unless_held(&mut self, now: MonoTime, module: ModuleId, failure: Failure) {
        match self.module(module).hold(now) {
            Some(_) => self.wait_for_release(now, module),
            None if failure.is_lost_start() => {
                // Nothing of the module failed: what was to be started is started again.
                let spec = self.spec_of(module);
                let slot = self.module_mut(module);
                slot.recovery.run_over(&spec.recovery, now);
                self.set_state(now, module, State::Waiting, Cause::Startup, None);
            }
            None => self.decide_recovery(now, module, failure),
        }
    }

    fn wait_for_release(&mut self, now: MonoTime, module: ModuleId) {
        let spec = self.spec_of(module);
        self.module_mut(module)
            .recovery
            .run_over(&spec.recovery, now);
        self.set_state(now, module, State::Waiting, Cause::Exit, None);
        self.propagate_restart(module);
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{check, run};
    use crate::lifecycle::Forecast;
    use crate::states::State;

    #[test]
    fn a_held_module_goes_on_and_its_end_is_no_failure() {
        let mut script = check(
            "a\nb: a",
            &[
                ("boot", "run a"),
                ("a up", "run b"),
                ("b up", "started"),
                ("hold a 600s", ""),
                ("a exit 1", "tell b a Restarting"),
                ("wait 300s", ""),
            ],
        );
        let a = script.id("a");
        let view = script.lifecycle.view(a);
        assert_eq!((view.state, view.attempts), (State::Waiting, 0));
        let until = view.held_until.expect("it is held");
        let forecast = script.lifecycle.forecast(script.now, a);
        assert_eq!(forecast, Forecast::Held { until });
        run(
            &mut script,
            &[("release a", "run a"), ("a up", "tell b a Recovered")],
        );
        assert_eq!(script.lifecycle.view(a).held_until, None);
    }

    #[test]
    fn a_hold_that_nobody_ends_ends_by_itself() {
        check(
            "a",
            &[
                ("boot", "run a"),
                ("a up", "started"),
                ("hold a 60s", ""),
                ("a killed", ""),
                ("wait 59s", ""),
                ("wait 1s", "run a"),
                ("a up", ""),
                ("a exit 1", ""),
                ("wait 200ms", "run a"),
            ],
        );
    }

    #[test]
    fn requests_wait_for_the_release_and_stops_do_not() {
        check(
            "a\nb: a",
            &[
                ("boot", "run a"),
                ("a up", "run b"),
                ("b up", "started"),
                ("hold a 600s", ""),
                ("stop a", "halt b"),
                ("b halted", "halt a"),
                ("a halted", ""),
                ("start a", ""),
                ("start b", ""),
                ("release a", "run a"),
                ("a up", "run b"),
                ("b up", ""),
                ("hold a 600s", ""),
                ("stop all", "halt b"),
                ("b halted", "halt a"),
                ("a halted", "all stopped, 0 forced"),
            ],
        );
    }

    #[test]
    fn the_initial_startup_does_not_wait_for_a_held_module() {
        check(
            "a\nb: a",
            &[
                ("boot", "run a"),
                ("hold a 600s", ""),
                ("a exit 1", "started"),
                ("wait 300s", ""),
                ("release a", "run a"),
                ("a up", "run b"),
            ],
        );
    }

    #[test]
    fn a_probe_that_ends_a_held_run_counts_no_failure() {
        let mut script = check(
            "a",
            &[
                ("boot", "run a"),
                ("a up", "started"),
                ("hold a 60s", ""),
                ("a ill", "halt a"),
                ("a halted", ""),
            ],
        );
        let view = script.lifecycle.view(script.id("a"));
        assert_eq!((view.state, view.attempts), (State::Waiting, 0));
        run(&mut script, &[("wait 60s", "run a")]);
    }

    #[test]
    fn a_hold_survives_the_record_and_a_backoff() {
        let mut script = check(
            "a",
            &[
                ("boot", "run a"),
                ("a up", "started"),
                ("a exit 1", ""),
                ("hold a 60s", ""),
                ("wait 30s", ""),
            ],
        );
        let a = script.id("a");
        let record = script.lifecycle.record(a);
        assert_eq!(record.held_until, script.lifecycle.view(a).held_until);
        assert!(record.held_until.is_some());
        run(&mut script, &[("wait 30s", "run a")]);
    }
}
