//! Control groups in the state: the subtree of the holder, and the group of each instance.
//! Never makes or removes a group.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs::File, io};

use serde::{Deserialize, Serialize};

use super::kept_fds::{KeptFd, KeptFds};
use crate::kernel::{Cgroup, CgroupTree};

/// The subtree.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupTreeState {
    path: PathBuf,
    view: String,
    dir: KeptFd,
    held: Option<KeptFd>,
    burns: bool,
    starts: bool,
}

impl GroupTreeState {
    pub(crate) fn of(tree: &CgroupTree, kept: &mut KeptFds) -> GroupTreeState {
        GroupTreeState {
            path: tree.path.clone(),
            view: tree.view.clone(),
            dir: kept.keep(&tree.dir),
            held: tree.held.as_ref().map(|held| kept.keep(held)),
            burns: tree.burns,
            starts: tree.starts,
        }
    }

    pub(crate) fn restore(self) -> io::Result<CgroupTree> {
        Ok(CgroupTree {
            path: self.path,
            view: self.view,
            dir: self.dir.take()?,
            held: self.held.map(KeptFd::take).transpose()?.map(File::from),
            burns: self.burns,
            starts: self.starts,
        })
    }
}

/// A group.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupState {
    dir: KeptFd,
    view: String,
    killed: bool,
    limits_io: bool,
}

impl GroupState {
    pub(crate) fn of(group: &Cgroup, kept: &mut KeptFds) -> GroupState {
        GroupState {
            dir: kept.keep(&group.dir),
            view: group.view.clone(),
            killed: group.killed.load(Ordering::Relaxed),
            limits_io: group.limits_io.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn restore(self) -> io::Result<Cgroup> {
        Ok(Cgroup {
            dir: self.dir.take()?,
            view: self.view,
            killed: AtomicBool::new(self.killed),
            limits_io: AtomicBool::new(self.limits_io),
        })
    }
}
