//! Shows progress on stderr after one second.
//! Owns one thread, which exits when the value is dropped.
//! Never writes within the first second, and clears the line of a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::table;

/// Progress, shown until it is dropped.
pub(crate) struct Progress {
    update: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
    line: Arc<Line>,
}

/// Whether the line of the terminal is in use.
#[derive(Default)]
struct Line(Mutex<bool>);

impl Line {
    /// Writes the line anew; an empty text clears it.
    fn draw(&self, text: &str) {
        let mut is_shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_shown || !text.is_empty() {
            write(&format!("\r\x1b[K{text}"));
        }
        *is_shown = !text.is_empty();
    }
}

/// Nothing is shown before.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// Interval at which a terminal is redrawn.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// Interval of lines if stderr is not a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);
/// Texts that may be queued for the thread; further ones are dropped.
const QUEUE_MAX: usize = 16;

impl Progress {
    pub(crate) fn start(text: impl Into<String>) -> Progress {
        let (say, heard) = sync_channel(QUEUE_MAX);
        let text = text.into();
        let thread = std::thread::Builder::new().name("progress".to_owned());
        // Without a thread no progress is shown.
        let line = Arc::new(Line::default());
        let own = Arc::clone(&line);
        let thread = thread.spawn(move || show(text, &heard, &own)).ok();
        Progress {
            update: Some(say),
            thread,
            line,
        }
    }

    /// Clears the line, so that something else can be printed; the next tick draws it again.
    pub(crate) fn clear(&self) {
        self.line.draw("");
    }

    /// Shows this text from the next tick on.
    pub(crate) fn update(&self, text: String) {
        if let Some(say) = &self.update {
            let _full_or_gone = say.try_send(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.update = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a person waited")]
fn show(mut text: String, heard: &Receiver<String>, line: &Line) {
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let mut next = FIRST;
    loop {
        match heard.recv_timeout(next.saturating_sub(begun.elapsed())) {
            Ok(newer) => text = newer,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = next.as_secs_f64();
                if terminal {
                    line.draw(&format!("{}, {seconds:.1} s", fitting(&text)));
                    next += TICK;
                } else {
                    write(&format!("{text}, {seconds:.0} s\n"));
                    next += PLAIN_INTERVAL;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    line.draw("");
}

/// What fits beside the time: a line that wraps could not be cleared.
pub(super) fn fitting(text: &str) -> Cow<'_, str> {
    const TIME_COLUMNS: usize = 12;
    match terminal_size::terminal_size_of(std::io::stderr()) {
        Some((width, _)) => table::cut(text, usize::from(width.0).saturating_sub(TIME_COLUMNS)),
        None => Cow::Borrowed(text),
    }
}

fn write(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
