//! The thread that receives sd_notify messages, as the loop and the spawner threads use it.
//! Owns their end of its control socket.
//! Never passes on a descriptor of a sender, but those of a store to the start of its next run.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_process::Instance;
use nix::sys::socket::{AddressFamily, SockType, socketpair};

use crate::engine_queue::EngineQueue;
use crate::fds::receive_message;
use crate::frame::send_fds;
use crate::kernel::{SOCKET, thread_with_own_table};
use crate::threads::lock;
use crate::workers::membership::RunTree;
#[cfg(target_os = "linux")]
use crate::workers::notify_command::MIRROR;
use crate::workers::notify_command::{Command, Shared};
use crate::workers::notify_thread::NotifyThread;

/// How long a spawner thread waits for the notify thread.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the thread may take to make room for that.
#[cfg(target_os = "linux")]
const MIRROR_TIMEOUT: Duration = Duration::from_millis(20);

/// The thread, of other threads.
#[derive(Debug)]
pub(crate) struct NotifyReceiver {
    shared: Arc<Shared>,
    pub(crate) control: OwnedFd,
}

impl NotifyReceiver {
    pub(crate) fn start(queue: &EngineQueue, folder: PathBuf) -> io::Result<NotifyReceiver> {
        let shared = Arc::new(Shared {
            commands: Mutex::default(),
            stored: Mutex::default(),
            folder,
            quit: AtomicBool::new(false),
        });
        #[cfg(target_os = "linux")]
        crate::kernel::prepare_looks()?; // before what modules send is in a table
        let (control, theirs) = pair()?;
        let (begun, has_begun) = sync_channel(1);
        let (queue, both) = (queue.state(), Arc::clone(&shared));
        thread_with_own_table("notify", false, theirs, move |theirs| {
            match NotifyThread::new(both, queue, theirs) {
                Ok(thread) => {
                    let _ = begun.send(Ok(())); // it is awaited below
                    thread.run();
                }
                Err(problem) => drop(begun.send(Err(problem))),
            }
        })?;
        let ended = |_| Err(io::ErrorKind::Other.into());
        has_begun.recv().unwrap_or_else(ended)?;
        Ok(NotifyReceiver { shared, control })
    }

    /// Opens the socket of a run that is about to be started, and returns its path.
    pub(crate) fn bind(&self, id: u32, run: (u64, Instance, u32)) -> io::Result<PathBuf> {
        let (reply, bound) = sync_channel(1);
        self.send(Command::Bind { id, run, reply });
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        bound.recv_timeout(REPLY_TIMEOUT).unwrap_or_else(late)
    }

    /// Begins to receive what a run sends.
    pub(crate) fn open(&self, id: u32, generation: u64, tree: RunTree) {
        self.send(Command::Open {
            id,
            generation,
            tree,
        });
    }

    /// Sends [`EngineEvent::NotifyDrained`](crate::engine_queue::EngineEvent::NotifyDrained) after
    /// the last message that was queued by now.
    pub(crate) fn drain(&self, id: u32, generation: u64, pid: i32) {
        self.send(Command::Drain(id, generation, pid));
    }

    /// Closes the socket of a run that has ended, or was not started.
    pub(crate) fn close(&self, id: u32, generation: u64) {
        self.send(Command::Close(id, generation));
    }

    /// Closes all that an instance has stored.
    pub(crate) fn forget(&self, id: u32) {
        self.send(Command::Forget(id));
    }

    /// Opens sockets again whose files were removed with their directory.
    pub(crate) fn restore(&self) {
        self.send(Command::Restore);
    }

    /// The numbers and names of what an instance has stored.
    pub(crate) fn stored(&self, id: u32) -> Vec<(u32, String)> {
        let stored = lock(&self.shared.stored);
        stored.get(&id).cloned().unwrap_or_default()
    }

    /// Returns a socket by which one message brings what an instance has stored: the numbers as its
    /// bytes, and the descriptors. No thread of the shared table may read it.
    pub(crate) fn send_store(&self, id: u32) -> io::Result<OwnedFd> {
        let (socket, theirs) = pair()?;
        let end = Instant::now() + REPLY_TIMEOUT;
        loop {
            let passed = [theirs.as_raw_fd()];
            match send_fds(&self.control, &id.to_ne_bytes(), &passed) {
                Ok(_) => return Ok(socket),
                // Its queue is full.
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
                Err(problem) => return Err(problem),
            }
        }
    }

    /// What it has is sent to this socket too, now and at each change.
    #[cfg(target_os = "linux")]
    pub(crate) fn mirror_to(&self, socket: &OwnedFd) {
        let to = MIRROR.to_ne_bytes();
        let end = Instant::now() + MIRROR_TIMEOUT;
        while send_fds(&self.control, &to, &[socket.as_raw_fd()]).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1)); // its queue is full: it is awake
        }
    }

    /// To be called when its descriptor is readable: an event is in the queue of the loop.
    pub(crate) fn clear(&self) {
        while receive_message(&self.control, &mut [0], &mut []).is_ok() {}
    }

    pub(crate) fn send(&self, command: Command) {
        lock(&self.shared.commands).push(command);
        let _ = send_fds(&self.control, &[0], &[]); // full means that it is awake
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::Unix, SockType::Datagram, None, SOCKET)?;
    Ok(pair)
}

impl AsFd for NotifyReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl Drop for NotifyReceiver {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Relaxed);
        let _ = send_fds(&self.control, &[0], &[]);
    }
}
