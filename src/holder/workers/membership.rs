//! Whether a process belongs to a run: by control group; without one by session, process group,
//! ancestry, or the tag or the secret mark of the run.
//! Reads what the kernel shows when it is asked, as often as its caller allows.
//! Never trusts a number that another process may have by now.

use serde::{Deserialize, Serialize};

use crate::kernel::{self, CgroupView};
use crate::process::{ProcessInfo, Tag, Unseen};
use crate::workers::mark::mark_variable;

/// Processes above one that are looked at.
const DEPTH_MAX: usize = 64;
/// What reading an environment counts, in processes.
const ENVIRONMENT_COST: usize = 4;

/// By what the processes of a run are known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunTree {
    /// The process that was started, and when: number of a session and a process group.
    pub(crate) first: (i32, u64),
    /// The main process: that one, or the one that was named by MAINPID.
    pub(crate) main: (i32, u64),
    pub(crate) mark: String,
    /// The number by which its processes are known where it lasts.
    pub(crate) tag: u64,
    pub(crate) cgroup: Option<CgroupView>,
}

/// What can be said of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    Member,
    Stranger,
    /// It has ended, or is a zombie that hangs on nothing of the run.
    Gone,
    /// In the moment of an exec its mark cannot be read.
    Unclear,
    /// It would take more than `allowed`.
    Unknown,
    /// It is not shown in time.
    Hidden,
}

impl RunTree {
    /// Looks at a process. Of `allowed`, the processes that may be read beyond the first one, what
    /// was read is taken away.
    pub(crate) fn membership(&self, pid: i32, allowed: &mut usize) -> Membership {
        let Some(seen) = kernel::process(pid) else {
            return self.membership_unseen(pid, allowed);
        };
        let found = match &self.cgroup {
            Some(cgroup) if cgroup.contains(pid) => Membership::Member,
            Some(_) => Membership::Stranger,
            None if self.leads(&seen) => Membership::Member,
            None => self.descends(seen, allowed),
        };
        match found {
            // It may have left its tree in its end.
            Membership::Stranger | Membership::Unclear if seen.zombie => Membership::Gone,
            found => found,
        }
    }

    /// Of a process whose numbers are not shown.
    fn membership_unseen(&self, pid: i32, allowed: &mut usize) -> Membership {
        if !kernel::is_hidden(pid) {
            return Membership::Gone;
        }
        let is_inside = self.cgroup.as_ref().is_some_and(|one| one.contains(pid));
        if is_inside || self.is_tagged(pid) {
            return Membership::Member;
        }
        *allowed = 0;
        Membership::Hidden
    }

    /// Whether it is, or is in the session or the process group of, a process that leads the run.
    fn leads(&self, seen: &ProcessInfo) -> bool {
        [self.first, self.main]
            .into_iter()
            .any(|(pid, start_time)| {
                let same = |seen: &ProcessInfo| (seen.pid, seen.start_time) == (pid, start_time);
                if seen.pid == pid {
                    return same(seen);
                }
                // Of a leader that is gone the number may have been given to a stranger, who left a
                // session of that number when he ended.
                let named = seen.session == pid || seen.group == pid;
                named && kernel::process(pid).is_some_and(|leader| same(&leader))
            })
    }

    fn descends(&self, sender: ProcessInfo, allowed: &mut usize) -> Membership {
        let mut at = sender;
        for _ in 0..DEPTH_MAX {
            if at.parent <= 1 || at.parent == std::process::id().cast_signed() {
                return self.is_marked(&sender, allowed);
            }
            if !spend(allowed, 1) {
                return Membership::Unknown;
            }
            // A parent is older than its child: a younger one has the number of one that ended.
            let parent = kernel::process(at.parent);
            let Some(parent) = parent.filter(|parent| parent.start_time <= at.start_time) else {
                return Membership::Unclear;
            };
            if self.leads(&parent) {
                return Membership::Member;
            }
            at = parent;
        }
        Membership::Stranger
    }

    /// Whether it has the tag of the run and is of the user of its main process: everybody can read
    /// the tag, and take it.
    fn is_tagged(&self, pid: i32) -> bool {
        let (main, start_time) = self.main;
        let is_main = |seen: ProcessInfo| seen.start_time == start_time;
        kernel::tag(pid) == Tag::Of(self.tag)
            && kernel::process(main).is_none_or(is_main)
            && kernel::user(pid).is_some_and(|user| kernel::user(main) == Some(user))
    }

    /// For what lost its parents: the tag, or the secret in the environment, that all of a run
    /// inherits.
    fn is_marked(&self, sender: &ProcessInfo, allowed: &mut usize) -> Membership {
        if self.is_tagged(sender.pid) {
            return Membership::Member;
        }
        if !spend(allowed, ENVIRONMENT_COST) {
            return Membership::Unknown;
        }
        let mark = mark_variable(&self.mark);
        match kernel::has_variable(sender.pid, |one| one == mark) {
            Ok(true) => Membership::Member,
            Ok(false) => Membership::Stranger,
            Err(Unseen::Executing) => Membership::Unclear,
            Err(Unseen::Hidden) => {
                *allowed = 0;
                Membership::Hidden
            }
        }
    }
}

fn spend(allowed: &mut usize, cost: usize) -> bool {
    let enough = *allowed >= cost;
    *allowed = allowed.saturating_sub(cost);
    enough
}
