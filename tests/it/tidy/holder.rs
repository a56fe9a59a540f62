//! The rules of the holder: how large it may be on each platform, and no circle among its files.
//! Owns the limits. The reasons: docs/decisions/0020-the-loop-of-the-holder.md.
//! Never parses: it reads the paths that begin with `crate`, `super`, `self` or a child module.

use std::collections::{BTreeMap, BTreeSet};

use super::report;
use super::source::{self, Source};

/// Lines of code that each part of the holder may have. Lower a limit when lines leave; the goal of
/// the loop is 4500.
const LINES_MAX: [(&str, usize); 7] = [
    ("loop", 5217),
    ("workers", 4450),
    ("spawn", 2353),
    ("reexec", 1622),
    ("succession", 1020),
    ("bsd", 868),
    ("windows", 1781),
];

/// What is not in the folder of its part: Linux's own files of workers and spawns, and directories
/// by descriptor, which the runtime uses too.
const ELSEWHERE: [(&str, &str); 15] = [
    ("ancestry.rs", "workers"),
    ("dir.rs", "workers"),
    ("linux/cgroup_place.rs", "workers"),
    ("linux/exit_info.rs", "succession"),
    ("machines/roster/succession.rs", "succession"),
    ("workers/notify_mirror.rs", "succession"),
    ("linux/dir_watch.rs", "workers"),
    ("linux/look.rs", "workers"),
    ("linux/process_scan.rs", "workers"),
    ("linux/cgroup_tree.rs", "spawn"),
    ("linux/child.rs", "spawn"),
    ("linux/clone.rs", "spawn"),
    ("linux/disks.rs", "spawn"),
    ("linux/own_table.rs", "spawn"),
    ("linux/reserved_fds.rs", "spawn"),
];

/// Files that import each other in a circle, by platform.
const IN_CIRCLES_MAX: [(&str, usize); 3] = [("linux", 0), ("bsd", 868), ("windows", 0)];

const ROOT: &str = "src/holder/";

fn holder() -> Vec<Source> {
    let mut sources = source::all();
    sources.retain(|source| source.is_rust() && source.path.starts_with(ROOT));
    sources.retain(|source| !source.test.iter().all(|test| *test));
    sources
}

/// Lines that are neither blank nor comments nor tests.
fn lines_of_code(source: &Source) -> usize {
    let code = source.lines().filter(|(_, _, test)| !test);
    code.filter(|(_, line, _)| !line.trim().is_empty()).count()
}

/// Part of the holder that a file belongs to: what is of no other runs on its loop.
fn part(path: &str) -> &str {
    let inside = &path[ROOT.len()..];
    let elsewhere = ELSEWHERE.iter().find(|(file, _)| *file == inside);
    let folder = inside.split('/').next().unwrap_or_default();
    match (elsewhere, folder) {
        (Some((_, part)), _) => part,
        (None, "workers" | "spawn" | "reexec" | "succession" | "bsd" | "windows") => folder,
        (None, _) => "loop",
    }
}

#[test]
fn the_holder_stays_within_its_budget() {
    let mut counted = BTreeMap::new();
    for source in holder() {
        *counted.entry(part(&source.path).to_owned()).or_insert(0) += lines_of_code(&source);
    }
    let mut broken = Vec::new();
    for (part, most) in LINES_MAX {
        let lines = counted.get(part).copied().unwrap_or(0);
        if lines > most {
            broken.push(format!(
                "{part}: {lines} lines of code, {most} at most: move what can be decided \
                 elsewhere out of the holder"
            ));
        }
    }
    for (file, _) in ELSEWHERE {
        let there = holder().iter().any(|one| one.path[ROOT.len()..] == *file);
        broken.extend((!there).then(|| format!("{file}: there is no such file")));
    }
    report("the holder is too large", &broken);
}

/// The files of the holder as one platform compiles them: their module path and their number.
struct View {
    sources: Vec<Source>,
    modules: BTreeMap<Vec<String>, usize>,
}

impl View {
    /// `kernel` is the folder behind `crate::kernel`; none on Windows, where lib.rs says which
    /// files are compiled.
    fn new(mut sources: Vec<Source>, platform: &str) -> View {
        let library = sources.iter().find(|one| one.path == "src/holder/lib.rs");
        let unix = unix_modules(library.expect("src/holder/lib.rs"));
        sources.retain(|source| {
            let inside = &source.path[ROOT.len()..];
            let folder = inside.split(['/', '.']).next().unwrap_or_default();
            match folder {
                "linux" | "bsd" | "windows" => folder == platform,
                module => platform != "windows" || !unix.contains(module),
            }
        });
        let path = |source: &Source| module_path(&source.path[ROOT.len()..]);
        let modules = sources.iter().map(path).zip(0..).collect();
        View { sources, modules }
    }

    /// The file that a path names, from the file `from`; what a `mod.rs` passes on counts as the
    /// file it comes from.
    fn resolve(&self, path: &[String]) -> Option<usize> {
        let known = |length: usize| self.modules.get(&path[..length]).copied();
        let (length, file) = (0..=path.len())
            .rev()
            .find_map(|length| known(length).map(|file| (length, file)))?;
        let passes_on = ["mod.rs", "lib.rs"]
            .iter()
            .any(|end| self.sources[file].path.ends_with(end));
        match path.get(length).filter(|_| passes_on) {
            Some(name) => self.passed_on(&path[..length], file, name).or(Some(file)),
            None => Some(file),
        }
    }

    fn passed_on(&self, module: &[String], file: usize, name: &str) -> Option<usize> {
        let uses = paths_of(&self.sources[file]);
        let mut children = uses
            .into_iter()
            .filter(|path| path.last().is_some_and(|last| last == name));
        children.find_map(|path| {
            let child = [module, &path[..path.len() - 1]].concat();
            self.modules
                .get(&child)
                .copied()
                .filter(|child| *child != file)
        })
    }

    /// Which files each file imports.
    fn imports(&self) -> Vec<BTreeSet<usize>> {
        let mut imports = vec![BTreeSet::new(); self.sources.len()];
        for (module, file) in &self.modules {
            let hub = self.sources[*file].path.ends_with("mod.rs") || module.is_empty();
            for path in paths_of(&self.sources[*file]) {
                let absolute = match path.first().map(String::as_str) {
                    Some("crate") => path[1..].to_vec(),
                    Some("self") => [module, &path[1..]].concat(),
                    Some("super") => {
                        let ups = path.iter().take_while(|part| *part == "super").count();
                        let above = module.len().saturating_sub(ups);
                        [&module[..above], &path[ups..]].concat()
                    }
                    // A child module; a hub only passes on what it has from there.
                    _ if hub => continue,
                    _ => [module.as_slice(), &path].concat(),
                };
                let found = self.resolve(&absolute);
                imports[*file].extend(found.filter(|found| found != file));
            }
        }
        imports
    }

    /// Files that import each other, in a circle, by the path of each.
    fn circles(&self) -> Vec<Vec<&str>> {
        let imports = self.imports();
        let reach = |from: usize| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(file) = next.pop() {
                next.extend(imports[file].iter().filter(|file| seen.insert(**file)));
            }
            seen
        };
        let reached: Vec<BTreeSet<usize>> = (0..self.sources.len()).map(reach).collect();
        let mut circles = BTreeSet::new();
        for (file, seen) in reached
            .iter()
            .enumerate()
            .filter(|(file, seen)| seen.contains(file))
        {
            let mutual = seen.iter().filter(|other| reached[**other].contains(&file));
            circles.insert(
                mutual
                    .map(|file| self.sources[*file].path.as_str())
                    .collect(),
            );
        }
        circles.into_iter().collect()
    }
}

/// Modules of lib.rs that only Unix has.
fn unix_modules(library: &Source) -> BTreeSet<String> {
    let lines: Vec<&str> = library.text.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[0] == "#[cfg(unix)]");
    let name = |line: &str| Some(line.strip_suffix(';')?.rsplit_once("mod ")?.1.to_owned());
    pairs.filter_map(|pair| name(pair[1])).collect()
}

fn module_path(inside: &str) -> Vec<String> {
    let mut path: Vec<String> = inside
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if path
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        path.pop();
    }
    let second = path.get(1).map_or("", String::as_str);
    match path.first().map(String::as_str) {
        Some("linux" | "bsd") => "kernel".clone_into(&mut path[0]),
        // Shared files import these by the name that Unix has for them.
        Some("windows") if ["engine_queue", "preflight", "threads"].contains(&second) => {
            path.remove(0);
        }
        _ => {}
    }
    path
}

/// The paths in the code of a file that begin with a keyword, and those of its `use`s; groups are
/// taken apart.
fn paths_of(source: &Source) -> Vec<Vec<String>> {
    let lines = source.lines().filter(|(_, _, test)| !test);
    let code: String = lines.flat_map(|(_, line, _)| [line, "\n"]).collect();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let mut paths = Vec::new();
    for keyword in ["crate::", "super::", "self::", "use "] {
        for (at, _) in code.match_indices(keyword) {
            if at > 0 && is_part(code.as_bytes()[at - 1]) {
                continue;
            }
            let start = at + if keyword == "use " { 4 } else { 0 };
            expand(&code[start..], &[], &mut paths);
        }
    }
    paths
}

/// Adds the paths that begin at the start of `code`, each with `before` before it; returns what
/// follows them.
fn expand<'a>(code: &'a str, before: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = before.to_vec();
    let mut rest = code.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            loop {
                rest = expand(rest, &path, paths).trim_start();
                let Some(more) = rest.strip_prefix(',') else {
                    return rest.strip_prefix('}').unwrap_or(rest);
                };
                rest = more.trim_start();
                if let Some(after) = rest.strip_prefix('}') {
                    return after;
                }
            }
        }
        let end = rest.find(|one: char| !one.is_ascii_alphanumeric() && one != '_');
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        if (path.is_empty() || name != "self") && !name.is_empty() {
            path.push(name.to_owned());
        }
        match after.strip_prefix("::") {
            Some(more) => rest = more,
            None => {
                paths.push(path);
                let renamed = after.strip_prefix(" as ");
                return renamed.map_or(after, |name| {
                    name.trim_start_matches(|one: char| one.is_ascii_alphanumeric() || one == '_')
                });
            }
        }
    }
}

#[test]
fn no_file_of_the_holder_imports_another_in_a_circle() {
    let mut broken = Vec::new();
    for (platform, most) in IN_CIRCLES_MAX {
        let view = View::new(holder(), platform);
        let circles = view.circles();
        let files = circles.iter().map(Vec::len).sum::<usize>();
        if files > most {
            broken.push(format!(
                "{platform}: {files} files, {most} at most: {circles:?}: give what two of them \
                 need a file of its own"
            ));
        }
    }
    report("files that import each other", &broken);
}

#[test]
fn circles_are_found() {
    let source = |path: &str, text: &str| Source::new(&format!("{ROOT}{path}"), text.to_owned());
    let sources = || {
        vec![
            source("lib.rs", "#[cfg(unix)]\nmod a;\nmod b;\npub use a::A;"),
            source(
                "a.rs",
                "use crate::kernel::{self, Poll as P};\nuse crate::b;",
            ),
            source("b.rs", "fn f() { crate::c::g::<super::d::D>() }"),
            source("c.rs", "#[cfg(test)]\nmod tests { use crate::b; }"),
            source("d.rs", "use crate::A;"),
            source("linux/mod.rs", "mod poll;\npub(crate) use poll::Poll;"),
            source("linux/poll.rs", "use crate::c::C;"),
            source(
                "windows/mod.rs",
                "use crate::b;\nuse super::b::{X, Y::{self, Z}};",
            ),
        ]
    };
    let circles = |platform: &str| {
        let view = View::new(sources(), platform);
        let circles = view.circles();
        circles.iter().map(|one| one.join(" ")).collect::<Vec<_>>()
    };
    let circle = "src/holder/a.rs src/holder/b.rs src/holder/d.rs";
    assert_eq!(circles("linux"), [circle]);
    assert_eq!(circles("windows"), [""; 0]);
}
