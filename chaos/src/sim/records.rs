//! What the runtime writes down for the next one, and how much of it arrives.
//! Owns the records the holder has and those on their way, in the order they were written.
//! Never lets an order overtake the record of what led to it.

use std::collections::VecDeque;
use std::sync::Arc;

use mainstay_policy::lifecycle::{LifecycleEvent, ModuleRecord};
use mainstay_policy::recovery::Verdict;
use mainstay_policy::{ModuleId, MonoTime, Plan};

use super::{InjectedBug, Sim};
use crate::checker::{BeforeReplan, BeforeRun, DesiredReach, ModelModule, ObservedRun};
use crate::coverage::Point;
use crate::world::FifoDelay;

/// Whose delays those of records are.
const SYSTEM: ModuleId = ModuleId(u32::MAX);

/// A plan with every module, and without those that a replay drops.
pub(super) type PlanPair = (Arc<Plan>, Arc<Plan>);

/// On its way to the holder.
#[derive(Debug)]
enum PendingWrite {
    Record(ModuleId, Box<ModuleRecord>),
    /// The record that follows holds a verdict to try again.
    Retry(ModuleId),
    /// The record that follows holds a run; what was known before it.
    Run(ModuleId, BeforeRun),
    /// The record that follows holds the end of a run, of which this was known.
    End(ModuleId, ObservedRun),
    /// The record that follows holds a hold or a release; until when it was held before.
    Hold(ModuleId, MonoTime),
    /// What follows is the stop of everything, instead of this one.
    Stop(Option<MonoTime>),
    /// The record that follows holds a wish; whom the wishes reached before it.
    Wish(Vec<DesiredReach>),
    /// The plan is kept, instead of this one; what was known before it.
    Plan(PlanPair, BeforeReplan),
    /// The record that follows holds no more that a run had completed.
    Uncompleted(ModuleId),
    /// The module is forgotten; what was known of it.
    Forget(ModuleId, Box<ModelModule>),
}

/// All records.
#[derive(Debug)]
pub(super) struct RecordChannel {
    saved: Vec<ModuleRecord>,
    /// What the runtime wrote last of each module.
    newest: Vec<Option<ModuleRecord>>,
    in_flight: VecDeque<(MonoTime, PendingWrite)>,
    channel: FifoDelay,
    touched: Vec<ModuleId>,
    /// Notes for what is written next.
    queued_notes: Vec<PendingWrite>,
    /// Written after the plan: the instances that the holder forgets.
    to_forget: Vec<(ModuleId, ModelModule)>,
    /// Written after the records: the plan they belong to.
    plan_written: Option<(PlanPair, BeforeReplan)>,
}

impl RecordChannel {
    pub(super) fn new(modules: usize) -> RecordChannel {
        RecordChannel {
            saved: vec![fresh(0); modules],
            newest: vec![None; modules],
            in_flight: VecDeque::new(),
            channel: FifoDelay::default(),
            touched: Vec::new(),
            queued_notes: Vec::new(),
            to_forget: Vec::new(),
            plan_written: None,
        }
    }

    /// What the holder has of a module.
    pub(super) fn saved(&self, module: ModuleId) -> ModuleRecord {
        self.saved[module.index()]
    }

    /// What the holder has of all modules, by slot.
    pub(super) fn all_saved(&self) -> Vec<ModuleRecord> {
        self.saved.clone()
    }

    /// When the newest record arrives: no order that was given after it arrives before.
    pub(super) fn arrive(&self) -> MonoTime {
        self.channel.newest()
    }

    pub(super) fn touch(&mut self, module: ModuleId) {
        self.touched.push(module);
    }

    pub(super) fn judged(&mut self, module: ModuleId, verdict: Verdict) {
        self.touch(module);
        if matches!(verdict, Verdict::Retry { .. }) {
            self.queued_notes.push(PendingWrite::Retry(module));
        }
    }

    pub(super) fn run(&mut self, module: ModuleId, before: BeforeRun) {
        self.queued_notes.push(PendingWrite::Run(module, before));
    }

    pub(super) fn ends(&mut self, module: ModuleId, seen: ObservedRun) {
        self.queued_notes.push(PendingWrite::End(module, seen));
    }

    pub(super) fn stops(&mut self, before: Option<MonoTime>) {
        self.queued_notes.push(PendingWrite::Stop(before));
    }

    pub(super) fn held(&mut self, module: ModuleId, before: MonoTime) {
        self.queued_notes.push(PendingWrite::Hold(module, before));
    }

    pub(super) fn requested(&mut self, before: Vec<DesiredReach>) {
        self.queued_notes.push(PendingWrite::Wish(before));
    }

    /// Everything that arrives by `now` is with the holder.
    fn deliver(&mut self, now: MonoTime) {
        while self.in_flight.front().is_some_and(|(at, _)| *at <= now) {
            match self.in_flight.pop_front() {
                Some((_, PendingWrite::Record(module, record))) => {
                    self.saved[module.index()] = *record;
                }
                Some((_, PendingWrite::Forget(module, _))) => self.forget(module),
                _ => {}
            }
        }
    }

    pub(super) fn grow(&mut self, slots: usize) {
        self.saved.resize(slots, fresh(0));
        self.newest.resize(slots, None);
    }

    /// The holder keeps nothing of a module.
    pub(super) fn forget(&mut self, module: ModuleId) {
        self.saved[module.index()] = fresh(0);
    }

    pub(super) fn removed(&mut self, module: ModuleId, known: ModelModule) {
        self.to_forget.push((module, known));
    }

    pub(super) fn uncompleted(&mut self, module: ModuleId) {
        self.queued_notes.push(PendingWrite::Uncompleted(module));
    }

    /// The plan is kept when the records of what it changed are.
    pub(super) fn plan_follows(&mut self, former: PlanPair, before: BeforeReplan) {
        self.plan_written = Some((former, before));
    }

    /// A new runtime, which has written nothing.
    pub(super) fn begin(&mut self) {
        self.newest.fill(None);
    }

    /// A new system: of each module only its newest generation is known.
    pub(super) fn begin_anew(&mut self, newest: impl Fn(usize) -> u64) {
        self.in_flight.clear();
        self.plan_written = None;
        self.to_forget.clear();
        for (at, held) in self.saved.iter_mut().enumerate() {
            *held = fresh(newest(at));
        }
    }
}

impl Sim {
    /// As the product does it: whom an event names is looked at again.
    pub(super) fn concerns(&mut self, event: LifecycleEvent) {
        match event {
            LifecycleEvent::Requested { module, .. }
            | LifecycleEvent::Reported { module, .. }
            | LifecycleEvent::Health { module, .. }
            | LifecycleEvent::ProcedureEnded { module, .. }
            | LifecycleEvent::Held { module, .. }
            | LifecycleEvent::LimitExceeded { module, .. }
            | LifecycleEvent::Idle { module, .. }
            | LifecycleEvent::Adopted { module, .. } => self.records.touch(module),
            LifecycleEvent::Boot
            | LifecycleEvent::Resume
            | LifecycleEvent::StopAll { .. }
            | LifecycleEvent::TimerFired => {}
        }
    }

    /// Writes what changed of those that were touched; all of it arrives together.
    pub(super) fn write_records(&mut self) {
        let delay = self.delay(SYSTEM);
        let records = &mut self.records;
        records.deliver(self.now);
        while let Some(module) = self.lifecycle.next_changed_record() {
            records.touched.push(module);
        }
        if self.options.sabotage == Some(InjectedBug::OldRecords) {
            records.touched.clear();
        }
        let mut at = None;
        let mut arrival =
            |channel: &mut FifoDelay| *at.get_or_insert_with(|| channel.arrival(self.now, delay));
        for note in records.queued_notes.drain(..) {
            let at = arrival(&mut records.channel);
            records.in_flight.push_back((at, note));
        }
        for module in records.touched.drain(..) {
            // A module that has left the plan keeps its last record until that is dropped, after
            // the plan is kept.
            if self.lifecycle.spec(module).is_none() {
                continue;
            }
            let record = self.lifecycle.record(module);
            if records.newest[module.index()].replace(record) != Some(record) {
                let at = arrival(&mut records.channel);
                let record = PendingWrite::Record(module, Box::new(record));
                records.in_flight.push_back((at, record));
            }
        }
        if let Some((former, before)) = records.plan_written.take() {
            let delay = self.delay(SYSTEM);
            let at = self.records.channel.arrival(self.now, delay);
            let plan = PendingWrite::Plan(former, before);
            self.records.in_flight.push_back((at, plan));
        }
        if !self.records.to_forget.is_empty() {
            let delay = self.delay(SYSTEM);
            let records = &mut self.records;
            let at = records.channel.arrival(self.now, delay);
            for (module, known) in records.to_forget.drain(..) {
                records.newest[module.index()] = None;
                let note = PendingWrite::Forget(module, Box::new(known));
                records.in_flight.push_back((at, note));
            }
        }
    }

    /// The runtime is gone: what would arrive after `until` is lost, and the second picture
    /// forgets what only the runtime knew.
    pub(super) fn lose_records(&mut self, until: MonoTime) {
        self.records.deliver(until);
        while let Some((_, lost)) = self.records.in_flight.pop_back() {
            match lost {
                PendingWrite::Record(..) => {
                    self.summary.lost_records += 1;
                    self.summary.coverage.reach(Point::FaultLostRecord);
                }
                PendingWrite::Retry(module) => self.check.undo_verdict(module),
                PendingWrite::Run(module, before) => self.check.undo_run(module, before),
                PendingWrite::End(module, seen) => self.check.undo_end(module, seen),
                PendingWrite::Stop(before) => self.check.undo_stop(before),
                PendingWrite::Hold(module, before) => self.check.undo_hold(module, before),
                PendingWrite::Wish(before) => self.check.undo_request(&before),
                PendingWrite::Plan((full, former), before) => {
                    self.check.undo_replan(&former, &before);
                    self.full_plan = full;
                    self.take_plan(former);
                }
                PendingWrite::Uncompleted(module) => self.check.undo_uncompleted(module),
                PendingWrite::Forget(module, known) => self.check.undo_removed(module, *known),
            }
        }
    }
}

/// What is known of a module that ran as `generation` long ago.
pub(super) fn fresh(generation: u64) -> ModuleRecord {
    ModuleRecord {
        generation,
        ..ModuleRecord::default()
    }
}
