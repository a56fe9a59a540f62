//! A mainstay that says what a test wants it to say, one connection after the other.
//! Owns its folder and its thread; after the last script nobody listens any more.
//! Never outlives its test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use mainstay_protocol::method::{Welcome, name};
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{AccessLevel, ErrorCode, PROTOCOL, RequestError, RpcMessage, RpcRequest};
use serde_json::{Value, json};

use super::system_locator::SystemLocator;

/// What happens on one connection after hello; at its end the connection closes.
pub(crate) type FakeScript = Box<dyn FnOnce(&mut FakePeer) + Send>;

/// A connection from the server's side.
pub(crate) struct FakePeer {
    lines: BufReader<UnixStream>,
}

impl FakePeer {
    /// The next call, which must be this one.
    pub(crate) fn hears(&mut self, method: &str) -> RpcRequest {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        match RpcMessage::parse(line.as_bytes()) {
            Ok(RpcMessage::Request(request)) if request.method == method => request,
            other => panic!("{method} was expected, not {other:?}"),
        }
    }

    /// Answers the next call and returns its parameters.
    pub(crate) fn answers(&mut self, method: &str, result: Value) -> Value {
        let request = self.hears(method);
        self.says(&json!(Response::success(
            request.id.expect("an id"),
            result
        )));
        request.params
    }

    pub(crate) fn refuses(&mut self, method: &str, code: ErrorCode) {
        let request = self.hears(method);
        self.says(&json!(Response::refusal(
            request.id,
            RequestError::new(code, "cannot do this")
        )));
    }

    pub(crate) fn notifies(&mut self, method: &str, params: Value) {
        self.says(&json!(RpcRequest::notification(method, params)));
    }

    fn says(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.lines
            .get_mut()
            .write_all(line.as_bytes())
            .expect("the client reads");
    }
}

pub(crate) struct FakeServer {
    folder: tempfile::TempDir,
    thread: JoinHandle<()>,
}

impl FakeServer {
    pub(crate) fn start(scripts: Vec<FakeScript>) -> FakeServer {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("control.sock")).expect("bound");
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().expect("a client");
                let mut peer = FakePeer {
                    lines: BufReader::new(stream),
                };
                let (server, level) = ("mainstay test".to_owned(), AccessLevel::Admin);
                let welcome = Welcome {
                    server,
                    protocol: PROTOCOL,
                    level,
                    module: None,
                };
                peer.answers(name::HELLO, json!(welcome));
                script(&mut peer);
            }
        });
        FakeServer { folder, thread }
    }

    pub(crate) fn instance(&self) -> SystemLocator {
        let socket = self.folder.path().join("control.sock");
        SystemLocator {
            name: "app".to_owned(),
            socket,
            config_dir: None,
        }
    }

    /// Waits for the last script's end and passes on its failure.
    pub(crate) fn ends(self) {
        self.thread.join().expect("the scripts hold");
    }
}
