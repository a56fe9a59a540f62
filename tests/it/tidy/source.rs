//! The files of the repository, and what of a Rust file is code.
//! Owns a small reading of Rust: comments and literals are blanked, test code is marked.
//! Never parses: what it tells apart is just enough for the house rules.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the repository.
pub(crate) struct Source {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The same lines with comments and the insides of literals blanked. Empty unless Rust.
    pub(crate) code: String,
    /// Which lines are test code, by index.
    pub(crate) test: Vec<bool>,
}

impl Source {
    /// A file as the rules see it.
    pub(crate) fn new(path: &str, text: String) -> Source {
        let rust = is_rust(path);
        let code = if rust { blank(&text) } else { String::new() };
        let test = mark_tests(&code, is_test_file(path));
        Source {
            path: path.to_owned(),
            text,
            code,
            test,
        }
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// The lines of code, with their number from 1 and whether they are test code.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let lines = self.code.lines().enumerate();
        lines.map(|(index, line)| (index + 1, line, self.test[index]))
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that is tracked, or would be; without a repository, what is there.
pub(crate) fn paths() -> Vec<String> {
    let mut paths = listed().unwrap_or_else(|| {
        let mut found = Vec::new();
        walk(root(), &mut found);
        found
    });
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 50, "the repository was not found: {paths:?}");
    paths
}

/// Every text file of the repository. Modules that are declared for tests count as test code.
pub(crate) fn all() -> Vec<Source> {
    let read = |path: String| {
        let bytes = std::fs::read(root().join(&path)).ok()?;
        Some(Source::new(&path, String::from_utf8(bytes).ok()?))
    };
    let mut sources: Vec<Source> = paths().into_iter().filter_map(read).collect();
    let declared: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let stem = source.path.trim_end_matches(".rs");
        let inside = |module: &String| stem == module || stem.starts_with(&format!("{module}/"));
        if declared.iter().any(inside) {
            source.test.fill(true);
        }
    }
    sources
}

fn listed() -> Option<Vec<String>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.lines().map(ToOwned::to_owned).collect())
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder).expect("a folder of the repository");
    for entry in entries.filter_map(Result::ok) {
        let path: PathBuf = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != ".git" && name != ".cache" {
                walk(&path, found);
            }
        } else if let Ok(inside) = path.strip_prefix(root()) {
            found.push(inside.to_string_lossy().replace('\\', "/"));
        }
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|end| end == "rs")
}

fn is_test_file(path: &str) -> bool {
    let parts = ["tests", "benches", "examples"];
    path.split('/').any(|part| parts.contains(&part)) || path.ends_with("tests.rs")
}

/// What `#[cfg(test)] mod name;` declares: paths without their ending.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = match source.path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    let lines: Vec<&str> = source.code.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter(|pair| is_test_attribute(pair[0]));
    let name = |line: &str| Some(line.strip_suffix(';')?.rsplit_once("mod ")?.1.to_owned());
    pairs
        .filter_map(|pair| name(pair[1]))
        .map(|module| format!("{folder}/{module}"))
        .collect()
}

fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test") || line.starts_with("#[cfg(all(test")
}

/// Marks everything from `#[cfg(test)]` to the end of the item it stands on.
fn mark_tests(code: &str, whole: bool) -> Vec<bool> {
    let mut marks = Vec::new();
    let mut inside = None;
    for line in code.lines() {
        let opened = line.matches('{').count();
        let closed = line.matches('}').count();
        let depth: Option<(usize, bool)> = match inside {
            Some(depth) => Some(depth),
            None => is_test_attribute(line.trim()).then_some((0, false)),
        };
        marks.push(whole || depth.is_some());
        inside = depth.and_then(|(depth, begun)| {
            let depth = (depth + opened).saturating_sub(closed);
            let begun = begun || opened > 0;
            let over = depth == 0 && (begun || line.trim_end().ends_with(';'));
            (!over).then_some((depth, begun))
        });
    }
    marks
}

/// Replaces comments and the insides of texts and characters by spaces; lines stay where they are.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let mut begins_word = true;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block(bytes, at),
            b'"' => end_of_text(bytes, at),
            b'r' if begins_word => end_of_raw(bytes, at),
            b'\'' => end_of_character(bytes, at),
            _ => at,
        };
        begins_word = !(bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_')
            || (bytes[at] == b'b' && begins_word);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    // Only whole literals and comments were replaced, so this is still text.
    String::from_utf8(out).expect("text")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let rest = &bytes[from..];
    let found = rest.windows(what.len()).position(|window| window == what);
    found.map_or(bytes.len(), |found| from + found)
}

fn end_of_block(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn end_of_raw(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return start;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let end = find(bytes, start + 2 + hashes, &close);
    (end + close.len()).min(bytes.len())
}

/// A lifetime has no closing quote behind its first letter.
fn end_of_character(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start + 1) == Some(&b'\\') {
        return (find(bytes, start + 3, b"'") + 1).min(bytes.len());
    }
    let width = match bytes.get(start + 1) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    if bytes.get(start + 1 + width) == Some(&b'\'') {
        start + width + 2
    } else {
        start
    }
}

#[test]
fn comments_and_literals_are_no_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* /* b */ */ c", "a               c"),
        (r#"f("x\"y", z)"#, "f(      , z)"),
        (r##"f(r#"a"b"#, z)"##, "f(        , z)"),
        ("f('\"', 'a', '\\n')", "f(   ,    ,     )"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("f('é')", "f(    )"),
        ("for r in b\"x\" {}", "for r in b    {}"),
    ] {
        assert_eq!(blank(text), code, "{text}");
    }
}

#[test]
fn test_code_is_told_from_code() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
    let source = Source::new("src/x.rs", text.to_owned());
    assert_eq!(source.test, [false, true, true, true, true, false]);
    let text = "#[cfg(test)]\nmod fake;\nmod real;\n".to_owned();
    let source = Source::new("src/cli/mod.rs", text);
    assert_eq!(source.test, [true, true, false]);
    assert_eq!(test_modules(&source), ["src/cli/fake"]);
}
