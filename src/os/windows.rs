//! Windows: the clocks, who a client is, what processes use.
//! Owns the calls for it. Never ends a process: when the holder is gone, so are its jobs.

use std::collections::HashMap;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null_mut;
use std::time::Duration;

use mainstay_local_socket::StreamCommon;
use mainstay_policy::MonoTime;
use mainstay_process::Instance;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use windows_sys::Win32::Foundation::{
    FILETIME, HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::Cryptography::{
    BCRYPT_USE_SYSTEM_PREFERRED_RNG, BCryptGenRandom,
};
use windows_sys::Win32::Security::{
    EqualSid, GetTokenInformation, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;
use windows_sys::Win32::System::JobObjects::{IsProcessInJob, OpenJobObjectW};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, OpenProcess, OpenProcessToken, PROCESS_QUERY_INFORMATION,
    PROCESS_SYNCHRONIZE, WaitForSingleObject,
};

use super::transport::ClientStream;
use super::usage::{MachineSample, TreeUsage};
use super::{LiveProcess, PeerCredentials};

/// The right to ask a job who is in it.
const JOB_OBJECT_QUERY: u32 = 4;

/// The monotonic clock, the same for the holder.
pub(crate) fn monotonic() -> MonoTime {
    MonoTime(mainstay_holder::monotonic_nanos())
}

/// A holder executes no other program here.
pub(crate) fn own_program_unless_of(_: u32) -> Option<std::convert::Infallible> {
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

/// Processes have the names of their files here.
pub(crate) fn name_process(_: &std::ffi::CStr) {}

/// Nothing stops a process that writes here.
pub(crate) fn write_in_background() {}

/// The identity of this boot: when it began.
pub(crate) fn boot_id() -> String {
    System::boot_time().map_or_else(|_| String::new(), |began| began.to_string())
}

/// Sums what the trees below these roots use.
fn trees(roots: &[u32]) -> HashMap<u32, TreeUsage> {
    let Ok(mut system) = System::new() else {
        return HashMap::new();
    };
    let what = ProcessRefreshKind::nothing()
        .with_cpu()
        .with_memory()
        .with_exe(UpdateKind::Never);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    let mut sums: HashMap<u32, TreeUsage> = HashMap::new();
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
            // A parent's number may belong to someone younger by now.
            let parent = here.parent().and_then(|parent| system.process(parent));
            at = parent.filter(|parent| parent.start_time() <= here.start_time());
        }
    }
    sums
}

/// A run to look at: its instance as the holder names it, and its main process.
pub(crate) type TreeRoot = (String, LiveProcess);

/// Samples process trees; nothing is kept between samples here.
#[derive(Debug, Default)]
pub(crate) struct TreeSampler;

impl TreeSampler {
    /// What the trees of these runs use.
    pub(crate) fn usage(&mut self, roots: &[TreeRoot]) -> Vec<Option<TreeUsage>> {
        let pids: Vec<u32> = roots.iter().map(|(_, live)| live.pid).collect();
        let mut sums = trees(&pids);
        pids.iter().map(|pid| sums.remove(pid)).collect()
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

/// Bytes of memory that could be used without swapping.
pub(crate) fn memory_available() -> Option<u64> {
    memory().map(|system| system.available_memory())
}

fn memory() -> Option<System> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    Some(system)
}

/// Bytes in use on, and bytes free of, the volume that holds `path`.
#[expect(unsafe_code, reason = "a system call")]
pub(crate) fn disk(path: &std::path::Path) -> Option<(u64, u64)> {
    let path = wide(&path.to_string_lossy());
    let (mut ours, mut all, mut free) = (0, 0, 0);
    // SAFETY: the path ends with 0, and the three places outlive the call.
    let done =
        unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut ours, &raw mut all, &raw mut free) };
    (done != 0).then(|| (all.saturating_sub(free), ours))
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

#[expect(unsafe_code, reason = "a system call")]
fn open(pid: u32) -> Option<OwnedHandle> {
    let rights = PROCESS_QUERY_INFORMATION | PROCESS_SYNCHRONIZE;
    // SAFETY: numbers only; a handle that is not null is new and nobody else's.
    unsafe {
        let handle = OpenProcess(rights, 0, pid);
        (!handle.is_null()).then(|| OwnedHandle::from_raw_handle(handle))
    }
}

#[expect(unsafe_code, reason = "a system call")]
fn has_ended(process: &OwnedHandle) -> bool {
    // SAFETY: the handle is open, and nothing is waited for.
    unsafe { WaitForSingleObject(process.as_raw_handle(), 0) != WAIT_TIMEOUT }
}

/// Whether a process of this number lives.
pub(crate) fn lives(pid: u32) -> bool {
    open(pid).is_some_and(|process| !has_ended(&process))
}

/// Whether a process can be kept from gaining rights by executing a file.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = false;

/// Whether a debugger holds a process: not known here.
pub(crate) fn is_traced(_: u32) -> bool {
    false
}

/// How long the machine has slept since it was booted: not known here.
pub(crate) fn sleep_time() -> Duration {
    Duration::ZERO
}

/// Whether a process was stopped by a signal: there are none.
pub(crate) fn is_stopped(_: u32) -> bool {
    false
}

/// A process held by a handle: its number means nobody else while we have it.
pub(crate) struct VerifiedProcess(OwnedHandle);

impl VerifiedProcess {
    /// Pins `pid` if it is still the process that started at `start_time`.
    pub(crate) fn new(pid: u32, start_time: u64) -> Option<VerifiedProcess> {
        let process = open(pid)?;
        (started(&process)? == start_time).then_some(VerifiedProcess(process))
    }

    /// Ends when the process has ended.
    pub(crate) async fn ended(self) {
        while !has_ended(&self.0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[expect(unsafe_code, reason = "a system call")]
fn started(process: &OwnedHandle) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [created, exited, kernel, user] = &mut times;
    // SAFETY: the handle is open, and the four places outlive the call.
    let done = unsafe { GetProcessTimes(process.as_raw_handle(), created, exited, kernel, user) };
    let [created, ..] = times;
    let created = u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime);
    (done != 0).then_some(created)
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

/// Who is at the other end of a pipe: its process, and [`own_uid`] if it is the user we run as,
/// another number if not: users have no numbers here. (pid, uid, gid)
#[expect(unsafe_code, reason = "a system call")]
pub(crate) fn peer(pipe: &ClientStream) -> Option<PeerCredentials> {
    let pid = pipe.peer_creds().ok()?.pid()?;
    let theirs = user_of(open(pid)?.as_raw_handle())?;
    // SAFETY: a number that always means this process.
    let ours = user_of(unsafe { GetCurrentProcess() })?;
    // SAFETY: both begin with a TOKEN_USER whose Sid points into the same block.
    let same = unsafe {
        let sid = |block: &[u64]| (*block.as_ptr().cast::<TOKEN_USER>()).User.Sid;
        EqualSid(sid(&theirs), sid(&ours)) != 0
    };
    Some(PeerCredentials::new(pid, own_uid() + u32::from(!same), 0))
}

/// Whether a process belongs to the tree of a main process it does not descend from: jobs tell.
pub(crate) fn shares_tree(_pid: u32, _mains: &[u32]) -> bool {
    false
}

/// The user of a process: a `TOKEN_USER` with its Sid behind it.
#[expect(unsafe_code, reason = "system calls")]
fn user_of(process: HANDLE) -> Option<Vec<u64>> {
    let mut token = null_mut();
    // SAFETY: the handle is open; the token is new and nobody else's.
    let token = unsafe {
        if OpenProcessToken(process, TOKEN_QUERY, &raw mut token) == 0 {
            return None;
        }
        OwnedHandle::from_raw_handle(token)
    };
    let mut block = vec![0_u64; 32]; // a Sid has 68 bytes at most
    let size = u32::try_from(size_of_val(&block[..])).unwrap_or(0);
    let mut written = 0;
    // SAFETY: the block is aligned for what is written and as long as is said.
    let done = unsafe {
        let place = block.as_mut_ptr().cast();
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            place,
            size,
            &raw mut written,
        )
    };
    (done != 0).then_some(block)
}

/// The user mainstay runs as.
pub(crate) fn own_uid() -> u32 {
    0
}

/// Whether a user is in a group: the configuration refuses to ask.
pub(crate) fn in_group(_uid: u32, _gid: u32, _group: &str) -> bool {
    false
}

/// Whether a process is one of those the holder started, or descends from one; None when that
/// cannot be told.
#[expect(unsafe_code, reason = "system calls")]
pub(crate) fn is_of_a_module(pid: u32, holder: u32) -> Option<bool> {
    let process = open(pid)?;
    let name = wide(&mainstay_holder::modules_job_name(holder));
    // SAFETY: the name ends with 0; a handle that is not null is new and nobody else's.
    let job = unsafe {
        let handle = OpenJobObjectW(JOB_OBJECT_QUERY, 0, name.as_ptr());
        if handle.is_null() {
            return None;
        }
        OwnedHandle::from_raw_handle(handle)
    };
    let mut inside = 0;
    // SAFETY: both handles are open, and the answer outlives the call.
    let told = unsafe {
        IsProcessInJob(
            process.as_raw_handle(),
            job.as_raw_handle(),
            &raw mut inside,
        )
    };
    (told != 0).then_some(inside != 0)
}

/// Processes that are started from now on do not inherit our input, output and errors.
#[expect(unsafe_code, reason = "a system call")]
pub(crate) fn keep_standard_handles() {
    let ours = [
        io::stdin().as_raw_handle(),
        io::stdout().as_raw_handle(),
        io::stderr().as_raw_handle(),
    ];
    for handle in ours {
        // SAFETY: a number; one that is none of ours is an error and changes nothing.
        let _there_is_none = unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, 0) };
    }
}

/// Fills with random bytes that nobody can guess.
#[expect(unsafe_code, reason = "a system call")]
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    let flags = BCRYPT_USE_SYSTEM_PREFERRED_RNG;
    // SAFETY: the bytes are ours and as many as is said.
    let status = unsafe { BCryptGenRandom(null_mut(), bytes.as_mut_ptr(), length, flags) };
    match status {
        0 => Ok(()),
        status => Err(io::Error::other(format!(
            "no random bytes (status {status:#x})"
        ))),
    }
}
