//! The rules of the house, as tests: what stands where, how large, under which name.
//! Owns the rules; each says what is wrong, where, and which way out. The reasons: docs/ARCHITECTURE.md.
//! Never a matter of taste: what rustfmt and clippy can say is left to them.

mod arrows;
mod features;
mod holder;
mod recipes;
mod reliability;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write;

use source::Source;

/// Lines of a file, at most.
const FILE_LINES_MAX: usize = 600;
/// Lines of code of a function, at most: without blank lines, comments and its signature.
const FUNCTION_LINES_MAX: usize = 70;
/// Columns of a line, at most.
const COLUMNS_MAX: usize = 100;

/// Where a word may stand: the word, the folders, whether test code may use it too, the way out.
struct Place {
    word: &'static str,
    folders: &'static [&'static str],
    tests: bool,
    way_out: &'static str,
}

const PLACES: &[Place] = &[
    Place {
        word: "ractor",
        folders: &["src/actors/"],
        tests: false,
        way_out: "give `src/actors` a function that does it, and call that",
    },
    Place {
        word: "mainstay_holder",
        folders: &[
            "src/config/trust.rs", // who may write in a directory is judged once
            "src/os/",
            "src/holder/",
            "src/runtime.rs",
            "src/embed/",
            "src/cli/",
            "src/service/windows_service.rs", // the process of a service is a holder
            "chaos/",
            "fuzz/",
            "benches/",
            "tests/",
        ],
        tests: false,
        way_out: "use the types of `mainstay_process`, and give `Os` a method",
    },
    Place {
        word: "unsafe",
        folders: &[
            "src/os/",
            "src/holder/",
            "src/service/",
            "modules/misbehave/",
            "packaging/test/",
            "tests/hostile/src/",
        ],
        tests: false,
        way_out: "give `src/os` a safe function that does it, and call that",
    },
    Place {
        word: "killpg",
        folders: &[],
        tests: true,
        way_out: "signal a verified process, or kill a control group: a number may be reused",
    },
    Place {
        word: "target_os",
        folders: &["src/os/", "src/holder/", "src/service/", "modules/"],
        tests: true,
        way_out: "give every platform in `src/os` a function of one name, and call that",
    },
    Place {
        word: ".unwrap()",
        folders: &[],
        tests: true,
        way_out: "return an error, or say with `expect` why it cannot be",
    },
    Place {
        word: "println!",
        folders: &["src/cli/", "modules/", "chaos/"],
        tests: true,
        way_out: "in the runtime use `tracing`, for people `RuntimeContext::announce`",
    },
    Place {
        word: "tracing",
        folders: &[
            "src/actors/",
            "src/cli/runtime_log.rs",
            "src/control/",
            "src/ipc/",
            "src/journal/",
            "src/os/",
            "src/runtime.rs",
            "src/runtime/",
        ],
        tests: true,
        way_out: "return what happened: a library has no log of its own",
    },
    Place {
        word: "[allow(",
        folders: &[],
        tests: false,
        way_out: "use `#[expect(…, reason = \"…\")]`, which is noticed when it is no longer needed",
    },
    Place {
        word: "[ignore",
        folders: &[],
        tests: false,
        way_out: "return early, saying what this machine lacks, or remove the test",
    },
    Place {
        word: "todo!",
        folders: &[],
        tests: false,
        way_out: "write it, or an error that says that it is not there",
    },
    Place {
        word: "unimplemented!",
        folders: &[],
        tests: false,
        way_out: "write it, or an error that says that it is not there",
    },
];

/// Fails with everything that breaks a rule at once.
fn report(rule: &str, broken: &[String]) {
    let mut text = format!("{rule}:\n");
    for line in broken {
        writeln!(text, "  {line}").expect("a text grows");
    }
    assert!(broken.is_empty(), "{text}");
}

fn rust() -> Vec<Source> {
    let mut sources = source::all();
    sources.retain(Source::is_rust);
    sources
}

/// Whether `line` has `word` as a whole word.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (bytes, ends) = (line.as_bytes(), word.as_bytes());
    let (first, last) = (is_part(ends[0]), is_part(ends[ends.len() - 1]));
    line.match_indices(word).any(|(at, _)| {
        let free_before = !first || at == 0 || !is_part(bytes[at - 1]);
        let behind = bytes.get(at + word.len());
        free_before && !(last && behind.is_some_and(|byte| is_part(*byte)))
    })
}

/// The words of a file that belong elsewhere.
fn misplaced(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    for place in PLACES {
        let Place { word, way_out, .. } = place;
        let at_home = |folder: &&str| source.path.starts_with(*folder);
        if place.folders.iter().any(at_home) {
            continue;
        }
        for (number, line, test) in source.lines() {
            // `eprintln!` is `println!` on another stream.
            let line = line.replace("eprintln!", "println!");
            if has_word(&line, word) && !(test && place.tests) {
                broken.push(format!("{}:{number}: `{word}`: {way_out}", source.path));
            }
        }
    }
    broken
}

#[test]
fn words_stand_in_their_rooms() {
    let broken: Vec<String> = rust().iter().flat_map(misplaced).collect();
    report("words that do not belong where they stand", &broken);
}

#[test]
fn misplaced_words_are_found() {
    for (path, text, found) in [
        ("src/ipc/x.rs", "use ractor::Actor;", true),
        ("src/actors/x.rs", "use ractor::Actor;", false),
        ("src/ipc/x.rs", "// ractor", false),
        ("src/ipc/x.rs", "let contractor = 1;", false),
        ("src/ipc/x.rs", "a.unwrap();", true),
        ("src/ipc/x.rs", "a.unwrap_or(b);", false),
        ("src/ipc/tests.rs", "a.unwrap();", false),
        (
            "src/ipc/x.rs",
            "#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }",
            false,
        ),
        ("src/ipc/x.rs", "#[cfg(target_os = \"linux\")]", true),
        ("src/os/x.rs", "#[cfg(target_os = \"linux\")]", false),
        ("src/os/x.rs", "eprintln!();", true),
        ("src/cli/x.rs", "#![allow(dead_code)]", true),
        ("src/policy/x.rs", "tracing::info!();", true),
        ("src/config/x.rs", "#[expect(unsafe_code)]", false),
        ("src/config/x.rs", "unsafe { f() }", true),
    ] {
        let source = Source::new(path, text.to_owned());
        assert_eq!(!misplaced(&source).is_empty(), found, "{path}: {text}");
    }
}

#[test]
fn files_and_lines_are_short() {
    let mut broken = Vec::new();
    for source in rust() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            broken.push(format!(
                "{}: {lines} lines, {FILE_LINES_MAX} at most: give a part of it a file and a name",
                source.path
            ));
        }
        // In a test a line that rustfmt leaves longer is an expected text.
        for ((number, _, test), line) in source.lines().zip(source.text.lines()) {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !test {
                broken.push(format!(
                    "{}:{number}: {columns} columns, {COLUMNS_MAX} at most: break the text with `\\`",
                    source.path
                ));
            }
        }
    }
    report("files and lines that are too long", &broken);
}

/// The functions of a file: first line, name, lines of code of the body.
fn functions(source: &Source) -> Vec<(usize, String, usize)> {
    let mut open: Vec<(usize, String, usize, Option<usize>)> = Vec::new();
    let (mut done, mut depth) = (Vec::new(), 0_usize);
    for (number, line, _) in source.lines() {
        for (_, _, lines, body) in &mut open {
            *lines += usize::from(body.is_some() && !line.trim().is_empty());
        }
        if let Some((_, rest)) = line.split_once("fn ")
            && has_word(line, "fn")
            && let Some((name, _)) = rest.split_once(['(', '<'])
        {
            open.push((number, name.to_owned(), 0, None));
        }
        for byte in line.bytes() {
            match byte {
                b'{' => {
                    depth += 1;
                    if let Some((_, _, _, body @ None)) = open.last_mut() {
                        *body = Some(depth);
                    }
                }
                b'}' => {
                    if open
                        .last()
                        .is_some_and(|(_, _, _, body)| *body == Some(depth))
                        && let Some((first, name, lines, _)) = open.pop()
                    {
                        done.push((first, name, lines.saturating_sub(1)));
                    }
                    depth = depth.saturating_sub(1);
                }
                // A function of a trait without a body.
                b';' if matches!(open.last(), Some((_, _, _, None))) => drop(open.pop()),
                _ => {}
            }
        }
    }
    done
}

#[test]
fn functions_are_short() {
    let mut broken = Vec::new();
    for source in rust() {
        for (number, name, lines) in functions(&source) {
            if lines > FUNCTION_LINES_MAX && !source.test[number - 1] {
                broken.push(format!(
                    "{}:{number}: `{name}` has {lines} lines of code, {FUNCTION_LINES_MAX} at most: \
                     give a step of it a name",
                    source.path
                ));
            }
        }
    }
    report("functions that are too long", &broken);
}

#[test]
fn function_lengths_are_counted() {
    let text = "fn a() {\n    b();\n\n    // c\n    d();\n}\ntrait T {\n    fn e();\n    fn f() {\n        g()\n    }\n}\n";
    let counted = functions(&Source::new("src/x.rs", text.to_owned()));
    let expected = [(1, "a".to_owned(), 2), (9, "f".to_owned(), 1)];
    assert_eq!(counted, expected);
}

#[test]
fn every_file_says_what_it_is() {
    let headless = |source: &&Source| !source.text.starts_with("//! ");
    let say = |source: &Source| {
        format!(
            "{}: begin with `//! ` and what it is, what it owns, what it never does",
            source.path
        )
    };
    let broken: Vec<String> = rust().iter().filter(headless).map(say).collect();
    report("files without a header", &broken);
}

#[test]
fn files_are_named_by_what_they_hold() {
    const NAMES: [&str; 10] = [
        "util", "utils", "helper", "helpers", "manager", "imp", "handler", "handlers", "data",
        "misc",
    ];
    let mut broken = Vec::new();
    for path in source::paths() {
        let part = path.split('/').find(|part| {
            let stem = part.split('.').next().unwrap_or(part);
            NAMES.contains(&stem)
        });
        if let Some(part) = part {
            broken.push(format!(
                "{path}: `{part}` says nothing: name it by the thing it defines"
            ));
        }
    }
    report("names that say nothing", &broken);
}

/// What a package depends on outside its tests.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(source::root().join(manifest)).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("a valid manifest");
    let mut tables = vec![&manifest];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(
        targets
            .into_iter()
            .flat_map(|all| all.values().filter_map(toml::Value::as_table)),
    );
    tables
        .into_iter()
        .flat_map(|table| ["dependencies", "build-dependencies"].map(|key| table.get(key)))
        .filter_map(|found| found?.as_table())
        .flat_map(|found| found.keys().cloned())
        .collect()
}

#[test]
fn walls_let_only_these_through() {
    let mut broken = Vec::new();
    for (manifest, allowed, way_out) in [
        (
            "src/policy/Cargo.toml",
            ["mainstay-process", "petgraph"].as_slice(),
            "policy gets time, chance and facts as arguments, and needs nobody",
        ),
        (
            "src/process/Cargo.toml",
            ["serde"].as_slice(),
            "the vocabulary is used by every crate, so it depends on none",
        ),
        (
            "src/holder/Cargo.toml",
            [
                "libc",
                "mainstay-process",
                "nix",
                "serde",
                "serde_json",
                "thiserror",
                "windows-sys",
            ]
            .as_slice(),
            "the holder must outlive everything: what it links is what can break it",
        ),
    ] {
        for name in dependencies(manifest) {
            if !allowed.contains(&name.as_str()) {
                broken.push(format!("{manifest}: depends on `{name}`: {way_out}"));
            }
        }
    }
    for library in ["src/policy/lib.rs", "src/process/lib.rs"] {
        let text = std::fs::read_to_string(source::root().join(library)).expect("a library");
        if !source::blank(&text).contains("#![no_std]") {
            broken.push(format!(
                "{library}: without `#![no_std]` nothing keeps clocks out"
            ));
        }
    }
    report("crates that look over their wall", &broken);
}

#[test]
fn the_root_lists_what_it_lists() {
    const LISTED: [&str; 21] = [
        ".ci",
        ".clippy.toml",
        ".deny.toml",
        ".gitignore",
        ".rustfmt.toml",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "benches",
        "chaos",
        "clients",
        "config",
        "docs",
        "fuzz",
        "modules",
        "packaging",
        "src",
        "tests",
    ];
    let paths = source::paths();
    let names: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| path.split('/').next())
        .collect();
    let broken: Vec<String> = names
        .into_iter()
        .filter(|name| !LISTED.contains(name))
        .map(|name| format!("{name}: find it a room, or list it here and in docs/ARCHITECTURE.md"))
        .collect();
    report("what does not belong into the root", &broken);
}

#[test]
fn no_file_knows_one_machine() {
    // Put together, so that this file does not name them itself.
    let homes = ["home", "Users", "root", "work"].map(|name| format!("/{name}/"));
    let mut broken = Vec::new();
    for source in source::all() {
        for (index, line) in source.text.lines().enumerate() {
            let begins = |at: usize| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|one| !one.is_alphanumeric() && !"._-}>)*".contains(one))
            };
            let named =
                |home: &&String| line.match_indices(home.as_str()).any(|(at, _)| begins(at));
            if let Some(home) = homes.iter().find(named) {
                broken.push(format!(
                    "{}:{}: `{home}…`: use a path of the repository, a variable or a temporary folder",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    report("paths of one machine", &broken);
}

/// Names in backticks and targets of links that look like files of the repository.
fn mentioned(line: &str, folder: &str) -> Vec<String> {
    let is_path = |text: &str| {
        let allowed = |one: char| one.is_ascii_alphanumeric() || "._-/".contains(one);
        !text.is_empty() && text.chars().all(allowed) && !text.starts_with('/')
    };
    let quoted = line.split('`').skip(1).step_by(2);
    let rooms = [
        "src/", "docs/", "modules/", "tests/", "chaos/", "config/", "benches/", ".ci/",
    ];
    let quoted = quoted.filter(|text| rooms.iter().any(|room| text.starts_with(room)));
    let links = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let links = links.map(|(target, _)| target.split('#').next().unwrap_or(target));
    let links = links
        .filter(|target| !target.contains(':'))
        .filter(|target| is_path(target));
    quoted
        .filter(|text| is_path(text))
        .map(ToOwned::to_owned)
        .chain(links.map(|target| format!("{folder}{target}")))
        .collect()
}

#[test]
fn documents_name_files_that_exist() {
    let mut broken = Vec::new();
    for source in source::all() {
        if !source.path.ends_with(".md") {
            continue;
        }
        let folder = source
            .path
            .rsplit_once('/')
            .map_or(String::new(), |(up, _)| format!("{up}/"));
        for (index, line) in source.text.lines().enumerate() {
            for path in mentioned(line, &folder) {
                if !source::root().join(&path).exists() {
                    let number = index + 1;
                    let at = &source.path;
                    broken.push(format!(
                        "{at}:{number}: `{path}` is not there: say where it went"
                    ));
                }
            }
        }
    }
    report("documents that name what is not there", &broken);
}

#[test]
fn a_decision_has_a_number_of_its_own() {
    let mut numbers = BTreeSet::new();
    let taken: Vec<_> = source::all()
        .into_iter()
        .filter_map(|source| {
            let name = source.path.strip_prefix("docs/decisions/")?.to_owned();
            let number = name.get(..4).filter(|n| n.parse::<u16>().is_ok())?;
            let title = source.text.starts_with(&format!("# {number}: "));
            (!numbers.insert(number.to_owned()) || !title).then(|| {
                format!("{name}: its number is another's, or its title has another: take the next")
            })
        })
        .collect();
    report("decisions without a number of their own", &taken);
}
