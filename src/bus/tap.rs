//! Taps: copies of what is published, for users.
//! Owns when a tap ends: with its value.
//! Never counted as a subscriber, and never waited for: a full tap counts what it misses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mainstay_protocol::RequestError;
use tokio::sync::mpsc;

use super::line_queue::{LineQueue, QueuedLine};
use super::{Bus, BusClient, PATTERNS_MAX, check_patterns, lock, too_many_patterns};

/// A copy of what is published under some subjects.
pub(crate) struct BusTap {
    bus: Arc<Bus>,
    number: u64,
    lines: mpsc::Receiver<QueuedLine>,
}

impl BusTap {
    /// Opens a tap; without subjects it gets everything.
    ///
    /// # Errors
    /// `invalid_params` for a subject that is not valid, or for too many subjects.
    pub(crate) fn open(bus: &Arc<Bus>, mut subjects: Vec<String>) -> Result<BusTap, RequestError> {
        check_patterns(&subjects)?;
        if subjects.len() > PATTERNS_MAX {
            return Err(too_many_patterns());
        }
        if subjects.is_empty() {
            subjects.push("*".to_owned());
        }
        let (queue, lines) = LineQueue::new();
        let mut endpoints = lock(&bus.endpoints);
        endpoints.last_connection += 1;
        let number = endpoints.last_connection;
        endpoints.taps.push(BusClient {
            patterns: subjects,
            ..BusClient::new(number, queue)
        });
        bus.subscribed.fetch_add(1, Ordering::Relaxed);
        drop(endpoints);
        Ok(BusTap {
            bus: Arc::clone(bus),
            number,
            lines,
        })
    }

    /// The next event, as the line that subscribers get.
    pub(crate) async fn next(&mut self) -> Option<Arc<Vec<u8>>> {
        self.lines.recv().await.map(|queued| queued.line)
    }
}

impl Drop for BusTap {
    fn drop(&mut self) {
        let mut endpoints = lock(&self.bus.endpoints);
        endpoints.taps.retain(|tap| tap.connection != self.number);
        self.bus.subscribed.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_protocol::Timestamp;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_tap_gets_a_copy_and_is_no_subscriber() {
        let bus = Arc::new(Bus::default());
        let publish = |subject: &str| {
            let published = bus.publish("one", Timestamp(0), subject.to_owned(), json!(1));
            published.expect("a subject").delivered
        };
        assert!(BusTap::open(&bus, vec!["a b".to_owned()]).is_err());
        let mut some = BusTap::open(&bus, vec!["a.*".to_owned()]).expect("open");
        let mut all = BusTap::open(&bus, Vec::new()).expect("open");
        assert_eq!([publish("b"), publish("a.c")], [0, 0]);
        bus.publish_internal(Timestamp(0), "mainstay.module.ready", || json!({}));
        let subject = |line: Option<Arc<Vec<u8>>>| {
            let line: Value = serde_json::from_slice(&line.expect("a line")).expect("JSON");
            line["params"]["subject"].as_str().expect("text").to_owned()
        };
        assert_eq!(subject(some.next().await), "a.c");
        for expected in ["b", "a.c", "mainstay.module.ready"] {
            assert_eq!(subject(all.next().await), expected);
        }
        drop((some, all));
        assert_eq!(bus.subscribed.load(Ordering::Relaxed), 0);
        assert!(lock(&bus.endpoints).taps.is_empty());
    }
}
