//! The connection of one client, of which this thread closes nothing that the client has sent.
//! Owns the socket; where the kernel cannot refuse descriptors, also those that came by it.
//! Never closes one of these itself, nor a socket in which one may still lie: a close may wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mainstay_holder::{Closer, MAX_FDS, accept_descriptors, receive_message};
use mainstay_local_socket::asynchronous::Stream;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Descriptors of one user that may wait to be closed: with more, nothing of its connections is
/// read.
const CLOSING_MAX: usize = 256;

/// A connection.
pub(crate) struct ClientStream {
    /// None only while it is dropped.
    stream: Option<Stream>,
    /// None: the kernel lets no descriptor in.
    closer: Option<Arc<Closer>>,
}

impl ClientStream {
    /// A connection whose descriptors are closed by this closer if the kernel lets any in.
    pub(crate) fn new(stream: Stream, closer: impl FnOnce(&Stream) -> Arc<Closer>) -> ClientStream {
        let Stream::UdSocket(socket) = &stream;
        let is_closed = accept_descriptors(socket.inner(), false);
        let closer = (!is_closed).then(|| closer(&stream));
        ClientStream {
            stream: Some(stream),
            closer,
        }
    }

    /// What identifies the other end.
    pub(crate) fn connection(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    fn socket(&self) -> io::Result<&UnixStream> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let Stream::UdSocket(socket) = stream;
        Ok(socket.inner())
    }

    fn pinned(&mut self) -> io::Result<Pin<&mut Stream>> {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(closer) = self.closer.clone() else {
            return self.pinned()?.poll_read(cx, buffer);
        };
        if closer.count() >= CLOSING_MAX {
            let what = "descriptors that its user has sent do not close";
            return Poll::Ready(Err(io::Error::other(what)));
        }
        let stream = self.socket()?;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let bytes = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || receive(stream, bytes, &closer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// Receives bytes; descriptors that come with them go to the closer and are an error.
fn receive(stream: &UnixStream, bytes: &mut [u8], closer: &Arc<Closer>) -> io::Result<usize> {
    let mut space = nix::cmsg_space!([i32; MAX_FDS]);
    let received = receive_message(stream, bytes, &mut space)?;
    let is_clean = received.fds.is_empty() && !received.is_cut && received.controls.is_empty();
    for descriptor in received.fds {
        closer.close(descriptor);
    }
    match is_clean {
        true => Ok(received.bytes),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it sent descriptors",
        )),
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned()?.poll_shutdown(cx)
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if let (Some(closer), Some(Stream::UdSocket(socket))) = (&self.closer, self.stream.take())
            && let Ok(socket) = OwnedFd::try_from(socket)
        {
            closer.close(socket);
        }
    }
}

/// One closer for each user, or path that is probed: others do not wait for what one has sent.
#[derive(Debug)]
pub(crate) struct Closers<K>(HashMap<K, Arc<Closer>>);

impl<K> Default for Closers<K> {
    fn default() -> Closers<K> {
        Closers(HashMap::new())
    }
}

impl<K: Eq + Hash> Closers<K> {
    /// The closer of a user or path.
    pub(crate) fn of(&mut self, user: K) -> Arc<Closer> {
        // One that a connection has is in use although nothing waits for it yet.
        self.0
            .retain(|_, closer| Arc::strong_count(closer) > 1 || closer.count() > 0);
        Arc::clone(self.0.entry(user).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use std::os::fd::AsRawFd;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
    use tokio::io::AsyncReadExt;

    /// A connection whose close waits for as long as its other end lives.
    fn lingering() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut full = TcpStream::connect(listener.local_addr().expect("bound")).expect("open");
        let (other, _) = listener.accept().expect("accepted");
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 60,
        };
        setsockopt(&full, sockopt::Linger, &linger).expect("an option");
        full.set_nonblocking(true).expect("a flag");
        while full.write(&[0; 4096]).is_ok() {}
        (full, other)
    }

    fn connection(stream: std::os::unix::net::UnixStream) -> Stream {
        let stream = UnixStream::from_std(stream).expect("registered");
        Stream::UdSocket(stream.into())
    }

    /// A connection of which the kernel refuses nothing, with a byte and such a descriptor in it.
    fn stuffed() -> (ClientStream, Arc<Closer>, TcpStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        let (full, other) = lingering();
        let descriptors = [full.as_raw_fd()];
        let (bytes, rights) = (
            [io::IoSlice::new(b"{")],
            [ControlMessage::ScmRights(&descriptors)],
        );
        sendmsg::<()>(theirs.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).expect("sent");
        // Its last copy is the one that was sent; this thread must not be the one to close it.
        std::mem::forget(theirs);
        let closer = Arc::<Closer>::default();
        let stream = ClientStream {
            stream: Some(connection(ours)),
            closer: Some(Arc::clone(&closer)),
        };
        closer.close(full.into());
        (stream, closer, other)
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
    async fn what_a_client_sends_is_closed_by_another_thread_read_or_not() {
        for is_read in [true, false] {
            let (mut stream, closer, other) = stuffed();
            let begun = Instant::now();
            if is_read {
                let read = stream.read(&mut [0; 8]).await;
                assert_eq!(
                    read.expect_err("refused").to_string(),
                    "it sent descriptors"
                );
            }
            drop(stream);
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "it waited for the close"
            );
            drop(other); // the close waits no more
            while closer.count() > 0 {
                assert!(begun.elapsed() < Duration::from_secs(50), "they stay open");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    #[tokio::test]
    async fn a_user_whose_descriptors_do_not_close_is_read_no_more() {
        let (mut stream, closer, other) = stuffed();
        let null = || std::fs::File::open("/dev/null").expect("a file").into();
        // The thread of the closer waits for one of these, the rest waits for the thread.
        let (full, second) = lingering();
        closer.close(full.into());
        while closer.count() < CLOSING_MAX {
            closer.close(null());
        }
        let read = stream.read(&mut [0; 8]).await;
        let refused = read.expect_err("refused").to_string();
        assert!(refused.contains("do not close"), "{refused}");
        drop((stream, other, second));
    }

    #[tokio::test]
    async fn bytes_alone_are_read_as_they_are() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        let mut stream = ClientStream {
            stream: Some(connection(ours)),
            closer: Some(Arc::default()),
        };
        theirs.write_all(b"hello").expect("written");
        let mut read = [0; 8];
        assert_eq!(stream.read(&mut read).await.expect("read"), 5);
        assert_eq!(&read[..5], b"hello");
        drop(theirs);
        assert_eq!(stream.read(&mut read).await.expect("the end"), 0);
    }
}
