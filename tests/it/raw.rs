//! A connection without a client library: lines out, lines in, whatever they say.
//! Owns the socket. Never repairs what a test breaks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mainstay_protocol::{ENV_TOKEN, ErrorCode};
use mainstay_sdk::ModuleEnvironment;
use serde_json::{Value, json};

use crate::daemon::Daemon;

/// The longest a reply may take; only reached by failures.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A raw connection.
pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) fn open(path: &Path) -> Raw {
        let stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let lines = BufReader::new(stream.try_clone().expect("the same socket"));
        Raw { stream, lines }
    }

    /// Connects and says hello; the answer is left to be read.
    pub(crate) fn greeting(path: &Path, token: Option<&str>) -> Raw {
        let mut raw = Raw::open(path);
        raw.send(&hello(token));
        raw
    }

    /// A connection that was welcomed.
    pub(crate) fn welcomed(path: &Path) -> Raw {
        let mut raw = Raw::greeting(path, None);
        let welcome = raw.reply();
        assert_eq!(welcome["result"]["protocol"], 1, "{welcome}");
        raw
    }

    /// Writes bytes; a socket that is closed already takes none.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _closed = self.stream.write_all(bytes);
    }

    /// Writes one message.
    pub(crate) fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// One call and its reply; notifications before it are dropped.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(&request(77, method, params));
        loop {
            let reply = self.reply();
            if reply.get("method").is_none() {
                return reply;
            }
        }
    }

    /// The next message; null at the end of the connection.
    pub(crate) fn reply(&mut self) -> Value {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => Value::Null,
            Ok(_) => serde_json::from_str(&line).expect("JSON"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Value::Null,
            Err(error) => panic!("waited in vain for a line: {error}"),
        }
    }

    /// Reads what is left until the connection ends; how many bytes that was.
    pub(crate) fn drain(mut self) -> u64 {
        let mut rest = Vec::new();
        let _reset = self.lines.read_to_end(&mut rest);
        rest.len() as u64
    }
}

/// A call as it stands on the wire.
pub(crate) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn hello(token: Option<&str>) -> Value {
    let mut params = json!({ "client": "test 1", "protocol": 1 });
    if let Some(token) = token {
        params["token"] = json!(token);
    }
    request(1, "hello", params)
}

/// The word of a refusal.
pub(crate) fn code(reply: &Value) -> ErrorCode {
    let code = reply["error"]["data"]["code"].as_str();
    code.unwrap_or_else(|| panic!("it was not refused: {reply}"))
        .parse()
        .expect("a word of the list")
}

/// What a running module was given; whoever has it can speak for the module.
pub(crate) fn surroundings(daemon: &Daemon, module: &str) -> ModuleEnvironment {
    // While a program is being replaced by another, its environment reads as empty.
    let environment = daemon.wait("the module's environment", || {
        let pid = daemon.module(module).pid?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let token = ENV_TOKEN.as_bytes();
        let found = environment
            .windows(token.len())
            .any(|window| window == token);
        found.then_some(environment)
    });
    let variable = |name: &str| {
        environment
            .split(|byte| *byte == 0)
            .filter_map(|one| std::str::from_utf8(one).ok()?.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    ModuleEnvironment {
        socket: variable("MAINSTAY_SOCKET").map(Into::into),
        token: variable(ENV_TOKEN),
        module: Some(module.to_owned()),
        ..ModuleEnvironment::default()
    }
}

/// The token of a running module.
pub(crate) fn token(daemon: &Daemon, module: &str) -> String {
    surroundings(daemon, module).token.expect("a token")
}
