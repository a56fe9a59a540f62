//! Lines of the runtime for a person: a bounded queue, the thread that writes it, a count of drops.
//! Owns that thread; the targets are stdout and stderr, or one file of a detached start.
//! A terminal has a line of progress below them, which is redrawn.
//! Never makes a caller wait: a reader that is slow, stopped or gone costs lines and nothing else.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::progress;

/// Lines and bytes that may wait for their reader.
const LINES_MAX: usize = 1024;
const BYTES_MAX: usize = 256 * 1024;

/// Clears the line of progress.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// Which of the two standard streams a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// Where lines go.
pub(super) struct Target {
    pub(super) out: Box<dyn Write + Send>,
    /// None: to `out`.
    pub(super) err: Option<Box<dyn Write + Send>>,
}

impl Target {
    /// Returns the standard streams of this process.
    pub(super) fn standard() -> Target {
        Target {
            out: standard(Stream::Out),
            err: Some(standard(Stream::Err)),
        }
    }
}

/// Writes without the lock of [`io::stdout`]: a blocked write must not hold up other users of it.
#[cfg(unix)]
fn standard(stream: Stream) -> Box<dyn Write + Send> {
    use std::os::fd::AsFd;
    let shared = match stream {
        Stream::Out => io::stdout().as_fd().try_clone_to_owned(),
        Stream::Err => io::stderr().as_fd().try_clone_to_owned(),
    };
    match shared {
        Ok(shared) => Box::new(Patient(shared.into())),
        Err(_) => Box::new(io::sink()),
    }
}

#[cfg(windows)]
fn standard(stream: Stream) -> Box<dyn Write + Send> {
    match stream {
        Stream::Out => Box::new(io::stdout()),
        Stream::Err => Box::new(io::stderr()),
    }
}

/// A descriptor that another process may have made non-blocking.
#[cfg(unix)]
struct Patient(std::fs::File);

#[cfg(unix)]
impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut room, PollTimeout::NONE)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Stream, Vec<u8>)>,
    bytes: usize,
    /// Dropped since the last notice to the reader.
    dropped: u64,
    target: Option<Target>,
    writing: bool,
    /// What is in progress, and since when.
    progress: Option<(String, Instant)>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The queue; all clones share it.
#[derive(Clone)]
pub(super) struct Console(Arc<Shared>);

impl Console {
    /// Starts the thread; lines wait for [`Console::open`].
    pub(super) fn start() -> Console {
        let console = Console(Arc::default());
        let writer = Arc::clone(&console.0);
        let thread = std::thread::Builder::new().name("console".to_owned());
        // Without its thread the console drops what does not fit, as with a reader that stopped.
        let _no_thread = thread.spawn(move || writer.run());
        console
    }

    /// Sets where lines go, those included that wait already.
    pub(super) fn open(&self, target: Target) {
        self.lock().target = Some(target);
        self.0.changed.notify_all();
    }

    /// Sets where lines go, unless that is set already.
    pub(super) fn open_if_closed(&self, target: fn() -> Target) {
        let mut state = self.lock();
        if state.target.is_none() && !state.writing {
            state.target = Some(target());
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Whether its reader follows: half of the queue is kept for what is more important.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.queue.len() < LINES_MAX / 2 && state.bytes < BYTES_MAX / 2
    }

    /// Queues a line, which ends with its newline, or drops it when its reader lags.
    pub(super) fn line(&self, stream: Stream, line: Vec<u8>) {
        let mut state = self.lock();
        if state.queue.len() >= LINES_MAX || state.bytes + line.len() > BYTES_MAX {
            state.dropped += 1;
            return;
        }
        // Else it writes, or has been woken already.
        let sleeps = state.queue.is_empty() && !state.writing;
        state.bytes += line.len();
        state.queue.push_back((stream, line));
        drop(state);
        if sleeps {
            self.0.changed.notify_all();
        }
    }

    /// Sets what the line of progress says; it is shown after the first second.
    #[expect(clippy::disallowed_methods, reason = "how long a person waited")]
    pub(super) fn set_progress(&self, text: Option<String>) {
        let mut state = self.lock();
        let since = state.progress.take().map(|(_, since)| since);
        state.progress = text.map(|text| (text, since.unwrap_or_else(Instant::now)));
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, for `timeout` at most; returns whether it is.
    #[expect(clippy::disallowed_methods, reason = "the process is about to exit")]
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while state.writing || (state.target.is_some() && !state.queue.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.queue.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn progress_text(&self) -> Option<String> {
        let (text, since) = self.progress.as_ref()?;
        let waited = since.elapsed();
        let text = progress::fitting(text);
        (waited >= progress::FIRST).then(|| format!("{text}, {:.1} s", waited.as_secs_f64()))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines, or until the line of progress is to be drawn again or cleared.
    fn wait<'s>(&self, mut state: MutexGuard<'s, State>, drawn: bool) -> MutexGuard<'s, State> {
        loop {
            let is_due = !state.queue.is_empty() || (drawn && state.progress.is_none());
            if is_due && state.target.is_some() {
                return state;
            }
            if state.progress.is_none() || state.target.is_none() {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.changed.wait_timeout(state, progress::TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.progress_text().is_some() {
                return state;
            }
        }
    }

    fn run(&self) {
        let mut drawn = false;
        loop {
            let mut state = self.wait(self.lock(), drawn);
            let lines = std::mem::take(&mut state.queue);
            state.bytes = 0;
            state.writing = true;
            let Some(mut target) = state.target.take() else {
                continue; // checked above, under the same lock
            };
            let dropped = std::mem::take(&mut state.dropped);
            let progress = state.progress_text();
            drop(state);
            if drawn {
                write(&mut target, Stream::Out, CLEAR_LINE);
            }
            for (stream, line) in lines {
                write(&mut target, stream, &line);
            }
            if dropped > 0 {
                let text =
                    format!("mainstay: {dropped} lines were dropped here: nobody read them\n");
                write(&mut target, Stream::Out, text.as_bytes());
            }
            drawn = progress.is_some();
            if let Some(text) = progress {
                write(&mut target, Stream::Out, text.as_bytes());
            }
            let mut state = self.lock();
            state.writing = false;
            state.target.get_or_insert(target); // unless another was set meanwhile
            drop(state);
            self.changed.notify_all();
        }
    }
}

fn write(target: &mut Target, stream: Stream, line: &[u8]) {
    let to = match (stream, &mut target.err) {
        (Stream::Err, Some(err)) => err,
        _ => &mut target.out,
    };
    // A reader that has gone away is told nothing, and a full disk is told elsewhere.
    let _reader_gone = to.write_all(line).and_then(|()| to.flush());
}

/// Collects one line of `tracing`, which is queued when it is dropped.
pub(super) struct LogLine<'c>(&'c Console, Vec<u8>);

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        self.0.line(Stream::Err, std::mem::take(&mut self.1));
    }
}

impl<'c> MakeWriter<'c> for Console {
    type Writer = LogLine<'c>;

    fn make_writer(&'c self) -> LogLine<'c> {
        LogLine(self, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    /// Passes on what is written, each write after a permission.
    struct Gate(mpsc::SyncSender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.1.recv();
            let _read = self.0.send(bytes.to_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_costs_lines_that_are_counted() {
        let (written, lines) = mpsc::sync_channel(8 * LINES_MAX);
        let (permit, permits) = mpsc::sync_channel(1);
        let console = Console::start();
        let out = Box::new(Gate(written, permits));
        console.open(Target { out, err: None });
        let count = 3 * LINES_MAX;
        for number in 0..count {
            console.line(Stream::Out, format!("{number}\n").into_bytes());
        }
        assert!(!console.flush(Duration::from_millis(1)), "nobody reads");
        drop(permit); // from here on everything passes
        assert!(console.flush(LONG));
        console.line(Stream::Err, b"the end\n".to_vec());
        assert!(console.flush(LONG));
        let lines: Vec<String> = lines
            .try_iter()
            .map(|line| String::from_utf8(line).expect("text"))
            .collect();
        let told = |line: &String| line.ends_with(" lines were dropped here: nobody read them\n");
        let dropped: usize = lines
            .iter()
            .filter(|line| told(line))
            .filter_map(|line| line.split(' ').nth(1)?.parse::<usize>().ok())
            .sum();
        assert!(dropped > 0 && dropped < count, "{dropped}");
        let whole = lines.iter().filter(|line| !told(line)).count();
        assert_eq!(
            whole + dropped,
            count + 1,
            "every line is written or counted"
        );
        assert_eq!(lines.last().map(String::as_str), Some("the end\n"));
    }

    #[test]
    fn lines_wait_for_their_target_and_a_closed_pipe_is_no_failure() {
        let console = Console::start();
        console.line(Stream::Out, b"early\n".to_vec());
        assert!(!console.flush(Duration::ZERO));
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let out = Box::new(writer);
        console.open(Target { out, err: None });
        assert!(console.flush(LONG));
        for _ in 0..10 {
            console.line(Stream::Out, b"late\n".to_vec());
        }
        assert!(console.flush(LONG));
    }
}
