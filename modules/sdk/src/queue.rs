//! A bounded queue between two threads whose sender never waits.
//! Owns the bound and the closed state.
//! Never drops an item itself: an item that does not fit is returned to the sender.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct QueueState<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// First in, first out, at most `bound` items.
pub(crate) struct BoundedQueue<T> {
    bound: usize,
    state: Mutex<QueueState<T>>,
    filled: Condvar,
}

impl<T> BoundedQueue<T> {
    pub(crate) fn new(bound: usize) -> BoundedQueue<T> {
        BoundedQueue {
            bound,
            state: Mutex::new(QueueState {
                items: VecDeque::new(),
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        // No code panics under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item; a full queue returns it.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.items.len() >= self.bound {
            return Err(item);
        }
        state.items.push_back(item);
        self.filled.notify_one();
        Ok(())
    }

    /// Adds an item; a full queue returns its oldest item.
    pub(crate) fn push_newest(&self, item: T) -> Option<T> {
        let mut state = self.lock();
        let oldest = if state.items.len() >= self.bound {
            state.items.pop_front()
        } else {
            None
        };
        state.items.push_back(item);
        self.filled.notify_one();
        oldest
    }

    /// Waits for the next item; returns `None` once closed.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }
}
