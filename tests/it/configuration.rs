//! The command line and the configuration: what is wrong is told with its place and a code.
//! Owns the tests of `check`, `init`, `up` and of every verb's exit code.
//! Never starts anything outside the test's folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mainstay_protocol::ModuleState;

use crate::daemon::{Daemon, binary, copy_program, misbehave, prepare};

/// Runs mainstay in a folder, with everything of its own in there.
fn run_in(folder: &Path, words: &[&str]) -> Output {
    run_with(folder, words, &[])
}

fn run_with(folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(binary())
        .args(words)
        .current_dir(folder)
        .env_remove("MAINSTAY_CONFIG")
        .env("HOME", folder)
        .env("XDG_STATE_HOME", folder.join("s"))
        .env("XDG_RUNTIME_DIR", folder.join("r"))
        .envs(variables.iter().copied())
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A folder with this text as its configuration.
fn configured(text: impl AsRef<[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("config")).expect("a folder");
    fs::write(folder.path().join("config/mainstay.toml"), text).expect("a file");
    folder
}

const A: &str = "[module.a]\ncommand = [\"a\"]\n";

#[test]
fn a_broken_configuration_is_told_with_its_place_by_check_and_up() {
    let cases: [(&str, String, &str); 9] = [
        ("unknown key", "[helth]\n".to_owned(), ":1:2: "),
        (
            "unknown key of a module",
            format!("{A}comand = 1\n"),
            ":3:1: ",
        ),
        (
            "wrong type",
            "[health]\nunhealthy_threshold = \"3\"\n".to_owned(),
            ":2:23: ",
        ),
        (
            "bad duration",
            "[health]\ninterval = \"soon\"\n".to_owned(),
            ":2:12: ",
        ),
        (
            "cycle",
            format!("{A}requires = [\"b\"]\n[module.b]\ncommand = [\"b\"]\nrequires = [\"a\"]\n"),
            ":3:13: ",
        ),
        ("self edge", format!("{A}requires = [\"a\"]\n"), ":3:13: "),
        (
            "missing module",
            format!("{A}requires = [\"zebra\"]\n"),
            ":3:13: ",
        ),
        ("duplicate name", format!("{A}{A}"), ":3:9: "),
        ("no TOML", "[module.a\n".to_owned(), ":1:"),
    ];
    for (what, text, place) in cases {
        let folder = configured(&text);
        for verb in ["check", "up"] {
            let output = run_in(folder.path(), &[verb]);
            let told = said(&output);
            assert_eq!(output.status.code(), Some(5), "{what}: {verb}: {told}");
            assert!(
                told.contains(&format!("config/mainstay.toml{place}")),
                "{what}: {verb}: {told}"
            );
        }
    }
    let both = configured("[helth]\n[logs]\nkep = 1\n");
    let told = said(&run_in(both.path(), &["check"]));
    assert!(
        told.contains("did you mean `health`?") && told.contains("did you mean `keep`?"),
        "{told}"
    );
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let invalid = configured(b"[mainstay]\nname = \"\xff\"\n");
    let giant = configured("#".repeat(10_000_000));
    let directory = configured("");
    fs::remove_file(directory.path().join("config/mainstay.toml")).expect("there");
    fs::create_dir(directory.path().join("config/mainstay.toml")).expect("a folder");
    let missing = tempfile::tempdir().expect("a folder");
    for (folder, text) in [
        (
            &invalid,
            "config/mainstay.toml:2: cannot read this file: byte 19 is not UTF-8",
        ),
        (
            &giant,
            "config/mainstay.toml: cannot read this file: it is larger than 4 MiB",
        ),
        (
            &directory,
            "config/mainstay.toml: cannot read this file: it is a directory",
        ),
        (&missing, "cannot find a configuration"),
    ] {
        for verb in ["check", "up"] {
            let output = run_in(folder.path(), &[verb]);
            assert_eq!(output.status.code(), Some(5), "{}", said(&output));
            assert!(said(&output).contains(text), "{verb}: {}", said(&output));
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let hidden = configured(A);
    let path = hidden.path().join("config/mainstay.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("ours");
    fs::set_permissions(hidden.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    // Root may read everything: then it is somebody else who asks, with a program to be reached.
    let program = hidden.path().join("mainstay");
    if fs::hard_link(binary(), &program).is_err() {
        copy_program(binary(), &program);
    }
    let mut command = Command::new(&program);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command
        .arg("check")
        .current_dir(hidden.path())
        .env_remove("MAINSTAY_CONFIG")
        .env("HOME", hidden.path())
        .output()
        .expect("it runs");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(
        told.contains("config/mainstay.toml: cannot read this file"),
        "{told}"
    );
}

#[test]
fn ten_thousand_modules_are_read() {
    use std::fmt::Write;
    let mut text = String::new();
    for n in 0..10_000 {
        writeln!(text, "[module.m{n}]\ncommand = [\"true\"]").expect("a text grows");
    }
    let folder = configured(&text);
    let output = run_in(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).starts_with("configuration ok: 10000 modules"));
}

#[test]
fn options_outrank_variables_which_outrank_files() {
    let folder = configured(format!("[mainstay]\nname = \"file\"\n{A}"));
    let name = |words: &[&str], variables: &[(&str, &str)]| {
        let output = run_with(folder.path(), words, variables);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        told["name"].as_str().expect("a name").to_owned()
    };
    let variable = [("MAINSTAY__MAINSTAY__NAME", "variable")];
    assert_eq!(name(&["check", "--json"], &[]), "file");
    assert_eq!(name(&["check", "--json"], &variable), "variable");
    let set = ["check", "--json", "--set", "mainstay.name=option"];
    assert_eq!(name(&set, &variable), "option");
    let bad = run_with(
        folder.path(),
        &["check"],
        &[("MAINSTAY__HEALTH__INTERVAL", "soon")],
    );
    assert_eq!(bad.status.code(), Some(5));
    assert!(
        said(&bad).contains("MAINSTAY__HEALTH__INTERVAL"),
        "{}",
        said(&bad)
    );
    let bad = run_in(folder.path(), &["up", "--set", "health.interval=soon"]);
    assert_eq!(bad.status.code(), Some(5));
    assert!(
        said(&bad).contains("--set health.interval=soon"),
        "{}",
        said(&bad)
    );
}

#[test]
fn values_are_told_with_their_origin_by_a_running_mainstay_and_by_the_files() {
    let text = "[health]\ninterval = \"7s\"\n".to_owned()
        + &format!("[module.a]\ncommand = {}\n", misbehave(""));
    let daemon = Daemon::start(&text);
    let ask = |words: &[&str]| {
        let output = daemon.cli(&[&["config", "get"], words].concat());
        (output.status.code(), said(&output))
    };
    assert_eq!(ask(&["health.interval"]), (Some(0), "7s\n".to_owned()));
    // The files may say something else by now: what is in force is told.
    fs::create_dir(daemon.path("config/conf.d")).expect("a folder");
    let later = daemon.path("config/conf.d/later.toml");
    fs::write(later, "[health]\ninterval = \"8s\"\n").expect("written");
    let (code, told) = ask(&["module.a.health.interval", "--origin"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.starts_with("7s  # ") && told.contains("mainstay.toml:"),
        "{told}"
    );
    let (code, told) = ask(&["health.intervall"]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("did you mean `interval`?"), "{told}");
    let (code, told) = ask(&["--json"]);
    assert_eq!(code, Some(0), "{told}");
    let read: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert!(read["values"].as_array().is_some_and(|all| all.len() > 50));

    let folder = configured(text);
    let down = run_in(
        folder.path(),
        &["config", "get", "health.interval", "--origin"],
    );
    assert_eq!(
        String::from_utf8_lossy(&down.stdout),
        "7s  # config/mainstay.toml:2\n"
    );
    assert!(
        said(&down).contains("is not running: read from its files"),
        "{}",
        said(&down)
    );
}

#[test]
fn init_then_up_in_an_empty_folder_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |words: &[&str]| {
        let output = run_in(folder.path(), words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    };
    run(&["init", "first"]);
    run(&["check"]);
    let up = run(&["up", "--detach"]);
    assert!(
        up.contains("first is up (healthy): 1 module running"),
        "{up}"
    );
    let again = run_in(folder.path(), &["up", "-d"]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(run(&["status"]).contains("clock"));
    assert!(run(&["why", "clock"]).contains("clock"));
    let unknown = run_in(folder.path(), &["status", "clokc"]);
    assert_eq!(unknown.status.code(), Some(4));
    assert!(
        said(&unknown).contains("did you mean clock?"),
        "{}",
        said(&unknown)
    );
    for words in [
        &["stop", "nobody"][..],
        &["logs", "nobody"],
        &["why", "nobody"],
    ] {
        assert_eq!(
            run_in(folder.path(), words).status.code(),
            Some(4),
            "{words:?}"
        );
    }
    run(&["down"]);
    assert_eq!(run_in(folder.path(), &["status"]).status.code(), Some(3));
    assert_eq!(
        run_in(folder.path(), &["init"]).status.code(),
        Some(1),
        "nothing is overwritten"
    );
}

#[test]
fn every_verb_says_by_its_code_that_nothing_runs() {
    let folder = configured(A);
    for words in [
        &["status"][..],
        &["status", "a"],
        &["start", "a"],
        &["stop", "a"],
        &["restart", "a"],
        &["logs", "a"],
        &["events"],
        &["events", "-f"],
        &["why", "a"],
        &["down"],
    ] {
        let output = run_in(folder.path(), words);
        assert_eq!(
            output.status.code(),
            Some(3),
            "{words:?}: {}",
            said(&output)
        );
        // Whoever wants it down has nothing to do.
        let next = if words == ["down"] {
            "does not run"
        } else {
            "mainstay up"
        };
        assert!(
            said(&output).contains(next),
            "it says what to do: {}",
            said(&output)
        );
    }
    for words in [
        &["frobnicate"][..],
        &[],
        &["start"],
        &["up", "--timeout", "soon"],
        &["status", "--al"],
    ] {
        assert_eq!(
            run_in(folder.path(), words).status.code(),
            Some(2),
            "{words:?}"
        );
    }
    for words in [
        &["--help"][..],
        &["--version"],
        &["completions", "bash"],
        &["check", "--schema"],
    ] {
        assert_eq!(
            run_in(folder.path(), words).status.code(),
            Some(0),
            "{words:?}"
        );
    }
}

#[test]
fn places_that_cannot_be_used_are_told_before_anything_starts() {
    let up = |head: &str| {
        let folder = configured(format!(
            "[mainstay]\n{head}\n[module.a]\ncommand = {}\n",
            misbehave("")
        ));
        fs::write(folder.path().join("file"), "").expect("a file");
        let output = run_in(folder.path(), &["up"]);
        (output.status.code(), said(&output))
    };
    let (code, told) = up("state_dir = \"${project}/file/state\"");
    assert!(
        code == Some(1) && told.contains("file/state"),
        "{code:?}: {told}"
    );
    let (code, told) = up("runtime_dir = \"${project}/file\"");
    assert!(
        code == Some(1) && told.contains("/file"),
        "{code:?}: {told}"
    );
    let deep = "d".repeat(120);
    let (code, told) = up(&format!("runtime_dir = \"${{project}}/{deep}\""));
    assert!(
        code.is_some_and(|code| code == 1 || code == 5),
        "{code:?}: {told}"
    );
    assert!(
        told.contains("the system allows") && told.contains("runtime_dir"),
        "{told}"
    );
}

#[test]
fn a_folder_that_others_may_write_is_not_used_for_sockets() {
    use std::os::unix::fs::PermissionsExt;
    let dir = prepare("", &format!("[module.a]\ncommand = {}\n", misbehave("")));
    let run = dir.path().join("run");
    fs::create_dir(&run).expect("a folder");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).expect("ours");
    let mut daemon = Daemon::launch_in(dir);
    // Either it refuses, or it makes the folder safe before it uses it.
    let seen = daemon.wait("a decision", || {
        let socket = daemon.path("run/control.sock").exists();
        (socket || daemon.printed().contains("cannot")).then_some(socket)
    });
    if seen {
        daemon.until("a", ModuleState::Running);
        let mode = fs::metadata(daemon.path("run"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(
            mode & 0o022,
            0,
            "{mode:o}: others may put their own sockets there"
        );
    } else {
        assert_eq!(daemon.ended(), Some(1));
    }
}
