//! The pages of the documents: their blocks, and the rules that hold for each.
//! Owns the reading of a page; every TOML block is read by the configuration reader.
//! Never runs a command of a page: `sessions` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::daemon::binary;
use super::sessions::PAGES;

/// A fenced block, or a comment that spans lines: its first line, what is in it, and its last line.
pub(crate) struct Block<'p> {
    pub(crate) first: &'p str,
    pub(crate) lines: Vec<&'p str>,
    pub(crate) last: Option<&'p str>,
}

pub(crate) enum Part<'p> {
    Line(&'p str),
    Block(Block<'p>),
}

pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) parts: Vec<Part<'static>>,
}

impl Block<'_> {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.first
            .split_whitespace()
            .skip_while(|word| *word == "<!--")
    }

    /// What the block is written in: the word after the fence.
    pub(crate) fn language(&self) -> &str {
        self.first.strip_prefix("```").map_or("", |info| {
            info.split_whitespace().next().unwrap_or_default()
        })
    }

    pub(crate) fn has(&self, mark: &str) -> bool {
        self.words().any(|word| word == mark)
    }

    /// The value of a mark `NAME=VALUE`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.words()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// Why it is not read or not run: what follows `no-run:` or `fragment:`.
    fn reason(&self, mark: &str) -> Option<&str> {
        let reason = self.first.split_once(mark)?.1.trim();
        Some(reason.trim_end_matches("-->").trim())
    }

    /// Whether it is a session whose commands are run.
    pub(crate) fn is_run(&self) -> bool {
        self.language() == "console" && self.reason("no-run:").is_none()
    }
}

impl Page {
    pub(crate) fn read(path: &str) -> Page {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(file).expect("a page");
        // A page is read once in a test process.
        let text: &'static str = text.leak();
        let mut parts = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let end = match line {
                line if line.starts_with("```") => "```",
                line if line.starts_with("<!-- ") => "-->",
                line => {
                    parts.push(Part::Line(line));
                    continue;
                }
            };
            let mut block = Block {
                first: line,
                lines: Vec::new(),
                last: None,
            };
            if !(end == "-->" && line.ends_with("-->")) {
                let inner = lines.by_ref();
                block.last = inner.find(|line| {
                    *line == end || {
                        block.lines.push(line);
                        false
                    }
                });
                assert!(block.last.is_some(), "{path}: no end of {line}");
            }
            parts.push(Part::Block(block));
        }
        Page {
            path: path.to_owned(),
            parts,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(&self.path)
    }

    fn blocks(&self) -> impl Iterator<Item = &Block<'static>> {
        self.parts.iter().filter_map(|part| match part {
            Part::Block(block) => Some(block),
            Part::Line(_) => None,
        })
    }
}

/// README.md and every page of `docs` but the decisions.
fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/guides"] {
        for entry in fs::read_dir(root.join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("a name").to_owned();
            if name.ends_with(".md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

/// What is missing in an excerpt is added: a command for each module, and what it requires.
fn completed(excerpt: &toml::Table) -> toml::Table {
    let mut whole = excerpt.clone();
    let sleep: toml::Value = vec!["sleep", "60"].into();
    let modules = whole
        .entry("module")
        .or_insert_with(|| toml::Table::new().into());
    let modules = modules.as_table_mut().expect("a table");
    let mut needed: Vec<String> = Vec::new();
    for module in modules
        .iter_mut()
        .filter_map(|(_, module)| module.as_table_mut())
    {
        module.entry("command").or_insert_with(|| sleep.clone());
        let edges = ["requires", "wants", "may_call"]
            .iter()
            .filter_map(|key| module.get(*key));
        for edge in edges.filter_map(toml::Value::as_array).flatten() {
            let name = edge.as_str().or_else(|| edge.get("module")?.as_str());
            needed.extend(name.map(ToOwned::to_owned));
        }
    }
    let groups = excerpt.get("group").and_then(toml::Value::as_table);
    for group in groups.into_iter().flat_map(toml::Table::values) {
        let members = group.get("members").and_then(toml::Value::as_array);
        let members = members
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_str);
        needed.extend(members.map(ToOwned::to_owned));
    }
    for name in needed
        .iter()
        .filter(|name| *name != "event-bus" && !name.contains(':'))
    {
        let module = toml::Table::from_iter([("command".to_owned(), sleep.clone())]);
        modules.entry(name).or_insert_with(|| module.into());
    }
    whole
}

/// Reads a block as the program does; returns what is wrong with it.
fn problem(block: &Block) -> Option<String> {
    let text = block.lines.join("\n");
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return Some(error.to_string()),
    };
    let folder = tempfile::tempdir().expect("a folder");
    // A session is whole; so is every other file that is named.
    let text = if block.has("session") {
        text
    } else {
        completed(&table).to_string()
    };
    fs::write(folder.path().join("mainstay.toml"), text).expect("a file");
    let mut check = Command::new(binary());
    check.arg("check").arg("--config").arg(folder.path());
    let output = check.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    (!output.status.success()).then(|| said.into_owned())
}

#[test]
fn every_toml_block_is_a_configuration() {
    let mut wrong = Vec::new();
    let pages = pages();
    for page in &pages {
        let blocks = page.blocks().filter(|block| block.language() == "toml");
        for block in blocks.filter(|block| block.reason("no-config:").is_none()) {
            if let Some(problem) = problem(block) {
                wrong.push(format!(
                    "{}: {}\n{problem}",
                    page.path,
                    block.lines.join("\n")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

#[test]
fn every_command_of_the_guides_is_run_or_says_why_not() {
    let mut wrong = Vec::new();
    for page in &pages() {
        let is_guide = page.path == "README.md" || page.path.starts_with("docs/guides/");
        let mut has_session = false;
        for block in page.blocks() {
            has_session |= block.is_run();
            let no_reason = ["no-run:", "no-config:"]
                .iter()
                .any(|mark| block.reason(mark).is_some_and(str::is_empty));
            let is_console = block.language() == "console";
            let has_command = block.lines.iter().any(|line| line.starts_with("$ "));
            if no_reason || (is_guide && has_command && !is_console) {
                let first = block.lines.first().unwrap_or(&block.first);
                wrong.push(format!(
                    "{}: `{first}`: run it, or give a reason",
                    page.path
                ));
            }
        }
        if has_session != PAGES.contains(&page.path.as_str()) {
            wrong.push(format!(
                "{}: list it in tests/it/sessions.rs if it has a session",
                page.path
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
