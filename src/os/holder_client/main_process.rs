//! The main process of a service of systemd, when its holder dies and another one goes on.
//! Owns the PID file, which names this runtime: systemd reads it when its main process has ended.
//! Never takes part where systemd did not start this holder, or reads no PID file.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock;
use crate::os::private;

/// The process that systemd has started: the holder, with its successors.
pub(super) const EXEC_PID: &str = "SYSTEMD_EXEC_PID";
/// How often it is looked whether systemd has taken note of an end, and how long at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const NOTED_WITHIN: Duration = Duration::from_secs(20);
/// How long a control process may run: a reload that waits for its modules.
const CONTROL_WITHIN: Duration = Duration::from_mins(30);

#[derive(Debug)]
pub(super) struct MainProcess {
    pid_file: PathBuf,
    manager: SocketAddr,
    /// Control processes that are connected: until they are gone the file names the holder.
    controls: Mutex<u32>,
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
        let manager = manager.ok()?;
        let pid_file = pid_file.is_absolute().then_some(pid_file)?;
        Some(MainProcess {
            pid_file,
            manager,
            controls: Mutex::default(),
        })
    }

    /// At the end of the holder this runtime is the main process, until it names another one.
    pub(super) fn name_runtime(&self) {
        let controls = lock(&self.controls);
        if *controls == 0 {
            self.write(std::process::id());
        }
    }

    fn write(&self, pid: u32) {
        let text = format!("{pid}\n");
        if let Err(error) = private::write(&self.pid_file, text.as_bytes(), None) {
            let file = self.pid_file.display();
            tracing::error!(%error, %file, "systemd would end the unit with its holder");
        }
    }

    /// systemd reads the file at the end of `systemctl reload` too, and the holder lives then: it
    /// names the holder before a control process of the unit is answered, until `end_control`.
    /// False: the client is none.
    pub(super) fn begin_control(&self, holder: u32, client: u32) -> bool {
        let is_one = is_control_process(client);
        if is_one {
            let mut controls = lock(&self.controls);
            *controls += 1;
            self.write(holder);
        }
        is_one
    }

    /// Waits until the control process is gone.
    pub(super) async fn end_control(self: Arc<Self>, client: u32) {
        noted(client, CONTROL_WITHIN).await;
        let ends = move || {
            *lock(&self.controls) -= 1;
            self.name_runtime();
        };
        drop(tokio::task::spawn_blocking(ends));
    }

    /// Tells systemd, once it has taken this runtime for the main process, which one is, and that
    /// it is well. It believes the main process alone.
    pub(super) async fn pass_on(self: Arc<Self>, dead: u32, successor: u32) {
        noted(dead, NOTED_WITHIN).await;
        if let Err(error) = self.tell(successor) {
            tracing::error!(%error, "cannot tell systemd of the next holder");
        }
    }

    fn tell(&self, pid: u32) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let text = format!("MAINPID={pid}\nWATCHDOG=1");
        socket.send_to_addr(text.as_bytes(), &self.manager)?;
        Ok(())
    }
}

/// Waits until there is not even a zombie of a process: systemd reaps it when it has taken note of
/// its end.
async fn noted(pid: u32, within: Duration) {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let gone = async {
        while process.exists() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let _late = tokio::time::timeout(within, gone).await;
}

/// Whether systemd has started this process in the unit of this one, to reload or to stop it: where
/// control groups are delegated, it has a group for those.
fn is_control_process(pid: u32) -> bool {
    let groups = |pid: &str| std::fs::read_to_string(Path::new("/proc").join(pid).join("cgroup"));
    match (groups("self"), groups(&pid.to_string())) {
        (Ok(own), Ok(other)) => is_in_control_group(&own, &other),
        _ => false,
    }
}

/// The same, of the lines of /proc/PID/cgroup of both.
fn is_in_control_group(own: &str, other: &str) -> bool {
    let unit = |line: &str| {
        let unit = line.strip_suffix(".control")?;
        unit.ends_with(".service/").then(|| unit.to_owned())
    };
    let mut units = other.lines().filter_map(unit);
    units.any(|unit| {
        own.lines()
            .any(|line| format!("{line}/").starts_with(&unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_processes_are_known_by_their_group() {
        let own = "1:name=systemd:/\n0::/system.slice/mainstay-shop.service/supervisor\n";
        let control = "1:name=systemd:/\n0::/system.slice/mainstay-shop.service/.control\n";
        let of_another = "0::/system.slice/mainstay-other.service/.control\n";
        let module = "0::/system.slice/mainstay-shop.service/m-x/.control\n";
        assert!(is_in_control_group(own, control));
        let without_groups = "0::/system.slice/mainstay-shop.service";
        assert!(is_in_control_group(without_groups, control));
        assert!(!is_in_control_group(own, of_another));
        assert!(!is_in_control_group(own, module));
        assert!(!is_in_control_group(own, own));
        assert!(!is_in_control_group(own, ""));
    }
}
