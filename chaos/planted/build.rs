//! Copies the policy, the machines of the holder and the simulators, and plants every bug.
//! Owns the copies: no file of the product knows of a bug.
//! Never guesses: a bug whose place is not there exactly once stops the build.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/bugs.rs"]
mod bugs;
#[path = "src/holder_bugs.rs"]
mod holder_bugs;

use bugs::{BUGS, Bug};
use holder_bugs::HOLDER_BUGS;

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    let out = PathBuf::from(variable("OUT_DIR"));
    let policy = root.join("src/policy");
    let machines = root.join("src/holder/machines");
    let simulator = root.join("chaos/src");
    for read in [&policy, &machines, &simulator] {
        println!("cargo::rerun-if-changed={}", read.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    let mut bugs = Planting::new(BUGS, 0);
    let text = flatten(&policy.join("lib.rs"), &policy, &mut bugs);
    let text = split_docs(&text).1.replace("extern crate alloc;", "");
    write(
        &out.join("policy.rs"),
        &text.replace("crate::", "crate::policy::"),
    );
    bugs.check();
    let mut bugs = Planting::new(HOLDER_BUGS, BUGS.len());
    let text = split_docs(&flatten(&machines.join("mod.rs"), &machines, &mut bugs)).1;
    write(
        &out.join("machines.rs"),
        &text.replace("crate::messages", "mainstay_holder::messages"),
    );
    bugs.check();
    let mut none = Planting::new(&[], 0);
    let text = flatten(&simulator.join("lib.rs"), &simulator, &mut none);
    let text = split_docs(&text).1.replace("crate::", "crate::simulator::");
    let text = text.replace("mainstay_holder::machines", "crate::machines");
    write(
        &out.join("simulator.rs"),
        &text.replace("mainstay_policy::", "crate::policy::"),
    );
}

/// A list of bugs, the number of its first, and which have found their place.
struct Planting {
    list: &'static [Bug],
    first: usize,
    planted: Vec<bool>,
}

impl Planting {
    fn new(list: &'static [Bug], first: usize) -> Planting {
        let planted = vec![false; list.len()];
        Planting {
            list,
            first,
            planted,
        }
    }

    fn check(&self) {
        for (Bug { name, file, .. }, planted) in self.list.iter().zip(&self.planted) {
            assert!(*planted, "cannot plant {name}: there is no file {file}");
        }
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
}

fn write(path: &Path, text: &str) {
    // Paths to what is planted are of the root; tests inside of files are left out.
    let text = text.replace("PLANTED_", "crate::is_planted");
    let text = text.replace("#[cfg(test)]", "#[cfg(any())]");
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {path:?}: {error}"));
}

/// A file with its bugs, and each module of it in its place; tests are left out.
fn flatten(path: &Path, root: &Path, bugs: &mut Planting) -> String {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path:?}: {error}"));
    let text = plant(text, path, root, bugs);
    let mut out = String::with_capacity(text.len());
    let mut is_test = false;
    for line in text.lines() {
        let declared = line
            .trim()
            .strip_suffix(';')
            .and_then(|line| line.split_once("mod "));
        let module = declared.filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        match module {
            _ if line == "#[cfg(test)]" => {
                is_test = true;
                continue;
            }
            // The actors have no bugs planted.
            Some((_, "actors")) => {}
            Some(_) if is_test => {}
            Some((visible, name)) => {
                let module = flatten(&file_of(path, name), root, bugs);
                let (docs, module) = split_docs(&module);
                let _ = write!(out, "{docs}{visible}mod {name} {{\n{module}}}\n");
            }
            None if is_test => out.push_str("#[cfg(test)]\n"),
            None => {}
        }
        if module.is_none() && !line.starts_with("#!") {
            out.push_str(line);
            out.push('\n');
        }
        is_test = false;
    }
    out
}

fn file_of(path: &Path, module: &str) -> PathBuf {
    let is_root = path.ends_with("lib.rs") || path.ends_with("mod.rs");
    let folder = if is_root {
        path.with_file_name("")
    } else {
        path.with_extension("")
    };
    folder.join(format!("{module}.rs"))
}

/// The first lines, as documentation from outside, and the rest.
fn split_docs(module: &str) -> (String, String) {
    let docs = module.lines().take_while(|line| line.starts_with("//!"));
    let docs: String = docs.map(|line| format!("///{}\n", &line[3..])).collect();
    let rest = module.lines().skip_while(|line| line.starts_with("//!"));
    (docs, rest.map(|line| format!("{line}\n")).collect())
}

fn plant(mut text: String, path: &Path, root: &Path, bugs: &mut Planting) -> String {
    let here = path.strip_prefix(root).unwrap_or(path);
    for (number, bug) in bugs.list.iter().enumerate() {
        if Path::new(bug.file) != here {
            continue;
        }
        let places = find(&text, bug.find);
        let [(from, to)] = places[..] else {
            panic!(
                "cannot plant {}: its place is {} times in {}; mend the list of bugs",
                bug.name,
                places.len(),
                bug.file
            );
        };
        let wrong = bug
            .plant
            .replace("PLANTED", &format!("PLANTED_({})", bugs.first + number));
        text.replace_range(from..to, &wrong);
        bugs.planted[number] = true;
    }
    text
}

/// Where `sought` is in `text`, whatever blanks and line ends are between its words.
fn find(text: &str, sought: &str) -> Vec<(usize, usize)> {
    let first = sought.trim_start().chars().next();
    let starts = text.char_indices().filter(|(_, c)| Some(*c) == first);
    let matched = |from: usize| Some((from, from + match_len(&text[from..], sought)?));
    starts.filter_map(|(from, _)| matched(from)).collect()
}

fn match_len(text: &str, sought: &str) -> Option<usize> {
    let mut rest = text;
    for wanted in sought.chars().filter(|c| !c.is_whitespace()) {
        rest = rest.trim_start();
        rest = rest.strip_prefix(wanted)?;
    }
    Some(text.len() - rest.len())
}
