//! macOS and FreeBSD: the same questions as `linux.rs`, answered by the holder's crate and sysinfo.
//! Less exact, and says so: no descriptor pins a process, so identity is checked
//! right before each signal; never sees listeners, threads and descriptors of others.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mainstay_local_socket::StreamCommon;
use mainstay_local_socket::asynchronous::Stream;
use mainstay_policy::MonoTime;
use mainstay_process::Instance;
use nix::time::{ClockId, clock_gettime};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use super::accounts::{in_group, own_uid};
use super::transport::ClientStream;
use super::usage::{MachineSample, TreeUsage};
use super::{LiveProcess, PeerCredentials};

/// The monotonic clock.
pub(crate) fn monotonic() -> MonoTime {
    MonoTime(clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |at| {
        u64::try_from(Duration::from(at).as_nanos()).unwrap_or(u64::MAX)
    }))
}

/// A holder executes no other program here.
pub(crate) fn own_program_unless_of(_: u32) -> Option<std::os::fd::OwnedFd> {
    None
}

/// As [`own_program_unless_of`].
pub(crate) fn program_identity(_: u32) -> Option<(u64, u64)> {
    None
}

/// As [`own_program_unless_of`].
pub(crate) fn resume_holder(_: i32) -> Result<u8, String> {
    Err("cannot go on as a holder: this system has no way to do it".to_owned())
}

/// Goes on in the place of a holder that has died: not here.
pub(crate) fn succeed_holder() -> Result<u8, String> {
    Err("cannot go on as a holder: this system has no way to do it".to_owned())
}

/// As [`own_program_unless_of`].
pub(crate) fn check_holder_state() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// There is no portable way to name a process.
pub(crate) fn name_process(_: &std::ffi::CStr) {}

/// Lets this process write to its terminal from the background, where `stty tostop` would stop it.
#[expect(unsafe_code, reason = "signal")]
pub(crate) fn write_in_background() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler function is installed.
    let _always_there = unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) };
}

/// The identity of this boot. When it began is none: that changes with the clock.
#[expect(unsafe_code, reason = "sysctlbyname")]
pub(crate) fn boot_id() -> String {
    let name = if cfg!(target_os = "macos") {
        c"kern.bootsessionuuid"
    } else {
        c"kern.boot_id"
    };
    let mut id = [0u8; 64];
    let mut length = id.len();
    // SAFETY: a name with its NUL, and room whose size is told.
    let failed = unsafe {
        let (place, none) = (id.as_mut_ptr().cast(), std::ptr::null_mut());
        libc::sysctlbyname(name.as_ptr(), place, &raw mut length, none, 0) != 0
    };
    let known = if failed { &[][..] } else { &id[..length] };
    known.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn processes() -> Option<System> {
    let mut system = System::new().ok()?;
    let what = ProcessRefreshKind::nothing()
        .with_cpu()
        .with_memory()
        .with_exe(UpdateKind::Never);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    Some(system)
}

/// A run to look at: its instance as the holder names it, and its main process.
pub(crate) type TreeRoot = (String, LiveProcess);

/// The processes of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    usage: TreeUsage,
    pids: Vec<u32>,
}

impl Tree {
    /// CPU time in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.usage.cpu_ns
    }

    /// Whether the holder stops it as a whole: there are no control groups.
    pub(crate) fn is_grouped(&self) -> bool {
        false
    }

    /// Whether the kernel keeps its ceiling on CPU time: it does not.
    pub(crate) fn has_cpu_controller(&self) -> bool {
        false
    }

    /// The pids of its processes.
    pub(crate) fn all(&self) -> Vec<u32> {
        self.pids.clone()
    }

    /// There is nothing that is stopped as a whole.
    pub(crate) fn thaw(&self) {}

    /// Its processes, each with its start time. One that was stopped by a signal is among them:
    /// that is not known here.
    pub(crate) fn running(&self) -> Vec<(u32, u64)> {
        let pids = self.pids.iter();
        pids.filter_map(|pid| Some((*pid, mainstay_holder::start_time(*pid)?)))
            .collect()
    }
}

/// Samples process trees; nothing is kept between samples here.
#[derive(Debug, Default)]
pub(crate) struct TreeSampler;

impl TreeSampler {
    /// The processes of each run: what descends from its main process or is in the session of
    /// that. None: its main process has ended.
    pub(crate) fn trees(&mut self, roots: &[TreeRoot]) -> Vec<Option<Tree>> {
        let Some(system) = processes() else {
            return roots.iter().map(|_| None).collect();
        };
        let mut trees: HashMap<u32, Tree> = HashMap::new();
        for process in system.processes().values() {
            let mut at = Some(process);
            for _ in 0..64 {
                let Some(here) = at else { break };
                let session = here.session_id().map_or(0, Pid::as_u32);
                let by = [here.pid().as_u32(), session];
                let is_root = |one: &u32| roots.iter().any(|(_, live)| live.pid == *one);
                if let Some(root) = by.into_iter().find(is_root) {
                    let tree = trees.entry(root).or_default();
                    let cpu_ms = process.accumulated_cpu_time();
                    tree.usage.cpu_ns += cpu_ms.saturating_mul(1_000_000);
                    tree.usage.memory_bytes += process.memory();
                    tree.usage.processes += 1;
                    tree.pids.push(process.pid().as_u32());
                    break;
                }
                at = here.parent().and_then(|parent| system.process(parent));
            }
        }
        let found = roots.iter().map(|(_, live)| {
            let start = mainstay_holder::start_time(live.pid);
            let same = live.start_time == 0 || start == Some(live.start_time);
            trees.remove(&live.pid).filter(|_| same)
        });
        found.collect()
    }

    /// What the trees of these runs use.
    pub(crate) fn usage(&mut self, roots: &[TreeRoot]) -> Vec<Option<TreeUsage>> {
        let trees = self.trees(roots).into_iter();
        trees.map(|tree| tree.map(|tree| tree.usage)).collect()
    }
}

/// What the machine as a whole uses; its CPU time and network are not told here.
pub(crate) fn machine() -> MachineSample {
    let memory = memory();
    MachineSample {
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        memory_bytes: memory.as_ref().map_or(0, System::used_memory),
        memory_total: memory.as_ref().map_or(0, System::total_memory),
        ..MachineSample::default()
    }
}

/// Bytes in use on, and bytes free of, the volume that holds `path`.
pub(crate) fn disk(path: &std::path::Path) -> Option<(u64, u64)> {
    let volume = nix::sys::statvfs::statvfs(path).ok()?;
    let block = u64::from(volume.fragment_size());
    let (all, free) = (u64::from(volume.blocks()), u64::from(volume.blocks_free()));
    Some((
        all.saturating_sub(free) * block,
        u64::from(volume.blocks_available()) * block,
    ))
}

/// Bytes of memory that could be used without swapping.
pub(crate) fn memory_available() -> Option<u64> {
    memory().map(|system| system.available_memory())
}

fn memory() -> Option<System> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    Some(system)
}

/// A process known by its start time; nothing pins it here.
pub(crate) struct VerifiedProcess {
    pid: u32,
    start_time: u64,
}

impl VerifiedProcess {
    /// Names `pid` if it is still the process that started at `start_time`.
    pub(crate) fn new(pid: u32, start_time: u64) -> Option<VerifiedProcess> {
        let pinned = VerifiedProcess { pid, start_time };
        pinned.is_the_same().then_some(pinned)
    }

    fn is_the_same(&self) -> bool {
        mainstay_holder::start_time(self.pid) == Some(self.start_time)
    }

    /// Sends a signal to it, after one more look.
    pub(crate) fn signal(&self, signal: i32) {
        let number = i32::try_from(self.pid).unwrap_or(0);
        if let Ok(signal) = nix::sys::signal::Signal::try_from(signal)
            && number > 1
            && self.is_the_same()
        {
            let _already_gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), signal);
        }
    }

    /// Ends when the process has ended.
    pub(crate) async fn ended(self) {
        while self.is_the_same() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Waits for a descriptor with tokio, for reading or for writing.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it lives and always names the same file.
    unsafe { Ok(AsyncFd::register_with_interest(fd, interest)?) }
}

/// An instance, and where its sockets listen.
pub(crate) type Listening = (Instance, Vec<String>);

/// This system does not say who is connected.
pub(crate) fn used_sockets(_: &[Listening]) -> HashMap<Instance, bool> {
    HashMap::new()
}

/// Whether a tree holds a listener: not seen here.
pub(crate) fn listens(_port: u16, _owner: u32) -> Option<bool> {
    None
}

/// Who is at the other end of a Unix socket: (pid, uid, gid).
pub(crate) fn peer(stream: &ClientStream) -> Option<PeerCredentials> {
    let stream = stream.connection()?;
    let peer = stream.peer_creds().ok()?;
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.or_else(|| peer_pid(stream))?;
    Some(PeerCredentials::new(pid, peer.euid()?, peer.egid()?))
}

/// Whether a process belongs to the tree of a main process it does not descend from: not seen here.
pub(crate) fn shares_tree(_pid: u32, _mains: &[u32]) -> bool {
    false
}

#[cfg(target_os = "macos")]
fn peer_pid(stream: &Stream) -> Option<u32> {
    let Stream::UdSocket(socket) = stream;
    use nix::sys::socket::{getsockopt, sockopt::LocalPeerPid};
    u32::try_from(getsockopt(socket, LocalPeerPid).ok()?).ok()
}

/// Elsewhere the credentials name the process.
#[cfg(not(target_os = "macos"))]
fn peer_pid(_: &Stream) -> Option<u32> {
    None
}

/// Whether a process can be kept from gaining rights by executing a file.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = cfg!(target_os = "freebsd");

/// Whether a debugger holds a process: not known here.
pub(crate) fn is_traced(_: u32) -> bool {
    false
}

/// How long the machine has slept since it was booted: not known here.
pub(crate) fn sleep_time() -> Duration {
    Duration::ZERO
}

/// Whether a process was stopped by a signal: not known here.
pub(crate) fn is_stopped(_pid: u32) -> bool {
    false
}
