//! What follows for a module if no event intervenes, and when.
//! Owns the closed list of what can follow; `chaos` checks that what was promised happens.
//! Never changes a decision: it reads what the reconcile step will act on.

use alloc::vec::Vec;

use super::managed_module::ManagedModule;
use super::{Lifecycle, SystemPhase};
use crate::mono_time::MonoTime;
use crate::spec::{Edge, ModuleId, Strategy};
use crate::states::{Desired, State};

/// What follows for a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forecast {
    /// Nothing: only a request or an event of its run changes its state.
    Nothing,
    /// Its run goes on; failures that still count are restored from then on, if any do.
    Runs {
        /// When an attempt is restored, or its features are.
        restored_at: Option<MonoTime>,
    },
    /// A person accepts what is proposed, or starts it.
    Proposal {
        /// The proposed rung of the ladder.
        strategy: Strategy,
    },
    /// It is to be started again.
    Retry {
        /// When it leaves its state.
        at: MonoTime,
        /// It was given up, and this is the one try that is let through.
        probation: bool,
    },
    /// A reset, or its rollback, has to end before the next start.
    Procedure {
        /// When it counts as failed.
        by: MonoTime,
    },
    /// It is started when these are what its edges ask for.
    Needs {
        /// Those whose conditions are not met, in the order of its edges.
        modules: Vec<ModuleId>,
        /// When time alone changes that: a soft dependency is waited for no longer, or a hard
        /// one that ended with a clean exit code is started again.
        at: Option<MonoTime>,
    },
    /// It waits in vain for a module that was given up or ended before it was ready.
    FailedNeed {
        /// That module.
        module: ModuleId,
        /// The probation of that module.
        retry_at: Option<MonoTime>,
    },
    /// It is held: it is started when it is released.
    Held {
        /// Or then.
        until: MonoTime,
    },
    /// It restarts together with others, which have to end or whose backoff has to be over first.
    Members,
    /// It is started when one of these is ready, exits, or has had its token for too long.
    Token {
        /// The modules that hold all restart tokens.
        holders: Vec<ModuleId>,
        /// When the first of them loses its token.
        at: Option<MonoTime>,
    },
    /// Modules start one at a time: it is started in its turn.
    Turn {
        /// Which is starting.
        after: Option<ModuleId>,
        /// The end of the pause between two starts.
        at: Option<MonoTime>,
    },
    /// It runs once it is ready.
    Ready {
        /// When its start has failed.
        by: MonoTime,
    },
    /// Its run has to stop, after runs that depend on it.
    StopsAfter {
        /// Those.
        modules: Vec<ModuleId>,
    },
    /// Its run is being stopped.
    Stops {
        /// When what is left of it is killed.
        kill_at: Option<MonoTime>,
        /// Another run follows.
        then_starts: bool,
    },
    /// Its run ends although no order ended it. Recovery decides what follows.
    Ends,
}

impl Forecast {
    /// When time alone changes what is forecast; None: only an event does.
    #[must_use]
    pub fn at(&self) -> Option<MonoTime> {
        match self {
            Forecast::Retry { at, .. }
            | Forecast::Procedure { by: at }
            | Forecast::Held { until: at } => Some(*at),
            Forecast::Needs { at, .. }
            | Forecast::Token { at, .. }
            | Forecast::Turn { at, .. }
            | Forecast::Runs { restored_at: at } => *at,
            Forecast::Nothing
            | Forecast::Proposal { .. }
            | Forecast::FailedNeed { .. }
            | Forecast::Members
            | Forecast::Ready { .. }
            | Forecast::StopsAfter { .. }
            | Forecast::Stops { .. }
            | Forecast::Ends => None,
        }
    }
}

impl Lifecycle {
    /// What follows for `module`, as of `now`.
    #[must_use]
    pub fn forecast(&self, now: MonoTime, module: ModuleId) -> Forecast {
        let Some(slot) = self.get(module) else {
            return Forecast::Nothing;
        };
        let is_over = matches!(self.phase, SystemPhase::New | SystemPhase::Stopped);
        if is_over || (slot.is_builtin() && !slot.must_stop()) {
            return Forecast::Nothing;
        }
        match (slot.state, slot.goal()) {
            _ if slot.awaits_stop() => self.stop_forecast(module),
            (State::Running, _) => Forecast::Runs {
                restored_at: slot.own_deadline(),
            },
            (State::Starting, _) => Forecast::Ready {
                by: slot.ready_deadline.unwrap_or(MonoTime::NEVER),
            },
            (State::Stopping, _) if slot.ends_by_itself => Forecast::Ends,
            (State::Stopping, goal) => Forecast::Stops {
                kill_at: slot.stop_deadlines.map(|(by, _)| by),
                then_starts: goal == Desired::Up && !slot.rests_after_stop(),
            },
            (State::Failed, Desired::Up) if slot.proposal.is_some() => {
                slot.proposal.map_or(Forecast::Nothing, |proposal| {
                    let strategy = proposal.strategy;
                    Forecast::Proposal { strategy }
                })
            }
            (State::Backoff | State::Failed, Desired::Up) => retry_forecast(slot, now),
            (State::Waiting, Desired::Up) => self.waiting_forecast(now, module, slot),
            (State::NotStarted | State::Stopped, _)
            | (State::Waiting | State::Backoff | State::Failed, Desired::Down) => Forecast::Nothing,
        }
    }

    fn stop_forecast(&self, module: ModuleId) -> Forecast {
        let dependents = self.graph.dependents(module).iter();
        let stopping = dependents.filter(|dependent| {
            self.module(dependent.from).is_stopping() && self.is_in_force(dependent, module)
        });
        Forecast::StopsAfter {
            modules: stopping.map(|dependent| dependent.from).collect(),
        }
    }

    fn waiting_forecast(&self, now: MonoTime, module: ModuleId, slot: &ManagedModule) -> Forecast {
        if let Some(need) = self.held_by_failed(slot) {
            return Forecast::FailedNeed {
                module: need,
                retry_at: self.module(need).retry_at,
            };
        }
        let blocking = |edge: &&Edge| self.edge_blocks(edge, slot.since, now);
        let edges: Vec<_> = slot.spec.edges.iter().filter(blocking).collect();
        if !edges.is_empty() {
            let end =
                |edge: &&Edge| (!edge.hard).then(|| self.soft_wait_deadline(edge, slot.since));
            // The end of one wait does not start it; the last one does if all of them end.
            let at = match edges[..] {
                [edge] if edge.hard => {
                    let need = self.module(edge.to);
                    need.can_be_resumed().then(|| need.resumed_from())
                }
                _ => {
                    let ends: Option<Vec<MonoTime>> = edges.iter().map(end).collect();
                    ends.and_then(|ends| ends.into_iter().max())
                }
            };
            let modules = edges.iter().map(|edge| edge.to).collect();
            return Forecast::Needs { modules, at };
        }
        if let Some(until) = slot.hold(now) {
            return Forecast::Held { until };
        }
        if self.awaits_members(module) {
            return Forecast::Members;
        }
        if let Some(procedure) = slot.procedure {
            return Forecast::Procedure { by: procedure.by };
        }
        if self.for_token.contains(&self.token_queue_key(module)) {
            let holders = self.token_holders.clone();
            let until = (holders.iter()).filter_map(|id| self.get(*id)?.token_until);
            return Forecast::Token {
                at: until.min(),
                holders,
            };
        }
        // Out of the initial startup nothing holds it any more.
        let after = self.turn.filter(|_| self.is_serial());
        let at = if self.is_serial() { self.turn_at } else { now };
        Forecast::Turn {
            after,
            at: after.is_none().then_some(at),
        }
    }
}

/// What follows in backoff, or after it was given up.
fn retry_forecast(slot: &ManagedModule, now: MonoTime) -> Forecast {
    let probation = slot.state == State::Failed;
    match (slot.retry_at, slot.procedure) {
        (Some(at), Some(procedure)) if at <= now => Forecast::Procedure { by: procedure.by },
        (Some(at), _) => Forecast::Retry { at, probation },
        (None, _) => Forecast::Nothing,
    }
}
