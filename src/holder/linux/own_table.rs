//! Threads with a table of descriptors of their own: what lies in it gets into no other's children.
//! Owns the low number by which a descriptor gets into such a table.
//! Never copies the rest of the shared table: to close a copy may take for ever.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{AddressFamily, SockType, socketpair};
use nix::sys::stat::Mode;

use super::SOCKET;
use super::reserved_fds::copy;
use crate::fds::{own_fd, receive_message};
use crate::frame::send_fds;
use crate::spawn::syscall::check;
use crate::threads::{lock, thread};

/// Stays taken: what is to be in a new table lies on it for a moment.
static LOW: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Starts a thread whose table has `fd` alone, and the standard descriptors, which lead nowhere
/// unless they are to be kept.
pub(crate) fn thread_with_own_table(
    name: &str,
    keep_standard: bool,
    fd: OwnedFd,
    work: impl FnOnce(OwnedFd) + Send + 'static,
) -> io::Result<()> {
    // Before the thread: nothing fails once it works.
    let null = null()?;
    let mut low = lock(&LOW);
    let number = match &*low {
        Some(low) => low.as_raw_fd(),
        None => {
            let raw = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(4))?;
            low.insert(own_fd(raw)).as_raw_fd()
        }
    };
    copy(fd.as_raw_fd(), number).map_err(io::Error::from_raw_os_error)?;
    let (left, has_left) = sync_channel(1);
    let started = thread(name, move || {
        let result = leave_table(number, keep_standard);
        let is_own = result.is_ok();
        let _ = left.send(result); // it is awaited below
        if is_own {
            work(own_fd(number));
        }
    });
    let gone = |_| Err(io::ErrorKind::Other.into());
    let started = started.and_then(|()| has_left.recv().unwrap_or_else(gone));
    copy(null.as_raw_fd(), number).map_err(io::Error::from_raw_os_error)?;
    started
}

fn null() -> io::Result<OwnedFd> {
    Ok(open(
        "/dev/null",
        OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// Leaves the shared table with the standard descriptors alone, where the kernel can do it at once.
#[expect(unsafe_code, reason = "close_range")]
pub(super) fn leave_shared_table() {
    // SAFETY: numbers only; the table is this thread's own before one is closed.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    };
}

/// Leaves the shared table with the standard descriptors and this one.
#[expect(unsafe_code, reason = "close_range, unshare, close, dup2")]
fn leave_table(number: RawFd, keep_standard: bool) -> io::Result<()> {
    let failed = io::Error::from_raw_os_error;
    let range = |first: RawFd, last: u32, flags: u32| {
        // SAFETY: numbers only; with the flag the table is this thread's own before one is closed.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
    };
    if range(number + 1, u32::MAX, libc::CLOSE_RANGE_UNSHARE).is_ok() {
        // What an application has there keeps its meaning only in its own table.
        let last = number.unsigned_abs() - 1;
        range(3, last, 0).map_err(failed)?;
    } else {
        // Before Linux 5.9: a copy of all, which is closed again.
        // SAFETY: numbers only; the table is this thread's own before one is closed.
        unsafe {
            check(libc::unshare(libc::CLONE_FILES)).map_err(failed)?;
            let mut limit: libc::rlimit = std::mem::zeroed();
            check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit)).map_err(failed)?;
            let end = limit.rlim_cur.min(65_536) as RawFd;
            for other in (3..end).filter(|other| *other != number) {
                libc::close(other);
            }
        }
    }
    if !keep_standard {
        let null = null()?;
        for standard in 0..3 {
            // SAFETY: numbers of this thread's own table.
            check(unsafe { libc::dup2(null.as_raw_fd(), standard) }).map_err(failed)?;
        }
    }
    Ok(())
}

type Work = Box<dyn FnOnce(&mut Vec<OwnedFd>) + Send>;

/// A thread that starts processes: a child copies its table, in which little lies.
#[derive(Debug)]
pub(crate) struct TableThread {
    socket: OwnedFd,
    jobs: SyncSender<Work>,
    idle: Receiver<()>,
}

impl TableThread {
    /// Starts it; it ends with this value.
    pub(crate) fn start(name: &str, keep_standard: bool) -> io::Result<TableThread> {
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SOCKET)?;
        let (jobs, todo) = sync_channel::<Work>(1);
        let (done, idle) = sync_channel(1);
        thread_with_own_table(name, keep_standard, theirs, move |socket| {
            let mut control = super::control_space();
            while let Ok(work) = todo.recv() {
                let received = receive_message(&socket, &mut [0], &mut control);
                let mut fds = received.map(|one| one.fds).unwrap_or_default();
                work(&mut fds);
                drop(fds); // this may take for ever
                if done.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(TableThread { socket, jobs, idle })
    }

    /// Runs `work` there and returns its result. It is passed these descriptors, in their order;
    /// what is in its list then is closed after the result is returned.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        fds: &[BorrowedFd<'_>],
        work: impl FnOnce(&mut Vec<OwnedFd>) -> R + Send + 'static,
    ) -> io::Result<R> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        send_fds(&self.socket, &[0], &raw)?;
        let (result, returned) = sync_channel(1);
        let work: Work = Box::new(move |fds| {
            let _ = result.send(work(fds)); // it is awaited below
        });
        let ended = || io::Error::other("the thread that starts processes has ended");
        self.jobs.send(work).map_err(|_| ended())?;
        returned.recv().map_err(|_| ended())
    }

    /// Waits until what the last work had is closed.
    pub(crate) fn wait_until_idle(&self) {
        let _ = self.idle.recv(); // of one that has ended nothing is to be awaited
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn in_its_table_is_what_it_was_passed_and_nothing_else() {
        let here = std::fs::File::open("/proc/self/stat").unwrap();
        let table = TableThread::start("table", false).unwrap();
        for count in [2, 0, 3] {
            let passed = vec![here.as_fd(); count];
            let (passed, open) = table
                .run(&passed, |fds| {
                    let open = std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
                    let received = fds.len();
                    fds.push(null().unwrap());
                    (received, open)
                })
                .unwrap();
            table.wait_until_idle();
            // The standard ones, its socket, and the folder that is read.
            assert_eq!((passed, open), (count, 3 + 1 + 1 + count));
        }
    }

    #[test]
    fn what_it_opens_is_not_in_the_shared_table() {
        let (all, from_it) = sync_channel(1);
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SOCKET).unwrap();
        thread_with_own_table("table", false, theirs, move |socket| {
            let name = std::fs::read_link("/proc/thread-self").unwrap();
            let file = std::fs::File::open("/etc/hostname").or_else(|_| std::fs::File::open("/"));
            let file = file.unwrap();
            all.send((name, file.as_raw_fd())).unwrap();
            let _ = nix::unistd::read(&socket, &mut [0]); // until the test is done
        })
        .unwrap();
        let (thread, number) = from_it.recv().unwrap();
        let link = |whose: &str| std::fs::read_link(format!("/proc/{whose}/fd/{number}")).ok();
        let there = link(thread.to_str().unwrap());
        assert!(there.is_some());
        assert_ne!(there, link("self"));
        drop(socket);
    }
}
