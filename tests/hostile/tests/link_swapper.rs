//! A folder that another user can swap for a link leads mainstay nowhere.
//! Owns the test and its folders. Never links to anything outside of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::attacker::Attacker;
use crate::setup::{STRANGER, is_root, mainstay};

#[test]
fn a_folder_that_another_can_swap_for_a_link_leads_nowhere() {
    if !is_root() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("hostile-").tempdir();
    let dir = dir.expect("a folder");
    let path = |name: &str| dir.path().join(name);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_hostile"))
        .arg(dir.path())
        .status();
    assert!(copied.is_ok_and(|status| status.success()), "a copy");
    for name in ["theirs", "theirs/mainstay", "ours", "config"] {
        fs::create_dir(path(name)).expect("a folder");
    }
    for name in ["theirs", "theirs/mainstay"] {
        chown(path(name), Some(STRANGER), Some(STRANGER)).expect("another's");
    }
    let text = format!(
        "[mainstay]\nname = \"test\"\nstate_dir = \"{}/state\"\n[module.one]\ncommand = [\"sleep\", \"60\"]",
        dir.path().display()
    );
    fs::write(path("config/mainstay.toml"), text).expect("a configuration");
    let kept = ["control.sock", "module.sock", "holder.json"];
    fs::create_dir(path("ours/test")).expect("a folder");
    for name in kept {
        fs::write(path("ours/test").join(name), "ours").expect("a file");
    }
    let words = |path: &Path| path.display().to_string();
    let (folder, target) = (words(&path("theirs/mainstay")), words(&path("ours")));
    let swapper = Attacker::start(dir.path(), &["link-swapper", &folder, &target, "1500"]);
    for _ in 0..4 {
        up_and_down(dir.path());
    }
    eprintln!("{}", swapper.end());
    // And once more without any haste: the link is there before anybody looks.
    fs::remove_dir_all(path("theirs/mainstay")).expect("a folder");
    std::os::unix::fs::lchown(path("theirs/mainstay.link"), Some(STRANGER), Some(STRANGER))
        .expect("theirs");
    fs::rename(path("theirs/mainstay.link"), path("theirs/mainstay")).expect("a link");
    up_and_down(dir.path());
    let found: Vec<_> = fs::read_dir(path("ours/test"))
        .expect("ours")
        .flatten()
        .collect();
    assert_eq!(found.len(), kept.len(), "{found:?}");
    for name in kept {
        let text = fs::read_to_string(path("ours/test").join(name));
        assert_eq!(text.ok().as_deref(), Some("ours"), "{name} was overwritten");
    }
    let beside: Vec<_> = fs::read_dir(path("ours"))
        .expect("ours")
        .flatten()
        .collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

/// Starts mainstay with another user's runtime directory and stops it; it may refuse.
fn up_and_down(dir: &Path) {
    let mut up = Command::new(mainstay());
    up.args(["up", "--config"]).arg(dir.join("config"));
    up.env("XDG_RUNTIME_DIR", dir.join("theirs"));
    up.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut up = up.spawn().expect("mainstay starts");
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end && up.try_wait().expect("our child").is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    let _ended_already = kill(Pid::from_raw(up.id().cast_signed()), Signal::SIGTERM);
    up.wait().expect("our child");
}
