//! What must hold long after the last fault, and why a module is where it is.
//! Owns the comparison of what is published with what is true. Never changes anything.

use std::fmt::Write as _;

use mainstay::simulation::SimulatedRuntime;
use mainstay_policy::spec::{Kind, StartMode};
use mainstay_policy::{Desired, ModuleId, State, Status};

use super::history::{Checked, History, Wish};
use super::violation::ActorViolation;

impl History {
    /// Long after the last fault: everything is where it was requested, or says why not.
    pub(super) fn at_rest(&self, runtime: &SimulatedRuntime) -> Checked {
        if let Some(dead) = runtime.dead_actors().into_iter().next() {
            return Err(ActorViolation::ActorDead(dead));
        }
        if let Some(problem) = runtime.journal_problem() {
            return Err(ActorViolation::Journal(problem));
        }
        let plan = runtime.plan();
        if runtime.committed() != plan.number() {
            return Err(ActorViolation::PlanNotCommitted);
        }
        for module in plan.modules().filter(|module| module.kind != Kind::Builtin) {
            self.module_at_rest(runtime, module.id, &module.name)?;
        }
        let world = self.machine.world();
        for (name, place) in &world.places {
            if place.known().is_some() && plan.find(name).is_none() {
                return Err(ActorViolation::NotInPlan(name.clone()));
            }
        }
        Ok(())
    }

    fn module_at_rest(&self, runtime: &SimulatedRuntime, module: ModuleId, name: &str) -> Checked {
        let view = runtime.view(module);
        let process = {
            let world = self.machine.world();
            let place = world.places.get(name);
            place.and_then(|place| place.known().cloned())
        };
        let name = name.to_owned();
        let is_right = match (view.desired, view.state) {
            (Desired::Up, State::Running | State::Stopped) => true,
            (Desired::Up, State::Failed) => view.retry_at.is_none(),
            (Desired::Up, State::Waiting) => true,
            (Desired::Down, State::Stopped | State::NotStarted | State::Failed) => true,
            _ => false,
        };
        if !is_right {
            return Err(ActorViolation::WishNotReached(name, view.state));
        }
        let runs = process.as_ref().map(|process| process.generation);
        let shown = (view.state == State::Running).then_some(view.generation);
        if runs != shown {
            return Err(ActorViolation::FalseState(name, view.state));
        }
        if view.state == State::Waiting
            && view.waiting_on.is_empty()
            && view.held_by_failed.is_none()
        {
            return Err(ActorViolation::WaitsForNothing(name));
        }
        let wished = match self.wishes.get(&name) {
            Some(Wish::Up) => view.desired == Desired::Up,
            Some(Wish::Down) => view.desired == Desired::Down,
            None => true,
        };
        if !wished {
            return Err(ActorViolation::WishLost(name));
        }
        let spec = runtime.spec(module);
        if process.is_some_and(|process| process.hangs) && spec.watchdog.is_some() {
            return Err(ActorViolation::WatchdogSleeps(name));
        }
        let needed = spec.required && spec.start == StartMode::Eager && spec.kind == Kind::Service;
        let missing = needed && view.state != State::Running;
        let well = matches!(runtime.status(), Status::Healthy | Status::Starting);
        // One that never ran when its stop was requested has not started; a plan may need it since.
        let is_stopped = view.desired == Desired::Down && self.stopped.contains(&name);
        let is_meant = view.state == State::Stopped || is_stopped;
        match missing && well && !is_meant {
            true => Err(ActorViolation::FalseStatus(name)),
            false => Ok(()),
        }
    }
}

/// Modules that are looked for by their names.
const MODULES_SHOWN: u32 = 100;

/// What is published of each module, and what `mainstay why` says of the first broken one.
pub(super) fn why(runtime: &SimulatedRuntime, violation: &ActorViolation) -> String {
    let (status, plan, committed) = (runtime.status(), runtime.plan(), runtime.committed());
    let mut text = format!(
        "the system is {status:?}, plan {} is in force, plan {committed} is committed\n",
        plan.number()
    );
    let names = (0..MODULES_SHOWN).map(|nth| format!("m{nth}"));
    for name in names {
        let Some(module) = runtime.find(&name) else {
            continue;
        };
        let view = runtime.view(module);
        let left = if plan.has(module) {
            ""
        } else {
            ", left the plan"
        };
        let _infallible = writeln!(
            text,
            "  {name:<5} {:?}, desired {:?}, run {}, cause {:?}{left}",
            view.state, view.desired, view.generation, view.cause
        );
    }
    text.push_str("last events of the system\n");
    for event in runtime.system_events(12) {
        let _infallible = writeln!(text, "  {event}");
    }
    let Some(module) = violation.module().and_then(|name| runtime.find(name)) else {
        return text;
    };
    let _infallible = writeln!(text, "what led there, as `mainstay why` says it");
    for line in runtime.why(module) {
        let _infallible = writeln!(text, "  {line}");
    }
    text
}
