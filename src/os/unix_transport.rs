//! Unix: the runtime's end of the holder's wire, and the sockets that clients come in by.
//! Owns descriptors that were handed over, and how to wait for them.
//! Never interprets a byte.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use mainstay_holder::messages::{CHANNEL_FD, HolderSetup};
use mainstay_holder::{Decoder, accept_descriptors, recv_with_fds};
use mainstay_local_socket::asynchronous::Stream;
use mainstay_local_socket::{Listener, StreamCommon};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::client_stream::Closers;
use super::machine;

/// The runtime's end of the wire: a socket by which descriptors come too.
pub(crate) struct HolderEndpoint {
    socket: OwnedFd,
    fds: VecDeque<OwnedFd>,
    listeners: Option<ListenerFds>,
}

/// The control and the module listener, as the holder sent them last.
type ListenerFds = watch::Sender<Arc<[OwnedFd; 2]>>;

impl From<OwnedFd> for HolderEndpoint {
    fn from(socket: OwnedFd) -> HolderEndpoint {
        let fds = VecDeque::new();
        HolderEndpoint {
            socket,
            fds,
            listeners: None,
        }
    }
}

impl HolderEndpoint {
    /// The end that the holder left on its fixed number; only for a process that the holder marked
    /// as its runtime, and once. Anything but a socket there is not ours.
    #[expect(
        unsafe_code,
        reason = "a descriptor that was inherited is a plain number"
    )]
    pub(crate) fn inherited() -> Option<HolderEndpoint> {
        use nix::sys::socket::{getsockopt, sockopt::SockType};
        // SAFETY: the holder marked this process as a runtime, so the number is the open end of
        // the wire, inherited over exec, and nobody else in this process knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) };
        match getsockopt(&fd, SockType) {
            Ok(_) => Some(fd.into()),
            Err(_) => {
                std::mem::forget(fd); // not ours: not ours to close either
                None
            }
        }
    }

    /// A second grip on it, to end the talk with.
    pub(crate) fn shutdown_handle(&self) -> io::Result<ShutdownHandle> {
        Ok(ShutdownHandle(self.socket.try_clone()?))
    }

    /// Writes all of it; blocks.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match nix::unistd::write(&self.socket, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => wait(&self.socket, false)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for bytes and reads them; 0 is the end.
    pub(crate) fn receive(&mut self, decoder: &mut Decoder) -> io::Result<usize> {
        loop {
            wait(&self.socket, true)?;
            match recv_with_fds(&self.socket, decoder, &mut self.fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }

    /// The entrances for clients and for modules, of which so many descriptors came; None when
    /// some are missing.
    pub(crate) fn listeners(&mut self, count: u32, _: &HolderSetup) -> Option<[ListenerHandle; 2]> {
        let (sender, receiver) = watch::channel(Arc::new(pair(&mut self.fds, count)?));
        self.listeners = Some(sender);
        let handle = |which| ListenerHandle {
            current: receiver.clone(),
            which,
        };
        Some([handle(0), handle(1)])
    }

    /// Both directions, for tokio.
    pub(crate) fn split(self) -> io::Result<(HolderReader, HolderWriter)> {
        nix::fcntl::fcntl(
            &self.socket,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        let speaking = HolderWriter(self.socket.try_clone()?);
        let socket = machine::watch(self.socket, Interest::READABLE)?;
        let reader = HolderReader {
            socket,
            fds: self.fds,
            listeners: self.listeners,
        };
        Ok((reader, speaking))
    }
}

fn wait(socket: &OwnedFd, readable: bool) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let flags = if readable {
        PollFlags::POLLIN
    } else {
        PollFlags::POLLOUT
    };
    let mut fds = [PollFd::new(socket.as_fd(), flags)];
    match poll(&mut fds, PollTimeout::from(30_000_u16)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What ends the talk with an engine in this process.
pub(crate) struct ShutdownHandle(OwnedFd);

impl ShutdownHandle {
    /// Ends it for both sides.
    pub(crate) fn end(&self) {
        use nix::sys::socket::{Shutdown, shutdown};
        let _it_left_already = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

/// What the holder says.
pub(crate) struct HolderReader {
    socket: AsyncFd<OwnedFd>,
    fds: VecDeque<OwnedFd>,
    listeners: Option<ListenerFds>,
}

/// Takes two descriptors that were announced, if as many came.
fn pair(fds: &mut VecDeque<OwnedFd>, count: u32) -> Option<[OwnedFd; 2]> {
    let came: Option<Vec<OwnedFd>> = (0..count).map(|_| fds.pop_front()).collect();
    came?.try_into().ok()
}

impl HolderReader {
    /// Waits for bytes and reads them; 0 is the end.
    pub(crate) async fn receive(&mut self, decoder: &mut Decoder) -> io::Result<usize> {
        loop {
            let mut guard = self.socket.readable().await?;
            let read = guard.try_io(|fd| recv_with_fds(fd.get_ref(), decoder, &mut self.fds));
            match read {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => return read,
                Err(_would_block) => {}
            }
        }
    }
}

impl HolderReader {
    /// What is there of a holder that has ended; 0 is the end.
    pub(crate) fn receive_rest(&mut self, decoder: &mut Decoder) -> io::Result<usize> {
        match recv_with_fds(self.socket.get_ref(), decoder, &mut self.fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            received => received,
        }
    }

    /// Takes descriptors that came with a message, if all of them are there.
    #[cfg(target_os = "linux")]
    pub(crate) fn take_fds(&mut self, count: u32) -> Option<Vec<OwnedFd>> {
        (0..count).map(|_| self.fds.pop_front()).collect()
    }

    /// From here on another holder is at the other end.
    #[cfg(target_os = "linux")]
    pub(crate) fn reconnect(&mut self, socket: OwnedFd) -> io::Result<()> {
        self.socket = machine::watch(socket, Interest::READABLE)?;
        self.fds.clear();
        Ok(())
    }

    /// The files of the listeners were removed: from here on clients connect to these.
    pub(crate) fn replace_listeners(&mut self, count: u32) {
        if let Some(fds) = pair(&mut self.fds, count)
            && let Some(listeners) = &self.listeners
        {
            listeners.send_replace(Arc::new(fds));
        }
    }
}

/// Requests that are not sent yet, and the descriptors that travel with them.
pub(crate) use mainstay_holder::FrameQueue as Outbox;
pub(crate) type PassedFd = OwnedFd;

/// Messages to the holder. There is room most of the time: it is waited for when there is none,
/// and not watched before, since that would wake us whenever the holder has read.
pub(crate) struct HolderWriter(OwnedFd);

impl HolderWriter {
    #[cfg(target_os = "linux")]
    pub(crate) fn new(socket: OwnedFd) -> HolderWriter {
        HolderWriter(socket)
    }

    /// Returns the socket, for what is sent without waiting.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Sends all of it.
    pub(crate) async fn send(&mut self, mut outbox: Outbox) -> io::Result<()> {
        while !outbox.flush(&self.0)? {
            let room = machine::watch(self.0.try_clone()?, Interest::WRITABLE)?;
            room.writable().await?.clear_ready();
        }
        Ok(())
    }
}

/// A listening socket as the holder keeps it: it outlives the runtime.
pub(crate) struct ListenerHandle {
    current: watch::Receiver<Arc<[OwnedFd; 2]>>,
    which: usize,
}

impl ListenerHandle {
    /// Listens there; more than once in a row, for a gateway that is started again.
    pub(crate) fn listen(&self) -> io::Result<ClientListener> {
        let mut current = self.current.clone();
        let listener = open_listener(&mut current, self.which)?;
        Ok(ClientListener {
            listener,
            current,
            which: self.which,
            closers: Closers::default(),
        })
    }

    /// A listener of the test's own.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn of(listener: std::os::unix::net::UnixListener) -> ListenerHandle {
        let other = listener.try_clone().expect("the same listener");
        let (_, current) = watch::channel(Arc::new([listener.into(), other.into()]));
        ListenerHandle { current, which: 0 }
    }
}

fn open_listener(
    current: &mut watch::Receiver<Arc<[OwnedFd; 2]>>,
    which: usize,
) -> io::Result<Listener> {
    Listener::from_fd(current.borrow_and_update()[which].try_clone()?)
}

pub(crate) use super::client_stream::ClientStream;

/// Where clients come in.
pub(crate) struct ClientListener {
    listener: Listener,
    current: watch::Receiver<Arc<[OwnedFd; 2]>>,
    which: usize,
    closers: Closers<Option<u32>>,
}

impl ClientListener {
    /// The next connection. When the holder listens again after its file was removed, it comes
    /// from there.
    pub(crate) async fn accept(&mut self) -> io::Result<ClientStream> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let closers = &mut self.closers;
                    let user = |it: &Stream| it.peer_creds().ok().and_then(|peer| peer.euid());
                    return Ok(ClientStream::new(accepted?, |it| closers.of(user(it))));
                }
                Ok(()) = self.current.changed() => {
                    self.listener = open_listener(&mut self.current, self.which)?;
                }
            }
        }
    }
}

/// Connections to one socket that may wait to be closed, where descriptors may lie in them.
const PROBES_CLOSING_MAX: usize = 16;

/// The closer of each socket that is probed.
static PROBES: LazyLock<Mutex<Closers<PathBuf>>> = LazyLock::new(Mutex::default);

/// Whether the socket at `path` accepts a connection. Nothing of what its owner sends is read.
pub(crate) async fn connect(path: &Path) -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    #[cfg(target_os = "linux")]
    let flags = SockFlag::SOCK_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = SockFlag::empty();
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let is_closed = accept_descriptors(&socket, false);
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let address = UnixAddr::new(path)?;
    if is_closed {
        return Ok(connect(socket.as_raw_fd(), &address)?);
    }
    // Descriptors of its owner may lie in it.
    let mut probes = PROBES.lock().unwrap_or_else(PoisonError::into_inner);
    let closer = probes.of(path.to_owned());
    if closer.count() >= PROBES_CLOSING_MAX {
        let what = "what it sent to earlier connections does not close";
        return Err(io::Error::other(what));
    }
    let connected = connect(socket.as_raw_fd(), &address);
    closer.close(socket.into());
    Ok(connected?)
}

/// The processes above a client, nearest first, itself included: (pid, session). None if they are
/// not all known.
pub(crate) fn ancestry(pid: u32, _holder: u32) -> Option<Vec<(u32, u32)>> {
    mainstay_holder::ancestry(pid)
}
