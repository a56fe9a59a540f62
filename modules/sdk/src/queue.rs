//! A bounded queue between two threads that never makes the sender wait.
//! Owns the bound and the closing.
//! Never decides what happens to what did not fit.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// First in, first out, at most `bound` items.
pub(crate) struct Queue<T> {
    bound: usize,
    state: Mutex<State<T>>,
    filled: Condvar,
}

impl<T> Queue<T> {
    pub(crate) fn new(bound: usize) -> Queue<T> {
        Queue {
            bound,
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item; a full queue gives it back.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.items.len() >= self.bound {
            return Err(item);
        }
        state.items.push_back(item);
        self.filled.notify_one();
        Ok(())
    }

    /// Adds an item; a full queue gives its oldest away.
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

    /// Waits for the next item; None once closed.
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
