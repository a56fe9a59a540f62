//! What can be read of a mainstay that is not running.
//! Owns the answers of `logs`, `why` and `events` then. Never starts one to ask it.

use std::process::Output;

use crate::daemon::{Daemon, misbehave, prepare, script};

pub(crate) fn both(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A mainstay that ran and was stopped.
fn stopped() -> Daemon {
    let talks = script("echo words of the past; exec $misbehave");
    let silent = misbehave("");
    let modules =
        format!("[module.talks]\ncommand = {talks}\n[module.silent]\ncommand = {silent}\n");
    let mut daemon = Daemon::start(&modules);
    daemon.wrote("talks", "words of the past");
    daemon.signal(libc::SIGINT);
    assert_eq!(daemon.ended(), Some(0));
    daemon
}

#[test]
fn history_is_read_while_mainstay_is_not_running() {
    let daemon = stopped();
    for words in [
        &["logs", "talks"][..],
        &["events"],
        &["why", "talks"],
        &["events", "--json", "--module", "talks"],
        &["why", "talks", "--json"],
    ] {
        let output = daemon.cli(words);
        let (out, err) = both(&output);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{words:?}: {err}");
        assert!(
            err.contains("is not running: this is its history"),
            "{words:?}: {err}"
        );
        let said = if words[0] == "logs" {
            "words of the past"
        } else {
            "talks"
        };
        assert!(out.contains(said), "{words:?}: {out}");
    }
    let (out, _) = both(&daemon.cli(&["why", "talks"]));
    assert!(out.starts_with("talks was stopped.\n"), "{out}");
    assert!(
        out.contains("the system is stopping"),
        "why it stopped: {out}"
    );
    assert!(
        out.contains("Next: no action is scheduled.\nDo: mainstay up\nHistory:\n"),
        "{out}"
    );
    assert_eq!(daemon.cli(&["status"]).status.code(), Some(3));
    let follow = daemon.cli(&["logs", "talks", "-f"]);
    assert_eq!(follow.status.code(), Some(3));
    assert_eq!(both(&follow).0, "words of the past\n");
}

#[test]
fn after_a_start_that_failed_why_shows_how_each_module_was_and_its_last_words() {
    let once = "[module.web.recovery]\nmax_attempts = 1\nprobation = \"off\"\n\
                backoff = { initial = \"10ms\", floor = \"10ms\" }\n";
    let modules = format!(
        "[module.web]\ncommand = {web}\nready = {{ settle = \"9s\" }}\n{once}\
         [module.job]\ncommand = {job}\nkind = \"task\"\nrequired = false\n\
         [module.well]\ncommand = {well}\n\
         [module.late]\ncommand = {well}\nrequires = [\"web\"]\n",
        web = script("echo cannot bind: address in use >&2; exit 3"),
        job = script("echo bad migration; exit 4"),
        well = script("echo words of the well; exec $misbehave"),
    );
    let mut daemon = Daemon::launch("startup_timeout = \"10m\"", &modules);
    assert_eq!(daemon.ended(), Some(1), "{}", daemon.printed());
    for (module, begins, last) in [
        (
            "web",
            "web had failed: exit code 3",
            Some("cannot bind: address in use"),
        ),
        ("job", "job had failed: exit code 4", Some("bad migration")),
        ("well", "well was stopped", None),
        ("late", "late was waiting", None),
    ] {
        let (out, _) = both(&daemon.cli(&["why", module]));
        assert!(out.starts_with(begins), "{module}: {out}");
        let (_, log) = out.split_once("Seen: its log ends with").unzip();
        assert_eq!(log.is_some(), last.is_some(), "{module}: {out}");
        let log = log.unwrap_or_default();
        assert!(log.contains(last.unwrap_or_default()), "{module}: {out}");
    }
}

#[test]
fn a_log_without_a_line_says_so() {
    let daemon = stopped();
    let (out, err) = both(&daemon.cli(&["logs", "silent"]));
    assert_eq!(out, "");
    assert!(err.contains("silent has written nothing yet"), "{err}");
    let running = Daemon::start(&format!("[module.silent]\ncommand = {}\n", misbehave("")));
    let output = running.cli(&["logs", "silent"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        both(&output),
        (String::new(), "silent has written nothing yet\n".to_owned())
    );
}

#[test]
fn without_any_history_it_is_not_running_and_nothing_else() {
    let daemon = stopped();
    for words in [
        &["logs", "nobody"][..],
        &["why", "nobody"],
        &["events", "--module", "nobody"],
    ] {
        let output = daemon.cli(words);
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        let (_, err) = both(&output);
        assert!(
            err.contains("mainstay up") && err.contains("of nobody")
                || err.contains("about nobody"),
            "{err}"
        );
    }
    let never = prepare("", "");
    for words in [&["events"][..], &["logs", "a"], &["why", "a"]] {
        let output = std::process::Command::new(crate::daemon::binary())
            .args(words)
            .arg("--config")
            .arg(never.path().join("config"))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(3), "{words:?}: {output:?}");
        assert!(
            !never.path().join("state").exists(),
            "asking creates nothing"
        );
    }
}
