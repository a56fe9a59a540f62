//! What the second picture knows of recovery: ladders, groups, restarts that modules share.
//! Owns its own count of each budget and its own answer to who restarts with whom.
//! Never asks the tree of groups who is in scope.

use std::collections::VecDeque;
use std::time::Duration;

use mainstay_policy::group::{GroupId, GroupMember, GroupSpec, GroupStrategy, OnExceeded, Scope};
use mainstay_policy::recovery::{Decision, Verdict};
use mainstay_policy::spec::{Kind, Strategy};
use mainstay_policy::{ModuleId, MonoTime, Plan};

use super::{Checked, Checker, ensure};
use crate::violation::Violation;

/// How long a start waits for what has to be done before it.
const PROCEDURE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a module still owes to the failure of another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SharedEnd {
    /// The restart that it shares; 0: none.
    restart: u64,
    /// Its run that has to end for it.
    run: u64,
    /// It is stopped permanently.
    permanently: bool,
}

/// The restarts of the members of one group, by the time.
pub(super) type GroupCounts = Vec<VecDeque<MonoTime>>;

impl Checker {
    /// A failure was judged.
    pub(super) fn judged(
        &mut self,
        plan: &Plan,
        now: MonoTime,
        module: ModuleId,
        (attempt, decision): (u32, &Decision),
    ) -> Checked {
        let groups = &plan.system().groups;
        let is_right = is_scope_right(groups, module, decision);
        ensure(is_right, || Violation::RestartShared(module))?;
        self.group_counts.resize(groups.len(), VecDeque::new());
        // Each group that was exceeded begins anew, also one that gives up: a module that rests may
        // be needed again.
        for exceeded in &decision.exceeded {
            self.group_counts[exceeded.0 as usize].clear();
        }
        let shadow = self.of(module);
        shadow.at_rest = decision.verdict == Verdict::Done;
        shadow.shared_end = SharedEnd::default();
        match decision.verdict {
            Verdict::Retry { after, strategy } => {
                self.of(module).coming_back = true;
                if !decision.excused {
                    self.count_attempt(now, module, strategy, (attempt, decision))?;
                    let floor = self.of(module).spec.clone();
                    let floor = floor.map(|spec| spec.recovery.backoff.floor);
                    let counted = decision.exceeded.is_empty();
                    let first = !counted || self.of(module).attempts.len() < 2;
                    let spaced = first || after >= floor.unwrap_or_default();
                    ensure(spaced, || Violation::BudgetExceeded(module))?;
                    self.count_group(plan, now, module, decision)?;
                }
                self.shares(plan, module, decision.scope, false)
            }
            Verdict::GiveUp { .. } => {
                if decision.scope == Scope::System {
                    self.stop_requested(plan, now, plan.system().shutdown_timeout);
                    return Ok(());
                }
                self.shares(plan, module, decision.scope, true)
            }
            Verdict::Propose { .. } | Verdict::Done => Ok(()),
        }
    }

    /// A restart is shared by the members of a group that restarts them together.
    pub(super) fn is_shared_as_planned(
        &self,
        plan: &Plan,
        module: ModuleId,
        decision: &Decision,
    ) -> Checked {
        let groups = &plan.system().groups;
        let Some(group) = owner(groups, GroupMember::Module(module)) else {
            return Ok(());
        };
        let together = groups[group].strategy != GroupStrategy::OneForOne;
        let plain = matches!(decision.verdict, Verdict::Retry { .. })
            && !decision.excused
            && decision.exceeded.is_empty();
        let alone = together && plain && decision.scope == Scope::This;
        ensure(!alone, || Violation::RestartShared(module))
    }

    /// No rung of the ladder is used more often than it may.
    fn count_attempt(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        strategy: Strategy,
        (attempt, decision): (u32, &Decision),
    ) -> Checked {
        let shadow = self.of(module);
        let Some(spec) = shadow.spec.clone() else {
            return Ok(());
        };
        let recovery = &spec.recovery;
        let first = recovery.on_failure.first() == Some(&strategy);
        if !decision.exceeded.is_empty() {
            return Ok(()); // its group says what is done: which rung was used is not seen
        }
        if !first {
            shadow.rung_tries += 1;
            let within = shadow.rung_tries < recovery.on_failure.len();
            return ensure(within, || Violation::BudgetExceeded(module));
        }
        shadow.attempts.retain(|at| at.after(recovery.window) > now);
        shadow.attempts.push_back(now);
        let count = shadow.attempts.len();
        let most = recovery.max_attempts as usize;
        let none_forgotten = attempt as usize >= count;
        ensure(most == 0 || (count <= most && none_forgotten), || {
            Violation::BudgetExceeded(module)
        })
    }

    /// No group restarts its members more often than it may without saying so.
    fn count_group(
        &mut self,
        plan: &Plan,
        now: MonoTime,
        module: ModuleId,
        decision: &Decision,
    ) -> Checked {
        let groups = &plan.system().groups;
        let Some(group) = owner(groups, GroupMember::Module(module)) else {
            return Ok(());
        };
        if decision.scope == Scope::System && decision.exceeded.is_empty() {
            return Ok(()); // the module's own ladder restarts everything
        }
        if decision.exceeded.contains(&id(group)) {
            return Ok(());
        }
        let (spec, counts) = (&groups[group], &mut self.group_counts[group]);
        counts.retain(|at| at.after(spec.within) > now);
        counts.push_back(now);
        ensure(counts.len() <= spec.max_restarts as usize, || {
            Violation::GroupExceeded(module)
        })
    }

    /// Who restarts, or stops, with `module`: each run of theirs has to end.
    fn shares(
        &mut self,
        plan: &Plan,
        module: ModuleId,
        scope: Scope,
        permanently: bool,
    ) -> Checked {
        let others = in_scope(plan, module, scope);
        if others.is_empty() {
            return Ok(());
        }
        self.shared_restarts += 1;
        let restart = self.shared_restarts;
        for other in others.into_iter().filter(|other| *other != module) {
            let shadow = self.of(other);
            let builtin = plan.module(other).kind == Kind::Builtin;
            let ends = shadow.out && !shadow.halted && !shadow.next_requested;
            if builtin || !shadow.reach.allowed || !ends {
                continue;
            }
            shadow.shared_end = SharedEnd {
                restart,
                run: shadow.run,
                permanently,
            };
        }
        Ok(())
    }

    /// Something is to be done before the next run of a module, within this time.
    pub(super) fn prepares(&mut self, now: MonoTime, module: ModuleId) {
        self.of(module).prepared_by = now.after(PROCEDURE_TIMEOUT);
    }

    /// That is done.
    pub fn prepared(&mut self, module: ModuleId) {
        self.of(module).prepared_by = MonoTime(0);
    }

    /// A module is started: what was to be done before is done, or took too long, and none that it
    /// restarts with still runs.
    pub(super) fn starts_in_time(&mut self, now: MonoTime, module: ModuleId) -> Checked {
        let is_early = now < self.of(module).prepared_by;
        ensure(!is_early, || Violation::StartedUnprepared(module))?;
        let own = std::mem::take(&mut self.of(module).shared_end);
        if own.restart == 0 {
            return Ok(());
        }
        ensure(!own.permanently, || Violation::RestartShared(module))?;
        let is_late = self.shadows.iter().any(|other| {
            other.out
                && other.shared_end.restart == own.restart
                && other.run == other.shared_end.run
        });
        ensure(!is_late, || Violation::RestartShared(module))
    }

    /// At rest: what had to end has ended.
    pub(super) fn shared_ends_are_over(&self, module: ModuleId) -> Checked {
        let shadow = &self.shadows[module.index()];
        let end = shadow.shared_end;
        let goes_on = end.restart > 0 && shadow.out && shadow.run == end.run;
        ensure(!goes_on, || Violation::RestartShared(module))
    }

    /// A request forgives, a new plan or runtime begins anew: nothing is owed any more.
    pub(super) fn forget_recovery(&mut self) {
        self.group_counts.clear();
        for shadow in &mut self.shadows {
            shadow.shared_end = SharedEnd::default();
            shadow.rung_tries = 0;
        }
    }
}

fn id(group: usize) -> GroupId {
    GroupId(u32::try_from(group).unwrap_or(u32::MAX))
}

/// The group that names a member.
fn owner(groups: &[GroupSpec], member: GroupMember) -> Option<usize> {
    groups
        .iter()
        .position(|group| group.members.contains(&member))
}

/// Whether the scope is what the groups say about this failure: the strategy of the module's own
/// group, or, when budgets are exceeded from the inside out, what the last of them does.
fn is_scope_right(groups: &[GroupSpec], module: ModuleId, decision: &Decision) -> bool {
    let Decision {
        verdict,
        scope,
        exceeded,
        ..
    } = decision;
    let own = owner(groups, GroupMember::Module(module));
    let by_ladder = match verdict {
        Verdict::Retry {
            strategy: Strategy::RestartSystem,
            ..
        } => Some(Scope::System),
        Verdict::Propose {
            strategy: Strategy::RestartSystem,
        } => Some(Scope::System),
        Verdict::Retry { .. } if !decision.excused => None,
        _ => Some(Scope::This),
    };
    if let (Some(expected), true) = (by_ladder, exceeded.is_empty()) {
        return *scope == expected;
    }
    let Some(mut group) = own else {
        return *scope == Scope::This && exceeded.is_empty();
    };
    for (at, found) in exceeded.iter().enumerate() {
        let is_last = at + 1 == exceeded.len();
        if *found != id(group) {
            return false;
        }
        let gives_up = matches!(verdict, Verdict::GiveUp { .. });
        match groups[group].on_exceeded {
            OnExceeded::Escalate => match owner(groups, GroupMember::Group(id(group))) {
                Some(outer) => group = outer,
                None => return false,
            },
            OnExceeded::Shutdown => return is_last && gives_up && *scope == Scope::System,
            OnExceeded::RestartSystem if !gives_up => return is_last && *scope == Scope::System,
            _ => return is_last && *scope == Scope::Group(id(group)),
        }
    }
    let strategy = groups[group].strategy;
    let alone = strategy == GroupStrategy::OneForOne && exceeded.is_empty();
    match alone {
        true => *scope == Scope::This,
        false => {
            *scope
                == Scope::Siblings {
                    group: id(group),
                    strategy,
                }
        }
    }
}

fn in_scope(plan: &Plan, module: ModuleId, scope: Scope) -> Vec<ModuleId> {
    let groups = &plan.system().groups;
    let mut found = Vec::new();
    match scope {
        Scope::This => {}
        Scope::System => found.extend(plan.ids()),
        Scope::Group(group) => flatten(groups, GroupMember::Group(group), &mut found),
        Scope::Siblings { group, .. } => {
            let spec = &groups[group.0 as usize];
            let mut own = GroupMember::Module(module);
            while !spec.members.contains(&own) {
                match owner(groups, own) {
                    Some(outer) => own = GroupMember::Group(id(outer)),
                    None => return found,
                }
            }
            let mut reached = false;
            for member in &spec.members {
                reached |= *member == own;
                let along = match spec.strategy {
                    GroupStrategy::OneForOne => *member == own,
                    GroupStrategy::OneForAll => true,
                    GroupStrategy::RestForOne => reached,
                };
                if along {
                    flatten(groups, *member, &mut found);
                }
            }
        }
    }
    found
}

fn flatten(groups: &[GroupSpec], member: GroupMember, found: &mut Vec<ModuleId>) {
    match member {
        GroupMember::Module(module) => found.push(module),
        GroupMember::Group(group) => {
            for member in &groups[group.0 as usize].members {
                flatten(groups, *member, found);
            }
        }
    }
}
