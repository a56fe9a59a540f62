//! Output in the state: each pipe with what of it is no whole line yet, and what the log is to say.
//! What was read is written before.
//! Never reads a pipe: while it is being passed on, modules wait.

use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use mainstay_process::{Instance, StdStream};
use serde::{Deserialize, Serialize};

use super::kept_fds::{KeptFd, KeptFds};
use super::request::Obstacle;
use crate::threads::lock;
use crate::workers::log_index::LogMark;
use crate::workers::log_writer::{LogWriter, LogWriterState, PendingOutput};
use crate::workers::output::{Backpressure, OutputDrain, OutputPipe, OutputStream, Streams};
use crate::workers::tap_replay::TapReplay;

/// All output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OutputState {
    pub(crate) streams: Vec<StreamState>,
    pub(crate) last_key: u64,
    pub(crate) logs: Vec<LogState>,
    pub(crate) max_bytes: u64,
    pub(crate) keep: u32,
}

/// What a run writes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) key: u64,
    /// The first pipe. None: the process has closed it.
    fd: Option<KeptFd>,
    #[serde(default, skip_serializing_if = "StdStream::is_both")]
    stream: StdStream,
    pub(crate) id: u32,
    generation: u64,
    name: Instance,
    told: Option<Vec<u8>>,
    tapped: bool,
    line: Vec<u8>,
    /// The pipe of stderr, where stdout and stderr have one each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errors: Option<PipeState>,
    tap_replay: String,
    tap_lost: u64,
}

impl LogState {
    /// The log of a run that goes on, whose begin is in it.
    pub(crate) fn of_running(stream: &StreamState) -> LogState {
        LogState {
            name: stream.name.clone(),
            marks: Vec::new(),
            wrote: stream.generation,
            total_dropped: 0,
            errno: None,
            reason: None,
            reported: false,
        }
    }
}

/// A pipe.
#[derive(Debug, Serialize, Deserialize)]
struct PipeState {
    fd: Option<KeptFd>,
    stream: StdStream,
    line: Vec<u8>,
}

impl PipeState {
    fn of(one: &OutputPipe, kept: &mut KeptFds) -> PipeState {
        PipeState {
            fd: one.fd.as_ref().map(|fd| kept.keep(fd)),
            stream: one.stream,
            line: one.line.clone(),
        }
    }

    fn restore(self) -> io::Result<OutputPipe> {
        Ok(OutputPipe {
            fd: self.fd.map(KeptFd::take).transpose()?,
            stream: self.stream,
            line: self.line,
        })
    }
}

impl StreamState {
    /// Without what was sent into its tap.
    pub(crate) fn of(key: u64, one: &OutputStream, kept: &mut KeptFds) -> Option<StreamState> {
        let mut pipes = one.pipes.iter().map(|pipe| PipeState::of(pipe, kept));
        let first = pipes.next()?;
        Some(StreamState {
            key,
            fd: first.fd,
            stream: first.stream,
            id: one.id,
            generation: one.generation,
            name: one.name.clone(),
            told: one.told.clone(),
            tapped: one.tapped,
            line: first.line,
            errors: pipes.next(),
            tap_replay: String::new(),
            tap_lost: one.tap_lost,
        })
    }
}

/// The log of an instance, all of whose bytes are written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogState {
    name: Instance,
    marks: Vec<LogMark>,
    wrote: u64,
    total_dropped: u64,
    errno: Option<i32>,
    reason: Option<String>,
    reported: bool,
}

impl LogWriter {
    /// Has all written that is here, and keeps the writer from more.
    pub(crate) fn settle(
        &self,
        within: Duration,
    ) -> Result<MutexGuard<'_, LogWriterState>, Obstacle> {
        let end = Instant::now() + within;
        loop {
            let mut state = lock(&self.state);
            let is_settled = state.order.is_empty() && !state.in_work;
            let is_late = Instant::now() >= end;
            state.settling = !is_settled && !is_late;
            if is_settled {
                return Ok(state);
            }
            if is_late {
                return Err(Obstacle::busy("the disk of the logs does not follow"));
            }
            self.changed.notify_all();
            drop(state);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl OutputDrain {
    /// Nothing is read while this is held.
    pub(crate) fn pause(&self) -> MutexGuard<'_, Streams> {
        lock(&self.streams)
    }
}

impl OutputState {
    pub(crate) fn of(
        streams: &Streams,
        logs: &LogWriterState,
        kept: &mut KeptFds,
    ) -> Result<OutputState, Obstacle> {
        if streams.finishing > 0 {
            return Err(Obstacle::busy("the output of a run that has ended is read"));
        }
        let stream = |(key, one): (&u64, &OutputStream)| {
            let mut state = StreamState::of(*key, one, kept)?;
            state.tap_replay = one.kept.text();
            Some(state)
        };
        let log = |(name, one): (&Instance, &PendingOutput)| LogState {
            name: name.clone(),
            marks: one.marks.clone(),
            wrote: one.wrote,
            total_dropped: one.total_dropped,
            errno: one.errno,
            reason: one.reason.clone(),
            reported: one.reported,
        };
        Ok(OutputState {
            streams: streams.by_key.iter().filter_map(stream).collect(),
            last_key: streams.last_key,
            logs: logs.waiting.iter().map(log).collect(),
            max_bytes: logs.max_bytes,
            keep: logs.keep,
        })
    }

    /// Gives all of it to a drain that has just been started, and to its writer.
    pub(crate) fn restore(self, drain: &Arc<OutputDrain>) -> io::Result<()> {
        let mut logs = lock(&drain.shelf.state);
        (logs.max_bytes, logs.keep) = (self.max_bytes, self.keep);
        for log in self.logs {
            let pending = logs.waiting.entry(log.name).or_default();
            (pending.marks, pending.wrote) = (log.marks, log.wrote);
            (pending.total_dropped, pending.reported) = (log.total_dropped, log.reported);
            (pending.errno, pending.reason) = (log.errno, log.reason);
        }
        drop(logs);
        let mut streams = lock(&drain.streams);
        streams.last_key = self.last_key;
        for one in self.streams {
            let mut tap_replay = TapReplay::default();
            tap_replay.push(&one.tap_replay);
            let first = PipeState {
                fd: one.fd,
                stream: one.stream,
                line: one.line,
            };
            let pipes = [Some(first), one.errors].into_iter().flatten();
            let stream = OutputStream {
                pipes: pipes.map(PipeState::restore).collect::<Result<_, _>>()?,
                id: one.id,
                generation: one.generation,
                name: one.name,
                told: one.told,
                tapped: one.tapped,
                kept: tap_replay,
                tap_lost: one.tap_lost,
                until: None,
                exit: None,
                pace: Backpressure::default(),
            };
            for (fd, pipe) in stream.open_pipes(one.key) {
                drain.poll.add(fd, pipe)?;
            }
            streams.by_key.insert(one.key, stream);
        }
        Ok(())
    }
}
