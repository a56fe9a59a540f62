//! What the runtime writes down for the next one, and how much of it arrives.
//! Owns the records the holder has and those on their way, in the order they were written.
//! Never lets an order overtake the record of what led to it.

use std::collections::VecDeque;

use mainstay_policy::lifecycle::{Event, Record};
use mainstay_policy::recovery::{Remembered, Verdict};
use mainstay_policy::{ModuleId, State, Time, Wanted};

use super::{Sabotage, Sim};
use crate::check::{Reach, RunSeen};
use crate::world::Channel;

/// On its way to the holder.
#[derive(Debug)]
enum Written {
    Record(ModuleId, Box<Record>),
    /// The record that follows holds a verdict to try again.
    Retry(ModuleId),
    /// The record that follows holds a run, the one after this generation, and whether that one
    /// had ended as it may.
    Run(ModuleId, u64, bool),
    /// The record that follows holds the end of a run, of which this was known.
    End(ModuleId, RunSeen),
    /// What follows is the stop of everything, instead of this one.
    Stop(Option<Time>),
    /// The record that follows holds a wish; whom the wishes reached before it.
    Wish(Vec<Reach>),
}

/// All records.
#[derive(Debug)]
pub(super) struct Records {
    held: Vec<Record>,
    /// What the runtime wrote last of each module.
    newest: Vec<Option<Record>>,
    on_the_way: VecDeque<(Time, Written)>,
    mouth: Channel,
    touched: Vec<ModuleId>,
    /// Notes for what is written next.
    notes: Vec<Written>,
}

impl Records {
    pub(super) fn new(modules: usize) -> Records {
        Records {
            held: vec![fresh(0); modules],
            newest: vec![None; modules],
            on_the_way: VecDeque::new(),
            mouth: Channel::default(),
            touched: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What the holder has of a module.
    pub(super) fn held(&self, module: ModuleId) -> Record {
        self.held[module.index()]
    }

    /// When the newest record arrives: no order that was given after it arrives before.
    pub(super) fn arrive(&self) -> Time {
        self.mouth.newest()
    }

    pub(super) fn touch(&mut self, module: ModuleId) {
        self.touched.push(module);
    }

    pub(super) fn judged(&mut self, module: ModuleId, verdict: Verdict) {
        self.touch(module);
        if matches!(verdict, Verdict::Retry { .. }) {
            self.notes.push(Written::Retry(module));
        }
    }

    pub(super) fn run(&mut self, module: ModuleId, generation: u64, completed: bool) {
        self.notes
            .push(Written::Run(module, generation - 1, completed));
    }

    pub(super) fn ends(&mut self, module: ModuleId, seen: RunSeen) {
        self.notes.push(Written::End(module, seen));
    }

    pub(super) fn stops(&mut self, before: Option<Time>) {
        self.notes.push(Written::Stop(before));
    }

    pub(super) fn wished(&mut self, before: Vec<Reach>) {
        self.notes.push(Written::Wish(before));
    }

    /// Everything that arrives by `now` is with the holder.
    fn deliver(&mut self, now: Time) {
        while self.on_the_way.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, Written::Record(module, record))) = self.on_the_way.pop_front() {
                self.held[module.index()] = *record;
            }
        }
    }

    /// A new runtime, which has written nothing.
    pub(super) fn begin(&mut self) {
        self.newest.fill(None);
    }

    /// A new system: of each module only its newest generation is known.
    pub(super) fn begin_anew(&mut self, newest: impl Fn(usize) -> u64) {
        self.on_the_way.clear();
        for (at, held) in self.held.iter_mut().enumerate() {
            *held = fresh(newest(at));
        }
    }
}

impl Sim {
    /// As the product does it: whom an event names is looked at again.
    pub(super) fn concerns(&mut self, event: Event) {
        match event {
            Event::Wished { module, .. }
            | Event::Reported { module, .. }
            | Event::Health { module, .. }
            | Event::Adopted { module, .. } => self.records.touch(module),
            Event::Boot | Event::Resume | Event::StopAll { .. } | Event::Woke => {}
        }
    }

    /// Writes what changed of those that were touched; all of it arrives together.
    pub(super) fn write_records(&mut self) {
        let delay = self.delay();
        let records = &mut self.records;
        records.deliver(self.now);
        while let Some(module) = self.lifecycle.changed() {
            records.touched.push(module);
        }
        if self.options.sabotage == Some(Sabotage::OldRecords) {
            records.touched.clear();
        }
        let mut at = None;
        let mut arrival =
            |mouth: &mut Channel| *at.get_or_insert_with(|| mouth.arrival(self.now, delay));
        for note in records.notes.drain(..) {
            let at = arrival(&mut records.mouth);
            records.on_the_way.push_back((at, note));
        }
        for module in records.touched.drain(..) {
            let record = self.lifecycle.record(module);
            if records.newest[module.index()].replace(record) != Some(record) {
                let at = arrival(&mut records.mouth);
                let record = Written::Record(module, Box::new(record));
                records.on_the_way.push_back((at, record));
            }
        }
    }

    /// The runtime is gone: what would arrive after `until` is lost, and the second picture
    /// forgets what only the runtime knew.
    pub(super) fn lose_records(&mut self, until: Time) {
        self.records.deliver(until);
        while let Some((_, lost)) = self.records.on_the_way.pop_back() {
            match lost {
                Written::Record(..) => self.summary.lost_records += 1,
                Written::Retry(module) => self.check.unjudged(module),
                Written::Run(module, generation, completed) => {
                    self.check.never_ran(module, generation, completed);
                }
                Written::End(module, seen) => self.check.unended(module, seen),
                Written::Stop(before) => self.check.unstopped(before),
                Written::Wish(before) => self.check.unwished(&before),
            }
        }
    }
}

/// What is known of a module that ran as `generation` long ago.
pub(super) fn fresh(generation: u64) -> Record {
    Record {
        wanted: Wanted::Down,
        intent: 0,
        state: State::NotStarted,
        generation,
        ready: false,
        completed: false,
        ready_by: None,
        boot_by: None,
        retry_at: None,
        remembered: Remembered::default(),
        restarts: 0,
    }
}
