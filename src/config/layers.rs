//! Reads and merges all layers: mainstay.toml, module.toml files, conf.d, environment, --set.
//! Owns the order of layers and every problem of reading a file.
//! Never checks keys or values: reading along the schema does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::origin::{Origin, SourceMap, SourceText};
use super::overrides;
use super::paths::{expand_pattern, normalize};
use super::problem::{LayerKind, Problem, Problems, SourceLocation};
use super::runtime_layer::RuntimeValue;
use super::sources::{ConfigSources, FILE};
use super::tree::{self, KeyTable, Node, TableEntry, TreeValue};
use super::trust::{self, Untrusted};

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The file that registers a module.
const MODULE_FILE: &str = "module.toml";

/// Every layer merged in one tree, unchecked.
#[derive(Debug, Clone)]
pub(crate) struct MergedLayers {
    pub(crate) texts: SourceMap,
    pub(crate) tree: Node,
    /// Absolute.
    pub(crate) config_dir: PathBuf,
    /// Absolute.
    pub(crate) project: PathBuf,
    /// The folders of the modules that have a `module.toml`.
    pub(crate) module_dirs: BTreeMap<String, PathBuf>,
    /// Every file that was read, in order.
    pub(crate) files: Vec<PathBuf>,
    /// Modules that the application runs itself.
    pub(crate) tasks: BTreeSet<String>,
    /// The values of `config set` that hold.
    pub(crate) overrides: Vec<RuntimeValue>,
    /// What `tree` is without them, where there are some.
    pub(crate) below: Option<Node>,
    /// Every file and folder on which the result depends, also those that are not there.
    pub(crate) consulted: BTreeSet<PathBuf>,
    /// What is odd, although it can run.
    pub(crate) warnings: Vec<Problem>,
}

/// Reads layers and collects problems.
struct LayerReader<'s> {
    sources: &'s ConfigSources,
    merged: MergedLayers,
    problems: Problems,
}

/// Reads all layers. A layer that cannot be read is a problem and missing in the tree.
pub(crate) fn read_all(sources: &ConfigSources) -> (MergedLayers, Problems) {
    let config_dir = normalize(&sources.folder);
    let project = config_dir.parent().unwrap_or(&config_dir).to_owned();
    let mut all = LayerReader {
        sources,
        merged: MergedLayers {
            texts: SourceMap::new(),
            tree: Node::table(),
            config_dir,
            project,
            module_dirs: BTreeMap::new(),
            files: Vec::new(),
            tasks: sources.tasks.iter().cloned().collect(),
            overrides: Vec::new(),
            below: None,
            consulted: BTreeSet::new(),
            warnings: Vec::new(),
        },
        problems: Problems::default(),
    };
    all.read_layers();
    (all.merged, all.problems)
}

impl LayerReader<'_> {
    fn read_layers(&mut self) {
        let config_dir = self.merged.config_dir.clone();
        let (main, folder) = match &self.sources.candidate {
            Some(candidate) if candidate.is_dir() => (candidate.join(FILE), candidate.clone()),
            Some(candidate) => (candidate.clone(), config_dir.clone()),
            None => (config_dir.join(FILE), config_dir.clone()),
        };
        if let Some(table) = self.read(&main, &config_dir) {
            self.merged.tree.value = TreeValue::Table(table);
        }
        let parts = self.conf_d(&folder.join("conf.d"));
        let beside = config_dir.join("conf.d");
        let read = parts.iter().filter_map(|path| self.read(path, &beside));
        let parts: Vec<KeyTable> = read.collect();
        let changes = overrides::read(self.sources, &mut self.merged.texts, &mut self.problems);
        let path = ["mainstay", "modules"];
        let own = overrides::find(&changes, &path).cloned();
        let own = own.or_else(|| {
            let part = |part: &KeyTable| table_at(part, &path).cloned();
            parts.iter().rev().find_map(part)
        });
        if let Some(patterns) = own.or_else(|| self.merged.tree.at(&path).cloned()) {
            self.read_modules(&patterns);
        }
        for part in parts {
            let origin = Origin::default();
            let value = TreeValue::Table(part);
            self.merged.tree.merge(Node { value, origin });
        }
        overrides::apply(changes, &mut self.merged, &mut self.problems);
        let said = self.sources.overrides.clone();
        overrides::apply_runtime_layer(said, &mut self.merged, &mut self.problems);
    }

    fn conf_d(&mut self, folder: &Path) -> Vec<PathBuf> {
        self.merged.consulted.insert(folder.to_owned());
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.unreadable(folder, &error);
                return Vec::new();
            }
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.ends_with(".toml") && !name.starts_with('.')
            })
            .collect();
        paths.sort();
        paths
    }

    /// Registers the modules of all folders that match the patterns.
    fn read_modules(&mut self, patterns: &Node) {
        let TreeValue::List(list) = &patterns.value else {
            return; // The pass along the schema says so.
        };
        for each in list {
            let TreeValue::Text(pattern) = &each.value else {
                continue;
            };
            let beside = self
                .merged
                .texts
                .get(each.origin)
                .and_then(|text| text.folder.clone());
            let beside = beside.unwrap_or_else(|| self.merged.config_dir.clone());
            let project = self.merged.project.to_string_lossy().into_owned();
            let filled = pattern.replace("${project}", &project);
            let found = expand_pattern(&beside, &filled, &mut self.merged.consulted);
            let files = found.iter().map(|folder| folder.join(MODULE_FILE));
            self.merged.consulted.extend(files);
            let folders: Vec<PathBuf> = found
                .into_iter()
                .filter(|path| has_module_file(path))
                .collect();
            if folders.is_empty() {
                self.no_module(each.origin, pattern, &normalize(&beside.join(&filled)));
            }
            for folder in folders {
                self.read_module(&folder, each.origin);
            }
        }
    }

    /// A pattern may have nothing to match yet; a folder that is named has to be there, and what a
    /// pattern looks into.
    fn no_module(&mut self, origin: Origin, pattern: &str, looked: &Path) {
        let shown = self.shown(looked);
        let parent = looked.parent().unwrap_or(looked);
        let is_open = pattern.contains('*');
        let is_searched = parent.to_string_lossy().contains('*') || parent.is_dir();
        let (message, hint) = match (is_open, looked.is_dir()) {
            (true, _) => (
                format!("cannot find a module: nothing matches {pattern:?}"),
                format!("looked for {shown}/{MODULE_FILE}"),
            ),
            (false, true) => (
                format!("cannot find a module: there is no {MODULE_FILE} in {shown}"),
                format!("write {shown}/{MODULE_FILE}, or take it out of mainstay.modules"),
            ),
            (false, false) => (
                format!("cannot find a module: there is no folder {shown}"),
                "correct the path, or take it out of mainstay.modules".to_owned(),
            ),
        };
        let problem = self.merged.texts.problem(origin, message).hint(hint);
        match is_open && is_searched {
            true => self.merged.warnings.push(problem),
            false => self.problems.push(|| problem),
        }
    }

    fn read_module(&mut self, folder: &Path, pattern: Origin) {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match self.merged.module_dirs.get(&name) {
            // Two patterns may match the same folder.
            Some(other) if other == folder => return,
            Some(other) => {
                let (first, second) = (self.shown(other), self.shown(folder));
                let message = format!("cannot register module {name} twice");
                let problem = self.merged.texts.problem(pattern, message);
                let hint = format!("it is in {first} and in {second}: rename one of the folders");
                return self.problems.push(|| problem.hint(hint));
            }
            None => {}
        }
        let path = folder.join(MODULE_FILE);
        self.merged
            .module_dirs
            .insert(name.clone(), folder.to_owned());
        let Some(mut table) = self.read(&path, folder) else {
            return;
        };
        let text = u32::try_from(self.merged.texts.all().len() - 1).unwrap_or(u32::MAX);
        if let Some(entry) = table.remove("module") {
            let message = "cannot use [module.…] in a module.toml".to_owned();
            let problem = self.merged.texts.problem(entry.key, message);
            let hint = "its keys stand without that prefix; the folder's name is the module's name";
            self.problems.push(|| problem.hint(hint));
        }
        let origin = Origin {
            text,
            start: 0,
            end: 0,
        };
        let value = TreeValue::Table(table);
        let later = nested(&["module", &name], Node { value, origin }, origin);
        self.merged.tree.merge(later);
    }

    /// Reads and parses one file; paths in it are relative to `folder`.
    fn read(&mut self, path: &Path, folder: &Path) -> Option<KeyTable> {
        let content = self.content(path)?;
        self.merged.files.push(path.to_owned());
        let number = u32::try_from(self.merged.texts.all().len()).unwrap_or(u32::MAX);
        let (parsed, errors) = DeTable::parse_recoverable(&content);
        let errors = without_consequences(errors);
        let table = errors
            .is_empty()
            .then(|| tree::from_table(parsed.into_inner(), number));
        let name = self.shown(path);
        let mut text = SourceText::new(LayerKind::File, name, Some(content));
        text.path = Some(path.to_owned());
        text.folder = Some(folder.to_owned());
        self.merged.texts.add(text);
        // Only the first error is reported: an unclosed value causes all that follow.
        let swallows = |message: &str| {
            ["unclosed array,", "unclosed inline table"]
                .iter()
                .any(|open| message.starts_with(open))
        };
        let mut later = errors.iter().skip(1).map(toml::de::Error::message);
        let open = later.rfind(|message| swallows(message));
        let open = open.map(|message| format!("before this, something is left open: {message}"));
        let told = if open.is_some() { 1 } else { errors.len() };
        for error in errors.iter().take(told) {
            let span = error.span().unwrap_or(0..0);
            let origin = tree::origin_of(number, &span);
            let message = format!("cannot read this line: {}", error.message());
            let problem = self.merged.texts.problem(origin, message);
            self.problems.push(|| match (error.message(), &open) {
                ("duplicate key", _) => problem.hint("this key stands in the file twice"),
                // A value that is wrong itself is the cause, and what is open follows from it.
                (message, Some(open)) if !message.starts_with("invalid ") => problem.hint(open),
                _ => problem,
            });
        }
        table
    }

    fn content(&mut self, path: &Path) -> Option<String> {
        self.merged.consulted.insert(path.to_owned());
        let edit = self.sources.edit.as_ref();
        if let Some(edit) = edit.filter(|edit| edit.path == path) {
            return Some(edit.after.clone());
        }
        match read_limited(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(content) => Some(content),
                Err(error) => {
                    let (good, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
                    let before = bytes.get(..good).unwrap_or_default();
                    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                    let mut place = SourceLocation::file(self.shown(path));
                    place.line = u32::try_from(line).ok();
                    let message = format!("cannot read this file: byte {good} is not UTF-8");
                    self.problems.push(|| {
                        Problem::new(message)
                            .at(place)
                            .hint("save it with the encoding UTF-8")
                    });
                    None
                }
            },
            Err(error) => {
                self.unreadable(path, &error);
                None
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let place = SourceLocation::file(self.shown(path));
        let hint = match error.kind() {
            _ if error.get_ref().is_some_and(|it| it.is::<Untrusted>()) => Untrusted::HINT,
            std::io::ErrorKind::PermissionDenied => "whoever runs mainstay must be able to read it",
            std::io::ErrorKind::NotFound => "`mainstay init` writes one to begin with",
            std::io::ErrorKind::FileTooLarge => "put modules into folders of their own",
            _ => "it must be a plain file",
        };
        let message = format!("cannot read this file: {error}");
        self.problems
            .push(|| Problem::new(message).at(place).hint(hint));
    }

    fn shown(&self, path: &Path) -> String {
        self.sources.display_path(path)
    }
}

/// That it is a plain file: a device may do something when it is opened, and has no end.
fn require_plain(about: &fs::Metadata) -> std::io::Result<()> {
    match about.is_dir() {
        true => Err(std::io::Error::new(
            std::io::ErrorKind::IsADirectory,
            "it is a directory",
        )),
        false if about.is_file() => Ok(()),
        false => Err(std::io::Error::other("it is no plain file")),
    }
}

fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    require_plain(&fs::metadata(path)?)?;
    let mut options = fs::OpenOptions::new();
    options.read(true);
    // A fifo that has taken the place of the file meanwhile must not block.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    let about = file.metadata()?;
    require_plain(&about)?;
    let too_large = || {
        let message = format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20);
        std::io::Error::new(std::io::ErrorKind::FileTooLarge, message)
    };
    if about.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0) + 1);
    trust::check(&file, path)?;
    // The file may have grown meanwhile.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Reads a file of a configuration as text, with the same limits.
pub(crate) fn read_text(path: &Path) -> std::io::Result<String> {
    let bytes = read_limited(path)?;
    String::from_utf8(bytes)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Whether a folder registers a module: a file that cannot be read is a problem, not absent.
/// A value that cannot be read leaves what holds it open, at the same place: that is no other
/// problem.
fn without_consequences(mut errors: Vec<toml::de::Error>) -> Vec<toml::de::Error> {
    let is_open = |error: &toml::de::Error| error.message().starts_with("unclosed ");
    let values = errors.iter().filter(|error| !is_open(error));
    let values: Vec<usize> = values.map(start_of).collect();
    errors.retain(|error| !is_open(error) || !values.contains(&start_of(error)));
    // The first in the file caused the others.
    errors.sort_by_key(start_of);
    errors
}

fn start_of(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn has_module_file(folder: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match folder.join(MODULE_FILE).symlink_metadata() {
        Ok(_) => true,
        Err(error) => ![NotFound, NotADirectory].contains(&error.kind()),
    }
}

fn table_at<'t>(table: &'t KeyTable, path: &[&str]) -> Option<&'t Node> {
    let (first, rest) = path.split_first()?;
    table.get(first)?.node.at(rest)
}

/// Nests a node in tables, one per key.
pub(crate) fn nested(path: &[&str], node: Node, origin: Origin) -> Node {
    path.iter().rev().fold(node, |node, key| {
        let entry = TableEntry { key: origin, node };
        let value = TreeValue::Table(KeyTable::one((*key).to_owned(), entry));
        // The origin of the table is that of its first key.
        let origin = Origin::default();
        Node { value, origin }
    })
}
