//! A connection to one of mainstay's sockets, without a client library.
//! Owns nothing. Never waits longer than a second.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::datagram::is_gone;

const WAIT_MAX: Duration = Duration::from_secs(1);

/// Connects; None where nobody lets this process in.
pub(crate) fn open(path: &str) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(path) {
        Ok(stream) => {
            stream.set_read_timeout(Some(WAIT_MAX))?;
            stream.set_write_timeout(Some(WAIT_MAX))?;
            Ok(Some(stream))
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says hello; the answer is left to be read.
pub(crate) fn hello(mut stream: &UnixStream, token: Option<&str>) -> io::Result<()> {
    let token = token.map_or(String::new(), |token| format!(",\"token\":\"{token}\""));
    let params = format!("{{\"client\":\"hostile\",\"protocol\":1{token}}}");
    stream.write_all(call("hello", &params).as_bytes())
}

/// A call as it stands on the wire.
pub(crate) fn call(method: &str, params: &str) -> String {
    let head = "{\"jsonrpc\":\"2.0\",\"id\":1";
    format!("{head},\"method\":\"{method}\",\"params\":{params}}}\n")
}
