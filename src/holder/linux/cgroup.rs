//! The control group (v2) of one instance, so that its tree is killed whole, frozen and limited.
//! Owns the descriptor of its directory.
//! Never makes or removes a group: the tree of them does.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_process::RunLimits;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::cgroup_place::{group_of, is_in, place_of_instance};
use super::disks::disk_limits;
use super::processes::ProcessHandle;

/// How long a killed group may take to become empty before it is left behind.
pub(super) const EMPTY_WITHIN: Duration = Duration::from_millis(500);

/// Kills those of a group whose main thread has ended: the kernel takes them for dead when it
/// kills a group.
pub(super) fn kill_headless(mut members: File, is_member: impl Fn(i32) -> bool) {
    let mut text = String::new();
    let _ = members.read_to_string(&mut text); // fails only for a group that is being removed
    for pid in text.lines().filter_map(|line| line.parse().ok()) {
        if let Some(pinned) = ProcessHandle::new(pid)
            && is_member(pid)
        {
            pinned.signal(libc::SIGKILL);
        }
    }
}

/// The group of one instance.
#[derive(Debug)]
pub(crate) struct Cgroup {
    pub(crate) dir: OwnedFd,
    pub(crate) view: String,
    pub(crate) killed: AtomicBool,
    pub(crate) limits_io: AtomicBool,
}

impl Cgroup {
    /// The group that a holder made for an instance, if its main process is in it.
    pub(crate) fn of_instance(instance: &str, pid: i32) -> Option<Cgroup> {
        let (view, path) = place_of_instance(instance, pid)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Some(Cgroup {
            dir: open(&path, flags, Mode::empty()).ok()?,
            view,
            killed: AtomicBool::new(false),
            // An earlier holder may have limited it.
            limits_io: AtomicBool::new(true),
        })
    }

    /// The group that was made at `dir`; `killed`: something in it may still be dying.
    pub(super) fn new(dir: OwnedFd, view: String, killed: bool) -> Cgroup {
        Cgroup {
            dir,
            view,
            killed: AtomicBool::new(killed),
            // One that was there before may have limits.
            limits_io: AtomicBool::new(killed),
        }
    }

    pub(super) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    fn file(&self, name: &str, flags: OFlag) -> Option<File> {
        let fd = openat(&self.dir, name, flags | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        Some(File::from(fd))
    }

    /// Where a child that was made outside writes itself in.
    pub(crate) fn procs(&self) -> Option<File> {
        self.file("cgroup.procs", OFlag::O_WRONLY)
    }

    /// Kills everything in it, whatever sessions and parents it has.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        if let Some(mut file) = self.file("cgroup.kill", OFlag::O_WRONLY) {
            let _ = file.write_all(b"1"); // fails only for a group that is being removed
        }
    }

    /// Kills what the main process left in it; whether there was anything.
    pub(crate) fn kill_rest(&self) -> bool {
        let left = !self.is_empty();
        if left {
            self.kill();
        }
        left
    }

    /// Waits until what was killed in it is gone, and kills what the kernel did not. Bounded: the
    /// kernel may hold on to one that waits for a disk.
    pub(crate) fn wait_until_empty(&self) {
        let end = Instant::now() + EMPTY_WITHIN;
        while !self.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            if let Some(members) = self.file("cgroup.procs", OFlag::O_RDONLY) {
                kill_headless(members, |pid| self.view().contains(pid));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let mut text = [0u8; 128];
        let events = self.file("cgroup.events", OFlag::O_RDONLY);
        let length = events
            .and_then(|mut file| file.read(&mut text).ok())
            .unwrap_or(0);
        // A group that cannot be read any more was removed.
        length == 0
            || text[..length]
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"populated 0")
    }

    /// Stops all processes in it, or lets them continue. The kernel kills what is stopped too.
    pub(crate) fn freeze(&self, stop: bool) {
        self.set("cgroup.freeze", if stop { "1" } else { "0" });
    }

    /// Replaces its limits. A file that is not there belongs to an absent controller.
    pub(crate) fn limit(&self, limits: &RunLimits) {
        let text = |limit: Option<u64>| limit.map_or("max".to_owned(), |most| most.to_string());
        // Of a period of 100 ms; what an idle period left may be used in a later one.
        let quota = limits.cpu_permille.map(|permille| permille.max(10) * 100);
        self.set("cpu.max.burst", "0");
        self.set("cpu.max", &format!("{} 100000", text(quota)));
        if let Some(quota) = quota {
            self.set("cpu.max.burst", &quota.to_string());
        }
        self.set("cpu.weight", if limits.background { "10" } else { "100" });
        self.set("io.weight", if limits.background { "10" } else { "100" });
        // A write of it makes the kernel wait for the disk, so never where nothing is limited.
        let limits_io = limits.io_bytes_per_s.is_some();
        if self.limits_io.swap(limits_io, Ordering::Relaxed) || limits_io {
            for limit in disk_limits(&text(limits.io_bytes_per_s)) {
                self.set("io.max", &limit);
            }
        }
        self.set("memory.high", &text(limits.memory_high));
        self.set("memory.max", &text(limits.memory_max));
        self.set("pids.max", &text(limits.threads)); // it counts threads
    }

    fn set(&self, name: &str, value: &str) {
        if let Some(mut file) = self.file(name, OFlag::O_WRONLY) {
            let _ = file.write_all(value.as_bytes()); // the runtime reads what holds
        }
    }

    /// How many of it the kernel killed for memory so far (0 without that controller).
    pub(crate) fn oom_kills(&self) -> u64 {
        let mut text = String::new();
        if let Some(mut file) = self.file("memory.events", OFlag::O_RDONLY) {
            let _ = file.read_to_string(&mut text);
        }
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Its place, for a thread with a table of descriptors of its own.
    pub(crate) fn view(&self) -> CgroupView {
        CgroupView(self.view.clone())
    }

    /// In which of these a process lies.
    pub(crate) fn position(groups: &[Arc<Cgroup>], pid: i32) -> Option<usize> {
        if groups.is_empty() {
            return None;
        }
        let view = group_of(&pid.to_string())?;
        groups.iter().position(|group| group.is_above(&view))
    }

    fn is_above(&self, view: &str) -> bool {
        is_in(view, &self.view)
    }
}

/// The place of a group, without a descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CgroupView(String);

impl CgroupView {
    /// Whether a process is in the group.
    pub(crate) fn contains(&self, pid: i32) -> bool {
        group_of(&pid.to_string()).is_some_and(|view| is_in(&view, &self.0))
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
