//! What a new process asks of Linux between its fork and its exec.
//! Never allocates or locks: only plain system calls.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::null;

use crate::spawn::exec_spec::ExecSpec;
use crate::spawn::syscall::{check, close_one_by_one};
use mainstay_process::{CpuSet, Credentials, StartStep};

/// The highest signal there is.
pub(crate) const SIGNALS: c_int = 64;

/// The raw call: the C library's refuses the two signals it keeps for itself, which may have
/// been inherited as ignored.
#[expect(unsafe_code, reason = "rt_sigaction")]
pub(crate) fn reset_disposition(signal: c_int) {
    let action = [0u64; 4];
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: 32 zero bytes are the kernel's SIG_DFL; its signal sets have 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), none, 8) };
}

#[expect(unsafe_code, reason = "prctl")]
pub(crate) fn no_new_privileges() -> Result<(), i32> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Lets this process run on these processors alone.
#[expect(unsafe_code, reason = "sched_setaffinity")]
pub(crate) fn set_affinity(set: &CpuSet) -> Result<(), i32> {
    let bytes = std::mem::size_of_val(set);
    // SAFETY: a set of the stated size.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, bytes, set.as_ptr()) }).map(drop)
}

/// A private /tmp lies in memory: it holds no more than a tenth of it, and 100 000 files.
const PRIVATE_TMP: &CStr = c"mode=1777,size=10%,nr_inodes=100000";

/// Gives this process a file system of its own where it is asked for, and takes capabilities away.
#[expect(unsafe_code, reason = "unshare, mount, mount_setattr, prctl")]
pub(crate) fn isolate(spec: &ExecSpec) -> Result<(), i32> {
    let none = std::ptr::null();
    let mount = |from: &CStr, to: &CStr, kind: *const c_char, flags, data: *const c_char| {
        // SAFETY: NUL-terminated strings, or null where the call takes null.
        let done = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind, flags, data.cast()) };
        check(done).map(drop)
    };
    if spec.private_tmp || !spec.read_only.is_empty() {
        // SAFETY: a number. The threads of the parent keep what they see.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount(c"none", c"/", none, libc::MS_REC | libc::MS_SLAVE, none)?;
    }
    if spec.private_tmp {
        for place in [c"/tmp", c"/var/tmp"] {
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            let (kind, data) = (c"tmpfs".as_ptr(), PRIVATE_TMP.as_ptr());
            match mount(c"tmpfs", place, kind, flags, data) {
                Err(libc::ENOENT) if place == c"/var/tmp" => {} // there is nothing to hide
                done => done?,
            }
        }
    }
    for path in &spec.read_only {
        write_protect(path)?;
    }
    match spec.capabilities {
        Some(kept) => bound_capabilities(kept, spec.no_new_privileges),
        None => Ok(()),
    }
}

const MOVE_MOUNT_F_EMPTY_PATH: c_int = 4;
const MOVE_MOUNT_T_EMPTY_PATH: c_int = 0x40;

/// Mounts what lies at a path over itself so that it can only be read. The path is looked up once:
/// a link that is changed meanwhile changes nothing.
#[expect(
    unsafe_code,
    reason = "open, open_tree, mount_setattr, move_mount, close"
)]
fn write_protect(path: &CStr) -> Result<(), i32> {
    let mut attributes = [0_u64; 4];
    attributes[0] = libc::MOUNT_ATTR_RDONLY;
    let (attributes_at, size) = (attributes.as_ptr(), std::mem::size_of_val(&attributes));
    let (none, all) = (c"".as_ptr(), libc::AT_EMPTY_PATH | libc::AT_RECURSIVE);
    let clone = libc::O_CLOEXEC | all | 1; // OPEN_TREE_CLONE
    let to = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: NUL-terminated strings, attributes of the stated size, and descriptors of this
    // process.
    unsafe {
        let place = check(libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC))? as c_int;
        let tree = check(libc::syscall(libc::SYS_open_tree, place, none, clone))? as c_int;
        let call = libc::SYS_mount_setattr;
        check(libc::syscall(call, tree, none, all, attributes_at, size))?;
        let moved = libc::syscall(libc::SYS_move_mount, tree, none, place, none, to);
        libc::close(tree);
        libc::close(place);
        check(moved).map(drop)
    }
}

/// No program that this process executes gets other capabilities than these.
#[expect(unsafe_code, reason = "prctl")]
fn bound_capabilities(kept: u64, none_gained: bool) -> Result<(), i32> {
    for capability in (0..64).filter(|number| kept & (1 << number) == 0) {
        // SAFETY: numbers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(done) {
            Ok(_) => {}
            Err(libc::EINVAL) => break, // the kernel has no more
            // No program gains any where that is forbidden; `limit_capabilities` drops our own.
            Err(libc::EPERM) if kept == 0 && none_gained => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Leaves a process that stays root these capabilities alone: the bounding set spares those that
/// it inherits and those that are ambient.
#[expect(unsafe_code, reason = "prctl, capget, capset")]
pub(crate) fn limit_capabilities(kept: u64) -> Result<(), i32> {
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    let (mut header, mut sets) = (CAPABILITY_HEADER, [0_u32; 6]);
    let (to, from) = (header.as_mut_ptr(), sets.as_mut_ptr());
    // SAFETY: numbers; a header of version 3 and the two sets of three words that it has.
    unsafe {
        // Fails where there are no ambient ones.
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        check(libc::syscall(libc::SYS_capget, to, from))?;
        // Effective, permitted, inheritable; twice.
        for (set, mask) in sets.iter_mut().zip([low, low, 0, high, high, 0]) {
            *set &= mask;
        }
        check(libc::syscall(
            libc::SYS_capset,
            header.as_mut_ptr(),
            sets.as_ptr(),
        ))
        .map(drop)
    }
}

/// Ends this process with its parent. The thread that started us lasts as long as its process.
#[expect(unsafe_code, reason = "prctl, getppid")]
pub(crate) fn die_with(parent: c_int) -> Result<(), i32> {
    // SAFETY: numbers only.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // It may have died before we asked.
        if libc::getppid() == parent {
            Ok(())
        } else {
            Err(libc::ESRCH)
        }
    }
}

/// Marks descriptors to be closed by the exec.
#[expect(unsafe_code, reason = "close_range")]
pub(crate) fn close_from(first: u32, last: u32) -> Result<(), i32> {
    // SAFETY: numbers only.
    unsafe {
        let flag = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, first, last, flag) == 0 {
            return Ok(());
        }
    }
    close_one_by_one(first, last)
}

/// Raw calls: the C library's would tell every thread of the parent to follow. A process without
/// root becomes another user by its capabilities; it does so only if it may signal that user's
/// processes too, and what it may do does not pass to them.
#[expect(unsafe_code, reason = "setgroups, setgid, setuid")]
pub(crate) fn become_user(who: &Credentials, kept: Option<u64>) -> Result<(), (StartStep, i32)> {
    // SAFETY: no arguments.
    let is_other = unsafe { libc::geteuid() } != who.uid;
    if is_other && !has_effective(CAP_KILL).map_err(|errno| (StartStep::User, errno))? {
        return Err((StartStep::User, libc::EPERM)); // it could not be stopped
    }
    if is_other {
        leave_session_keyring().map_err(|errno| (StartStep::User, errno))?;
    }
    let kept = kept.filter(|kept| *kept != 0 && who.uid != 0);
    // SAFETY: the list lives in the spec; the rest are numbers.
    let (groups, group, user) = unsafe {
        let call = |number, value: u32| check(libc::syscall(number, value, value, value));
        let list = who.groups.as_ptr();
        let groups = check(libc::syscall(libc::SYS_setgroups, who.groups.len(), list));
        libc::prctl(libc::PR_SET_KEEPCAPS, i32::from(kept.is_some()), 0, 0, 0);
        (
            groups,
            call(libc::SYS_setresgid, who.gid),
            call(libc::SYS_setresuid, who.uid),
        )
    };
    groups
        .and(group)
        .map_err(|errno| (StartStep::Group, errno))?;
    user.map_err(|errno| (StartStep::User, errno))?;
    if let Some(kept) = kept {
        keep_capabilities(kept).map_err(|errno| (StartStep::Isolation, errno))?;
    } else if is_other {
        drop_capabilities().map_err(|errno| (StartStep::User, errno))?;
    }
    Ok(())
}

/// A process with a session keyring may use all keys in it, whatever user it became: those of the
/// user that mainstay was started by. Where the kernel has no keys, or forbids them, there is none.
#[expect(unsafe_code, reason = "keyctl")]
fn leave_session_keyring() -> Result<(), i32> {
    const JOIN_SESSION_KEYRING: u32 = 1;
    let no_name = null::<c_char>();
    // SAFETY: without a name the kernel makes a new keyring for this process alone.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) }) {
        Err(libc::ENOSYS | libc::EPERM) => Ok(()),
        joined => joined.map(drop),
    }
}

/// Version 3 of the kernel's capability sets, of this process.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];
const CAP_KILL: u32 = 5;

/// Whether this process has a capability, of the first 32.
#[expect(unsafe_code, reason = "capget")]
fn has_effective(capability: u32) -> Result<bool, i32> {
    let (mut header, mut sets) = (CAPABILITY_HEADER, [0_u32; 6]);
    let (to, from) = (header.as_mut_ptr(), sets.as_mut_ptr());
    // SAFETY: a header of version 3, with room for the two sets of three words that it has.
    check(unsafe { libc::syscall(libc::SYS_capget, to, from) })?;
    Ok(sets[0] & (1 << capability) != 0)
}

/// A change from root to another user does this by itself; one by capabilities keeps them.
#[expect(unsafe_code, reason = "prctl, capset")]
fn drop_capabilities() -> Result<(), i32> {
    let (mut header, none) = (CAPABILITY_HEADER, [0_u32; 6]);
    // SAFETY: numbers; then a header of version 3 and the two sets of three words that it has.
    unsafe {
        // Fails where there are no ambient ones.
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        let (to, sets) = (header.as_mut_ptr(), none.as_ptr());
        check(libc::syscall(libc::SYS_capset, to, sets)).map(drop)
    }
}

/// Another user has these capabilities, and so have the programs that it executes.
#[expect(unsafe_code, reason = "prctl, capset")]
fn keep_capabilities(kept: u64) -> Result<(), i32> {
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    let mut header = CAPABILITY_HEADER;
    // Effective, permitted and inheritable, of the first 32 and of the others.
    let sets = [low, low, low, high, high, high];
    // SAFETY: a header of version 3 and the two sets of three words that it has; then numbers.
    unsafe {
        check(libc::syscall(
            libc::SYS_capset,
            header.as_mut_ptr(),
            sets.as_ptr(),
        ))?;
        for capability in (0..64).filter(|number| kept & (1 << number) != 0) {
            let raise = libc::PR_CAP_AMBIENT_RAISE;
            check(libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0))?;
        }
    }
    Ok(())
}

/// What both limits of a tag are together; see [`tag`](super::tag).
pub(crate) const TAG_SUM: u64 = 3 << 62;

/// Tags this process and what it will start, or leaves both limits as they are: below another
/// mainstay only root may. Its mark has to do then.
#[expect(unsafe_code, reason = "getrlimit, setrlimit")]
pub(crate) fn set_tag(tag: u64) {
    if tag == 0 {
        return;
    }
    let (time, locks) = (libc::RLIMIT_RTTIME, libc::RLIMIT_LOCKS);
    // SAFETY: zeroed limits that the calls fill.
    let set = |resource, value: u64, only_raise: bool| unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(resource, &raw mut limit);
        if only_raise && limit.rlim_max >= value {
            return true;
        }
        limit.rlim_cur = limit.rlim_cur.min(value);
        limit.rlim_max = value;
        libc::setrlimit(resource, &raw const limit) == 0
    };
    // What may be refused comes first: half a tag would be none.
    if set(time, tag, true) && set(locks, TAG_SUM - tag, true) {
        set(time, tag, false);
        set(locks, TAG_SUM - tag, false);
    }
}

/// Writes this process's `oom_score_adj`.
#[expect(unsafe_code, reason = "open, write, close")]
pub(crate) fn set_oom_score_adj(score: i32) -> Result<(), i32> {
    let mut text = [0_u8; 11];
    let mut at = text.len();
    let mut rest = score.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if score < 0 {
        at -= 1;
        text[at] = b'-';
    }
    let text = &text[at..];
    // SAFETY: a NUL-terminated path, and bytes on this stack.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        let file = check(libc::open(c"/proc/self/oom_score_adj".as_ptr(), flags))? as c_int;
        let written = check(libc::write(file, text.as_ptr().cast(), text.len()) as i64);
        libc::close(file);
        written.map(drop)
    }
}
