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

/// Waits that are played at most: a module whose restarts have no limit never comes to rest.
const WAITS_MAX: usize = 256;

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
        let (mut now, mut waits) = (now.max(NOW), 0);
        copy.play(now, &mut played);
        while waits < WAITS_MAX
            && let Some(at) = copy.next_wait(now)
        {
            now = at.max(now);
            copy.play(now, &mut played);
            waits += 1;
        }
        WhatIf {
            decision: played.decision.take(),
            worst: played.worst,
            steps: played.steps(),
            after: copy.system(),
            is_endless: waits == WAITS_MAX,
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
