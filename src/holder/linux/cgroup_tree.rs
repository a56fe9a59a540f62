//! Control groups (v2) of a holder: one per instance, in a subtree that is unique for a state
//! directory. Owns the subtree, which is removed at the end.
//! Never touches a group that is not of this holder or was not delegated to it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, access, unlinkat};

use super::cgroup::{Cgroup, EMPTY_WITHIN, kill_headless};
use super::cgroup_place::{PREFIX, group_of, is_in, path_of};
use super::processes::process;

/// A subtree that nobody holds is left alone this long: it may just be made.
const YOUNG: Duration = Duration::from_mins(5);

/// A place in the hierarchy where we may make groups.
#[derive(Debug, Clone)]
pub(crate) struct CgroupRoot {
    path: PathBuf,
    view: String,
    /// systemd wants no process beside groups: we move to a leaf of our own.
    own_leaf: bool,
}

impl CgroupRoot {
    /// Whether groups can be made here without moving this process, which may not be ours alone.
    pub(crate) fn without_moving(&self) -> bool {
        !self.own_leaf
    }

    /// Removes what holders and applications that were killed left behind: subtrees of our user
    /// that nobody holds any more and in which nothing lives.
    pub(crate) fn remove_orphans(&self) {
        remove_orphans(&self.path, YOUNG);
    }
}

/// Finds a place that is rightly ours; None where trees must be walked.
pub(crate) fn find_cgroup_root() -> Option<CgroupRoot> {
    let view = group_of("self")?;
    let own = CgroupRoot {
        path: path_of(&view)?,
        view: view.trim_end_matches('/').to_owned(),
        own_leaf: false,
    };
    if !Path::new("/run/systemd/system").is_dir() {
        return writable(&own.path).then_some(own);
    }
    let parent = CgroupRoot {
        path: own.path.parent()?.to_owned(),
        view: own
            .view
            .rsplit_once('/')
            .map_or_else(String::new, |(above, _)| above.to_owned()),
        own_leaf: false,
    };
    let own = CgroupRoot {
        own_leaf: true,
        ..own
    };
    [own, parent]
        .into_iter()
        .find(|site| writable(&site.path) && delegated(&site.path))
}

/// Writes a file that the kernel gives, in one go.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// The runtime was started before: beside a process the kernel gives groups no controllers.
fn move_children(from: &Path, to: &Path) {
    let parent = std::process::id().cast_signed();
    let members = fs::read_to_string(from.join("cgroup.procs")).unwrap_or_default();
    let members = members.lines().filter_map(|line| line.parse().ok());
    for child in members.filter(|pid| process(*pid).is_some_and(|one| one.parent == parent)) {
        let _ = write(&to.join("cgroup.procs"), &child.to_string()); // it may have exited
    }
}

fn writable(path: &Path) -> bool {
    let may = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    may(path) && may(&path.join("cgroup.procs"))
}

#[expect(unsafe_code, reason = "getxattr")]
fn delegated(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    [c"user.delegate", c"trusted.delegate"].iter().any(|name| {
        let mut value = [0u8; 4];
        // SAFETY: NUL-terminated strings and a buffer of the stated length.
        let length = unsafe {
            let place = value.as_mut_ptr().cast();
            libc::getxattr(path.as_ptr(), name.as_ptr(), place, value.len())
        };
        length == 1 && value[0] == b'1'
    })
}

/// Our subtree.
#[derive(Debug)]
pub(crate) struct CgroupTree {
    pub(crate) path: PathBuf,
    pub(crate) view: String,
    pub(crate) dir: OwnedFd,
    /// Locked as long as this process lives: nobody else removes the subtree meanwhile.
    pub(crate) held: Option<File>,
    /// On some kernels a child made in a group that was killed once is killed at once.
    pub(crate) burns: bool,
    /// Whether children may be made inside at all.
    pub(crate) starts: bool,
}

impl CgroupTree {
    /// Makes the subtree; what an earlier holder of the same state directory left is killed. Its
    /// name is of that directory alone, whose lock this holder has: no living one has it, whatever
    /// else is locked. None when the place turns out to be unusable.
    pub(crate) fn make(
        site: &CgroupRoot,
        name: &str,
        unique_name: &str,
        move_self: bool,
    ) -> Option<CgroupTree> {
        if site.own_leaf {
            if !move_self {
                return None;
            }
            let leaf = site.path.join("mainstay.holder");
            let _ = fs::create_dir(&leaf); // may be there from an earlier start
            write(&leaf.join("cgroup.procs"), "0").ok()?;
            move_children(&site.path, &leaf);
        }
        let folder = format!("{PREFIX}{name}-{unique_name}");
        let path = site.path.join(&folder);
        let view = format!("{}/{folder}", site.view);
        remove(&path, &view);
        // Others may pass through to their limits; who cannot read a directory cannot lock it.
        DirBuilder::new().mode(0o711).create(&path).ok()?;
        let held = File::open(&path).ok();
        let held = held.filter(|file| file.try_lock().is_ok());
        for controller in ["+cpu", "+memory", "+pids", "+io"] {
            // An absent controller is reported by the runtime.
            if site.own_leaf {
                let _ = write(&site.path.join("cgroup.subtree_control"), controller);
            }
            let _ = write(&path.join("cgroup.subtree_control"), controller);
        }
        let usable = path.join("cgroup.kill").exists();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(&path, flags, Mode::empty()).ok().filter(|_| usable);
        let Some(dir) = dir else {
            remove(&path, &view);
            return None;
        };
        Some(CgroupTree {
            path,
            view,
            dir,
            held,
            burns: true,
            starts: true,
        })
    }

    /// Finds out what this kernel does with children made in groups; `lives` makes one and says
    /// whether it got as far as its exec.
    pub(crate) fn probe(&mut self, mut lives: impl FnMut(&Cgroup) -> bool) {
        let probed = self.recreate("probe", None);
        let (first, again) = match &probed {
            Some((group, _)) => {
                let first = lives(group);
                group.kill();
                (first, first && lives(group))
            }
            None => (false, false),
        };
        (self.starts, self.burns) = (first, first && !again);
        drop(probed);
        self.forget("probe");
    }

    /// The group for the next run of an instance, and whether it may be made inside.
    pub(crate) fn recreate(
        &self,
        instance: &str,
        old: Option<Arc<Cgroup>>,
    ) -> Option<(Arc<Cgroup>, bool)> {
        if let Some(group) = &old
            && !(self.burns && group.was_killed())
        {
            return old.map(|group| (group, self.starts));
        }
        let name = format!("m-{instance}");
        let make = || mkdirat(&self.dir, name.as_str(), Mode::from_bits_truncate(0o755)).is_ok();
        let remove = || unlinkat(&self.dir, name.as_str(), UnlinkatFlags::RemoveDir).is_ok();
        // One of that name is burnt, or of an instance that was forgotten. If something in it is
        // still dying it stays, and the child moves in by itself.
        let fresh = make() || (remove() && make());
        let group = self.open(name, !fresh)?;
        Some((Arc::new(group), self.starts && (fresh || !self.burns)))
    }

    fn open(&self, name: String, killed: bool) -> Option<Cgroup> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(&self.dir, name.as_str(), flags, Mode::empty()).ok()?;
        let view = format!("{}/{name}", self.view);
        Some(Cgroup::new(dir, view, killed))
    }

    /// Removes an instance's group; what is still dying in it stays until the end.
    pub(crate) fn forget(&self, instance: &str) {
        remove_tree(&self.path.join(format!("m-{instance}")));
    }

    /// Kills and removes everything.
    pub(crate) fn remove_all(&self) {
        remove(&self.path, &self.view);
    }
}

/// Kills what is in a group and removes it with the groups in it.
fn remove(path: &Path, view: &str) {
    if !path.exists() {
        return;
    }
    let _ = write(&path.join("cgroup.kill"), "1");
    let end = Instant::now() + EMPTY_WITHIN;
    while !remove_tree(path) && Instant::now() < end {
        let inside = |pid: i32| group_of(&pid.to_string()).is_some_and(|at| is_in(&at, view));
        for group in fs::read_dir(path).into_iter().flatten().flatten() {
            if let Ok(members) = File::open(group.path().join("cgroup.procs")) {
                kill_headless(members, inside);
            }
        }
        // The kernel gives no event we could keep here.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// As [`CgroupRoot::remove_orphans`]. The kernel refuses to remove any other.
fn remove_orphans(site: &Path, young: Duration) {
    let us = nix::unistd::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(site) else {
        return;
    };
    let ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(PREFIX);
    for entry in entries.flatten().filter(|entry| ours(&entry.file_name())) {
        let Ok(dir) = File::open(entry.path()) else {
            continue;
        };
        let old = dir.metadata().is_ok_and(|seen| {
            let age = seen.modified().ok().and_then(|at| at.elapsed().ok());
            seen.uid() == us && age.is_some_and(|age| age >= young)
        });
        if old && dir.try_lock().is_ok() && !is_populated(&entry.path()) {
            remove_tree(&entry.path());
        }
    }
}

fn is_populated(path: &Path) -> bool {
    let events = fs::read_to_string(path.join("cgroup.events"));
    events.is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
}

fn remove_tree(path: &Path) -> bool {
    // Most have no group in them.
    if fs::remove_dir(path).is_ok() {
        return true;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok() || !path.exists()
}

/// Returns the controllers that groups of modules have here; none where no groups can be made.
/// `alone`: this process is not part of an application, and may move to a group of its own.
#[must_use]
pub fn group_controllers(alone: bool) -> Option<Vec<String>> {
    let root = find_cgroup_root().filter(|root| alone || root.without_moving())?;
    let file = match root.own_leaf {
        true => "cgroup.controllers",
        false => "cgroup.subtree_control",
    };
    let text = fs::read_to_string(root.path.join(file)).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_lock_on_a_group_keeps_no_holder_from_what_an_earlier_one_left() {
        let Some(site) = find_cgroup_root().filter(CgroupRoot::without_moving) else {
            eprintln!("skipped: no control groups may be made here");
            return;
        };
        let name = format!("locked.{}", std::process::id());
        let first = CgroupTree::make(&site, &name, "1", true).unwrap();
        let mode = fs::metadata(&first.path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o711, "another user could open it, and lock it");
        let (group, _) = first.recreate("module", None).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = child.id().to_string();
        group.procs().unwrap().write_all(id.as_bytes()).unwrap();
        let path = first.path.clone();
        drop((first, group)); // its holder is killed, and another process has locked the group
        let locked = File::open(&path).unwrap();
        locked.lock().unwrap(); // a child that another test makes may have a copy until its exec
        let second = CgroupTree::make(&site, &name, "1", true).unwrap();
        assert_eq!(second.path, path);
        assert_eq!(child.wait().unwrap().code(), None, "it was not killed");
        second.remove_all();
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_holder_left_empty_is_removed_and_nothing_else() {
        let Some(site) = find_cgroup_root().filter(CgroupRoot::without_moving) else {
            eprintln!("skipped: no control groups may be made here");
            return;
        };
        // A place of this test's own: the real ones beside it are not looked at.
        let own = site
            .path
            .join(format!("mainstay-test.{}", std::process::id()));
        fs::create_dir(&own).unwrap();
        let at = |name: &str| own.join(name);
        for name in [
            "mainstay-dead-1",
            "mainstay-lives-2",
            "mainstay-full-3",
            "other-4",
        ] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::create_dir(at("mainstay-dead-1").join("m-module")).unwrap();
        let held = File::open(at("mainstay-lives-2")).unwrap();
        held.try_lock().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        write(
            &at("mainstay-full-3").join("cgroup.procs"),
            &child.id().to_string(),
        )
        .unwrap();

        remove_orphans(&own, YOUNG);
        assert!(at("mainstay-dead-1").exists(), "it may just be made");
        remove_orphans(&own, Duration::ZERO);
        let left = |name: &str| at(name).exists();
        assert!(!left("mainstay-dead-1"));
        assert!(left("mainstay-lives-2") && left("mainstay-full-3") && left("other-4"));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(held);
        remove(&own, &site.view);
        assert!(!own.exists());
    }
}
