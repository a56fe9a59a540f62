//! One thread waiting for many descriptors, for signals and for other threads: kqueue.
//! Owns the descriptors that make it so.
//! Never knows what a number that comes with an event means.
//!
//! A kqueue can be watched by another one. So signals, and the end of a process, are a descriptor
//! each that becomes readable, as they are on Linux.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

use crate::fds::own_fd;

/// Marks those of whom only the end is of interest; no number that is watched has this bit.
const FOR_END: u64 = 1 << 63;
const _: () = assert!(
    size_of::<usize>() == size_of::<u64>(),
    "a number fits its place"
);

/// Makes one. It does not pass to a child of a fork.
#[expect(unsafe_code, reason = "kqueue")]
pub(super) fn kqueue() -> io::Result<OwnedFd> {
    // SAFETY: no arguments; a result that is not negative is a new descriptor.
    let raw = Errno::result(unsafe { libc::kqueue() })?;
    Ok(own_fd(raw))
}

/// Changes what is watched.
#[expect(unsafe_code, reason = "kevent")]
pub(super) fn change(
    kqueue: &OwnedFd,
    (ident, filter): (usize, i16),
    (flags, filter_flags): (u16, u32),
    about: u64,
) -> nix::Result<()> {
    // SAFETY: all zero is a valid kevent, it lives through the call, and nothing is written.
    unsafe {
        let mut one: libc::kevent = std::mem::zeroed();
        one.ident = ident;
        one.filter = filter;
        one.flags = flags;
        one.fflags = filter_flags;
        one.udata = std::ptr::without_provenance_mut(about as usize);
        let nothing = std::ptr::null_mut();
        let kqueue = kqueue.as_raw_fd();
        Errno::result(libc::kevent(
            kqueue,
            &raw const one,
            1,
            nothing,
            0,
            std::ptr::null(),
        ))?;
    }
    Ok(())
}

/// Takes what happened; how many. None waits for ever.
#[expect(unsafe_code, reason = "kevent")]
fn open(kqueue: &OwnedFd, events: &mut [libc::kevent], within: Option<Duration>) -> usize {
    let within = within.map(|within| libc::timespec {
        tv_sec: within.as_secs() as libc::time_t,
        tv_nsec: within.subsec_nanos().into(),
    });
    let timeout = within.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let room = events.len() as libc::c_int;
    // SAFETY: the kernel writes at most `room` events; the timeout is null or lives here.
    let count = unsafe {
        let (kqueue, none) = (kqueue.as_raw_fd(), std::ptr::null());
        libc::kevent(kqueue, none, 0, events.as_mut_ptr(), room, timeout)
    };
    usize::try_from(count).unwrap_or(0) // a signal came, which is nothing that happened
}

/// Takes all events that are pending.
pub(super) fn drain(kqueue: &OwnedFd) {
    let mut events = PollEvents::<16>::new();
    while open(kqueue, &mut events.0, Some(Duration::ZERO)) > 0 {}
}

/// Descriptors that are watched.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

/// Room for what happened.
pub(crate) struct PollEvents<const ROOM: usize>([libc::kevent; ROOM], usize);

impl<const ROOM: usize> PollEvents<ROOM> {
    #[expect(unsafe_code, reason = "empty events")]
    pub(crate) fn new() -> Self {
        // SAFETY: all zero is a valid kevent.
        PollEvents(unsafe { std::mem::zeroed() }, 0)
    }

    /// What each is about, and whether it says only that something can be written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, bool)> {
        self.0[..self.1].iter().filter_map(|event| {
            let about = event.udata.addr() as u64;
            match (about & FOR_END != 0, event.flags & libc::EV_EOF != 0) {
                (true, true) => Some((about & !FOR_END, false)),
                (true, false) => None,
                (false, _) => Some((about, event.filter == libc::EVFILT_WRITE)),
            }
        })
    }
}

fn ident(fd: &impl AsFd) -> usize {
    fd.as_fd().as_raw_fd().unsigned_abs() as usize
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        kqueue().map(Poller)
    }

    /// Watches for something to read, and for its end.
    pub(crate) fn add(&self, fd: impl AsFd, about: u64) -> io::Result<()> {
        let what = (ident(&fd), libc::EVFILT_READ);
        Ok(change(&self.0, what, (libc::EV_ADD, 0), about)?)
    }

    /// Watches for its end alone. A file that cannot be watched has nobody who could hang up.
    pub(crate) fn add_for_end(&self, fd: impl AsFd, about: u64) {
        let stat = nix::sys::stat::fstat(&fd);
        let is_socket = stat.is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFSOCK);
        // A socket whose other end only stopped writing has not ended.
        let filter = if is_socket {
            libc::EVFILT_WRITE
        } else {
            libc::EVFILT_READ
        };
        // Told once for every change, not for as long as there is something to read or write.
        let flags = (libc::EV_ADD | libc::EV_CLEAR, 0);
        let _ = change(&self.0, (ident(&fd), filter), flags, about | FOR_END);
    }

    /// Whether one that is in here is watched for room to write too.
    pub(crate) fn watch_writable(&self, fd: impl AsFd, about: u64, on: bool) {
        let flags = if on { libc::EV_ADD } else { libc::EV_DELETE };
        let what = (ident(&fd), libc::EVFILT_WRITE);
        let _ = change(&self.0, what, (flags, 0), about); // it is open
    }

    /// Whether it was watched until now.
    pub(crate) fn delete(&self, fd: impl AsFd) -> bool {
        let delete =
            |filter| change(&self.0, (ident(&fd), filter), (libc::EV_DELETE, 0), 0).is_ok();
        let (read, written) = (delete(libc::EVFILT_READ), delete(libc::EVFILT_WRITE));
        read || written
    }

    /// Waits until something happened or the time is over.
    pub(crate) fn wait<const ROOM: usize>(
        &self,
        events: &mut PollEvents<ROOM>,
        within: Option<Duration>,
    ) {
        events.1 = open(&self.0, &mut events.0, within);
    }
}

/// By which another thread wakes the one that waits.
#[derive(Debug)]
pub(crate) struct LoopWaker {
    sleeper: UnixStream,
    waker: UnixStream,
}

impl LoopWaker {
    pub(crate) fn new() -> io::Result<LoopWaker> {
        let (sleeper, waker) = UnixStream::pair()?;
        sleeper.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        Ok(LoopWaker { sleeper, waker })
    }

    pub(crate) fn wake(&self) {
        let _ = (&self.waker).write(&[1]); // full means it is awake already
    }

    pub(crate) fn clear(&self) {
        let mut bytes = [0; 256];
        while (&self.sleeper)
            .read(&mut bytes)
            .is_ok_and(|count| count == bytes.len())
        {}
    }
}

impl AsFd for LoopWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sleeper.as_fd()
    }
}

/// Signals that come by descriptor instead of by handler.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks these in the calling thread, threads started later inherit that; a kqueue is told of
    /// a signal before it is known to be blocked.
    pub(crate) fn open(which: &[Signal]) -> io::Result<Signals> {
        let mut ours = SigSet::empty();
        let kqueue = kqueue()?;
        for one in which {
            ours.add(*one);
            let what = ((*one as i32).unsigned_abs() as usize, libc::EVFILT_SIGNAL);
            change(&kqueue, what, (libc::EV_ADD | libc::EV_CLEAR, 0), 0)?;
        }
        ours.thread_block()?;
        Ok(Signals(kqueue))
    }

    /// The next that came.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut one = PollEvents::<1>::new();
        one.1 = open(&self.0, &mut one.0, Some(Duration::ZERO));
        let seen = one.0[..one.1].first()?;
        i32::try_from(seen.ident).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
