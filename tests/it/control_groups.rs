//! Machines whose control groups are refused, read-only, of version 1 or absent: mainstay says what
//! holds there, and keeps a ceiling all the same.
//! Owns a mount namespace, or a control group of its own. Never changes what others see.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_protocol::ModuleState;

use crate::daemon::{Daemon, binary, kill, lives, prepare, skip, wait_for};
use crate::limits::{hog, main_of, observe, tree};

/// Where version 2 is mounted.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

fn modules() -> String {
    format!(
        "[recovery]\nbackoff = {{ initial = \"10ms\" }}\n[module.it]\ncommand = {}\n\
         limits = {{ cpu_percent = 20 }}\n[module.other]\ncommand = [\"sleep\", \"1000\"]\n",
        hog(2)
    )
}

/// A life with a hog and a crash, on a machine where a shell did this before.
fn lives_as_usual(before: &str, wrap: &[&str], is_walked: bool) {
    let mut command = Command::new(wrap[0]);
    let script = format!("{before}; exec \"$0\" \"$@\"");
    command
        .args(&wrap[1..])
        .args(["sh", "-c", &script, binary()]);
    let daemon = Daemon::launch_as(prepare("", &modules()), command);
    let first = daemon.until("it", ModuleState::Running);
    let doctor = daemon.cli(&["doctor"]).stdout;
    let doctor = String::from_utf8_lossy(&doctor).into_owned();
    if is_walked {
        let governed = doctor
            .lines()
            .nth(1)
            .is_some_and(|line| line.contains("governor"));
        assert!(governed, "{before}: {doctor}");
        assert!(
            doctor.contains("no control group (v2)"),
            "{before}: {doctor}"
        );
    }
    let main = main_of(&daemon, "it");
    daemon.wait("it to be held", || {
        let share = observe(&[main], Duration::from_secs(3))[0];
        eprintln!("{before}: {share:.1} % under cpu_percent = 20");
        (share < 30.0).then_some(())
    });
    let all = tree(main);
    kill(main, libc::SIGKILL);
    daemon.until_view("its next run", "it", |view| {
        view.state == ModuleState::Running && view.generation > first.generation
    });
    assert!(all.iter().all(|pid| !lives(*pid)), "{before}: {all:?}");
    let all = tree(main_of(&daemon, "it"));
    assert_eq!(daemon.stop(), Some(0), "{before}");
    assert!(all.iter().all(|pid| !lives(*pid)), "{before}: {all:?}");
}

#[test]
fn where_groups_are_read_only_of_version_1_or_absent_trees_are_walked() {
    let unshare = ["unshare", "--mount"];
    let works = Command::new("unshare").args(["--mount", "true"]).output();
    let Some(mount) = mount().filter(|_| works.is_ok_and(|output| output.status.success())) else {
        return skip("no mount namespace can be made here, or there is no control group");
    };
    let mount = mount.display();
    for before in [
        format!("mount -o remount,bind,ro {mount}"),
        format!("umount {mount}"),
        "umount -l -R /sys/fs/cgroup".to_owned(),
    ] {
        lives_as_usual(&before, &unshare, true);
    }
}

/// A group in which only so many can be made.
struct Full(PathBuf);

impl Full {
    fn new(groups: u32) -> Option<Full> {
        let path = mount()?.join(format!("full-test-{}-{groups}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let full = Full(path);
        let limit = full.0.join("cgroup.max.descendants");
        fs::write(limit, groups.to_string()).ok()?;
        Some(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let groups = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let left: Vec<PathBuf> = groups.map(|entry| entry.path()).collect();
        let left = left.iter().filter(|path| path.is_dir());
        let left: Vec<&PathBuf> = left.filter(|path| path.exists()).collect();
        assert!(
            left.is_empty() || std::thread::panicking(),
            "{left:?} is left"
        );
        wait_for("an empty group", || fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn where_the_kernel_refuses_a_group_the_tree_is_walked() {
    for groups in [0, 1, 2] {
        let Some(full) = Full::new(groups) else {
            return skip("no control group can be made here");
        };
        let procs = full.0.join("cgroup.procs");
        let before = format!("echo $$ > {}", procs.display());
        lives_as_usual(&before, &["env"], false);
    }
}

#[test]
fn where_groups_are_of_another_user_trees_are_walked() {
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return skip("only root can start it as another user, with setpriv");
    }
    let doctor = Command::new("setpriv")
        .args(["--reuid", "12345", "--regid", "12345", "--clear-groups"])
        .args([binary(), "doctor", "--config", "/nonexistent"])
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let line = text.lines().nth(1).unwrap_or_default();
    assert!(line.contains("governor"), "{text}");
    for key in ["capabilities", "read_only", "private_tmp"] {
        let line = text.lines().find(|line| line.trim().starts_with(key));
        assert!(
            line.is_some_and(|line| line.contains("not enforced")),
            "{text}"
        );
    }
    assert!(text.contains("only root may set it up"), "{text}");
}
