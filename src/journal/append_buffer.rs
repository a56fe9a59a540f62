//! Numbers events: the state under one short lock.
//! Owns the next sequence number, the newest events in memory and the count of lost ones.
//! Never waits for the writer, the disk or a subscriber.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use mainstay_protocol::{EventKind, Timestamp};
use serde_json::json;

use super::QUEUE;
use super::new_event::{Entry, NewEvent};

/// Events kept in memory, committed or not.
pub(super) const RING: usize = 1000;

/// Administrative events kept in memory; as many places of the writer's queue are for them alone.
pub(super) const ACTIONS_MAX: usize = 1024;

/// How many administrative rows are among the lost events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LostActions {
    #[default]
    None,
    Known(u64),
    /// Up to all there were.
    Unknown,
}

impl LostActions {
    fn plus(self, other: LostActions) -> LostActions {
        match (self, other) {
            (LostActions::None, actions) | (actions, LostActions::None) => actions,
            (LostActions::Known(one), LostActions::Known(two)) => LostActions::Known(one + two),
            (LostActions::Unknown, _) | (_, LostActions::Unknown) => LostActions::Unknown,
        }
    }
}

/// Events that did not reach the database, or may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostEvents {
    /// How many; none if the number is unknown.
    pub(super) count: Option<u64>,
    pub(super) actions: LostActions,
    /// How many of them the watermark counts as waiting.
    pub(super) waiting: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) at: Timestamp,
    pub(super) mono_ns: u64,
    pub(super) text: String,
}

impl LostEvents {
    fn one(entry: &Entry, text: &str) -> LostEvents {
        LostEvents {
            count: Some(1),
            actions: match entry.administrative {
                true => LostActions::Known(1),
                false => LostActions::None,
            },
            waiting: u64::from(entry.administrative),
            from: entry.event.seq,
            to: entry.event.seq,
            at: entry.event.at,
            mono_ns: entry.mono_ns,
            text: text.to_owned(),
        }
    }

    /// Counts one more entry, in any order.
    pub(super) fn count_in(lost: &mut Option<LostEvents>, entry: &Entry, text: &str) {
        LostEvents::merge(lost, LostEvents::one(entry, text));
    }

    pub(super) fn merge(into: &mut Option<LostEvents>, other: LostEvents) {
        let Some(lost) = into else {
            *into = Some(other);
            return;
        };
        lost.count = lost.count.zip(other.count).map(|(one, two)| one + two);
        lost.actions = lost.actions.plus(other.actions);
        lost.waiting += other.waiting;
        lost.from = lost.from.min(other.from);
        lost.to = lost.to.max(other.to);
        lost.at = lost.at.max(other.at);
        lost.mono_ns = lost.mono_ns.max(other.mono_ns);
    }

    /// Returns the gap event: a link of the chain, because administrative rows may be missing.
    pub(super) fn draft(&self) -> NewEvent {
        let mut payload = json!({
            "lost": self.count,
            "from": self.from,
            "to": self.to,
            "text": self.text,
        });
        match self.actions {
            LostActions::None => {}
            LostActions::Known(count) => payload["actions"] = json!(count),
            LostActions::Unknown => payload["actions"] = json!(null),
        }
        NewEvent {
            administrative: true,
            ..NewEvent::new(EventKind::JournalGap, self.at, self.mono_ns).payload(payload)
        }
    }
}

/// The state under the lock that each append takes.
#[derive(Debug)]
pub(super) struct AppendBuffer {
    next: u64,
    ring: VecDeque<Arc<Entry>>,
    /// The newest administrative events: ordinary ones do not displace them.
    actions: VecDeque<Arc<Entry>>,
    lost: Option<LostEvents>,
}

impl AppendBuffer {
    pub(super) fn new(first: u64) -> AppendBuffer {
        AppendBuffer {
            next: first,
            ring: VecDeque::new(),
            actions: VecDeque::new(),
            lost: None,
        }
    }

    /// Numbers a draft, keeps it in memory and queues it for the writer; counts it as lost if the
    /// queue is full. The last [`ACTIONS_MAX`] places of the queue are for administrative events
    /// alone; `on_action` is called with the number of one before it is queued.
    pub(super) fn append(
        &mut self,
        draft: NewEvent,
        queue: &Sender<Arc<Entry>>,
        on_action: impl FnOnce(u64),
    ) -> u64 {
        let entry = self.number(draft);
        if entry.administrative {
            on_action(entry.event.seq);
        }
        // The queue cannot grow meanwhile: only the owner of this lock adds to it.
        let fits = entry.administrative || queue.len() < QUEUE;
        if !fits || queue.try_send(Arc::clone(&entry)).is_err() {
            LostEvents::count_in(
                &mut self.lost,
                &entry,
                "events came faster than they could be written",
            );
        }
        entry.event.seq
    }

    /// Numbers a draft and keeps it in memory.
    pub(super) fn number(&mut self, draft: NewEvent) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(self.next, draft));
        self.next += 1;
        remember(&mut self.ring, RING, &entry);
        if entry.administrative {
            remember(&mut self.actions, ACTIONS_MAX, &entry);
        }
        entry
    }

    /// Drains the queue and the count of lost events in one step, so that a gap event is numbered
    /// after every event that was queued before it.
    pub(super) fn drain_lost(
        &mut self,
        queue: &Receiver<Arc<Entry>>,
    ) -> (Vec<Arc<Entry>>, Option<LostEvents>) {
        if self.lost.is_none() {
            return (Vec::new(), None);
        }
        (queue.try_iter().collect(), self.lost.take())
    }

    pub(super) fn has_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Returns the newest events and the newest administrative events; both may have the same one.
    pub(super) fn ring(&self) -> Vec<Arc<Entry>> {
        self.actions
            .iter()
            .chain(&self.ring)
            .map(Arc::clone)
            .collect()
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Makes the next number larger than `seq`.
    pub(super) fn advance_past(&mut self, seq: u64) {
        self.next = self.next.max(seq + 1);
    }
}

fn remember(ring: &mut VecDeque<Arc<Entry>>, max: usize, entry: &Arc<Entry>) {
    if ring.len() == max {
        ring.pop_front();
    }
    ring.push_back(Arc::clone(entry));
}
