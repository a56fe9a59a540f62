//! A holder that goes on where another one has died, with what the runtime passes it.
//! Owns the order: what is not known is ended first, then the runtime is told what it missed.
//! Never starts without the runtime that made its channel, and never goes on from a part.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use mainstay_process::{StartFailure, StartStep};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::exec_barrier::end_unexecuted;
use super::mirror::{BASE, SUPERVISION};
use super::notify;
use super::record::Records;
use crate::clock::monotonic;
use crate::codec::Decoder;
use crate::engine::Engine;
use crate::fds::own_fd;
use crate::frame::recv_with_fds;
use crate::kernel::ProcessHandle;
use crate::messages::{CHANNEL_FD, MirrorRecord};
use crate::reexec::channel::ChannelState;
use crate::reexec::kept_fds::{KeptFd, KeptFds, with_passed};
use crate::reexec::notify_state::NotifyThreadState;
use crate::reexec::restore::restore;
use crate::runtime_process::raise_limit;
use crate::workers::sweep::sweep_unknown;

/// How long the runtime may take to pass everything.
const PASS_TIMEOUT: Duration = Duration::from_secs(20);
/// Where the numbers of the channel and of what comes by it begin.
const FIRST: RawFd = 100;
const LOST: &str = "the holder ended while it was started";

/// Goes on in the place of a holder that has died, until all is stopped; returns the exit code of
/// the process. The runtime passes what it has at the fixed number of the channel.
///
/// # Errors
/// In a sentence: what was passed cannot be used. Nothing was changed then.
pub fn succeed() -> Result<u8, String> {
    let cannot = |problem: String| format!("cannot go on as the holder: {problem}");
    let failed = |problem: io::Error| cannot(problem.to_string());
    raise_limit().map_err(failed)?;
    let channel = take_channel().map_err(failed)?;
    let (passed, rest) = receive(&channel).map_err(failed)?;
    let runtime = getsockopt(&channel, PeerCredentials).map_err(|errno| failed(errno.into()))?;
    let runtime = runtime.pid();
    let handle = ProcessHandle::new(runtime).ok_or_else(|| cannot("there is no runtime".into()))?;
    let mut kept = Vec::new();
    let records = read(passed, &mut kept).map_err(cannot)?;
    adapt_environment(&records);
    let known = records.known_runs();
    let (channel, handle) = (channel.into_raw_fd(), handle.0.into_raw_fd());
    kept.extend([channel, handle]);
    let fds = rest.fds.into_iter().map(IntoRawFd::into_raw_fd);
    let fds: Vec<RawFd> = fds.collect();
    kept.extend(&fds);
    let channel = ChannelState {
        socket: KeptFd::new(channel),
        received: rest.bytes,
        fds: fds.into_iter().map(KeptFd::new).collect(),
    };
    let whole = records.into_state(channel, KeptFd::new(handle));
    let (state, roster, supervisor) = whole.map_err(cannot)?;
    if state.runtime.pid() != runtime {
        return Err(cannot("another than the runtime has started it".into()));
    }
    if let Some(barrier) = state.barrier {
        end_unexecuted(&barrier.take().map_err(failed)?);
    }
    let mut engine = restore(state, roster, supervisor).map_err(failed)?;
    KeptFds::received(kept).close();
    engine.succession.is_successor = true;
    // A start that was not reported: it has to be gone before it is made again.
    sweep_unknown(&known);
    engine.finish_succession();
    engine.perform_received();
    Ok(engine.run())
}

#[expect(
    unsafe_code,
    reason = "a descriptor that was inherited is a plain number"
)]
fn take_channel() -> io::Result<OwnedFd> {
    // SAFETY: the runtime has put it there, and nothing else in this process knows it.
    let inherited = unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) };
    let raw = match fcntl(&inherited, FcntlArg::F_DUPFD_CLOEXEC(FIRST)) {
        Ok(raw) => raw,
        Err(problem) => {
            let _not_ours = IntoRawFd::into_raw_fd(inherited);
            return Err(problem.into());
        }
    };
    Ok(own_fd(raw))
}

type Passed = Vec<(MirrorRecord, Vec<OwnedFd>)>;

/// What came behind it: requests, and the descriptors that belong to them.
#[derive(Debug, Default)]
struct Rest {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// Everything, until the runtime says that it was all.
fn receive(channel: &OwnedFd) -> io::Result<(Passed, Rest)> {
    let end = Instant::now() + PASS_TIMEOUT;
    let (mut decoder, mut fds, mut passed) = (Decoder::default(), VecDeque::new(), Vec::new());
    loop {
        while let Some(frame) = decoder
            .next::<Option<MirrorRecord>>()
            .map_err(io::Error::other)?
        {
            let Some(record) = frame else {
                let (bytes, fds) = (decoder.rest().to_vec(), fds.into());
                return Ok((passed, Rest { bytes, fds }));
            };
            let count = record.fds as usize;
            if fds.len() < count {
                return Err(io::ErrorKind::InvalidData.into());
            }
            passed.push((record, fds.drain(..count).collect()));
        }
        let left = end.saturating_duration_since(Instant::now());
        let mut one = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if poll(&mut one, timeout).is_ok_and(|count| count > 0)
            && recv_with_fds(channel, &mut decoder, &mut fds)? == 0
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn read(passed: Passed, kept: &mut Vec<RawFd>) -> Result<Records, String> {
    let say = |problem: serde_json::Error| problem.to_string();
    let (mut base, mut supervision, mut instances) = (None, None, BTreeMap::new());
    let mut notify = NotifyThreadState {
        sources: Vec::new(),
        stored: Vec::new(),
    };
    for (record, fds) in passed {
        let text = record.text.unwrap_or_default();
        let raw: Vec<RawFd> = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
        kept.extend(&raw);
        if record.notify {
            notify::add(&text, &raw, &mut notify)?;
            continue;
        }
        with_passed(raw, || {
            match record.id {
                BASE => base = Some(serde_json::from_str(&text)?),
                SUPERVISION => supervision = Some(serde_json::from_str(&text)?),
                id => drop(instances.insert(id, serde_json::from_str(&text)?)),
            }
            Ok(())
        })
        .map_err(say)?;
    }
    let missing = || "a part is missing".to_owned();
    Ok(Records {
        base: base.ok_or_else(missing)?,
        supervision: supervision.ok_or_else(missing)?,
        instances,
        notify,
    })
}

/// What the holder before had added for its runtime is not for modules, and where the service
/// manager had named it, it is this one now.
#[expect(unsafe_code, reason = "the environment is changed")]
fn adapt_environment(records: &Records) {
    for (name, _) in &records.base.runtime.env {
        // SAFETY: this process has no other thread yet.
        unsafe { std::env::remove_var(name) };
    }
    let own = std::process::id().to_string();
    for name in ["SYSTEMD_EXEC_PID", "WATCHDOG_PID"] {
        if std::env::var_os(name).is_some() {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, &own) };
        }
    }
}

impl Engine {
    /// Requests that came with what was passed: nothing wakes the loop for them.
    fn perform_received(&mut self) {
        while let Ok(Some(request)) = self.channel.next_request() {
            self.perform_request(request);
        }
    }

    /// Brings to an end what was in flight, and tells the runtime what it may have missed.
    fn finish_succession(&mut self) {
        for instance in self.instances.values() {
            // A lease may have been in force.
            if let Some(group) = &instance.group {
                group.freeze(false);
            }
        }
        let failure = StartFailure {
            step: StartStep::Holder,
            errno: 0,
        };
        for id in self.roster.starting() {
            self.roster.spawn_failed(id, failure, LOST.to_owned());
        }
        for (id, exit) in self.roster.exiting() {
            self.finish_output(id, exit);
        }
        let stopping = self.instances.iter();
        let stopping = stopping.filter(|(_, one)| {
            let run = one.run.as_ref();
            run.is_some_and(|run| run.main_exit.is_some())
        });
        for id in stopping.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tree_stops.resume(id);
        }
        let notifying = self.instances.iter();
        let notifying =
            notifying.filter(|(_, one)| one.run.as_ref().is_some_and(|run| run.notifies));
        for id in notifying.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.open_notify(id);
        }
        self.roster.tell_again();
        // A stop that was requested may not have reached it either.
        self.supervisor.request_received(monotonic());
        self.supervisor.takeover_sent(monotonic());
        self.perform_effects();
        self.reap_again = true;
    }

    /// The output of a run whose exit was not reported.
    fn finish_output(&mut self, id: u32, exit: mainstay_process::Exit) {
        let Some(context) = self.context.clone() else {
            return;
        };
        let (mut output, mut later) = (String::new(), false);
        for key in context.logs.keys_of(id) {
            match context.logs.finish(key, exit) {
                crate::workers::output::FinishResult::Done(text) => output.push_str(&text),
                crate::workers::output::FinishResult::Later => later = true,
            }
        }
        if let Some((_, generation)) = self.roster.name_and_generation(id)
            && !later
        {
            self.roster.output_collected(id, generation, output);
        }
        self.roster.tree_swept(id, false);
    }
}
