//! Supervision groups: which modules restart together, and how often before the group escalates.
//! Owns the checked tree of groups and the restart budget of each.
//! Never judges a module: `recovery::decide` does, and asks here how far a restart reaches.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::mono_time::MonoTime;
use crate::spec::ModuleId;

#[cfg(test)]
mod tests;

/// The position of a group among those of its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupMember {
    /// A module.
    Module(ModuleId),
    /// Another group, which restarts as one.
    Group(GroupId),
}

/// Which members restart when one of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStrategy {
    /// That one.
    OneForOne,
    /// All.
    OneForAll,
    /// That one and those after it in `members`.
    RestForOne,
}

/// What follows when a group has used up its restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExceeded {
    /// The group restarts as one member of its parent, which counts that restart.
    Escalate,
    /// All members stop and are failed.
    StopGroup,
    /// Every module stops and starts again; the next time the group stops.
    RestartSystem,
    /// Everything stops.
    Shutdown,
    /// All members restart in degraded mode; the next time the group stops.
    Degrade,
}

/// One group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSpec {
    /// Its name.
    pub name: String,
    /// Its members, in the order that `rest_for_one` follows.
    pub members: Vec<GroupMember>,
    /// Which members restart together.
    pub strategy: GroupStrategy,
    /// Restarts within `within`; one more exceeds the budget.
    pub max_restarts: u32,
    /// The sliding window.
    pub within: Duration,
    /// What follows then.
    pub on_exceeded: OnExceeded,
}

/// Why groups do not form a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupError {
    /// A member is in two groups, or twice in one.
    TwoGroups {
        /// The member.
        member: GroupMember,
        /// The two groups; the same one if it names the member twice.
        groups: [GroupId; 2],
    },
    /// Groups contain each other in a circle.
    Cycle {
        /// Each contains the next, the last one the first.
        path: Vec<GroupId>,
    },
    /// A member is no group of this plan.
    UnknownGroup {
        /// The group that names it.
        group: GroupId,
    },
    /// A group without a parent escalates to it.
    NoParent {
        /// The group.
        group: GroupId,
    },
}

/// What a verdict concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// The module alone; its dependents do what their edges say.
    #[default]
    This,
    /// The module, and those members of a group that the strategy of the group takes along.
    Siblings {
        /// The group that acts: the module's own, or one above it.
        group: GroupId,
        /// Its strategy.
        strategy: GroupStrategy,
    },
    /// Every member of a group.
    Group(GroupId),
    /// Every module.
    System,
}

/// The groups of a plan: a forest in which each module is in one group at most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupTree {
    groups: Vec<GroupSpec>,
    parents: Vec<Option<GroupId>>,
    of_module: BTreeMap<ModuleId, GroupId>,
}

impl GroupTree {
    /// Checks that `groups` form a forest.
    ///
    /// # Errors
    /// The first reason why they do not.
    pub fn new(groups: Vec<GroupSpec>) -> Result<GroupTree, GroupError> {
        let mut parents = alloc::vec![None; groups.len()];
        let mut owners: BTreeMap<GroupMember, GroupId> = BTreeMap::new();
        let mut of_module = BTreeMap::new();
        for (group, spec) in (0_u32..).map(GroupId).zip(&groups) {
            for &member in &spec.members {
                if let Some(other) = owners.insert(member, group) {
                    let groups = [other, group];
                    return Err(GroupError::TwoGroups { member, groups });
                }
                match member {
                    GroupMember::Module(module) => {
                        of_module.insert(module, group);
                    }
                    GroupMember::Group(inner) => match parents.get_mut(inner.index()) {
                        Some(parent) => *parent = Some(group),
                        None => return Err(GroupError::UnknownGroup { group }),
                    },
                }
            }
        }
        let tree = GroupTree {
            groups,
            parents,
            of_module,
        };
        for group in tree.ids() {
            tree.check_no_cycle(group)?;
            let spec = tree.spec(group);
            let is_top = tree.parents[group.index()].is_none();
            if is_top && spec.on_exceeded == OnExceeded::Escalate {
                return Err(GroupError::NoParent { group });
            }
        }
        Ok(tree)
    }

    /// A walk towards the top comes back to where it began only in a cycle.
    fn check_no_cycle(&self, group: GroupId) -> Result<(), GroupError> {
        let mut path = alloc::vec![group];
        let mut next = self.parents[group.index()];
        while let Some(parent) = next {
            if parent == group {
                path.reverse();
                return Err(GroupError::Cycle { path });
            }
            if path.len() > self.groups.len() {
                return Ok(()); // below a cycle, which is reported for its own groups
            }
            path.push(parent);
            next = self.parents[parent.index()];
        }
        Ok(())
    }

    /// Every group.
    pub fn ids(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0_u32..).map(GroupId).take(self.groups.len())
    }

    /// One group.
    #[must_use]
    pub fn spec(&self, group: GroupId) -> &GroupSpec {
        &self.groups[group.index()]
    }

    /// The group that a module is in.
    #[must_use]
    pub fn group_of(&self, module: ModuleId) -> Option<GroupId> {
        self.of_module.get(&module).copied()
    }

    /// The modules of a group and of the groups in it, in the order of `members`.
    #[must_use]
    pub fn modules(&self, group: GroupId) -> Vec<ModuleId> {
        let mut modules = Vec::new();
        self.collect(&self.spec(group).members, &mut modules);
        modules
    }

    fn collect(&self, members: &[GroupMember], modules: &mut Vec<ModuleId>) {
        for member in members {
            match member {
                GroupMember::Module(module) => modules.push(*module),
                GroupMember::Group(group) => self.collect(&self.spec(*group).members, modules),
            }
        }
    }

    /// The members of groups that a scope takes along with `module`, which is not among them;
    /// none for a scope without a group.
    #[must_use]
    pub fn taken_along(&self, scope: Scope, module: ModuleId) -> Vec<ModuleId> {
        let mut modules = Vec::new();
        match scope {
            Scope::This | Scope::System => {}
            Scope::Group(group) => modules = self.modules(group),
            Scope::Siblings { group, strategy } => {
                let members = &self.spec(group).members;
                let Some(own) = members.iter().position(|one| self.contains(*one, module)) else {
                    return modules;
                };
                let range = match strategy {
                    GroupStrategy::OneForOne => own..own + 1,
                    GroupStrategy::OneForAll => 0..members.len(),
                    GroupStrategy::RestForOne => own..members.len(),
                };
                self.collect(&members[range], &mut modules);
            }
        }
        modules.retain(|other| *other != module);
        modules
    }

    fn contains(&self, member: GroupMember, module: ModuleId) -> bool {
        let mut at = Some(GroupMember::Module(module));
        while let Some(inner) = at {
            if inner == member {
                return true;
            }
            let outer = match inner {
                GroupMember::Module(module) => self.group_of(module),
                GroupMember::Group(group) => self.parents[group.index()],
            };
            at = outer.map(GroupMember::Group);
        }
        false
    }
}

/// The restarts of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct GroupLedger {
    /// Oldest first; at most `max_restarts`.
    recent: VecDeque<MonoTime>,
    /// When a member restarted last.
    last: Option<MonoTime>,
    /// Whether the one try of `restart_system` or `degrade` is used.
    tried: bool,
}

/// What a group says about the restart of one of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDecision {
    /// How far the restart reaches.
    pub scope: Scope,
    /// The groups whose budget it exceeded, the innermost first.
    pub exceeded: Vec<GroupId>,
    /// What the outermost of them does, if it does not escalate.
    pub action: Option<OnExceeded>,
}

/// The restart budgets of all groups.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupBudgets {
    ledgers: Vec<GroupLedger>,
}

impl GroupBudgets {
    /// Nothing was restarted yet.
    #[must_use]
    pub fn new(tree: &GroupTree) -> GroupBudgets {
        GroupBudgets {
            ledgers: alloc::vec![GroupLedger::default(); tree.groups.len()],
        }
    }

    /// Budgets for the groups of another plan: one with the same name keeps its restarts.
    #[must_use]
    pub fn carried_over(&self, before: &GroupTree, tree: &GroupTree) -> GroupBudgets {
        let ledger = |spec: &GroupSpec| {
            let same = before.groups.iter().position(|old| old.name == spec.name);
            same.map_or_else(GroupLedger::default, |at| self.ledgers[at].clone())
        };
        GroupBudgets {
            ledgers: tree.groups.iter().map(ledger).collect(),
        }
    }

    /// Counts the restart of `module` in its group, and in those above whose members escalate.
    /// Without a restart for `calm` and for the window of the group, its one try is there again.
    pub fn count_restart(
        &mut self,
        tree: &GroupTree,
        now: MonoTime,
        module: ModuleId,
        calm: Duration,
    ) -> GroupDecision {
        let mut decision = GroupDecision {
            scope: Scope::This,
            exceeded: Vec::new(),
            action: None,
        };
        let mut next = tree.group_of(module);
        while let Some(group) = next {
            let (spec, ledger) = (tree.spec(group), &mut self.ledgers[group.index()]);
            if ledger.count(spec, now, calm) {
                let strategy = spec.strategy;
                let alone = strategy == GroupStrategy::OneForOne && decision.exceeded.is_empty();
                decision.scope = match alone {
                    true => Scope::This,
                    false => Scope::Siblings { group, strategy },
                };
                return decision;
            }
            decision.exceeded.push(group);
            let (scope, action) = match spec.on_exceeded {
                OnExceeded::Escalate => {
                    next = tree.parents[group.index()];
                    continue;
                }
                OnExceeded::RestartSystem | OnExceeded::Degrade if ledger.tried => {
                    (Scope::Group(group), OnExceeded::StopGroup)
                }
                action @ (OnExceeded::RestartSystem | OnExceeded::Shutdown) => {
                    (Scope::System, action)
                }
                action @ (OnExceeded::Degrade | OnExceeded::StopGroup) => {
                    (Scope::Group(group), action)
                }
            };
            ledger.tried = true;
            decision.scope = scope;
            decision.action = Some(action);
            return decision;
        }
        decision
    }

    /// A request resets the budgets of all groups of `module`.
    pub fn reset(&mut self, tree: &GroupTree, module: ModuleId) {
        let mut next = tree.group_of(module);
        while let Some(group) = next {
            self.ledgers[group.index()] = GroupLedger::default();
            next = tree.parents[group.index()];
        }
    }

    /// Counts restarts that a runtime before made, as made `now`: a returning runtime may be too
    /// careful, never too generous.
    pub fn restore(&mut self, tree: &GroupTree, now: MonoTime, module: ModuleId, restarts: u32) {
        let Some(group) = tree.group_of(module) else {
            return;
        };
        let (most, ledger) = (
            tree.spec(group).max_restarts,
            &mut self.ledgers[group.index()],
        );
        for _ in 0..restarts.min(most) {
            if ledger.recent.len() < most as usize {
                ledger.recent.push_back(now);
            }
        }
    }
}

impl GroupLedger {
    /// Counts one restart. Returns false if the budget is exceeded, and counts from zero then.
    fn count(&mut self, spec: &GroupSpec, now: MonoTime, calm: Duration) -> bool {
        let is_calm = |last: MonoTime| last.after(calm.max(spec.within)) <= now;
        if self.last.is_some_and(is_calm) {
            self.tried = false;
        }
        self.last = Some(now);
        let expired = |at: &mut MonoTime| at.after(spec.within) <= now;
        while self.recent.pop_front_if(expired).is_some() {}
        if self.recent.len() < spec.max_restarts as usize {
            self.recent.push_back(now);
            return true;
        }
        self.recent.clear();
        false
    }
}
