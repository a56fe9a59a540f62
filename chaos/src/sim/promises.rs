//! What `why` promises: it happens at its time, unless an event intervenes.
//! Owns the comparison of forecasts with what follows when time alone passes.
//! Never forecasts: policy does.

use mainstay_policy::lifecycle::{Forecast, LifecycleEvent};
use mainstay_policy::states::Status;
use mainstay_policy::{ModuleId, MonoTime, State};

use super::Sim;
use crate::checker::Checked;
use crate::violation::Violation;

/// What was promised of one module.
struct Promise {
    module: ModuleId,
    state: State,
    since: MonoTime,
    forecast: Forecast,
}

impl Promise {
    /// Whether time alone has to change the state by `now`; None: it may. `moved`: which other
    /// modules changed meanwhile.
    fn must_have_left(&self, now: MonoTime, moved: impl Fn(ModuleId) -> bool) -> Option<bool> {
        match &self.forecast {
            Forecast::Retry { at, .. } => Some(*at <= now),
            Forecast::Nothing => None, // what needs it may start it again
            Forecast::Proposal { .. } | Forecast::FailedNeed { .. } => Some(false),
            forecast => match forecast.at() {
                Some(at) if at <= now => None,
                _ if self.state != State::Waiting => Some(false),
                // What it waits for may be there because the time of that has come.
                _ => match forecast {
                    Forecast::Needs {
                        modules: awaited, ..
                    }
                    | Forecast::Token {
                        holders: awaited, ..
                    } if !awaited.iter().any(|module| moved(*module)) => Some(false),
                    Forecast::Turn {
                        after: Some(after), ..
                    } if !moved(*after) => Some(false),
                    _ => None,
                },
            },
        }
    }
}

impl Sim {
    /// The alarm of the lifecycle fires.
    pub(super) fn time_passes(&mut self) -> Checked {
        let before = self.promises();
        let status = self.lifecycle.status();
        self.apply_to_lifecycle(LifecycleEvent::TimerFired)?;
        // The first start took too long: everything stops.
        if status != self.lifecycle.status() && self.lifecycle.status() == Status::Stopping {
            return Ok(());
        }
        let moved = |promise: &Promise| {
            let now = self.lifecycle.view(promise.module);
            (now.state, now.since) != (promise.state, promise.since)
        };
        let is_moved = |module| (before.iter()).any(|other| other.module == module && moved(other));
        // The end of the initial startup is the end of turns.
        let turns_end = status != self.lifecycle.status();
        for promise in &before {
            if turns_end && matches!(promise.forecast, Forecast::Turn { .. }) {
                continue;
            }
            let Some(must) = promise.must_have_left(self.now, is_moved) else {
                continue;
            };
            // What another's time did is an event for this one.
            let by = self.lifecycle.view(promise.module).by;
            let is_taken_along = before.iter().any(|other| {
                by == Some(other.module)
                    && (moved(other)
                        || self.has_to_stop(other.module)
                        || self.needs(other.module, &is_moved))
            });
            if must != moved(promise) && (must || !is_taken_along) {
                return Err(Violation::ForecastBroken(promise.module));
            }
        }
        Ok(())
    }

    /// Whether it needs one that is so, through others too.
    fn needs(&self, module: ModuleId, is: &impl Fn(ModuleId) -> bool) -> bool {
        let edges = self.runtime_plan.dependencies(module).iter();
        let mut needs = edges.filter(|edge| edge.hard).map(|edge| edge.to);
        needs.any(|need| is(need) || self.needs(need, is))
    }

    /// Whether it stops as soon as what needs it has stopped.
    fn has_to_stop(&self, module: ModuleId) -> bool {
        let forecast = self.lifecycle.forecast(self.now, module);
        matches!(forecast, Forecast::StopsAfter { .. })
    }

    fn promises(&self) -> Vec<Promise> {
        let promise = |module| {
            let view = self.lifecycle.view(module);
            Promise {
                module,
                state: view.state,
                since: view.since,
                forecast: self.lifecycle.forecast(self.now, module),
            }
        };
        self.runtime_plan.ids().map(promise).collect()
    }
}
