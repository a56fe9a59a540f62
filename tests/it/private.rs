//! What lies on the disk and who may read it, whatever the folders above allow.
//! Owns other users who try. Never trusts a mode it did not look at.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mainstay_protocol::ModuleState;
use tempfile::TempDir;

use crate::daemon::{Daemon, binary, misbehave, prepare, script, skip};

const NOBODY: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o777
}

/// A folder that everybody may enter, in which everything is beforehand where it will be used.
fn open_folder(modules: &str) -> TempDir {
    let dir = prepare("", modules);
    for name in ["", "state", "state/logs"] {
        let path = dir.path().join(name);
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("our own");
    }
    dir
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries
        .flat_map(|entry| match entry.file_type().expect("of a kind") {
            kind if kind.is_dir() => files_below(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            _ => Vec::new(), // sockets: whoever connects is asked who it is
        })
        .collect()
}

#[test]
fn nothing_but_numbers_is_readable_by_others_in_folders_that_are_open() {
    let dir = open_folder(&format!(
        "[module.it]\ncommand = {}\nsettings = {{ password = \"x\" }}\nenv = {{ PASSWORD = \"x\" }}\n",
        misbehave("")
    ));
    // What an earlier version left behind.
    fs::write(dir.path().join("state/committed.json"), "").expect("a file");
    fs::create_dir_all(dir.path().join("run/settings")).expect("a folder");
    fs::write(dir.path().join("run/settings/gone.json"), "{}").expect("a file");
    let daemon = Daemon::launch_in(dir);
    daemon.until("it", ModuleState::Running);
    let journal = daemon.path("state/journal.db-wal");
    daemon.wait("the journal", || journal.exists().then_some(()));
    let mut files = files_below(&daemon.path("state"));
    files.extend(files_below(&daemon.path("run")));
    let name = |path: &PathBuf| {
        path.file_name()
            .and_then(|it| it.to_str().map(str::to_owned))
    };
    let names: Vec<String> = files.iter().filter_map(name).collect();
    for wanted in [
        "committed.json",
        "journal.db",
        "journal.db-wal",
        "key",
        "it.json",
    ] {
        assert!(
            names.iter().any(|it| it == wanted),
            "no {wanted}: {names:?}"
        );
    }
    assert!(!names.iter().any(|it| it == "gone.json"), "{names:?}");
    for file in files {
        // Numbers alone, of processes and of events.
        let open = ["holder.json", "journal.seq"];
        let open = open
            .iter()
            .any(|it| name(&file).is_some_and(|name| name.starts_with(it)));
        if !open {
            assert_eq!(mode(&file) & 0o077, 0, "others may read {}", file.display());
        }
    }
    assert_eq!(mode(&daemon.path("run/settings")), 0o711);
}

#[test]
fn the_settings_of_a_module_are_for_its_user_and_nobody_else() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may start a module as another user");
    }
    let command = script("cat \"$MAINSTAY_SETTINGS\"; echo; echo end; exec sleep 60");
    let dir = open_folder(&format!(
        "[module.it]\ncommand = {command}\nuser = \"{NOBODY}\"\nsettings = {{ password = \"x1\" }}\n\
         [module.other]\ncommand = {command}\nsettings = {{ password = \"x2\" }}\n"
    ));
    let daemon = Daemon::launch_in(dir);
    for (module, password) in [("it", "x1"), ("other", "x2")] {
        let output = daemon.wrote(module, "end");
        assert!(
            output.contains(password),
            "{module} cannot read its own: {output}"
        );
    }
    let file = daemon.path("run/settings/it.json");
    assert_eq!(fs::metadata(&file).expect("there").uid(), NOBODY);
    for (module, uid, may) in [
        ("it", NOBODY, true),
        ("it", 1, false),
        ("other", NOBODY, false),
    ] {
        let read = Command::new("cat")
            .arg(daemon.path(&format!("run/settings/{module}.json")))
            .stdin(Stdio::null())
            .uid(uid)
            .gid(uid)
            .output()
            .expect("it runs");
        assert_eq!(
            read.status.success(),
            may,
            "user {uid} and {module}: {read:?}"
        );
    }
}

#[test]
fn detached_it_makes_its_folders_for_itself_alone() {
    let dir = prepare("", &format!("[module.it]\ncommand = {}\n", misbehave("")));
    let run = |words: &[&str]| {
        let config = dir.path().join("config");
        let mut command = Command::new(binary());
        command.args(words).arg("--config").arg(config);
        command.output().expect("it runs")
    };
    let up = run(&["up", "-d"]);
    let modes =
        ["state", "state/logs", "state/logs/mainstay.out"].map(|name| mode(&dir.path().join(name)));
    let down = run(&["down"]);
    assert!(
        up.status.success() && down.status.success(),
        "{up:?} {down:?}"
    );
    assert_eq!(modes, [0o700, 0o700, 0o600]);
}
