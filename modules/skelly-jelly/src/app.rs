//! The frame of each program: signals, the connection to mainstay, an inbox, the end.
//! Owns the promise that SIGTERM ends the program within 100 ms, whatever it waits for.
//! Never knows what a program does.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_sdk::Module;
use serde::Serialize;
use serde_json::Value;

use crate::vitals::Vitals;

/// How long a neighbour may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Items that wait for the main loop.
const WAITING: usize = 256;
/// How long the main loop has for its last words.
#[cfg(unix)]
const LAST_WORDS: Duration = Duration::from_millis(80);

/// Why a program cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its settings.
    #[error(transparent)]
    Settings(#[from] mainstay_sdk::Error),
    /// Its database.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// Its signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// The machine does not let itself be measured.
    #[error("cannot measure this machine: {0}")]
    Machine(String),
    /// A file of its own.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What the main loop does next.
#[derive(Debug, PartialEq)]
pub enum Turn<T> {
    /// Something arrived.
    Item(T),
    /// Nothing arrived in time.
    Idle,
    /// The program ends.
    Stop,
}

/// A running program.
pub struct App<T> {
    /// Its side of mainstay.
    pub module: Module,
    /// What its health is made of.
    pub vitals: Arc<Vitals>,
    stopping: Arc<AtomicBool>,
    send: SyncSender<Option<T>>,
    inbox: Receiver<Option<T>>,
}

impl<T: Send + 'static> App<T> {
    /// Listens for signals and connects. Call it first: threads inherit what it does to signals.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn start() -> Result<App<T>, Failure> {
        let (send, inbox) = sync_channel(WAITING);
        let stopping = Arc::new(AtomicBool::new(false));
        listen(Arc::clone(&stopping), send.clone()).map_err(Failure::Signals)?;
        let module = Module::connect();
        let vitals = Arc::new(Vitals::default());
        let asked = Arc::clone(&vitals);
        module.health(move || asked.report());
        Ok(App {
            module,
            vitals,
            stopping,
            send,
            inbox,
        })
    }

    /// Puts every event under the subjects into the inbox, as `make` reads it; what `make`
    /// cannot read and what does not fit is counted as an error.
    pub fn subscribe(
        &self,
        subjects: &[&str],
        make: impl Fn(&mainstay_sdk::Event) -> Option<T> + Send + 'static,
    ) {
        let (send, vitals) = (self.send.clone(), Arc::clone(&self.vitals));
        self.module.subscribe(subjects, move |event| {
            let sent = make(event).is_some_and(|item| {
                vitals.queued();
                let sent = send.try_send(Some(item)).is_ok();
                if !sent {
                    vitals.taken();
                }
                sent
            });
            if !sent {
                vitals.failed(format!("cannot use an event of {}", event.from));
            }
        });
    }

    /// Waits for the next item, `wait` at most.
    pub fn turn(&self, wait: Duration) -> Turn<T> {
        self.vitals.turned();
        if self.stopping.load(Ordering::Acquire) {
            return Turn::Stop;
        }
        match self.inbox.recv_timeout(wait) {
            Ok(Some(item)) => {
                self.vitals.taken();
                Turn::Item(item)
            }
            Err(RecvTimeoutError::Timeout) => Turn::Idle,
            Ok(None) | Err(RecvTimeoutError::Disconnected) => Turn::Stop,
        }
    }

    /// Asks a neighbour; its absence is counted, not fatal. Outside mainstay there is nobody.
    pub fn ask(&self, module: &str, method: &str, params: impl Serialize) -> Option<Value> {
        match self.module.call(module, method, params, ANSWER) {
            Ok(value) => {
                self.vitals.succeeded();
                Some(value)
            }
            Err(mainstay_sdk::CallError::NotSupervised { .. }) => None,
            Err(error) => {
                self.vitals.failed(error.to_string());
                None
            }
        }
    }

    /// Publishes; what cannot be published is counted.
    pub fn publish(&self, subject: &str, payload: impl Serialize) {
        if let Err(error) = self.module.publish(subject, payload) {
            self.vitals.failed(error.to_string());
        }
    }
}

#[cfg(unix)]
fn listen<T: Send + 'static>(
    stopping: Arc<AtomicBool>,
    send: SyncSender<Option<T>>,
) -> std::io::Result<()> {
    use nix::sys::signal::{SigSet, Signal};

    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_ok() {
                stopping.store(true, Ordering::Release);
                // A full inbox wakes the main loop anyway.
                let _ = send.try_send(None);
                std::thread::sleep(LAST_WORDS);
                // The main loop still waits for a neighbour; everything kept is kept already.
                std::process::exit(0);
            }
        })
        .map(drop)
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "the same signature on every platform"
)]
fn listen<T: Send + 'static>(_: Arc<AtomicBool>, _: SyncSender<Option<T>>) -> std::io::Result<()> {
    // Without signals the program is ended from outside; the store survives that.
    Ok(())
}

/// Writes one line of log; that nobody reads it is no reason to end.
pub fn log(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", line.as_ref());
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The exit code of a program that ended this way.
#[must_use]
pub fn finish(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => {
            log(format!("{program}: good bye"));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::FAILURE
        }
    }
}
