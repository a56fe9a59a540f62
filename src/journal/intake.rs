//! Where events get their number: one short lock, a ring of the newest, a count of the lost.
//! Owns the next number and what is kept in memory.
//! Never waits for the writer, the disk or a subscriber.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use mainstay_protocol::{EventKind, Timestamp};
use serde_json::json;

use super::draft::{Draft, Entry};

/// Events kept in memory, written or not.
pub(super) const RING: usize = 1000;

/// Events that never reached the database, or may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// How many; nothing when it cannot be known.
    pub(super) count: Option<u64>,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) at: Timestamp,
    pub(super) mono_ns: u64,
    pub(super) text: String,
}

impl Lost {
    fn one(entry: &Entry, text: &str) -> Lost {
        Lost {
            count: Some(1),
            from: entry.event.seq,
            to: entry.event.seq,
            at: entry.event.at,
            mono_ns: entry.mono_ns,
            text: text.to_owned(),
        }
    }

    /// Counts one more entry, newer or older than those counted before.
    pub(super) fn count_in(lost: &mut Option<Lost>, entry: &Entry, text: &str) {
        Lost::merge(lost, Lost::one(entry, text));
    }

    pub(super) fn merge(into: &mut Option<Lost>, other: Lost) {
        let Some(lost) = into else {
            *into = Some(other);
            return;
        };
        lost.count = lost.count.zip(other.count).map(|(one, two)| one + two);
        lost.from = lost.from.min(other.from);
        lost.to = lost.to.max(other.to);
        lost.at = lost.at.max(other.at);
        lost.mono_ns = lost.mono_ns.max(other.mono_ns);
    }

    pub(super) fn draft(&self) -> Draft {
        Draft::new(EventKind::JournalGap, self.at, self.mono_ns).payload(json!({
            "lost": self.count,
            "from": self.from,
            "to": self.to,
            "text": self.text,
        }))
    }
}

/// The state behind the lock every append takes.
#[derive(Debug)]
pub(super) struct Intake {
    next: u64,
    ring: VecDeque<Arc<Entry>>,
    lost: Option<Lost>,
}

impl Intake {
    pub(super) fn new(first: u64) -> Intake {
        Intake {
            next: first,
            ring: VecDeque::new(),
            lost: None,
        }
    }

    /// Numbers a draft, remembers it, hands it to the writer, or counts it when the queue is full.
    pub(super) fn append(&mut self, draft: Draft, queue: &Sender<Arc<Entry>>) -> u64 {
        let entry = self.number(draft);
        if queue.try_send(Arc::clone(&entry)).is_err() {
            Lost::count_in(
                &mut self.lost,
                &entry,
                "events came faster than they could be written",
            );
        }
        entry.event.seq
    }

    /// Numbers a draft and remembers it.
    pub(super) fn number(&mut self, draft: Draft) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(self.next, draft));
        self.next += 1;
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(Arc::clone(&entry));
        entry
    }

    /// Empties the queue and takes what was lost: both in one step, so that a gap record gets a
    /// number behind everything that was queued before it.
    pub(super) fn take_lost(
        &mut self,
        queue: &Receiver<Arc<Entry>>,
    ) -> (Vec<Arc<Entry>>, Option<Lost>) {
        if self.lost.is_none() {
            return (Vec::new(), None);
        }
        (queue.try_iter().collect(), self.lost.take())
    }

    pub(super) fn has_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The newest events, oldest first.
    pub(super) fn ring(&self) -> Vec<Arc<Entry>> {
        self.ring.iter().map(Arc::clone).collect()
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Numbers from here on are larger than `seq`.
    pub(super) fn raise_above(&mut self, seq: u64) {
        self.next = self.next.max(seq + 1);
    }
}
