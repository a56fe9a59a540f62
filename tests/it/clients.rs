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

/// The address of a page and one answer of it: the status line, the header and the body.
fn answer(address: &str, head: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let host = address
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let mut page = std::net::TcpStream::connect(&host).expect("the page listens");
    let timeout = Some(std::time::Duration::from_secs(30));
    page.set_read_timeout(timeout).expect("a timeout");
    let head = head.replace("HOST", &host);
    let length = body.len();
    let request = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    page.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    page.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn the_page_of_the_desktop_example_talks_to_its_backend() {
    if PYTHON.is_missing() {
        return;
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let example = root.join("docs/examples/desktop");
    let text = std::fs::read_to_string(example.join("config/mainstay.toml")).expect("a file");
    let (_, modules) = text.split_once("[module.notes]").expect("its modules");
    let programs = example.display().to_string();
    let clients = root.join("clients/python").display().to_string();
    let modules = format!("[module.notes]{modules}")
        .replace("${project}/../../../clients/python", &clients)
        .replace("\"notes.py\"", &format!("\"{programs}/notes.py\""))
        .replace("\"page.py\"", &format!("\"{programs}/page.py\""));
    let daemon = Daemon::start(&modules);
    daemon.until("page", ModuleState::Running);
    says(&daemon, "page", "shows the notes on ");
    let status = daemon.module("page").status_text.expect("its address");
    let address = status.trim_start_matches("shows the notes on ").to_owned();
    let page = answer(&address, "GET / HTTP/1.1\r\nHost: HOST\r\n", "");
    assert!(page.contains("<ul></ul>"), "{page}");
    let (_, key) = page.split_once("name=\"key\" value=\"").expect("a key");
    let key = key.split('"').next().expect("its end");
    let post = "POST / HTTP/1.1\r\nHost: HOST\r\n";
    let added = answer(&address, post, &format!("key={key}&note=milk+%3Cb%3E"));
    assert!(added.starts_with("HTTP/1.0 303"), "{added}");
    let page = answer(&address, "GET / HTTP/1.1\r\nHost: HOST\r\n", "");
    assert!(page.contains("<li>milk &lt;b&gt;"), "{page}");
    says(&daemon, "notes", "1 notes");
    // Another web site has neither the key nor the name.
    assert!(answer(&address, post, "note=spam").starts_with("HTTP/1.0 403"));
    let stranger = answer(&address, "GET / HTTP/1.1\r\nHost: evil.example\r\n", "");
    assert!(stranger.starts_with("HTTP/1.0 403"), "{stranger}");
}
