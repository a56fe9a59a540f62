//! Control groups (v2): one per instance, so that a tree is killed whole.
//! Owns a subtree of our own group, unique for a state directory, and removes it at the end.
//! Never touches a group that is not ours or was not delegated to us.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_process::RunLimits;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, access, unlinkat};

use super::processes::ProcessHandle;

/// How long a killed group may take to become empty before it is left behind.
const EMPTY_WITHIN: Duration = Duration::from_millis(500);

/// What begins the name of every subtree of ours.
const PREFIX: &str = "mainstay-";
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

/// Where a group is to be found in the file system.
fn path_of(view: &str) -> Option<PathBuf> {
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
fn group_of(pid: &str) -> Option<String> {
    let text = super::procfs::read_text(&format!("{pid}/cgroup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// Writes a file that the kernel gives, in one go.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
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
    path: PathBuf,
    view: String,
    dir: OwnedFd,
    /// Locked as long as this process lives: nobody else removes the subtree meanwhile.
    _held: Option<File>,
    /// On some kernels a child born into a group that was killed once is killed at birth.
    burns: bool,
    /// Whether children may be born inside at all.
    pub(crate) births: bool,
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
        remove_orphans(&site.path, YOUNG);
        if site.own_leaf {
            if !move_self {
                return None;
            }
            let leaf = site.path.join("mainstay.holder");
            let _ = fs::create_dir(&leaf); // may be there from an earlier start
            write(&leaf.join("cgroup.procs"), "0").ok()?;
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
            _held: held,
            burns: true,
            births: true,
        })
    }

    /// Finds out what this kernel does with children born into groups; `lives` bears one and says
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
        (self.births, self.burns) = (first, first && !again);
        drop(probed);
        self.forget("probe");
    }

    /// The group for the next run of an instance, and whether it may be born inside.
    pub(crate) fn recreate(
        &self,
        instance: &str,
        old: Option<Arc<Cgroup>>,
    ) -> Option<(Arc<Cgroup>, bool)> {
        if let Some(group) = &old
            && !(self.burns && group.killed.load(Ordering::Relaxed))
        {
            return old.map(|group| (group, self.births));
        }
        let name = format!("m-{instance}");
        let make = || mkdirat(&self.dir, name.as_str(), Mode::from_bits_truncate(0o755)).is_ok();
        let remove = || unlinkat(&self.dir, name.as_str(), UnlinkatFlags::RemoveDir).is_ok();
        // One of that name is burnt, or of an instance that was forgotten. If something in it is
        // still dying it stays, and the child moves in by itself.
        let fresh = make() || (remove() && make());
        let group = self.open(name, !fresh)?;
        Some((Arc::new(group), self.births && (fresh || !self.burns)))
    }

    fn open(&self, name: String, killed: bool) -> Option<Cgroup> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(&self.dir, name.as_str(), flags, Mode::empty()).ok()?;
        let view = format!("{}/{name}", self.view);
        Some(Cgroup {
            dir,
            view,
            killed: AtomicBool::new(killed),
        })
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

/// Kills those of a group whose main thread has ended: the kernel takes them for dead when it
/// kills a group.
fn kill_headless(mut members: File, is_member: impl Fn(i32) -> bool) {
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

/// Removes what holders and applications that were killed left behind: subtrees of our user that
/// nobody holds any more and in which nothing lives. The kernel refuses to remove any other.
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

/// Whether a group is this one or below it.
fn is_in(view: &str, above: &str) -> bool {
    let inside = view.strip_prefix(above);
    inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_populated(path: &Path) -> bool {
    let events = fs::read_to_string(path.join("cgroup.events"));
    events.is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
}

fn remove_tree(path: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            }
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

/// Returns the directory of the control group that a holder made for an instance, if its main
/// process is in it.
#[must_use]
pub fn group_dir(instance: &str, pid: u32) -> Option<PathBuf> {
    place_of_instance(instance, pid.cast_signed()).map(|(_, path)| path)
}

fn place_of_instance(instance: &str, pid: i32) -> Option<(String, PathBuf)> {
    let view = group_of(&pid.to_string())?;
    let (tree, group) = view.rsplit_once('/')?;
    let own = tree.rsplit_once('/')?.1.starts_with(PREFIX);
    if !own || group.strip_prefix("m-") != Some(instance) {
        return None;
    }
    let path = path_of(&view)?;
    Some((view, path))
}

/// The group of one instance.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dir: OwnedFd,
    view: String,
    killed: AtomicBool,
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
        })
    }

    fn file(&self, name: &str, flags: OFlag) -> Option<File> {
        let fd = openat(&self.dir, name, flags | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        Some(File::from(fd))
    }

    /// Where a child that was born outside writes itself in.
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
                kill_headless(members, |pid| self.contains(pid));
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

    /// Whether a process lies in it.
    pub(crate) fn contains(&self, pid: i32) -> bool {
        group_of(&pid.to_string()).is_some_and(|view| self.is_above(&view))
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

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
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
        locked.try_lock().unwrap();
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
