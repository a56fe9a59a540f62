//! The clients for other languages against the real daemon: a module and a program of each.
//! Owns what both promise: readiness, status, bus, calls, settings, events over a killed runtime.
//! Never fails where the language is missing: it says so.

use std::path::PathBuf;
use std::process::Command;

use mainstay_protocol::ModuleState;
use serde_json::{Value, json};

use crate::daemon::{Daemon, misbehave, script, skip};
use crate::reload::edit;

const HEAD: &str = "reload = \"manual\"\nreload_watch = \"300ms\"";

/// One language: its program, the folder of its client, and how its files end.
struct Language {
    program: &'static str,
    folder: &'static str,
    extension: &'static str,
}

const PYTHON: Language = Language {
    program: "python3",
    folder: "clients/python",
    extension: "py",
};
const NODE: Language = Language {
    program: "node",
    folder: "clients/typescript",
    extension: "js",
};

impl Language {
    fn is_missing(&self) -> bool {
        let version = Command::new(self.program).arg("--version").output();
        let is_there = version.is_ok_and(|output| output.status.success());
        if !is_there {
            skip(&format!("no {} here", self.program));
        }
        !is_there
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(self.folder)
    }

    fn file(&self, folder: &str, name: &str) -> String {
        let file = format!("{name}.{}", self.extension);
        self.folder().join(folder).join(file).display().to_string()
    }

    fn module(&self, name: &str, (folder, file): (&str, &str), rest: &str) -> String {
        let command = [self.program, &self.file(folder, file)];
        let path = self.folder().display().to_string();
        format!(
            "[module.{name}]\ncommand = {command:?}\nenv = {{ PYTHONPATH = {path:?} }}\n\
             ready = {{ notify = true }}\n{rest}\n"
        )
    }

    fn modules(&self, settings: &str) -> String {
        let counter = format!(
            "settings = {settings}\nhealth = {{ probes = [{{ sdk = true, interval = \"200ms\" }}] }}\n"
        );
        let counter = self.module("counter", ("examples", "module"), &counter);
        let asker = "requires = [\"counter\"]\nmay_call = [\"counter\"]";
        counter + &self.module("asker", ("tests", "asker"), asker)
    }
}

fn says(daemon: &Daemon, module: &str, text: &str) {
    daemon.until_view("its status text", module, |view| {
        view.status_text
            .as_deref()
            .is_some_and(|said| said.contains(text))
    });
}

fn a_module_works(language: &Language) {
    if language.is_missing() {
        return;
    }
    let daemon = Daemon::launch(HEAD, &language.modules("{ interval = 0.02 }"));
    says(&daemon, "asker", "heard, called, refused: module_error");
    says(&daemon, "counter", "counted to");
    daemon.until_view("its metrics", "counter", |view| {
        view.metrics.contains_key("count")
    });
    let pid = daemon.module("counter").pid;

    // New settings without a restart; those that it refuses are nowhere.
    let reload = |settings: &str| {
        edit(daemon.dir.path(), HEAD, &language.modules(settings));
        let output = daemon.cli(&["reload", "--wait"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.code(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, text) = reload("{ interval = 0.03 }");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = reload("{ interval = 0 }");
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("interval must be above 0"), "{text}");
    assert_eq!(daemon.module("counter").pid, pid);

    // Another runtime hears again what the module said.
    daemon.kill_runtime();
    daemon.until_view("the other runtime", "counter", |view| {
        view.state == ModuleState::Running && view.status_text.is_some()
    });
    let before = daemon.module("counter").status_text;
    daemon.until_view("it to count on", "counter", |view| {
        view.status_text != before
    });
    assert_eq!(daemon.module("counter").pid, pid);
    let exit = daemon.change("module.stop", "counter").last_exit;
    assert_eq!(exit.and_then(|exit| exit.code), Some(0));
}

fn a_program_works(language: &Language) {
    if language.is_missing() {
        return;
    }
    let quiet = script("echo here; exec $misbehave");
    let daemon = Daemon::start(&format!(
        "[module.quiet]\ncommand = {quiet}\n[module.counter]\ncommand = {}\n",
        misbehave("")
    ));
    daemon.until("quiet", ModuleState::Running);
    let output = Command::new(language.program)
        .arg(language.file("tests", "against"))
        .arg(daemon.socket())
        .env("PYTHONPATH", language.folder())
        .output()
        .expect("the program ran");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |key: &str| found.get(key).cloned().unwrap_or_default();
    assert_eq!(of("status"), json!("healthy"), "{found}");
    assert_eq!(of("modules"), json!(["counter", "event-bus", "quiet"]));
    assert_eq!(of("restarted"), json!(["running", 1]));
    assert_eq!(
        (of("stopped"), of("started")),
        (json!("stopped"), json!("running"))
    );
    assert!(
        of("why")
            .as_str()
            .is_some_and(|text| text.contains("quiet")),
        "{found}"
    );
    assert_eq!(
        (of("log"), of("refused")),
        (json!("here"), json!("unknown_module"))
    );
    let seen = of("seen").as_array().cloned().unwrap_or_default();
    assert_eq!(seen.last(), Some(&json!("adopted")), "{found}");
    assert!(seen.contains(&json!("module.ready")), "{found}");
}

#[test]
fn a_module_in_python_works() {
    a_module_works(&PYTHON);
}

#[test]
fn a_module_in_node_works() {
    a_module_works(&NODE);
}

#[test]
fn a_program_in_python_works() {
    a_program_works(&PYTHON);
}

#[test]
fn a_program_in_node_works() {
    a_program_works(&NODE);
}
