//! The tree of a run whose holder has ended, for the runtime that outlives it.
//! Owns by what the tree is known, taken while its main process runs.
//! Never signals a process that it has not verified.

use std::cell::Cell;
use std::sync::Arc;

use crate::kernel::{self, Cgroup};
use crate::workers::mark::TREE_MARK_VAR;
use crate::workers::sweep::{ProcessTree, SweepJob, sweep};

/// Returns the mark that a process inherited from a run; none if it shows none, or not in time.
#[must_use]
pub fn tree_mark(pid: u32) -> Option<String> {
    let mark = Cell::new(None);
    // Of one that hides its environment nothing is found.
    let _ = kernel::has_variable(pid.cast_signed(), |variable| {
        let value = variable.strip_prefix(TREE_MARK_VAR.as_bytes());
        let value = value.and_then(|value| value.strip_prefix(b"="));
        let found = value.map(|value| mark.set(Some(String::from_utf8_lossy(value).into_owned())));
        found.is_some()
    });
    mark.into_inner()
}

/// The tree of a run.
#[derive(Debug, Clone)]
pub struct OrphanTree(ProcessTree);

impl OrphanTree {
    /// Finds out by what the tree of this main process is known; None if it has ended.
    #[must_use]
    pub fn find(instance: &str, pid: u32, start_time: u64) -> Option<OrphanTree> {
        let pid = i32::try_from(pid).ok()?;
        let group = Cgroup::of_instance(instance, pid).map(Arc::new);
        // Without a mark it is known by its session alone.
        let mark = tree_mark(pid.unsigned_abs()).unwrap_or_else(|| "of no run".to_owned());
        let seen = kernel::process(pid)?;
        if seen.start_time != start_time || seen.zombie {
            return None; // what was read was read of another process
        }
        Some(OrphanTree(ProcessTree {
            id: 0,
            pid,
            start_time,
            mark,
            group,
        }))
    }

    /// Kills all of it and waits, a second or so at most, until it is gone.
    pub fn kill(&self) {
        if let Some(group) = &self.0.group {
            group.kill();
        }
        let trees = vec![self.0.clone()];
        sweep(&SweepJob {
            trees,
            living: None,
        });
    }
}
