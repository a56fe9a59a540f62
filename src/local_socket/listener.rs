//! Where clients connect, on tokio.
//! Owns the listener, and on Windows the instance of the pipe that waits for the next client.
//! Never decides who may connect.

use std::io::Result;

use crate::asynchronous::Stream;

#[cfg(unix)]
pub use unix::Listener;
#[cfg(windows)]
pub use windows::Listener;

#[cfg(unix)]
mod unix {
    use super::{Result, Stream};
    use interprocess::local_socket::{tokio::Listener as Local, traits::tokio::Listener as _};
    use interprocess::os::unix::uds_local_socket::tokio::Listener as UnixListener;
    use std::os::fd::OwnedFd;

    /// Where clients connect.
    #[derive(Debug)]
    pub struct Listener(Local);

    impl Listener {
        /// Takes over a socket that listens already; its file stays when this is dropped.
        ///
        /// # Errors
        /// The descriptor is no socket, or no tokio runtime is there.
        pub fn from_fd(listening: OwnedFd) -> Result<Listener> {
            let listener = UnixListener::try_from(listening)?;
            Ok(Listener(listener.into()))
        }

        /// Waits for the next client.
        ///
        /// # Errors
        /// No descriptor is left.
        pub async fn accept(&self) -> Result<Stream> {
            self.0.accept().await
        }
    }
}

#[cfg(windows)]
mod windows {
    use super::{Result, Stream};
    use interprocess::os::windows::named_pipe::tokio::PipeListener;
    use interprocess::os::windows::named_pipe::{PipeListenerOptions, pipe_mode::Bytes};
    use std::path::PathBuf;
    use tokio::net::windows::named_pipe::ServerOptions;
    use tokio::sync::Mutex;

    type Pipe = PipeListener<Bytes, Bytes>;

    /// Where clients connect.
    #[derive(Debug)]
    pub struct Listener {
        name: String,
        listener: Mutex<Pipe>,
    }

    impl Listener {
        /// Listens on the pipe of this name. Windows lets this user, administrators and the system
        /// open it.
        ///
        /// # Errors
        /// The name is of another form, or no tokio runtime is there.
        pub fn named(name: &str) -> Result<Listener> {
            let listener = Mutex::new(listen(name)?);
            let name = name.to_owned();
            Ok(Listener { name, listener })
        }

        /// Waits for the next client.
        ///
        /// # Errors
        /// The client closed the pipe before it was accepted, or no handle is left.
        pub async fn accept(&self) -> Result<Stream> {
            let mut listener = self.listener.lock().await;
            match listener.accept().await {
                Ok(stream) => Ok(Stream::NamedPipe(stream.into())),
                Err(error) => {
                    // interprocess keeps an instance whose client closed it, and fails forever.
                    *listener = listen(&self.name)?;
                    Err(error)
                }
            }
        }
    }

    /// A further instance of the pipe: connections of an earlier listener may be open still, so
    /// this cannot insist on being the first one, as interprocess does.
    fn listen(name: &str) -> Result<Pipe> {
        let instance = ServerOptions::new()
            .reject_remote_clients(true)
            .create(name)?;
        let options = PipeListenerOptions::new().path(PathBuf::from(name).as_path());
        Ok(Pipe::from_tokio_and_options(instance, options.to_owned()?))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::asynchronous::connect;
    use interprocess::local_socket::traits::StreamCommon;
    use std::os::fd::OwnedFd;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_handed_over_socket_accepts_and_knows_the_peer() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s");
        let listening = std::os::unix::net::UnixListener::bind(&path).expect("it listens");
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        tokio.block_on(async {
            let listener = Listener::from_fd(OwnedFd::from(listening)).expect("a listener");
            let connecting = connect(&path, Duration::from_secs(60));
            let (client, accepted) = tokio::join!(connecting, listener.accept());
            let (mut client, mut accepted) = (client.expect("connected"), accepted.expect("one"));
            client.write_all(b"hello").await.expect("written");
            let mut read = [0; 5];
            accepted.read_exact(&mut read).await.expect("read");
            assert_eq!(&read, b"hello");
            let peer = accepted.peer_creds().expect("the peer is known");
            assert_eq!(peer.euid(), Some(nix::unistd::geteuid().as_raw()));
        });
        assert!(path.exists(), "the file belongs to the holder");
    }
}
