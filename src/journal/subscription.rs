//! Subscriptions to committed events: first from the database, then live.
//! Owns the list of subscribers and the transition from replay to live events.
//! Never waits for a subscriber: one that lags too far is closed with an error.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use mainstay_protocol::Event;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

use super::JournalShared;
use super::new_event::Entry;
use super::reader::{self, EventFilter, Page, ReadError};

/// Events a subscriber may lag.
const LAG_MAX: usize = 1024;
/// Events of one page of a replay.
const PAGE: usize = 256;

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// The subscriber lagged more than 1024 events.
    #[error(
        "cannot continue the subscription: the reader was too slow and missed event {missed} and \
         later ones; subscribe again from the last event read"
    )]
    Lagged {
        /// The first event that was not delivered.
        missed: u64,
    },
    /// The journal was closed.
    #[error(
        "cannot continue the subscription: the journal was closed; subscribe again after the \
         runtime has returned"
    )]
    Closed,
    /// OfflineJournal events cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The reading thread panicked: a bug in mainstay.
    #[error(
        "cannot continue the subscription: reading the journal panicked ({0}); subscribe again"
    )]
    Interrupted(#[from] tokio::task::JoinError),
}

#[derive(Debug)]
struct Subscriber {
    filter: EventFilter,
    live: mpsc::Sender<Arc<Entry>>,
    missed: Arc<OnceLock<u64>>,
}

/// All subscribers, and the newest published event.
#[derive(Debug)]
pub(super) struct Hub {
    subscribers: Vec<Subscriber>,
    committed: u64,
    closed: bool,
}

impl Hub {
    /// Everything up to `committed` is in the database and published, or lost.
    pub(super) fn new(committed: u64) -> Hub {
        Hub {
            subscribers: Vec::new(),
            committed,
            closed: false,
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// Sends a committed batch to each subscriber whose filter admits some of it.
    pub(super) fn publish(&mut self, batch: &[Arc<Entry>]) {
        let Some(last) = batch.last() else {
            return;
        };
        self.committed = self.committed.max(last.event.seq);
        self.subscribers.retain(|subscriber| {
            batch
                .iter()
                .filter(|entry| subscriber.filter.admits(entry))
                .all(|entry| match subscriber.live.try_send(Arc::clone(entry)) {
                    Ok(()) => true,
                    Err(TrySendError::Full(_)) => {
                        // Cannot be set already: a subscriber that missed an event is dropped.
                        let _ = subscriber.missed.set(entry.event.seq);
                        false
                    }
                    Err(TrySendError::Closed(_)) => false,
                })
        });
    }

    /// Ends all subscriptions.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.subscribers.clear();
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.subscribers.len()
    }

    fn add(&mut self, filter: EventFilter) -> (mpsc::Receiver<Arc<Entry>>, Arc<OnceLock<u64>>) {
        // Closed subscribers are otherwise removed on publication, of which a quiet system has few.
        self.subscribers
            .retain(|subscriber| !subscriber.live.is_closed());
        let (live, events) = mpsc::channel(LAG_MAX);
        let missed = Arc::new(OnceLock::new());
        if !self.closed {
            self.subscribers.push(Subscriber {
                filter,
                live,
                missed: Arc::clone(&missed),
            });
        }
        (events, missed)
    }
}

/// Committed events, oldest first, each once. Needs a tokio runtime.
#[derive(Debug)]
pub struct EventSubscription {
    seq: u64,
    replay: Option<Replay>,
    ready: VecDeque<Event>,
    pub(super) live: mpsc::Receiver<Arc<Entry>>,
    missed: Arc<OnceLock<u64>>,
}

#[derive(Debug)]
struct Replay {
    shared: Arc<JournalShared>,
    filter: EventFilter,
    after: u64,
    upto: u64,
    page: Option<JoinHandle<Result<Page, ReadError>>>,
}

impl EventSubscription {
    pub(super) fn new(
        shared: &Arc<JournalShared>,
        filter: EventFilter,
        since: Option<u64>,
    ) -> EventSubscription {
        // Nothing is published under the lock of the hub: events up to `seq` come from the
        // database, later ones live.
        let (seq, (live, missed)) = {
            let mut hub = super::lock(&shared.hub);
            (hub.committed(), hub.add(filter.clone()))
        };
        let replay = since.filter(|after| *after < seq).map(|after| Replay {
            shared: Arc::clone(shared),
            filter,
            after,
            upto: seq,
            page: None,
        });
        EventSubscription {
            seq,
            replay,
            ready: VecDeque::new(),
            live,
            missed,
        }
    }

    /// Returns the newest committed event at the time of subscribing.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the next event. Cancel-safe.
    ///
    /// # Errors
    /// The reason why no further event comes.
    ///
    /// # Panics
    /// Outside of a tokio runtime, when there is something to replay.
    pub async fn recv(&mut self) -> Result<Event, SubscriptionError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let Some(replay) = &mut self.replay else {
                break;
            };
            let page = replay.next_page().await?;
            self.ready.extend(page.events);
            match page.next {
                Some(next) => replay.after = next,
                None => self.replay = None,
            }
        }
        match self.live.recv().await {
            Some(entry) => Ok(Arc::try_unwrap(entry)
                .map_or_else(|shared| shared.event.clone(), |entry| entry.event)),
            None => Err(self
                .missed
                .get()
                .map_or(SubscriptionError::Closed, |&missed| {
                    SubscriptionError::Lagged { missed }
                })),
        }
    }
}

impl Replay {
    /// Keeps the handle until the page is read, so that a cancelled `recv` finds it again.
    async fn next_page(&mut self) -> Result<Page, SubscriptionError> {
        let page = self.page.get_or_insert_with(|| {
            let (shared, filter) = (Arc::clone(&self.shared), self.filter.clone());
            let (after, upto) = (self.after, self.upto);
            tokio::task::spawn_blocking(move || reader::page(&shared, &filter, after, upto, PAGE))
        });
        let result = page.await;
        self.page = None;
        Ok(result??)
    }
}
