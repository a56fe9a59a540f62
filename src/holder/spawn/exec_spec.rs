//! What a child needs between its fork and its exec, and where it leaves what went wrong.
//! Owns the strings that the pointers in it point to.
//! Never runs in the child.

use std::ffi::{CString, c_char, c_int};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use mainstay_process::{Credentials, Limits, StartStep};

/// Most sockets of a module, and most descriptors that it may store.
pub(crate) const SOCKETS_MAX: usize = 16;
pub(crate) const STORED_MAX: usize = 64;

/// Where the child leaves what went wrong; lies in memory shared by parent and child.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct ChildErrorSlot {
    step: AtomicU32,
    errno: AtomicI32,
}

const STEPS: [StartStep; 8] = [
    StartStep::Session,
    StartStep::Directory,
    StartStep::Limits,
    StartStep::Group,
    StartStep::User,
    StartStep::Descriptors,
    StartStep::Exec,
    StartStep::Isolation,
];

impl ChildErrorSlot {
    pub(crate) fn clear(&self) {
        self.errno.store(0, Ordering::SeqCst);
    }

    pub(crate) fn set(&self, step: StartStep, errno: i32) {
        let number = STEPS.iter().position(|one| *one == step).unwrap_or(6);
        self.step.store(number as u32, Ordering::SeqCst);
        self.errno.store(errno, Ordering::SeqCst);
    }

    pub(crate) fn read(&self) -> Option<(StartStep, i32)> {
        let errno = self.errno.load(Ordering::SeqCst);
        let step = STEPS.get(self.step.load(Ordering::SeqCst) as usize)?;
        (errno != 0).then_some((*step, errno))
    }
}

/// Everything the child needs, prepared before it exists.
#[derive(Debug)]
pub(crate) struct ExecSpec {
    pub(crate) programs: Vec<CString>,
    pub(crate) argv: Vec<*const c_char>,
    pub(crate) envp: Vec<*const c_char>,
    pub(crate) directory: CString,
    pub(crate) stdin: c_int,
    pub(crate) stdout: c_int,
    pub(crate) stderr: c_int,
    /// Source and number of each descriptor it is given from 3 on, by rising number.
    pub(crate) fd_mappings: Vec<(c_int, c_int)>,
    /// `cgroup.procs` to write oneself to, or -1.
    pub(crate) group_procs: c_int,
    pub(crate) nofile: libc::rlimit,
    pub(crate) limits: Limits,
    pub(crate) identity: Option<Credentials>,
    pub(crate) no_new_privileges: bool,
    /// The capabilities that it may have, a bit each.
    pub(crate) capabilities: Option<u64>,
    /// Paths that it can only read.
    pub(crate) read_only: Vec<CString>,
    pub(crate) private_tmp: bool,
    /// The process without which this one must not live, or 0: an application has nobody who would
    /// end its modules after it was killed.
    pub(crate) parent_death_pid: c_int,
    /// By which all that descends from it is known, or 0.
    pub(crate) tag: u64,
    /// Each null or a place of ten bytes and a NUL for the decimal pid.
    pub(crate) pid_digits: [*mut u8; 2],
    pub(crate) slot: *const ChildErrorSlot,
    /// What it has open until it executes its program, or -1.
    pub(crate) barrier: c_int,
    /// The first descriptor it can do without, where it leaves a shared table.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "no table is shared here")
    )]
    pub(crate) first_droppable_fd: u32,
    /// Owners of what the pointers above point to.
    pub(crate) _strings: Vec<CString>,
    pub(crate) _pid_texts: Vec<Box<[u8]>>,
}

impl ExecSpec {
    /// Orders of a child that gets as far as its exec and finds no program there.
    pub(crate) fn nothing(
        dev_null: c_int,
        nofile: libc::rlimit,
        slot: *const ChildErrorSlot,
    ) -> ExecSpec {
        ExecSpec {
            programs: Vec::new(),
            argv: vec![std::ptr::null()],
            envp: vec![std::ptr::null()],
            directory: c"/".into(),
            stdin: dev_null,
            stdout: dev_null,
            stderr: dev_null,
            fd_mappings: Vec::new(),
            group_procs: -1,
            nofile,
            limits: Limits::default(),
            identity: None,
            no_new_privileges: false,
            capabilities: None,
            read_only: Vec::new(),
            private_tmp: false,
            parent_death_pid: 0,
            tag: 0,
            pid_digits: [null_mut(); 2],
            slot,
            barrier: -1,
            first_droppable_fd: 0,
            _strings: Vec::new(),
            _pid_texts: Vec::new(),
        }
    }
}
