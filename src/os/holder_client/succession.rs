//! Another holder in the place of one that has died: it is started here, and passed what the one
//! before had given duplicates of. Owns them, and the requests that nobody has performed.
//! Never starts one while the other lives, after an exit on purpose, or without end.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_holder::messages::{CHANNEL_FD, HolderRequest, MirrorRecord, TakeoverState};
use mainstay_policy::MonoTime;

use super::channel::write_requests;
use super::main_process::{EXEC_PID, MainProcess};
use super::notify_mirror::NotifyParts;
use super::{HolderClient, lock};
use crate::os::transport::{HolderReader, HolderWriter, Outbox, PassedFd};
use crate::os::{OsEvent, machine, succession};

/// The records of what belongs to no instance: without both there is no whole.
const BASE: u32 = 0;
const SUPERVISION: u32 = u32::MAX;
/// How long a holder that has closed its end may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// So many are started within this time: one that dies again and again is not to be helped.
const STARTS_MAX: usize = 10;
const STARTS_WITHIN: Duration = Duration::from_mins(1);
/// For the exec of the next holder: its program may be on a file system that does not answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// After a start that failed for want of processes or descriptors.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of requests, roughly, that are kept for the next holder.
const UNPERFORMED_MAX: usize = 65_536;

/// Requests that were sent, in their order, until the holder says that they are performed.
#[derive(Default)]
pub(super) struct Unperformed {
    /// Of the last request.
    last: u64,
    /// None: nobody could go on.
    queue: Option<VecDeque<(u64, HolderRequest, Vec<PassedFd>)>>,
}

impl Unperformed {
    pub(super) fn push(&mut self, request: &HolderRequest, fds: &[PassedFd]) {
        self.last += 1;
        let Some(queue) = &mut self.queue else {
            return;
        };
        let fds = fds.iter().map(OwnedFd::try_clone).collect();
        match fds {
            Ok(fds) if queue.len() < UNPERFORMED_MAX => {
                queue.push_back((self.last, request.clone(), fds));
            }
            Ok(_) | Err(_) => self.queue = None,
        }
    }

    /// Whether all of them are here.
    fn is_kept(&self) -> bool {
        self.queue.is_some()
    }

    /// All up to this one are.
    pub(super) fn performed(&mut self, number: u64) {
        let queue = self.queue.iter_mut();
        for queue in queue {
            while queue.front().is_some_and(|(one, ..)| *one <= number) {
                queue.pop_front();
            }
        }
    }
}

/// What a successor needs.
pub(super) struct Successor {
    pub(super) is_possible: bool,
    /// None: no service manager follows from one holder to the next.
    pub(super) main_process: Option<Arc<MainProcess>>,
    /// How often that was told of another holder.
    pub(super) passed_on: AtomicU32,
    /// None: it cannot be told whether it lives.
    holder: Mutex<Option<machine::VerifiedProcess>>,
    pub(super) holder_pid: AtomicU32,
    /// The holder that has started this runtime: its environment names that one.
    first_holder: u32,
    records: Mutex<BTreeMap<u32, (MirrorRecord, Vec<OwnedFd>)>>,
    notify: Arc<NotifyParts>,
    starts: Mutex<VecDeque<MonoTime>>,
    count: AtomicU32,
}

impl Successor {
    pub(super) fn of(known: &TakeoverState) -> Successor {
        let is_alone = known.can_reexec && known.holder_pid != std::process::id();
        let main_process = MainProcess::of(known.holder_pid).map(Arc::new);
        let is_wanted = succession::is_wanted(main_process.is_some());
        let is_possible = is_alone && is_wanted && succession::obstacle().is_none();
        Successor {
            is_possible,
            main_process,
            passed_on: AtomicU32::new(0),
            holder: Mutex::new(machine::VerifiedProcess::now(known.holder_pid)),
            holder_pid: AtomicU32::new(known.holder_pid),
            first_holder: known.holder_pid,
            records: Mutex::default(),
            notify: Arc::default(),
            starts: Mutex::default(),
            count: AtomicU32::new(0),
        }
    }

    /// Whether this runtime has had another holder.
    pub(super) fn has_begun(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn passed_on(&self) -> u32 {
        self.passed_on.load(Ordering::Relaxed)
    }

    /// Ends when the holder has ended, where that can be seen.
    pub(super) fn holder_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let watched = lock(&self.holder).as_ref().and_then(|one| one.watch().ok());
        async move {
            let seen = match &watched {
                Some(holder) => holder.readable().await.is_ok(),
                None => false,
            };
            if !seen {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Keeps a part of what the holder has, with its descriptors.
    pub(super) fn keep(&self, record: &MirrorRecord, hearing: &mut HolderReader) {
        let fds = hearing.take_fds(record.fds);
        let mut records = lock(&self.records);
        match (fds, &record.text) {
            (Some(fds), Some(_)) => drop(records.insert(record.id, (record.clone(), fds))),
            (Some(_), None) if record.id != BASE => drop(records.remove(&record.id)),
            (Some(_) | None, _) => records.clear(), // none, rather than one without a part
        }
    }

    /// None: it cannot be told.
    pub(super) fn holder_has_ended(&self) -> Option<bool> {
        let holder = lock(&self.holder);
        Some(holder.as_ref()?.has_ended())
    }

    /// Whether the last holder lives no more. One that only closed its end, or of which that is not
    /// known for certain, is not succeeded: there would be two.
    async fn holder_is_gone(&self) -> bool {
        if self.holder_has_ended().is_none() {
            return false;
        }
        let is_gone = async {
            while self.holder_has_ended() == Some(false) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(GONE_WITHIN, is_gone).await.is_ok()
    }

    fn is_due(&self) -> bool {
        let (mut starts, now) = (lock(&self.starts), machine::monotonic());
        while starts
            .front()
            .is_some_and(|at| now.since(*at) > STARTS_WITHIN)
        {
            starts.pop_front();
        }
        let records = lock(&self.records);
        let is_whole = records.contains_key(&BASE) && records.contains_key(&SUPERVISION);
        drop(records);
        let is_due = starts.len() < STARTS_MAX && is_whole;
        starts.extend(is_due.then_some(now));
        is_due
    }

    /// What the next holder is passed before anything else.
    fn frames(&self) -> io::Result<Outbox> {
        let mut outbox = Outbox::default();
        let failed = |problem: mainstay_holder::FrameError| io::Error::other(problem.to_string());
        for (record, fds) in lock(&self.records).values() {
            let fds = fds.iter().map(OwnedFd::try_clone);
            let fds = fds.collect::<io::Result<_>>()?;
            outbox.push(&Some(record), fds).map_err(failed)?;
        }
        self.notify.read_rest();
        let closer = self.notify.closer();
        for (record, fds) in self.notify.records()? {
            let pushed = outbox.push_foreign(&Some(record), fds, closer);
            pushed.map_err(failed)?;
        }
        let end: Option<MirrorRecord> = None;
        outbox.push(&end, Vec::new()).map_err(failed)?;
        Ok(outbox)
    }
}

impl HolderClient {
    /// Asks the holder for duplicates of all that it keeps.
    pub(super) fn request_mirror(&self) {
        self.name_main_process();
        if !self.successor.is_possible {
            return;
        }
        let Ok(notify) = self.successor.notify.connect() else {
            return; // for want of descriptors
        };
        let number = {
            let unperformed = &mut lock(&self.out).unperformed;
            unperformed.queue.get_or_insert_default();
            unperformed.last + 1
        };
        self.send_request_with(&HolderRequest::Mirror { number }, vec![notify]);
    }

    /// Starts another holder in the place of one that has died. False: there is none.
    pub(super) async fn succeed(self: &Arc<Self>, hearing: &mut HolderReader) -> bool {
        if !self.successor.is_possible {
            return false;
        }
        if !self.successor.holder_is_gone().await {
            tracing::error!("cannot start another holder: the last one still lives");
            return false;
        }
        if !lock(&self.out).unperformed.is_kept() {
            tracing::error!("cannot start another holder: it has no duplicates of all requests");
            return false;
        }
        while self.successor.is_due() {
            match self.start_holder(hearing).await {
                Ok(pid) => {
                    tracing::warn!(pid, "the holder has died: another one goes on in its place");
                    let replaced = OsEvent::HolderReplaced { pid };
                    return self.facts.send(replaced).await.is_ok();
                }
                Err(error) => {
                    tracing::error!(%error, "cannot start another holder");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
        tracing::error!("cannot start another holder: too many have died, or a part is missing");
        false
    }

    async fn start_holder(self: &Arc<Self>, hearing: &mut HolderReader) -> io::Result<u32> {
        let mut frames = self.successor.frames()?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = OwnedFd::from(ours);
        let (early, writer) = (ours.try_clone()?, HolderWriter::new(ours.try_clone()?));
        let first_holder = self.successor.first_holder;
        let starts = move || start(&theirs.into(), first_holder);
        let started = self.handle.spawn_blocking(starts);
        let started = tokio::time::timeout(START_TIMEOUT, started).await?;
        let (pid, process) = started.map_err(io::Error::other)??;
        let dead = lock(&self.successor.holder).replace(process);
        self.successor.holder_pid.store(pid, Ordering::Relaxed);
        self.successor.count.fetch_add(1, Ordering::Relaxed);
        if let Some(dead) = dead.filter(|_| self.successor.main_process.is_some()) {
            tokio::spawn(Arc::clone(self).pass_main_process_on(dead));
        }
        #[cfg(unix)]
        self.governor.thaw_all();
        hearing.reconnect(ours)?;
        let connection = self.reconnect(&mut frames, early)?;
        tokio::spawn(write_requests(Arc::clone(self), writer, connection));
        self.out_ready.notify_one();
        Ok(pid)
    }

    /// What goes to the new holder: all that was passed, then what the one before did not perform.
    fn reconnect(&self, frames: &mut Outbox, socket: OwnedFd) -> io::Result<u32> {
        let failed = |problem: mainstay_holder::FrameError| io::Error::other(problem.to_string());
        let mut out = lock(&self.out);
        let mut outbox = std::mem::take(frames);
        let before = out.unperformed.queue.take().unwrap_or_default();
        out.unperformed.queue = Some(VecDeque::new());
        let number = out.unperformed.last + 1;
        let mirror = HolderRequest::Mirror { number };
        out.unperformed.push(&mirror, &[]);
        let notify = self.successor.notify.connect()?;
        outbox.push(&mirror, vec![notify]).map_err(failed)?;
        for (_, request, fds) in before {
            if matches!(
                request,
                HolderRequest::Mirror { .. } | HolderRequest::Reexec { .. }
            ) {
                continue;
            }
            out.unperformed.push(&request, &fds);
            outbox.push(&request, fds).map_err(failed)?;
        }
        out.outbox = outbox;
        out.socket = socket;
        out.writes = false;
        out.connection += 1;
        Ok(out.connection)
    }
}

/// Starts this program as a holder, with this end of its channel. It is no child of this process:
/// as the one before, it belongs to the process that takes orphans in, a service manager too, which
/// hears of its end.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no holder that could start it"
)]
fn start(channel: &OwnedFd, first_holder: u32) -> io::Result<(u32, machine::VerifiedProcess)> {
    let mut child = Command::new("/proc/self/exe");
    let name = std::env::args_os().next();
    child.arg0(name.unwrap_or_else(|| "mainstay".into()));
    child.args(["holder", "--succeed"]).stdin(Stdio::inherit());
    keep_what_names(first_holder, &mut child);
    let (mut told, tells) = io::pipe()?;
    let (raw, tells) = (channel.as_raw_fd(), OwnedFd::from(tells));
    #[expect(unsafe_code, reason = "a second fork, and the number of the channel")]
    // SAFETY: only system calls, which are async-signal-safe.
    unsafe {
        child.pre_exec(move || {
            match libc::fork() {
                0 => {}
                ..0 => return Err(io::Error::last_os_error()),
                pid => {
                    let pid = pid.to_ne_bytes();
                    let sent = libc::write(tells.as_raw_fd(), pid.as_ptr().cast(), pid.len());
                    libc::_exit(i32::from(sent != 4));
                }
            }
            let failed = libc::setpgid(0, 0) < 0
                || match raw {
                    CHANNEL_FD => libc::fcntl(raw, libc::F_SETFD, 0) < 0,
                    _ => libc::dup2(raw, CHANNEL_FD) < 0,
                };
            if failed {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut between = child.spawn()?; // returns when the holder has executed
    between.wait()?;
    drop(child); // with its end of the pipe
    let mut pid = [0; 4];
    told.read_exact(&mut pid)?;
    let pid = u32::from_ne_bytes(pid);
    // Unwatched it would not be followed: it ends with its channel.
    let process = machine::VerifiedProcess::now(pid).ok_or(io::ErrorKind::QuotaExceeded)?;
    Ok((pid, process))
}

/// What names the holder in the environment is for its successor, which puts its own number there.
fn keep_what_names(holder: u32, child: &mut Command) {
    let holder = holder.to_string();
    for (name, with_it) in [(EXEC_PID, None), ("WATCHDOG_PID", Some("WATCHDOG_USEC"))] {
        if std::env::var(name).is_ok_and(|pid| pid != holder) {
            child.env_remove(name);
            with_it.map(|name| child.env_remove(name));
        }
    }
}
