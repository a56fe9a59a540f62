//! Terminal sessions of the documents: each command is run, and prints what the page says.
//! Owns the runner and the marks of a page that it follows (see `docs/guides/README.md`).
//! Never compares times, process ids and folders: those are placeholders on both sides; nor
//! progress, which is printed where something takes longer than a second.
//!
//! `UPDATE_DOCS=1 cargo test --test it sessions` writes what is printed into the pages.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use regex::Regex;
use tempfile::TempDir;

use super::daemon::{binary, free_address, skip, wait_for};
use super::docs::{Block, Page, Part};

/// What the folder of a session is called in a page, and what the system in it.
const FOLDER: &str = "/srv/shop";
const NAME: &str = "shop";
/// The address of a server in a page; each session has one of its own.
const ADDRESS: (&str, &str) = ("127.0.0.1", "8931");
/// The longest that one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(40);

/// A folder with a system that is down when this is dropped.
struct Shop {
    parent: TempDir,
    address: SocketAddr,
}

impl Shop {
    fn new() -> Shop {
        let parent = tempfile::tempdir().expect("a folder");
        for folder in ["state", "run", NAME] {
            let path = parent.path().join(folder);
            fs::create_dir(&path).expect("a folder");
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, private).expect("changed");
        }
        let address = free_address().parse().expect("an address");
        Shop { parent, address }
    }

    fn folder(&self) -> PathBuf {
        self.parent.path().join(NAME)
    }

    /// Text of the page, as it holds here.
    fn here(&self, text: &str) -> String {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        text.replace(ADDRESS.0, &host)
            .replace(ADDRESS.1, &port.to_string())
    }

    /// What was printed here, as the page calls it.
    fn there(&self, text: &str) -> String {
        let folder = self.folder();
        let real = folder.canonicalize().expect("a path");
        let text = text.replace(&*real.to_string_lossy(), FOLDER);
        let text = text.replace(&*folder.to_string_lossy(), FOLDER);
        let parent = self.parent.path().to_string_lossy();
        let text = text.replace(&format!("{parent}/state"), "~/.local/state");
        let text = text.replace(&format!("{parent}/run"), "/run/user/1000");
        let text = text.replace(&self.address.ip().to_string(), ADDRESS.0);
        let port = Regex::new(&format!(r"\b{}\b", self.address.port())).expect("a pattern");
        let text = port.replace_all(&text, ADDRESS.1);
        let progress = Regex::new(r"(?m)^[a-z].*, [0-9]+ s\n").expect("a pattern");
        progress.replace_all(&text, "").into_owned()
    }

    /// Writes a file of the page; one that begins with `#!` may be run.
    fn write(&self, path: &str, lines: &[&str]) {
        let path = self.folder().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let text = self.here(&(lines.join("\n") + "\n"));
        fs::write(&path, &text).expect("a file");
        if text.starts_with("#!") {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("changed");
        }
    }

    /// Runs a command of the page, and returns what it printed and whether it succeeded.
    fn run(&self, command: &str) -> (String, bool) {
        let programs = Path::new(binary()).parent().expect("a folder");
        let (own, path) = (
            self.folder().join("bin"),
            std::env::var("PATH").unwrap_or_default(),
        );
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let (reader, writer) = (
            self.parent.path().join("printed"),
            "a file for what it prints",
        );
        let writer = fs::File::create(&reader).expect(writer);
        let mut child = Command::new("/bin/sh")
            .args(["-c", &self.here(command)])
            .current_dir(self.folder())
            .env(
                "PATH",
                format!("{}:{}:{path}", own.display(), programs.display()),
            )
            .env("XDG_STATE_HOME", self.parent.path().join("state"))
            .env("XDG_RUNTIME_DIR", self.parent.path().join("run"))
            .env("CLIENTS", clients)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("MAINSTAY_CONFIG")
            .stdin(Stdio::null())
            .stderr(writer.try_clone().expect("the same file"))
            .stdout(writer)
            .process_group(0)
            .spawn()
            .expect("a shell");
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("our child") {
                break status;
            }
            if started.elapsed() > COMMAND_TIMEOUT {
                let group = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
                let _gone = killpg(group, Signal::SIGKILL);
                break child.wait().expect("our child");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let printed = fs::read(&reader).expect("what it printed");
        let printed = String::from_utf8_lossy(&printed);
        (self.there(&printed), status.success())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.run("mainstay down");
        super::daemon::remove_groups(&self.parent.path().join("state/mainstay").join(NAME));
    }
}

/// Text without what differs from run to run.
fn normal(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, name) in [
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
        (r"\b\d\d:\d\d:\d\d\b", "TIME"),
        (r"#\d+", "NUMBER"),
        (r"\b\d+(\.\d+)? ?(ms|s|min|m|h|days?)\b( \d+s\b)?", "SPAN"),
        (r"about SPAN|SPAN to SPAN", "SPAN"),
        (r"\b(pid|process) +\d+", "PID"),
        (r"\buid \d+|\b[a-z_]+ \(uid \d+\)", "USER"),
        (r"\d+(\.\d+)?%|\d+(\.\d+)? ?[KMG]i?B?\b", "USE"),
        (r" +", " "),
    ] {
        let pattern = Regex::new(pattern).expect("a pattern");
        text = pattern.replace_all(&text, name).into_owned();
    }
    // The use of a run is known from its first sample on.
    let lines = text
        .lines()
        .map(|line| line.trim_end().trim_end_matches(" USE"));
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// Whether this is what the page says; a line `…` of the page is any number of lines.
fn is_same(printed: &str, expected: &str) -> bool {
    let parts: Vec<String> = normal(expected)
        .split('\n')
        .map(|line| match line {
            "…" => r"(?:.*\n)*?".to_owned(),
            line => regex::escape(line) + r"\n",
        })
        .collect();
    let pattern = Regex::new(&format!(r"\A{}\z", parts.concat())).expect("a pattern");
    pattern.is_match(&(normal(printed) + "\n"))
}

/// Runs the commands of a block; returns it with what was printed, and where that differs.
fn session(shop: &Shop, block: &Block) -> (Vec<String>, Vec<String>) {
    let (mut written, mut wrong) = (Vec::new(), Vec::new());
    let mut lines = block.lines.iter().peekable();
    while let Some(line) = lines.next() {
        let mut command = line.strip_prefix("$ ").expect("a command").to_owned();
        written.push((*line).to_owned());
        while command.ends_with('\\') {
            let more = lines.next().expect("the rest of a command");
            written.push((*more).to_owned());
            command = format!("{command}\n{more}");
        }
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push_str(line);
            expected.push('\n');
        }
        let (printed, _) = shop.run(&command);
        let is_same = is_same(&printed, &expected);
        if !is_same {
            wrong.push(format!("$ {command}\nsays\n{expected}\nprinted\n{printed}"));
        }
        let text = if is_same { &expected } else { &printed };
        written.extend(
            text.trim_end()
                .lines()
                .map(|line| line.trim_end().to_owned()),
        );
    }
    (written, wrong)
}

/// Runs the sessions of a page; returns the page with what was printed, and where that differs.
fn repeat(page: &Page) -> (String, Vec<String>) {
    let (mut written, mut wrong) = (Vec::new(), Vec::new());
    let mut shop: Option<Shop> = None;
    let mut is_skipped = false;
    for part in &page.parts {
        let block = match part {
            Part::Line(line) => {
                written.push((*line).to_owned());
                continue;
            }
            Part::Block(block) => block,
        };
        written.push(block.first.to_owned());
        let is_new = block.has("session");
        if is_new {
            is_skipped = block.value("needs").is_some_and(|programs| {
                let missing = programs.split(',').find(|program| is_missing(program));
                missing
                    .map(|program| skip(&format!("no {program} here")))
                    .is_some()
            });
            shop = (!is_skipped).then(Shop::new);
        }
        let mut lines: Vec<String> = block.lines.iter().map(|line| (*line).to_owned()).collect();
        if let Some(shop) = shop.as_ref().filter(|_| !is_skipped) {
            let default = (is_new && block.language() == "toml").then_some("config/mainstay.toml");
            if let Some(path) = block.value("file").or(default) {
                shop.write(path, &block.lines);
            } else if let Some(command) = block.first.strip_prefix("<!-- wait: ") {
                let command = command.trim_end_matches("-->").trim();
                let reached = wait_for(command, || shop.run(command).1.then_some(()));
                assert!(reached.is_some(), "{}: never: {command}", page.path);
            } else if block.is_run() {
                let (printed, differs) = session(shop, block);
                lines = printed;
                wrong.extend(differs);
            }
        } else if block.is_run() {
            assert!(is_skipped, "{}: a session without a folder", page.path);
        }
        written.extend(lines);
        written.extend(block.last.map(ToOwned::to_owned));
    }
    (written.join("\n") + "\n", wrong)
}

fn is_missing(program: &str) -> bool {
    let found = Command::new("/bin/sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status();
    !found.is_ok_and(|status| status.success())
}

fn check(path: &str) {
    let page = Page::read(path);
    let (written, wrong) = repeat(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page.file(), written).expect("written");
    } else {
        assert!(wrong.is_empty(), "{path}:\n{}", wrong.join("\n---\n"));
    }
}

/// A test for each page with a session, so that they run side by side.
macro_rules! pages {
    ($($name:ident $path:literal)*) => {
        /// Every page with a session.
        pub(crate) const PAGES: &[&str] = &[$($path),*];
        $(#[test]
        fn $name() {
            check($path);
        })*
    };
}

pages! {
    the_readme_says_what_is_printed "README.md"
    the_page_on_reloads_says_what_is_printed "docs/reload.md"
    the_first_app_says_what_is_printed "docs/guides/first-app.md"
    moving_from_process_compose_says_what_is_printed "docs/guides/from-process-compose.md"
    moving_from_supervisord_says_what_is_printed "docs/guides/from-supervisord.md"
    moving_from_systemd_says_what_is_printed "docs/guides/from-systemd.md"
    moving_from_pm2_says_what_is_printed "docs/guides/from-pm2.md"
    modules_in_other_languages_say_what_is_printed "docs/guides/modules.md"
    the_user_interface_says_what_is_printed "docs/guides/user-interface.md"
    production_says_what_is_printed "docs/guides/production.md"
    troubleshooting_says_what_is_printed "docs/guides/troubleshooting.md"
    the_exit_codes_are_those_that_are_returned "docs/guides/exit-codes.md"
}

#[test]
fn a_page_is_compared_without_what_differs_from_run_to_run() {
    let said = "shop  HEALTHY  up 2m   1 running\n\nweb  running  5s  0.1%  20M\n";
    let printed = "shop  HEALTHY  up 2m 3s   1 running\n\nweb  running  700ms\n";
    assert!(is_same(printed, said));
    assert!(is_same("a\nb\nc\nd\n", "a\n…\nd\n") && is_same("a\nd\n", "a\n…\nd\n"));
    assert!(!is_same("a\nb\n", "a\n") && !is_same("a\n", "a\n…\nd\n"));
}
