//! `watch`: a module is restarted when files that it is made of change.
//! Owns the saves: of one file, of a thousand, in new folders, of what is ignored.
//! Never counts on how long a save takes to be seen: each test waits for the event.

use std::fs;

use mainstay_protocol::{Event, EventKind, ModuleState};

use super::daemon::{Daemon, prepare};

/// A module that watches `src` of the test's folder.
fn watching(more: &str) -> Daemon {
    let module = format!(
        "[module.app]\ncommand = {}\nwatch = [\"src/**/*.py\"]\n{more}\n",
        "[\"sleep\", \"600\"]"
    );
    let dir = prepare("", &module);
    fs::create_dir_all(dir.path().join("src/deep")).expect("a folder");
    fs::write(dir.path().join("src/a.py"), "1").expect("a file");
    let daemon = Daemon::launch_in(dir);
    daemon.until("app", ModuleState::Running);
    daemon
}

/// Saves a file again and again until a save of it is an event: the watch begins at some time.
fn save_until_seen(daemon: &Daemon, name: &str) -> Event {
    let before = daemon.count("app", EventKind::ModuleFilesChanged);
    daemon.wait("the save to be seen", || {
        fs::write(daemon.path(name), "2").expect("a file");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut events = daemon.events("app");
        events.retain(|event| event.kind == EventKind::ModuleFilesChanged);
        (events.len() > before).then(|| events.remove(before))
    })
}

fn generation_after(daemon: &Daemon, generation: u64) -> u64 {
    let view = daemon.until_view("a newer run", "app", |view| {
        view.generation > generation && view.state == ModuleState::Running
    });
    view.generation
}

#[test]
fn a_saved_file_restarts_its_module_and_the_event_names_it() {
    let daemon = watching("");
    let first = daemon.module("app").generation;
    let event = save_until_seen(&daemon, "src/a.py");
    assert_eq!(event.payload["path"], "src/a.py");
    assert_eq!(event.payload["restart"], true);
    generation_after(&daemon, first);
    let why = daemon.cli(&["why", "app"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("src/a.py"), "{why}");
    assert!(why.contains("watch"), "{why}");
}

#[test]
fn a_thousand_saves_are_one_restart_and_what_is_ignored_is_none() {
    let daemon = watching("");
    save_until_seen(&daemon, "src/a.py");
    daemon.wait("quiet", || {
        let seen = daemon.count("app", EventKind::ModuleFilesChanged);
        std::thread::sleep(std::time::Duration::from_millis(500));
        (seen == daemon.count("app", EventKind::ModuleFilesChanged)).then_some(())
    });
    let before = daemon.until("app", ModuleState::Running).generation;
    let seen = daemon.count("app", EventKind::ModuleFilesChanged);
    for number in 0..1000 {
        fs::write(daemon.path("src/a.py"), number.to_string()).expect("a file");
    }
    generation_after(&daemon, before);
    for name in ["src/a.pyc", "src/b.py~", "other.py", "src/__pycache__/a.py"] {
        let path = daemon.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "x").expect("a file");
    }
    // A later save is seen alone.
    save_until_seen(&daemon, "src/deep/c.py");
    let events = daemon.events("app");
    let changes = events
        .iter()
        .filter(|event| event.kind == EventKind::ModuleFilesChanged);
    let paths: Vec<&str> = changes
        .skip(seen)
        .filter_map(|event| event.payload["path"].as_str())
        .collect();
    // A machine that stalls between two saves makes it a few, never hundreds.
    let saves = paths.iter().take_while(|path| **path == "src/a.py").count();
    assert!((1..=5).contains(&saves), "{paths:?}");
    let rest = &paths[saves..];
    assert!(
        rest.iter().all(|path| *path == "src/deep/c.py"),
        "{paths:?}"
    );
}

#[test]
fn a_folder_that_is_new_is_watched_with_what_is_in_it() {
    let daemon = watching("");
    save_until_seen(&daemon, "src/a.py");
    let before = daemon.count("app", EventKind::ModuleFilesChanged);
    fs::create_dir_all(daemon.path("src/new/deeper")).expect("a folder");
    fs::write(daemon.path("src/new/deeper/x.py"), "1").expect("a file");
    daemon.wait("the file in the new folder to be seen", || {
        (daemon.count("app", EventKind::ModuleFilesChanged) > before).then_some(())
    });
    let event = save_until_seen(&daemon, "src/new/deeper/x.py");
    assert_eq!(event.payload["path"], "src/new/deeper/x.py");
}

#[test]
fn a_module_that_a_person_stopped_stays_stopped_and_one_that_failed_is_tried() {
    let daemon = watching("");
    daemon.change("module.stop", "app");
    let event = save_until_seen(&daemon, "src/a.py");
    assert_eq!(event.payload["restart"], false);
    assert_eq!(daemon.module("app").state, ModuleState::Stopped);

    // It fails until its source is good.
    let script = super::daemon::script("grep -q good src/b.py && exec sleep 600; exit 3");
    let module = format!(
        "[module.app]\ncommand = {script}\nwatch = [\"src/*.py\"]\nrequired = false\n\
         [module.app.recovery]\nmax_attempts = 1\nprobation = \"off\"\nbackoff.initial = \"0s\"\n"
    );
    let dir = prepare("", &module);
    fs::create_dir(dir.path().join("src")).expect("a folder");
    fs::write(dir.path().join("src/b.py"), "bad").expect("a file");
    let daemon = Daemon::launch_in(dir);
    daemon.until("app", ModuleState::Failed);
    daemon.wait("the good source to be run", || {
        fs::write(daemon.path("src/b.py"), "good").expect("a file");
        std::thread::sleep(std::time::Duration::from_millis(300));
        (daemon.module("app").state == ModuleState::Running).then_some(())
    });
}

#[test]
fn what_is_watched_changes_with_the_configuration_and_touches_nobody() {
    let daemon = watching("");
    let before = daemon.module("app").generation;
    let config = daemon.path("config/mainstay.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("src/**/*.py", "*.txt")).expect("a configuration");
    daemon.wait("the plan to be in force", || {
        (daemon.status().plan > 1).then_some(())
    });
    assert_eq!(daemon.module("app").generation, before);
    fs::write(daemon.path("src/a.py"), "3").expect("a file");
    let event = save_until_seen(&daemon, "new.txt");
    assert_eq!(event.payload["path"], "new.txt");
}
