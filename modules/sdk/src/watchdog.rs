//! Feeding the watchdog of whoever started the program (`WATCHDOG_USEC`).
//! Owns one thread that asks the module's health closure before every feeding.
//! Never feeds for a module that does not answer: that is what the watchdog is for.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::asks::HealthSlot;
use crate::link::thread;
use crate::notify::Notify;

/// Stops the thread when told so.
#[derive(Default)]
pub(crate) struct Watchdog {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Watchdog {
    /// Feeds at half of `every`, the first time at once.
    pub(crate) fn start(
        every: Duration,
        notify: Notify,
        health: HealthSlot,
    ) -> io::Result<Arc<Watchdog>> {
        let watchdog = Arc::new(Watchdog::default());
        let feeding = Arc::clone(&watchdog);
        thread("mainstay-watchdog", move || {
            loop {
                if health.ask().is_some() {
                    // One missed message is what the other half of the interval is for.
                    let _ = notify.send("WATCHDOG=1");
                }
                if feeding.pause(every / 2) {
                    return;
                }
            }
        })?;
        Ok(watchdog)
    }

    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn pause(&self, delay: Duration) -> bool {
        let deadline = Instant::now() + delay;
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if *closed || left.is_zero() {
                return *closed;
            }
            closed = self
                .changed
                .wait_timeout(closed, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
