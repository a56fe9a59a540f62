//! What would follow if a module were stopped, killed, or failed again and again.
//! Owns nothing: it happens on a copy, in a world where every other run succeeds at once.
//! Never answers from rules of its own: whatever the lifecycle decides, this shows.

use alloc::vec::Vec;

use super::preview::{NOW, Played};
use super::{Lifecycle, LifecycleEvent, Operation, PreviewStep, SystemInfo};
use crate::mono_time::MonoTime;
use crate::recovery::Decision;
use crate::spec::ModuleId;
use crate::states::{Desired, State, Status};

/// Failures that are played at most: a module whose restarts have no limit never comes to rest.
const FAILURES_MAX: usize = 256;
/// Waits for each module that are played at most, beside those between failures.
const WAITS_A_MODULE: usize = 16;

/// What is supposed to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supposition {
    /// It is stopped on request.
    Stop,
    /// Its run is killed once.
    Kill,
    /// Each of its runs fails from now on.
    Fail,
}

/// What would follow.
#[derive(Debug, Clone, PartialEq)]
pub struct WhatIf {
    /// What happens to which module, each once, in the order of the first thing.
    pub steps: Vec<PreviewStep>,
    /// What recovery decides about the first failure.
    pub decision: Option<Decision>,
    /// The worst status meanwhile.
    pub worst: Status,
    /// The system afterwards. Probation is not waited for.
    pub after: SystemInfo,
    /// The module goes on to fail, and is never given up.
    pub is_endless: bool,
}

impl Lifecycle {
    /// What would follow from `supposition` at `now`. Costs a copy of everything.
    #[must_use]
    pub fn what_if(&self, now: MonoTime, module: ModuleId, supposition: Supposition) -> WhatIf {
        let mut copy = self.without_effects();
        let mut played = Played::because_of(Some(module));
        played.fails = (supposition == Supposition::Fail).then_some(module);
        let generation = copy.get(module).map_or(0, |slot| slot.generation);
        let is_live = copy.get(module).is_some_and(|slot| slot.state.is_up());
        match supposition {
            Supposition::Stop => {
                let operation = Operation::Stop;
                copy.apply(now, LifecycleEvent::Requested { module, operation });
            }
            Supposition::Kill | Supposition::Fail if is_live => {
                copy.fail(now, module, generation, &mut played);
            }
            Supposition::Kill => {}
            Supposition::Fail => {
                let operation = Operation::Start;
                copy.apply(now, LifecycleEvent::Requested { module, operation });
            }
        }
        copy.play_to_rest(now, &mut played);
        // What waits already does nothing new, and is without what it needs all the same.
        if supposition != Supposition::Kill {
            let affected = self.affected_by(module).into_iter();
            for other in affected.filter(|id| copy.module(*id).state == State::Waiting) {
                played.waits(other, module);
            }
        }
        let mut without = self.without_effects();
        let mut anyway = Played::because_of(None);
        without.play_to_rest(now, &mut anyway);
        WhatIf {
            decision: played.decision.take(),
            worst: played.worst,
            is_endless: played.failures == FAILURES_MAX,
            steps: played.steps(&anyway.steps(&[])),
            after: copy.system(),
        }
    }

    /// Goes on until nothing is left to do but to wait for probation.
    fn play_to_rest(&mut self, now: MonoTime, played: &mut Played) {
        let mut now = now.max(NOW);
        self.finish_orders(now);
        self.play(now, played);
        for _ in 0..FAILURES_MAX + WAITS_A_MODULE * self.modules.len() {
            let Some(at) = self
                .next_wait(now)
                .filter(|_| played.failures < FAILURES_MAX)
            else {
                return;
            };
            now = at.max(now);
            self.play(now, played);
        }
    }

    /// When time alone goes on with a module that is on its way up; probation does not count.
    fn next_wait(&self, now: MonoTime) -> Option<MonoTime> {
        let on_its_way = self.ids().filter(|id| {
            let slot = self.module(*id);
            slot.goal() == Desired::Up && matches!(slot.state, State::Backoff | State::Waiting)
        });
        on_its_way
            .filter_map(|id| self.forecast(now, id).at())
            .min()
    }
}
