//! Linux: whether a process tree holds the listener of a TCP port.
//! Owns the reading of the tables of sockets and of the descriptors of other processes; it blocks.
//! Never guesses: what cannot be seen is not known.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use mainstay_holder::look_at;

use super::machine::{every_process, root_of};

/// About a row of the tables.
const ROW_BYTES: usize = 150;

/// Whether the process tree of `owner` holds a TCP listener on `port`; None when that cannot be
/// seen (another user's descriptors, for instance).
pub(crate) fn listens(port: u16, owner: u32) -> Option<bool> {
    // Most often it is the main process, and nobody else has to be looked at.
    let its = sockets(owner).unwrap_or_default();
    let mut found = HashSet::new();
    for socket in listening(port) {
        if its.contains(&socket) {
            return Some(true);
        }
        found.insert(socket);
    }
    if found.is_empty() {
        return None;
    }
    holds_in_tree(owner, &found)
}

/// Who left its parent and not its session is of the tree too: only all processes tell.
fn holds_in_tree(owner: u32, found: &HashSet<u64>) -> Option<bool> {
    let all = every_process();
    let mut parents = all
        .iter()
        .map(|stat| (stat.pid, (stat.parent, stat.session)))
        .collect();
    let roots = std::iter::once(owner).collect();
    let ours = all
        .iter()
        .filter(|stat| root_of(stat.pid, &mut parents, &roots).is_some());
    let mut seen = Some(false);
    for stat in ours {
        match sockets(stat.pid).map(|its| its.is_disjoint(found)) {
            Some(false) => return Some(true),
            Some(true) => {}
            None => seen = None,
        }
    }
    seen
}

/// The numbers of a process's sockets; None when its descriptors cannot be seen, or not in time.
fn sockets(pid: u32) -> Option<HashSet<u64>> {
    look_at(pid.cast_signed(), read_sockets).flatten()
}

fn read_sockets(pid: i32) -> Option<HashSet<u64>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let number = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let number = target.to_str()?.strip_prefix("socket:[")?;
        number.strip_suffix(']')?.parse().ok()
    };
    Some(entries.flatten().filter_map(number).collect())
}

/// The numbers of the sockets that listen on `port`. Listeners come first in the tables, and are
/// read row by row: what comes behind them the kernel searches for through all of its connections.
fn listening(port: u16) -> impl Iterator<Item = u64> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let of = move |row: &[String]| {
        let on_port = row[1].ends_with(&port);
        on_port.then(|| row.get(9)?.parse().ok()).flatten()
    };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter();
    tables
        .filter_map(|table| File::open(table).ok())
        .flat_map(|file| {
            let rows = BufReader::with_capacity(ROW_BYTES, file).lines().skip(1);
            let fields = |row: String| row.split_ascii_whitespace().map(str::to_owned).collect();
            rows.map_while(Result::ok)
                .map(fields)
                .take_while(|row: &Vec<String>| row.get(3).is_some_and(|state| state == LISTEN))
        })
        .filter_map(move |row| of(&row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        (listener, port)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no runtime is under test")]
    fn a_listener_is_of_the_tree_that_holds_it_and_of_no_other() {
        let (listener, port) = listener();
        let mut other = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        let own = std::process::id();
        let found = listening(port).collect();
        assert_eq!(holds_in_tree(own, &found), Some(true));
        assert_eq!(listens(port, own), Some(true));
        assert_eq!(listens(port, other.id()), Some(false));
        drop(other.stdin.take());
        other.wait().expect("it ends");
        drop(listener);
        let six =
            TcpListener::bind("[::1]:0").map(|six| (six.local_addr().map(|at| at.port()), six));
        if let Ok((Ok(port), _listener)) = six {
            assert_eq!(listens(port, own), Some(true), "the newer protocol");
        }
        assert_eq!(listens(0, own), None, "nobody listens there");
    }
}
