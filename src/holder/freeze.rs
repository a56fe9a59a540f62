//! Runs whose processes are stopped for a moment, each by a lease that ends by itself.
//! Owns the leases. Continues what a lease stopped, whatever becomes of the runtime.
//! Never continues a process that the runtime did not name, or another of its number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::{Cgroup, signal_verified};
use crate::process::ProcessInfo;

/// One run that is stopped.
#[derive(Debug)]
struct Lease {
    until: Duration,
    group: Option<Arc<Cgroup>>,
    /// Without a group: its processes.
    processes: Vec<ProcessInfo>,
}

/// The runs that are stopped, by instance.
#[derive(Debug, Default)]
pub(crate) struct FreezeLeases(HashMap<u32, Lease>);

impl FreezeLeases {
    /// Stops a run, or stops it longer, with processes that were found since.
    pub(crate) fn freeze(
        &mut self,
        id: u32,
        until: Duration,
        group: Option<&Arc<Cgroup>>,
        processes: &[(u32, u64)],
    ) {
        let lease = self.0.entry(id).or_insert_with(|| Lease {
            until,
            group: group.cloned(),
            processes: Vec::new(),
        });
        lease.until = until;
        if let Some(group) = &lease.group {
            return group.freeze(true);
        }
        for (pid, start_time) in processes {
            let process = ProcessInfo {
                pid: pid.cast_signed(),
                start_time: *start_time,
                ..ProcessInfo::default()
            };
            if !lease.processes.contains(&process) && signal_verified(&process, libc::SIGSTOP) {
                lease.processes.push(process);
            }
        }
    }

    /// Lets a run continue.
    pub(crate) fn thaw(&mut self, id: u32) {
        if let Some(lease) = self.0.remove(&id) {
            lease.end();
        }
    }

    /// Lets all runs continue.
    pub(crate) fn thaw_all(&mut self) {
        self.0.drain().for_each(|(_, lease)| lease.end());
    }

    /// Lets the runs continue whose time has passed.
    pub(crate) fn expire(&mut self, now: Duration) {
        let ended = self.0.extract_if(|_, lease| lease.until <= now);
        ended.for_each(|(_, lease)| lease.end());
    }

    /// Whether a lease stops this run.
    pub(crate) fn holds(&self, id: u32) -> bool {
        self.0.contains_key(&id)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.0.values().map(|lease| lease.until).min()
    }
}

impl Lease {
    fn end(self) {
        if let Some(group) = &self.group {
            group.freeze(false);
        }
        for process in &self.processes {
            signal_verified(process, libc::SIGCONT);
        }
    }
}
