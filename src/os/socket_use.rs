//! Linux: whether clients use the sockets that listen for modules, as far as the kernel knows.
//! Owns the reading of its tables, and the marks on socket files; it blocks.
//! Never looks into a connection, and never guesses: what cannot be seen is not known.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mainstay_process::Instance;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, lstat, utimensat};
use nix::sys::time::TimeSpec;

const TCP: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const UNIX: &str = "/proc/net/unix";
/// Bytes of a table that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// An instance, and where its sockets listen: `address:port`, or a path with a `/`.
pub(crate) type Listening = (Instance, Vec<String>);

/// Whether the sockets of each instance are used: a client is connected, or waits to be, or was
/// since the last look, as far as that can be seen. Who is not in it cannot be seen.
pub(crate) fn used_sockets(all: &[Listening]) -> HashMap<Instance, bool> {
    let addresses = all.iter().flat_map(|(_, addresses)| addresses);
    let (paths, hosts): (Vec<&String>, Vec<&String>) =
        addresses.partition(|address| address.contains('/'));
    let hosts = hosts.into_iter().filter_map(|host| host.parse().ok());
    let hosts: Vec<SocketAddr> = hosts.collect();
    let (Ok(tcp), Ok(unix)) = (used_tcp(&hosts), used_unix(&paths)) else {
        return HashMap::new();
    };
    let is_used = |address: &String| match address.contains('/') {
        true => unix.contains(address.as_str()),
        false => (address.parse()).is_ok_and(|host: SocketAddr| tcp.contains(&host)),
    };
    let used = |(instance, addresses): &Listening| {
        // Each is asked: asking sets its mark.
        let used = addresses.iter().filter(|address| is_used(address));
        (instance.clone(), used.count() > 0)
    };
    all.iter().map(used).collect()
}

/// Those of these listeners that have connections, or had one a short time ago: who closed it first
/// remembers it for a minute (TIME_WAIT), if that is this machine.
fn used_tcp(hosts: &[SocketAddr]) -> io::Result<HashSet<SocketAddr>> {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    let mut used = HashSet::new();
    if hosts.is_empty() {
        return Ok(used);
    }
    let hosts: Vec<(SocketAddr, String)> =
        hosts.iter().map(|host| (*host, in_table(host))).collect();
    for table in TCP {
        // Without IPv6 there is no table of it.
        let Some(file) = File::open(table).map_or_else(missing, |file| Ok(Some(file)))? else {
            continue;
        };
        for_each_row(file, |row| {
            let mut fields = row.split_ascii_whitespace().skip(1);
            let (Some(local), Some(remote), Some(state)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return;
            };
            let address = |end: &str| end.rsplit_once(':').map(|(address, _)| address.to_owned());
            let is_at = |end: &str, host: &str| {
                end == host || (host.starts_with(':') && end.ends_with(host))
            };
            let is_closed_client = |host: &str| {
                let is_here = !host.starts_with(':') || address(local) == address(remote);
                state == TIME_WAIT && is_here && is_at(remote, host)
            };
            for (host, text) in &hosts {
                if state != LISTEN && (is_at(local, text) || is_closed_client(text)) {
                    used.insert(*host);
                }
            }
        })?;
    }
    Ok(used)
}

fn missing(error: io::Error) -> io::Result<Option<File>> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(error),
    }
}

/// A listener as the tables write it; `:PORT` where it listens on every address.
fn in_table(host: &SocketAddr) -> String {
    let port = host.port();
    // Words of 32 bits in the order of this machine.
    let word = |bytes: &[u8]| {
        let bytes = <[u8; 4]>::try_from(bytes).unwrap_or_default();
        format!("{:08X}", u32::from_ne_bytes(bytes))
    };
    let address: String = match host.ip() {
        any if any.is_unspecified() => String::new(),
        IpAddr::V4(four) => word(&four.octets()),
        IpAddr::V6(six) => six.octets().chunks(4).map(word).collect(),
    };
    format!("{address}:{port:04X}")
}

/// Those of these listeners that have connections, or were connected to since the last look.
fn used_unix(paths: &[&String]) -> io::Result<HashSet<String>> {
    let paths: HashSet<&str> = paths.iter().map(|path| path.as_str()).collect();
    let mut used: HashSet<String> = paths
        .iter()
        .filter(|path| was_connected(Path::new(path)))
        .map(|path| (*path).to_owned())
        .collect();
    if paths.is_empty() {
        return Ok(used);
    }
    for_each_row(File::open(UNIX)?, |row| {
        // Num RefCount Protocol Flags Type St Inode Path
        let Some((_, path)) = row
            .split_once(" /")
            .map(|(before, _)| row.split_at(before.len() + 1))
        else {
            return;
        };
        // One that a listener accepted, or will, has its path; the listener itself is marked.
        let flags = row.split_ascii_whitespace().nth(3);
        let listens = flags.is_none_or(|flags| flags == "00010000");
        if !listens && paths.contains(path) {
            used.insert(path.to_owned());
        }
    })?;
    Ok(used)
}

/// Whether a client connected since the last look: the kernel sets the access time of the file
/// then, unless it is mounted without. It is set back to the beginning of time.
fn was_connected(path: &Path) -> bool {
    let accessed = lstat(path).is_ok_and(|file| (file.st_atime, file.st_atime_nsec) != (0, 0));
    let (never, same) = (TimeSpec::new(0, 0), TimeSpec::UTIME_OMIT);
    let flags = UtimensatFlags::NoFollowSymlink;
    // What cannot be marked says nothing.
    accessed && utimensat(AT_FDCWD, path, &never, &same, flags).is_ok()
}

/// The rows of a table below its head.
fn for_each_row(file: File, mut each: impl FnMut(&str)) -> io::Result<()> {
    let mut table = BufReader::with_capacity(READ_BYTES, file);
    let (mut row, mut is_head) = (Vec::new(), true);
    while table.read_until(b'\n', &mut row)? > 0 {
        if !std::mem::take(&mut is_head) {
            each(String::from_utf8_lossy(&row).trim_end_matches('\n'));
        }
        row.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn is_used(address: &str) -> bool {
        let instance = Instance::new("it", 1);
        let all = [(instance.clone(), vec![address.to_owned()])];
        used_sockets(&all)[&instance]
    }

    #[test]
    fn a_tcp_connection_counts_while_it_is_open_and_for_a_minute() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("no IPv6 here: {address} is not tested");
                continue;
            };
            let bound = listener.local_addr().expect("bound");
            let text = bound.to_string();
            assert!(!is_used(&text), "{text}: no client came yet");
            let loopback = match bound {
                SocketAddr::V4(_) => "127.0.0.1",
                SocketAddr::V6(_) => "::1",
            };
            let to = (loopback, bound.port());
            let mut client = TcpStream::connect(to).expect("it listens");
            assert!(is_used(&text), "{text}: it waits to be accepted");
            let (server, _) = listener.accept().expect("a client");
            assert!(is_used(&text), "{text}: it is connected");
            // The client closes first, and is remembered.
            let _shut = client.shutdown(std::net::Shutdown::Both);
            let _end = io::Read::read(&mut client, &mut [0; 1]);
            drop((client, server));
            assert!(is_used(&text), "{text}: it is remembered");
        }
    }

    #[test]
    fn a_unix_connection_counts_while_it_is_open_and_once_after() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a socket");
        let text = path.to_str().expect("UTF-8");
        let listener = UnixListener::bind(&path).expect("bound");
        let _first_look_sets_the_mark = is_used(text);
        assert!(!is_used(text), "no client came");
        let client = UnixStream::connect(&path).expect("it listens");
        assert!(is_used(text) && is_used(text), "it waits to be accepted");
        let (server, _) = listener.accept().expect("a client");
        assert!(is_used(text), "it is connected");
        drop(client);
        assert!(is_used(text), "its other end is open");
        drop(server);
        assert!(!is_used(text), "it is over");
        let before = lstat(&path).expect("it is there");
        drop(UnixStream::connect(&path).expect("it listens"));
        drop(listener.accept().expect("a client"));
        let sets_times = lstat(&path).expect("it is there").st_atime != before.st_atime;
        if sets_times {
            assert!(is_used(text), "it was there between two looks");
            assert!(!is_used(text), "and is not now");
        } else {
            eprintln!("mounted without access times: short connections are not tested");
        }
    }

    #[test]
    fn other_sockets_do_not_count() {
        let [one, other] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let address = |of: &TcpListener| of.local_addr().expect("bound");
        let _client = TcpStream::connect(address(&other)).expect("it listens");
        assert!(!is_used(&address(&one).to_string()));
        assert!(is_used(&address(&other).to_string()));
        assert!(used_sockets(&[]).is_empty());
    }
}
