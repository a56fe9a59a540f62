//! Feeds the watchdog of the service manager (`WATCHDOG_USEC`).
//! Owns one thread that calls the module's health handler before every keep-alive.
//! Never feeds the watchdog if the handler does not return.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::callbacks::HealthCallback;
use crate::notify_socket::NotifySocket;
use crate::reconnect::thread;

/// The keep-alive thread; ends with [`Watchdog::close`].
#[derive(Default)]
pub(crate) struct Watchdog {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Watchdog {
    /// Feeds the watchdog immediately and then at half of `interval`.
    pub(crate) fn start(
        interval: Duration,
        notify: NotifySocket,
        health: HealthCallback,
    ) -> io::Result<Arc<Watchdog>> {
        let watchdog = Arc::new(Watchdog::default());
        let thread_side = Arc::clone(&watchdog);
        thread("mainstay-watchdog", move || {
            loop {
                if health.probe().is_some() {
                    // Half of the interval is left: one lost message does not trip the watchdog.
                    let _ = notify.send("WATCHDOG=1");
                }
                if thread_side.pause(interval / 2) {
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
