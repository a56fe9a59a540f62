//! Births on Linux: clone3 with the memory shared and the calling thread stopped until the exec.
//! Owns the child's stack; falls back to fork where clone3 is refused or the user changes.
//! Never leaves a child unreaped that did not get to its exec.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use super::{ProcessHandle, ReservedFds};
use crate::fds::own_fd;
use crate::spawn::child::{exec_child, fail_and_exit, join_group};
use crate::spawn::exec_spec::ExecSpec;
use crate::spawn::fork::{self, with_signals_blocked};
use crate::spawn::syscall::check;
use mainstay_process::StartStep;

const STACK_BYTES: usize = 128 * 1024;

/// What a child runs.
type Enter = extern "C" fn(*const ExecSpec) -> !;

/// Makes processes, one at a time; one per spawner thread.
#[derive(Debug)]
pub(crate) struct ProcessLauncher {
    stack: Box<[u8]>,
    blocked: bool,
    whole_group: bool,
    pins: bool,
    /// Where its children find their ends, if they share the table of descriptors at first.
    pub(crate) low: Option<ReservedFds>,
}

/// A process that was born.
#[derive(Debug)]
pub(crate) struct SpawnedChild {
    pub(crate) pid: i32,
    pub(crate) pinned: Option<ProcessHandle>,
}

impl ProcessLauncher {
    /// `plain` forbids clone3; `pins` asks for a descriptor of every child.
    pub(crate) fn new(plain: bool, pins: bool) -> ProcessLauncher {
        let stack = vec![0; STACK_BYTES].into_boxed_slice();
        ProcessLauncher {
            stack,
            blocked: plain,
            whole_group: true,
            pins,
            low: None,
        }
    }

    /// Starts what `orders` say. The pid is in `newborn` before the child's first instruction.
    /// The caller reads the slip afterwards: the process has executed or ended by then.
    ///
    /// # Errors
    /// The errno of the clone.
    pub(crate) fn spawn(
        &mut self,
        orders: &ExecSpec,
        group: Option<BorrowedFd<'_>>,
        newborn: &AtomicI32,
    ) -> Result<SpawnedChild, i32> {
        with_signals_blocked(|| self.bear_masked(orders, group, newborn))
    }

    fn bear_masked(
        &mut self,
        orders: &ExecSpec,
        group: Option<BorrowedFd<'_>>,
        newborn: &AtomicI32,
    ) -> Result<SpawnedChild, i32> {
        // A child that gives up root must not share memory with us for a moment.
        if self.blocked || orders.identity.is_some() {
            return self.fork_it(orders, newborn);
        }
        let into = group.filter(|_| self.whole_group && orders.group_procs < 0);
        match self.clone_it(orders, into, newborn) {
            Err(libc::ENOSYS | libc::EPERM) => {
                self.blocked = true;
                self.fork_it(orders, newborn)
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

    fn fork_it(&self, orders: &ExecSpec, newborn: &AtomicI32) -> Result<SpawnedChild, i32> {
        let pid = fork::fork_and_exec(orders, newborn)?;
        // Our own child that nobody has reaped: the number cannot mean anyone else.
        let pinned = if self.pins {
            ProcessHandle::new(pid)
        } else {
            None
        };
        Ok(SpawnedChild { pid, pinned })
    }

    /// Whether the caller must hand over `cgroup.procs` instead of the group itself.
    pub(crate) fn needs_procs(&self, orders_identity: bool) -> bool {
        self.blocked || orders_identity || !self.whole_group
    }

    #[expect(unsafe_code, reason = "clone3 with the child on its own stack")]
    fn clone_it(
        &mut self,
        orders: &ExecSpec,
        group: Option<BorrowedFd<'_>>,
        newborn: &AtomicI32,
    ) -> Result<SpawnedChild, i32> {
        let mut pidfd: i32 = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID;
        let mut flags = flags as u64;
        if self.pins {
            flags |= libc::CLONE_PIDFD as u64;
        }
        let enter: Enter = if orders.first_droppable_fd > 0 {
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
        args.pidfd = &raw mut pidfd as u64;
        args.parent_tid = newborn.as_ptr() as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        args.stack = start as u64;
        args.stack_size = (STACK_BYTES - 16) as u64;
        args.cgroup = group.map_or(0, |fd| fd.as_raw_fd() as u64);
        // SAFETY: the stack is ours alone and we sleep until the child has left it; `enter`
        // never returns; `orders` outlives the child's use because of CLONE_VFORK.
        let result = unsafe { clone3(&raw const args, std::ptr::from_ref(orders), enter) };
        if result < 0 {
            return Err(-result as i32);
        }
        newborn.store(result as i32, Ordering::SeqCst);
        Ok(SpawnedChild {
            pid: result as i32,
            pinned: self.pins.then(|| ProcessHandle::from_pidfd(own_fd(pidfd))),
        })
    }
}

/// The same for a child that shares its parent's descriptors: it first leaves their table.
#[expect(unsafe_code, reason = "close_range")]
extern "C" fn exec_child_unshared(orders: *const ExecSpec) -> ! {
    // SAFETY: as in `exec_child`.
    let orders = unsafe { &*orders };
    join_group(orders); // by a descriptor that does not come along
    let flag = libc::CLOSE_RANGE_UNSHARE;
    // SAFETY: numbers only; on success the table is our own.
    let left = check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            orders.first_droppable_fd,
            u32::MAX,
            flag,
        )
    });
    match left {
        Ok(_) => exec_child(orders),
        Err(errno) => fail_and_exit(orders, StartStep::Descriptors, errno),
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "the C library has no clone3 with a child function"
)]
unsafe fn clone3(args: *const libc::clone_args, orders: *const ExecSpec, enter: Enter) -> i64 {
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
            in("r12") orders,
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
unsafe fn clone3(args: *const libc::clone_args, orders: *const ExecSpec, enter: Enter) -> i64 {
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
            in("x20") orders,
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
