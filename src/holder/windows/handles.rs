//! Jobs, waiting for processes, the clock: the system calls that are not about starts.
//! Owns handles; each is closed once.
//! Never ends a process that is not in a job of ours or our own child.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null;
use std::time::Duration;

use mainstay_process::RunLimits;
use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, FILETIME, WAIT_TIMEOUT};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_CPU_RATE_CONTROL_ENABLE,
    JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_JOB_MEMORY, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_CPU_RATE_CONTROL_INFORMATION,
    JOBOBJECT_CPU_RATE_CONTROL_INFORMATION_0, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JOBOBJECTINFOCLASS, JobObjectBasicAccountingInformation, JobObjectCpuRateControlInformation,
    JobObjectExtendedLimitInformation, QueryInformationJobObject, SetInformationJobObject,
    TerminateJobObject,
};
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessTimes, INFINITE, TerminateProcess, WaitForSingleObject,
};

/// What a killed process returns.
const KILLED: u32 = 1;

/// The monotonic clock in nanoseconds, the same for every process.
#[expect(unsafe_code, reason = "system calls")]
#[must_use]
pub fn monotonic_nanos() -> u64 {
    let (mut ticks, mut each_second) = (0, 1);
    // SAFETY: both places outlive the calls, which cannot fail since Windows XP.
    unsafe {
        QueryPerformanceCounter(&raw mut ticks);
        QueryPerformanceFrequency(&raw mut each_second);
    }
    let nanos = i128::from(ticks) * 1_000_000_000 / i128::from(each_second.max(1));
    u64::try_from(nanos).unwrap_or(0)
}

/// The time of the machines: that of the monotonic clock.
pub(crate) fn monotonic() -> Duration {
    Duration::from_nanos(monotonic_nanos())
}

/// The name of the job in which everything is that a holder started; by it the runtime can tell a
/// client that is inside of a module.
#[must_use]
pub fn modules_job_name(holder: u32) -> String {
    format!("Local\\mainstay-{holder}-modules")
}

/// UTF-16 with its end.
pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Processes that end together, at the latest when the last handle of the job is closed.
#[derive(Debug)]
pub(crate) struct JobObject(OwnedHandle);

impl JobObject {
    /// A new one; with a name it must be the first of it.
    #[expect(unsafe_code, reason = "system calls")]
    pub(crate) fn new(name: Option<&str>) -> io::Result<JobObject> {
        let name = name.map(wide);
        let name = name.as_ref().map_or(null(), |name| name.as_ptr());
        // SAFETY: the name ends with 0; a handle that is not null is new and nobody else's.
        let job = unsafe {
            let handle = CreateJobObjectW(null(), name);
            let error = io::Error::last_os_error();
            if handle.is_null() {
                return Err(error);
            }
            let job = JobObject(OwnedHandle::from_raw_handle(handle));
            if error.raw_os_error() == Some(ERROR_ALREADY_EXISTS.cast_signed()) {
                return Err(error);
            }
            job
        };
        job.limit_totals(&RunLimits::default())?;
        Ok(job)
    }

    /// Replaces its limits. What this Windows cannot do is left out: the runtime reports it.
    pub(crate) fn limit(&self, limits: &RunLimits) {
        let mut cpu = JOBOBJECT_CPU_RATE_CONTROL_INFORMATION::default();
        if let Some(permille) = limits.cpu_permille {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            // In ten-thousandths of all cores.
            let rate = permille.saturating_mul(10) / cores as u64;
            let rate = u32::try_from(rate).unwrap_or(u32::MAX).clamp(1, 10_000);
            cpu.ControlFlags =
                JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP;
            cpu.Anonymous = JOBOBJECT_CPU_RATE_CONTROL_INFORMATION_0 { CpuRate: rate };
        }
        let _without = self.set(JobObjectCpuRateControlInformation, &cpu);
        let _without = self.limit_totals(limits);
    }

    /// Memory and processes; all of it ends with the last handle.
    fn limit_totals(&self, limits: &RunLimits) -> io::Result<()> {
        let mut totals = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        totals.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        if let Some(processes) = limits.processes {
            totals.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
            totals.BasicLimitInformation.ActiveProcessLimit =
                u32::try_from(processes).unwrap_or(u32::MAX);
        }
        if let Some(bytes) = limits.memory_max {
            totals.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_JOB_MEMORY;
            totals.JobMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        self.set(JobObjectExtendedLimitInformation, &totals)
    }

    #[expect(unsafe_code, reason = "a system call")]
    fn set<T>(&self, class: JOBOBJECTINFOCLASS, information: &T) -> io::Result<()> {
        let size = u32::try_from(size_of::<T>()).unwrap_or(0);
        let place = std::ptr::from_ref(information).cast();
        // SAFETY: the handle is open, and the information is of the kind and size that is said.
        done(unsafe { SetInformationJobObject(self.0.as_raw_handle(), class, place, size) })
    }

    /// Takes a process in.
    #[expect(unsafe_code, reason = "a system call")]
    pub(crate) fn take(&self, process: &OwnedHandle) -> io::Result<()> {
        // SAFETY: both handles are open.
        done(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process.as_raw_handle()) })
    }

    /// Ends every process in it.
    #[expect(unsafe_code, reason = "a system call")]
    pub(crate) fn kill(&self) {
        // SAFETY: the handle is open.
        let _empty_is_fine = unsafe { TerminateJobObject(self.0.as_raw_handle(), KILLED) };
    }

    /// Whether nobody is in it any more.
    #[expect(unsafe_code, reason = "a system call")]
    pub(crate) fn is_empty(&self) -> bool {
        let mut told = JOBOBJECT_BASIC_ACCOUNTING_INFORMATION::default();
        let size = u32::try_from(size_of_val(&told)).unwrap_or(0);
        // SAFETY: the place is of the kind and size that is said.
        let known = unsafe {
            let (job, what) = (self.0.as_raw_handle(), JobObjectBasicAccountingInformation);
            let place = (&raw mut told).cast();
            QueryInformationJobObject(job, what, place, size, std::ptr::null_mut())
        };
        known == 0 || told.ActiveProcesses == 0
    }
}

/// What a call says that returns 0 when it failed.
pub(crate) fn done(returned: i32) -> io::Result<()> {
    match returned {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A process that we started.
#[derive(Debug)]
pub(crate) struct ChildHandle(pub(crate) OwnedHandle);

impl ChildHandle {
    /// Waits for its end, so long at most; what it returned.
    #[expect(unsafe_code, reason = "system calls")]
    pub(crate) fn wait(&self, within: Option<Duration>) -> Option<u32> {
        let limit = |within: Duration| u32::try_from(within.as_millis()).unwrap_or(INFINITE - 1);
        let mut code = 0;
        // SAFETY: the handle is open, and the place outlives the call.
        unsafe {
            let process = self.0.as_raw_handle();
            if WaitForSingleObject(process, within.map_or(INFINITE, limit)) == WAIT_TIMEOUT {
                return None;
            }
            GetExitCodeProcess(process, &raw mut code);
        }
        Some(code)
    }

    /// Ends it alone.
    #[expect(unsafe_code, reason = "a system call")]
    pub(crate) fn kill(&self) {
        // SAFETY: the handle is open.
        let _gone_is_fine = unsafe { TerminateProcess(self.0.as_raw_handle(), KILLED) };
    }

    /// When it was started: with its number, its identity.
    #[expect(unsafe_code, reason = "a system call")]
    pub(crate) fn start_time(&self) -> u64 {
        let mut times = [FILETIME::default(); 4];
        let [created, exited, kernel, user] = &mut times;
        // SAFETY: the handle is open, and the four places outlive the call.
        unsafe { GetProcessTimes(self.0.as_raw_handle(), created, exited, kernel, user) };
        u64::from(times[0].dwHighDateTime) << 32 | u64::from(times[0].dwLowDateTime)
    }
}
