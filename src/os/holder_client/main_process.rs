//! The main process of a unit of systemd, when its holder dies and another one goes on.
//! Owns the PID file, which names this runtime: systemd reads it when its main process has ended.
//! Never takes part where systemd did not start this holder, or reads no PID file.

use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::Interest;

use super::{HolderClient, lock};
use crate::os::{machine, private};

/// The process that systemd has started: the holder, with its successors.
pub(super) const EXEC_PID: &str = "SYSTEMD_EXEC_PID";
/// How often it is looked whether systemd has taken note of an end, or takes a message; and how
/// long: it may be busy with a reload of its own.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const NOTED_TIMEOUT: Duration = Duration::from_mins(10);

/// Between two messages for readers of the file: not each of them is systemd.
const REPLY_INTERVAL: Duration = Duration::from_millis(200);
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct MainProcess {
    pid_file: PathBuf,
    manager: SocketAddr,
    /// When the file is opened. systemd reads it at the end of a reload and of `ExecStartPost=`
    /// too, and takes this runtime for the main process then, while the holder is well.
    reads: Inotify,
    writes: Mutex<()>,
}

impl MainProcess {
    /// None: this holder is not the main process of a unit that has a PID file.
    pub(super) fn of(holder: u32) -> Option<MainProcess> {
        let started = std::env::var(EXEC_PID).ok()?;
        if started != holder.to_string() {
            return None;
        }
        let pid_file = PathBuf::from(std::env::var_os("PIDFILE")?);
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let manager = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
        };
        let pid_file = pid_file.is_absolute().then_some(pid_file)?;
        Some(MainProcess {
            pid_file,
            manager: manager.ok()?,
            reads: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?,
            writes: Mutex::default(),
        })
    }

    /// At the end of the holder this runtime is the main process, until it names another one. A
    /// file that is read unnoticed would leave it so: then it names the holder.
    fn name_runtime(&self, holder: u32) {
        let _one_at_a_time = lock(&self.writes);
        let named = self.write(std::process::id()).and_then(|()| {
            let flags = AddWatchFlags::IN_OPEN;
            Ok(self.reads.add_watch(&self.pid_file, flags).map(drop)?)
        });
        if let Err(error) = named {
            self.report(&error);
            let _reported = self.write(holder);
        }
    }

    /// Where no other holder could go on the unit ends with this one.
    fn name_holder(&self, holder: u32) {
        let _one_at_a_time = lock(&self.writes);
        if let Err(error) = self.write(holder) {
            self.report(&error);
        }
    }

    fn report(&self, error: &io::Error) {
        let file = self.pid_file.display();
        tracing::error!(%error, %file, "cannot name the main process to systemd");
    }

    fn write(&self, pid: u32) -> io::Result<()> {
        private::write(&self.pid_file, format!("{pid}\n").as_bytes(), None)
    }

    /// Waits until the file was opened.
    async fn wait_for_reader(&self) -> io::Result<()> {
        let watched = self.reads.as_fd().try_clone_to_owned()?;
        let watched = machine::watch(watched, Interest::READABLE)?;
        loop {
            let mut readable = watched.readable().await?;
            let events = self.reads.read_events().unwrap_or_default();
            // That a file was replaced is one too.
            let is_open = |event: &InotifyEvent| event.mask.contains(AddWatchFlags::IN_OPEN);
            if events.iter().any(is_open) {
                return Ok(());
            }
            readable.clear_ready();
        }
    }

    /// Tells systemd which process is the main one, and that it is well: it believes this runtime
    /// where it has taken it for that.
    async fn tell(&self, holder: u32) -> io::Result<()> {
        let text = format!("MAINPID={holder}\nWATCHDOG=1");
        let send = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(text.as_bytes(), &self.manager)
        };
        // systemd may be busy, and the machine may have no descriptors: it would kill the unit.
        let sent = async {
            while send().is_err() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        Ok(tokio::time::timeout(NOTED_TIMEOUT, sent).await?)
    }
}

impl HolderClient {
    /// Names this runtime in the PID file, where there is one, or the holder where no other could
    /// go on: a unit with `ExecStartPost=` waits for the file. Again after the folder was restored.
    pub(super) fn name_main_process(&self) {
        let Some(main_process) = self.successor.main_process.clone() else {
            return;
        };
        let holder = self.successor.holder_pid.load(Ordering::Relaxed);
        let goes_on = self.successor.is_possible;
        drop(self.handle.spawn_blocking(move || match goes_on {
            true => main_process.name_runtime(holder),
            false => main_process.name_holder(holder),
        }));
    }

    pub(super) fn follow_main_process(self: &Arc<Self>) {
        if self.successor.is_possible {
            self.handle.spawn(Arc::clone(self).stay_main_process());
        }
    }

    /// Tells systemd of the holder whenever it has read the file and the holder is well.
    async fn stay_main_process(self: Arc<Self>) {
        let Some(main_process) = &self.successor.main_process else {
            return;
        };
        loop {
            if let Err(error) = main_process.wait_for_reader().await {
                // systemd may have read it.
                tracing::error!(%error, "cannot see whether systemd reads the PID file");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            if self.successor.holder_has_ended() == Some(false) {
                self.tell_main_process().await;
            }
            tokio::time::sleep(REPLY_INTERVAL).await;
        }
    }

    /// Tells systemd of the holder that there is now, once it has reaped the dead one: then it has
    /// taken note of that end.
    pub(super) async fn pass_main_process_on(self: Arc<Self>, dead: machine::VerifiedProcess) {
        let noted = async {
            while !dead.is_reaped() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let _late = tokio::time::timeout(NOTED_TIMEOUT, noted).await;
        self.tell_main_process().await;
        // It did not believe what it was told meanwhile.
        self.successor.passed_on.fetch_add(1, Ordering::Relaxed);
    }

    async fn tell_main_process(&self) {
        let Some(main_process) = &self.successor.main_process else {
            return;
        };
        let holder = self.successor.holder_pid.load(Ordering::Relaxed);
        if let Err(error) = main_process.tell(holder).await {
            tracing::error!(%error, "cannot tell systemd of its main process");
        }
    }
}
