//! Delivers events of the bus to the module's handlers.
//! Owns the handlers, the queued events and the count of dropped events.
//! Never blocks the reader: if a handler is slow, the oldest events are dropped and counted.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_protocol::method::BusEvent;
use mainstay_protocol::subject;

use crate::queue::BoundedQueue;
use crate::reconnect::thread;

/// Events that may wait for a slow handler.
const QUEUED_MAX: usize = 1024;

type Callback = Box<dyn FnMut(&BusEvent) + Send>;

struct SubjectHandler {
    subjects: Vec<String>,
    callback: Mutex<Callback>,
}

/// The handlers and the events queued for them.
pub(crate) struct EventDispatcher {
    queue: BoundedQueue<BusEvent>,
    lost: AtomicU64,
    handlers: Mutex<Vec<Arc<SubjectHandler>>>,
}

impl EventDispatcher {
    pub(crate) fn start() -> io::Result<Arc<EventDispatcher>> {
        let events = Arc::new(EventDispatcher {
            queue: BoundedQueue::new(QUEUED_MAX),
            lost: AtomicU64::new(0),
            handlers: Mutex::new(Vec::new()),
        });
        let dispatcher = Arc::clone(&events);
        thread("mainstay-events", move || dispatcher.run())?;
        Ok(events)
    }

    pub(crate) fn listen(&self, subjects: &[&str], callback: Callback) {
        let handler = Arc::new(SubjectHandler {
            subjects: subjects.iter().map(|&subject| subject.into()).collect(),
            callback: Mutex::new(callback),
        });
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.push(handler);
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
            let handlers = self
                .handlers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            for handler in handlers {
                if handler
                    .subjects
                    .iter()
                    .any(|one| subject::matches(one, &event.subject))
                {
                    let mut callback = handler
                        .callback
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    // The panic hook has printed it; the next event is still delivered.
                    let _ = catch_unwind(AssertUnwindSafe(|| callback(&event)));
                }
            }
        }
    }
}
