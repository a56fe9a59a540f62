//! Sockets that listen for modules: bound here, kept by the holder over all runs.
//! Owns nothing: the descriptors go to the holder.
//! Never accepts a connection; never removes a file that may belong to another program.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use mainstay_holder::dir::{DirError, check_keeps};
use mainstay_holder::messages::BoundSocket;
use mainstay_process::{ActivationSocket, StartFailure, StartStep};

/// Most of one instance.
const SOCKETS_MAX: usize = 16;

/// The sockets of an instance, and those of them that the holder does not have yet.
#[derive(Debug, Default)]
pub(super) struct BoundSockets {
    pub(super) sockets: Vec<BoundSocket>,
    /// Places in `sockets`, with their descriptors.
    pub(super) passed: Vec<u32>,
    pub(super) fds: Vec<OwnedFd>,
}

/// Why a socket cannot be bound.
#[derive(Debug)]
pub(super) struct BindError {
    pub(super) failure: StartFailure,
    pub(super) message: String,
}

/// Binds those of `wanted` that are not in `kept`, or whose file is no longer there.
///
/// # Errors
/// The first one that cannot be bound; nothing is bound then.
pub(super) fn bind_missing(
    kept: &[BoundSocket],
    wanted: Vec<ActivationSocket>,
) -> Result<BoundSockets, BindError> {
    if wanted.len() > SOCKETS_MAX {
        let (step, errno) = (StartStep::Descriptors, libc::E2BIG);
        let count = wanted.len();
        return Err(BindError {
            failure: StartFailure { step, errno },
            message: format!("cannot listen on {count} sockets; {SOCKETS_MAX} are the most"),
        });
    }
    let mut bound = BoundSockets::default();
    for (socket, place) in wanted.into_iter().zip(0..) {
        // Its name may be another now.
        let same = kept.iter().find(|one| one.socket.address == socket.address);
        if let Some(same) = same.filter(|one| is_in_place(one)) {
            let file = same.file;
            bound.sockets.push(BoundSocket { socket, file });
            continue;
        }
        let (fd, file) = bind(&socket)?;
        bound.sockets.push(BoundSocket { socket, file });
        bound.passed.push(place);
        bound.fds.push(fd);
    }
    Ok(bound)
}

/// Whether clients find this socket where it was bound.
pub(super) fn is_in_place(bound: &BoundSocket) -> bool {
    bound.file.is_none() || file_of(Path::new(&bound.socket.address)) == bound.file
}

fn file_of(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn bind(socket: &ActivationSocket) -> Result<(OwnedFd, Option<(u64, u64)>), BindError> {
    let ActivationSocket { name, address } = socket;
    let path = address.contains('/').then(|| Path::new(address));
    if let Some(folder) = path.and_then(Path::parent) {
        check_folder(folder).map_err(|problem| {
            let errno = problem.errno().map_or(libc::EACCES, |errno| errno as i32);
            let step = StartStep::Descriptors;
            let advice = match problem {
                DirError::System(..) => "",
                _ => "; choose a directory in which only this user and root may rename",
            };
            BindError {
                failure: StartFailure { step, errno },
                message: format!("cannot listen on {address} (socket {name}): {problem}{advice}"),
            }
        })?;
    }
    let fd = match path {
        Some(path) => listen_unix(path),
        None => listen_tcp(address),
    };
    let fd = fd.map_err(|problem| {
        // The standard library reports some without an errno: no such address, too long a path.
        let errno = problem.raw_os_error().unwrap_or(libc::EINVAL);
        let step = StartStep::Descriptors;
        let text = nix::errno::Errno::from_raw(errno);
        let advice = match errno {
            libc::EADDRINUSE => {
                "; another program listens there: stop it, or choose another address"
            }
            libc::EEXIST => "; it is no socket: move it away, or choose another address",
            _ => "",
        };
        BindError {
            failure: StartFailure { step, errno },
            message: format!(
                "cannot listen on {address} (socket {name}): {} ({text:?}){advice}",
                text.desc()
            ),
        }
    })?;
    Ok((fd, path.and_then(file_of)))
}

/// Another user who may exchange the file of a socket would get its clients.
fn check_folder(folder: &Path) -> Result<(), DirError> {
    let system = |problem: io::Error| {
        let errno = nix::errno::Errno::from_raw(problem.raw_os_error().unwrap_or(libc::EINVAL));
        DirError::System(folder.to_owned(), errno)
    };
    let absolute = std::path::absolute(folder).map_err(system)?;
    check_keeps(&absolute)
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
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn socket(name: &str, address: impl Into<String>) -> ActivationSocket {
        ActivationSocket {
            name: name.to_owned(),
            address: address.into(),
        }
    }

    fn text(path: &Path) -> &str {
        path.to_str().expect("UTF-8")
    }

    #[test]
    fn a_folder_in_which_another_user_may_rename_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a directory");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a directory");
        let wanted = || vec![socket("s", text(&inner.join("s")))];
        let of = |mode: u32| {
            fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).expect("a mode");
            let bound = bind_missing(&[], wanted());
            let _ = fs::remove_file(inner.join("s")); // it may not be there
            bound
                .map(|bound| bound.fds.len())
                .map_err(|error| error.message)
        };
        assert_eq!(of(0o755), Ok(1));
        assert_eq!(of(0o1777), Ok(1), "what is there is its owner's");
        let refused = of(0o777).expect_err("anybody may exchange it");
        assert!(refused.contains("any user may write in"), "{refused}");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).expect("a mode");
        if nix::unistd::geteuid().is_root() {
            let other = std::os::unix::fs::chown(&inner, Some(12345), None);
            other.expect("this is root");
            let refused = of(0o755).expect_err("its owner may exchange it");
            assert!(refused.contains("user 12345 owns"), "{refused}");
        } else {
            eprintln!("not root: no folder of another user is tested");
        }
    }

    #[test]
    fn what_listens_is_not_bound_again_unless_its_file_was_removed() {
        let folder = tempfile::tempdir().expect("a directory");
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let [a, b] = [0, 1].map(|at| socket("s", text(&paths[at])));
        let first = bind_missing(&[], vec![a.clone(), b.clone()]).expect("bound");
        assert_eq!(first.passed, [0, 1]);
        let again = bind_missing(&first.sockets, vec![b.clone(), a.clone()]).expect("bound");
        assert_eq!(again.passed, [] as [u32; 0]);
        assert_eq!(again.sockets[0], first.sockets[1]);
        fs::remove_file(&paths[0]).expect("it is there");
        let again = bind_missing(&first.sockets, vec![b, a]).expect("bound");
        assert_eq!(again.passed, [1]);
        let _client = UnixStream::connect(&paths[0]).expect("it listens");
    }

    #[test]
    fn a_name_that_outlived_its_socket_is_taken_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).expect("bound"));
        let wanted = vec![socket("s", text(&path))];
        let _bound = bind_missing(&[], wanted.clone()).expect("bound");
        let error = bind_missing(&[], wanted).expect_err("it is taken");
        assert_eq!(error.failure.errno, libc::EADDRINUSE);
        let expected = "another program listens there";
        assert!(error.message.contains(expected), "{error:?}");
        assert!(path.exists(), "the living one keeps its name");
    }

    #[test]
    fn one_that_listens_and_accepts_nobody_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("s");
        let stopped = UnixListener::bind(&path).expect("bound");
        let least = nix::sys::socket::Backlog::new(0).expect("a length");
        nix::sys::socket::listen(&stopped, least).expect("it listens");
        let _waits_in_its_queue = UnixStream::connect(&path).expect("connected");
        let wanted = vec![socket("s", text(&path))];
        let (done, outcome) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || done.send(bind_missing(&[], wanted)));
        let outcome = outcome.recv_timeout(Duration::from_secs(20));
        let error = outcome.expect("it waits for nobody").expect_err("taken");
        assert_eq!(error.failure.errno, libc::EADDRINUSE);
        drop(stopped);
    }

    #[test]
    fn a_file_of_that_name_is_left_alone() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("s");
        fs::write(&path, "of a person").expect("written");
        let wanted = vec![socket("s", text(&path))];
        let error = bind_missing(&[], wanted).expect_err("it is no socket");
        assert!(error.message.contains("it is no socket"), "{error:?}");
        assert_eq!(fs::read_to_string(&path).expect("read"), "of a person");
    }

    #[test]
    fn a_port_that_is_taken_is_reported() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address").to_string();
        let error = bind_missing(&[], vec![socket("http", address)]).expect_err("taken");
        assert_eq!(
            (error.failure.step, error.failure.errno),
            (StartStep::Descriptors, libc::EADDRINUSE)
        );
    }
}
