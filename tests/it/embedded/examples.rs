//! The examples of the documentation, run as they are.
//! Owns the promise that they work; one of them is killed. Never looks inside.

use std::path::Path;
use std::process::{Command, Stdio};

use mainstay_client::blocking::Client;
use mainstay_protocol::{ModuleState, ModuleView};

use super::gone;
use crate::daemon::{prepare, remove_groups, wait_for};

/// An example of `docs/examples`, built by the same command.
fn example(name: &str) -> Command {
    let path = Path::new(crate::daemon::binary())
        .with_file_name("examples")
        .join(name);
    assert!(
        path.exists(),
        "cannot find {}: run `cargo test --workspace`",
        path.display()
    );
    Command::new(path)
}

#[test]
fn modules_end_with_an_application_that_is_killed() {
    let dir = prepare("", "");
    let mut application = example("embedded")
        .arg("1000")
        .env("MAINSTAY__MAINSTAY__STATE_DIR", dir.path().join("state"))
        .env("MAINSTAY__MAINSTAY__RUNTIME_DIR", dir.path().join("run"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let socket = dir.path().join("run/control.sock");
    let processes = wait_for("both processes", || {
        let modules = Client::connect(&socket).ok()?.modules().ok()?;
        let pids: Vec<u32> = modules.iter().filter_map(|view| view.pid).collect();
        (pids.len() == 2).then_some(pids)
    });
    // The window on it, while there is something to see.
    let window = example("status_window")
        .arg(&socket)
        .arg("2")
        .stdin(Stdio::null())
        .output();
    application.kill().expect("it is ours");
    application.wait().expect("it is ours");
    processes.expect("both run").into_iter().for_each(gone);
    remove_groups(&dir.path().join("state"));
    let window = window.expect("it runs");
    let drawn = String::from_utf8_lossy(&window.stdout);
    assert!(window.status.success(), "{window:?}");
    assert_eq!(drawn.matches("MODULE").count(), 2, "{drawn}");
    assert!(
        drawn.contains("clock") && drawn.contains("indexer"),
        "{drawn}"
    );
}

#[test]
fn the_example_application_runs_to_its_end() {
    let dir = prepare("", "");
    let output = example("embedded")
        .arg("1")
        .env("MAINSTAY__MAINSTAY__STATE_DIR", dir.path().join("state"))
        .env("MAINSTAY__MAINSTAY__RUNTIME_DIR", dir.path().join("run"))
        .output()
        .expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for word in [
        "listener: index.grown",
        "indexer",
        "heater",
        "stopped; 0 by force",
    ] {
        assert!(printed.contains(word), "no {word:?} in {printed}");
    }
}

#[test]
fn the_example_module_runs_in_and_outside_of_mainstay() {
    let alone = example("module")
        .args(["--for", "1"])
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&alone.stdout), "1\n");
    let program = example("module")
        .get_program()
        .to_string_lossy()
        .into_owned();
    let daemon = crate::daemon::Daemon::start(&format!(
        "[module.counter]\ncommand = [\"{program}\"]\nready = {{ notify = true }}\n\
         settings = {{ step = 2 }}\n"
    ));
    let said = |view: &ModuleView| {
        view.status_text
            .as_deref()
            .is_some_and(|text| text.starts_with("counted to "))
    };
    let view = daemon.until_view("a count", "counter", said);
    assert_eq!(view.state, ModuleState::Running);
    assert_eq!(daemon.stop(), Some(0));
}
