//! The log files of modules that were renamed while the holder ran.
//! Owns how those files get the new names, when a holder starts that writes under these.
//! Never replaces a file: what has the new name already keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Gives the files in `directory` the new names; `instances` has, by its new name, what the holder
/// before called each module. A name that one module leaves can go to another.
pub(crate) fn restore(directory: &Path, instances: &BTreeMap<String, String>) {
    let mut left: Vec<(&String, &String)> = instances.iter().collect();
    while !left.is_empty() {
        let is_free = |name: &String| left.iter().all(|(_, instance)| *instance != name);
        let next = left.iter().position(|(name, _)| is_free(name));
        let (name, instance) = left.swap_remove(next.unwrap_or(0));
        if let Err(error) = rename(directory, instance, name) {
            tracing::warn!(module = name, %error, "cannot rename the log of {instance}");
        }
    }
}

/// Renames `FROM.log`, its rotated files and what else lies beside it.
fn rename(directory: &Path, from: &str, to: &str) -> io::Result<()> {
    if directory.join(format!("{to}.log")).exists() || !directory.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(from));
        if let Some(rest) = rest.filter(|rest| rest.starts_with(".log")) {
            fs::rename(entry.path(), directory.join(format!("{to}{rest}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_passed_on_and_no_file_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str| fs::write(dir.path().join(name), name).expect("a file");
        let files = [
            "a.log", "a.log.1", "a.2.log", "ab.log", "old.log", "new.log",
        ];
        files.into_iter().for_each(write);
        // a became b; a new module was called a then.
        let pairs = [("b", "a"), ("a", "a.2"), ("new", "old"), ("x", "none")];
        let pairs = pairs.map(|(name, instance)| (name.to_owned(), instance.to_owned()));
        restore(dir.path(), &BTreeMap::from(pairs));
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        let found = ["b.log", "b.log.1", "a.log", "ab.log", "new.log"].map(read);
        assert_eq!(found, ["a.log", "a.log.1", "a.2.log", "ab.log", "new.log"]);
        restore(&dir.path().join("none"), &BTreeMap::new());
    }
}
