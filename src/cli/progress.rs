//! Shows progress on stderr after one second.
//! Owns one thread, which exits when the value is dropped.
//! Never writes within the first second, and clears the line of a terminal.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::format;

/// Progress, shown until it is dropped.
pub(crate) struct Progress {
    update: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
}

const TICK: Duration = Duration::from_secs(1);
/// Interval of lines if stderr is not a terminal.
const PLAIN_INTERVAL: u32 = 10;
/// Texts that may be queued for the thread; further ones are dropped.
const QUEUE_MAX: usize = 16;

impl Progress {
    pub(crate) fn start(text: impl Into<String>) -> Progress {
        let (say, heard) = sync_channel(QUEUE_MAX);
        let text = text.into();
        let thread = std::thread::Builder::new().name("progress".to_owned());
        // Without a thread no progress is shown.
        let thread = thread.spawn(move || show(text, &heard)).ok();
        Progress {
            update: Some(say),
            thread,
        }
    }

    /// Shows this text from the next second on.
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
fn show(mut text: String, heard: &Receiver<String>) {
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let mut ticks = 0;
    loop {
        let next = TICK * (ticks + 1);
        match heard.recv_timeout(next.saturating_sub(begun.elapsed())) {
            Ok(newer) => text = newer,
            Err(RecvTimeoutError::Timeout) => {
                let line = format!("{text} … {}", format::compact_duration(next));
                if terminal {
                    write(&format!("\r\x1b[K{line}"));
                } else if ticks % PLAIN_INTERVAL == 0 {
                    write(&format!("{line}\n"));
                }
                ticks += 1;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if terminal && ticks > 0 {
        write("\r\x1b[K");
    }
}

fn write(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
