//! Sockets that are bound before a module starts and passed to it.
//! Owns the syntax of their names and addresses.
//! Never binds one: the runtime does (`os/activation.rs`), and the holder keeps it.

use std::net::SocketAddr;

use super::scalars::Template;
use super::{FromConfig, ValueType};
use crate::config::origin::Origin;
use crate::config::read_context::ReadContext;
use crate::config::tree::Node;

/// Largest number of one module, as in the holder.
const SOCKETS_MAX: usize = 16;
/// Longest name in bytes: that of sd_listen_fds.
const NAME_BYTES: usize = 255;

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawSocket {
    pub(crate) name: String,
    /// `address:port`, or a path that may be relative.
    pub(crate) address: String,
    pub(crate) origin: Origin,
}

/// All of one module, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RawSockets(pub(crate) Vec<RawSocket>);

impl FromConfig for RawSockets {
    const FORM: ValueType = ValueType::Map(&ValueType::Template);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let table = at.table(node, Self::FORM)?;
        let mut sockets = Vec::new();
        for (name, entry) in table {
            at.push_key(name);
            if sockets.len() == SOCKETS_MAX {
                let message = format!(
                    "cannot use {}: {SOCKETS_MAX} sockets are the most",
                    at.path()
                );
                at.problem::<()>(entry.key, message, "leave some out");
            } else if let Some(listen) = one(name, entry.key, &entry.node, at) {
                sockets.push(listen);
            }
            at.pop_key();
        }
        Some(RawSockets(sockets))
    }

    fn show(&self) -> String {
        "{}".to_owned()
    }
}

fn one<'a>(name: &str, key: Origin, node: &'a Node, at: &mut ReadContext<'a>) -> Option<RawSocket> {
    let passes_on = name.chars().all(|c| matches!(c, ' '..='~') && c != ':');
    if !passes_on || !(1..=NAME_BYTES).contains(&name.len()) {
        let message = format!("cannot name a socket {name:?}");
        return at.problem(key, message, "printable ASCII characters without `:`");
    }
    let Template(text) = Template::read(node, at)?;
    let origin = node.origin;
    let address = address(&text).or_else(|| {
        let message = format!("cannot listen on {text:?}");
        let hint = "an address and a port of this machine, for instance \"127.0.0.1:8080\", or the \
                    path of a socket with a `/` in it";
        at.problem(origin, message, hint)
    })?;
    Some(RawSocket {
        name: name.to_owned(),
        address,
        origin,
    })
}

/// The address as the holder reads it.
fn address(text: &str) -> Option<String> {
    if text.contains('/') {
        return Some(text.to_owned());
    }
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let parsed: SocketAddr = text.parse().ok()?;
    (parsed.port() != 0).then(|| parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_of_this_machine_and_name_a_port() {
        for (text, expected) in [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("run/app.sock", Some("run/app.sock")),
            ("/run/app.sock", Some("/run/app.sock")),
            ("example.org:80", None),
            ("127.0.0.1:0", None),
            ("127.0.0.1", None),
            (":80", None),
            ("", None),
        ] {
            assert_eq!(address(text).as_deref(), expected, "{text}");
        }
    }
}
