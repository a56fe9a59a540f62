//! Events from the bus on their way to the module's listeners.
//! Owns the listeners, the waiting events and the count of those that did not fit.
//! Never holds the reader up: a slow listener loses the oldest events, and is told how many.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_protocol::method::BusEvent;
use mainstay_protocol::subject;

use crate::link::thread;
use crate::queue::Queue;

/// Events that wait for a slow listener.
const WAITING: usize = 1024;

type Callback = Box<dyn FnMut(&BusEvent) + Send>;

struct Listener {
    subjects: Vec<String>,
    callback: Mutex<Callback>,
}

/// The listeners and what waits for them.
pub(crate) struct Events {
    queue: Queue<BusEvent>,
    lost: AtomicU64,
    listeners: Mutex<Vec<Arc<Listener>>>,
}

impl Events {
    pub(crate) fn start() -> io::Result<Arc<Events>> {
        let events = Arc::new(Events {
            queue: Queue::new(WAITING),
            lost: AtomicU64::new(0),
            listeners: Mutex::new(Vec::new()),
        });
        let listening = Arc::clone(&events);
        thread("mainstay-events", move || listening.run())?;
        Ok(events)
    }

    pub(crate) fn listen(&self, subjects: &[&str], callback: Callback) {
        let listener = Arc::new(Listener {
            subjects: subjects.iter().map(|&subject| subject.into()).collect(),
            callback: Mutex::new(callback),
        });
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.push(listener);
    }

    pub(crate) fn deliver(&self, event: BusEvent) {
        if let Some(oldest) = self.queue.push_newest(event) {
            self.lost.fetch_add(1 + oldest.lag, Ordering::Relaxed);
        }
    }

    pub(crate) fn close(&self) {
        self.queue.close();
    }

    fn run(&self) {
        while let Some(mut event) = self.queue.pop() {
            event.lag += self.lost.swap(0, Ordering::Relaxed);
            let listeners = self
                .listeners
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            for listener in listeners {
                if listener
                    .subjects
                    .iter()
                    .any(|one| subject::matches(one, &event.subject))
                {
                    let mut callback = listener
                        .callback
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    // The panic hook has told; the next event may fare better.
                    let _ = catch_unwind(AssertUnwindSafe(|| callback(&event)));
                }
            }
        }
    }
}
