//! What a new process does between its fork and its exec.
//! Owns nothing: it may share the memory of a stopped parent thread, so it only reads its spec.
//! Never allocates, locks or calls anything that is not async-signal-safe.

use std::ffi::c_int;
use std::ptr::null_mut;

use mainstay_process::StartStep;

use crate::kernel::child as kernel;
use crate::spawn::exec_spec::{ExecSpec, SOCKETS_MAX, STORED_MAX};
use crate::spawn::syscall::{check, errno};

/// Runs in the child; never returns.
#[expect(unsafe_code, reason = "plain system calls between clone and exec")]
pub(crate) extern "C" fn exec_child(spec: *const ExecSpec) -> ! {
    // SAFETY: the parent keeps `spec` and all it points to until this process execs or exits.
    let spec = unsafe { &*spec };
    let (step, errno) = match prepare(spec) {
        Ok(()) => (StartStep::Exec, exec(spec)),
        Err(failed) => failed,
    };
    fail_and_exit(spec, step, errno)
}

/// Leaves word and ends.
#[expect(unsafe_code, reason = "_exit, and the slot in shared memory")]
pub(crate) fn fail_and_exit(spec: &ExecSpec, step: StartStep, errno: i32) -> ! {
    // SAFETY: the slot lies in memory the parent keeps; `_exit` runs no handlers of the parent.
    unsafe {
        (*spec.slot).set(step, errno);
        libc::_exit(127)
    }
}

fn prepare(spec: &ExecSpec) -> Result<(), (StartStep, i32)> {
    reset_signals();
    join_group(spec);
    session().map_err(|errno| (StartStep::Session, errno))?;
    descriptors(spec).map_err(|errno| (StartStep::Descriptors, errno))?;
    limits(spec).map_err(|errno| (StartStep::Limits, errno))?;
    kernel::isolate(spec).map_err(|errno| (StartStep::Isolation, errno))?;
    if let Some(who) = &spec.identity {
        kernel::become_user(who, spec.capabilities)?;
        file_mode();
    }
    if spec.no_new_privileges {
        kernel::no_new_privileges().map_err(|errno| (StartStep::Limits, errno))?;
    }
    directory(spec).map_err(|errno| (StartStep::Directory, errno))?;
    let stays_root = spec.identity.as_ref().is_none_or(|who| who.uid == 0);
    if let Some(kept) = spec.capabilities.filter(|_| stays_root) {
        kernel::limit_capabilities(kept).map_err(|errno| (StartStep::Isolation, errno))?;
    }
    if spec.parent_death_pid != 0 {
        // Behind the change of user, which would undo it.
        kernel::die_with(spec.parent_death_pid).map_err(|errno| (StartStep::Limits, errno))?;
    }
    write_pid(spec);
    Ok(())
}

/// All dispositions to their default, then the mask empty (it was full since before the clone).
#[expect(unsafe_code, reason = "sigaction")]
fn reset_signals() {
    // SAFETY: zeroed is SIG_DFL with an empty mask; invalid numbers only fail.
    unsafe {
        for signal in 1..=kernel::SIGNALS {
            kernel::reset_disposition(signal);
        }
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, null_mut());
    }
}

/// Only where the kernel could not make the child there.
#[expect(unsafe_code, reason = "write")]
pub(crate) fn join_group(spec: &ExecSpec) {
    if spec.group_procs >= 0 {
        // SAFETY: one byte of static memory; a failure leaves this process outside, where a kill
        // finds it too.
        unsafe { libc::write(spec.group_procs, c"0".as_ptr().cast(), 1) };
    }
}

#[expect(unsafe_code, reason = "setsid")]
fn session() -> Result<(), i32> {
    // SAFETY: no arguments.
    check(unsafe { libc::setsid() }).map(drop)
}

#[expect(unsafe_code, reason = "fcntl, dup2")]
fn descriptors(spec: &ExecSpec) -> Result<(), i32> {
    let above = spec.fd_mappings.last().map_or(3, |(_, number)| number + 1);
    let mut copies = [-1; STORED_MAX + SOCKETS_MAX + 1];
    // SAFETY: numbers only; every descriptor here is the child's own copy.
    unsafe {
        let lift = |fd| check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above));
        let stdin = lift(spec.stdin)? as c_int;
        let stdout = lift(spec.stdout)? as c_int;
        let stderr = match spec.stderr == spec.stdout {
            true => stdout,
            false => lift(spec.stderr)? as c_int,
        };
        for (copy, (source, _)) in copies.iter_mut().zip(&spec.fd_mappings) {
            *copy = lift(*source)? as c_int;
        }
        if spec.barrier >= 0 {
            lift(spec.barrier)?; // above all that it is given: it is closed by the exec alone
        }
        check(libc::dup2(stdin, 0))?;
        check(libc::dup2(stdout, 1))?;
        check(libc::dup2(stderr, 2))?;
        let mut next = 3;
        for (copy, (_, number)) in copies.iter().zip(&spec.fd_mappings) {
            check(libc::dup2(*copy, *number))?;
            if *number > next {
                kernel::close_from(next as u32, *number as u32 - 1)?;
            }
            next = number + 1;
        }
        kernel::close_from(next as u32, u32::MAX)
    }
}

#[expect(unsafe_code, reason = "setrlimit, setpriority")]
fn limits(spec: &ExecSpec) -> Result<(), i32> {
    // SAFETY: valid structures and numbers.
    unsafe {
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const spec.nofile))?;
        kernel::set_tag(spec.tag);
        if let Some(nice) = spec.limits.nice {
            check(libc::setpriority(libc::PRIO_PROCESS, 0, nice))?;
        }
        if let Some(score) = spec.limits.oom_score_adj {
            kernel::set_oom_score_adj(score)?;
        }
        if let Some(set) = &spec.limits.cpu_affinity {
            kernel::set_affinity(set)?;
        }
    }
    Ok(())
}

/// What another user creates is as open as that user expects, whatever the one did who typed `up`.
#[expect(unsafe_code, reason = "umask")]
fn file_mode() {
    // SAFETY: a number.
    unsafe { libc::umask(0o022) };
}

#[expect(unsafe_code, reason = "chdir")]
fn directory(spec: &ExecSpec) -> Result<(), i32> {
    // SAFETY: a NUL-terminated string.
    check(unsafe { libc::chdir(spec.directory.as_ptr()) }).map(drop)
}

#[expect(unsafe_code, reason = "writes into the prepared environment")]
fn write_pid(spec: &ExecSpec) {
    for place in spec.pid_digits.iter().filter(|place| !place.is_null()) {
        // SAFETY: ten bytes and a NUL were reserved there for us alone.
        unsafe { write_digits(*place) };
    }
}

#[expect(unsafe_code, reason = "writes into the prepared environment")]
unsafe fn write_digits(to: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        let mut digits = [0u8; 10];
        let mut rest = libc::getpid().unsigned_abs();
        let mut used = 0;
        while used == 0 || rest > 0 {
            digits[used] = b'0' + (rest % 10) as u8;
            rest /= 10;
            used += 1;
        }
        for place in 0..used {
            *to.add(place) = digits[used - 1 - place];
        }
        *to.add(used) = 0;
    }
}

/// Tries every candidate by the rules of execvp, without its shell fallback; returns the errno.
#[expect(unsafe_code, reason = "execve")]
fn exec(spec: &ExecSpec) -> i32 {
    let mut refused = None;
    let mut last = libc::ENOENT;
    for program in &spec.programs {
        // SAFETY: NUL-terminated strings in NULL-terminated arrays.
        unsafe { libc::execve(program.as_ptr(), spec.argv.as_ptr(), spec.envp.as_ptr()) };
        last = errno();
        match last {
            libc::EACCES => refused = Some(last),
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            _ => return last,
        }
    }
    refused.unwrap_or(last)
}
