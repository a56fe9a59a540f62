//! There are no control groups: trees are walked.
//! Owns nothing: none of these can exist, so nothing of it is ever run.
//! Never differs in its names from what Linux has.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use mainstay_process::RunLimits;
use serde::{Deserialize, Serialize};

/// A place where groups may be made: nowhere.
#[derive(Debug, Clone)]
pub(crate) enum CgroupRoot {}

impl CgroupRoot {
    pub(crate) fn without_moving(&self) -> bool {
        match *self {}
    }

    pub(crate) fn remove_orphans(&self) {
        match *self {}
    }
}

pub(crate) fn find_cgroup_root() -> Option<CgroupRoot> {
    None
}

/// Our groups.
#[derive(Debug)]
pub(crate) enum CgroupTree {}

impl CgroupTree {
    pub(crate) fn make(site: &CgroupRoot, _: &str, _: &str, _: bool) -> Option<CgroupTree> {
        match *site {}
    }

    pub(crate) fn probe(&mut self, _: impl FnMut(&Cgroup) -> bool) {
        match *self {}
    }

    pub(crate) fn recreate(&self, _: &str, _: Option<Arc<Cgroup>>) -> Option<(Arc<Cgroup>, bool)> {
        match *self {}
    }

    pub(crate) fn forget(&self, _: &str) {
        match *self {}
    }

    pub(crate) fn remove_all(&self) {
        match *self {}
    }
}

/// The group of one instance.
#[derive(Debug)]
pub(crate) enum Cgroup {}

impl Cgroup {
    pub(crate) fn position(_: &[Arc<Cgroup>], _: i32) -> Option<usize> {
        None
    }

    pub(crate) fn of_instance(_: &str, _: i32) -> Option<Cgroup> {
        None
    }

    pub(crate) fn procs(&self) -> Option<File> {
        match *self {}
    }

    pub(crate) fn kill(&self) {
        match *self {}
    }

    pub(crate) fn is_empty(&self) -> bool {
        match *self {}
    }

    pub(crate) fn kill_rest(&self) -> bool {
        match *self {}
    }

    pub(crate) fn freeze(&self, _: bool) {
        match *self {}
    }

    pub(crate) fn limit(&self, _: &RunLimits) {
        match *self {}
    }

    pub(crate) fn wait_until_empty(&self) {
        match *self {}
    }

    pub(crate) fn oom_kills(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn view(&self) -> CgroupView {
        match *self {}
    }
}

/// The place of a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum CgroupView {}

impl CgroupView {
    pub(crate) fn contains(&self, _: i32) -> bool {
        match *self {}
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
