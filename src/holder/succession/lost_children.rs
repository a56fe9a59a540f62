//! Processes that an earlier holder has started: whose children they are now reaps them.
//! Owns how long their exit statuses are waited for.
//! Never reaps one, and never signals a number: another process may have it by now.

use std::time::{Duration, Instant};

use mainstay_process::Exit;

use super::mirror::SUPERVISION;
use crate::engine::Engine;
use crate::kernel::{ExitInfo, exit_of_zombie};
use crate::wait::ReapedChild;

/// How long a process that has ended may stay unreaped: then how it ended is unknown.
const REAPED_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it is reaped.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

impl Engine {
    /// How a process ended that is no child of this holder; None: it is not known yet, and is
    /// looked at again.
    pub(crate) fn exit_of_lost_child(&mut self, id: u32) -> Option<ReapedChild> {
        let run = self.instances.get(&id).and_then(|one| one.run.as_ref());
        let run = run.filter(|run| run.inherited)?;
        let (pinned, process) = (run.pinned.as_ref()?, (run.pid, run.start_time));
        let exit = match pinned.exit_info() {
            ExitInfo::Exited(exit) => exit,
            ExitInfo::Unknown => Exit::Unknown,
            ExitInfo::NotReaped => {
                if let Some(exit) = exit_of_zombie(process.0, process.1) {
                    self.succession.unreaped.remove(&id);
                    return Some(ReapedChild { pid: 0, exit });
                }
                let now = Instant::now();
                let until = self.succession.unreaped.entry(id);
                if now < *until.or_insert(now + REAPED_WITHIN) {
                    self.poll.delete(pinned); // it would be seen again and again
                    return None;
                }
                Exit::Unknown
            }
        };
        self.succession.unreaped.remove(&id);
        Some(ReapedChild { pid: 0, exit })
    }

    /// Whether the main process of a run is no child of this holder.
    pub(crate) fn is_inherited(&self, id: u32) -> bool {
        let run = self.instances.get(&id).and_then(|one| one.run.as_ref());
        run.is_some_and(|run| run.inherited)
    }

    /// The runtime, which is no child of this holder, has ended.
    pub(crate) fn inherited_runtime_ended(&mut self) {
        let pinned = self.runtime.as_ref().and_then(|one| one.pinned.as_ref());
        let Some(pinned) = pinned.filter(|pinned| pinned.has_ended()) else {
            return;
        };
        let now = Instant::now();
        let exit = match pinned.exit_info() {
            ExitInfo::Exited(exit) => exit,
            ExitInfo::Unknown => Exit::Unknown,
            ExitInfo::NotReaped => {
                let until = self.succession.unreaped.entry(SUPERVISION);
                if now < *until.or_insert(now + REAPED_WITHIN) {
                    self.poll.delete(pinned); // it would be seen again and again
                    return;
                }
                Exit::Unknown
            }
        };
        self.succession.unreaped.remove(&SUPERVISION);
        self.poll.delete(pinned);
        if let Some(runtime) = &mut self.runtime {
            runtime.pinned = None;
        }
        self.runtime_ended(ReapedChild { pid: 0, exit });
    }

    /// When the processes that are not reaped yet have to be looked at.
    pub(crate) fn next_look_at_lost_children(&self) -> Option<Instant> {
        let waits = !self.succession.unreaped.is_empty();
        waits.then(|| Instant::now() + LOOK_INTERVAL)
    }

    pub(crate) fn look_at_lost_children(&mut self) {
        let ids: Vec<u32> = self.succession.unreaped.keys().copied().collect();
        for id in ids {
            match id {
                SUPERVISION => self.inherited_runtime_ended(),
                _ if self.is_inherited(id) => self.reap_one(id),
                _ => drop(self.succession.unreaped.remove(&id)),
            }
        }
    }
}
