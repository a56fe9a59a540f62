//! Terminal sessions of the documents: each command is run, and prints what the page says.
//! Owns the runner: a block `toml session` is a configuration, a block `console` a session with it.
//! Never compares times, process ids and folders: those are placeholders on both sides; nor
//! progress, which is printed where something takes longer than a second.
//!
//! `UPDATE_DOCS=1 cargo test --test it sessions` writes what is printed into the pages.

use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;
use tempfile::TempDir;

use super::daemon::binary;

/// The pages with sessions.
const PAGES: &[&str] = &["docs/reload.md"];
/// What the folder of a session is called in a page.
const FOLDER: &str = "/srv/shop";

/// A folder with an instance that is down when this is dropped.
struct Shop(TempDir);

impl Shop {
    fn new(configuration: &str) -> Shop {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in ["config", "state", "run"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(dir.path().join("run"), private).expect("changed");
        }
        fs::write(dir.path().join("config/mainstay.toml"), configuration).expect("a file");
        Shop(dir)
    }

    /// Runs a command of the page, and returns what it printed, as the page calls it.
    fn run(&self, command: &str) -> String {
        let dir = self.0.path();
        let folder = Path::new(binary()).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("/bin/sh")
            .args(["-c", &format!("{command} 2>&1")])
            .current_dir(dir)
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("XDG_STATE_HOME", dir.join("state"))
            .env("XDG_RUNTIME_DIR", dir.join("run"))
            .env_remove("MAINSTAY_CONFIG")
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let real = dir.canonicalize().expect("a path");
        let text = text.replace(&*real.to_string_lossy(), FOLDER);
        let text = text.replace(&*dir.to_string_lossy(), FOLDER);
        let progress = Regex::new(r"(?m)^[a-z].*, [0-9]+ s\n").expect("a pattern");
        progress.replace_all(&text, "").into_owned()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.run("mainstay down");
        super::daemon::remove_groups(&self.0.path().join("state/mainstay/shop"));
    }
}

/// Text without what differs from run to run.
fn normal(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, name) in [
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
        (r"\b\d\d:\d\d:\d\d\b", "TIME"),
        (r"\b\d+(\.\d+)? ?(ms|s|min|m|h|days?)\b", "SPAN"),
        (r"\b(pid|process) +\d+", "PID"),
        (r"\buid \d+|\b[a-z_]+ \(uid \d+\)", "USER"),
        (r"\d+(\.\d+)?%|\d+(\.\d+)? ?[KMG]i?B?\b", "USE"),
        (r" +", " "),
    ] {
        let pattern = Regex::new(pattern).expect("a pattern");
        text = pattern.replace_all(&text, name).into_owned();
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Runs the sessions of a page; returns the page with what was printed, and where that differs.
fn repeat(page: &str) -> (String, Vec<String>) {
    let (mut written, mut wrong) = (String::new(), Vec::new());
    let mut shop: Option<Shop> = None;
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        written.push_str(line);
        written.push('\n');
        let is_session = line == "```console";
        if line != "```toml session" && !is_session {
            continue;
        }
        let mut block: Vec<&str> = Vec::new();
        while let Some(line) = lines.next_if(|line| *line != "```") {
            block.push(line);
        }
        if !is_session {
            written.extend(block.iter().map(|line| format!("{line}\n")));
            shop = Some(Shop::new(&block.join("\n")));
            continue;
        }
        let shop = shop.as_ref().expect("a configuration before the session");
        let mut block = block.into_iter().peekable();
        while let Some(line) = block.next() {
            let command = line.strip_prefix("$ ").expect("a command");
            let mut expected = String::new();
            while let Some(line) = block.next_if(|line| !line.starts_with("$ ")) {
                expected.push_str(line);
                expected.push('\n');
            }
            let printed = shop.run(command);
            let is_same = normal(&printed) == normal(&expected);
            if !is_same {
                wrong.push(format!("$ {command}\nsays\n{expected}\nprinted\n{printed}"));
            }
            let text = if is_same { &expected } else { &printed };
            written.push_str(&format!("$ {command}\n"));
            for line in text.trim_end().lines() {
                written.push_str(line.trim_end());
                written.push('\n');
            }
        }
    }
    (written, wrong)
}

#[test]
fn pages_say_what_is_printed() {
    for page in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = fs::read_to_string(&path).expect("a page");
        assert!(text.contains("```console"), "{page} has no session");
        let (written, wrong) = repeat(&text);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, written).expect("written");
        } else {
            assert!(wrong.is_empty(), "{page}:\n{}", wrong.join("\n---\n"));
        }
    }
}
