//! A watch over the files that modules are made of: patterns below folders.
//! Owns the folders that are watched for each pattern, new ones included, and what changed in them.
//! Never decides what follows from a change, and never reads a file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::folder_watch::is_remote;

/// Silence after a change until it is told: a save of many files is one change.
const SILENCE: Duration = Duration::from_millis(150);
/// A change is told after this time although more follow.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Interval of looks at folders whose changes the system does not tell.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Folders that are watched at most, of all modules together.
const FOLDERS_MAX: usize = 10_000;
/// How deep folders are looked into.
const DEPTH_MAX: usize = 64;
/// Files of new folders that are looked at; one of a module is enough to tell a change.
const FILES_MAX: usize = 10_000;

/// What is watched for one module.
#[derive(Debug, Clone)]
pub(crate) struct SourcePatterns {
    /// Where relative patterns begin.
    directory: PathBuf,
    files: GlobSet,
    ignored: GlobSet,
    /// The folders that patterns begin at, without wildcards.
    bases: BTreeSet<PathBuf>,
}

/// What changed for one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceChange {
    /// The first file, relative to the module's directory; None: too much changed to tell.
    pub(crate) path: Option<PathBuf>,
    /// How many changes there were.
    pub(crate) count: u32,
}

/// The watch over the sources of all modules, by a number of each.
pub(crate) struct SourceWatch {
    watcher: Option<Box<dyn Watcher + Send>>,
    polls: bool,
    folders: BTreeSet<PathBuf>,
    /// The newest plan whose patterns were set.
    plan: u64,
    shared: Arc<SharedChanges>,
}

/// What the system told, until it is taken.
#[derive(Debug, Default)]
pub(crate) struct SharedChanges {
    notify: Notify,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    modules: BTreeMap<u32, SourcePatterns>,
    excluded: BTreeSet<PathBuf>,
    /// For each folder that is watched: the modules, and the path that they know it by.
    folders: HashMap<PathBuf, Vec<(u32, PathBuf)>>,
    changed: BTreeMap<u32, SourceChange>,
    /// Folders that were removed or renamed: the system has forgotten their watches.
    gone: BTreeSet<PathBuf>,
    is_new_folder: bool,
}

impl SourcePatterns {
    /// Patterns and ignore patterns, both relative to a directory.
    ///
    /// # Errors
    /// The pattern that is none, and why.
    pub(crate) fn new(
        directory: &Path,
        patterns: &[String],
        ignored: &[String],
    ) -> Result<SourcePatterns, String> {
        let mut bases = BTreeSet::new();
        let (mut files, mut skip) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let glob = |pattern: &str| {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            glob.map_err(|error| error.to_string())
        };
        for pattern in patterns {
            let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
            files.add(glob(pattern)?);
            let is_plain = |part: &Component<'_>| {
                let text = part.as_os_str().to_string_lossy();
                !text.contains(['*', '?', '[', '{', '\\'])
            };
            let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
            let above = parts.iter().take(parts.len().saturating_sub(1));
            let base: PathBuf = above.take_while(|part| is_plain(part)).collect();
            bases.insert(directory.join(base));
        }
        for pattern in ignored {
            // As in a .gitignore: a name holds at every depth.
            let pattern = pattern.trim_end_matches('/');
            let anywhere = match pattern.contains('/') {
                true => pattern.trim_start_matches('/').to_owned(),
                false => format!("**/{pattern}"),
            };
            skip.add(glob(&anywhere)?);
        }
        let built = |set: GlobSetBuilder| set.build().map_err(|error| error.to_string());
        Ok(SourcePatterns {
            directory: directory.to_owned(),
            files: built(files)?,
            ignored: built(skip)?,
            bases,
        })
    }

    /// A path as patterns see it.
    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.directory).unwrap_or(path)
    }

    fn ignores(&self, path: &Path) -> bool {
        self.ignored.is_match(self.relative(path))
    }

    fn has(&self, path: &Path) -> bool {
        let path = self.relative(path);
        self.files.is_match(path) && !self.ignored.is_match(path)
    }
}

impl SourceWatch {
    /// A watch over nothing yet; the system is asked for nothing as long as that is so.
    pub(crate) fn new(shared: Arc<SharedChanges>) -> SourceWatch {
        SourceWatch {
            watcher: None,
            polls: false,
            folders: BTreeSet::new(),
            plan: 0,
            shared,
        }
    }

    /// Watches the patterns of a plan from now on, if no newer one was set before; nothing at or
    /// below `excluded` is a change. Blocks.
    pub(crate) fn set(
        &mut self,
        plan: u64,
        modules: BTreeMap<u32, SourcePatterns>,
        excluded: BTreeSet<PathBuf>,
    ) {
        if plan < self.plan {
            return;
        }
        self.plan = plan;
        let mut watched = self.shared.lock();
        watched
            .changed
            .retain(|module, _| modules.contains_key(module));
        (watched.modules, watched.excluded) = (modules, excluded);
        drop(watched);
        self.look(false);
    }

    /// Watches the folders that are new; what is in them is a change. Blocks.
    pub(crate) fn look_for_folders(&mut self) {
        self.look(true);
    }

    fn look(&mut self, new_is_change: bool) {
        let (modules, excluded, gone) = {
            let mut watched = self.shared.lock();
            watched.is_new_folder = false;
            let gone = std::mem::take(&mut watched.gone);
            (watched.modules.clone(), watched.excluded.clone(), gone)
        };
        let mut found = Search {
            excluded,
            wants_files: new_is_change,
            ..Search::default()
        };
        for (module, patterns) in &modules {
            for base in &patterns.bases {
                found.folder(*module, patterns, base, 0);
            }
        }
        if found.is_cut {
            tracing::warn!(
                "cannot watch all files of modules: more than {FOLDERS_MAX} folders; narrow \
                 `watch` or add to `watch_ignore`"
            );
        }
        let folders: BTreeSet<PathBuf> = found.folders.keys().cloned().collect();
        self.forget(&gone);
        self.follow(&folders);
        let mut watched = self.shared.lock();
        if new_is_change {
            for (module, folder, file) in found.files {
                if !watched.folders.contains_key(&folder) {
                    watched.change(module, Some(&file));
                }
            }
        }
        watched.folders = found.folders;
    }

    /// Drops the watches at and below these folders; one that is there again is watched anew.
    fn forget(&mut self, gone: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        self.folders.retain(|folder| {
            let is_gone = is_below(gone, folder);
            if is_gone {
                let _the_system_forgot_it = watcher.unwatch(folder);
            }
            !is_gone
        });
    }

    /// Brings the watches of the system to these folders.
    fn follow(&mut self, folders: &BTreeSet<PathBuf>) {
        let polls = folders.iter().any(|folder| is_remote(folder));
        if folders.is_empty() || polls != self.polls {
            (self.watcher, self.folders) = (None, BTreeSet::new());
        }
        self.polls = polls;
        if folders.is_empty() {
            return;
        }
        if self.watcher.is_none() {
            self.watcher = watcher(polls, &self.shared)
                .inspect_err(|error| tracing::warn!("cannot watch files of modules: {error}"))
                .ok();
        }
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.folders.difference(folders) {
            let _gone_with_its_folder = watcher.unwatch(gone);
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}: {error}", new.display());
            }
        }
        self.folders.clone_from(folders);
    }
}

fn watcher(polls: bool, shared: &Arc<SharedChanges>) -> notify::Result<Box<dyn Watcher + Send>> {
    let shared = Arc::clone(shared);
    let told = move |event: notify::Result<Event>| shared.tell(event);
    Ok(match polls {
        true => {
            let config = notify::Config::default().with_poll_interval(POLL_INTERVAL);
            Box::new(notify::PollWatcher::new(told, config)?)
        }
        false => Box::new(notify::recommended_watcher(told)?),
    })
}

impl SharedChanges {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            return;
        };
        if let EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) = event.kind {
            return;
        }
        // A file system that does not answer must not hold the lock.
        let are_folders: Vec<bool> = event.paths.iter().map(|path| path.is_dir()).collect();
        let is_moved = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        );
        let mut watched = self.lock();
        let before = (watched.count(), watched.is_new_folder);
        if event.need_rescan() {
            // What was lost may be any of them.
            let all: Vec<u32> = watched.modules.keys().copied().collect();
            all.iter().for_each(|module| watched.change(*module, None));
            watched.is_new_folder = true;
        }
        for (path, is_folder) in event.paths.iter().zip(are_folders) {
            if is_moved {
                watched.on_gone(path);
            }
            watched.on_path(path, is_folder);
        }
        if (watched.count(), watched.is_new_folder) != before {
            drop(watched);
            self.notify.notify_one();
        }
    }

    /// What changed since it was taken last.
    pub(crate) fn take(&self) -> BTreeMap<u32, SourceChange> {
        std::mem::take(&mut self.lock().changed)
    }

    /// Completes when something changed and nothing has for a moment. Returns what changed, and
    /// whether there may be new folders.
    #[expect(
        clippy::disallowed_methods,
        reason = "the silence of the disk is measured on the clock of the machine"
    )]
    pub(crate) async fn settled(&self) -> (BTreeMap<u32, SourceChange>, bool) {
        self.notify.notified().await;
        let begun = Instant::now();
        while begun.elapsed() < SILENCE_MAX {
            let more = tokio::time::timeout(SILENCE, self.notify.notified());
            if more.await.is_err() {
                break;
            }
        }
        let mut watched = self.lock();
        let changed = std::mem::take(&mut watched.changed);
        (changed, watched.is_new_folder)
    }
}

impl Watched {
    fn count(&self) -> u64 {
        let counts = self.changed.values().map(|change| u64::from(change.count));
        counts.sum()
    }

    fn change(&mut self, module: u32, path: Option<&Path>) {
        let path = match (self.modules.get(&module), path) {
            (Some(patterns), Some(path)) => Some(patterns.relative(path).to_owned()),
            _ => None,
        };
        let change = self
            .changed
            .entry(module)
            .or_insert(SourceChange { path, count: 0 });
        change.count = change.count.saturating_add(1);
    }

    fn on_gone(&mut self, path: &Path) {
        if self.folders.contains_key(path) {
            self.folders.retain(|folder, _| !folder.starts_with(path));
            self.gone.insert(path.to_owned());
            self.is_new_folder = true;
        }
    }

    fn on_path(&mut self, path: &Path, is_folder: bool) {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let Some(known) = self.folders.get(folder).cloned() else {
            return;
        };
        let is_folder = is_folder && !self.folders.contains_key(path);
        for (module, folder) in known {
            let path = folder.join(name);
            let Some(patterns) = self.modules.get(&module) else {
                continue;
            };
            if is_folder {
                self.is_new_folder |= !patterns.ignores(&path);
            } else if patterns.has(&path) && !is_below(&self.excluded, &path) {
                self.change(module, Some(&path));
            }
        }
    }
}

/// The folders in which files of patterns may be, and those files.
#[derive(Default)]
struct Search {
    excluded: BTreeSet<PathBuf>,
    folders: HashMap<PathBuf, Vec<(u32, PathBuf)>>,
    files: Vec<(u32, PathBuf, PathBuf)>,
    wants_files: bool,
    is_cut: bool,
}

impl Search {
    fn folder(&mut self, module: u32, patterns: &SourcePatterns, path: &Path, depth: usize) {
        if depth > DEPTH_MAX || is_below(&self.excluded, path) {
            return;
        }
        let Ok(real) = path.canonicalize() else {
            // It may come later: it does in the folder above.
            if depth == 0
                && let Some(above) = path.ancestors().skip(1).find(|above| above.is_dir())
            {
                self.add(module, above);
            }
            return;
        };
        // A link to a folder above would never end.
        let known = self.folders.get(&real);
        let is_known = known.is_some_and(|known| known.iter().any(|(other, _)| *other == module));
        if is_known || !self.add(module, path) {
            return;
        }
        for entry in std::fs::read_dir(&real).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let path = path.join(&name);
            if patterns.ignores(&path) {
                continue;
            }
            if path.is_dir() {
                self.folder(module, patterns, &path, depth + 1);
            } else if self.wants_files
                && self.files.len() < FILES_MAX
                && patterns.has(&path)
                && !is_below(&self.excluded, &path)
            {
                self.files.push((module, real.clone(), path));
            }
        }
    }

    fn add(&mut self, module: u32, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else {
            return false;
        };
        if self.folders.len() >= FOLDERS_MAX && !self.folders.contains_key(&real) {
            self.is_cut = true;
            return false;
        }
        let known = self.folders.entry(real).or_default();
        known.push((module, path.to_owned()));
        true
    }
}

fn is_below(excluded: &BTreeSet<PathBuf>, path: &Path) -> bool {
    path.ancestors().any(|above| excluded.contains(above))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(directory: &Path, files: &[&str], ignored: &[&str]) -> SourcePatterns {
        let all = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        SourcePatterns::new(directory, &all(files), &all(ignored)).expect("patterns")
    }

    #[test]
    fn a_pattern_says_where_it_begins_and_what_it_matches() {
        let at = Path::new("/p");
        let some = patterns(
            at,
            &["src/**/*.py", "./main.py", "a*/b.txt"],
            &["skip", "src/gen/*"],
        );
        let bases: Vec<&Path> = some.bases.iter().map(PathBuf::as_path).collect();
        assert_eq!(bases, [Path::new("/p"), Path::new("/p/src")]);
        for (path, is_one) in [
            ("/p/src/a.py", true),
            ("/p/src/x/y/a.py", true),
            ("/p/src/a.pyc", false),
            ("/p/main.py", true),
            ("/p/x/main.py", false),
            ("/p/a1/b.txt", true),
            ("/p/src/skip/a.py", true),
            ("/p/src/skip", false),
            ("/p/src/gen/a.py", false),
        ] {
            assert_eq!(some.has(Path::new(path)), is_one, "{path}");
        }
        assert!(some.ignores(Path::new("/p/src/skip")));
        SourcePatterns::new(at, &["src/[".to_owned()], &[]).expect_err("no pattern");
    }

    #[test]
    fn folders_are_found_by_way_of_links_and_never_twice() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("a path");
        for folder in ["src/a", "src/skip/b", "far"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.join("far"), root.join("src/far")).expect("a link");
            std::os::unix::fs::symlink(root.join("src"), root.join("src/loop")).expect("a link");
        }
        let some = patterns(&root, &["src/**/*.py"], &["skip"]);
        let mut found = Search::default();
        some.bases
            .iter()
            .for_each(|base| found.folder(7, &some, base, 0));
        let mut real: Vec<PathBuf> = found.folders.into_keys().collect();
        real.sort();
        let mut expected = vec![root.join("src"), root.join("src/a")];
        if cfg!(unix) {
            expected.insert(0, root.join("far"));
        }
        assert_eq!(real, expected);
    }
}
