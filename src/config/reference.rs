//! Prints the reference page and the JSON schema from the table of keys.
//! Owns their format.
//! Never adds to what the table says of a key.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::schema::module::ModuleSection;
use super::schema::{Key, Section, ValueType, root};

const HEAD: &str = "\
# Configuration

Every key, printed from the table in `src/config/schema` (`UPDATE_DOCS=1 cargo test -p mainstay
reference` writes this page). `mainstay check` reads a configuration without running it,
`mainstay check --schema` prints a JSON schema for editors. The shipped `config/mainstay.toml` is
the annotated example.

## Where values come from

The folder is the one named by `--config`, else `$MAINSTAY_CONFIG`, else `./config`, else the
user's configuration folder. In it is `mainstay.toml`. Later layers win; tables merge, everything
else is replaced:

1. built-in defaults
2. `mainstay.toml`
3. the `module.toml` of each folder that `mainstay.modules` means; its keys are those of
   `[module.NAME]` without that prefix, and the folder's name is the module's name. A pattern with
   `*` may match nothing yet, which is a warning; a folder that is named has to be there
4. `conf.d/*.toml`, in the order of their names
5. variables of the environment: `MAINSTAY__HEALTH__INTERVAL=10s`; two underscores between keys,
   case does not matter, `_` also stands for `-`
6. `--set health.interval=10s`

The value of a variable or of `--set` is read as TOML, and as text when it is none. A file may have
4 MiB. A key that is not known, or not available yet, is an error and never ignored; all problems
are told at once. `mainstay config get health.interval --origin` prints the value in force and where
it was said; without a key, all of them.

In text, `${project}` is the folder that holds the configuration folder, `${module_dir}` the folder
of a `module.toml`, `${state_dir}` and `${runtime_dir}` are as configured, `${secrets_dir}` is where
a module finds its [secrets](secrets.md); `$${` is a plain `${`. A relative `directory` is relative
to `${project}`, a relative path of a module to its `directory`.

## What a change does

| class | what happens |
|---|---|
| live | applied in place |
| notify | the module is told and may apply it itself; until modules can be told, it is restarted |
| restart | what it belongs to is started again: the module, or mainstay itself |
| restart_dependents | the module and those that need it are started again |

`mainstay plan` shows what the files would change. A saved file is applied while modules run; with
`mainstay.reload = \"manual\"` only `mainstay reload` applies it. A change is applied as a whole,
watched for `mainstay.reload_watch`, then committed, or rolled back by itself at the first failure
of a module that it touched. What belongs to mainstay itself (`mainstay.name`, the directories)
waits for the next `mainstay up`.
";

/// Returns the reference page in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut later = Vec::new();
    for key in root().keys {
        match key.form {
            ValueType::Table(section) => sections(&mut page, key.name, section, &mut later),
            ValueType::Map(ValueType::Table(section)) => {
                let path = format!("{}.NAME", key.name);
                if key.available {
                    sections(&mut page, &path, section, &mut later);
                } else {
                    later.push((path, "", section.about.trim()));
                }
            }
            ValueType::Map(each) => {
                let _ = write!(page, "\n## `[{}]`\n\n{}\n\n", key.name, key.about.trim());
                page.push_str("| key | value | change |\n|---|---|---|\n");
                let _ = writeln!(
                    page,
                    "| `NAME` | {} | {} |",
                    short(*each),
                    key.class.as_str()
                );
            }
            _ => {}
        }
    }
    if !later.is_empty() {
        page.push_str("\n## Not available yet\n\nDesigned, not built; refused when set.\n\n");
    }
    for (path, key, about) in later {
        let dot = if key.is_empty() { "" } else { "." };
        let _ = writeln!(page, "- `{path}{dot}{key}`: {}", lower_first(about));
    }
    page
}

type Later = (String, &'static str, &'static str);

/// Prints a section and the sections inside of it.
fn sections(page: &mut String, path: &str, section: &'static Section, later: &mut Vec<Later>) {
    let _ = write!(page, "\n## `[{path}]`\n\n{}\n\n", section.about.trim());
    page.push_str("| key | value | default | change | what |\n|---|---|---|---|---|\n");
    let of_module = path.starts_with("module.");
    let base = section
        .base
        .filter(|_| !of_module)
        .map_or(&[][..], |base| base.keys);
    for key in base.iter().chain(section.keys) {
        if key.available {
            row(page, key);
        } else {
            later.push((path.to_owned(), key.name, key.about.trim()));
        }
        for word in words(key.form).filter(|word| !word.1 && key.available) {
            let path = format!("{path}.{} = {:?}", key.name, word.0);
            later.push((path, "", "a word for this key"));
        }
    }
    if of_module && section.base.is_some() {
        let named = path.rsplit('.').next().unwrap_or_default();
        let _ = writeln!(
            page,
            "\nAnd every key of each module in `[{named}]`, which holds unless \
                                said here."
        );
    }
    for key in base.iter().chain(section.keys).filter(|key| key.available) {
        if let Some((inner, list)) = inner(key.form) {
            let dots = if list { "[]" } else { "" };
            sections(page, &format!("{path}.{}{dots}", key.name), inner, later);
        }
    }
}

fn row(page: &mut String, key: &Key) {
    let default = (key.default)();
    // The defaults of a table are in its own section.
    let default = match key.form {
        ValueType::Table(_) => String::new(),
        _ if default.is_empty() => String::new(),
        _ => format!("`{default}`"),
    };
    let _ = writeln!(
        page,
        "| `{}` | {} | {default} | {} | {} |",
        key.name,
        short(key.form),
        key.class.as_str(),
        key.about.trim()
    );
}

/// The section that a form has inside, and whether there may be many.
fn inner(form: ValueType) -> Option<(&'static Section, bool)> {
    match form {
        ValueType::Table(section) => Some((section, false)),
        ValueType::List(each) => inner(*each).map(|(section, _)| (section, true)),
        ValueType::OneOf(forms) => forms.iter().find_map(|form| inner(*form)),
        _ => None,
    }
}

fn words(form: ValueType) -> Box<dyn Iterator<Item = (&'static str, bool)>> {
    match form {
        ValueType::Choice(words) => Box::new(words.iter().map(|word| (word.word, word.available))),
        ValueType::List(each) => words(*each),
        _ => Box::new(std::iter::empty()),
    }
}

/// Describes a type in few words.
fn short(form: ValueType) -> String {
    match form {
        ValueType::Flag => "true, false".to_owned(),
        ValueType::Text => "text".to_owned(),
        ValueType::Template => "text with variables".to_owned(),
        ValueType::Name => "name".to_owned(),
        ValueType::Whole { min, max } => format!("whole number {min} to {max}"),
        ValueType::Number { min, max } => format!("number {min} to {max}"),
        ValueType::Duration { zero: true } => "duration".to_owned(),
        ValueType::Duration { zero: false } => "duration above 0".to_owned(),
        ValueType::Bytes => "size (B, KiB, MiB, GiB)".to_owned(),
        ValueType::Signal => "signal".to_owned(),
        ValueType::Choice(_) => {
            let words: Vec<String> = words(form)
                .filter(|(_, available)| *available)
                .map(|(word, _)| format!("`{word:?}`"))
                .collect();
            words.join(", ")
        }
        ValueType::Command => "program and arguments".to_owned(),
        ValueType::List(each) => format!("list of: {}", short(*each)),
        ValueType::Map(ValueType::Any) => "any table".to_owned(),
        ValueType::Map(each) => format!("table of: {}", short(*each)),
        ValueType::Table(_) => "table, below".to_owned(),
        ValueType::OneOf(forms) => {
            let each: Vec<String> = forms.iter().map(|form| short(*form)).collect();
            each.join(" or ")
        }
        ValueType::Any => "anything".to_owned(),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// Returns the JSON schema of mainstay.toml; `$defs.module` is that of a module.toml. Keys that are
/// not available yet are left out.
#[must_use]
pub fn json_schema() -> Json {
    let mut schema = object(root());
    schema.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".to_owned(), "mainstay configuration".into());
    schema.insert(
        "$defs".to_owned(),
        json!({ "module": object(ModuleSection::SECTION) }),
    );
    schema.into()
}

fn object(section: &'static Section) -> Map<String, Json> {
    let property = |key: &'static Key| {
        let mut property = of_form(key.form);
        if let Json::Object(fields) = &mut property {
            fields.insert("description".to_owned(), key.about.trim().into());
            fields.insert("x-change".to_owned(), key.class.as_str().into());
            if let Some(default) = default_of(key) {
                fields.insert("default".to_owned(), default);
            }
        }
        (key.name.to_owned(), property)
    };
    let properties: Map<String, Json> = section
        .all()
        .filter(|key| key.available)
        .map(property)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("additionalProperties".to_owned(), false.into());
    schema.insert("properties".to_owned(), properties.into());
    schema
}

/// Returns the default.
pub(super) fn default_of(key: &Key) -> Option<Json> {
    let text = (key.default)();
    if matches!(key.form, ValueType::Table(_)) || text.is_empty() {
        return None;
    }
    let table: toml::Table = toml::from_str(&format!("default = {text}")).ok()?;
    serde_json::to_value(table.get("default")?).ok()
}

fn of_form(form: ValueType) -> Json {
    match form {
        ValueType::Flag => json!({ "type": "boolean" }),
        ValueType::Text | ValueType::Template => json!({ "type": "string" }),
        ValueType::Name => {
            json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$", "maxLength": 64 })
        }
        ValueType::Whole { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        ValueType::Number { min, max } => {
            json!({ "type": "number", "minimum": min, "maximum": max })
        }
        ValueType::Duration { .. } => {
            json!({ "type": "string", "pattern": "^[0-9]", "examples": ["10s"] })
        }
        ValueType::Bytes => json!({ "type": ["string", "integer"], "examples": ["10MiB"] }),
        ValueType::Signal => json!({ "type": "string", "examples": ["SIGTERM"] }),
        ValueType::Choice(_) => {
            let words = words(form).filter(|(_, available)| *available);
            let words: Vec<&str> = words.map(|(word, _)| word).collect();
            json!({ "enum": words })
        }
        ValueType::Command => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })
        }
        ValueType::List(each) => json!({ "type": "array", "items": of_form(*each) }),
        // One definition, used by every module.
        ValueType::Map(ValueType::Table(section))
            if std::ptr::eq(*section, ModuleSection::SECTION) =>
        {
            json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/module" } })
        }
        ValueType::Map(each) => json!({ "type": "object", "additionalProperties": of_form(*each) }),
        ValueType::Table(section) => object(section).into(),
        ValueType::OneOf(forms) => {
            let each: Vec<Json> = forms.iter().map(|form| of_form(*form)).collect();
            json!({ "anyOf": each })
        }
        ValueType::Any => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_in_docs_is_the_printed_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let page = reference();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).expect("docs can be written");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == page,
            "docs/configuration.md is stale: run this test with UPDATE_DOCS=1"
        );
    }

    #[test]
    fn every_class_is_explained() {
        use crate::config::KeyClass::{Live, Notify, Restart, RestartDependents};
        for class in [Live, Notify, Restart, RestartDependents] {
            assert!(HEAD.contains(&format!("| {} |", class.as_str())));
        }
    }

    #[test]
    fn defaults_in_the_table_are_values_of_their_keys() {
        fn visit(section: &'static Section, seen: &mut usize) {
            for key in section.all() {
                let text = (key.default)();
                if !text.is_empty() && !matches!(key.form, ValueType::Table(_)) {
                    assert!(default_of(key).is_some(), "{} = {text}", key.name);
                    *seen += 1;
                }
                if let Some((inner, _)) = inner(key.form) {
                    visit(inner, seen);
                }
            }
        }
        let mut seen = 0;
        visit(root(), &mut seen);
        visit(ModuleSection::SECTION, &mut seen);
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn the_schema_has_what_is_available() {
        let schema = json_schema();
        let module = &schema["$defs"]["module"]["properties"];
        assert_eq!(
            module["kind"]["enum"],
            json!(["service", "task", "builtin"])
        );
        assert_eq!(module["kind"]["default"], "service");
        let health = &schema["properties"]["health"]["properties"];
        assert_eq!(health["interval"]["default"], "30s");
        assert_eq!(health["interval"]["x-change"], "live");
    }
}
