//! A server on a socket in a temporary folder that answers hello and then follows a script.
//! Owns its thread and its folder; both end with the test.
//! Never checks what is asked: the script does.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use mainstay_client::protocol::method::{LogLines, Welcome, name};
use mainstay_client::protocol::rpc::Response;
use mainstay_client::protocol::{
    AccessLevel, ErrorCode, PROTOCOL, RequestError, RpcMessage, RpcRequest,
};
use serde::Serialize;
use serde_json::json;

/// One connection, from the server's side.
pub(crate) struct Peer {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Peer {
    /// The next call; None when the client closed.
    pub(crate) fn heard(&mut self) -> Option<RpcRequest> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).ok()?;
        if count == 0 {
            return None;
        }
        match RpcMessage::parse(line.as_bytes()) {
            Ok(RpcMessage::Request(request)) => Some(request),
            other => panic!("a client asks, it does not say {other:?}"),
        }
    }

    /// Writes bytes as they are. A client that left is no failure of the server.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes);
    }

    fn line(&mut self, message: impl Serialize) {
        let line = json!(message).to_string() + "\n";
        self.say(line.as_bytes());
    }

    pub(crate) fn answer(&mut self, request: RpcRequest, result: impl Serialize) {
        let id = request.id.expect("a call has an id");
        self.line(Response::success(id, json!(result)));
    }

    pub(crate) fn welcome(&mut self, hello: RpcRequest, protocol: u32) {
        assert_eq!(hello.method, name::HELLO);
        let welcome = Welcome {
            server: "mainstay test".to_owned(),
            protocol,
            level: AccessLevel::Admin,
            module: None,
        };
        self.answer(hello, welcome);
    }

    pub(crate) fn refuse(&mut self, request: RpcRequest, code: ErrorCode) {
        self.line(Response::refusal(
            request.id,
            RequestError::new(code, "cannot do this"),
        ));
    }

    pub(crate) fn log(&mut self, text: &str) {
        let lines = vec![text.to_owned()];
        let lines = LogLines {
            module: "storage".to_owned(),
            lines,
            ..LogLines::default()
        };
        self.line(RpcRequest::notification(name::LOG, json!(lines)));
    }
}

/// A server that accepts one connection.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Answers hello, then plays the script, then closes.
    pub(crate) fn plays(script: impl FnOnce(&mut Peer) + Send + 'static) -> Fake {
        Fake::greets(PROTOCOL, script)
    }

    pub(crate) fn greets(protocol: u32, script: impl FnOnce(&mut Peer) + Send + 'static) -> Fake {
        Fake::accepts(move |peer| {
            let Some(hello) = peer.heard() else { return };
            peer.welcome(hello, protocol);
            script(peer);
        })
    }

    /// Plays the script from hello on.
    pub(crate) fn accepts(script: impl FnOnce(&mut Peer) + Send + 'static) -> Fake {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("control.sock")).expect("bound");
        let thread = std::thread::spawn(move || {
            let (writer, _) = listener.accept().expect("a client");
            let reader = BufReader::new(writer.try_clone().expect("cloned"));
            script(&mut Peer { reader, writer });
        });
        Fake {
            folder,
            thread: Some(thread),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Waits for the script's end and passes on its failure. The client must be gone by then.
    pub(crate) fn ends(mut self) {
        self.thread
            .take()
            .expect("a thread")
            .join()
            .expect("the script holds");
    }
}
