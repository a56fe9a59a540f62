//! The context of one reading of the tree: the current key, variables, problems so far.
//! Owns these problems and their messages.
//! Never stops at the first problem.

use std::collections::BTreeMap;

use super::hints::{advice, alias, choices_of, closest, is_typo, key_path, show};
use super::origin::{Origin, SourceMap};
use super::problem::{Problem, Problems};
use super::schema::{Section, ValueType};
use super::tree::{KeyTable, Node, TableEntry, TreeValue};

/// The values of variables; none where a variable is not defined.
#[derive(Debug, Clone, Default)]
pub(crate) struct TemplateVars {
    pub(crate) project: Option<String>,
    pub(crate) module_dir: Option<String>,
    pub(crate) state_dir: Option<String>,
    pub(crate) runtime_dir: Option<String>,
    pub(crate) secrets_dir: Option<String>,
}

const NAMES: [&str; 5] = [
    "project",
    "module_dir",
    "state_dir",
    "runtime_dir",
    "secrets_dir",
];

/// The context.
pub(crate) struct ReadContext<'a> {
    pub(crate) texts: &'a SourceMap,
    pub(crate) variables: TemplateVars,
    pub(crate) problems: Problems,
    path: Vec<&'a str>,
    /// Problems that several modules have in common.
    shared: BTreeMap<String, SharedProblem>,
}

/// A problem of something that several modules use.
struct SharedProblem {
    /// Its place among the problems.
    index: usize,
    /// Its hint, without the modules.
    hint: String,
    modules: Vec<String>,
}

impl<'a> ReadContext<'a> {
    pub(crate) fn new(texts: &'a SourceMap, problems: Problems) -> ReadContext<'a> {
        ReadContext {
            texts,
            variables: TemplateVars::default(),
            problems,
            path: Vec::new(),
            shared: BTreeMap::new(),
        }
    }

    pub(crate) fn push_key(&mut self, key: &'a str) {
        self.path.push(key);
    }

    pub(crate) fn pop_key(&mut self) {
        self.path.pop();
    }

    /// Returns the current key, as a person writes it.
    pub(crate) fn path(&self) -> String {
        key_path(&self.path)
    }

    /// Returns the number of problems so far.
    pub(crate) fn count(&self) -> usize {
        self.problems.count()
    }

    /// Reports a problem at `origin`, with a hint.
    pub(crate) fn problem<T>(&mut self, origin: Origin, message: String, hint: &str) -> Option<T> {
        let texts = self.texts;
        self.problems.push(|| {
            let problem = texts.problem(origin, message);
            if hint.is_empty() {
                problem
            } else {
                problem.hint(hint)
            }
        });
        None
    }

    /// Reports a problem of something that `module` uses, once for all modules that use it: `key`
    /// says what is the same.
    pub(crate) fn shared_problem(
        &mut self,
        module: &str,
        key: String,
        problem: impl FnOnce(&SourceMap) -> Problem,
    ) {
        if let Some(shared) = self.shared.get_mut(&key) {
            if shared.modules.last().is_none_or(|last| last != module) {
                shared.modules.push(module.to_owned());
            }
            let (hint, modules) = (&shared.hint, shared.modules.join(", "));
            // One that did not fit into the list is counted alone.
            if let Some(problem) = self.problems.problems.get_mut(shared.index) {
                problem.hint = Some(format!("{hint}; used by {modules}"));
            }
            return;
        }
        let (index, texts) = (self.problems.problems.len(), self.texts);
        self.problems.push(|| problem(texts));
        let hint = self.problems.problems.get(index);
        let hint = hint.and_then(|problem| problem.hint.clone());
        let shared = SharedProblem {
            index,
            hint: hint.unwrap_or_default(),
            modules: vec![module.to_owned()],
        };
        self.shared.insert(key, shared);
    }

    /// Reports a problem without the line: a secret may be in it.
    pub(crate) fn secret_problem<T>(
        &mut self,
        origin: Origin,
        message: String,
        hint: &str,
    ) -> Option<T> {
        let texts = self.texts;
        self.problems.push(|| {
            let mut problem = texts.problem(origin, message).hint(hint);
            problem.excerpt = None;
            problem
        });
        None
    }

    /// Reports a problem whose message is only built if the list has room for it.
    pub(crate) fn problem_with(
        &mut self,
        origin: Origin,
        words: impl FnOnce() -> (String, Option<String>),
    ) {
        let texts = self.texts;
        self.problems.push(|| {
            let (message, hint) = words();
            let problem = texts.problem(origin, message);
            Problem { hint, ..problem }
        });
    }

    /// Reports a value of the wrong type.
    pub(crate) fn type_error<T>(&mut self, node: &Node, form: ValueType) -> Option<T> {
        let path = self.path();
        let shown = show(node);
        let text = match &node.value {
            TreeValue::Text(text) => text.as_str(),
            _ => "",
        };
        let (mut choices, mut later) = (Vec::new(), false);
        choices_of(form, &mut |word, available| {
            later |= !available && word == text;
            if available {
                choices.push(word);
            }
        });
        if later {
            let message = format!("cannot use {shown} for {path}: not available yet");
            return self.problem(
                node.origin,
                message,
                &format!("expected {}", form.expected()),
            );
        }
        let message = format!(
            "cannot use {shown} for {path}: expected {}",
            form.expected()
        );
        let hint = match closest(text, choices) {
            Some(word) => format!("did you mean {word:?}?"),
            None => advice(form, node),
        };
        self.problem(node.origin, message, &hint)
    }

    /// Reports an unknown key, or one that is not available yet.
    pub(crate) fn unknown(&mut self, name: &str, entry: &TableEntry, section: &'static Section) {
        let path = self.path();
        if section.find(name).is_some_and(|key| !key.available) {
            let message = format!("cannot use {path}: not available yet");
            return self.problem_with(entry.key, || {
                (
                    message,
                    Some("leave it out; it is designed, not built".to_owned()),
                )
            });
        }
        let parent = key_path(
            self.path
                .get(..self.path.len().saturating_sub(1))
                .unwrap_or_default(),
        );
        self.problem_with(entry.key, || {
            let dot = if parent.is_empty() { "" } else { "." };
            let inside = section.all().find_map(|key| match key.form {
                ValueType::Table(inner) if inner.find(name).is_some() => {
                    Some(format!("{parent}{dot}{}", key.name))
                }
                ValueType::Map(ValueType::Table(inner)) if inner.find(name).is_some() => {
                    Some(format!("{parent}{dot}{}.NAME", key.name))
                }
                _ => None,
            });
            let near = closest(name, section.all().map(|key| key.name));
            let typo = near.filter(|key| is_typo(name, key));
            let alias = alias(name).filter(|key| section.find(key).is_some());
            let hint = match (alias.or(typo), inside, near) {
                (Some(key), ..) | (None, None, Some(key)) => format!("did you mean `{key}`?"),
                (None, Some(table), _) => format!("`{name}` belongs in [{table}]"),
                (None, None, None) => "`mainstay check --schema` lists every key".to_owned(),
            };
            (
                format!("cannot use {path}: there is no such key"),
                Some(hint),
            )
        });
    }

    /// Returns the keys of a table.
    pub(crate) fn table(&mut self, node: &'a Node, form: ValueType) -> Option<&'a KeyTable> {
        match &node.value {
            TreeValue::Table(table) => Some(table),
            _ => self.type_error(node, form),
        }
    }

    /// Returns a text; every variable of the environment and every option is one.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, form: ValueType) -> Option<&'n str>
    where
        'a: 'n,
    {
        match &node.value {
            TreeValue::Text(text) => Some(text),
            TreeValue::List(_) | TreeValue::Table(_) => self.type_error(node, form),
            TreeValue::Whole(_)
            | TreeValue::Number(_)
            | TreeValue::Flag(_)
            | TreeValue::Other(_) => match self.texts.raw(node.origin) {
                Some(raw) if node.origin.end as usize == raw.len() => {
                    raw.get(node.origin.start as usize..)
                }
                _ => self.type_error(node, form),
            },
        }
    }

    /// Replaces variables; `$${` is a plain `${`.
    pub(crate) fn expand(&mut self, text: &str, origin: Origin) -> Option<String> {
        if text.contains('\0') {
            let message = format!("cannot use {}: it has a NUL character in it", self.path());
            return self.problem(origin, message, "no program can be given one");
        }
        if text.starts_with("age:") {
            let message = format!("cannot use {}: secrets belong in [secrets]", self.path());
            let hint = "name it there, and in the `secrets` or `secret_env` of the module";
            return self.problem(origin, message, hint);
        }
        if !text.contains("${") {
            return Some(text.to_owned());
        }
        let mut filled = String::with_capacity(text.len() + 32);
        let mut rest = text;
        while let Some(place) = rest.find("${") {
            let (before, from) = rest.split_at(place);
            if let Some(escaped) = before.strip_suffix('$') {
                filled.push_str(escaped);
                filled.push_str("${");
                rest = from.get(2..).unwrap_or_default();
                continue;
            }
            filled.push_str(before);
            let Some(end) = from.find('}') else {
                let message = format!("cannot read {}: \"${{\" is never closed", self.path());
                return self.problem(origin, message, "`$${` is a plain `${`");
            };
            let name = from.get(2..end).unwrap_or_default();
            filled.push_str(&self.variable(name, origin)?);
            rest = from.get(end + 1..).unwrap_or_default();
        }
        filled.push_str(rest);
        Some(filled)
    }

    fn variable(&mut self, name: &str, origin: Origin) -> Option<String> {
        let value = match name {
            "project" => &self.variables.project,
            "module_dir" => &self.variables.module_dir,
            "state_dir" => &self.variables.state_dir,
            "runtime_dir" => &self.variables.runtime_dir,
            "secrets_dir" => &self.variables.secrets_dir,
            _ => {
                let message = format!(
                    "cannot use ${{{name}}} in {}: no such variable",
                    self.path()
                );
                let hint = match closest(name, NAMES) {
                    Some(near) => format!("did you mean ${{{near}}}?"),
                    None => "known: ${project}, ${module_dir}, ${state_dir}, ${runtime_dir}, \
                             ${secrets_dir}; \
                             `$${` is a plain `${`"
                        .to_owned(),
                };
                return self.problem(origin, message, &hint);
            }
        };
        if value.is_none() {
            let message = format!("cannot use ${{{name}}} in {}", self.path());
            let hint = match name {
                "module_dir" => "it is the folder of a module.toml, and this module has none",
                "secrets_dir" => "it is a module's own folder",
                _ => "it is not known here yet",
            };
            return self.problem(origin, message, hint);
        }
        value.clone()
    }

    /// Returns a table of freely chosen keys as JSON.
    pub(crate) fn open_table(
        &mut self,
        table: &'a KeyTable,
    ) -> serde_json::Map<String, serde_json::Value> {
        let mut map = serde_json::Map::new();
        for (key, entry) in table {
            self.push_key(key);
            map.insert(key.clone(), self.free(&entry.node));
            self.pop_key();
        }
        map
    }

    fn free(&mut self, node: &'a Node) -> serde_json::Value {
        match &node.value {
            TreeValue::Text(text) => self.expand(text, node.origin).unwrap_or_default().into(),
            TreeValue::Whole(value) => (*value).into(),
            TreeValue::Number(value) => (*value).into(),
            TreeValue::Flag(value) => (*value).into(),
            TreeValue::Other(text) => text.as_str().into(),
            TreeValue::List(list) => list.iter().map(|each| self.free(each)).collect(),
            TreeValue::Table(table) => self.open_table(table).into(),
        }
    }
}
