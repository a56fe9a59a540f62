//! `mainstay service` where no service manager is needed: what it would do, and what it refuses.
//! Owns nothing on the machine. Never installs: packaging/test/systemd-vm does, in a machine of its
//! own.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Output};

use crate::daemon::{binary, copy_program, prepare, skip};

/// A folder whose name has everything that has a meaning in a unit.
const ODD: &str = "a b/\"q\" 'p'/100%s/$HOME/back\\slash/ü";

fn service(words: &[&str], config: &Path) -> Output {
    let mut command = Command::new(binary());
    command
        .arg("service")
        .args(words)
        .arg("--config")
        .arg(config);
    command.output().expect("the command line runs")
}

/// The unit that an explanation shows.
fn unit_of(explained: &str) -> String {
    let mut unit = String::new();
    let lines = explained
        .lines()
        .skip_while(|line| !line.starts_with("File "));
    for line in lines
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("  "))
    {
        unit.push_str(line.trim_start_matches("  "));
        unit.push('\n');
    }
    unit
}

#[test]
fn an_explanation_shows_a_unit_that_systemd_accepts_and_does_nothing() {
    let dir = prepare("", "[module.it]\ncommand = [\"true\"]\n");
    let odd = dir.path().join(ODD);
    fs::create_dir_all(&odd).expect("a folder");
    fs::rename(dir.path().join("config"), odd.join("config")).expect("moved");
    for scope in ["--system", "--user"] {
        let explained = service(&["install", "--explain", scope], &odd.join("config"));
        let text = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert!(explained.status.success(), "{explained:?}");
        for part in [
            "nothing was done",
            "Rights\n",
            "Commands\n",
            "daemon-reload",
            "Type=notify",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!dir.path().join("state").exists(), "nothing was done");
        let path = dir.path().join("mainstay-test.service");
        fs::write(&path, unit_of(&text)).expect("a unit");
        let mut verify = Command::new("systemd-analyze");
        verify
            .arg("verify")
            .args((scope == "--user").then_some("--user"))
            .arg(&path);
        let Ok(verified) = verify.env("XDG_RUNTIME_DIR", dir.path()).output() else {
            skip("no systemd-analyze here");
            continue;
        };
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(!said.contains("mainstay-test"), "{said}\n{text}");
    }
    let removed = service(&["uninstall", "--explain", "--system"], &odd.join("config"));
    let text = String::from_utf8_lossy(&removed.stdout);
    assert!(
        text.contains("/etc/systemd/system/mainstay-test.service"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_installed_is_refused_before_anything_is_done() {
    let dir = prepare("", "[module.it]\ncommand = [\"true\"]\n");
    let config = dir.path().join("config");
    let said = |words: &[&str]| {
        let refused = service(words, &config);
        assert!(!refused.status.success(), "{refused:?}");
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    if Path::new("/run/systemd/system").exists() {
        skip("systemd runs here");
    } else {
        let why = "systemd does not run here (there is no /run/systemd/system); run `mainstay up`";
        let text = said(&["install", "--system"]);
        assert!(
            text.starts_with(&format!("cannot install the service: {why}")),
            "{text}"
        );
        let text = said(&["uninstall", "--system"]);
        assert!(
            text.starts_with(&format!("cannot uninstall the service: {why}")),
            "{text}"
        );
        assert!(!Path::new("/etc/systemd/system/mainstay-test.service").exists());
    }
    assert!(!dir.path().join("state").exists(), "nothing was done");
    fs::write(config.join("mainstay.toml"), "[mainstay\n").expect("written");
    assert!(said(&["install", "--system", "--explain"]).contains("mainstay.toml"));
}

#[test]
fn a_service_of_the_machine_runs_no_program_that_another_user_may_change() {
    if !nix::unistd::geteuid().is_root() {
        return skip("not root: there is no service of the machine");
    }
    let dir = prepare("", "[module.it]\ncommand = [\"true\"]\n");
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).expect("a folder");
    let program = theirs.join("mainstay");
    copy_program(binary(), &program);
    chown(&theirs, Some(12345), None).expect("theirs");
    let mut command = Command::new(&program);
    command.args(["service", "install", "--system", "--config"]);
    // Whoever became root by sudo is not there when the machine starts.
    command
        .arg(dir.path().join("config"))
        .env("SUDO_UID", "12345");
    let refused = command.output().expect("the command line runs");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{text}");
    let expected = ["12345", "install mainstay where root alone may write"];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
}
