//! The programs together, over a bus that is played by the test.
//! Owns the small bus: one thread a connection, publish, subscribe and call.
//! Never waits without a deadline, and leaves no process behind.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// What the bus knows.
#[derive(Default)]
struct Known {
    writers: HashMap<String, UnixStream>,
    subjects: HashMap<String, Vec<String>>,
    /// Who waits for the answer to which forwarded call.
    calls: HashMap<u64, (String, Value)>,
    next_id: u64,
    answers: HashMap<u64, Value>,
    published: Vec<Value>,
    ready: Vec<String>,
}

type Bus = Arc<Mutex<Known>>;

impl Known {
    fn send(&mut self, module: &str, message: &Value) {
        if let Some(writer) = self.writers.get_mut(module) {
            // A module that is gone is what some tests are about.
            let _ = writeln!(writer, "{message}");
        }
    }

    fn ask(&mut self, module: &str, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.send(
            module,
            &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}),
        );
        id
    }

    fn take(&mut self, from: &str, message: &Value) {
        let params = &message["params"];
        let Some(method) = message["method"].as_str() else {
            let id = message["id"].as_u64().unwrap();
            if let Some((caller, their_id)) = self.calls.remove(&id) {
                let mut reply = message.clone();
                reply["id"] = their_id;
                self.send(&caller, &reply);
            } else {
                self.answers.insert(id, message.clone());
            }
            return;
        };
        match method {
            "module.ready" => self.ready.push(from.to_owned()),
            "bus.subscribe" => {
                let new: Vec<String> = serde_json::from_value(params["subjects"].clone()).unwrap();
                self.subjects
                    .entry(from.to_owned())
                    .or_default()
                    .extend(new);
            }
            "bus.publish" => {
                self.published.push(params.clone());
                let event = json!({"jsonrpc": "2.0", "method": "event", "params": {
                    "subject": params["subject"], "from": from, "payload": params["payload"],
                    "at": "2026-11-20T12:00:00.000Z"}});
                let subject = params["subject"].as_str().unwrap();
                let first = subject.split('.').next().unwrap();
                let listening: Vec<String> = self
                    .subjects
                    .iter()
                    .filter(|(_, subjects)| {
                        subjects
                            .iter()
                            .any(|one| one == subject || *one == format!("{first}.*"))
                    })
                    .map(|(module, _)| module.clone())
                    .collect();
                for module in listening {
                    self.send(&module, &event);
                }
            }
            "bus.call" => {
                let module = params["module"].as_str().unwrap().to_owned();
                let call = json!({"from": from, "method": params["method"],
                    "params": params["params"]});
                let id = self.ask(&module, "call", call);
                self.calls
                    .insert(id, (from.to_owned(), message["id"].clone()));
                return;
            }
            _ => {}
        }
        self.send(
            from,
            &json!({"jsonrpc": "2.0", "id": message["id"], "result": {}}),
        );
    }
}

fn serve(listener: UnixListener, bus: &Bus) {
    let bus = Arc::clone(bus);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let bus = Arc::clone(&bus);
            std::thread::spawn(move || one(stream, &bus));
        }
    });
}

fn one(stream: UnixStream, bus: &Bus) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let hello: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    let module = hello["params"]["token"].as_str().unwrap().to_owned();
    let welcome = json!({"server": "test", "protocol": 1, "level": "module", "module": module});
    let mut writer = stream;
    writeln!(
        writer,
        "{}",
        json!({"jsonrpc": "2.0", "id": hello["id"], "result": welcome})
    )
    .unwrap();
    bus.lock().unwrap().writers.insert(module.clone(), writer);
    for line in lines {
        bus.lock()
            .unwrap()
            .take(&module, &serde_json::from_str(&line).unwrap());
    }
}

struct Programs {
    running: Vec<(&'static str, Child)>,
    folder: tempfile::TempDir,
    bus: Bus,
}

impl Drop for Programs {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Programs {
    fn new() -> Programs {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus::default();
        serve(UnixListener::bind(folder.path().join("s")).unwrap(), &bus);
        Programs {
            running: Vec::new(),
            folder,
            bus,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a program with its settings and waits until it is ready.
    fn start(
        &mut self,
        module: &'static str,
        program: &str,
        arguments: &[String],
        settings: &Value,
    ) {
        let file = self.path().join(format!("{module}.json"));
        std::fs::write(&file, settings.to_string()).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env("MAINSTAY_SOCKET", self.path().join("s"))
            .env("MAINSTAY_TOKEN", module)
            .env("MAINSTAY_MODULE", module)
            .env("MAINSTAY_GENERATION", "1")
            .env("MAINSTAY_SETTINGS", file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.running.push((module, child));
        let bus = Arc::clone(&self.bus);
        eventually("ready", || {
            bus.lock()
                .unwrap()
                .ready
                .iter()
                .any(|m| m == module)
                .then_some(())
        });
    }

    fn file(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    fn start_all(&mut self) {
        let storage = env!("CARGO_BIN_EXE_skelly-storage");
        let database = ["--db".to_owned(), self.file("storage.db")];
        self.start("storage", storage, &database, &json!({}));
        // Always active: scores earn points whatever this machine does.
        let capture = json!({"interval_ms": 200, "active_above": 0.0, "idle_below": 0.0});
        self.start(
            "data-capture",
            env!("CARGO_BIN_EXE_skelly-data-capture"),
            &[],
            &capture,
        );
        let analysis = env!("CARGO_BIN_EXE_skelly-analysis-engine");
        self.start(
            "analysis-engine",
            analysis,
            &[],
            &json!({"publish_every_ms": 100}),
        );
        let game = env!("CARGO_BIN_EXE_skelly-gamification");
        self.start("gamification", game, &[], &json!({"keep_every_ms": 100}));
        let companion = ["--out".to_owned(), self.file("companion.json")];
        let ai = env!("CARGO_BIN_EXE_skelly-ai-integration");
        self.start(
            "ai-integration",
            ai,
            &companion,
            &json!({"speak_every_ms": 100}),
        );
    }

    fn ask(&self, module: &str, method: &str, params: Value) -> Value {
        let id = self.bus.lock().unwrap().ask(module, method, params);
        let bus = Arc::clone(&self.bus);
        eventually(method, || bus.lock().unwrap().answers.remove(&id))["result"].clone()
    }

    fn storage(&self, method: &str) -> Value {
        let params = json!({"from": "test", "method": method, "params": {"seconds": 60}});
        self.ask("storage", "call", params)
    }

    fn kill(&mut self, module: &str) {
        let at = self.running.iter().position(|one| one.0 == module).unwrap();
        let (_, mut child) = self.running.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut bus = self.bus.lock().unwrap();
        bus.writers.remove(module);
        bus.subjects.remove(module);
        bus.ready.retain(|ready| ready != module);
    }

    fn points(&self) -> u64 {
        self.storage("storage.progress")["points"].as_u64().unwrap()
    }
}

#[test]
fn samples_become_scores_points_and_words() {
    let mut programs = Programs::new();
    programs.start_all();
    eventually("kept points", || (programs.points() > 0).then_some(()));
    let recent = programs.storage("storage.recent");
    assert!(!recent["samples"].as_array().unwrap().is_empty());
    assert!(
        programs.storage("storage.scores")["newest"]["one_minute"]["focus"].as_f64() > Some(0.0)
    );
    eventually("the first achievement", || {
        let earned = programs.storage("storage.achievements");
        (earned["achievements"][0]["name"] == "first_steps").then_some(())
    });
    eventually("a word of praise", || {
        let bus = programs.bus.lock().unwrap();
        let praised = |one: &Value| {
            one["subject"] == "companion.message" && one["payload"]["mood"] == "proud"
        };
        bus.published.iter().any(praised).then_some(())
    });
    let file = std::fs::read(programs.path().join("companion.json")).unwrap();
    let message: Value = serde_json::from_slice(&file).unwrap();
    assert!(message["level"].as_u64() >= Some(1), "{message}");
    for module in [
        "storage",
        "data-capture",
        "analysis-engine",
        "gamification",
        "ai-integration",
    ] {
        let report = programs.ask(module, "health.check", json!({}));
        assert_eq!(report["status"], "healthy", "{module}: {report}");
        assert!(
            report["metrics"]["queue_depth"].is_number(),
            "{module}: {report}"
        );
    }
}

#[test]
fn a_killed_neighbour_degrades_and_nothing_is_lost() {
    let mut programs = Programs::new();
    programs.start_all();
    let before = eventually("kept points", || {
        Some(programs.points()).filter(|points| *points > 0)
    });
    programs.kill("storage");
    eventually("a degraded neighbour", || {
        let report = programs.ask("gamification", "health.check", json!({}));
        (report["status"] == "degraded").then_some(())
    });
    let database = ["--db".to_owned(), programs.file("storage.db")];
    programs.start(
        "storage",
        env!("CARGO_BIN_EXE_skelly-storage"),
        &database,
        &json!({}),
    );
    assert!(programs.points() >= before);
    eventually("more points", || (programs.points() > before).then_some(()));
    eventually("health", || {
        let report = programs.ask("gamification", "health.check", json!({}));
        (report["status"] == "healthy").then_some(())
    });
    for (name, child) in &mut programs.running {
        assert!(child.try_wait().unwrap().is_none(), "{name} ended");
    }
}
