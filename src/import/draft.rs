//! The modules that an import makes, before they are text.
//! Owns their names, their keys in the terms of mainstay, and the notes on what was lost.
//! Never checks a value: `mainstay check` does, of the written files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use super::wrapper::wrapper_advice;
use super::{Fault, units};

/// All that was read.
#[derive(Debug, Default)]
pub(crate) struct Import {
    /// A name that the file gives the whole.
    pub(crate) name: Option<String>,
    pub(crate) modules: Vec<Draft>,
    pub(crate) notes: Vec<Note>,
    file: String,
    folder: PathBuf,
}

/// Something that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) module: Option<String>,
    pub(crate) text: String,
}

/// One module.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) name: String,
    /// What its file calls it.
    pub(crate) original: String,
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The folder that relative paths of its file begin at.
    pub(crate) base: PathBuf,
    /// Where it runs, as written; None: in `base`.
    pub(crate) directory: Option<String>,
    pub(crate) keys: toml::Table,
}

impl Import {
    /// Begins a file.
    pub(crate) fn begin(&mut self, file: &str, folder: PathBuf) {
        file.clone_into(&mut self.file);
        self.folder = folder;
    }

    /// The name of the file that is read.
    pub(crate) fn file_name(&self) -> &str {
        &self.file
    }

    /// The folder of the file that is read.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A module without keys.
    pub(crate) fn draft(&self, original: &str, line: usize) -> Draft {
        Draft {
            name: usable_name(original),
            original: original.to_owned(),
            file: self.file.clone(),
            line,
            base: self.folder.clone(),
            directory: None,
            keys: toml::Table::new(),
        }
    }

    /// A module whose failure stops no other one, as most programs that supervise see it.
    pub(crate) fn independent(&self, original: &str, line: usize) -> Draft {
        let mut draft = self.draft(original, line);
        draft.set("required", false);
        draft
    }

    /// Adds a module.
    pub(crate) fn add(&mut self, draft: Draft) -> Result<(), Fault> {
        if let Some(other) = self.modules.iter().find(|other| other.name == draft.name) {
            let text = format!(
                "{:?} and {:?} would both be the module {:?}; rename one",
                other.original, draft.original, draft.name
            );
            return Err(Fault::new(draft.line, text));
        }
        if draft.name != draft.original {
            let (name, original) = (&draft.name, &draft.original);
            let text = format!("{original:?} is called {name} here: a-z, 0-9, - and _ make a name");
            self.note(draft.line, "", text);
        }
        let command = draft.keys.get("command").and_then(Value::as_array);
        let words = command.into_iter().flatten().filter_map(Value::as_str);
        let words: Vec<String> = words.map(ToOwned::to_owned).collect();
        if let Some(advice) = wrapper_advice(&words) {
            self.note(
                draft.line,
                &draft.name,
                format!("its command runs by {advice}"),
            );
        }
        self.modules.push(draft);
        Ok(())
    }

    /// Says that something of a module could not be kept.
    pub(crate) fn note(&mut self, line: usize, module: &str, text: impl Into<String>) {
        self.notes.push(Note {
            file: self.file.clone(),
            line,
            module: (!module.is_empty()).then(|| module.to_owned()),
            text: text.into(),
        });
    }

    /// The same, unless it was said of this module already.
    pub(crate) fn note_once(&mut self, line: usize, module: &str, text: String) {
        let is_known = |note: &Note| note.module.as_deref() == Some(module) && note.text == text;
        if !self.notes.iter().any(is_known) {
            self.note(line, module, text);
        }
    }

    /// Settles what depends on other modules: an edge to a module that is not there is dropped.
    pub(crate) fn finish(&mut self) {
        let names: Vec<String> = self.modules.iter().map(|each| each.name.clone()).collect();
        let completed = self.targets("completed");
        let healthy = self.targets("healthy");
        let mut notes = Vec::new();
        for draft in &mut self.modules {
            if completed.contains(&draft.name) {
                draft.set("kind", "task");
            }
            let mut dropped = Vec::new();
            for kind in ["requires", "wants"] {
                let Some(Value::Array(edges)) = draft.keys.get_mut(kind) else {
                    continue;
                };
                edges.retain(|edge| {
                    let known = names.iter().any(|name| Some(&**name) == target(edge));
                    if !known {
                        dropped.extend(target(edge).map(ToOwned::to_owned));
                    }
                    known
                });
            }
            notes.extend(dropped.into_iter().map(|name| Note {
                file: draft.file.clone(),
                line: draft.line,
                module: Some(draft.name.clone()),
                text: format!("its dependency {name} is not kept: there is no such module here"),
            }));
        }
        self.notes.extend(notes);
        let unprobed =
            |draft: &&Draft| healthy.contains(&draft.name) && !draft.has("health.probes");
        let unprobed: Vec<String> = self
            .modules
            .iter()
            .filter(unprobed)
            .map(|each| each.name.clone())
            .collect();
        for draft in &mut self.modules {
            draft.for_edges(|edge| {
                if let Value::Table(edge) = edge
                    && edge.get("until").and_then(Value::as_str) == Some("healthy")
                    && edge
                        .get("module")
                        .and_then(Value::as_str)
                        .is_some_and(|to| unprobed.iter().any(|name| name == to))
                {
                    edge.insert("until".to_owned(), "ready".into());
                }
            });
        }
        self.notes
            .sort_by_key(|note| (note.file.clone(), note.line));
    }

    /// The modules that edges with this condition lead to.
    fn targets(&mut self, until: &str) -> Vec<String> {
        let mut found = Vec::new();
        for draft in &mut self.modules {
            draft.for_edges(|edge| {
                if edge.get("until").and_then(Value::as_str) == Some(until) {
                    found.extend(target(edge).map(ToOwned::to_owned));
                }
            });
        }
        found
    }

    /// The files of the configuration folder `config`, by path below it.
    pub(crate) fn files(&self, name: &str, config: &Path) -> BTreeMap<PathBuf, String> {
        let project = config.parent().unwrap_or(config);
        let from = self.modules.first().map(|draft| draft.file.as_str());
        let mut main = format!(
            "# Imported from {}. `mainstay check` reads it, `mainstay up` runs it.\n",
            from.unwrap_or_default()
        );
        for note in self.notes.iter().filter(|note| note.module.is_none()) {
            let _ = writeln!(
                main,
                "# Not kept, or different here: {}:{}: {}",
                note.file, note.line, note.text
            );
        }
        let _ = writeln!(
            main,
            "\n[mainstay]\nname = {}\nmodules = [\"modules/*\"]",
            Value::from(name)
        );
        let mut files = BTreeMap::from([(PathBuf::from("mainstay.toml"), main)]);
        for draft in &self.modules {
            let path = Path::new("modules").join(&draft.name).join("module.toml");
            files.insert(path, self.text(draft, project));
        }
        files
    }

    fn text(&self, draft: &Draft, project: &Path) -> String {
        let mut text = format!("# {} of {}:{}\n", draft.original, draft.file, draft.line);
        let own = |note: &&Note| note.module.as_deref() == Some(&draft.name);
        for note in self.notes.iter().filter(own) {
            let _ = writeln!(
                text,
                "# Not kept, or different here: {}:{}: {}",
                note.file, note.line, note.text
            );
        }
        let mut keys = draft.keys.clone();
        let directory = match &draft.directory {
            Some(written) => Some(draft.base.join(written)),
            None => (draft.base != project).then(|| draft.base.clone()),
        };
        if let Some(directory) = directory {
            let inside = directory.strip_prefix(project).ok();
            let shown = match inside {
                Some(inside) if inside.as_os_str().is_empty() => None,
                Some(inside) => Some(inside.display().to_string()),
                None => Some(directory.display().to_string()),
            };
            if let Some(shown) = shown {
                keys.insert("directory".to_owned(), escaped(&shown).into());
            }
        }
        text.push('\n');
        text.push_str(&keys.to_string());
        text
    }
}

impl Draft {
    /// Sets a key such as `recovery.restart`.
    pub(crate) fn set(&mut self, path: &str, value: impl Into<Value>) {
        let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
        self.table(above).insert(name.to_owned(), value.into());
    }

    /// Whether a key is set.
    pub(crate) fn has(&self, path: &str) -> bool {
        let mut keys = path.split('.');
        let first = keys.next().and_then(|key| self.keys.get(key));
        keys.fold(first, |at, key| at.and_then(|at| at.get(key)))
            .is_some()
    }

    /// Sets a duration.
    pub(crate) fn set_span(&mut self, path: &str, span: Duration) {
        self.set(path, units::shown(span));
    }

    /// Sets texts in which nothing is a variable of mainstay.
    pub(crate) fn set_words(&mut self, path: &str, words: &[String]) {
        let words = words.iter().map(|word| Value::from(escaped(word)));
        self.set(path, words.collect::<Vec<Value>>());
    }

    /// Adds a value to a list.
    pub(crate) fn push(&mut self, path: &str, value: impl Into<Value>) {
        let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
        let list = self
            .table(above)
            .entry(name)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value.into());
        }
    }

    /// Adds a command to a list of commands.
    pub(crate) fn push_command(&mut self, path: &str, words: &[String]) {
        let words = words.iter().map(|word| Value::from(escaped(word)));
        self.push(path, words.collect::<Vec<Value>>());
    }

    /// Sets a variable of its environment.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.table("env")
            .insert(name.to_owned(), escaped(value).into());
    }

    /// Adds an edge.
    pub(crate) fn depend(&mut self, hard: bool, on: &str, until: &str) {
        let kind = if hard { "requires" } else { "wants" };
        let edge = [("module", usable_name(on)), ("until", until.to_owned())];
        let edge = edge.map(|(key, value)| (key.to_owned(), Value::from(value)));
        self.push(kind, Value::Table(edge.into_iter().collect()));
    }

    /// A path that is relative to its file, for a key that is relative to its directory.
    pub(crate) fn path_from_file(&self, path: &str) -> String {
        match self.directory {
            Some(_) => escaped(&self.base.join(path).display().to_string()),
            None => escaped(path),
        }
    }

    fn for_edges(&mut self, mut each: impl FnMut(&mut Value)) {
        for kind in ["requires", "wants"] {
            if let Some(Value::Array(edges)) = self.keys.get_mut(kind) {
                edges.iter_mut().for_each(&mut each);
            }
        }
    }

    fn table(&mut self, path: &str) -> &mut toml::Table {
        let mut at = &mut self.keys;
        for key in path.split('.').filter(|key| !key.is_empty()) {
            let next = at
                .entry(key)
                .or_insert_with(|| Value::Table(toml::Table::new()));
            if !next.is_table() {
                *next = Value::Table(toml::Table::new());
            }
            let Value::Table(table) = next else {
                unreachable!("it was made a table");
            };
            at = table;
        }
        at
    }
}

/// Text in which `${` is not a variable of mainstay.
pub(crate) fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

/// A name of a module or a system that is as near to `name` as can be.
pub(crate) fn usable_name(name: &str) -> String {
    let sign = |one: char| match one.to_ascii_lowercase() {
        one @ ('a'..='z' | '0'..='9' | '_' | '-') => one,
        _ => '-',
    };
    let usable: String = name.chars().map(sign).take(64).collect();
    match usable.trim_start_matches(['-', '_']) {
        "" => "module".to_owned(),
        "mainstay" => "mainstay-1".to_owned(),
        "event-bus" => "event-bus-1".to_owned(),
        usable => usable.to_owned(),
    }
}

/// The module that an edge leads to.
pub(crate) fn target(edge: &Value) -> Option<&str> {
    edge.get("module").and_then(Value::as_str)
}
