//! Saved files: however an editor, a package or a cluster changes them, the change is applied.
//! Owns the ways to save a file.
//! Never asserts how long it takes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, misbehave};

/// A way to save a file: its name, and what it does with the text.
type Way<'a> = (&'static str, &'a dyn Fn(&str));

const WATCH: &str = "reload_watch = \"0s\"";

fn module(name: &str, timeout: u32) -> String {
    format!(
        "[module.{name}]\ncommand = {}\nshutdown_timeout = \"{timeout}s\"\n",
        misbehave("")
    )
}

fn launch(head: &str, modules: &str) -> Daemon {
    let daemon = Daemon::launch(head, modules);
    daemon.wait("the first start to be over", || {
        let status = daemon.status().status;
        (status != mainstay_protocol::SystemStatus::Starting).then_some(())
    });
    daemon
}

/// What the running system has for a key.
fn value(daemon: &Daemon, key: &str) -> Option<serde_json::Value> {
    let values = daemon.client().config(key).ok()?;
    Some(values.first()?.value.clone())
}

fn until_timeout(daemon: &Daemon, how: &str, seconds: u32) {
    daemon.wait(&format!("{how}: a timeout of {seconds}s"), || {
        let now = value(daemon, "module.one.shutdown_timeout")?;
        (now == format!("{seconds}s")).then_some(())
    });
}

fn count(daemon: &Daemon, kind: EventKind) -> usize {
    let params = EventsParams {
        kinds: vec![kind],
        limit: Some(10_000),
        ..EventsParams::default()
    };
    daemon.client().events(&params).expect("events").len()
}

#[test]
fn every_way_to_save_a_file_is_seen_and_no_module_is_restarted_for_a_live_key() {
    let daemon = launch(WATCH, &module("one", 1));
    let pid = daemon.module("one").pid;
    let path = daemon.path("config/mainstay.toml");
    let beside = |name: &str| daemon.path("config").join(name);
    let text = fs::read_to_string(&path).expect("the configuration");
    let with = |seconds: u32| text.replace("\"1s\"", &format!("\"{seconds}s\""));
    let ways: [Way<'_>; 6] = [
        ("in place", &|text| fs::write(&path, text).expect("written")),
        ("renamed over", &|text| {
            fs::write(beside(".mainstay.toml.swp"), text).expect("written");
            fs::rename(beside(".mainstay.toml.swp"), &path).expect("renamed");
        }),
        ("the old one as a backup", &|text| {
            fs::rename(&path, beside("mainstay.toml~")).expect("renamed");
            fs::write(&path, text).expect("written");
        }),
        ("deleted and created", &|text| {
            fs::remove_file(&path).expect("removed");
            fs::write(&path, text).expect("written");
        }),
        ("in two steps", &|text| {
            let (first, second) = text.split_at(text.len() / 2);
            fs::write(&path, first).expect("written");
            let mut file = fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .expect("opened");
            std::io::Write::write_all(&mut file, second.as_bytes()).expect("written");
        }),
        ("a link to another folder", &|text| {
            fs::create_dir_all(daemon.path("far")).expect("a folder");
            fs::write(daemon.path("far/it.toml"), text).expect("written");
            let _there_may_be_none = fs::remove_file(&path);
            symlink("../far/it.toml", &path).expect("a link");
        }),
    ];
    let mut seconds = 1;
    for (how, save) in ways {
        seconds += 1;
        save(&with(seconds));
        until_timeout(&daemon, how, seconds);
    }
    // And the target of the link is watched from then on.
    fs::write(daemon.path("far/it.toml"), with(99)).expect("written");
    until_timeout(&daemon, "behind the link", 99);
    assert_eq!(daemon.module("one").pid, pid);
}

/// As a cluster does it: the file is a link by way of `..data`, which is turned as a whole.
#[test]
fn a_folder_of_links_that_is_turned_as_a_whole_is_seen() {
    let daemon = launch(WATCH, &module("one", 1));
    let config = daemon.path("config");
    let text = fs::read_to_string(config.join("mainstay.toml")).expect("the configuration");
    let turn = |name: &str, seconds: u32| {
        fs::create_dir(config.join(name)).expect("a folder");
        let text = text.replace("\"1s\"", &format!("\"{seconds}s\""));
        fs::write(config.join(name).join("mainstay.toml"), text).expect("written");
        let _there_may_be_none = fs::remove_file(config.join("..tmp"));
        symlink(name, config.join("..tmp")).expect("a link");
        fs::rename(config.join("..tmp"), config.join("..data")).expect("turned");
    };
    turn("..1", 2);
    fs::remove_file(config.join("mainstay.toml")).expect("removed");
    symlink("..data/mainstay.toml", config.join("mainstay.toml")).expect("a link");
    until_timeout(&daemon, "the first", 2);
    turn("..2", 3);
    until_timeout(&daemon, "the second", 3);
    fs::remove_dir_all(config.join("..1")).expect("removed");
    turn("..3", 4);
    until_timeout(&daemon, "the third", 4);
}

#[test]
fn module_folders_parts_and_env_files_come_and_go() {
    let head = format!("modules = [\"../modules/*\"]\n{WATCH}");
    let dir = crate::daemon::prepare(&head, &module("one", 1));
    let folder = |name: &str| dir.path().join("modules").join(name);
    let add = |name: &str| {
        fs::create_dir_all(folder(name)).expect("a folder");
        let text = format!("command = {}\nenv_file = \"-{name}.env\"\n", misbehave(""));
        fs::write(folder(name).join("module.toml"), text).expect("written");
    };
    add("first");
    let daemon = Daemon::launch_in(dir);
    daemon.until("first", ModuleState::Running);
    let folder = |name: &str| daemon.path("modules").join(name);
    // A folder that is there for a while before its file is.
    fs::create_dir(folder("second")).expect("a folder");
    fs::write(
        folder("second/module.toml"),
        format!("command = {}\n", misbehave("")),
    )
    .expect("written");
    daemon.until("second", ModuleState::Running);
    fs::remove_dir_all(folder("second")).expect("removed");
    daemon.wait("the second to be gone", || {
        daemon.client().module("second").is_err().then_some(())
    });
    // An env file that was not there.
    let before = daemon.module("first").pid;
    fs::write(daemon.path("first.env"), "A=1\n").expect("written");
    daemon.until_view("a run with it", "first", |first| {
        first.state == ModuleState::Running && first.pid != before
    });
    // A part that was not there, nor its folder.
    fs::create_dir(daemon.path("config/conf.d")).expect("a folder");
    let part = daemon.path("config/conf.d/10.toml");
    fs::write(&part, "module.one.shutdown_timeout = \"7s\"\n").expect("written");
    until_timeout(&daemon, "a part", 7);
    fs::remove_dir_all(daemon.path("config/conf.d")).expect("removed");
    until_timeout(&daemon, "without the part", 1);
    fs::create_dir(daemon.path("config/conf.d")).expect("a folder");
    fs::write(&part, "module.one.shutdown_timeout = \"8s\"\n").expect("written");
    until_timeout(&daemon, "the part again", 8);
}

#[test]
fn a_bad_file_is_a_problem_until_it_is_good_and_an_empty_one_stops_nothing() {
    let daemon = launch(WATCH, &module("one", 1));
    let pid = daemon.module("one").pid;
    let path = daemon.path("config/mainstay.toml");
    let good = fs::read_to_string(&path).expect("the configuration");
    let bad = good.replace("\"1s\"", "\"1s");
    for (text, told) in [(bad.as_str(), "mainstay.toml:"), ("", "is empty")] {
        fs::write(&path, text).expect("written");
        daemon.wait(told, || {
            let problem = daemon.status().config_problem?;
            problem.contains(told).then_some(())
        });
        assert_eq!(daemon.module("one").pid, pid);
        fs::write(&path, &good).expect("written");
        daemon.wait("it to be good", || {
            daemon.status().config_problem.is_none().then_some(())
        });
    }
    assert_eq!(count(&daemon, EventKind::ConfigRejected), 2);
    assert_eq!(count(&daemon, EventKind::ConfigProblemCleared), 2);
    assert_eq!(count(&daemon, EventKind::ConfigApplied), 0);
}

/// Neither a pipe nor a huge file in place of the configuration holds anything up.
#[test]
fn what_is_no_plain_file_is_a_problem_and_hangs_nothing() {
    let daemon = launch(WATCH, &module("one", 1));
    let path = daemon.path("config/mainstay.toml");
    let good = fs::read_to_string(&path).expect("the configuration");
    let fifo = || {
        fs::remove_file(&path).expect("removed");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    };
    let huge = || {
        fs::remove_file(&path).expect("removed");
        let file = fs::File::create(&path).expect("a file");
        file.set_len(1 << 40).expect("a hole");
    };
    let swaps: [(&str, &dyn Fn()); 2] = [("no plain file", &fifo), ("larger than", &huge)];
    for (told, swap) in swaps {
        swap();
        daemon.wait(told, || {
            let problem = daemon.status().config_problem?;
            problem.contains(told).then_some(())
        });
    }
    fs::remove_file(&path).expect("removed");
    fs::write(&path, good.replace("\"1s\"", "\"2s\"")).expect("written");
    until_timeout(&daemon, "a plain file again", 2);
}

/// Many saves and files that do not matter: the last save is what runs.
#[test]
fn a_thousand_saves_in_a_row_end_with_the_last_one() {
    let daemon = launch(WATCH, &module("one", 1));
    let pid = daemon.module("one").pid;
    let path = daemon.path("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("the configuration");
    for n in 2..1002_u32 {
        save_over(&path, &text.replace("\"1s\"", &format!("\"{n}s\"")));
    }
    until_timeout(&daemon, "the last of many", 1001);
    let applied = count(&daemon, EventKind::ConfigApplied);
    assert!(applied < 500, "{applied} plans for 1000 saves");
    assert_eq!(daemon.module("one").pid, pid);
    // The same text again is no change.
    save_over(&path, &text.replace("\"1s\"", "\"1001s\""));
    save_over(&path, &text.replace("\"1s\"", "\"1002s\""));
    until_timeout(&daemon, "one more", 1002);
    assert!(count(&daemon, EventKind::ConfigApplied) <= applied + 1);
}

pub(crate) fn save_over(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("written");
    fs::rename(beside, path).expect("renamed");
}

#[test]
fn by_hand_a_saved_file_is_shown_and_not_applied() {
    let head = "reload = \"manual\"\nreload_watch = \"0s\"";
    let daemon = launch(head, &module("one", 1));
    let path = daemon.path("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("the configuration");
    fs::write(&path, text.replace("\"1s\"", "\"2s\"")).expect("written");
    let told = daemon.wait("it to be shown", || daemon.status().config_problem);
    assert!(
        told.contains("changed since plan 1 was applied: one changed (shutdown_timeout)"),
        "{told}"
    );
    assert_eq!(count(&daemon, EventKind::ConfigRejected), 0);
    let output = daemon.cli(&["restart", "one"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("not started from the files: "),
        "{output:?}"
    );
    let output = daemon.cli(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    until_timeout(&daemon, "by hand", 2);
    daemon.wait("nothing to show", || {
        daemon.status().config_problem.is_none().then_some(())
    });
}
