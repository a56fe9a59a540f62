//! A mainstay that says what a test wants it to say, one connection after the other.
//! Owns its folder and its thread; after the last script nobody listens any more.
//! Never outlives its test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use mainstay_protocol::method::{Welcome, name};
use mainstay_protocol::rpc::Reply;
use mainstay_protocol::{Level, Message, PROTOCOL, Refusal, RefusalCode, Request};
use serde_json::{Value, json};

use super::instance::Instance;

/// What happens on one connection after hello; at its end the connection closes.
pub(crate) type Script = Box<dyn FnOnce(&mut Peer) + Send>;

/// A connection from the server's side.
pub(crate) struct Peer {
    lines: BufReader<UnixStream>,
}

impl Peer {
    /// The next call, which must be this one.
    pub(crate) fn hears(&mut self, method: &str) -> Request {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        match Message::parse(line.as_bytes()) {
            Ok(Message::Request(request)) if request.method == method => request,
            other => panic!("{method} was expected, not {other:?}"),
        }
    }

    /// Answers the next call and returns its parameters.
    pub(crate) fn answers(&mut self, method: &str, result: Value) -> Value {
        let request = self.hears(method);
        self.says(&json!(Reply::success(request.id.expect("an id"), result)));
        request.params
    }

    pub(crate) fn refuses(&mut self, method: &str, code: RefusalCode) {
        let request = self.hears(method);
        self.says(&json!(Reply::refusal(
            request.id,
            Refusal::new(code, "cannot do this")
        )));
    }

    pub(crate) fn notifies(&mut self, method: &str, params: Value) {
        self.says(&json!(Request::notification(method, params)));
    }

    fn says(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.lines
            .get_mut()
            .write_all(line.as_bytes())
            .expect("the client reads");
    }
}

pub(crate) struct Fake {
    folder: tempfile::TempDir,
    thread: JoinHandle<()>,
}

impl Fake {
    pub(crate) fn plays(scripts: Vec<Script>) -> Fake {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("control.sock")).expect("bound");
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().expect("a client");
                let mut peer = Peer {
                    lines: BufReader::new(stream),
                };
                let (server, level) = ("mainstay test".to_owned(), Level::Admin);
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
        Fake { folder, thread }
    }

    pub(crate) fn instance(&self) -> Instance {
        let socket = self.folder.path().join("control.sock");
        Instance {
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
