//! The threads that start processes: two, because a vfork stops only the thread that calls it, and
//! more while a program hangs in its exec.
//! Owns the queue of spawns; opens pipes, sockets and groups for each.
//! Never ends before the holder does, so no child's parent thread goes away under it.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Pid, Uid};

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{self, Cgroup, CgroupTree, ProcessLauncher, ReservedFds, SpawnedChild};
use crate::process;
use crate::spawn::exec_spec::{ChildErrorSlot, ExecSpec};
use crate::spawn::fork::UNKNOWN;
use crate::spawn::prepare::{self, BaseEnvironment, ChildFds};
use crate::spawn::spawn_error::SpawnError;
use crate::threads::lock;
use crate::threads::thread;
use crate::workers::foreign_fd::{ForeignFd, NamedFd};
use crate::workers::mark::MarkSecret;
use crate::workers::notify;
use crate::workers::output::{Backpressure, OutputDrain, OutputStream};
use crate::workers::reports::SpawnedProcess;
use crate::workers::tap_replay::TapReplay;
use mainstay_process::{Instance, Output, SpawnRequest, StartStep, Stdin};

const THREADS: usize = 2;
/// With those that were added because all others hang.
const THREADS_MAX: usize = 16;
/// How long a spawn waits while all threads hang, before one is added.
const HANG_TIME: Duration = Duration::from_millis(100);

/// One spawn to do.
#[derive(Debug)]
pub(crate) struct SpawnJob {
    pub(crate) id: u32,
    pub(crate) name: Instance,
    pub(crate) spawn: Box<SpawnRequest>,
    pub(crate) tag: u64,
    pub(crate) group: Option<Arc<Cgroup>>,
    /// What earlier runs left for this one.
    pub(crate) handed: Vec<NamedFd>,
    pub(crate) tapped: bool,
}

/// What all spawns share.
#[derive(Debug)]
pub(crate) struct SpawnContext {
    pub(crate) inherited: BaseEnvironment,
    pub(crate) groups: Option<CgroupTree>,
    pub(crate) notify_folder: PathBuf,
    pub(crate) marks: MarkSecret,
    pub(crate) nofile: libc::rlimit,
    pub(crate) dev_null: OwnedFd,
    pub(crate) logs: Arc<OutputDrain>,
    pub(crate) mail: Arc<EngineQueue>,
    /// Pin every child: nothing else tells of its end.
    pub(crate) pins: bool,
    /// Never use clone3.
    pub(crate) plain_fork: bool,
}

#[derive(Debug)]
struct SpawnQueue {
    jobs: VecDeque<SpawnJob>,
    quit: bool,
    threads: usize,
    /// When a job was last taken, or a thread was added.
    moved_at: Instant,
}

#[derive(Debug)]
struct SpawnerShared {
    ground: Arc<SpawnContext>,
    queue: Mutex<SpawnQueue>,
    filled: Condvar,
    births: [SpawnInFlight; THREADS_MAX],
}

/// What a thread is busy with.
#[derive(Debug, Default)]
struct SpawnInFlight {
    /// Its child, until that is told; [`UNKNOWN`] in the moment of the fork.
    child_pid: AtomicI32,
    /// Whose it is, while nobody can have reaped it.
    whose: Mutex<Option<u32>>,
}

impl SpawnInFlight {
    /// Ends a child that may hang on its way to its program: on a file system that does not answer.
    fn abort(&self, is: impl FnOnce(u32) -> bool) {
        let whose = lock(&self.whose); // held, it is not reaped: the number means nobody else
        let pid = self.child_pid.load(Ordering::SeqCst);
        if pid > 0 && whose.is_some_and(is) {
            process::kill(pid, libc::SIGKILL);
        }
    }
}

/// The spawner threads.
#[derive(Debug, Clone)]
pub(crate) struct Spawner(Arc<SpawnerShared>);

impl Spawner {
    pub(crate) fn start(ground: Arc<SpawnContext>) -> io::Result<Spawner> {
        let queue = SpawnQueue {
            jobs: VecDeque::new(),
            quit: false,
            threads: THREADS,
            moved_at: Instant::now(),
        };
        let shared = Arc::new(SpawnerShared {
            ground,
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            births: Default::default(),
        });
        for place in 0..THREADS {
            let shared = Arc::clone(&shared);
            thread("spawn", move || run(&shared, place))?;
        }
        Ok(Spawner(shared))
    }

    pub(crate) fn queue(&self, job: SpawnJob) {
        let mut queue = lock(&self.0.queue);
        if queue.jobs.is_empty() {
            queue.moved_at = Instant::now();
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.0.filled.notify_one();
    }

    /// When a thread is to be added, if none takes a job until then.
    pub(crate) fn hang_deadline(&self) -> Option<Instant> {
        let queue = lock(&self.0.queue);
        let waits = !queue.jobs.is_empty() && queue.threads < THREADS_MAX;
        waits.then(|| queue.moved_at + HANG_TIME)
    }

    /// Adds a thread if all others hang.
    pub(crate) fn add_thread(&self, now: Instant) {
        if self.hang_deadline().is_none_or(|at| at > now) {
            return;
        }
        let mut queue = lock(&self.0.queue);
        queue.moved_at = now;
        let (shared, place) = (Arc::clone(&self.0), queue.threads);
        if thread("spawn", move || run(&shared, place)).is_ok() {
            queue.threads += 1; // else it is tried again
        }
    }

    /// Whether this unknown child may be one whose spawn was not told yet.
    pub(crate) fn may_be_pending_child(&self, pid: i32) -> bool {
        let births = self.0.births.iter();
        let mut newborn = births.map(|birth| birth.child_pid.load(Ordering::SeqCst));
        newborn.any(|one| one == pid || one == UNKNOWN)
    }

    /// Ends the birth that goes on for an instance. True when it had not begun: it never will, and
    /// nothing will be told of it.
    pub(crate) fn abort(&self, id: u32) -> bool {
        let jobs = &mut lock(&self.0.queue).jobs;
        if let Some(at) = jobs.iter().position(|job| job.id == id) {
            jobs.remove(at);
            return true;
        }
        for birth in &self.0.births {
            birth.abort(|whose| whose == id);
        }
        false
    }

    /// Drops what is queued, and ends the births that go on; how many were queued.
    pub(crate) fn abandon(&self) -> usize {
        let queued = std::mem::take(&mut lock(&self.0.queue).jobs).len();
        for birth in &self.0.births {
            birth.abort(|_| true);
        }
        queued
    }

    pub(crate) fn quit(&self) {
        lock(&self.0.queue).quit = true;
        self.0.filled.notify_all();
    }
}

fn run(shared: &SpawnerShared, place: usize) {
    let ground = &shared.ground;
    let mut cradle = ProcessLauncher::new(ground.plain_fork, ground.pins);
    if !ground.plain_fork {
        cradle.low = ReservedFds::take(ground.dev_null.as_fd());
    }
    let slip = shared_slip();
    loop {
        let mut queue = lock(&shared.queue);
        let job = loop {
            if queue.quit {
                return;
            }
            match queue.jobs.pop_front() {
                Some(job) => {
                    queue.moved_at = Instant::now();
                    break job;
                }
                None => {
                    queue = shared
                        .filled
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(queue);
        let id = job.id;
        let this = &shared.births[place];
        let outcome = match slip {
            Some(slip) => spawn_one(ground, &mut cradle, slip, this, job).map(Box::new),
            None => Err(SpawnError::new(
                StartStep::Fork,
                libc::ENOMEM,
                "reserve memory for a child",
            )),
        };
        ground.mail.send(EngineEvent::Spawn { id, outcome });
        this.child_pid.store(0, Ordering::SeqCst);
    }
}

/// A page that a forked child shares with us; kept for the life of the thread.
#[expect(unsafe_code, reason = "mmap")]
fn shared_slip() -> Option<&'static ChildErrorSlot> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANON;
    // SAFETY: a fresh mapping, zeroed (a valid Slip of atomics), never unmapped.
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

fn notify_socket(ground: &SpawnContext, name: &str, uid: u32) -> Result<ForeignFd, SpawnError> {
    notify::open_socket(&ground.notify_folder, name, uid).map_err(|problem| {
        // The standard library reports a path over the limit without an errno.
        let errno = problem.raw_os_error().unwrap_or(libc::ENAMETOOLONG);
        let folder = ground.notify_folder.display();
        let what = format!("open a notify socket in {folder}");
        SpawnError::new(StartStep::Pipe, errno, &what)
    })
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

fn spawn_one(
    ground: &SpawnContext,
    cradle: &mut ProcessLauncher,
    slip: &ChildErrorSlot,
    this: &SpawnInFlight,
    job: SpawnJob,
) -> Result<SpawnedProcess, SpawnError> {
    let spawn = &job.spawn;
    prepare::check(spawn)?;
    let groups = ground.groups.as_ref();
    let group = groups.and_then(|groups| groups.recreate(&job.name, job.group.clone()));
    let (group, inside) = group.unzip();
    let pipe_if = |wanted: bool| wanted.then(pipe).transpose();
    let output = pipe_if(spawn.output != Output::Null)?;
    let ready = pipe_if(spawn.ready_fd.is_some())?;
    let write_end = |pipe: &Option<(_, OwnedFd)>| pipe.as_ref().map(|(_, end)| end.as_raw_fd());
    let stdout = write_end(&output).unwrap_or(ground.dev_null.as_raw_fd());
    let says_ready = write_end(&ready);
    if let Some((_, end)) = &output {
        own_output(spawn, end);
    }
    // What it is handed lies where it lies: then the child copies the whole table.
    let stdin = open_stdin(spawn)?;
    let reads = stdin.as_ref().map(|(read, _)| read.as_raw_fd());
    let lends = cradle.low.as_ref();
    let lends = lends.filter(|_| job.handed.is_empty() && reads.is_none());
    let mut ends = child_fds(ground, &job, lends, stdout, says_ready)?;
    ends.stdin = reads.unwrap_or(ends.stdin);
    let mut orders = prepare::exec_spec(spawn, &ground.inherited, &ends, slip)?;
    orders.tag = job.tag;
    if ground.pins {
        // Embedded: no other process ends it.
        orders.parent_death_pid = std::process::id().cast_signed();
    }
    let identity = orders.identity.as_ref();
    let uid = identity.map_or(nix::unistd::getuid().as_raw(), |who| who.uid);
    let notify = || notify_socket(ground, &job.name, uid);
    let notify = spawn.notify.then(notify).transpose()?;
    slip.clear();
    // The writing end closes when this returns; the reading end is watched before the birth,
    // so that nothing can fail after it.
    let (read, _write) = output.unzip();
    let stream = read.map(|read| add_stream(ground, &job, read));
    let stream = stream.transpose()?;
    let put = lends.map_or(Ok(()), |low| low.install(stdout, says_ready));
    let put =
        put.map_err(|errno| SpawnError::new(StartStep::Descriptors, errno, "arrange its ends"));
    let born = put.and_then(|()| {
        let (group, inside) = (group.as_deref(), inside == Some(true));
        *lock(&this.whose) = Some(job.id);
        let born = bear(cradle, &mut orders, group, inside, &this.child_pid);
        *lock(&this.whose) = None;
        born
    });
    if let Some(low) = &cradle.low {
        low.clear();
    }
    let born = born.and_then(|born| executed(born, slip));
    let (born, start_time) = born.inspect_err(|_| {
        if let Some(key) = stream {
            ground.logs.discard(key);
        }
    })?;
    Ok(SpawnedProcess {
        pid: born.pid,
        start_time,
        uid,
        pinned: born.pinned,
        ready: ready.map(|(read, _)| read),
        stdin: stdin.map(|(_, write)| write.into()),
        notify,
        group,
        stream,
        kill_after_ms: job.spawn.timeout_ms,
        mark: ends.mark,
    })
}

fn child_fds<'a>(
    ground: &SpawnContext,
    job: &'a SpawnJob,
    lends: Option<&ReservedFds>,
    stdout: RawFd,
    says_ready: Option<RawFd>,
) -> Result<ChildFds<'a>, SpawnError> {
    let stdin = ground.dev_null.as_raw_fd();
    let (stdin, stdout, ready) = match lends.map(ReservedFds::numbers) {
        Some((stdin, stdout, ready)) => (stdin, stdout, says_ready.map(|_| ready)),
        None => (stdin, stdout, says_ready),
    };
    let notify_path = notify::socket_path(&ground.notify_folder, &job.name);
    let notify_path = job.spawn.notify.then_some(notify_path);
    let mark = ground.marks.draw_mark().map_err(|problem| {
        let errno = problem.raw_os_error().unwrap_or(libc::EIO);
        SpawnError::new(StartStep::Pipe, errno, "draw a mark")
    })?;
    Ok(ChildFds {
        stdin,
        stdout,
        ready,
        notify_path: notify_path.map(|path| path.to_string_lossy().into_owned()),
        mark,
        nofile: ground.nofile,
        above: lends.map_or(0, ReservedFds::above),
        handed: &job.handed,
    })
}

/// Whether it got as far as its program.
fn executed(
    born: (SpawnedChild, u64),
    slip: &ChildErrorSlot,
) -> Result<(SpawnedChild, u64), SpawnError> {
    let Some((step, errno)) = slip.read() else {
        return Ok(born);
    };
    // It exits at once; no other thread reaps it while it is in `child_pid`.
    let _ = waitpid(Pid::from_raw(born.0.pid), None::<WaitPidFlag>);
    Err(SpawnError::without_text(step, errno))
}

/// Whether a child can be born into a group here and gets as far as its exec.
pub(crate) fn probe_cgroup_spawn(ground: &SpawnContext, group: &Cgroup) -> bool {
    let mut cradle = ProcessLauncher::new(ground.plain_fork, false);
    let Some(slip) = shared_slip().filter(|_| !cradle.needs_procs(false)) else {
        return false;
    };
    let dev_null = ground.dev_null.as_raw_fd();
    let orders = ExecSpec::nothing(dev_null, ground.nofile, slip);
    slip.clear();
    let born = cradle.spawn(&orders, Some(group.as_fd()), &AtomicI32::new(0));
    let born = born.map(|born| waitpid(Pid::from_raw(born.pid), None::<WaitPidFlag>));
    born.is_ok() && slip.read().is_some_and(|(step, _)| step == StartStep::Exec)
}

/// Bears it, and finds out when.
fn bear(
    cradle: &mut ProcessLauncher,
    orders: &mut ExecSpec,
    group: Option<&Cgroup>,
    inside: bool,
    newborn: &AtomicI32,
) -> Result<(SpawnedChild, u64), SpawnError> {
    let failed = |errno| SpawnError::without_text(StartStep::Fork, errno);
    let mut procs = None;
    loop {
        let late = !inside || cradle.needs_procs(orders.identity.is_some());
        if late && procs.is_none() {
            procs = group.and_then(Cgroup::procs);
            orders.group_procs = procs.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        }
        let before = kernel::start_stamp();
        match cradle.spawn(orders, group.filter(|_| inside).map(AsFd::as_fd), newborn) {
            Ok(born) => {
                let start_time = kernel::start_time_since(born.pid, before);
                return Ok((born, start_time));
            }
            // The kernel refused the way, not the process: the next one is tried.
            Err(_) if !late && cradle.needs_procs(false) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

fn add_stream(ground: &SpawnContext, job: &SpawnJob, read: OwnedFd) -> Result<u64, SpawnError> {
    let stream = OutputStream {
        fd: Some(read),
        id: job.id,
        generation: job.spawn.generation,
        name: job.name.clone(),
        told: (job.spawn.output == Output::Captured).then(Vec::new),
        tapped: job.tapped,
        line: Vec::new(),
        kept: TapReplay::default(),
        tap_lost: 0,
        until: None,
        pace: Backpressure::default(),
    };
    ground.logs.add(stream).map_err(|problem| {
        let errno = problem.raw_os_error().unwrap_or(libc::EIO);
        SpawnError::new(StartStep::Pipe, errno, "watch its output")
    })
}
