//! Other Unixes: the same questions as `linux.rs`, answered by sysinfo where there is no /proc.
//! Owns nothing. Less exact, and says so: no descriptor pins a process, so identity is checked
//! right before each signal, and listeners and descriptors are not seen.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mainstay_policy::Time;
use nix::time::{ClockId, clock_gettime};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// The monotonic clock.
pub(crate) fn monotonic() -> Time {
    Time(clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |at| {
        u64::try_from(Duration::from(at).as_nanos()).unwrap_or(u64::MAX)
    }))
}

/// There is no portable way to name a process.
pub(crate) fn name_process(_: &std::ffi::CStr) {}

/// The identity of this boot: when it began.
pub(crate) fn boot_id() -> String {
    System::boot_time().to_string()
}

/// The processes above `pid`, nearest first, itself included: (pid, session).
pub(crate) fn ancestry(pid: u32) -> Vec<(u32, u32)> {
    let system = processes();
    let mut line = Vec::new();
    let mut at = Some(Pid::from_u32(pid));
    while let Some(process) = at.and_then(|pid| system.process(pid)) {
        if line.len() == 64 {
            break;
        }
        let session = process.session_id().map_or(0, Pid::as_u32);
        line.push((process.pid().as_u32(), session));
        at = process.parent();
    }
    line
}

fn processes() -> System {
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing()
        .with_cpu()
        .with_memory()
        .with_exe(UpdateKind::Never);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    system
}

/// What a process tree uses, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeUse {
    /// CPU time in nanoseconds of the processes that live now.
    pub(crate) cpu_ns: u64,
    /// Resident bytes.
    pub(crate) memory_bytes: u64,
    /// Threads; 0: not seen here.
    pub(crate) threads: u64,
    /// Processes.
    pub(crate) processes: u64,
    /// Open descriptors; 0: not seen here.
    pub(crate) file_handles: u64,
}

/// Sums what the trees below these roots use.
pub(crate) fn trees(roots: &[u32]) -> HashMap<u32, TreeUse> {
    let system = processes();
    let mut sums: HashMap<u32, TreeUse> = HashMap::new();
    for process in system.processes().values() {
        let mut at = Some(process);
        for _ in 0..64 {
            let Some(here) = at else { break };
            let pid = here.pid().as_u32();
            if roots.contains(&pid) {
                let sum = sums.entry(pid).or_default();
                sum.cpu_ns += process.accumulated_cpu_time().saturating_mul(1_000_000);
                sum.memory_bytes += process.memory();
                sum.processes += 1;
                break;
            }
            at = here.parent().and_then(|parent| system.process(parent));
        }
    }
    sums
}

/// What the machine as a whole uses: (busy CPU ns: not told here, memory in use, network: not
/// told).
pub(crate) fn machine() -> (u64, u64, u64) {
    let mut system = System::new();
    system.refresh_memory();
    (0, system.used_memory(), 0)
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
    let mut system = System::new();
    system.refresh_memory();
    Some(system.available_memory())
}

/// A process known by its start time; nothing pins it here.
pub(crate) struct Pinned {
    pid: u32,
    start_time: u64,
}

impl Pinned {
    /// Names `pid` if it is still the process that started at `start_time`.
    pub(crate) fn new(pid: u32, start_time: u64) -> Option<Pinned> {
        let pinned = Pinned { pid, start_time };
        pinned.is_the_same().then_some(pinned)
    }

    fn is_the_same(&self) -> bool {
        let mut system = System::new();
        let pid = Pid::from_u32(self.pid);
        system.refresh_processes(ProcessesToUpdate::Some(&[pid]), true);
        system
            .process(pid)
            .is_some_and(|process| process.start_time() == self.start_time)
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

/// Waits for a descriptor with tokio.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
pub(crate) fn watch(fd: OwnedFd) -> std::io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it lives and always names the same file.
    unsafe { Ok(tokio::io::unix::AsyncFd::register(fd)?) }
}

/// Whether a tree holds a listener: not seen here.
pub(crate) fn listens(_port: u16, _owner: u32) -> Option<bool> {
    None
}

/// Who is at the other end of a Unix socket: (pid, uid, gid).
pub(crate) fn peer(socket: &impl std::os::fd::AsFd) -> Option<(u32, u32, u32)> {
    let (uid, gid) = nix::unistd::getpeereid(socket).ok()?;
    Some((0, uid.as_raw(), gid.as_raw()))
}

/// The user mainstay runs as.
pub(crate) fn own_uid() -> u32 {
    nix::unistd::Uid::effective().as_raw()
}

/// Whether a user is in a group, by its primary group or the group's member list.
pub(crate) fn in_group(uid: u32, gid: u32, group: &str) -> bool {
    use nix::unistd::{Group, Uid, User};
    let Ok(Some(group)) = Group::from_name(group) else {
        return false;
    };
    group.gid.as_raw() == gid
        || User::from_uid(Uid::from_raw(uid))
            .ok()
            .flatten()
            .is_some_and(|user| user.gid == group.gid || group.mem.contains(&user.name))
}
