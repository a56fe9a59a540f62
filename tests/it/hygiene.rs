//! What a module is given: descriptors, signals, variables, a user, a folder, limits.
//! Owns that it is exactly what was declared. Never looks inside.

use std::collections::BTreeMap;
use std::process::Command;

use mainstay_protocol::ModuleState;
use tempfile::TempDir;

use crate::daemon::{Daemon, binary, misbehave, prepare, script, skip};

/// One module named `it`.
fn one(command: &str, more: &str) -> String {
    format!("[module.it]\ncommand = {command}\n{more}\n")
}

/// What it printed of itself, behind this word.
fn printed(daemon: &Daemon, word: &str) -> Vec<String> {
    daemon.wait("it to print", || {
        let output = daemon.output("it");
        output.lines().any(|line| line == "end").then_some(())
    });
    let output = daemon.output("it");
    output
        .lines()
        .filter_map(|line| line.strip_prefix(word))
        .map(str::to_owned)
        .collect()
}

/// Runs misbehave with these words, and says when it has printed.
fn show(words: &str) -> String {
    script(&format!("exec $misbehave {words} --ready log:end"))
}

#[test]
fn it_has_three_descriptors_and_those_that_were_declared() {
    let fds = |more: &str| {
        let daemon = Daemon::launch("", &one(&show("--print-fds"), more));
        printed(&daemon, "fd ")
    };
    let plain = fds("");
    let targets: Vec<&str> = plain
        .iter()
        .map(|line| line.split_once(' ').expect("two").1)
        .collect();
    assert_eq!(plain.len(), 3, "{plain:?}");
    assert!(plain[0].starts_with("0 /dev/null"), "{plain:?}");
    assert!(
        targets[1].starts_with("pipe:") && targets[1] == targets[2],
        "{plain:?}"
    );
    let declared = fds("ready = { fd = 7 }\nrequired = false\nstartup_timeout = \"60s\"");
    assert_eq!(declared.len(), 4, "{declared:?}");
    assert!(declared[3].starts_with("7 pipe:"), "{declared:?}");
}

/// mainstay as started by a shell that ran this first.
fn started_by(text: &str, modules: &str) -> Daemon {
    let mut shell = Command::new("/bin/sh");
    let text = format!("{text}\nexec {} \"$@\"", binary());
    shell.args(["-c", &text, "sh"]);
    let daemon = Daemon::launch_as(prepare("", modules), shell);
    daemon.until("it", ModuleState::Running);
    daemon
}

#[test]
fn no_signal_is_blocked_or_ignored_whoever_started_mainstay() {
    let command = script("grep -E '^Sig(Blk|Ign)' /proc/self/status; echo end; exec sleep 60");
    let daemon = started_by("trap '' INT HUP USR1 PIPE CHLD TERM", &one(&command, ""));
    let signals = printed(&daemon, "Sig");
    assert_eq!(signals.len(), 2, "{signals:?}");
    for line in signals {
        assert_eq!(
            line.split('\t').next_back(),
            Some("0000000000000000"),
            "{line}"
        );
    }
    // And mainstay itself still hears what it was started to ignore.
    assert_eq!(daemon.stop(), Some(0));
}

fn environment(daemon: &Daemon) -> BTreeMap<String, String> {
    let lines = printed(daemon, "env ");
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Variables that were meant for mainstay, or are of no use to a module.
const OURS: &str = "export MAINSTAY_LOG=warn MAINSTAY_CONTROL=/x MAINSTAY_ANYTHING=1 \
                    MAINSTAY__HEALTH__INTERVAL=10s NOTIFY_SOCKET=/nowhere WATCHDOG_USEC=60000000 \
                    WATCHDOG_PID=1 LISTEN_FDS=1 LISTEN_PID=1 LISTEN_FDNAMES=x INVOCATION_ID=1 \
                    JOURNAL_STREAM=1:2 HARMLESS=yes";

#[test]
fn its_environment_is_the_inherited_one_and_what_is_documented() {
    let daemon = started_by(OURS, &one(&show("--print-env"), ""));
    let env = environment(&daemon);
    let ours: Vec<&str> = env
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("MAINSTAY") || name.starts_with("LISTEN_"))
        .collect();
    assert_eq!(
        ours,
        [
            "MAINSTAY_GENERATION",
            "MAINSTAY_MARK",
            "MAINSTAY_MODULE",
            "MAINSTAY_SOCKET",
            "MAINSTAY_TOKEN"
        ]
    );
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "INVOCATION_ID",
    ] {
        assert!(!env.contains_key(name), "{name} was not meant for it");
    }
    assert_eq!(env["HARMLESS"], "yes");
    assert_eq!(
        (
            env["MAINSTAY_MODULE"].as_str(),
            env["MAINSTAY_GENERATION"].as_str()
        ),
        ("it", "1")
    );
    assert_eq!(
        env["MAINSTAY_SOCKET"],
        daemon.path("run/module.sock").display().to_string()
    );
    let own = std::env::var("PATH").expect("a PATH");
    assert_eq!(env["PATH"], own);
}

#[test]
fn a_cleared_environment_holds_what_was_given_and_nothing_else() {
    let more = "clear_env = true\nenv = { OWN = \"1\", BOTH = \"env\" }\nenv_file = \"own.env\"\n\
                settings = { deep = { n = 1 } }\nready = { notify = true }\n\
                health.probes = [{ watchdog = \"60s\" }]\nrequired = false";
    let dir = prepare(
        "",
        &one(
            &misbehave("--print-env --ready notify --notify STATUS=up"),
            more,
        ),
    );
    std::fs::write(
        dir.path().join("own.env"),
        "FROM_FILE='a b'\nBOTH=file\n# no\n",
    )
    .expect("a file");
    let daemon = Daemon::launch_in(dir);
    let pid = daemon
        .until("it", ModuleState::Running)
        .pid
        .expect("it runs");
    // What it wrote reaches the file a moment behind its word that it is ready.
    let output = daemon.wait("its variables", || {
        let output = daemon.output("it");
        (output.matches("env ").count() >= 12).then_some(output)
    });
    let env: BTreeMap<String, String> = output
        .lines()
        .filter_map(|line| line.strip_prefix("env ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let names: Vec<&str> = env.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "BOTH",
            "FROM_FILE",
            "MAINSTAY_GENERATION",
            "MAINSTAY_MARK",
            "MAINSTAY_MODULE",
            "MAINSTAY_SETTINGS",
            "MAINSTAY_SOCKET",
            "MAINSTAY_TOKEN",
            "NOTIFY_SOCKET",
            "OWN",
            "WATCHDOG_PID",
            "WATCHDOG_USEC"
        ]
    );
    assert_eq!(
        (env["BOTH"].as_str(), env["FROM_FILE"].as_str()),
        ("env", "a b")
    );
    assert_eq!(
        (env["WATCHDOG_USEC"].as_str(), env["WATCHDOG_PID"].clone()),
        ("60000000", pid.to_string())
    );
    let settings = std::fs::read_to_string(&env["MAINSTAY_SETTINGS"]).expect("its settings");
    let settings: serde_json::Value = serde_json::from_str(&settings).expect("JSON");
    assert_eq!(settings, serde_json::json!({ "deep": { "n": 1 } }));
}

#[test]
fn hooks_and_probes_get_no_token() {
    let more = format!(
        "before_start = [{}]\nready = {{ exec = {} }}",
        script("env | sort > hook.env"),
        script("env | sort > probe.env"),
    );
    let daemon = Daemon::start(&one(&misbehave(""), &more));
    for file in ["hook.env", "probe.env"] {
        let text = std::fs::read_to_string(daemon.path(file)).expect("it was run");
        assert!(text.contains("MAINSTAY_MODULE=it"), "{text}");
        assert!(!text.contains("MAINSTAY_TOKEN"), "{file}: {text}");
    }
}

/// A folder that other users may enter.
fn open_folder(modules: &str) -> TempDir {
    let dir = prepare("", modules);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("permissions");
    dir
}

#[test]
fn a_user_means_its_groups_too_and_a_group_may_be_another() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may start a module as another user");
    }
    let user = nix::unistd::User::from_name("nobody")
        .expect("users")
        .expect("nobody");
    let root_too = nix::unistd::Group::from_name("daemon")
        .expect("groups")
        .expect("daemon");
    let command = script("id -u; id -g; id -G; echo end; exec sleep 60");
    for (more, group) in [
        ("user = \"nobody\"".to_owned(), user.gid.as_raw()),
        (
            "user = \"nobody\"\ngroup = \"daemon\"".to_owned(),
            root_too.gid.as_raw(),
        ),
        (format!("user = \"{}\"", user.uid), user.gid.as_raw()),
    ] {
        let daemon = Daemon::launch_in(open_folder(&one(&command, &more)));
        let output = daemon.wrote("it", "end");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], user.uid.to_string(), "{more}: {output}");
        assert_eq!(lines[1], group.to_string(), "{more}: {output}");
        assert!(
            !lines[2].split(' ').any(|one| one == "0"),
            "{more}: {output}"
        );
    }
}

/// Keys of the kernel go on from process to process by their session, whatever user one becomes.
#[cfg(target_os = "linux")]
#[test]
fn a_module_of_another_user_has_no_keys_of_who_started_mainstay() {
    use linux_keyutils::{KeyRing, KeyRingIdentifier};
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may start a module as another user");
    }
    let name = format!("mainstay-test-{}", std::process::id());
    let session = KeyRing::from_special_id(KeyRingIdentifier::Session, true);
    let Ok((session, key)) = session.and_then(|ring| Ok((ring, ring.add_key(&name, "secret")?)))
    else {
        return skip("no keyring may be used here");
    };
    let command = script("cat /proc/keys; echo end; exec sleep 60");
    for (more, has_it) in [("", true), ("user = \"nobody\"", false)] {
        let daemon = Daemon::launch_in(open_folder(&one(&command, more)));
        let keys = daemon.wrote("it", "end");
        assert_eq!(keys.contains(&name), has_it, "{more}: {keys}");
    }
    session.unlink_key(key).expect("it was there");
}

/// mainstay as an ordinary user that may change users, with these capabilities.
fn launch_with_capabilities(dir: TempDir, capabilities: &str) -> Daemon {
    let program = dir.path().join("mainstay");
    crate::daemon::copy_program(crate::daemon::binary(), &program);
    std::os::unix::fs::chown(dir.path(), Some(12345), Some(12345)).expect("given away");
    for name in ["config", "config/mainstay.toml"] {
        let path = dir.path().join(name);
        std::os::unix::fs::chown(path, Some(12345), Some(12345)).expect("given away");
    }
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=12345", "--regid=12345", "--clear-groups"]);
    command.args([
        format!("--inh-caps={capabilities}"),
        format!("--ambient-caps={capabilities}"),
    ]);
    command.arg(program);
    Daemon::launch_as(dir, command)
}

#[test]
fn capabilities_of_mainstay_do_not_pass_to_modules_of_another_user() {
    let has_setpriv = std::process::Command::new("setpriv").arg("--dump").output();
    if !nix::unistd::geteuid().is_root() || !has_setpriv.is_ok_and(|it| it.status.success()) {
        return skip("it needs root and setpriv");
    }
    let command = script("id -u; grep Cap /proc/self/status; echo end; exec sleep 60");
    let modules = one(&command, "user = \"54321\"\ngroup = \"54321\"");
    let all = "+setuid,+setgid,+kill";
    let mut daemon = launch_with_capabilities(open_folder(&modules), all);
    let output = daemon.wrote("it", "end");
    assert!(output.starts_with("54321\n"), "{output}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let none = format!("{set}:\t0000000000000000");
        assert!(output.contains(&none), "{set}: {output}");
    }
    let pid = daemon.module("it").pid.expect("it runs");
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.ended(), Some(0));
    assert!(!crate::daemon::lives(pid), "it was not stopped");
    // What it could not stop it does not start.
    let daemon = launch_with_capabilities(open_folder(&modules), "+setuid,+setgid");
    daemon.wait("the refusal", || {
        daemon.printed().contains("CAP_KILL").then_some(())
    });
}

#[test]
fn a_module_with_a_user_has_the_usual_file_mode_whoever_started_mainstay() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may start a module as another user");
    }
    for (more, expected) in [("user = \"nobody\"", "0022"), ("", "0077")] {
        let modules = one(&script("umask; echo end; exec sleep 60"), more);
        let mut command = std::process::Command::new("sh");
        command.args([
            "-c",
            "umask 077; exec \"$@\"",
            "sh",
            crate::daemon::binary(),
        ]);
        let daemon = Daemon::launch_as(open_folder(&modules), command);
        let output = daemon.wrote("it", "end");
        assert!(output.starts_with(expected), "{more}: {output}");
    }
}

#[test]
fn one_of_another_user_says_ready_and_is_stopped() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may start a module as another user");
    }
    // The program has to be where that user may read it.
    let dir = open_folder("");
    let copy = dir.path().join("misbehave");
    crate::daemon::copy_program(crate::daemon::program("misbehave"), &copy);
    let command = format!("[{:?}, \"--ready\", \"notify\"]", copy.display());
    let modules = one(&command, "user = \"nobody\"\nready = { notify = true }");
    let config = dir.path().join("config/mainstay.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, text + &modules).expect("a configuration");
    let daemon = Daemon::launch_in(dir);
    daemon.until("it", ModuleState::Running);
    assert_eq!(
        daemon.change("module.stop", "it").state,
        ModuleState::Stopped
    );
    assert_eq!(
        daemon.module("it").last_exit.expect("it ended").code,
        Some(0)
    );
}

#[test]
fn it_runs_in_its_folder() {
    let dir = prepare(
        "",
        &one(
            &script("pwd; echo end; exec sleep 60"),
            "directory = \"below/it\"",
        ),
    );
    std::fs::create_dir_all(dir.path().join("below/it")).expect("a folder");
    let wanted = dir
        .path()
        .join("below/it")
        .canonicalize()
        .expect("it is there");
    let daemon = Daemon::launch_in(dir);
    let output = daemon.wrote("it", "end");
    assert_eq!(output.lines().next(), wanted.to_str());
}

#[test]
fn open_files_are_limited_as_said_and_otherwise_as_inherited() {
    let command = script("ulimit -Sn; ulimit -Hn; echo end; exec sleep 60");
    let daemon = Daemon::start(&one(&command, "limits.file_handles = 100"));
    assert!(
        daemon.wrote("it", "end").starts_with("100\n100\n"),
        "{}",
        daemon.output("it")
    );
    // mainstay raises its own limit; a module is given what mainstay was given.
    let daemon = started_by("ulimit -Sn 321", &one(&command, ""));
    assert!(
        daemon.wrote("it", "end").starts_with("321\n"),
        "{}",
        daemon.output("it")
    );
}

#[test]
#[cfg(target_os = "linux")]
fn its_priority_and_its_place_when_memory_runs_out_are_as_said() {
    let command = script("nice; cat /proc/self/oom_score_adj; echo end; exec sleep 60");
    // Both may be raised by every user, whatever mainstay itself has.
    let more = "limits.nice = 19\nlimits.oom_score_adj = 1000";
    let daemon = Daemon::start(&one(&command, more));
    assert_eq!(daemon.wrote("it", "end"), "19\n1000\nend\n");
    // Without the keys it has what mainstay was started with.
    let own = Command::new("nice").output().expect("it runs").stdout;
    let own = String::from_utf8(own).expect("a number");
    let daemon = Daemon::start(&one(&command, ""));
    assert!(daemon.wrote("it", "end").starts_with(&own), "not {own}");
}

#[test]
fn it_may_be_kept_from_gaining_rights() {
    let command = script("grep NoNewPrivs /proc/self/status; echo end; exec sleep 60");
    for (more, wanted) in [
        ("", "NoNewPrivs:\t1"),
        ("isolation.no_new_privileges = false", "NoNewPrivs:\t0"),
    ] {
        let daemon = Daemon::start(&one(&command, more));
        assert_eq!(daemon.wrote("it", "end").lines().next(), Some(wanted));
    }
}

#[test]
fn it_may_be_kept_to_processors_capabilities_and_paths() {
    let command = script(
        "grep -E 'Cpus_allowed_list|CapBnd' /proc/self/status; touch kept/file && echo wrote; \
         echo end; exec sleep 60",
    );
    let is_root = nix::unistd::geteuid().is_root();
    let more = "limits.cpu_affinity = [0]\nisolation.capabilities = [\"CAP_KILL\"]\n\
                isolation.read_only = [\"kept\"]\nbefore_start = [[\"mkdir\", \"-p\", \"kept\"]]";
    let dir = prepare("", &one(&command, more));
    std::fs::create_dir_all(dir.path().join("kept")).expect("a folder");
    let daemon = Daemon::launch_in(dir);
    if !is_root {
        let issues = daemon.status().issues.join("\n");
        assert!(
            issues.contains("isolation.read_only is not enforced"),
            "{issues}"
        );
        return;
    }
    let seen = daemon.wrote("it", "end");
    assert!(seen.contains("CapBnd:\t0000000000000020"), "{seen}");
    assert!(seen.contains("Cpus_allowed_list:\t0\n"), "{seen}");
    assert!(!seen.contains("wrote"), "{seen}");
}
