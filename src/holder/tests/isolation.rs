//! What a module that is isolated can fill and write.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Rig, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_process::{Isolation, Output};

/// What a script writes in this isolation; None where this user may not mount.
fn written(rig: &mut Rig, isolation: Isolation, script: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: not tested");
        return None;
    }
    let mut spawn = spawn_of("i", 1, &["/bin/sh", "-c", script]);
    (spawn.output, spawn.isolation) = (Output::Captured, isolation);
    rig.start(spawn);
    Some(rig.line.exited("i", 1).output)
}

#[test]
fn a_private_tmp_has_a_size() {
    let mut rig = Rig::new(EngineOptions::default());
    let isolation = Isolation {
        private_tmp: true,
        ..Isolation::default()
    };
    let script = "cat /proc/mounts; touch /tmp/x && ls /tmp";
    let Some(text) = written(&mut rig, isolation, script) else {
        return;
    };
    let is_tmp = |line: &&str| line.contains(" /tmp tmpfs ");
    let mounts: Vec<&str> = text.lines().filter(is_tmp).collect();
    let last = mounts.last().unwrap_or(&"none");
    assert!(
        last.contains("size=") && last.contains("nr_inodes=100000"),
        "{text}"
    );
    assert!(text.ends_with("x\n"), "{text}");
}

#[test]
fn a_read_only_path_is_what_a_link_leads_to_with_all_below_it() {
    let mut rig = Rig::new(EngineOptions::default());
    let dir = rig.dir.path().join("kept");
    std::fs::create_dir_all(dir.join("below")).unwrap();
    let link = rig.dir.path().join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let isolation = Isolation {
        read_only: vec![path(&link)],
        ..Isolation::default()
    };
    let script = format!(
        "cd {}; for place in kept kept/below link .; do touch $place/x 2>/dev/null && echo $place; done",
        rig.dir.path().display()
    );
    let Some(text) = written(&mut rig, isolation, &script) else {
        return;
    };
    assert_eq!(text, ".\n");
}
