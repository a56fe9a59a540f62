//! What an isolated module sees and may change of the machine, and what others see of it.
//! Owns a folder outside of /tmp: a module with a /tmp of its own sees nothing in the other one.
//! Needs root to isolate; without it the refusal is tested.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use mainstay_protocol::ModuleState;
use tempfile::TempDir;

use crate::daemon::{Daemon, binary, skip};

/// A user without an account.
const OTHER: u32 = 12345;

/// A folder outside of /tmp that every user may enter, with this configuration.
fn prepare(modules: &str) -> Option<TempDir> {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can isolate a module");
        return None;
    }
    let dir = tempfile::tempdir_in("/var/lib").expect("a folder");
    let open = PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.path(), open).expect("permissions");
    let text = format!(
        "[mainstay]\nname = \"test\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n{modules}",
        dir.path().display()
    );
    fs::create_dir(dir.path().join("config")).expect("a folder");
    fs::write(dir.path().join("config/mainstay.toml"), text).expect("a configuration");
    Some(dir)
}

/// A script as a module, in the folder of the test.
fn module(name: &str, script: &str, more: &str) -> String {
    let command = [
        "/bin/sh",
        "-c",
        &format!("{script}; echo end; exec sleep 1000"),
    ];
    format!("[module.{name}]\ncommand = {command:?}\n{more}\n")
}

fn start(names: &[&str], modules: &str) -> Option<Daemon> {
    let daemon = Daemon::launch_in(prepare(modules)?);
    for name in names {
        daemon.wrote(name, "end");
    }
    Some(daemon)
}

#[test]
fn a_private_tmp_is_empty_hidden_from_others_and_gone_with_its_run() {
    let mark = tempfile::Builder::new()
        .prefix("isolation-host-")
        .tempfile_in("/tmp");
    let mark = mark.expect("a file");
    let host = mark.path().display().to_string();
    let own = format!("/tmp/isolation-own-{}", std::process::id());
    let look = format!(
        "ls -A /tmp /var/tmp; [ -e {host} ] && echo sees the host; touch {own} /var/tmp/x && echo wrote"
    );
    let tmp = "isolation.private_tmp = true";
    let modules = format!("{}{}", module("a", &look, tmp), module("b", &look, tmp));
    let mounts = || {
        fs::read_to_string("/proc/self/mountinfo")
            .expect("mounts")
            .lines()
            .count()
    };
    let before = mounts();
    let Some(daemon) = start(&["a", "b"], &modules) else {
        return;
    };
    for name in ["a", "b"] {
        let output = daemon.output(name);
        assert!(
            !output.contains("sees the host") && !output.contains("isolation-"),
            "{output}"
        );
        assert!(output.contains("wrote"), "{output}");
        let pid = daemon.module(name).pid.expect("it runs");
        assert!(
            Path::new(&format!("/proc/{pid}/root{own}")).exists(),
            "it has the file"
        );
    }
    assert!(!Path::new(&own).exists(), "nobody else has");
    let mode = fs::metadata(format!(
        "/proc/{}/root/tmp",
        daemon.module("a").pid.expect("it runs")
    ));
    assert_eq!(mode.expect("its /tmp").mode() & 0o7777, 0o1777);
    assert!(mounts() <= before + 1, "its mounts are its own");
    let first = daemon.module("a").generation;
    daemon.change("module.restart", "a");
    daemon.wait("what the second run saw", || {
        let output = daemon.output("a");
        (daemon.module("a").generation > first && output.matches("end\n").count() == 2)
            .then_some(())
    });
    let output = daemon.output("a");
    assert!(
        !output.contains("isolation-own"),
        "empty at each start: {output}"
    );
}

#[test]
fn a_read_only_path_is_read_only_for_the_module_alone_with_what_is_mounted_below() {
    let look = "cat kept/there; touch kept/new || echo refused; touch kept/below/new || echo refused; \
                rm kept/there || echo refused; touch free && echo wrote";
    let kept = "isolation.read_only = [\"kept\"]\nisolation.capabilities = []";
    let escape =
        format!("{look}; umount kept || echo kept; mount -o remount,bind,rw kept || echo kept");
    let Some(dir) = prepare(&module("a", &escape, kept)) else {
        return;
    };
    fs::create_dir_all(dir.path().join("kept/below")).expect("folders");
    fs::write(dir.path().join("kept/there"), "content\n").expect("a file");
    let below = dir.path().join("kept/below");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&below)
        .output();
    let mounted = mounted.is_ok_and(|output| output.status.success());
    let daemon = Daemon::launch_in(dir);
    let output = daemon.wrote("a", "end");
    if mounted {
        let unmounted = Command::new("umount").args(["-l"]).arg(&below).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
    assert!(output.contains("content"), "{output}");
    assert_eq!(output.matches("refused\n").count(), 3, "{output}");
    assert!(output.contains("wrote"), "{output}");
    assert_eq!(
        output.lines().filter(|line| *line == "kept").count(),
        2,
        "{output}"
    );
    assert!(!output.contains("free: Read-only"), "{output}");
    fs::write(daemon.path("kept/new"), "").expect("others write it");
}

#[test]
fn kept_capabilities_are_had_by_the_programs_of_another_user_and_no_others_are() {
    let look =
        "touch own; chown 1 own && echo chowned; grep -E 'Cap(Eff|Bnd|Amb)' /proc/self/status";
    let user = "user = \"nobody\"\ndirectory = \"work\"\n";
    let Some(account) = nix::unistd::User::from_name("nobody").ok().flatten() else {
        return skip("there is no user nobody");
    };
    for (more, may) in [
        (
            format!("{user}isolation.capabilities = [\"CAP_CHOWN\"]"),
            true,
        ),
        (
            format!("{user}isolation.capabilities = [\"CAP_KILL\"]"),
            false,
        ),
        (user.to_owned(), false),
        (
            "directory = \"work\"\nisolation.capabilities = []".to_owned(),
            false,
        ),
        (
            "directory = \"work\"\nisolation.capabilities = [\"CAP_CHOWN\"]".to_owned(),
            true,
        ),
    ] {
        let Some(dir) = prepare(&module("a", look, &more)) else {
            return;
        };
        let work = dir.path().join("work");
        fs::create_dir(&work).expect("a folder");
        let owner = more
            .contains("nobody")
            .then_some((account.uid, account.gid));
        let owner = owner.map(|(uid, gid)| (uid.as_raw(), gid.as_raw()));
        chown(&work, owner.map(|it| it.0), owner.map(|it| it.1)).expect("an owner");
        let daemon = Daemon::launch_in(dir);
        let output = daemon.wrote("a", "end");
        assert_eq!(output.contains("chowned"), may, "{more}: {output}");
        if may {
            assert!(
                output.contains("CapEff:\t0000000000000001"),
                "{more}: {output}"
            );
            assert!(
                output.contains("CapBnd:\t0000000000000001"),
                "{more}: {output}"
            );
        }
    }
}

#[test]
fn what_cannot_be_isolated_is_a_start_failure_that_names_the_step() {
    let more = "required = false\nisolation.read_only = [\"missing\"]\n\
                recovery = { probation = \"off\", max_attempts = 1 }";
    let Some(dir) = prepare(&module("a", "true", more)) else {
        return;
    };
    let daemon = Daemon::launch_in(dir);
    daemon.until("a", ModuleState::Failed);
    let why = daemon.cli(&["why", "a"]).stdout;
    let why = String::from_utf8_lossy(&why).into_owned();
    assert!(
        why.contains("isolate it") && why.contains("read_only"),
        "{why}"
    );
}

/// `up` as a user who may isolate nothing.
fn up_as_other(enforcement: &str, more: &str) -> Option<(TempDir, Command)> {
    let works = Command::new("setpriv").arg("--version").output().is_ok();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && !works {
        skip("there is no setpriv");
        return None;
    }
    let text = format!(
        "[resources]\nenforcement = \"{enforcement}\"\n{}",
        module("a", "true", more)
    );
    let dir = crate::daemon::prepare("", &text);
    let mut command = Command::new(binary());
    if is_root {
        for path in [dir.path().to_owned(), dir.path().join("config")] {
            chown(path, Some(OTHER), Some(OTHER)).expect("given away");
        }
        command = Command::new("setpriv");
        command.args([
            "--reuid",
            "12345",
            "--regid",
            "12345",
            "--clear-groups",
            binary(),
        ]);
    }
    command.env_remove("XDG_RUNTIME_DIR");
    Some((dir, command))
}

#[test]
fn a_user_who_may_isolate_nothing_is_told_so_or_refused() {
    for key in ["capabilities = [\"CAP_KILL\"]", "read_only = [\"config\"]"] {
        let more = format!("isolation.{key}");
        let name = key.split(' ').next().unwrap_or_default();
        let Some((dir, mut command)) = up_as_other("required", &more) else {
            return;
        };
        let up = command
            .args(["up", "--config"])
            .arg(dir.path().join("config"))
            .output();
        let up = up.expect("it runs");
        let text = String::from_utf8_lossy(&up.stderr).into_owned();
        assert_eq!(up.status.code(), Some(5), "{text}");
        assert!(
            text.contains(&format!("cannot enforce module.a.isolation.{name}")),
            "{text}"
        );
        assert!(text.contains("only root may set it up"), "{text}");
        let Some((dir, command)) = up_as_other("best_effort", &more) else {
            return;
        };
        let daemon = Daemon::launch_as(dir, command);
        daemon.wrote("a", "end");
        let issues = daemon.status().issues.join("\n");
        let said = format!("isolation.{name} is not enforced");
        assert!(issues.contains(&said), "{issues}");
    }
    // Another user is refused by the kernel, and nothing runs as the wrong one.
    let more = "user = \"nobody\"\nrequired = false\n\
                recovery = { probation = \"off\", max_attempts = 1 }";
    let Some((dir, command)) = up_as_other("best_effort", more) else {
        return;
    };
    let daemon = Daemon::launch_as(dir, command);
    daemon.until("a", ModuleState::Failed);
    assert!(!daemon.output("a").contains("end"));
}
