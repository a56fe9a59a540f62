//! Linux: the clocks, the ancestors of processes, what they use, signals by identity.
//! Owns the reading of /proc. Never signals a process whose start time it has not checked.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use mainstay_holder::look_at_all;
pub(crate) use mainstay_holder::{
    check_state as check_holder_state, resume as resume_holder, succeed as succeed_holder,
};
use mainstay_local_socket::StreamCommon;
use mainstay_local_socket::asynchronous::Stream;
use mainstay_policy::MonoTime;
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::PeerCredentials;
pub(crate) use super::accounts::{in_group, own_uid};
pub(crate) use super::listeners::listens;
pub(crate) use super::socket_use::{Listening, used_sockets};
use super::transport::ClientStream;
pub(crate) use super::tree_sampler::{Tree, TreeRoot, TreeSampler};
use super::usage::MachineSample;

/// The program of this process, unless that process runs it too.
pub(crate) fn own_program_unless_of(pid: u32) -> Option<OwnedFd> {
    if program_identity(std::process::id())? == program_identity(pid)? {
        return None;
    }
    let mut options = fs::File::options();
    let options = options.read(true).custom_flags(libc::O_PATH);
    options.open("/proc/self/exe").ok().map(OwnedFd::from)
}

/// Which program a process executes: device and number of its file.
pub(crate) fn program_identity(pid: u32) -> Option<(u64, u64)> {
    let seen = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((seen.dev(), seen.ino()))
}

/// The monotonic clock, time asleep not counted.
pub(crate) fn monotonic() -> MonoTime {
    MonoTime(read_clock(ClockId::CLOCK_MONOTONIC))
}

/// These clocks cannot fail on a supported kernel; zero is returned if one does.
fn read_clock(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |at| {
        u64::try_from(Duration::from(at).as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Names this process as `ps` and `top` show it.
pub(crate) fn name_process(name: &std::ffi::CStr) {
    let _only_for_people = nix::sys::prctl::set_name(name);
}

/// Lets this process write to its terminal from the background, where `stty tostop` would stop it.
#[expect(unsafe_code, reason = "signal")]
pub(crate) fn write_in_background() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler function is installed.
    let _always_there = unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) };
}

/// The identity of this boot, for times that must not be compared across boots.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// What `/proc/PID/stat` contains of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcStat {
    /// Process id.
    pub(crate) pid: u32,
    /// Its parent.
    pub(crate) parent: u32,
    /// Its session; each module leads one.
    pub(crate) session: u32,
    /// Whether a signal has stopped it, or a debugger.
    pub(crate) stopped: bool,
    /// CPU time in clock ticks, waited-for children not included.
    pub(crate) cpu_ticks: u64,
    /// CPU time in clock ticks of waited-for children.
    pub(crate) children_ticks: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Clock ticks since boot when it started.
    pub(crate) start_time: u64,
    /// Resident pages.
    pub(crate) rss_pages: u64,
}

/// Reads one process; None when it is gone.
pub(crate) fn stat(pid: u32) -> Option<ProcStat> {
    parse_stat(pid, head(format!("/proc/{pid}/stat"), &mut [0; 1024])?)
}

/// Reads the beginning of a file of the kernel, or all of it where that fits: such a file is
/// written in one go, so one read does, without asking for a size that it has not got.
pub(super) fn head(path: impl AsRef<Path>, text: &mut [u8]) -> Option<&[u8]> {
    let length = fs::File::open(path).ok()?.read(text).ok()?;
    text.get(..length)
}

/// Whether a process was stopped by a signal and does nothing until it is continued.
pub(crate) fn is_stopped(pid: u32) -> bool {
    // Unlike `stat` it is always shown, also while an exec waits.
    status_is(pid, "State:", |state| state.starts_with(['T', 't']))
}

/// Whether one of the first lines of `/proc/PID/status` says so.
fn status_is(pid: u32, name: &str, says: fn(&str) -> bool) -> bool {
    let mut text = [0; 1024];
    let status = head(format!("/proc/{pid}/status"), &mut text).unwrap_or_default();
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes()));
    value.is_some_and(|value| says(String::from_utf8_lossy(value).trim()))
}

/// Whether a process can be kept from gaining rights by executing a file.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = true;

/// Whether a debugger holds a process.
pub(crate) fn is_traced(pid: u32) -> bool {
    status_is(pid, "TracerPid:", |tracer| tracer != "0")
}

/// How long the machine has slept since it was booted.
pub(crate) fn sleep_time() -> Duration {
    let awake = read_clock(ClockId::CLOCK_MONOTONIC);
    Duration::from_nanos(read_clock(ClockId::CLOCK_BOOTTIME).saturating_sub(awake))
}

/// The command name may hold anything, so fields are counted from the last parenthesis.
fn parse_stat(pid: u32, text: &[u8]) -> Option<ProcStat> {
    let behind = text.iter().rposition(|byte| *byte == b')')? + 2;
    let rest = std::str::from_utf8(text.get(behind..)?).ok()?;
    let stopped = rest.starts_with(['T', 't']);
    let mut fields = rest.split_ascii_whitespace();
    // Numbered as in proc(5): the state is field 3 and the first one here.
    let mut field = |skip: usize| fields.nth(skip).and_then(|word| word.parse::<u64>().ok());
    let parent = field(1)?;
    let session = field(1)?;
    let user = field(7)?;
    let system = field(0)?;
    let children = field(0)? + field(0)?;
    let threads = field(2)?;
    let start_time = field(1)?;
    let rss_pages = field(1)?;
    Some(ProcStat {
        pid,
        parent: u32::try_from(parent).ok()?,
        session: u32::try_from(session).unwrap_or(0),
        stopped,
        cpu_ticks: user + system,
        children_ticks: children,
        threads,
        start_time,
        rss_pages,
    })
}

pub(super) fn every_process() -> Vec<ProcStat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    stats(names.filter_map(|name| name.to_str()?.parse::<u32>().ok()))
}

/// What `/proc/PID/stat` contains of each process that can be read in time: the kernel shows
/// nothing of one whose exec waits for a file system.
pub(super) fn stats(pids: impl IntoIterator<Item = u32>) -> Vec<ProcStat> {
    let pids = pids.into_iter().map(u32::cast_signed).collect();
    let found = look_at_all(pids, |pid| stat(pid.cast_unsigned()));
    found.into_iter().flatten().collect()
}

/// The root a process belongs to, by its session or an ancestor. `parents` has the parent and the
/// session of each process; what was found is kept there, so that all of a long line cost as much
/// as one of it, and what leads nowhere is removed, so that a circle of reused numbers ends.
pub(super) fn root_of(
    pid: u32,
    parents: &mut HashMap<u32, (u32, u32)>,
    roots: &std::collections::HashSet<u32>,
) -> Option<u32> {
    let (mut at, mut line) = (pid, Vec::new());
    let root = loop {
        if roots.contains(&at) {
            break at;
        }
        let (parent, session) = parents.remove(&at)?;
        line.push(at);
        if roots.contains(&session) {
            break session;
        }
        at = parent;
    };
    parents.extend(line.into_iter().map(|one| (one, (root, root))));
    Some(root)
}

pub(super) fn ticks_per_second() -> u64 {
    sysconf(nix::unistd::SysconfVar::CLK_TCK, 100)
}

pub(super) fn page_bytes() -> u64 {
    sysconf(nix::unistd::SysconfVar::PAGE_SIZE, 4096)
}

fn sysconf(var: nix::unistd::SysconfVar, usual: u64) -> u64 {
    nix::unistd::sysconf(var)
        .ok()
        .flatten()
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(usual)
}

/// What the machine as a whole uses.
pub(crate) fn machine() -> MachineSample {
    let (memory_total, available) = memory();
    MachineSample {
        cpu_ns: busy_cpu_ns(),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        load: load_average(),
        memory_bytes: memory_total.saturating_sub(available),
        memory_total,
        network_bytes: network_bytes(),
        disk_bytes: 0,
        cpu_pressure: pressure("cpu", "some"),
        memory_pressure: pressure("memory", "full"),
    }
}

fn load_average() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Average of the last 10 seconds in percent.
fn pressure(resource: &str, tasks: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(tasks))?;
    let average = line.trim().strip_prefix("avg10=")?;
    average.split(' ').next()?.parse().ok()
}

fn busy_cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal: all but idle and iowait is work.
    let busy: u64 = ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(i, _)| !matches!(i, 3 | 4))
        .map(|(_, n)| n)
        .sum();
    busy.saturating_mul(1_000_000_000) / ticks_per_second()
}

/// Bytes there are, and bytes that could be used without swapping.
fn memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |key: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(key)?
                    .split_ascii_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or(0_u64)
            .saturating_mul(1024)
    };
    (kilobytes("MemTotal:"), kilobytes("MemAvailable:"))
}

fn network_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .map(|(_, rest)| {
            let mut fields = rest
                .split_ascii_whitespace()
                .map(|n| n.parse::<u64>().unwrap_or(0));
            fields.next().unwrap_or(0) + fields.nth(7).unwrap_or(0)
        })
        .sum()
}

/// Bytes in use on, and bytes free of, the volume that holds `path`.
pub(crate) fn disk(path: &std::path::Path) -> Option<(u64, u64)> {
    let volume = nix::sys::statvfs::statvfs(path).ok()?;
    let block = volume.fragment_size();
    let used = volume
        .blocks()
        .saturating_sub(volume.blocks_free())
        .saturating_mul(block);
    Some((used, volume.blocks_available().saturating_mul(block)))
}

/// Bytes of memory that could be used without swapping.
pub(crate) fn memory_available() -> Option<u64> {
    Some(memory().1).filter(|bytes| *bytes > 0)
}

/// A process pinned by a descriptor: signals through it can never reach a stranger.
pub(crate) struct VerifiedProcess(OwnedFd);

impl VerifiedProcess {
    /// Pins `pid` if it is still the process that started at `start_time`.
    pub(crate) fn new(pid: u32, start_time: u64) -> Option<VerifiedProcess> {
        let fd = pidfd_open(pid)?;
        // Checked behind the opening: the descriptor names whoever had the pid at that moment.
        (stat(pid)?.start_time == start_time).then_some(VerifiedProcess(fd))
    }

    /// The process that has this number now.
    pub(crate) fn now(pid: u32) -> Option<VerifiedProcess> {
        pidfd_open(pid).map(VerifiedProcess)
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, signal: i32) {
        let _it_may_have_ended = pidfd_send_signal(&self.0, signal);
    }

    /// Whether it has ended, all of its threads included.
    pub(crate) fn has_ended(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut one = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut one, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Whether its parent has taken note of its end.
    pub(crate) fn is_reaped(&self) -> bool {
        pidfd_send_signal(&self.0, 0) == Err(nix::errno::Errno::ESRCH)
    }

    /// Readable at its end.
    pub(crate) fn watch(&self) -> std::io::Result<AsyncFd<OwnedFd>> {
        watch(self.0.try_clone()?, Interest::READABLE)
    }

    /// Ends when the process has ended.
    pub(crate) async fn ended(self) {
        if let Ok(fd) = watch(self.0, Interest::READABLE) {
            let _readable_at_the_end = fd.readable().await;
        }
    }
}

/// Waits for a descriptor with tokio, for reading or for writing.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it lives and always names the same file.
    unsafe { Ok(AsyncFd::register_with_interest(fd, interest)?) }
}

#[expect(unsafe_code, reason = "nix has no pidfd_open")]
fn pidfd_open(pid: u32) -> Option<OwnedFd> {
    // SAFETY: a system call without pointers; a result that is not negative is a new descriptor
    // that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)))
    }
}

#[expect(unsafe_code, reason = "nix has no pidfd_send_signal")]
fn pidfd_send_signal(fd: &OwnedFd, signal: i32) -> nix::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; the info pointer may be null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    nix::errno::Errno::result(result).map(drop)
}

/// The peer of a Unix socket: (pid, uid, gid).
pub(crate) fn peer(stream: &ClientStream) -> Option<PeerCredentials> {
    let stream = stream.connection()?;
    let Stream::UdSocket(socket) = stream;
    let peer = stream.peer_creds().ok()?;
    let pid = u32::try_from(peer.pid()?).ok()?;
    let credentials = PeerCredentials::new(pid, peer.euid()?, peer.egid()?);
    Some(credentials.with_pidfd(peer_pidfd(socket)))
}

/// The process descriptor of a peer; None before Linux 6.5, or when the process has been reaped.
#[expect(unsafe_code, reason = "nix does not have SO_PEERPIDFD")]
fn peer_pidfd(socket: &impl std::os::fd::AsFd) -> Option<OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};
    let mut pidfd: RawFd = -1;
    let mut length = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the socket is open, and number and length outlive the call; a descriptor that the
    // kernel returns has no other owner.
    unsafe {
        let got = libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut pidfd).cast(),
            &raw mut length,
        );
        (got == 0 && pidfd >= 0).then(|| OwnedFd::from_raw_fd(pidfd))
    }
}

/// When a process started; None when it has exited.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    mainstay_holder::start_time(pid)
}

/// Whether a process belongs to the tree of one of these main processes although it does not
/// descend from it: it is in the control group of the main process and this process is not, or it
/// inherited the same mark.
pub(crate) fn shares_tree(pid: u32, mains: &[u32]) -> bool {
    let group = |pid: u32| fs::read(format!("/proc/{pid}/cgroup")).ok();
    let mark = mainstay_holder::tree_mark;
    let own = group(std::process::id());
    let (group_of_peer, mark_of_peer) = (group(pid), mark(pid));
    mains.iter().any(|&main| {
        let grouped = group_of_peer.is_some() && group_of_peer != own;
        (grouped && group(main) == group_of_peer)
            || (mark_of_peer.is_some() && mark(main) == mark_of_peer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_spaces_is_no_trap() {
        let line =
            b"42 (evil) name) S 7 42 43 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 3 0 999 1000 77 18";
        let stat = parse_stat(42, line).expect("parses");
        assert_eq!((stat.parent, stat.session), (7, 43));
        assert_eq!(
            (
                stat.cpu_ticks,
                stat.threads,
                stat.start_time,
                stat.rss_pages
            ),
            (11, 3, 999, 77)
        );
    }

    #[test]
    fn a_long_line_below_a_root_belongs_to_it_and_a_circle_to_none() {
        let mut parents: HashMap<u32, (u32, u32)> = (2..5000).map(|n| (n, (n - 1, n))).collect();
        parents.insert(9000, (9001, 9000));
        parents.insert(9001, (9000, 9001));
        let roots = std::collections::HashSet::from([1]);
        for pid in (2..5000).rev() {
            assert_eq!(root_of(pid, &mut parents, &roots), Some(1));
        }
        assert_eq!(root_of(9000, &mut parents, &roots), None);
        assert_eq!(root_of(9001, &mut parents, &roots), None);
    }

    #[test]
    fn a_recycled_pid_is_not_pinned() {
        let own = std::process::id();
        let start = stat(own).expect("we live").start_time;
        assert!(VerifiedProcess::new(own, start).is_some());
        assert!(
            VerifiedProcess::new(own, start + 1).is_none(),
            "same pid, another start time: a stranger"
        );
    }
}
