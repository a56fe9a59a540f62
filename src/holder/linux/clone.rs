//! Starts on Linux: clone3 with the memory shared and the calling thread stopped until the exec.
//! Owns the child's stack; falls back to fork where clone3 is refused or the user changes.
//! Never leaves a child unreaped that did not get to its exec.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::spawn::child::{exec_child, fail_and_exit, join_group};
use crate::spawn::exec_spec::ExecSpec;
use crate::spawn::fork::{self, with_signals_blocked};
use crate::spawn::syscall::check;
use mainstay_process::StartStep;

const STACK_BYTES: usize = 128 * 1024;

/// What a child runs.
type Enter = extern "C" fn(*const ExecSpec) -> !;

/// Makes processes, one at a time.
#[derive(Debug)]
pub(crate) struct ProcessLauncher {
    stack: Box<[u8]>,
    forks: bool,
    whole_group: bool,
}

impl ProcessLauncher {
    /// `plain` forbids clone3.
    pub(crate) fn new(plain: bool) -> ProcessLauncher {
        let stack = vec![0; STACK_BYTES].into_boxed_slice();
        ProcessLauncher {
            stack,
            forks: plain,
            whole_group: true,
        }
    }

    /// Starts what the spec says. The pid is in `child_pid` before the child's first instruction.
    /// The caller reads the error slot afterwards: the process has executed or exited by then.
    ///
    /// # Errors
    /// The errno of the clone.
    pub(crate) fn spawn(
        &mut self,
        spec: &ExecSpec,
        group: Option<BorrowedFd<'_>>,
        child_pid: &AtomicI32,
    ) -> Result<i32, i32> {
        with_signals_blocked(|| self.spawn_masked(spec, group, child_pid))
    }

    fn spawn_masked(
        &mut self,
        spec: &ExecSpec,
        group: Option<BorrowedFd<'_>>,
        child_pid: &AtomicI32,
    ) -> Result<i32, i32> {
        // A child that gives up root must not share memory with its parent for a moment.
        if self.forks || spec.identity.is_some() {
            return fork::fork_and_exec(spec, child_pid);
        }
        let into = group.filter(|_| self.whole_group && spec.group_procs < 0);
        match self.clone_child(spec, into, child_pid) {
            Err(libc::ENOSYS | libc::EPERM) => {
                self.forks = true;
                fork::fork_and_exec(spec, child_pid)
            }
            Err(libc::EINVAL | libc::E2BIG | libc::EACCES | libc::EBUSY | libc::EOPNOTSUPP)
                if into.is_some() =>
            {
                self.whole_group = false;
                Err(libc::EAGAIN)
            }
            done => done,
        }
    }

    /// Whether its children copy the table of the calling thread.
    pub(crate) fn forks(&self) -> bool {
        self.forks
    }

    /// Whether the caller must pass `cgroup.procs` instead of the group itself.
    pub(crate) fn needs_procs(&self, changes_user: bool) -> bool {
        self.forks || changes_user || !self.whole_group
    }

    #[expect(unsafe_code, reason = "clone3 with the child on its own stack")]
    fn clone_child(
        &mut self,
        spec: &ExecSpec,
        group: Option<BorrowedFd<'_>>,
        child_pid: &AtomicI32,
    ) -> Result<i32, i32> {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID;
        let mut flags = flags as u64;
        let enter: Enter = if spec.first_droppable_fd > 0 {
            flags |= libc::CLONE_FILES as u64;
            exec_child_unshared
        } else {
            exec_child
        };
        if group.is_some() {
            flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        }
        let base = self.stack.as_mut_ptr() as usize;
        let start = base.next_multiple_of(16);
        // SAFETY: all zero is a valid clone_args.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = flags;
        args.parent_tid = child_pid.as_ptr() as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        args.stack = start as u64;
        args.stack_size = (STACK_BYTES - 16) as u64;
        args.cgroup = group.map_or(0, |fd| fd.as_raw_fd() as u64);
        // SAFETY: the stack is ours alone and we sleep until the child has left it; `enter`
        // never returns; `spec` outlives the child's use because of CLONE_VFORK.
        let result = unsafe { clone3(&raw const args, std::ptr::from_ref(spec), enter) };
        if result < 0 {
            return Err(-result as i32);
        }
        child_pid.store(result as i32, Ordering::SeqCst);
        Ok(result as i32)
    }
}

/// The same for a child that shares its parent's descriptors: it first leaves their table.
#[expect(unsafe_code, reason = "close_range")]
extern "C" fn exec_child_unshared(spec: *const ExecSpec) -> ! {
    // SAFETY: as in `exec_child`.
    let spec = unsafe { &*spec };
    join_group(spec); // by a descriptor that does not come along
    let flag = libc::CLOSE_RANGE_UNSHARE;
    // SAFETY: numbers only; on success the table is our own.
    let left = check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            spec.first_droppable_fd,
            u32::MAX,
            flag,
        )
    });
    match left {
        Ok(_) => exec_child(spec),
        Err(errno) => fail_and_exit(spec, StartStep::Descriptors, errno),
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "the C library has no clone3 with a child function"
)]
unsafe fn clone3(args: *const libc::clone_args, spec: *const ExecSpec, enter: Enter) -> i64 {
    let result: i64;
    // SAFETY: see the caller; the child enters `enter` with an aligned stack and never leaves.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") spec,
            in("r13") enter,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[expect(
    unsafe_code,
    reason = "the C library has no clone3 with a child function"
)]
unsafe fn clone3(args: *const libc::clone_args, spec: *const ExecSpec, enter: Enter) -> i64 {
    let result: i64;
    // SAFETY: see the caller; the child enters `enter` with an aligned stack and never leaves.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args as i64 => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") spec,
            in("x21") enter,
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[expect(unsafe_code, reason = "same signature as where it exists")]
unsafe fn clone3(_: *const libc::clone_args, _: *const ExecSpec, _: Enter) -> i64 {
    -i64::from(libc::ENOSYS)
}
