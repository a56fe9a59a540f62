//! A reload as a transaction: applied, watched, then committed or rolled back.
//! Owns which plan is committed, which modules are watched and for how long, and the quarantine.
//! Never compares plans and never applies one: it says what to do with the plan that was applied.
//!
//! The committed plan stays the one to return to until the newest has been watched: a newer plan
//! that arrives during the watch takes the place of the one being watched, and inherits the modules
//! that it changed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::lifecycle::ModuleInfo;
use crate::mono_time::MonoTime;
use crate::spec::ModuleId;
use crate::states::{Health, State};

#[cfg(test)]
mod tests;

/// What a file says, as a hash.
pub type Content = String;

/// Whether a module does well before a plan changes it, so that a failure afterwards may be due to
/// the plan. One that has failed, and has not run for long enough since, may do so with any: going
/// back would not mend it, and a plan that goes back is not to be left for it.
#[must_use]
pub fn does_well(module: &ModuleInfo, is_unhealthy: bool) -> bool {
    let is_down = matches!(module.state, State::Backoff | State::Failed);
    !is_down && !is_unhealthy && module.attempts == 0
}

/// What to do with content that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is what runs.
    Unchanged,
    /// It was rolled back, and nothing was changed since.
    Quarantined,
    /// It is new.
    Apply,
}

/// What is known of a module while it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadEvent {
    /// It is in this state, with this health.
    State(State, Health),
    /// Its run failed, or ended although it was to run.
    Failed,
    /// It left the plan, and its last run has ended.
    Removed,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadEffect {
    /// Keep the plan as the committed one: this moves the pointer, after everything else.
    Commit {
        /// Its number.
        plan: u64,
    },
    /// Go back to the committed plan.
    RollBack {
        /// The number of the plan to leave.
        plan: u64,
        /// The module that failed.
        module: ModuleId,
    },
}

/// Where a watched module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// Starting or stopping: a timeout of its own ends that.
    Pending,
    /// It waits for another module, perhaps for ever: it delays no commit.
    Waiting,
    /// In its desired state.
    Settled,
}

/// The watch over a plan that is not committed.
#[derive(Debug, Clone)]
struct Watch {
    plan: u64,
    content: Content,
    period: Duration,
    modules: BTreeMap<ModuleId, Watched>,
    /// Modules that have not confirmed yet what they were told.
    told: BTreeSet<ModuleId>,
    /// When the last of them settled for the first time.
    settled_at: MonoTime,
    /// Whether every run that the plan replaced has ended.
    in_force: bool,
}

/// A plan that is watched, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watching {
    /// Its number.
    pub plan: u64,
    /// How long it is watched once the last of its modules runs.
    pub period: Duration,
    /// When it is committed, if nothing fails; None: not all of them run yet.
    pub until: Option<MonoTime>,
    /// The modules of which a failure rolls it back.
    pub modules: Vec<ModuleId>,
}

/// The transaction.
#[derive(Debug, Clone)]
pub struct Reload {
    committed: u64,
    content: Content,
    watch: Option<Watch>,
    /// The watch before that of a plan which the modules may still refuse.
    former: Option<Watch>,
    quarantined: Option<Content>,
}

impl Reload {
    /// With a committed plan and its content.
    #[must_use]
    pub fn new(committed: u64, content: Content) -> Reload {
        Reload {
            committed,
            content,
            watch: None,
            former: None,
            quarantined: None,
        }
    }

    /// The number of the committed plan.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// The number of the plan that is watched, if one is.
    #[must_use]
    pub fn watched(&self) -> Option<u64> {
        self.watch.as_ref().map(|watch| watch.plan)
    }

    /// What is watched, if a plan is.
    #[must_use]
    pub fn watching(&self) -> Option<Watching> {
        let watch = self.watch.as_ref()?;
        Some(Watching {
            plan: watch.plan,
            period: watch.period,
            until: self.deadline(),
            modules: watch.modules.keys().copied().collect(),
        })
    }

    /// This content is not applied until it changes: a runtime before rolled it back, or should
    /// have.
    pub fn quarantine(&mut self, content: Content) {
        self.quarantined = Some(content);
    }

    /// The content that is not applied until it changes.
    #[must_use]
    pub fn quarantined(&self) -> Option<&Content> {
        self.quarantined.as_ref()
    }

    /// Content that was read. A person's request tries again what was rolled back.
    pub fn offer(&mut self, content: &Content, by_request: bool) -> Offer {
        let current = self.watch.as_ref().map(|watch| &watch.content);
        if self.quarantined.as_ref() == Some(content) && !by_request {
            return Offer::Quarantined;
        }
        self.quarantined = None;
        match current.unwrap_or(&self.content) == content {
            true => Offer::Unchanged,
            false => Offer::Apply,
        }
    }

    /// A plan is being applied: [`Reload::accepted`] or [`Reload::refused`] follows. `touched` are
    /// the modules that it changes and that did well before: a module that had failed already is no
    /// reason to go back. Without any there is nothing to watch but the end of the runs that it
    /// replaces.
    pub fn applied(
        &mut self,
        now: MonoTime,
        (plan, content): (u64, Content),
        period: Duration,
        touched: impl IntoIterator<Item = ModuleId>,
    ) {
        let is_committed = content == self.content;
        self.former = self.watch.clone();
        let former = self.watch.take().filter(|_| !is_committed);
        // What the former plan changed and this one does not is where it was.
        let mut modules = former.map_or_else(BTreeMap::new, |watch| watch.modules);
        if !is_committed {
            modules.extend(touched.into_iter().map(|module| (module, Watched::Pending)));
        }
        self.watch = Some(Watch {
            plan,
            content,
            period,
            modules,
            told: BTreeSet::new(),
            settled_at: now,
            in_force: false,
        });
    }

    /// The plan that was applied is in force.
    pub fn accepted(&mut self) {
        self.former = None;
    }

    /// The plan that was applied is not in force: the one before it is watched as it was, with what
    /// was learned meanwhile.
    pub fn refused(&mut self) {
        let learned = self.watch.take().map(|watch| watch.modules);
        let learned = learned.unwrap_or_default();
        self.watch = self.former.take();
        let modules = self.watch.iter_mut().flat_map(|watch| &mut watch.modules);
        for (module, watched) in modules {
            *watched = learned.get(module).copied().unwrap_or(*watched);
        }
    }

    fn watches(&mut self) -> impl Iterator<Item = &mut Watch> {
        self.watch.iter_mut().chain(&mut self.former)
    }

    /// Every run that the plan replaced has ended.
    pub fn in_force(&mut self, plan: u64) {
        for watch in self.watches().filter(|watch| watch.plan == plan) {
            watch.in_force = true;
        }
    }

    /// News of a module. A failure of a watched one ends the watch.
    pub fn apply(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        event: ReloadEvent,
    ) -> Option<ReloadEffect> {
        let watch = self.watch.as_mut()?;
        let watched = watch.modules.get_mut(&module)?;
        let next = match event {
            ReloadEvent::Removed | ReloadEvent::State(State::NotStarted | State::Stopped, _) => {
                Watched::Settled
            }
            ReloadEvent::Failed | ReloadEvent::State(State::Backoff | State::Failed, _) => {
                return self.roll_back(module);
            }
            ReloadEvent::State(State::Running, Health::Unhealthy) => {
                return self.roll_back(module);
            }
            ReloadEvent::State(State::Running, _) => Watched::Settled,
            ReloadEvent::State(State::Waiting, _) => Watched::Waiting,
            ReloadEvent::State(State::Starting | State::Stopping, _) => Watched::Pending,
        };
        if next == Watched::Settled && *watched != Watched::Settled {
            watch.settled_at = now;
        }
        *watched = next;
        None
    }

    /// A module was told of the plan that is watched: it holds up the commit until it has
    /// confirmed.
    pub fn told(&mut self, module: ModuleId) {
        if let Some(watch) = &mut self.watch {
            watch.told.insert(module);
        }
    }

    /// A module has confirmed, or cannot follow.
    pub fn confirmed(&mut self, now: MonoTime, module: ModuleId, ok: bool) -> Option<ReloadEffect> {
        if !ok {
            return self.roll_back(module);
        }
        for watch in self.watches() {
            if watch.told.remove(&module) {
                watch.settled_at = now;
            }
        }
        None
    }

    fn roll_back(&mut self, module: ModuleId) -> Option<ReloadEffect> {
        let watch = self.watch.take()?;
        self.former = None;
        self.quarantined = Some(watch.content);
        let plan = watch.plan;
        Some(ReloadEffect::RollBack { plan, module })
    }

    /// What is due now.
    pub fn next_effect(&mut self, now: MonoTime) -> Option<ReloadEffect> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let watch = self.watch.take()?;
        (self.committed, self.content) = (watch.plan, watch.content);
        let plan = watch.plan;
        Some(ReloadEffect::Commit { plan })
    }

    /// When [`Reload::next_effect`] has something to do without news.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        let watch = self.watch.as_ref()?;
        let pending = watch.modules.values().any(|each| *each == Watched::Pending);
        let ends = match watch.modules.is_empty() {
            true => watch.settled_at,
            false => watch.settled_at.after(watch.period),
        };
        (watch.in_force && !pending && watch.told.is_empty()).then_some(ends)
    }

    /// The plan of a rollback is in force: it has the committed content under a new number.
    pub fn rolled_back(&mut self, plan: u64) {
        self.committed = plan;
    }
}
