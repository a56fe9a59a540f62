//! Reloads while the disk is full, files cannot be written, or links lead nowhere.
//! Owns what may never follow: a plan in force that is not kept, or a file that is half written.
//! Never tests what it cannot bring about here; it says so and passes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_protocol::ModuleState;

use crate::daemon::{Daemon, misbehave, prepare, skip};
use crate::journal::SmallDisk;
use crate::reload::{SHORT, edit, stdout};

fn one(seconds: u32) -> String {
    let command = misbehave("");
    format!("[module.one]\ncommand = {command}\nshutdown_timeout = \"{seconds}s\"\n")
}

fn on_small_disk(name: &str) -> Option<(Daemon, SmallDisk)> {
    let dir = prepare(SHORT, &one(1));
    let path = dir.path().join(name);
    let kept = fs::read(path.join("mainstay.toml")).ok();
    let disk = SmallDisk::mount(&path)?;
    if let Some(kept) = kept {
        fs::write(path.join("mainstay.toml"), kept).expect("written");
    }
    let daemon = Daemon::launch_in(dir);
    daemon.until("one", ModuleState::Running);
    Some((daemon, disk))
}

/// Asserts that a request is refused with this text, and that nothing came of it.
#[track_caller]
fn refused(daemon: &Daemon, words: &[&str], part: &str) {
    let before = (daemon.module("one").pid, daemon.status().plan);
    let output = daemon.cli(words);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains(part),
        "{output:?}"
    );
    assert_eq!((daemon.module("one").pid, daemon.status().plan), before);
}

#[test]
fn a_plan_for_which_the_disk_has_no_room_is_not_applied() {
    let Some((daemon, disk)) = on_small_disk("state") else {
        return;
    };
    disk.fill();
    edit(daemon.dir.path(), SHORT, &one(2));
    refused(&daemon, &["reload"], "cannot be kept in");
    disk.make_room();
    stdout(&daemon.cli(&["reload", "--wait"]), 0);
    assert_eq!(daemon.status().config_problem, None);
    // Full between the apply and the commit: in force, told, and committed once there is room.
    let long = SHORT.replace("300ms", "2s");
    edit(daemon.dir.path(), &long, &one(3));
    stdout(&daemon.cli(&["reload"]), 0);
    disk.fill();
    let told = daemon.wait("the problem", || daemon.status().config_problem);
    assert!(told.contains("cannot commit plan"), "{told}");
    disk.make_room();
    daemon.wait("the commit", || {
        daemon.status().config_problem.is_none().then_some(())
    });
    let plan = daemon.status().plan;
    daemon.kill_runtime();
    assert_eq!(daemon.status().plan, plan, "it was committed");
}

#[test]
fn a_value_for_which_the_disk_has_no_room_leaves_its_file_as_it_is() {
    let Some((daemon, disk)) = on_small_disk("config") else {
        return;
    };
    let path = daemon.path("config/mainstay.toml");
    let before = fs::read(&path).expect("a file");
    disk.fill();
    let words = ["config", "set", "module.one.version", "2", "--persist"];
    refused(&daemon, &words, "nothing was changed");
    assert_eq!(fs::read(&path).expect("a file"), before);
    disk.make_room();
    stdout(&daemon.cli(&words), 0);
}

/// Makes what is in a folder impossible to change, also for root.
fn read_only(folder: &Path, is_on: bool) -> bool {
    if !nix::unistd::geteuid().is_root() {
        let mode = if is_on { 0o500 } else { 0o700 };
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("a mode");
        return true;
    }
    let how = if is_on { "remount,ro" } else { "remount,rw" };
    let mounted = Command::new("mount").args(["-o", how]).arg(folder).output();
    mounted.is_ok_and(|output| output.status.success())
}

#[test]
fn a_state_directory_that_cannot_be_written_refuses_plans_and_nothing_else() {
    let dir = prepare(SHORT, &one(1));
    let state = dir.path().join("state");
    fs::create_dir(&state).expect("a folder");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("a mode");
    let is_root = nix::unistd::geteuid().is_root();
    let disk = is_root.then(|| SmallDisk::mount(&state)).flatten();
    if is_root && disk.is_none() {
        return skip("nothing is read-only for root without a mount");
    }
    let daemon = Daemon::launch_in(dir);
    daemon.until("one", ModuleState::Running);
    if !read_only(&state, true) {
        return skip("files that are open keep it writable");
    }
    edit(daemon.dir.path(), SHORT, &one(2));
    refused(&daemon, &["reload"], "cannot be kept in");
    assert_eq!(daemon.status().modules.running, 2);
    assert!(read_only(&state, false));
    stdout(&daemon.cli(&["reload", "--wait"]), 0);
}

#[test]
fn links_that_lead_in_a_circle_are_a_problem_and_hang_nothing() {
    let head = format!("{SHORT}\nmodules = [\"../modules/*\"]");
    let dir = prepare(&head, &one(1));
    fs::create_dir_all(dir.path().join("modules/two")).expect("a folder");
    let two = format!("command = {}\n", misbehave(""));
    fs::write(dir.path().join("modules/two/module.toml"), two).expect("written");
    let daemon = Daemon::launch_in(dir);
    daemon.until("one", ModuleState::Running);
    let path = daemon.path("config/mainstay.toml");
    fs::create_dir_all(daemon.path("config/conf.d")).expect("a folder");
    fs::create_dir_all(daemon.path("modules/loop")).expect("a folder");
    let loops: [PathBuf; 2] = [
        daemon.path("config/conf.d/loop.toml"),
        daemon.path("modules/loop/module.toml"),
    ];
    for link in loops {
        symlink(&link, &link).expect("a link");
        refused(&daemon, &["reload"], "symbolic links");
        fs::remove_file(&link).expect("removed");
    }
    // A folder that holds itself.
    symlink("../modules", daemon.path("modules/self")).expect("a link");
    stdout(&daemon.cli(&["reload"]), 0);
    let kept = fs::read(&path).expect("a file");
    fs::remove_file(&path).expect("removed");
    symlink("mainstay.toml", &path).expect("a link");
    refused(&daemon, &["reload"], "cannot find mainstay.toml");
    fs::remove_file(&path).expect("removed");
    fs::write(&path, kept).expect("written");
    stdout(&daemon.cli(&["reload"]), 0);
    assert_eq!(daemon.status().config_problem, None);
}
