//! Messages to the service manager that started the holder: sd_notify(3), and its watchdog.
//! Owns the socket and the thread that sends: the service manager listens to the main process.
//! Never decides what is sent, and never lets the loop wait: a message without room is dropped.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crate::kernel;
use crate::threads::thread;

/// Messages that may wait for a service manager that does not read.
const MESSAGES_MAX: usize = 64;

/// A service manager that listens.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    messages: SyncSender<String>,
    /// How often its watchdog is fed, and when it is next.
    watchdog: Option<(Duration, Duration)>,
}

impl ServiceManager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`; None: no service manager listens.
    pub(crate) fn from_environment(now: Duration) -> Option<ServiceManager> {
        let address = kernel::datagram_address(&std::env::var_os("NOTIFY_SOCKET")?)?;
        let socket = UnixDatagram::unbound().ok()?;
        let (messages, received) = sync_channel::<String>(MESSAGES_MAX);
        let sends = move || {
            for text in received {
                let send = || socket.send_to_addr(text.as_bytes(), &address);
                while send().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
            }
        };
        thread("service-manager", sends).ok()?;
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let own = u64::from(std::process::id());
        let is_for_this = number("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let timeout = number("WATCHDOG_USEC").filter(|timeout| *timeout > 0 && is_for_this);
        let watchdog = timeout.map(|timeout| (Duration::from_micros(timeout / 2), now));
        Some(ServiceManager { messages, watchdog })
    }

    /// Sends a message of the runtime.
    pub(crate) fn notify(&self, text: String) {
        let _no_room = self.messages.try_send(text);
    }

    /// When `feed_watchdog` has to be called at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Reports, when that is due, that the loop of the holder goes on.
    pub(crate) fn feed_watchdog(&mut self, now: Duration) {
        if let Some((interval, at)) = self.watchdog.as_mut().filter(|(_, at)| *at <= now) {
            *at = now + *interval;
            let _no_room = self.messages.try_send("WATCHDOG=1".to_owned());
        }
    }
}
