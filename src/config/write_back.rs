//! Writes one value into the file that sets it: comments, order and all other bytes stay.
//! Owns the choice of the file, and the replacement of it as a whole.
//! Never writes over a file that changed since it was read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::hints::key_path;
use super::layers::{MergedLayers, read_all, read_text};
use super::problem::{LayerKind, Problem, Problems};
use super::schema::{KeyForm, form_of};
use super::sources::{ConfigSources, FILE};

/// A file, with its text before and after one value was written into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEdit {
    /// The file.
    pub path: PathBuf,
    /// Its text before.
    pub before: String,
    /// Its text after.
    pub after: String,
}

impl FileEdit {
    /// Prepares to write `value` at `path`, or to remove what is there; writes nothing.
    ///
    /// # Errors
    /// A layer above the files sets the key, or the file has no place for it.
    pub(crate) fn prepare(
        sources: &ConfigSources,
        path: &[String],
        value: Option<&str>,
    ) -> Result<FileEdit, Problems> {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        // A file with problems elsewhere is refused when the result is checked.
        let (merged, _) = read_all(sources);
        let (file, within) = place(&merged, &names)?;
        let before = read_text(&file).map_err(|error| {
            Problem::new(format!("cannot write {}: {error}", key_path(&names)))
                .hint(format!("make {} readable", file.display()))
        })?;
        let after = edited(&before, within, &names, value).map_err(|cause| {
            let shown = sources.display_path(&file);
            let message = format!("cannot write {} into {shown}: {cause}", key_path(&names));
            Problem::new(message).hint("edit the file by hand")
        })?;
        Ok(FileEdit {
            path: file,
            before,
            after,
        })
    }

    /// Puts the new text in the place of the old one.
    ///
    /// # Errors
    /// What the system says, or that the file changed meanwhile; it is as before then.
    pub(crate) fn write(&self) -> io::Result<()> {
        replace(&self.path, &self.before, &self.after)
    }

    /// Restores the old text, if the file was not changed since.
    ///
    /// # Errors
    /// As [`FileEdit::write`].
    pub(crate) fn revert(&self) -> io::Result<()> {
        replace(&self.path, &self.after, &self.before)
    }
}

/// The file in which a key is, or is to be, and the part of its path that the file implies.
fn place(merged: &MergedLayers, path: &[&str]) -> Result<(PathBuf, usize), Problems> {
    let shown = || key_path(path);
    let main = merged.config_dir.join(FILE);
    let mut depth = path.len();
    // What sets the key; else what has the table it belongs to.
    while depth > 0 {
        let Some(node) = merged.tree.at(&path[..depth]) else {
            depth -= 1;
            continue;
        };
        let text = merged.texts.get(node.origin);
        let text = text.filter(|text| text.kind != LayerKind::Default);
        match text {
            Some(text) if text.kind != LayerKind::File && depth == path.len() => {
                let place = merged.texts.place(node.origin);
                let place = place.map(|place| place.to_string()).unwrap_or_default();
                let message = format!("cannot write {} into a file: {place} sets it", shown());
                let problem =
                    Problem::new(message).hint("that wins over every file; drop it first");
                return Err(problem.into());
            }
            Some(text) if text.kind == LayerKind::File => {
                let Some(path) = &text.path else { break };
                let module = path.file_name().is_some_and(|name| name != FILE)
                    && merged
                        .module_dirs
                        .values()
                        .any(|dir| path.parent() == Some(dir));
                return Ok((path.clone(), if module { 2 } else { 0 }));
            }
            _ => depth -= 1,
        }
    }
    match path {
        ["module", name, ..] if merged.module_dirs.contains_key(*name) => {
            Ok((merged.module_dirs[*name].join("module.toml"), 2))
        }
        _ => Ok((main, 0)),
    }
}

/// The text with one value written or removed.
fn edited(text: &str, within: usize, path: &[&str], value: Option<&str>) -> Result<String, String> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let windows = body.contains("\r\n");
    let mut document: DocumentMut = body
        .parse()
        .map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let below = path.get(within..).unwrap_or_default();
    let (key, tables) = below.split_last().ok_or("it names no key of that file")?;
    match value {
        Some(value) => {
            let table = descend(document.as_table_mut(), tables)?;
            write_value(table, key, to_value(path, value));
        }
        None => remove(&mut document, tables, key)?,
    }
    let mut after = document.to_string();
    if windows {
        after = after.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    Ok(format!("{mark}{after}"))
}

/// The table at a path; what is missing is made.
fn descend<'d>(root: &'d mut Table, path: &[&str]) -> Result<&'d mut dyn TableLike, String> {
    let mut table: &mut dyn TableLike = root;
    for name in path {
        if table.get(name).is_none() {
            let mut made = Table::new();
            // It has a header of its own when a value is in it.
            made.set_implicit(true);
            table.insert(name, Item::Table(made));
        }
        let below = table.get_mut(name).and_then(Item::as_table_like_mut);
        table = below.ok_or_else(|| format!("{name} is no table there"))?;
    }
    Ok(table)
}

fn write_value(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key) {
        Some(Item::Value(present)) => {
            *value.decor_mut() = present.decor().clone();
            *present = value;
        }
        Some(item) => *item = Item::Value(value),
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// The value as it is written: a key that takes text gets a text.
fn to_value(path: &[&str], text: &str) -> Value {
    match text.trim().parse::<Value>() {
        Ok(mut value) if value.is_str() || form_of(path) != KeyForm::Text => {
            value.decor_mut().clear();
            value
        }
        _ => Value::from(text),
    }
}

/// Removes a key. The comment above it goes to what follows it.
fn remove(document: &mut DocumentMut, tables: &[&str], key: &str) -> Result<(), String> {
    let missing = || "it is not there".to_owned();
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for name in tables {
        let below = table.get_mut(name).and_then(Item::as_table_like_mut);
        table = below.ok_or_else(missing)?;
    }
    let prefix = table.key(key).and_then(|key| key.leaf_decor().prefix());
    let comment = prefix
        .and_then(|prefix| prefix.as_str())
        .unwrap_or_default();
    let comment = comment.contains('#').then(|| comment.to_owned());
    let next: Option<String> = table
        .iter()
        .skip_while(|(name, _)| *name != key)
        .nth(1)
        .map(|(name, _)| name.to_owned());
    table.remove(key).ok_or_else(missing)?;
    let Some(comment) = comment else {
        return Ok(());
    };
    let after = next.and_then(|next| {
        table.key_mut(&next).map(|mut key| {
            let own = key.leaf_decor().prefix().and_then(|own| own.as_str());
            let both = format!("{comment}{}", own.unwrap_or_default());
            key.leaf_decor_mut().set_prefix(both);
        })
    });
    if after.is_none() {
        let own = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing(format!("{comment}{own}"));
    }
    Ok(())
}

/// Replaces the text of a file as a whole, with the owner and the mode that it has.
fn replace(path: &Path, expected: &str, text: &str) -> io::Result<()> {
    // A link stays one.
    let path = path.canonicalize()?;
    if read_text(&path)? != expected {
        return Err(io::Error::other("the file changed meanwhile"));
    }
    // A file that this user may not write is not replaced either.
    let about = OpenOptions::new().write(true).open(&path)?.metadata()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.mainstay"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&fresh, text, &about).and_then(|()| fs::rename(&fresh, &path));
    if written.is_err() {
        let _nothing_is_left = fs::remove_file(&fresh);
        return written;
    }
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _as_far_as_possible = folder.sync_all();
    }
    Ok(())
}

fn write_new(path: &Path, text: &str, like: &fs::Metadata) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
    }
    // After the change of owner: until then only this user may open it.
    file.set_permissions(like.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_edit(before: &str, path: &str, value: Option<&str>, after: &str) {
        let path: Vec<&str> = path.split('.').collect();
        let edited = edited(before, 0, &path, value);
        assert_eq!(edited.as_deref(), Ok(after), "{path:?}");
    }

    #[test]
    fn one_value_changes_and_every_other_byte_stays() {
        let text = "# head\n[health] # rates\n  interval   =  \"10s\"   # how often\n\n# end\n";
        let after = text.replace("\"10s\"", "\"5s\"");
        assert_edit(text, "health.interval", Some("5s"), &after);
        assert_edit(text, "health.interval", Some("\"5s\""), &after);
        let windows = text.replace('\n', "\r\n");
        let bom = format!("\u{feff}{windows}");
        let after = bom.replace("\"10s\"", "\"5s\"");
        assert_edit(&bom, "health.interval", Some("5s"), &after);
        // In a table in one line, and by a key with dots.
        assert_edit(
            "module.a = { command = [\"a\"], required = true } # a\n",
            "module.a.required",
            Some("false"),
            "module.a = { command = [\"a\"], required = false } # a\n",
        );
        assert_edit(
            "[recovery]\nbackoff.factor = 3 # fast\n",
            "recovery.backoff.factor",
            Some("1.5"),
            "[recovery]\nbackoff.factor = 1.5 # fast\n",
        );
        // A version is a text, whatever it looks like.
        assert_edit(
            "[module.a]\nversion = \"1.0\"\n",
            "module.a.version",
            Some("1.10"),
            "[module.a]\nversion = \"1.10\"\n",
        );
    }

    #[test]
    fn what_is_missing_is_added_where_it_belongs() {
        assert_edit(
            "[health]\ninterval = \"10s\" # a\n\n# the modules\n[module.a]\ncommand = [\"a\"]\n",
            "health.timeout",
            Some("1s"),
            "[health]\ninterval = \"10s\" # a\ntimeout = \"1s\"\n\n# the modules\n[module.a]\n\
             command = [\"a\"]\n",
        );
        assert_edit(
            "",
            "health.timeout",
            Some("1s"),
            "[health]\ntimeout = \"1s\"\n",
        );
        assert_edit(
            "[module.a]\ncommand = [\"a\"]\n[module.b]\n",
            "module.a.recovery.auto",
            Some("false"),
            "[module.a]\ncommand = [\"a\"]\n\n[module.a.recovery]\nauto = false\n[module.b]\n",
        );
        assert!(edited("a = 1\n", 0, &["a", "b"], Some("1")).is_err());
    }

    #[test]
    fn a_comment_survives_the_key_below_it() {
        assert_edit(
            "# about this file\ninterval = 1\n# the second\ntwo = 2\n",
            "interval",
            None,
            "# about this file\n# the second\ntwo = 2\n",
        );
        assert_edit("[a]\n# last\nb = 1\n", "a.b", None, "[a]\n# last\n");
        assert!(edited("[a]\n", 0, &["a", "b"], None).is_err());
    }
}
