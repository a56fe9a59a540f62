//! Looks at ports, sockets, URLs and files, for readiness and health.
//! Owns one look at a time, bounded in time and in bytes. Never decides what an answer means.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{grpc, machine, transport};

/// Longest head of an HTTP answer that is read, in bytes.
const HEAD_BYTES_MAX: usize = 4096;

/// Whether `address` accepts a connection, and (where the platform tells) its listener belongs to
/// the tree of `owner`: a port that a stranger holds says nothing about our module.
///
/// # Errors
/// In words, what was seen instead.
pub(crate) async fn tcp(address: &str, owner: Option<u32>, limit: Duration) -> Result<(), String> {
    connect(address, owner, Deadline::after(limit))
        .await
        .map(drop)
}

/// When a check as a whole has to be over, and the time that it had.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    fn after(limit: Duration) -> Deadline {
        let at = Instant::now() + limit;
        Deadline { at, limit }
    }
}

async fn connect(address: &str, owner: Option<u32>, limit: Deadline) -> Result<TcpStream, String> {
    let stream = within(limit, TcpStream::connect(address))
        .await
        .map_err(|error| error_text(&error))?;
    if let (Some(owner), Ok(peer)) = (owner, stream.peer_addr())
        && peer.ip().is_loopback()
    {
        // It reads about processes, and that blocks.
        let seen = tokio::task::spawn_blocking(move || machine::listens(peer.port(), owner));
        let seen = within(limit, async { seen.await.map_err(std::io::Error::other) });
        let seen = seen.await;
        let seen = seen.map_err(|error| format!("cannot see who holds it: {error}"))?;
        if seen == Some(false) {
            return Err("a process that is not of this module holds it".to_owned());
        }
    }
    Ok(stream)
}

/// Whether the Unix socket at `path` accepts a connection.
///
/// # Errors
/// In words, what was seen instead.
pub(crate) async fn unix(path: &str, limit: Duration) -> Result<(), String> {
    within(Deadline::after(limit), transport::connect(path.as_ref()))
        .await
        .map_err(|error| error_text(&error))
}

/// Whether `url` (`http://host[:port][/path]`) answers with `status`.
///
/// # Errors
/// In words, what was seen instead.
pub(crate) async fn http(
    url: &str,
    status: u16,
    owner: Option<u32>,
    limit: Duration,
) -> Result<(), String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("only http:// URLs can be looked at")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let address = if host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let limit = Deadline::after(limit);
    let mut stream = connect(&address, owner, limit).await?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: mainstay\r\nConnection: close\r\n\r\n"
    );
    let got = within(limit, async {
        stream.write_all(request.as_bytes()).await?;
        read_status(&mut stream).await
    })
    .await
    .map_err(|error| error_text(&error))?;
    if got == status {
        Ok(())
    } else {
        Err(format!("status {got} instead of {status}"))
    }
}

/// Whether the gRPC server at `target` (`host:port`, or `host:port/service`) says that it serves.
///
/// # Errors
/// In words, what was seen instead.
pub(crate) async fn grpc(target: &str, owner: Option<u32>, limit: Duration) -> Result<(), String> {
    let (address, service) = target.split_once('/').unwrap_or((target, ""));
    let limit = Deadline::after(limit);
    let stream = connect(address, owner, limit).await?;
    within(limit, grpc::check(stream, address, service))
        .await
        .map_err(|error| error_text(&error))
}

async fn read_status(stream: &mut TcpStream) -> std::io::Result<u16> {
    let mut head = Vec::new();
    while !head.contains(&b'\n') {
        let mut chunk = [0; 512];
        let count = stream.read(&mut chunk).await?;
        if count == 0 || head.len() > HEAD_BYTES_MAX {
            break;
        }
        head.extend_from_slice(&chunk[..count]);
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split_ascii_whitespace();
    let version = words.next().unwrap_or_default();
    words
        .next()
        .filter(|_| version.starts_with("HTTP/"))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "this is not HTTP"))
}

/// `connection refused`: without the number that the standard library adds.
fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Whether `path` exists.
pub(crate) fn file(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

async fn within<T>(
    deadline: Deadline,
    work: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<T> {
    let work = tokio::time::timeout_at(deadline.at, work);
    work.await.unwrap_or_else(|_| {
        Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {:?}", deadline.limit),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_port_is_not_looked_up_on_the_thread_of_the_actors() {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let own = Some(std::process::id());
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        tokio.block_on(async {
            let busy = tokio::task::spawn_blocking(move || held.recv().is_err());
            let short = Duration::from_millis(50);
            let seen = tcp(&address, own, short).await;
            assert!(seen.is_err_and(|why| why.contains("cannot see who holds")));
            drop(release);
            assert!(busy.await.expect("it ends"));
            let long = Duration::from_secs(60);
            assert_eq!(tcp(&address, own, long).await, Ok(()));
        });
    }
}
