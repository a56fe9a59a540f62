//! Windows: the runtime's end of the holder's wire, and the named pipes that clients come in by.
//! Owns two inherited pipes, and the making of pipe instances.
//! Never interprets a byte.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::Path;

use mainstay_holder::messages::{HolderRequest, HolderSetup};
use mainstay_holder::{Decoder, FrameError, encode};
use mainstay_local_socket::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::machine;

/// Most that is read from the holder at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The runtime's end of the wire: a pipe for each direction.
pub(crate) struct HolderEndpoint {
    hears: PipeReader,
    speaks: PipeWriter,
}

impl From<(PipeReader, PipeWriter)> for HolderEndpoint {
    fn from((hears, speaks): (PipeReader, PipeWriter)) -> HolderEndpoint {
        HolderEndpoint { hears, speaks }
    }
}

impl HolderEndpoint {
    /// The end that the holder handed down; only for a process that the holder marked as its
    /// runtime, and once.
    pub(crate) fn inherited() -> Option<HolderEndpoint> {
        mainstay_holder::inherited().map(HolderEndpoint::from)
    }

    /// A second grip on it, to end the talk with.
    pub(crate) fn shutdown_handle(&self) -> io::Result<ShutdownHandle> {
        Ok(ShutdownHandle(self.speaks.try_clone()?))
    }

    /// Writes all of it; blocks.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.speaks.write_all(bytes)
    }

    /// Waits for bytes and reads them; 0 is the end.
    pub(crate) fn receive(&mut self, decoder: &mut Decoder) -> io::Result<usize> {
        let mut bytes = vec![0; CHUNK_BYTES];
        let count = self.hears.read(&mut bytes)?;
        decoder.push(&bytes[..count]);
        Ok(count)
    }

    /// The entrances for clients and for modules: pipes of the names that the holder chose.
    pub(crate) fn listeners(&mut self, _: u32, setup: &HolderSetup) -> Option<[ListenerHandle; 2]> {
        let folder = Path::new(&setup.runtime_dir);
        let entrance = |file: &str| {
            let name = std::fs::read_to_string(folder.join(file)).ok()?;
            Some(ListenerHandle(name.trim().to_owned()))
        };
        Some([entrance("control.sock")?, entrance("module.sock")?])
    }

    /// Both directions, for tokio.
    pub(crate) fn split(self) -> io::Result<(HolderReader, HolderWriter)> {
        let file = |handle: std::os::windows::io::OwnedHandle| {
            tokio::fs::File::from_std(std::fs::File::from(handle))
        };
        let buffer = vec![0; CHUNK_BYTES];
        let from = file(self.hears.into());
        Ok((
            HolderReader { from, buffer },
            HolderWriter(file(self.speaks.into())),
        ))
    }
}

/// What ends the talk with an engine in this process.
pub(crate) struct ShutdownHandle(PipeWriter);

impl ShutdownHandle {
    /// Lets the engine go, if it has not gone.
    pub(crate) fn end(&self) {
        let mut frame = Vec::new();
        if encode(&HolderRequest::Exit { code: 0 }, &mut frame).is_ok() {
            let _it_left_already = (&self.0).write_all(&frame);
        }
    }
}

/// What the holder says.
pub(crate) struct HolderReader {
    from: tokio::fs::File,
    buffer: Vec<u8>,
}

impl HolderReader {
    /// Waits for bytes and reads them; 0 is the end.
    pub(crate) async fn receive(&mut self, decoder: &mut Decoder) -> io::Result<usize> {
        let count = match self.from.read(&mut self.buffer).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            read => read?,
        };
        decoder.push(&self.buffer[..count]);
        Ok(count)
    }
}

impl HolderReader {
    /// Its end is that of the pipe.
    pub(crate) fn receive_rest(&mut self, _: &mut Decoder) -> io::Result<usize> {
        Ok(0)
    }

    /// No listeners come here: pipes have no file that could be removed.
    pub(crate) fn replace_listeners(&mut self, _: u32) {}
}

/// Requests that are not sent yet; nothing travels with them.
#[derive(Default)]
pub(crate) struct Outbox(Vec<u8>);
pub(crate) type PassedFd = std::convert::Infallible;

impl Outbox {
    /// Queues a request.
    pub(crate) fn push(
        &mut self,
        request: &HolderRequest,
        _: Vec<PassedFd>,
    ) -> Result<(), FrameError> {
        encode(request, &mut self.0)
    }

    /// Bytes that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.0.len()
    }
}

/// What is said to the holder.
pub(crate) struct HolderWriter(tokio::fs::File);

impl HolderWriter {
    /// Sends all of it.
    pub(crate) async fn send(&mut self, outbox: Outbox) -> io::Result<()> {
        self.0.write_all(&outbox.0).await?;
        self.0.flush().await
    }
}

/// The name of a pipe. Nobody listens there while the runtime is away: clients try again.
pub(crate) struct ListenerHandle(String);

impl ListenerHandle {
    /// Listens there; more than once in a row, for a gateway that has to begin again.
    pub(crate) fn listen(&self) -> io::Result<ClientListener> {
        Listener::named(&self.0).map(ClientListener)
    }
}

/// The connection of one client.
pub(crate) use mainstay_local_socket::asynchronous::Stream as ClientStream;

/// Where clients come in.
pub(crate) struct ClientListener(Listener);

impl ClientListener {
    /// The next one.
    pub(crate) async fn accept(&mut self) -> io::Result<ClientStream> {
        self.0.accept().await
    }
}

/// Whether the Unix socket at `path` accepts a connection: there are none here, and the
/// configuration refuses what asks for one.
pub(crate) async fn connect(_: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Who stands above a client, as far as it matters: the holder, when the client is in the job of
/// everything that the holder started. None when the client is gone. (pid, session)
pub(crate) fn ancestry(pid: u32, holder: u32) -> Option<Vec<(u32, u32)>> {
    let is_below = machine::is_of_a_module(pid, holder)?;
    let line = [(pid, 0), (holder, 0)];
    Some(line[..1 + usize::from(is_below)].to_vec())
}
