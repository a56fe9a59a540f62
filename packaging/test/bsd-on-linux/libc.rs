//! The C library of Linux with a kqueue on top, made from epoll, pidfds and signalfds.
//! Owns what is watched. It does what kevent(2) of macOS says of the calls the holder makes.
//! Never part of a program: it is there to run the holder's code for macOS on a Linux machine.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use real::*;

pub const EVFILT_READ: i16 = -1;
pub const EVFILT_WRITE: i16 = -2;
pub const EVFILT_PROC: i16 = -5;
pub const EVFILT_SIGNAL: i16 = -6;
pub const EV_ADD: u16 = 0x1;
pub const EV_DELETE: u16 = 0x2;
pub const EV_CLEAR: u16 = 0x20;
pub const EV_EOF: u16 = 0x8000;
pub const NOTE_EXIT: u32 = 0x8000_0000;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct kevent {
    pub ident: usize,
    pub filter: i16,
    pub flags: u16,
    pub fflags: u32,
    pub data: isize,
    pub udata: *mut c_void,
}

/// One thing that is watched: who is told, how often, and the descriptor that stands for it.
struct Knote {
    udata: usize,
    clear: bool,
    stand_in: Option<OwnedFd>,
}

type Queue = HashMap<(usize, i16), Knote>;

static QUEUES: Mutex<Option<HashMap<c_int, Queue>>> = Mutex::new(None);

fn queues() -> MutexGuard<'static, Option<HashMap<c_int, Queue>>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// As kqueue(2).
pub unsafe fn kqueue() -> c_int {
    let made = unsafe { real::epoll_create1(real::EPOLL_CLOEXEC) };
    let mut queues = queues();
    queues.get_or_insert_default().insert(made, Queue::new());
    made
}

/// # Safety
/// As kevent(2).
pub unsafe fn kevent(
    kqueue: c_int,
    changes: *const kevent,
    change_count: c_int,
    events: *mut kevent,
    room: c_int,
    timeout: *const timespec,
) -> c_int {
    for at in 0..change_count as usize {
        let one = unsafe { *changes.add(at) };
        let done = match queues().as_mut().and_then(|all| all.get_mut(&kqueue)) {
            Some(queue) => change(kqueue, queue, &one),
            None => Err(real::EBADF),
        };
        if let Err(errno) = done {
            unsafe { *real::__errno_location() = errno };
            return -1;
        }
    }
    if room == 0 {
        return 0;
    }
    let limit = unsafe { timeout.as_ref() }.map_or(-1, |time| {
        time.tv_sec * 1000 + (time.tv_nsec + 999_999) / 1_000_000
    });
    let mut seen = vec![real::epoll_event { events: 0, u64: 0 }; (room as usize / 2).max(1)];
    let count = unsafe {
        let (place, most) = (seen.as_mut_ptr(), seen.len() as c_int);
        real::epoll_wait(kqueue, place, most, limit as c_int)
    };
    let told = seen.iter().take(count.max(0) as usize);
    let mut told: Vec<kevent> = told.flat_map(|one| tell(kqueue, *one)).collect();
    told.truncate(room as usize); // one descriptor can be told of twice; the second comes again
    for (at, one) in told.iter().enumerate() {
        unsafe { *events.add(at) = *one };
    }
    if count < 0 { -1 } else { told.len() as c_int }
}

fn change(kqueue: c_int, queue: &mut Queue, one: &kevent) -> Result<(), c_int> {
    let key = (one.ident, one.filter);
    if one.flags & EV_DELETE != 0 {
        let gone = queue.remove(&key).ok_or(real::ENOENT)?;
        return if gone.stand_in.is_none() {
            watch(kqueue, queue, one.ident)
        } else {
            Ok(()) // closed with it
        };
    }
    let mut knote = Knote {
        udata: one.udata.addr(),
        clear: one.flags & EV_CLEAR != 0,
        stand_in: None,
    };
    let number = one.ident as c_int;
    let (stand_in, kind) = match one.filter {
        EVFILT_PROC => (process(number)?, 1),
        EVFILT_SIGNAL => (signal(number)?, 2),
        _ => {
            queue.insert(key, knote);
            let done = watch(kqueue, queue, one.ident);
            if done.is_err() {
                queue.remove(&key);
            }
            return done;
        }
    };
    control(
        kqueue,
        stand_in.as_raw_fd(),
        real::EPOLLIN,
        kind << 32 | one.ident as u64,
    )?;
    knote.stand_in = Some(stand_in);
    queue.insert(key, knote);
    Ok(())
}

/// A descriptor can be in an epoll once, for reading and writing together.
fn watch(kqueue: c_int, queue: &mut Queue, ident: usize) -> Result<(), c_int> {
    let flags = |queue: &Queue| {
        let of = |filter, flag| {
            queue.get(&(ident, filter)).map_or(0, |knote| {
                flag | if knote.clear { real::EPOLLET } else { 0 }
            })
        };
        of(EVFILT_READ, real::EPOLLIN | real::EPOLLRDHUP) | of(EVFILT_WRITE, real::EPOLLOUT)
    };
    control(kqueue, ident as c_int, flags(queue), ident as u64)
}

fn control(kqueue: c_int, fd: c_int, flags: c_int, about: u64) -> Result<(), c_int> {
    let mut event = real::epoll_event {
        events: flags as u32,
        u64: about,
    };
    let mut call = |how| match unsafe { real::epoll_ctl(kqueue, how, fd, &raw mut event) } {
        0 => Ok(()),
        _ => Err(unsafe { *real::__errno_location() }),
    };
    if flags == 0 {
        return call(real::EPOLL_CTL_DEL);
    }
    match call(real::EPOLL_CTL_MOD) {
        Err(real::ENOENT) => call(real::EPOLL_CTL_ADD),
        done => done,
    }
}

/// As on macOS there is nothing to watch of one that has ended, though it is not reaped.
fn process(pid: c_int) -> Result<OwnedFd, c_int> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|_| real::ESRCH)?;
    if stat
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.starts_with(" Z"))
    {
        return Err(real::ESRCH);
    }
    let fd = unsafe { real::syscall(real::SYS_pidfd_open, pid, 0) };
    own(fd as c_int)
}

fn signal(number: c_int) -> Result<OwnedFd, c_int> {
    let fd = unsafe {
        let mut one: real::sigset_t = std::mem::zeroed();
        real::sigaddset(&raw mut one, number);
        real::signalfd(-1, &raw const one, real::SFD_CLOEXEC | real::SFD_NONBLOCK)
    };
    own(fd)
}

fn own(fd: c_int) -> Result<OwnedFd, c_int> {
    if fd < 0 {
        return Err(unsafe { *real::__errno_location() });
    }
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn tell(kqueue: c_int, seen: real::epoll_event) -> Vec<kevent> {
    let (kind, ident) = (seen.u64 >> 32, (seen.u64 & 0xffff_ffff) as usize);
    let mut all = queues();
    let Some(queue) = all.as_mut().and_then(|all| all.get_mut(&kqueue)) else {
        return Vec::new();
    };
    let event = |knote: &Knote, filter, flags, fflags| kevent {
        ident,
        filter,
        flags,
        fflags,
        data: 0,
        udata: std::ptr::without_provenance_mut(knote.udata),
    };
    match kind {
        1 => {
            let gone = queue.remove(&(ident, EVFILT_PROC)); // told once
            let told = gone.map(|knote| event(&knote, EVFILT_PROC, EV_EOF, NOTE_EXIT));
            told.into_iter().collect()
        }
        2 => {
            let Some(knote) = queue.get(&(ident, EVFILT_SIGNAL)) else {
                return Vec::new();
            };
            let mut info = [0u8; 128];
            if let Some(fd) = &knote.stand_in {
                unsafe { real::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
            }
            vec![event(knote, EVFILT_SIGNAL, EV_CLEAR, 0)]
        }
        _ => {
            let has = |flags: c_int| seen.events & flags as u32 != 0;
            let ends = real::EPOLLHUP | real::EPOLLERR;
            let eof = |ended| if ended { EV_EOF } else { 0 };
            let mut told = Vec::new();
            if let Some(knote) = queue.get(&(ident, EVFILT_READ))
                && has(real::EPOLLIN | real::EPOLLRDHUP | ends)
            {
                let eof = eof(has(real::EPOLLRDHUP | ends));
                told.push(event(knote, EVFILT_READ, eof, 0));
            }
            if let Some(knote) = queue.get(&(ident, EVFILT_WRITE))
                && has(real::EPOLLOUT | ends)
            {
                told.push(event(knote, EVFILT_WRITE, eof(has(ends)), 0));
            }
            told
        }
    }
}

/// The count has another type here.
///
/// # Safety
/// As setgroups(2).
pub unsafe fn setgroups(count: c_int, groups: *const gid_t) -> c_int {
    unsafe { real::setgroups(count as size_t, groups) }
}
