//! Directories and locks: who may use them, what becomes of a system whose directory is removed.
//! Owns systems that share a name or a directory. Never touches a directory outside of the test's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, binary, misbehave, prepare, skip, wait_for};

fn one() -> String {
    format!("[module.one]\ncommand = {}\n", misbehave(""))
}

/// Removes a directory in which a file may be created meanwhile.
fn remove(daemon: &Daemon, name: &str) {
    daemon.wait("a removed directory", || {
        fs::remove_dir_all(daemon.path(name)).ok()
    });
}

/// Runs the command line in a directory of its own, with these variables.
fn run_in(folder: &Path, words: &[&str], variables: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(binary());
    command.args(words).current_dir(folder).stdin(Stdio::null());
    command
        .env_remove("MAINSTAY_CONFIG")
        .env_remove("XDG_RUNTIME_DIR");
    command.env("XDG_STATE_HOME", folder.join("state-home"));
    command.envs(variables.iter().copied());
    command.output().expect("the command line runs")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// A project that says nothing but its name.
fn project(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("config")).expect("a folder");
    let text = format!("[mainstay]\nname = \"{name}\"\n{}", one());
    fs::write(dir.path().join("config/mainstay.toml"), text).expect("a configuration");
    dir
}

#[test]
fn a_second_system_in_the_same_runtime_directory_is_refused() {
    let first = Daemon::start(&one());
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("config")).expect("a folder");
    let text = format!(
        "[mainstay]\nname = \"test\"\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\n{}",
        dir.path().join("state").display(),
        first.path("run").display(),
        one()
    );
    fs::write(dir.path().join("config/mainstay.toml"), text).expect("a configuration");
    let second = run_in(dir.path(), &["up"], &[]);
    let told = said(&second);
    assert_eq!(second.status.code(), Some(1), "{told}");
    let pid = format!("pid {}", first.holder());
    let state = first.path("state").display().to_string();
    let config = first.path("config").display().to_string();
    for word in [&*pid, &*state, &*config, "since 20", "mainstay.runtime_dir"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let detached = run_in(dir.path(), &["up", "-d"], &[]);
    let told = said(&detached);
    assert!(!detached.status.success() && told.contains(&pid), "{told}");
    assert_eq!(
        first.module("one").state,
        ModuleState::Running,
        "and answers on its sockets"
    );
    assert!(
        !dir.path().join("state/logs/one.log").exists(),
        "nothing was started"
    );
}

#[test]
fn a_system_of_the_same_name_and_another_folder_is_shown_as_such_and_not_changed() {
    let (first, second) = (project("app1"), project("app1"));
    let run = tempfile::tempdir().expect("a folder");
    let shared = [("XDG_RUNTIME_DIR", run.path())];
    let up = run_in(first.path(), &["up", "-d"], &shared);
    assert!(up.status.success(), "{}", said(&up));
    let both = [first.path(), second.path()].map(|dir| dir.join("config").display().to_string());
    for words in [
        &["up", "-d"][..],
        &["stop", "one"],
        &["restart", "one"],
        &["start", "one"],
        &["down"],
    ] {
        let refused = run_in(second.path(), words, &shared);
        let told = said(&refused);
        assert!(!refused.status.success(), "{words:?}: {told}");
        for folder in &both {
            assert!(told.contains(folder), "{words:?}: {told}");
        }
    }
    for words in [&["status"][..], &["why", "one"], &["health"], &["events"]] {
        let shown = run_in(second.path(), words, &shared);
        let warned = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success(), "{words:?}: {}", said(&shown));
        let is_told = |folder: &String| warned.contains(folder);
        assert!(both.iter().all(is_told), "{words:?}: {warned}");
        let shown = run_in(first.path(), words, &shared);
        assert!(shown.stderr.is_empty(), "{words:?}: {}", said(&shown));
    }
    let named = run_in(second.path(), &["stop", "one", "--name", "app1"], &shared);
    assert!(
        named.status.success(),
        "a name that is typed is meant: {}",
        said(&named)
    );
    let down = run_in(first.path(), &["down"], &shared);
    assert!(down.status.success(), "{}", said(&down));
}

#[test]
fn a_mistake_in_the_file_that_names_the_system_locks_nobody_out_of_it() {
    let dir = project("app1");
    let run = tempfile::tempdir().expect("a folder");
    let shared = [("XDG_RUNTIME_DIR", run.path())];
    let up = run_in(dir.path(), &["up", "-d"], &shared);
    assert!(up.status.success(), "{}", said(&up));
    let file = dir.path().join("config/mainstay.toml");
    let text = fs::read_to_string(&file).expect("a configuration");
    let broken = text.replace("name = \"app1\"", "name = \"app1");
    assert_ne!(text, broken);
    fs::write(&file, broken).expect("written");
    for words in [
        &["status"][..],
        &["why", "one"],
        &["stop", "one"],
        &["down"],
    ] {
        let output = run_in(dir.path(), words, &shared);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
    }
    let status = run_in(dir.path(), &["status"], &shared);
    let told = said(&status);
    assert!(told.contains("cannot reach mainstay 'app1'"), "{told}");
}

#[test]
fn a_start_that_is_stopped_before_it_is_up_is_not_called_one() {
    let dir = project("app1");
    let file = dir.path().join("config/mainstay.toml");
    let text = fs::read_to_string(&file).expect("a configuration");
    fs::write(&file, text + "ready = { file = \"/nonexistent/ready\" }\n").expect("written");
    let run = tempfile::tempdir().expect("a folder");
    let shared = [("XDG_RUNTIME_DIR", run.path())];
    let up = std::thread::scope(|scope| {
        let up = scope.spawn(|| run_in(dir.path(), &["up", "-d"], &shared));
        wait_for("an answer", || {
            let status = run_in(dir.path(), &["status"], &shared);
            said(&status).contains("starting").then_some(())
        });
        let down = run_in(dir.path(), &["down"], &shared);
        assert!(down.status.success(), "{}", said(&down));
        up.join().expect("it ends")
    });
    assert_eq!(up.status.code(), Some(1), "{}", said(&up));
}

#[test]
fn a_log_directory_that_another_user_could_exchange_or_fill_is_not_used() {
    let dir = project("test");
    let path = dir.path().join("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let open = dir.path().join("open");
    fs::create_dir_all(open.join("logs")).expect("folders");
    let attempt = |logs: &Path, mode: u32, word: &str| {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).expect("a mode");
        let own = format!(
            "{text}[logs]\ndirectory = {:?}\n",
            logs.display().to_string()
        );
        fs::write(&path, own).expect("written");
        for words in [&["up"][..], &["up", "-d"]] {
            let told = said(&run_in(
                dir.path(),
                words,
                &[("XDG_RUNTIME_DIR", dir.path())],
            ));
            for word in [word, "cannot use the directory", "logs.directory"] {
                assert!(told.contains(word), "{words:?} {word}: {told}");
            }
        }
        let entries = fs::read_dir(logs).into_iter().flatten();
        assert_eq!(
            entries.count(),
            usize::from(logs == open),
            "something was written"
        );
    };
    attempt(&open.join("logs"), 0o777, "any user may write");
    attempt(&open, 0o777, "any user may write");
    attempt(&open, 0o1777, "any user may write");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&open, Some(54321), Some(54321)).expect("given away");
        attempt(&open.join("logs"), 0o755, "user 54321 owns");
        attempt(&open, 0o755, "user 54321 owns");
    }
}

#[test]
fn root_runs_no_configuration_that_another_user_may_change() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can give a directory away");
    }
    let dir = project("test");
    let named = dir.path().join("config");
    let (file, part) = (named.join("mainstay.toml"), named.join("conf.d/part.toml"));
    fs::create_dir(named.join("conf.d")).expect("a folder");
    fs::write(&part, "[module.one.env]\nA = \"1\"\n").expect("a file");
    let run = |words: &[&str], owner: &str| {
        let variables = [("MAINSTAY_TRUST_OWNER", Path::new(owner))];
        let output = run_in(dir.path(), words, &variables);
        (output.status.success(), said(&output))
    };
    let config = named.display().to_string();
    let give = |path: &Path, user: u32| {
        std::os::unix::fs::chown(path, Some(user), None).expect("given away");
    };
    assert!(run(&["check", "--config", &config], "").0, "all is root's");
    for path in [&named, &file, &part, &named.join("conf.d")] {
        give(path, 54321);
        for words in [["check"], ["up"], ["status"]] {
            let (is_done, told) = run(&[words[0], "--config", &config], "");
            assert!(
                !is_done && told.contains("user 54321 owns"),
                "{words:?}: {told}"
            );
            let next = match words {
                ["status"] => "--name",
                _ => "MAINSTAY_TRUST_OWNER",
            };
            assert!(told.contains(next), "{words:?}: {told}");
        }
        let (is_done, told) = run(&["check", "--config", &config], "54321");
        assert!(is_done, "{told}");
        assert!(!run(&["check", "--config", &config], "54322").0);
        give(path, 0);
    }
    fs::set_permissions(&part, fs::Permissions::from_mode(0o666)).expect("a mode");
    let (is_done, told) = run(&["check", "--config", &config], "");
    assert!(!is_done && told.contains("any user may write in"), "{told}");
    assert!(
        !dir.path().join("state-home").exists(),
        "something was started"
    );
}

#[test]
fn a_configuration_of_another_user_in_the_current_folder_has_to_be_named() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can give a directory away");
    }
    let dir = project("test");
    let program = dir.path().join("mainstay");
    crate::daemon::copy_program(binary(), &program);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let check = |more: &[&str]| {
        let mut command = Command::new(&program);
        std::os::unix::process::CommandExt::uid(&mut command, 12345);
        command.arg("check").args(more).current_dir(dir.path());
        command
            .env_remove("MAINSTAY_CONFIG")
            .env("HOME", dir.path());
        let output = command.output().expect("it runs");
        (output.status.success(), said(&output))
    };
    assert!(check(&[]).0, "root's is used: {}", check(&[]).1);
    std::os::unix::fs::chown(dir.path().join("config"), Some(54321), None).expect("given away");
    let (is_done, told) = check(&[]);
    assert!(!is_done && told.contains("another user's"), "{told}");
    let (is_done, told) = check(&["--config", "config"]);
    assert!(is_done, "{told}");
}

#[test]
fn a_runtime_directory_of_another_user_is_not_used() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can give a directory away");
    }
    let dir = project("test");
    let theirs = dir.path().join("user");
    fs::create_dir_all(theirs.join("mainstay/test")).expect("folders");
    let victim = dir.path().join("victim");
    fs::write(&victim, "kept").expect("a file");
    symlink(&victim, theirs.join("mainstay/test/holder.json.new")).expect("a link");
    for folder in ["user/mainstay/test", "user/mainstay", "user"] {
        let folder = dir.path().join(folder);
        std::os::unix::fs::chown(folder, Some(54321), Some(54321)).expect("given away");
    }
    // By its variable it is ignored, the folder of the system is used; by its key it is refused.
    let mut foreign = vec![("XDG_RUNTIME_DIR", theirs.as_path())];
    let check = run_in(
        dir.path(),
        &["config", "get", "mainstay.runtime_dir"],
        &foreign,
    );
    let told = said(&check);
    assert!(check.status.success() && !told.contains("/user/"), "{told}");
    let key = theirs.join("mainstay/test");
    foreign.push(("MAINSTAY__MAINSTAY__RUNTIME_DIR", &key));
    let up = run_in(dir.path(), &["up"], &foreign);
    let told = said(&up);
    assert_eq!(up.status.code(), Some(1), "{told}");
    let owner = format!("user 54321 owns {}", theirs.display());
    assert!(told.contains(&owner), "{told}");
    assert_eq!(fs::read(&victim).expect("still there"), b"kept");
}

#[test]
fn a_state_directory_in_which_others_may_rename_is_refused() {
    let dir = prepare("", &one());
    let open = dir.path().join("open");
    fs::create_dir(&open).expect("a folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("ours");
    let state = open.join("state");
    let variables = [("MAINSTAY__MAINSTAY__STATE_DIR", state.as_path())];
    let up = run_in(dir.path(), &["up"], &variables);
    let told = said(&up);
    assert_eq!(up.status.code(), Some(1), "{told}");
    assert!(
        told.contains("any user may write in") && told.contains("mainstay.state_dir"),
        "{told}"
    );
    let detached = run_in(dir.path(), &["up", "-d"], &variables);
    assert!(
        said(&detached).contains("any user may write in"),
        "{detached:?}"
    );
    assert!(
        fs::read_dir(&open).expect("a folder").next().is_none(),
        "nothing was created"
    );
}

#[test]
fn a_runtime_directory_that_is_removed_is_created_again() {
    let modules = format!("{}[module.one.settings]\nkey = 1\n", one());
    let daemon = Daemon::start(&modules);
    let pid = daemon.module("one").pid;
    let begun = Instant::now();
    // It may be there again before all of it is removed.
    while let Err(problem) = fs::remove_dir_all(daemon.path("run")) {
        assert_eq!(problem.kind(), std::io::ErrorKind::DirectoryNotEmpty);
    }
    let status = daemon.status();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        (status.holder_pid, daemon.module("one").pid),
        (daemon.holder(), pid)
    );
    let about = fs::metadata(daemon.path("run")).expect("a folder");
    assert_eq!(about.mode() & 0o7777, 0o711);
    daemon.wait("the holder's own file", || {
        fs::metadata(daemon.path("run/holder.json")).ok()
    });
    let restarted = daemon.change(name::MODULE_RESTART, "one");
    assert_ne!(restarted.pid, pid);
    assert!(daemon.path("run/settings/one.json").exists());
    // Its parent too, and more than once.
    fs::rename(daemon.path("run"), daemon.path("away")).expect("renamed");
    daemon.status();
    daemon.kill_runtime();
    let down = daemon.cli(&["down"]);
    assert!(down.status.success(), "{}", said(&down));
}

#[test]
fn every_socket_comes_back_after_the_runtime_directory_was_removed() {
    let lazy = format!(
        "[module.lazy]\ncommand = {}\nstart = \"lazy\"\n\
         sockets = {{ http = \"${{runtime_dir}}/lazy.sock\" }}\n",
        misbehave("--serve")
    );
    let runs = format!(
        "[module.runs]\ncommand = {}\nsockets = {{ http = \"${{runtime_dir}}/runs.sock\" }}\n",
        misbehave("--serve")
    );
    let told = format!(
        "[module.told]\ncommand = {}\nready = {{ notify = true }}\n",
        misbehave("--ready notify")
    );
    let daemon = Daemon::start(&format!("{lazy}{runs}{told}"));
    daemon.until("told", ModuleState::Running);
    daemon.until("runs", ModuleState::Running);
    let notify = daemon.notify_socket();
    let notify = notify.to_str().expect("a path of text");
    let comes_back = |name: &str| {
        let path = daemon.path("run").join(name); // an absolute name stays as it is
        let datagram = || UnixDatagram::unbound().and_then(|socket| socket.connect(&path));
        UnixStream::connect(&path).is_ok() || datagram().is_ok()
    };
    for round in 0..3 {
        remove(&daemon, "run");
        let begun = Instant::now();
        for name in ["control.sock", "module.sock", notify, "lazy.sock"] {
            daemon.wait(name, || comes_back(name).then_some(()));
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "round {round}: {took:?}");
        if round == 0 {
            // The connection started it; stopped, it is only listened for.
            daemon.until("lazy", ModuleState::Running);
            daemon.change(name::MODULE_STOP, "lazy");
        }
    }
    // What runs keeps the socket it has, and says so; the next run has a new one.
    daemon.wait("what to do about it", || {
        daemon.printed().contains("restart runs").then_some(())
    });
    assert!(!comes_back("runs.sock"));
    daemon.change(name::MODULE_RESTART, "runs");
    daemon.wait("the socket of the next run", || {
        comes_back("runs.sock").then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_file_that_cannot_be_written_costs_one_module_its_output() {
    let chatty = |words: &str| {
        let text = format!("i=0; while :; do i=$((i+1)); echo {words} $i; sleep 0.02; done");
        format!("command = {:?}\n", ["/bin/sh", "-c", &text])
    };
    let names = ["fifo", "folder", "link", "socket"];
    let mut modules = format!("[module.other]\n{}", chatty("other"));
    for name in names {
        modules.push_str(&format!("[module.{name}]\n{}", chatty(name)));
    }
    let dir = prepare("", &modules);
    let logs = dir.path().join("state/logs");
    fs::create_dir_all(&logs).expect("folders");
    for folder in [dir.path().join("state"), logs.clone()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("ours");
    }
    let all = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&logs.join("fifo.log"), all).expect("a fifo");
    fs::create_dir(logs.join("folder.log")).expect("a folder");
    fs::write(dir.path().join("target"), "").expect("a file");
    symlink(dir.path().join("target"), logs.join("link.log")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(logs.join("socket.log")).expect("bound");
    let daemon = Daemon::launch_in(dir);
    daemon.wrote("other", "other 5");
    for name in names {
        daemon.until_view("lost output", name, |view| view.output_dropped_bytes > 0);
        let event = daemon.event(name, EventKind::ModuleOutputLost);
        let text = event.payload["reason"].as_str().unwrap_or_default();
        assert!(text.contains(&format!("{name}.log")), "{event:?}");
    }
    assert_eq!(daemon.module("other").output_dropped_bytes, 0);
    assert_eq!(
        fs::read(daemon.path("target")).expect("there"),
        b"",
        "links are not followed"
    );
    // To read it holds nobody up either.
    let begun = Instant::now();
    let shown = daemon.cli(&["logs", "fifo"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{shown:?}");
    let other = daemon.cli(&["logs", "other", "-n", "1"]);
    assert!(said(&other).contains("other "), "{other:?}");
    // It is over when it is over.
    fs::remove_file(daemon.path("state/logs/fifo.log")).expect("removed");
    daemon.wait("its output", || {
        daemon.output("fifo").contains("fifo ").then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn history_that_was_removed_is_a_gap_and_an_issue() {
    let daemon = Daemon::start(&one());
    daemon.change(name::MODULE_RESTART, "one");
    let newest = |daemon: &Daemon| {
        let seqs = daemon.events("one").into_iter().map(|event| event.seq);
        seqs.max().unwrap_or(0)
    };
    let before = newest(&daemon);
    assert!(before > 1);
    let pid = daemon.module("one").pid;
    remove(&daemon, "state");
    daemon.kill_runtime();
    assert_eq!(daemon.module("one").pid, pid, "no module notices");
    daemon.change(name::MODULE_RESTART, "one");
    assert!(newest(&daemon) > before, "numbers are never used twice");
    let gap = daemon.wait("a gap", || {
        let params = mainstay_protocol::method::EventsParams {
            kinds: vec![EventKind::JournalGap],
            ..Default::default()
        };
        daemon.client().events(&params).ok()?.pop()
    });
    let status = daemon.status();
    let issue = status.issues.iter().any(|issue| issue.contains("history"));
    assert!(issue, "{gap:?} {:?}", status.issues);
    let mode = fs::metadata(daemon.path("state")).expect("again").mode();
    assert_eq!(mode & 0o7777, 0o700);
    daemon.wait("the committed plan", || {
        daemon.path("state/committed.json").exists().then_some(())
    });
    let second = run_in(daemon.dir.path(), &["up"], &[]);
    assert_eq!(
        second.status.code(),
        Some(1),
        "its lock is held: {second:?}"
    );
}
