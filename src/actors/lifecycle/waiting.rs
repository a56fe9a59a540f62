//! What a waiting module waits for, in words.
//! Owns the text: dependencies with their conditions, the failed one among them, restart tokens.
//! Never decides: policy says what holds a module.

use std::collections::BTreeSet;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::ModuleInfo;
use mainstay_policy::spec::DependencyCondition;
use mainstay_policy::states::State;

use super::LifecycleActorState;

/// The conditions, and what a dependency has to do to satisfy each.
const CONDITIONS: [(DependencyCondition, &str); 4] = [
    (DependencyCondition::Ready, "to be ready"),
    (DependencyCondition::Started, "to start"),
    (DependencyCondition::Healthy, "to be healthy"),
    (DependencyCondition::Completed, "to complete"),
];

impl LifecycleActorState {
    /// Returns what a module in `waiting` waits for: "a, b to be ready, t to complete".
    pub(super) fn waiting_text(&self, module: ModuleId, view: &ModuleInfo) -> Option<String> {
        if view.state != State::Waiting {
            return None;
        }
        if let Some(failed) = view.held_by_failed {
            return Some(self.failed_need_text(module, view, failed));
        }
        if view.waiting_on.is_empty() && self.is_held(view) {
            return Some(format!(
                "its release (`mainstay release {}`)",
                self.ctx.name(module)
            ));
        }
        if !view.token_holders.is_empty() {
            let holders = self.ctx.names(&view.token_holders);
            return Some(format!("its turn to restart, after {holders}"));
        }
        let spec = self.ctx.spec(module);
        let parts = CONDITIONS.iter().filter_map(|(until, text)| {
            let of_kind = spec.edges.iter().filter(|edge| edge.until == *until);
            let needs: BTreeSet<ModuleId> = of_kind.map(|edge| edge.to).collect();
            let held = view.waiting_on.iter().copied();
            let held: Vec<ModuleId> = held.filter(|id| needs.contains(id)).collect();
            (!held.is_empty()).then(|| format!("{} {text}", self.ctx.names(&held)))
        });
        let text = parts.collect::<Vec<_>>().join(", ");
        let is_held = |id: &&ModuleId| {
            let need = self.policy.view(**id);
            need.state == State::Waiting && need.waiting_on.is_empty() && self.is_held(&need)
        };
        let held: Vec<ModuleId> = view.waiting_on.iter().filter(is_held).copied().collect();
        match held[..] {
            _ if text.is_empty() => None,
            [] => Some(text),
            [_] => Some(format!("{text}; {} is held", self.ctx.names(&held))),
            _ => Some(format!("{text}; {} are held", self.ctx.names(&held))),
        }
    }

    /// Whether no run of a module starts now because it is held.
    pub(super) fn is_held(&self, view: &ModuleInfo) -> bool {
        let until = view.held_until;
        until.is_some_and(|until| self.ctx.os.now() < until)
    }

    /// Returns which need of a module has failed, why, and whether it is tried again.
    pub(super) fn failed_need_text(
        &self,
        module: ModuleId,
        view: &ModuleInfo,
        failed: ModuleId,
    ) -> String {
        let spec = self.ctx.spec(module);
        let name = self.ctx.name(failed);
        let direct = spec
            .edges
            .iter()
            .find(|edge| edge.hard && edge.to == failed);
        let need = match direct.map(|edge| edge.until) {
            Some(DependencyCondition::Ready) => name.to_string(),
            Some(until) => {
                let found = CONDITIONS.iter().find(|(condition, _)| *condition == until);
                format!("{name} {}", found.map_or("", |(_, text)| text))
            }
            None => {
                let between = self.ctx.names(&view.waiting_on);
                format!("{between}; {name}")
            }
        };
        let now = self.policy.view(failed);
        let happened = match now.state {
            State::Stopped => "ended before it was ready",
            _ => "failed",
        };
        let reason = self.reason(failed, now.state);
        let next = match now.retry_at {
            Some(_) => "; one more try follows",
            None if reason.contains("not tried again") => "",
            None => "; no further try",
        };
        match direct {
            Some(_) => format!("{need}, which {happened}: {reason}{next}"),
            None => format!("{need} {happened}: {reason}{next}"),
        }
    }

    /// Marks what is published of the modules that wait because of `module`, directly or by way
    /// of others that wait.
    pub(super) fn mark_waiting(&mut self, module: ModuleId) {
        let plan = self.ctx.plan();
        let mut more = vec![module];
        while let Some(module) = more.pop() {
            if !plan.has(module) {
                continue;
            }
            for dependent in plan.dependents(module) {
                let waits = self.policy.view(dependent.from).state == State::Waiting;
                if waits && self.dirty.insert(dependent.from) {
                    more.push(dependent.from);
                }
            }
        }
    }
}
