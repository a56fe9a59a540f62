//! One start: opens what the child is passed, has it started, and finds out when that was.
//! Owns the descriptors of a start until the loop takes them.
//! Never lets a child copy the shared table of descriptors, where that can be avoided.

use std::io::{self, PipeReader, PipeWriter};
use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use mainstay_process::{Output, SpawnRequest, StartStep, StdStream, Stdin};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Pid, Uid};

use crate::fds::receive_message;
use crate::kernel::{self, Cgroup, ProcessHandle, ProcessLauncher, ReservedFds, TableThread};
use crate::spawn::exec_spec::{ChildErrorSlot, ExecSpec};
use crate::spawn::prepare::{self, ChildFds};
use crate::spawn::spawn_error::SpawnError;
use crate::spawn::spawn_job::{SpawnContext, SpawnInFlight, SpawnJob};
use crate::threads::lock;
use crate::workers::foreign_fd::NamedFd;
use crate::workers::notify_receiver::REPLY_TIMEOUT;
use crate::workers::output::{Backpressure, OutputPipe, OutputStream};
use crate::workers::reports::SpawnedProcess;
use crate::workers::tap_replay::TapReplay;

/// What a spawner thread keeps from start to start.
#[derive(Debug)]
pub(super) struct LaunchThread {
    context: Arc<SpawnContext>,
    in_flight: Arc<SpawnInFlight>,
    /// Starts a process that is passed no more than its output, in the shared table.
    launcher: ProcessLauncher,
    reserved: Option<ReservedFds>,
    /// Starts the others, in the table of that thread.
    table: Option<(TableThread, ProcessLauncher)>,
    is_busy: bool,
    slot: Option<&'static ChildErrorSlot>,
}

/// The descriptors of a start that its child gets or has a part in.
#[derive(Debug, Default)]
struct Opened {
    stdin: Option<(PipeReader, PipeWriter)>,
    output: Option<(OwnedFd, OwnedFd)>,
    /// Of stderr, where it has a pipe of its own.
    errors: Option<(OwnedFd, OwnedFd)>,
    ready: Option<(OwnedFd, OwnedFd)>,
    group: Option<Arc<Cgroup>>,
    /// A child can be made inside the group.
    inside: bool,
    notify_path: Option<PathBuf>,
    /// What the instance stored: numbers and names.
    stored: Vec<(u32, String)>,
}

impl LaunchThread {
    pub(super) fn new(context: Arc<SpawnContext>, in_flight: Arc<SpawnInFlight>) -> LaunchThread {
        let reserved = match context.plain_fork {
            true => None,
            false => {
                let barrier = context.barrier.as_ref().map(|one| one.write.as_fd());
                ReservedFds::take(context.dev_null.as_fd(), barrier)
            }
        };
        LaunchThread {
            launcher: ProcessLauncher::new(context.plain_fork),
            context,
            in_flight,
            reserved,
            table: None,
            is_busy: false,
            slot: shared_slot(),
        }
    }

    /// Waits until what the last start had is closed: descriptors that the module stored may take
    /// as long as they like.
    pub(super) fn wait_until_idle(&mut self) {
        if std::mem::take(&mut self.is_busy)
            && let Some((table, _)) = &self.table
        {
            table.wait_until_idle();
        }
    }

    pub(super) fn spawn_one(&mut self, job: SpawnJob) -> Result<SpawnedProcess, SpawnError> {
        let (id, generation, receiver) = (job.id, job.spawn.generation, job.receiver.clone());
        let notifies = job.spawn.notify;
        let spawned = self.open_and_launch(job);
        if let Some(receiver) = receiver.filter(|_| notifies && spawned.is_err()) {
            receiver.close(id, generation);
        }
        spawned
    }

    fn open_and_launch(&mut self, job: SpawnJob) -> Result<SpawnedProcess, SpawnError> {
        let no_memory =
            || SpawnError::new(StartStep::Fork, libc::ENOMEM, "reserve memory for a child");
        let slot = self.slot.ok_or_else(no_memory)?;
        let context = Arc::clone(&self.context);
        prepare::check(&job.spawn)?;
        let mut opened = open(&context, &job)?;
        let mark = context.marks.draw_mark().map_err(|problem| {
            let errno = problem.raw_os_error().unwrap_or(libc::EIO);
            SpawnError::new(StartStep::Pipe, errno, "draw a mark")
        })?;
        slot.clear();
        // The writing ends close when this returns; the reading ends are watched before the start,
        // so that nothing can fail after it.
        let (read, write) = opened.output.take().unzip();
        let (read_errors, write_errors) = opened.errors.take().unzip();
        let stream = read.map(|read| add_stream(&context, &job, read, read_errors));
        let stream = stream.transpose()?;
        let (kill_after_ms, notifies) = (job.spawn.timeout_ms, job.spawn.notify);
        let start = Start {
            context: Arc::clone(&context),
            in_flight: Arc::clone(&self.in_flight),
            mark: mark.clone(),
            notify_path: opened.notify_path.take(),
            inside: opened.inside,
            slot,
            job,
        };
        let writes = (write.as_ref(), write_errors.as_ref());
        let launched = self.launch(start, &opened, writes);
        let launched = launched.and_then(|(pid, start_time)| {
            executed(pid, slot)?;
            let handle = context.embedded.then(|| ProcessHandle::new(pid));
            Ok((pid, start_time, handle.flatten()))
        });
        let (pid, start_time, pinned) = launched.inspect_err(|_| {
            if let Some(key) = stream {
                context.logs.discard(key);
            }
        })?;
        Ok(SpawnedProcess {
            pid,
            start_time,
            pinned,
            ready: opened.ready.map(|(read, _)| read),
            stdin: opened.stdin.map(|(_, write)| write.into()),
            notifies,
            group: opened.group,
            stream,
            kill_after_ms,
            mark,
        })
    }

    /// Returns the process and when it started.
    fn launch(
        &mut self,
        start: Start,
        opened: &Opened,
        (output, errors): (Option<&OwnedFd>, Option<&OwnedFd>),
    ) -> Result<(i32, u64), SpawnError> {
        let context = Arc::clone(&self.context);
        let stdout = output.map_or(context.dev_null.as_fd(), AsFd::as_fd);
        let ready = opened.ready.as_ref().map(|(_, write)| write.as_fd());
        let job = &start.job;
        let is_plain = opened.stdin.is_none()
            && errors.is_none()
            && opened.stored.is_empty()
            && job.sockets.is_empty()
            && job.spawn.credentials.is_none();
        match &self.reserved {
            Some(reserved) if is_plain && !self.launcher.forks() => {
                let group = opened.group.as_deref();
                start.launch_reserved(&mut self.launcher, reserved, (stdout, ready), group)
            }
            _ => {
                let errors = errors.map(AsFd::as_fd);
                self.launch_in_table(start, opened, (stdout, errors, ready))
            }
        }
    }

    fn launch_in_table(
        &mut self,
        start: Start,
        opened: &Opened,
        (stdout, errors, ready): (
            BorrowedFd<'_>,
            Option<BorrowedFd<'_>>,
            Option<BorrowedFd<'_>>,
        ),
    ) -> Result<(i32, u64), SpawnError> {
        let failed = |problem: io::Error| {
            let errno = problem.raw_os_error().unwrap_or(libc::EAGAIN);
            SpawnError::new(
                StartStep::Fork,
                errno,
                "use a table of descriptors of its own",
            )
        };
        let stdin = opened.stdin.as_ref().map(|(read, _)| read.as_fd());
        let procs = opened.group.as_ref().and_then(|group| group.procs());
        let store = match (&start.job.receiver, opened.stored.is_empty()) {
            (Some(receiver), false) => Some(receiver.send_store(start.job.id).map_err(failed)?),
            _ => None,
        };
        let (table, mut launcher) = match self.table.take() {
            Some(both) => both,
            None => (
                TableThread::start("launch", false).map_err(failed)?,
                ProcessLauncher::new(self.context.plain_fork),
            ),
        };
        let context = Arc::clone(&self.context);
        let sockets: Vec<NamedFd> = start.job.sockets.clone();
        let barrier = context.barrier.as_ref().map(|one| one.write.as_fd());
        let mut fds = vec![stdin.unwrap_or(context.dev_null.as_fd()), stdout];
        let has = [
            errors.is_some(),
            ready.is_some(),
            opened.group.is_some(),
            procs.is_some(),
            store.is_some(),
            barrier.is_some(),
        ];
        fds.extend(errors);
        fds.extend(ready);
        fds.extend(opened.group.as_ref().map(|group| group.as_fd()));
        fds.extend(procs.as_ref().map(AsFd::as_fd));
        fds.extend(store.as_ref().map(AsFd::as_fd));
        fds.extend(barrier);
        fds.extend(sockets.iter().map(|(_, fd)| fd.as_fd()));
        let stored = opened.stored.clone();
        let done = table.run(&fds, move |fds| {
            let launched = start.launch_with(&mut launcher, fds, has, &stored);
            (launched, launcher)
        });
        match done {
            Ok((launched, launcher)) => {
                self.is_busy = true;
                self.table = Some((table, launcher));
                launched
            }
            Err(problem) => {
                // Nothing was sent: the thread goes on, for the children that end with it. One
                // that has ended gives no errno.
                if problem.raw_os_error().is_some() {
                    let launcher = ProcessLauncher::new(self.context.plain_fork);
                    self.table = Some((table, launcher));
                }
                Err(failed(problem))
            }
        }
    }
}

/// One start, for the thread that forks.
#[derive(Debug)]
struct Start {
    context: Arc<SpawnContext>,
    in_flight: Arc<SpawnInFlight>,
    job: SpawnJob,
    mark: String,
    notify_path: Option<PathBuf>,
    inside: bool,
    slot: &'static ChildErrorSlot,
}

impl Start {
    /// In the shared table: a child that leaves it copies the numbers that are reserved, and those
    /// below.
    fn launch_reserved(
        &self,
        launcher: &mut ProcessLauncher,
        reserved: &ReservedFds,
        (stdout, ready): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
        group: Option<&Cgroup>,
    ) -> Result<(i32, u64), SpawnError> {
        let (stdin, out, says_ready) = reserved.numbers();
        let fds = self.child_fds(
            [stdin, out, out],
            ready.map(|_| says_ready),
            (reserved.above(), reserved.barrier()),
        );
        let put = reserved.install(stdout.as_raw_fd(), ready.as_ref().map(AsRawFd::as_raw_fd));
        let put = put.map_err(|errno| {
            SpawnError::new(StartStep::Descriptors, errno, "arrange its descriptors")
        });
        let procs = || group.and_then(Cgroup::procs).map(OwnedFd::from);
        let launched = put.and_then(|()| {
            let group = group.map(AsFd::as_fd);
            self.fork(launcher, &fds, group, procs)
        });
        reserved.clear();
        launched
    }

    /// In the table of this thread, which has these descriptors, in the order of `has`.
    fn launch_with(
        &self,
        launcher: &mut ProcessLauncher,
        fds: &mut Vec<OwnedFd>,
        has: [bool; 6],
        stored: &[(u32, String)],
    ) -> Result<(i32, u64), SpawnError> {
        let mut given = fds.iter();
        let mut next = |has: bool| given.by_ref().take(usize::from(has)).next();
        let missing = || SpawnError::without_text(StartStep::Descriptors, libc::EMFILE);
        let (stdin, stdout) = (next(true), next(true));
        let (stdin, stdout) = stdin.zip(stdout).ok_or_else(missing)?;
        let [errors, ready, group, procs, store, barrier] = has.map(&mut next);
        let stderr = errors.unwrap_or(stdout);
        let numbers = [stdin, stdout, stderr].map(AsRawFd::as_raw_fd);
        let barrier = barrier.map_or(-1, AsRawFd::as_raw_fd);
        let mut child = self.child_fds(numbers, ready.map(AsRawFd::as_raw_fd), (0, barrier));
        let names = self.job.sockets.iter().map(|(name, _)| name.clone());
        child.handed = names.zip(given.map(AsRawFd::as_raw_fd)).collect();
        if child.handed.len() < self.job.sockets.len() {
            return Err(missing());
        }
        let procs = procs.map(OwnedFd::try_clone).and_then(Result::ok);
        let group = group.map(OwnedFd::try_clone).and_then(Result::ok);
        if let Some(store) = store {
            let (named, received) = receive_store(store, stored)?;
            child.handed.extend(named);
            fds.extend(received);
        }
        let mut procs = Some(procs);
        let procs = || procs.take().flatten();
        self.fork(launcher, &child, group.as_ref().map(AsFd::as_fd), procs)
    }

    fn child_fds(
        &self,
        numbers: [i32; 3],
        ready: Option<i32>,
        (above, barrier): (u32, i32),
    ) -> ChildFds {
        let path = self.notify_path.as_ref();
        let [stdin, stdout, stderr] = numbers;
        ChildFds {
            stdin,
            stdout,
            stderr,
            ready,
            notify_path: path.map(|path| path.to_string_lossy().into_owned()),
            mark: self.mark.clone(),
            nofile: self.context.nofile,
            above,
            barrier,
            handed: Vec::new(),
        }
    }

    fn fork(
        &self,
        launcher: &mut ProcessLauncher,
        fds: &ChildFds,
        group: Option<BorrowedFd<'_>>,
        mut procs: impl FnMut() -> Option<OwnedFd>,
    ) -> Result<(i32, u64), SpawnError> {
        let context = &self.context;
        let spec = prepare::exec_spec(&self.job.spawn, &context.inherited, fds, self.slot);
        let mut spec = spec?;
        spec.tag = self.job.tag;
        if context.embedded {
            // No other process ends it.
            spec.parent_death_pid = std::process::id().cast_signed();
        }
        let in_flight = &self.in_flight;
        *lock(&in_flight.instance) = Some(self.job.id);
        let inside = group.filter(|_| self.inside);
        let forked = fork(
            launcher,
            &mut spec,
            inside,
            &mut procs,
            &in_flight.child_pid,
        );
        *lock(&in_flight.instance) = None;
        forked
    }
}

/// What an instance stored: the names and numbers, and the descriptors.
type Store = (Vec<(String, i32)>, Vec<OwnedFd>);

/// Receives it, into the table of this thread.
fn receive_store(store: &OwnedFd, names: &[(u32, String)]) -> Result<Store, SpawnError> {
    let mut one = [PollFd::new(store.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(REPLY_TIMEOUT).unwrap_or(PollTimeout::ZERO);
    let came = poll(&mut one, timeout).is_ok_and(|count| count > 0);
    let (mut bytes, mut control) = ([0; 1024], kernel::control_space());
    let received = came.then(|| receive_message(store, &mut bytes, &mut control).ok());
    let Some(received) = received.flatten().filter(|received| !received.is_cut) else {
        let what = "receive what it stored";
        return Err(SpawnError::new(
            StartStep::Descriptors,
            libc::ETIMEDOUT,
            what,
        ));
    };
    let (keys, _) = bytes[..received.bytes].as_chunks();
    let named = |(key, fd): (&[u8; 4], &OwnedFd)| {
        let key = u32::from_ne_bytes(*key);
        let (_, name) = names.iter().find(|(one, _)| *one == key)?;
        Some((name.clone(), fd.as_raw_fd()))
    };
    let named = keys.iter().zip(&received.fds).filter_map(named).collect();
    Ok((named, received.fds))
}

/// Opens what the child gets, and its group.
fn open(context: &SpawnContext, job: &SpawnJob) -> Result<Opened, SpawnError> {
    let spawn = &job.spawn;
    let groups = context.groups.as_ref();
    let group = groups.and_then(|groups| groups.recreate(&job.name, job.group.clone()));
    let (group, inside) = group.unzip();
    let pipe_if = |wanted: bool| wanted.then(pipe).transpose();
    let output = pipe_if(spawn.output != Output::Null)?;
    let errors = pipe_if(spawn.split_output && spawn.output == Output::Log)?;
    for (_, end) in output.iter().chain(&errors) {
        own_output(spawn, end);
    }
    let receiver = job.receiver.as_ref();
    let notify_path = receiver.filter(|_| spawn.notify).map(|receiver| {
        let run = (spawn.generation, job.name.clone(), job.user());
        receiver.bind(job.id, run).map_err(|problem| {
            let errno = problem.raw_os_error().unwrap_or(libc::ETIMEDOUT);
            let folder = context.notify_folder.display();
            let what = format!("open a notify socket in {folder}");
            SpawnError::new(StartStep::Pipe, errno, &what)
        })
    });
    Ok(Opened {
        stdin: open_stdin(spawn)?,
        output,
        errors,
        ready: pipe_if(spawn.ready_fd.is_some())?,
        group,
        inside: inside == Some(true),
        notify_path: notify_path.transpose()?,
        stored: receiver.map_or_else(Vec::new, |receiver| receiver.stored(job.id)),
    })
}

/// A page that a forked child shares with its parent; kept for the life of the thread.
#[expect(unsafe_code, reason = "mmap")]
fn shared_slot() -> Option<&'static ChildErrorSlot> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANON;
    // SAFETY: a fresh mapping, zeroed (a valid slot of atomics), never unmapped.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            size_of::<ChildErrorSlot>(),
            protection,
            flags,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            None
        } else {
            Some(&*page.cast::<ChildErrorSlot>())
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    let failed = |problem: io::Error| {
        let errno = problem.raw_os_error().unwrap_or(libc::EIO);
        SpawnError::new(StartStep::Pipe, errno, "open a pipe")
    };
    let (read, write) = io::pipe().map_err(failed)?;
    let not_blocking = fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    not_blocking.map_err(|errno| failed(errno.into()))?;
    Ok((read.into(), write.into()))
}

/// Opens the pipe of a stdin to which nothing is written.
fn open_stdin(spawn: &SpawnRequest) -> Result<Option<(PipeReader, PipeWriter)>, SpawnError> {
    match spawn.stdin {
        Stdin::Open => io::pipe().map(Some).map_err(|problem| {
            let errno = problem.raw_os_error().unwrap_or(libc::EIO);
            SpawnError::without_text(StartStep::Pipe, errno)
        }),
        Stdin::Null => Ok(None),
    }
}

/// Gives the output to the user of the process, who could not open /dev/stderr otherwise. Without
/// that the process still has the descriptors.
fn own_output(spawn: &SpawnRequest, end: &OwnedFd) {
    if let Some(who) = &spawn.credentials {
        let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
        let _ = nix::unistd::fchown(end, Some(uid), Some(gid));
    }
}

/// Whether it got as far as its program.
fn executed(pid: i32, slot: &ChildErrorSlot) -> Result<(), SpawnError> {
    let Some((step, errno)) = slot.read() else {
        return Ok(());
    };
    // It exits at once; no other thread reaps it while it is in `child_pid`.
    let _ = waitpid(Pid::from_raw(pid), None::<WaitPidFlag>);
    Err(SpawnError::without_text(step, errno))
}

/// Whether a child can be made in a group here and gets as far as its exec.
pub(crate) fn probe_cgroup_spawn(context: &SpawnContext, group: &Cgroup) -> bool {
    let mut launcher = ProcessLauncher::new(context.plain_fork);
    let Some(slot) = shared_slot().filter(|_| !launcher.needs_procs(false)) else {
        return false;
    };
    let dev_null = context.dev_null.as_raw_fd();
    let spec = ExecSpec::nothing(dev_null, context.nofile, slot);
    slot.clear();
    let forked = launcher.spawn(&spec, Some(group.as_fd()), &AtomicI32::new(0));
    let forked = forked.map(|pid| waitpid(Pid::from_raw(pid), None::<WaitPidFlag>));
    forked.is_ok() && slot.read().is_some_and(|(step, _)| step == StartStep::Exec)
}

/// Starts it, in the group `inside` if there is one, and finds out when.
fn fork(
    launcher: &mut ProcessLauncher,
    spec: &mut ExecSpec,
    inside: Option<BorrowedFd<'_>>,
    procs: &mut dyn FnMut() -> Option<OwnedFd>,
    child_pid: &AtomicI32,
) -> Result<(i32, u64), SpawnError> {
    let mut opened = None;
    loop {
        let late = inside.is_none() || launcher.needs_procs(spec.identity.is_some());
        if late && opened.is_none() {
            opened = procs();
            spec.group_procs = opened.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        }
        let before = kernel::start_stamp();
        match launcher.spawn(spec, inside, child_pid) {
            Ok(pid) => return Ok((pid, kernel::start_time_since(pid, before))),
            // The kernel refused the way, not the process: the next one is tried.
            Err(_) if !late && launcher.needs_procs(false) => {}
            Err(errno) => return Err(SpawnError::without_text(StartStep::Fork, errno)),
        }
    }
}

/// Gives the drain the output of a start: one pipe, or that of stdout and that of stderr.
fn add_stream(
    context: &SpawnContext,
    job: &SpawnJob,
    read: OwnedFd,
    read_errors: Option<OwnedFd>,
) -> Result<u64, SpawnError> {
    let pipe = |(fd, stream)| OutputPipe {
        fd: Some(fd),
        stream,
        line: Vec::new(),
    };
    let first = match read_errors {
        Some(_) => StdStream::Stdout,
        None => StdStream::Both,
    };
    let errors = read_errors.map(|fd| (fd, StdStream::Stderr));
    let stream = OutputStream {
        pipes: iter::once((read, first)).chain(errors).map(pipe).collect(),
        id: job.id,
        generation: job.spawn.generation,
        name: job.name.clone(),
        told: (job.spawn.output == Output::Captured).then(Vec::new),
        tapped: job.tapped,
        kept: TapReplay::default(),
        tap_lost: 0,
        until: None,
        exit: None,
        pace: Backpressure::default(),
    };
    context.logs.add(stream).map_err(|problem| {
        let errno = problem.raw_os_error().unwrap_or(libc::EIO);
        SpawnError::new(StartStep::Pipe, errno, "watch its output")
    })
}
