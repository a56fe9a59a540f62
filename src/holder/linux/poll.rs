//! One thread waiting for many descriptors, for signals and for other threads: epoll.
//! Owns the descriptors that make it so.
//! Never knows what a number that comes with an event means.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Descriptors that are watched.
#[derive(Debug)]
pub(crate) struct Poller(Epoll);

/// Room for what happened.
#[derive(Debug)]
pub(crate) struct PollEvents<const ROOM: usize>([EpollEvent; ROOM], usize);

impl<const ROOM: usize> PollEvents<ROOM> {
    pub(crate) fn new() -> Self {
        PollEvents([EpollEvent::empty(); ROOM], 0)
    }

    /// What each is about, and whether it says only that something can be written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, bool)> {
        let seen = self.0[..self.1].iter();
        seen.map(|event| (event.data(), event.events() == EpollFlags::EPOLLOUT))
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches for something to read, and for its end.
    pub(crate) fn add(&self, fd: impl AsFd, about: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, about);
        Ok(self.0.add(fd, event)?)
    }

    /// Watches for its end alone. A file that cannot be watched has nobody who could hang up.
    pub(crate) fn add_for_end(&self, fd: impl AsFd, about: u64) {
        let _ = self.0.add(fd, EpollEvent::new(EpollFlags::empty(), about));
    }

    /// Whether one that is in here is watched for room to write too.
    pub(crate) fn watch_writable(&self, fd: impl AsFd, about: u64, on: bool) {
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, on);
        let _ = self.0.modify(fd, &mut EpollEvent::new(flags, about)); // it is in here
    }

    /// Whether it was watched until now.
    pub(crate) fn delete(&self, fd: impl AsFd) -> bool {
        self.0.delete(fd).is_ok()
    }

    /// Waits until something happened or the time is over.
    pub(crate) fn wait<const ROOM: usize>(
        &self,
        events: &mut PollEvents<ROOM>,
        within: Option<Duration>,
    ) {
        let timeout = within.map_or(EpollTimeout::NONE, |within| {
            EpollTimeout::try_from(within).unwrap_or(EpollTimeout::ZERO)
        });
        events.1 = self.0.wait(&mut events.0, timeout).unwrap_or(0);
    }
}

/// By which another thread wakes the one that waits.
#[derive(Debug)]
pub(crate) struct LoopWaker(EventFd);

impl LoopWaker {
    pub(crate) fn new() -> io::Result<LoopWaker> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(LoopWaker(EventFd::from_flags(flags)?))
    }

    pub(crate) fn wake(&self) {
        let _ = self.0.write(1); // full means it is awake already
    }

    pub(crate) fn clear(&self) {
        let _ = self.0.read(); // empty is fine
    }
}

impl AsFd for LoopWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Signals that come by descriptor instead of by handler.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks these in the calling thread; threads started later inherit that.
    pub(crate) fn open(which: &[Signal]) -> io::Result<Signals> {
        let mut ours = SigSet::empty();
        which.iter().for_each(|one| ours.add(*one));
        ours.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&ours, flags)?))
    }

    /// The next that came.
    pub(crate) fn next(&self) -> Option<i32> {
        let info = self.0.read_signal().ok().flatten();
        info.map(|info| info.ssi_signo as i32)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
