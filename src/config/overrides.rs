//! The layers above files: variables of the environment, --set, and what `config set` said.
//! Owns the matching of a variable's name to a key.
//! Never creates a module: a named one must exist.

use toml::de::DeValue;

use super::confidential::is_confidential;
use super::hints::closest;
use super::layers::{MergedLayers, nested};
use super::origin::{Origin, SourceMap, SourceText};
use super::problem::{LayerKind, Problem, Problems};
use super::runtime_layer::RuntimeValue;
use super::schema::{ValueType, root};
use super::sources::ConfigSources;
use super::tree::{self, KeyTable, Node, TreeValue};

/// Prefix of the variables.
pub(crate) const PREFIX: &str = "MAINSTAY__";

/// One value of such a layer.
pub(crate) struct Override {
    /// The keys as written; names of variables keep their case.
    path: Vec<String>,
    /// Whether names are matched without case, and `_` as `-`.
    loose: bool,
    node: Node,
}

/// Reads variables and --set, in the order in which they are applied.
pub(crate) fn read(
    sources: &ConfigSources,
    texts: &mut SourceMap,
    problems: &mut Problems,
) -> Vec<Override> {
    let mut changes = Vec::new();
    let mut variables: Vec<&(String, String)> = sources
        .environment
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    variables.sort();
    for (name, value) in variables {
        let path: Vec<String> = name
            .get(PREFIX.len()..)
            .unwrap_or_default()
            .split("__")
            .map(str::to_owned)
            .collect();
        let same = |change: &Override| {
            let pairs = change.path.iter().zip(&path);
            change.path.len() == path.len() && pairs.into_iter().all(|(a, b)| same_name(a, b))
        };
        let twice = changes.iter().any(same);
        let text = SourceText::new(LayerKind::Variable, name.clone(), Some(value.clone()));
        let node = parse(value, texts.add(text));
        let origin = node.origin;
        if twice || path.iter().any(String::is_empty) {
            let (message, hint) = if twice {
                (
                    "cannot use this variable: another one names the same key",
                    "unset one of them",
                )
            } else {
                (
                    "cannot use this variable: a part of its name is empty",
                    "MAINSTAY__SECTION__KEY",
                )
            };
            let problem = texts.problem(origin, message.to_owned()).hint(hint);
            problems.push(|| problem);
            continue;
        }
        let loose = true;
        changes.push(Override { path, loose, node });
    }
    for option in &sources.set {
        match split(option) {
            Some((path, value)) => {
                // The name is shown where a value comes from; a confidential value is not.
                let key = option.strip_suffix(value).unwrap_or(option);
                let key = key.trim_end_matches('=');
                let is_hidden =
                    value.trim_start().starts_with('{') || is_confidential(key, &value.into());
                let name = if is_hidden { key } else { option.as_str() };
                let text = SourceText::new(LayerKind::Set, name.to_owned(), Some(value.to_owned()));
                let node = parse(value, texts.add(text));
                let loose = false;
                changes.push(Override { path, loose, node });
            }
            None => problems.push(|| {
                Problem::new(format!("cannot read --set {option}"))
                    .hint("--set section.key=value, for instance --set health.interval=10s")
            }),
        }
    }
    changes
}

/// Puts the values of `config set` above all layers. Those of a module that the files no longer
/// have are dropped.
pub(crate) fn apply_runtime_layer(
    values: Vec<RuntimeValue>,
    merged: &mut MergedLayers,
    problems: &mut Problems,
) {
    if let Some(below) = merged.below.take() {
        merged.tree = below;
        merged.texts.drop_runtime_layer();
    }
    merged.overrides = values;
    let has_module = |value: &RuntimeValue, tree: &Node| {
        let keys = keys(&value.path).unwrap_or_default();
        let is_of_module = keys.first().is_some_and(|it| it == "module");
        let module = keys.get(1).filter(|_| is_of_module);
        module.is_none_or(|name| tree.at(&["module", name]).is_some())
    };
    let tree = &merged.tree;
    merged.overrides.retain(|value| has_module(value, tree));
    if merged.overrides.is_empty() {
        return;
    }
    merged.below = Some(merged.tree.clone());
    let mut changes = Vec::with_capacity(merged.overrides.len());
    for RuntimeValue { path, value, .. } in &merged.overrides {
        let text = SourceText::new(LayerKind::Override, path.clone(), Some(value.clone()));
        let node = parse(value, merged.texts.add(text));
        let path = keys(path).unwrap_or_else(|| vec![path.clone()]);
        let loose = false;
        changes.push(Override { path, loose, node });
    }
    apply(changes, merged, problems);
}

/// The last value for a path of lower-case names without `-`.
pub(crate) fn find<'c>(changes: &'c [Override], path: &[&str]) -> Option<&'c Node> {
    let same = |change: &&Override| {
        let pairs = change.path.iter().zip(path);
        change.path.len() == path.len()
            && pairs
                .into_iter()
                .all(|(a, b)| a == b || change.loose && same_name(a, b))
    };
    changes.iter().rev().find(same).map(|change| &change.node)
}

/// Applies them to the tree.
pub(crate) fn apply(changes: Vec<Override>, merged: &mut MergedLayers, problems: &mut Problems) {
    for change in changes {
        let origin = change.node.origin;
        match resolve(&change, &merged.tree) {
            Ok(path) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                merged.tree.merge(nested(&path, change.node, origin));
            }
            Err((message, hint)) => {
                let problem = merged.texts.problem(origin, message).hint(hint);
                problems.push(|| problem);
            }
        }
    }
}

/// Returns the keys of an override, or a message and a hint.
fn resolve(change: &Override, tree: &Node) -> Result<Vec<String>, (String, String)> {
    let mut form = ValueType::Table(root());
    let mut present = tree.as_table();
    let mut path: Vec<String> = Vec::with_capacity(change.path.len());
    for part in &change.path {
        let found = if change.loose {
            match_key(part, form, present)?
        } else {
            part.clone()
        };
        if path.len() == 1 && path.first().is_some_and(|first| first == "module") {
            check_module_exists(&found, present)?;
        }
        form = form_below(form, &found);
        present = present.and_then(|table| table.get(&found)?.node.as_table());
        path.push(found);
    }
    Ok(path)
}

/// Returns the key for a part of a variable's name: one of the schema, an existing one, else the
/// part itself (in lower case where keys are a closed set).
fn match_key(
    part: &str,
    form: ValueType,
    present: Option<&KeyTable>,
) -> Result<String, (String, String)> {
    if let ValueType::Table(section) = form {
        let key = section.all().find(|key| same_name(key.name, part));
        return Ok(key.map_or_else(|| part.to_lowercase(), |key| key.name.to_owned()));
    }
    let keys = present.into_iter().flat_map(|table| table.keys());
    let mut fitting: Vec<&String> = keys.filter(|key| same_name(key, part)).collect();
    if let Some(exact) = fitting.iter().position(|key| *key == part) {
        fitting = vec![fitting.swap_remove(exact)];
    }
    match fitting.as_slice() {
        [] => Ok(part.to_owned()),
        [one] => Ok((*one).clone()),
        [first, second, ..] => Err((
            format!("cannot match {part} to one key: {first} or {second}"),
            "use --set, where names are written as they are".to_owned(),
        )),
    }
}

fn check_module_exists(name: &str, modules: Option<&KeyTable>) -> Result<(), (String, String)> {
    if modules.is_some_and(|modules| modules.contains_key(name)) {
        return Ok(());
    }
    let names = modules
        .into_iter()
        .flat_map(|modules| modules.keys().map(String::as_str));
    let hint = match closest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "a module needs a file that registers it".to_owned(),
    };
    Err((
        format!("cannot change module {name}: there is none of this name"),
        hint,
    ))
}

/// Returns the type of the value under a key.
fn form_below(form: ValueType, key: &str) -> ValueType {
    match form {
        ValueType::Table(section) => section.find(key).map_or(ValueType::Any, |key| key.form),
        ValueType::Map(each) => *each,
        ValueType::OneOf(forms) => {
            let table = forms
                .iter()
                .find(|form| matches!(form, ValueType::Table(_)));
            table.map_or(ValueType::Any, |form| form_below(*form, key))
        }
        _ => ValueType::Any,
    }
}

/// Returns whether two names are equal without case, and `_` as `-`.
fn same_name(one: &str, other: &str) -> bool {
    let same = |(a, b): (u8, u8)| {
        let plain = |byte: u8| {
            if byte == b'-' {
                b'_'
            } else {
                byte.to_ascii_lowercase()
            }
        };
        plain(a) == plain(b)
    };
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(same)
}

/// Parses a value as TOML; returns the text itself if it is not.
fn parse(value: &str, text: u32) -> Node {
    let whole = tree::origin_of(text, &(0..value.len()));
    let (parsed, errors) = DeValue::parse_recoverable(value.trim());
    let mut node = match errors.is_empty() {
        true => tree::from_value(parsed, text),
        false => Node {
            value: TreeValue::Text(value.to_owned()),
            origin: whole,
        },
    };
    set_origins(&mut node, whole);
    node
}

/// Sets the origin of everything in such a value to that of the value.
fn set_origins(node: &mut Node, origin: Origin) {
    node.origin = origin;
    let origin = Origin { end: 0, ..origin };
    match &mut node.value {
        TreeValue::List(list) => list.iter_mut().for_each(|each| set_origins(each, origin)),
        TreeValue::Table(table) => table.values_mut().for_each(|entry| {
            entry.key = origin;
            set_origins(&mut entry.node, origin);
        }),
        _ => {}
    }
}

/// Splits `a.b."c d"=value` into keys and value.
fn split(option: &str) -> Option<(Vec<String>, &str)> {
    let mut quoted = false;
    let is_sign = |(_, each): &(usize, char)| {
        quoted ^= *each == '"';
        *each == '=' && !quoted
    };
    let (at, _) = option.char_indices().find(is_sign)?;
    Some((keys(option.get(..at)?)?, option.get(at + 1..)?))
}

/// Splits `a.b."c d"` into keys, none of them empty.
pub(crate) fn keys(path: &str) -> Option<Vec<String>> {
    let mut keys = vec![String::new()];
    let mut quoted = false;
    for each in path.chars() {
        match each {
            '"' => quoted = !quoted,
            '.' if !quoted => keys.push(String::new()),
            _ => keys.last_mut()?.push(each),
        }
    }
    let keys: Vec<String> = keys.iter().map(|key| key.trim().to_owned()).collect();
    let whole = !quoted && keys.iter().all(|key| !key.is_empty());
    whole.then_some(keys)
}
