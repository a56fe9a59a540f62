//! A watch over files, by the folders that they are in: an editor may replace a file, and a link
//! may be turned to another folder.
//! Owns the watches of the system, and what of them is worth a look.
//! Never reads a file and never reports what changed: the receiver reads everything again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{CreateKind, ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Silence after a change until it is reported: an editor saves in several steps.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(50);
/// A change is reported after this time although more follow.
const DEBOUNCE_MAX: Duration = Duration::from_millis(500);
/// Poll interval where the system does not report changes: on a network, or at its limit.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Links that a path may go through.
const LINKS_MAX: usize = 40;

/// A watch over files.
pub(crate) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    /// The folders that are watched, and which folder was at that path.
    folders: BTreeMap<PathBuf, FolderId>,
    names: Arc<Mutex<HashSet<OsString>>>,
    changes: Arc<Changes>,
}

/// Which folder it is: a path may be that of another one later.
type FolderId = (u64, Option<std::time::SystemTime>);

/// Reports that something changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    notify: Notify,
    polls: std::sync::atomic::AtomicBool,
}

impl FolderWatch {
    /// A watch over nothing yet.
    pub(crate) fn new(changes: Arc<Changes>) -> FolderWatch {
        let names: Arc<Mutex<HashSet<OsString>>> = Arc::default();
        let (told, known) = (Arc::clone(&changes), Arc::clone(&names));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let names = known.lock().unwrap_or_else(PoisonError::into_inner);
            // What is lost may be anything.
            if event.map_or(true, |event| is_worth_a_look(&event, &names)) {
                told.notify.notify_one();
            }
        });
        FolderWatch {
            watcher: watcher
                .inspect_err(|error| tracing::warn!("cannot watch files: {error}"))
                .ok(),
            folders: BTreeMap::new(),
            names,
            changes,
        }
    }

    /// Watches these files and folders, whether they are there or not; blocks. Returns whether a
    /// folder is watched that was not: something may have changed in it before.
    pub(crate) fn set(&mut self, paths: &BTreeSet<PathBuf>) -> bool {
        let mut names: HashSet<OsString> = HashSet::new();
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        for path in paths {
            follow(path, &mut names, &mut folders);
        }
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let known = folders.into_iter().filter_map(|folder| {
            let id = folder_id(&folder)?;
            Some((folder, id))
        });
        let known: BTreeMap<PathBuf, FolderId> = known.collect();
        let mut polls = self.watcher.is_none();
        for (folder, id) in &self.folders {
            if known.get(folder) != Some(id)
                && let Some(watcher) = &mut self.watcher
            {
                let _gone_with_its_folder = watcher.unwatch(folder);
            }
        }
        let mut is_new = false;
        for (folder, id) in &known {
            polls |= is_remote(folder);
            if self.folders.get(folder) == Some(id) {
                continue;
            }
            is_new = true;
            if let Some(watcher) = &mut self.watcher
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
            {
                tracing::warn!("cannot watch {}: {error}", folder.display());
                polls = true;
            }
        }
        self.folders = known;
        let order = std::sync::atomic::Ordering::Relaxed;
        if polls != self.changes.polls.swap(polls, order) {
            self.changes.notify.notify_one();
        }
        is_new
    }
}

impl Changes {
    /// Completes when something changed and nothing has for a moment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the silence of the disk is measured on the clock of the machine"
    )]
    pub(crate) async fn settled(&self) {
        let polls = self.polls.load(std::sync::atomic::Ordering::Relaxed);
        let next = self.notify.notified();
        if polls {
            let _changed_or_time = tokio::time::timeout(POLL_INTERVAL, next).await;
        } else {
            next.await;
        }
        let begun = Instant::now();
        while begun.elapsed() < DEBOUNCE_MAX {
            let more = tokio::time::timeout(DEBOUNCE, self.notify.notified());
            if more.await.is_err() {
                return;
            }
        }
    }
}

/// Whether an event may be about a file that matters: by its name, or as a folder or a link.
fn is_worth_a_look(event: &Event, names: &HashSet<OsString>) -> bool {
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            names.contains(name) || Path::new(name).extension() == Some("toml".as_ref())
        })
    };
    match event.kind {
        EventKind::Access(_) => false,
        EventKind::Create(CreateKind::Folder)
        | EventKind::Remove(RemoveKind::Folder)
        | EventKind::Modify(ModifyKind::Name(_)) => true,
        _ => event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(named),
    }
}

/// Adds the folders in which a change of `path` is seen, and the names that it shows under: its
/// own, and those of the links on the way.
fn follow(path: &Path, names: &mut HashSet<OsString>, folders: &mut BTreeSet<PathBuf>) {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(parent) = path.parent() else {
            return;
        };
        names.extend(path.file_name().map(ToOwned::to_owned));
        match parent.canonicalize() {
            Ok(real) => {
                if real != parent {
                    links_above(parent, names, folders);
                }
                folders.insert(real.clone());
                if path.is_dir() {
                    folders.extend(path.canonicalize());
                }
                match fs::read_link(&path) {
                    Ok(target) => path = real.join(target),
                    Err(_) => return,
                }
            }
            // It appears in the nearest folder that is there.
            Err(_) => path = parent.to_owned(),
        }
    }
}

/// The folders of the links in a path: turning one to another folder changes what is below it.
fn links_above(path: &Path, names: &mut HashSet<OsString>, folders: &mut BTreeSet<PathBuf>) {
    let mut links = path.ancestors().filter(|path| path.is_symlink());
    let Some(link) = links.next() else {
        return;
    };
    names.extend(link.file_name().map(ToOwned::to_owned));
    if let Some(Ok(parent)) = link.parent().map(Path::canonicalize) {
        folders.insert(parent);
    }
    for link in links {
        names.extend(link.file_name().map(ToOwned::to_owned));
        folders.extend(link.parent().and_then(|parent| parent.canonicalize().ok()));
    }
}

fn folder_id(folder: &Path) -> Option<FolderId> {
    let about: io::Result<fs::Metadata> = fs::metadata(folder);
    let about = about.ok().filter(fs::Metadata::is_dir)?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&about);
    #[cfg(not(unix))]
    let number = 0;
    Some((number, about.created().ok()))
}

/// Whether a folder is on a file system whose changes the system does not report.
#[cfg(target_os = "linux")]
pub(crate) fn is_remote(folder: &Path) -> bool {
    use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
    /// CIFS, SMB2 and 9P, which nix does not name.
    const OTHERS: [u32; 3] = [0xff53_4d42, 0xfe53_4d42, 0x0102_1997];
    let is_remote = |kind: FsType| {
        let named = [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, FUSE_SUPER_MAGIC].contains(&kind);
        named || OTHERS.contains(&(kind.0 as u32))
    };
    statfs(folder).is_ok_and(|about| is_remote(about.filesystem_type()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_remote(_: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn folders(path: &Path) -> BTreeSet<PathBuf> {
        let (mut names, mut folders) = (HashSet::new(), BTreeSet::new());
        follow(path, &mut names, &mut folders);
        folders
    }

    #[test]
    fn a_file_is_watched_where_it_is_and_where_each_link_to_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("a path");
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, root.join(name)).expect("a link");
        };
        for folder in ["config", "config/..1", "far"] {
            fs::create_dir(root.join(folder)).expect("a folder");
        }
        // As a volume of Kubernetes: the file by way of a link to a folder.
        fs::write(root.join("config/..1/a.toml"), "").expect("a file");
        link("..1", "config/..data");
        link("..data/a.toml", "config/a.toml");
        let found = folders(&root.join("config/a.toml"));
        assert_eq!(
            found,
            BTreeSet::from([root.join("config"), root.join("config/..1")])
        );
        // As stow does it: a link to a file far away.
        fs::write(root.join("far/b.toml"), "").expect("a file");
        link("../far/b.toml", "config/b.toml");
        let found = folders(&root.join("config/b.toml"));
        assert_eq!(
            found,
            BTreeSet::from([root.join("config"), root.join("far")])
        );
        // The folder itself is a link.
        link("config", "current");
        let found = folders(&root.join("current/c.toml"));
        assert_eq!(found, BTreeSet::from([root.clone(), root.join("config")]));
        // What is not there yet.
        let found = folders(&root.join("config/conf.d/x.toml"));
        assert_eq!(found, BTreeSet::from([root.join("config")]));
        link("loop", "loop");
        assert_eq!(folders(&root.join("loop")), BTreeSet::from([root.clone()]));
    }
}
