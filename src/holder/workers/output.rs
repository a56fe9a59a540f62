//! Output pipes of all instances: one thread drains them, whatever happens to disk or runtime.
//! Owns the read ends; hands bytes to the shelf, to a tap or keeps a tail to be told.
//! Never waits for a disk: a pipe is left unread for a moment when files cannot follow, then what
//! comes is dropped and counted.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_process::{Exit, Instance, StdStream};
use nix::errno::Errno;

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{LoopWaker, PollEvents, Poller};
use crate::threads::{lock, thread};
use crate::workers::log_writer::LogWriter;
use crate::workers::reports::TapOutput;
use crate::workers::tap_replay::TapReplay;

const CHUNK_BYTES: usize = 64 * 1024;
const TOLD_BYTES: usize = 4 * 1024;
const TAP_LINE_BYTES: usize = 32 * 1024;
/// How long an escapee may hold the pipe open after the main process ended.
const PIPE_LINGER: Duration = Duration::from_millis(100);
/// Most that is read at once when a process ended: a pipe holds 64 KiB, an escapee may write on.
const FINAL_READS: usize = 64;
const WAKE: u64 = u64::MAX;
/// How long a pipe is left unread while its file cannot follow; a module may wait that long.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often it is looked whether files could follow.
const PAUSE_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// One pipe; its number among those of a run is the last bit of its key in the poller.
#[derive(Debug)]
pub(crate) struct OutputPipe {
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) stream: StdStream,
    /// A line that has not ended yet, for the tap.
    pub(crate) line: Vec<u8>,
}

/// What a run writes.
#[derive(Debug)]
pub(crate) struct OutputStream {
    /// One, or one for stdout and one for stderr.
    pub(crate) pipes: Vec<OutputPipe>,
    pub(crate) id: u32,
    pub(crate) generation: u64,
    pub(crate) name: Instance,
    /// The tail, for [`mainstay_process::Output::Captured`].
    pub(crate) told: Option<Vec<u8>>,
    pub(crate) tapped: bool,
    pub(crate) kept: TapReplay,
    pub(crate) tap_lost: u64,
    pub(crate) until: Option<Instant>,
    /// How its process ended.
    pub(crate) exit: Option<Exit>,
    pub(crate) pace: Backpressure,
}

/// Whether the pipes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Backpressure {
    /// As it comes.
    #[default]
    Reading,
    /// Not until its file has followed, or this moment.
    Paused(Instant),
    /// It is, though its file has not followed: bytes may be dropped.
    Dropping,
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) by_key: HashMap<u64, OutputStream>,
    pub(crate) last_key: u64,
    /// How many wait for a pipe that is held open.
    pub(crate) finishing: usize,
    /// How many are left unread for now.
    paused: usize,
    scratch: Vec<u8>,
    quit: bool,
}

impl OutputStream {
    /// Its open pipes, each with its key in the poller.
    pub(crate) fn open_pipes(&self, key: u64) -> impl Iterator<Item = (&OwnedFd, u64)> {
        let pipes = self.pipes.iter().zip(0..);
        pipes.filter_map(move |(pipe, number)| Some((pipe.fd.as_ref()?, key << 1 | number)))
    }
}

/// All pipes.
#[derive(Debug)]
pub(crate) struct OutputDrain {
    pub(crate) streams: Mutex<Streams>,
    pub(crate) poll: Poller,
    wake: LoopWaker,
    pub(crate) shelf: Arc<LogWriter>,
    queue: Arc<EngineQueue>,
}

/// What became of a stream whose process ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FinishResult {
    /// All is read; the tail, if it was to be told.
    Done(String),
    /// Someone holds the pipe open: [`EngineEvent::Collected`] follows within 100 ms.
    Later,
}

#[derive(PartialEq, Eq)]
enum ReadStatus {
    Some,
    Nothing,
    End,
}

impl OutputDrain {
    pub(crate) fn start(
        shelf: Arc<LogWriter>,
        queue: Arc<EngineQueue>,
    ) -> io::Result<Arc<OutputDrain>> {
        let poll = Poller::new()?;
        let wake = LoopWaker::new()?;
        poll.add(&wake, WAKE)?;
        let scratch = vec![0; CHUNK_BYTES];
        let streams = Mutex::new(Streams {
            scratch,
            ..Streams::default()
        });
        let logs = Arc::new(OutputDrain {
            streams,
            poll,
            wake,
            shelf,
            queue,
        });
        let reader = Arc::clone(&logs);
        thread("log-read", move || reader.run())?;
        Ok(logs)
    }

    /// Takes a pipe over (its end is non-blocking); the key is for [`OutputDrain::finish`].
    pub(crate) fn add(&self, stream: OutputStream) -> io::Result<u64> {
        let mut streams = lock(&self.streams);
        streams.last_key += 1;
        let key = streams.last_key;
        for (fd, pipe) in stream.open_pipes(key) {
            self.poll.add(fd, pipe)?;
        }
        if stream.told.is_none() {
            self.shelf.start_run(&stream.name, stream.generation);
        }
        streams.by_key.insert(key, stream);
        Ok(key)
    }

    pub(crate) fn set_limits(&self, max_bytes: u64, keep: u32) {
        self.shelf.set_limits(max_bytes, keep);
    }

    /// [`EngineEvent::OutputFlushed`] follows when what was read of an instance so far is written.
    pub(crate) fn notify_when_written(&self, name: &Instance, number: u64) {
        let _reading = lock(&self.streams); // a piece that is read just now is on the shelf then
        self.shelf.notify_when_written(name, number);
    }

    /// The folder of the files was removed and is there again.
    pub(crate) fn reopen(&self) {
        self.shelf.reopen();
    }

    pub(crate) fn forget(&self, name: &str) {
        self.shelf.forget(name);
    }

    /// Drops a pipe whose process was never started.
    pub(crate) fn discard(&self, key: u64) {
        if let Some(mut stream) = lock(&self.streams).by_key.remove(&key) {
            self.close(&mut stream);
        }
    }

    pub(crate) fn tap(&self, id: u32, on: bool, again: bool) {
        let mut streams = lock(&self.streams);
        for stream in streams.by_key.values_mut().filter(|stream| stream.id == id) {
            stream.tapped = on;
            if !on {
                stream.pipes.iter_mut().for_each(|pipe| pipe.line.clear());
                stream.kept.clear();
            } else if again {
                let replay = TapOutput {
                    id,
                    generation: stream.generation,
                    stream: StdStream::Both,
                    text: stream.kept.text(),
                    dropped_bytes: 0,
                };
                let length = replay.text.len() as u64;
                if length > 0 && !self.queue.send_output(replay) {
                    stream.tap_lost += length;
                }
            }
        }
    }

    /// What is read of an instance.
    #[cfg(target_os = "linux")]
    pub(crate) fn keys_of(&self, id: u32) -> Vec<u64> {
        let streams = lock(&self.streams);
        let of = streams.by_key.iter().filter(|(_, one)| one.id == id);
        of.map(|(key, _)| *key).collect()
    }

    /// The process ended: reads what it left.
    pub(crate) fn finish(&self, key: u64, exit: Exit) -> FinishResult {
        let mut streams = lock(&self.streams);
        let streams = &mut *streams;
        let Some(stream) = streams.by_key.get_mut(&key) else {
            return FinishResult::Done(String::new());
        };
        self.resume(key, stream, Backpressure::Dropping);
        stream.exit = Some(exit);
        if self.read_rest(stream, &mut streams.scratch) {
            let told = self.close(stream);
            streams.by_key.remove(&key);
            return FinishResult::Done(told);
        }
        stream.until = Some(Instant::now() + PIPE_LINGER);
        let later = stream.told.is_some();
        streams.finishing += 1;
        self.wake.wake();
        if later {
            FinishResult::Later
        } else {
            FinishResult::Done(String::new())
        }
    }

    /// Reads what the pipes have; returns whether all have ended.
    fn read_rest(&self, stream: &mut OutputStream, scratch: &mut [u8]) -> bool {
        let mut have_ended = true;
        for number in 0..stream.pipes.len() {
            let read = |_| self.read(stream, number, scratch, true);
            let mut reads = (0..FINAL_READS).map(read);
            have_ended &= reads.find(|read| *read != ReadStatus::Some) == Some(ReadStatus::End);
        }
        have_ended
    }

    fn read(
        &self,
        stream: &mut OutputStream,
        number: usize,
        scratch: &mut [u8],
        last: bool,
    ) -> ReadStatus {
        let Some(pipe) = stream.pipes.get_mut(number) else {
            return ReadStatus::End;
        };
        let Some(fd) = &pipe.fd else {
            return ReadStatus::End;
        };
        let length = match nix::unistd::read(fd, scratch) {
            Ok(0) => return ReadStatus::End,
            Ok(length) => length,
            Err(Errno::EINTR) => return ReadStatus::Some,
            Err(Errno::EAGAIN) => return ReadStatus::Nothing,
            Err(_) => return ReadStatus::End,
        };
        let bytes = &scratch[..length];
        match &mut stream.told {
            Some(tail) => {
                tail.extend_from_slice(bytes);
                let over = tail.len().saturating_sub(TOLD_BYTES);
                tail.drain(..over);
            }
            None => {
                let run = (stream.generation, pipe.stream);
                self.shelf.append(&stream.name, run, bytes, last);
            }
        }
        if stream.tapped {
            pipe.line.extend_from_slice(bytes);
            self.forward_tap(stream, number, false);
        }
        ReadStatus::Some
    }

    /// Passes whole lines on, or what there is when it is too long or `all`.
    fn forward_tap(&self, stream: &mut OutputStream, number: usize, all: bool) {
        let pipe = &mut stream.pipes[number];
        loop {
            let most = pipe.line.len().min(TAP_LINE_BYTES);
            let end = pipe.line[..most].iter().rposition(|byte| *byte == b'\n');
            let count = match end {
                Some(end) => end + 1,
                None if all || most == TAP_LINE_BYTES => most,
                None => return,
            };
            if count == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&pipe.line[..count]).into_owned();
            pipe.line.drain(..count);
            stream.kept.push(&text);
            let output = TapOutput {
                id: stream.id,
                generation: stream.generation,
                stream: pipe.stream,
                text,
                dropped_bytes: stream.tap_lost,
            };
            if self.queue.send_output(output) {
                stream.tap_lost = 0;
            } else {
                stream.tap_lost += count as u64;
            }
        }
    }

    fn close(&self, stream: &mut OutputStream) -> String {
        for number in 0..stream.pipes.len() {
            self.close_pipe(&mut stream.pipes[number]);
            if stream.tapped {
                self.forward_tap(stream, number, true);
            }
        }
        if let (Some(exit), None) = (stream.exit, &stream.told) {
            self.shelf.end_run(&stream.name, stream.generation, exit);
        }
        let tail = stream.told.take().unwrap_or_default();
        String::from_utf8_lossy(&tail).into_owned()
    }

    fn close_pipe(&self, pipe: &mut OutputPipe) {
        if let Some(fd) = pipe.fd.take() {
            self.poll.delete(&fd); // it was added when the stream was
        }
    }

    /// Ends the threads after what is in the pipes now was read and written, the disk permitting.
    pub(crate) fn quit(&self, within: Duration) {
        lock(&self.streams).quit = true;
        self.wake.wake();
        let mut streams = lock(&self.streams);
        let streams = &mut *streams;
        for stream in streams.by_key.values_mut() {
            self.read_rest(stream, &mut streams.scratch);
        }
        self.shelf.finish(within);
    }

    fn run(&self) {
        let mut events = PollEvents::<64>::new();
        let mut timeout = None;
        loop {
            self.poll.wait(&mut events, timeout);
            let mut streams = lock(&self.streams);
            if streams.quit {
                return;
            }
            for (key, _) in events.iter() {
                self.ready(&mut streams, key);
            }
            let overdue = self.close_overdue(&mut streams);
            let paused = self.resume_paused(&mut streams);
            timeout = [overdue, paused].into_iter().flatten().min();
        }
    }

    fn ready(&self, streams: &mut Streams, key: u64) {
        if key == WAKE {
            self.wake.clear();
            return;
        }
        let (key, number) = (key >> 1, usize::from(key & 1 == 1));
        let Some(stream) = streams.by_key.get_mut(&key) else {
            return;
        };
        if self.must_pause(stream) {
            streams.paused += 1;
            return;
        }
        if self.read(stream, number, &mut streams.scratch, false) != ReadStatus::End {
            return;
        }
        // Its process may live on without output.
        self.close_pipe(&mut stream.pipes[number]);
        if stream.until.is_some() && stream.open_pipes(key).next().is_none() {
            self.collected(streams, key);
        }
    }

    /// Leaves the pipes unread when its file cannot follow, unless that has lasted already.
    fn must_pause(&self, stream: &mut OutputStream) -> bool {
        if let Backpressure::Paused(_) = stream.pace {
            return true; // by the other pipe, just now
        }
        let goes_to_file = stream.told.is_none() && stream.until.is_none();
        if !goes_to_file || self.shelf.has_room(&stream.name, CHUNK_BYTES) {
            stream.pace = Backpressure::Reading;
            return false;
        }
        if stream.pace == Backpressure::Dropping {
            return false;
        }
        // Out of the list altogether: that it is closed would be told again and again.
        for (fd, _) in stream.open_pipes(0) {
            self.poll.delete(fd);
        }
        stream.pace = Backpressure::Paused(Instant::now() + PAUSE_MAX);
        true
    }

    /// Reads those again whose file has followed, or that have waited long enough; when to look
    /// next.
    fn resume_paused(&self, streams: &mut Streams) -> Option<Duration> {
        if streams.paused == 0 {
            return None;
        }
        let now = Instant::now();
        streams.paused = 0;
        for (key, stream) in &mut streams.by_key {
            let Backpressure::Paused(until) = stream.pace else {
                continue;
            };
            if self.shelf.has_room(&stream.name, CHUNK_BYTES) {
                self.resume(*key, stream, Backpressure::Reading);
            } else if until <= now {
                self.resume(*key, stream, Backpressure::Dropping);
            } else {
                streams.paused += 1;
            }
        }
        (streams.paused > 0).then_some(PAUSE_POLL_INTERVAL)
    }

    fn resume(&self, key: u64, stream: &mut OutputStream, pace: Backpressure) {
        if let Backpressure::Paused(_) = stream.pace {
            for (fd, pipe) in stream.open_pipes(key) {
                let _ = self.poll.add(fd, pipe); // without it the rest is read at the end
            }
        }
        stream.pace = pace;
    }

    fn collected(&self, streams: &mut Streams, key: u64) {
        if let Some(mut stream) = streams.by_key.remove(&key) {
            streams.finishing -= 1;
            let was_told = stream.told.is_some();
            let output = self.close(&mut stream);
            if was_told {
                let (id, generation) = (stream.id, stream.generation);
                self.queue.send(EngineEvent::Collected {
                    id,
                    generation,
                    output,
                });
            }
        }
    }

    fn close_overdue(&self, streams: &mut Streams) -> Option<Duration> {
        if streams.finishing == 0 {
            return None;
        }
        let now = Instant::now();
        let late = |stream: &OutputStream| stream.until.is_some_and(|until| until <= now);
        let waits = streams.by_key.iter().filter(|(_, stream)| late(stream));
        let overdue: Vec<u64> = waits.map(|(key, _)| *key).collect();
        for key in overdue {
            self.collected(streams, key);
        }
        let next = streams
            .by_key
            .values()
            .filter_map(|stream| stream.until)
            .min();
        next.map(|until| until.saturating_duration_since(now) + Duration::from_millis(1))
    }
}
