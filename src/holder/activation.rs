//! Sockets of modules that listen before their first start and over all runs (LISTEN_FDS).
//! Owns them, and the names of Unix sockets in the file system, until the instance is forgotten.
//! Never accepts a connection: what comes waits for the module in the kernel's queue.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_process::{ActivationSocket, StartStep};

use crate::exec_spec::SOCKETS_MAX;
use crate::foreign_fd::{Closer, ForeignFd, NamedFd};
use crate::kernel::Poller;
use crate::poll_key;
use crate::spawn_error::SpawnError;

#[derive(Debug)]
struct BoundSocket {
    socket: ActivationSocket,
    fd: Arc<ForeignFd>,
    path: Option<PathBuf>,
}

/// Those of one instance.
#[derive(Debug, Default)]
pub(crate) struct ActivationSockets {
    bound: Vec<BoundSocket>,
    closer: Arc<Closer>,
    /// Whether the first connection is to be told while nothing runs.
    pub(crate) wants_activation: bool,
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path); // whoever removed it before us is right too
        }
    }
}

impl ActivationSockets {
    /// Listens on these: keeps what listens already, closes what is not wanted any more.
    pub(crate) fn bind_exactly(&mut self, wanted: &[ActivationSocket]) -> Result<(), SpawnError> {
        if wanted.len() > SOCKETS_MAX {
            let what = format!(
                "listen on {} sockets; {SOCKETS_MAX} are the most",
                wanted.len()
            );
            return Err(SpawnError::new(StartStep::Descriptors, libc::E2BIG, &what));
        }
        self.bound.retain(|one| wanted.contains(&one.socket));
        let mut bound = Vec::with_capacity(wanted.len());
        for socket in wanted {
            let kept = self.bound.iter().position(|one| one.socket == *socket);
            bound.push(match kept {
                Some(at) => self.bound.swap_remove(at),
                None => bind(socket, &self.closer)?,
            });
        }
        self.bound = bound;
        Ok(())
    }

    /// What each run is given, in the order of the configuration.
    pub(crate) fn given(&self) -> impl Iterator<Item = NamedFd> {
        let share = |one: &BoundSocket| (one.socket.name.clone(), Arc::clone(&one.fd));
        self.bound.iter().map(share)
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = &ForeignFd> {
        self.bound.iter().map(|one| &*one.fd)
    }

    pub(crate) fn name(&self, at: usize) -> Option<&str> {
        self.bound.get(at).map(|one| one.socket.name.as_str())
    }

    /// Watches them while the instance does not run, if its first connection is to be reported.
    pub(crate) fn watch(&self, poll: &Poller, id: u32) {
        for (at, fd) in self.fds().enumerate().filter(|_| self.wants_activation) {
            let about = poll_key::KNOCK | (at as u64) << 32 | u64::from(id);
            let _ = poll.add(fd, about); // without it an operation starts it, or a call
        }
    }

    pub(crate) fn unwatch(&self, poll: &Poller) {
        for fd in self.fds().filter(|_| self.wants_activation) {
            poll.delete(fd); // it may not be watched at the moment
        }
    }
}

fn bind(socket: &ActivationSocket, closer: &Arc<Closer>) -> Result<BoundSocket, SpawnError> {
    let ActivationSocket { name, address } = socket;
    let path = address.contains('/').then(|| PathBuf::from(address));
    let fd = match &path {
        Some(path) => listen_unix(path),
        None => listen_tcp(address),
    };
    let fd = fd.map_err(|problem| {
        // The standard library answers some without an errno: no such address, too long a path.
        let errno = problem.raw_os_error().unwrap_or(libc::EINVAL);
        let what = format!("listen on {address} (socket {name})");
        let failure = SpawnError::new(StartStep::Descriptors, errno, &what);
        let advice = match errno {
            libc::EADDRINUSE => {
                Some("another program listens there: stop it, or choose another address")
            }
            libc::EEXIST => Some("it is no socket: move it away, or choose another address"),
            _ => None,
        };
        failure.with_advice(advice.map(str::to_owned))
    })?;
    Ok(BoundSocket {
        socket: socket.clone(),
        fd: Arc::new(ForeignFd::new(fd, closer)),
        path,
    })
}

fn listen_tcp(address: &str) -> io::Result<OwnedFd> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    TcpListener::bind(address).map(OwnedFd::from)
}

fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let listener = UnixListener::bind(path).or_else(|problem| {
        if problem.kind() != io::ErrorKind::AddrInUse {
            return Err(problem);
        }
        if !fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        if !is_stale(path) {
            return Err(problem);
        }
        fs::remove_file(path)?;
        UnixListener::bind(path)
    });
    listener.map(OwnedFd::from)
}

/// Whether this name outlived its socket. A datagram socket does not wait in the queue of one that
/// listens: it is told at once that there is one, of another type.
fn is_stale(path: &Path) -> bool {
    let tried = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    tried.is_err_and(|no| no.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn socket(name: &str, address: impl Into<String>) -> ActivationSocket {
        ActivationSocket {
            name: name.to_owned(),
            address: address.into(),
        }
    }

    #[test]
    fn what_listens_is_kept_and_what_is_not_wanted_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (a, b) = (socket("a", path("a")), socket("b", path("b")));
        let mut sockets = ActivationSockets::default();
        sockets.bind_exactly(&[a.clone(), b.clone()]).unwrap();
        let numbers = |sockets: &ActivationSockets| -> Vec<i32> {
            sockets.fds().map(AsRawFd::as_raw_fd).collect()
        };
        let before = numbers(&sockets);
        sockets.bind_exactly(&[b.clone(), a]).unwrap();
        assert_eq!(numbers(&sockets), [before[1], before[0]]);
        sockets.bind_exactly(&[b]).unwrap();
        assert_eq!(numbers(&sockets), [before[1]]);
        assert!(!Path::new(&path("a")).exists() && Path::new(&path("b")).exists());
        drop(sockets);
        assert!(!Path::new(&path("b")).exists());
    }

    #[test]
    fn a_name_that_outlived_its_socket_is_taken_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let wanted = [socket("s", path.to_str().unwrap())];
        let mut sockets = ActivationSockets::default();
        sockets.bind_exactly(&wanted).unwrap();
        let mut second = ActivationSockets::default();
        let failure = second.bind_exactly(&wanted).unwrap_err();
        assert_eq!(failure.failure.errno, libc::EADDRINUSE);
        assert!(
            failure.message.contains("another program listens there"),
            "{failure:?}"
        );
        assert!(path.exists(), "the living one keeps its name");
    }

    #[test]
    fn one_that_listens_and_accepts_nobody_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let stopped = UnixListener::bind(&path).unwrap();
        let least = nix::sys::socket::Backlog::new(0).unwrap();
        nix::sys::socket::listen(&stopped, least).unwrap();
        let _waits_in_its_queue = UnixStream::connect(&path).unwrap();
        let wanted = [socket("s", path.to_str().unwrap())];
        let (done, outcome) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || done.send(ActivationSockets::default().bind_exactly(&wanted)));
        let failure = outcome.recv_timeout(Duration::from_secs(20));
        let failure = failure.expect("the holder waits for nobody").unwrap_err();
        assert_eq!(failure.failure.errno, libc::EADDRINUSE);
        drop(stopped);
    }

    #[test]
    fn a_file_of_that_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "somebody's").unwrap();
        let wanted = [socket("s", path.to_str().unwrap())];
        let failure = ActivationSockets::default()
            .bind_exactly(&wanted)
            .unwrap_err();
        assert!(failure.message.contains("it is no socket"), "{failure:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let failure = ActivationSockets::default()
            .bind_exactly(&[socket("http", address)])
            .unwrap_err();
        assert_eq!(
            (failure.failure.step, failure.failure.errno),
            (StartStep::Descriptors, libc::EADDRINUSE)
        );
    }
}
