//! Normalizes paths, and expands patterns with `*`.
//! Owns the matching of folders.
//! Never descends below the pattern: there is no `**`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Largest number of folders that one pattern may match.
const MAX_FOLDERS: usize = 100_000;

/// Removes `.` and `..` from an absolute path, without reading the disk.
pub(crate) fn normalize(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// Returns the folders that match `pattern`, relative to `beside`, in order. Adds those that were
/// searched to `consulted`.
pub(crate) fn expand_pattern(
    beside: &Path,
    pattern: &str,
    consulted: &mut BTreeSet<PathBuf>,
) -> Vec<PathBuf> {
    let whole = normalize(&beside.join(pattern));
    let mut found = vec![PathBuf::new()];
    for part in whole.components() {
        let text = part.as_os_str().to_string_lossy();
        if !text.contains('*') {
            for path in &mut found {
                path.push(part);
            }
            continue;
        }
        consulted.extend(found.iter().cloned());
        found = found
            .iter()
            .flat_map(|path| expand_in(path, &text))
            .take(MAX_FOLDERS)
            .collect();
    }
    consulted.extend(found.iter().cloned());
    found.retain(|path| path.is_dir());
    found
}

fn expand_in(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with('.') == pattern.starts_with('.'))
        .filter(|name| matches_pattern(pattern, name))
        .collect();
    names.sort();
    names.iter().map(|name| folder.join(name)).collect()
}

/// Returns whether `name` matches `pattern`, in which `*` stands for any text.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part_of_one_name() {
        for (pattern, name) in [("*", "a"), ("a*", "a"), ("*a", "ba"), ("a*c*e", "abcde")] {
            assert!(matches_pattern(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a*", "b"), ("a*a", "a"), ("a*c*e", "abde")] {
            assert!(!matches_pattern(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_plain_path_goes_nowhere_and_back() {
        assert_eq!(normalize(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(normalize(Path::new("/../a")), Path::new("/a"));
    }
}
