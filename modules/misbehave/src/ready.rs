//! The ways to say ready, and sd_notify.
//! Owns the sockets it listens on.
//! Never says it by itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use crate::options::Ready;
use crate::{grpc, show};

/// What was said already.
#[derive(Default)]
pub(crate) struct Announcement {
    listening: bool,
}

impl Announcement {
    /// Says ready once; a second time too, except for sockets, which are there already.
    pub(crate) fn make(&mut self, ready: &Ready) -> Result<(), String> {
        let cannot = |what: &str, error: std::io::Error| format!("cannot {what}: {error}");
        match ready {
            Ready::Never => Ok(()),
            Ready::Notify => notify("READY=1"),
            Ready::Log(line) => {
                show::say(line);
                Ok(())
            }
            Ready::File(path) => std::fs::write(path, "ready\n")
                .map_err(|error| cannot(&format!("write {}", path.display()), error)),
            Ready::Fd(number) => write_newline(*number)
                .map_err(|error| cannot(&format!("write to descriptor {number}"), error)),
            Ready::Tcp(_) | Ready::Http(_) | Ready::Unix(_) if self.listening => Ok(()),
            Ready::Tcp(address) | Ready::Http(address) => {
                let listener = TcpListener::bind(address)
                    .map_err(|error| cannot(&format!("listen on {address}"), error))?;
                let bound = listener
                    .local_addr()
                    .map_err(|error| cannot("listen", error))?;
                show::say(&format!("listening {bound}"));
                self.listening = true;
                let answers = matches!(ready, Ready::Http(_));
                std::thread::spawn(move || {
                    for peer in listener.incoming().flatten() {
                        if answers {
                            answer(peer);
                        }
                    }
                });
                Ok(())
            }
            Ready::Grpc(_) if self.listening => Ok(()),
            Ready::Grpc(address) => {
                let bound = grpc::serve(address)?;
                show::say(&format!("listening {bound}"));
                self.listening = true;
                Ok(())
            }
            Ready::Unix(path) => {
                // A socket of an earlier run is in the way.
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path)
                    .map_err(|error| cannot(&format!("listen on {}", path.display()), error))?;
                self.listening = true;
                std::thread::spawn(move || listener.incoming().for_each(drop));
                Ok(())
            }
        }
    }
}

/// To any question: all is well. Who asks nothing, or leaves, is no reason to stop.
fn answer(mut peer: TcpStream) {
    let _ = peer.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = peer.read(&mut [0; 4096]);
    let _ = peer.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
}

/// As s6 does it: a newline, then the descriptor is closed.
#[expect(unsafe_code, reason = "a descriptor that is known by its number alone")]
fn write_newline(number: i32) -> std::io::Result<()> {
    // Asking first: a number that is not open, or closed by the first of two times, is an error.
    std::fs::metadata(format!("/dev/fd/{number}"))?;
    // SAFETY: the descriptor is open, was handed down by whoever started this program for this
    // purpose, and nothing else in this program uses it.
    let mut file = unsafe { std::fs::File::from_raw_fd(number) };
    file.write_all(b"\n")
}

/// Sends a message to `NOTIFY_SOCKET`; without one there is nobody to tell.
pub(crate) fn notify(text: &str) -> Result<(), String> {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let send = || -> std::io::Result<usize> {
        let socket = UnixDatagram::unbound()?;
        match address.as_bytes().split_first() {
            #[cfg(target_os = "linux")]
            Some((b'@', name)) => {
                use std::os::linux::net::SocketAddrExt;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(text.as_bytes(), &address)
            }
            _ => socket.send_to(text.as_bytes(), &address),
        }
    };
    match send() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot notify {}: {error}", address.display())),
    }
}

/// `WATCHDOG_USEC`, when it is there.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    let text = std::env::var("WATCHDOG_USEC").ok()?;
    text.parse()
        .ok()
        .filter(|usec| *usec > 0)
        .map(Duration::from_micros)
}
