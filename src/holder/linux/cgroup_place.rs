//! Where control groups are: in the view of the kernel and in the file system, and who is in which.
//! Reads at the moment it is called, for the threads and for the runtime.
//! Never opens or changes a group.

use std::fs;
use std::path::{Path, PathBuf};

/// What begins the name of every subtree of a holder.
pub(super) const PREFIX: &str = "mainstay-";

/// Where a group is to be found in the file system.
pub(super) fn path_of(view: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (root, mount) = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut words = place.split(' ').skip(3);
        let found = (words.next()?, words.next()?);
        kind.starts_with("cgroup2 ").then_some(found)
    })?;
    let inside = view.strip_prefix(root.trim_end_matches('/'))?;
    if inside.contains("..") || mount.contains('\\') {
        return None;
    }
    Some(Path::new(mount).join(inside.trim_start_matches('/')))
}

/// The v2 control group of a process (`/` is the root of our view).
pub(super) fn group_of(pid: &str) -> Option<String> {
    let text = super::procfs::read_text(&format!("{pid}/cgroup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// Whether a group is this one or below it.
pub(super) fn is_in(view: &str, above: &str) -> bool {
    let inside = view.strip_prefix(above);
    inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the directory of the control group that a holder made for an instance, if its main
/// process is in it.
#[must_use]
pub fn group_dir(instance: &str, pid: u32) -> Option<PathBuf> {
    place_of_instance(instance, pid.cast_signed()).map(|(_, path)| path)
}

pub(super) fn place_of_instance(instance: &str, pid: i32) -> Option<(String, PathBuf)> {
    let view = group_of(&pid.to_string())?;
    let (tree, group) = view.rsplit_once('/')?;
    let own = tree.rsplit_once('/')?.1.starts_with(PREFIX);
    if !own || group.strip_prefix("m-") != Some(instance) {
        return None;
    }
    let path = path_of(&view)?;
    Some((view, path))
}
