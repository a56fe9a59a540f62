//! `report`: what is in the archive, and what is not.
//! Owns the promise that a secret of env or settings is nowhere in it.
//! Never reads an archive of another test.

use std::process::Command;

use mainstay_protocol::ModuleState;

use crate::daemon::{Daemon, script, skip};

const SECRETS: [&str; 4] = [
    "hunter-env",
    "hunter-setting",
    "hunter-argument",
    "hunter-deep",
];

fn modules() -> String {
    format!(
        "[module.it]\ncommand = {}\nenv = {{ PASSWORD = \"hunter-env\" }}\n\
         [module.it.settings]\nkey = \"hunter-setting\"\n\
         deep = {{ list = [\"hunter-deep\"] }}\n\
         [module.bad]\ncommand = [\"/nowhere/bad\", \"hunter-argument\"]\nrequired = false\n",
        script("echo my password is $PASSWORD, and hunter-deep; while :; do sleep 0.05; done"),
    )
}

/// What was printed, and all that is in the archive; None: there is no tar.
fn packed(daemon: &Daemon, name: &str) -> Option<(String, String)> {
    let path = daemon.path(name);
    let output = daemon.cli(&["report", "--output", &path.display().to_string()]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let unpacked = Command::new("tar").arg("-xzOf").arg(&path).output().ok()?;
    assert!(unpacked.status.success(), "{unpacked:?}");
    let again = daemon.cli(&["report", "--output", &path.display().to_string()]);
    assert_eq!(
        again.status.code(),
        Some(1),
        "it replaces nothing: {again:?}"
    );
    let text = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    Some((printed, text))
}

#[test]
fn a_report_has_what_a_bug_report_needs_and_no_secret() {
    let mut daemon = Daemon::start(&modules());
    daemon.until("bad", ModuleState::Failed);
    daemon.wait("the password to be printed", || {
        daemon.output("it").contains("hunter-env").then_some(())
    });
    let Some((printed, text)) = packed(&daemon, "running.tar.gz") else {
        return skip("there is no tar");
    };
    for part in [
        "about.txt",
        "status.json",
        "doctor.json",
        "modules.json",
        "events.jsonl",
        "mainstay.toml",
        "logs/it.log",
    ] {
        assert!(printed.contains(part), "no {part}: {printed}");
    }
    assert!(text.contains("my password is [redacted]"), "{text}");
    assert!(
        text.contains("/nowhere/bad") && text.contains("PASSWORD"),
        "{text}"
    );
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in it:\n{text}");
    }
    daemon.signal(libc::SIGINT);
    assert_eq!(daemon.ended(), Some(0));
    let (printed, text) = packed(&daemon, "stopped.tar.gz").expect("tar is there");
    assert!(printed.contains("not-running.txt") && printed.contains("events.jsonl"));
    assert!(text.contains("running: no"), "{text}");
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in it:\n{text}");
    }
}
