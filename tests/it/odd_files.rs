//! Files of a configuration that are no plain files, or have no end: an error at once, also when
//! they become so while mainstay runs. Never looks inside.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;

use crate::daemon::{Daemon, binary, misbehave, prepare};

const KINDS: [&str; 5] = ["fifo", "socket", "directory", "endless", "large"];

/// Puts something else in the place of a file.
fn replace(path: &Path, kind: &str) {
    let _absent = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    match kind {
        "fifo" => {
            let mode = nix::sys::stat::Mode::S_IRWXU;
            nix::unistd::mkfifo(path, mode).expect("a fifo");
        }
        "socket" => drop(UnixListener::bind(path).expect("a socket")),
        "directory" => fs::create_dir(path).expect("a folder"),
        "endless" => symlink("/dev/zero", path).expect("a link"),
        _ => {
            let file = fs::File::create(path).expect("a file");
            file.set_len(1 << 30).expect("a file with a hole");
        }
    }
}

/// A folder with one file of each sort, by its place in it.
fn project() -> (tempfile::TempDir, [&'static str; 4]) {
    let module = format!(
        "[module.a]\ncommand = {}\nenv_file = \"${{project}}/a.env\"\n",
        misbehave("")
    );
    let dir = prepare("modules = [\"../mods/*\"]", &module);
    let files = [
        "config/mainstay.toml",
        "config/conf.d/x.toml",
        "mods/b/module.toml",
        "a.env",
    ];
    for folder in ["config/conf.d", "mods/b"] {
        fs::create_dir_all(dir.path().join(folder)).expect("a folder");
    }
    let b = format!("command = {}\n", misbehave(""));
    for (file, text) in files[1..]
        .iter()
        .zip(["[health]\ninterval = \"10s\"\n", &b, "A=1\n"])
    {
        fs::write(dir.path().join(file), text).expect("a file");
    }
    (dir, files)
}

fn check(dir: &Path) -> (Output, Duration) {
    let began = Instant::now();
    let output = Command::new(binary())
        .args(["check", "--config"])
        .arg(dir.join("config"))
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    (output, began.elapsed())
}

#[test]
fn a_file_of_the_configuration_that_is_no_file_is_an_error_at_once() {
    for kind in KINDS {
        let (dir, files) = project();
        let (good, _) = check(dir.path());
        assert!(good.status.success(), "{good:?}");
        for file in files {
            let path = dir.path().join(file);
            let before = fs::read(&path).expect("a file");
            replace(&path, kind);
            let (output, took) = check(dir.path());
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let text = text + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(5), "{kind} {file}: {text}");
            assert!(text.contains("cannot read"), "{kind} {file}: {text}");
            assert!(took < Duration::from_secs(20), "{kind} {file}: {took:?}");
            let _was = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
            fs::write(&path, before).expect("a file");
        }
    }
}

#[test]
fn a_file_that_becomes_something_else_while_it_runs_holds_nothing_up() {
    let (dir, files) = project();
    let mut daemon = Daemon::launch_in(dir);
    daemon.until("b", ModuleState::Running);
    for kind in KINDS {
        for file in files {
            let path = daemon.path(file);
            let before = fs::read(&path).expect("a file");
            replace(&path, kind);
            daemon.signal(libc::SIGHUP);
            let began = Instant::now();
            daemon.status();
            daemon.change(name::MODULE_RESTART, "a");
            let took = began.elapsed();
            assert!(took < Duration::from_secs(20), "{kind} {file}: {took:?}");
            let _was = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
            fs::write(&path, before).expect("a file");
        }
    }
    // A runtime that returns goes on with the plan that is kept.
    replace(&daemon.path(files[3]), "fifo");
    replace(&daemon.path(files[0]), "fifo");
    daemon.kill_runtime();
    daemon.until("b", ModuleState::Running);
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.ended(), Some(0), "{}", daemon.printed());
}
