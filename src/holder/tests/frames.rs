//! The holder channel across versions: one golden frame a message, and what a newer or an older
//! side makes of it. Owns `golden/`: `frames.jsonl` follows the code (UPDATE_GOLDEN=1 writes it),
//! `first.jsonl` are the frames as they were first, and are never written again.
//! Never needs a process.

use std::collections::BTreeSet;
use std::path::PathBuf;

use mainstay_holder::messages::{
    BoundSocket, FreezeRequest, HolderMessage, HolderRequest, HolderSetup, InstanceInfo,
    InstanceSockets, LimitRequest, LiveSetup, TakeoverState, UpgradeReport, UpgradeState, VERSION,
};
use mainstay_process::{
    ActivationSocket, Credentials, EarlierExit, Exit, Exited, Instance, Limits, Output,
    ProcessEvent, ProcessEventKind, RunLimits, Signal, SpawnRequest, StartFailure, StartStep,
    StdStream, Stdin, TreeProcess,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn web() -> Instance {
    "web@2".parse().expect("a name")
}

fn socket() -> ActivationSocket {
    ActivationSocket {
        name: "http".to_owned(),
        address: "127.0.0.1:80".to_owned(),
    }
}

fn bound() -> BoundSocket {
    BoundSocket {
        socket: socket(),
        file: Some((5, 6)),
    }
}

fn setup() -> HolderSetup {
    let at = |name: &str| format!("/{name}");
    HolderSetup {
        name: "app".to_owned(),
        config_dir: at("config"),
        state_dir: at("state"),
        runtime_dir: at("run"),
        log_dir: at("logs"),
        heartbeat_timeout_ms: 40_000,
        live: live(),
    }
}

fn live() -> LiveSetup {
    LiveSetup {
        log_max_bytes: 1024,
        log_keep: 2,
        control_mode: 0o600,
        stop_timeout_ms: 30_000,
    }
}

fn requests() -> Vec<HolderRequest> {
    let (instance, generation) = (web(), 3);
    let mut requests = vec![
        HolderRequest::Configure(setup()),
        HolderRequest::Spawn(Box::new(SpawnRequest {
            instance: instance.clone(),
            generation,
            argv: vec!["/bin/web".to_owned(), "-v".to_owned()],
            directory: "/srv".to_owned(),
            env: vec![("A".to_owned(), "b".to_owned())],
            clear_env: true,
            user: Some("33".to_owned()),
            group: Some("33".to_owned()),
            credentials: Some(Credentials {
                uid: 33,
                gid: 33,
                groups: vec![33, 44],
            }),
            limits: Limits {
                file_handles: Some(1024),
                nice: Some(5),
                oom_score_adj: Some(-5),
                cpu_affinity: Some([3; mainstay_process::CPU_SET_WORDS]),
            },
            notify: true,
            watchdog_usec: Some(1_000_000),
            ready_fd: Some(5),
            sockets: vec![socket()],
            stdin: Stdin::Open,
            output: Output::Captured,
            split_output: true,
            no_new_privileges: true,
            isolation: mainstay_process::Isolation {
                capabilities: Some(32),
                read_only: vec!["/etc".to_owned()],
                private_tmp: true,
            },
            timeout_ms: 2000,
        })),
        HolderRequest::Signal {
            instance: instance.clone(),
            generation,
            signal: Signal::TERMINATE,
            cont: true,
            within_ms: Some(2000),
        },
        HolderRequest::Kill {
            instance: instance.clone(),
            generation,
        },
        HolderRequest::DrainNotify {
            instance: instance.clone(),
            generation,
        },
        HolderRequest::SaveRecord {
            instance: instance.clone(),
            record: "up=1".to_owned(),
        },
        HolderRequest::Forget {
            instance: instance.with_command(7),
        },
        HolderRequest::Listen {
            instance: instance.clone(),
            sockets: vec![bound()],
            passed: vec![0],
            activates: true,
        },
        HolderRequest::Tap {
            instance: instance.clone(),
            on: true,
            replay: true,
        },
        HolderRequest::FlushOutput {
            instance,
            number: 9,
        },
        HolderRequest::Reconfigure(live()),
        HolderRequest::Reexec { number: 5 },
        HolderRequest::Ready,
        HolderRequest::Pong,
        HolderRequest::Freeze(FreezeRequest {
            instance: web(),
            generation: 3,
            ms: 90,
            processes: vec![(7, 4711)],
        }),
        HolderRequest::Limit(LimitRequest {
            instance: web(),
            generation: 3,
            limits: RunLimits {
                cpu_permille: Some(200),
                ..RunLimits::default()
            },
        }),
    ];
    requests.extend(last_requests());
    requests
}

/// What a runtime requests for all of it.
fn last_requests() -> Vec<HolderRequest> {
    vec![
        HolderRequest::Stopping { within_ms: 30_000 },
        HolderRequest::NotifyServiceManager {
            text: "READY=1".to_owned(),
        },
        HolderRequest::Upgrade {
            program: "/usr/bin/mainstay".to_owned(),
            note: "{}".to_owned(),
        },
        HolderRequest::Exit { code: 1 },
    ]
}

fn event(what: ProcessEventKind) -> HolderMessage {
    HolderMessage::Process(ProcessEvent {
        instance: web(),
        generation: 3,
        what,
    })
}

fn exits() -> impl Iterator<Item = HolderMessage> {
    let exits = [
        Exit::Code(1),
        Exit::Signal {
            signal: Signal(11),
            core: true,
        },
        Exit::Oom,
        Exit::Stuck,
        Exit::Unknown,
    ];
    exits.into_iter().map(|exit| {
        event(ProcessEventKind::Exited(Exited {
            pid: 7,
            exit,
            timed_out: true,
            output: "last words\n".to_owned(),
            at: 11,
        }))
    })
}

fn events() -> impl Iterator<Item = HolderMessage> {
    let text = || "READY=1".to_owned();
    let events = [
        ProcessEventKind::Spawned {
            pid: 7,
            start_time: 8,
        },
        ProcessEventKind::SpawnFailed {
            failure: StartFailure {
                step: StartStep::Exec,
                errno: 2,
            },
            message: "cannot execute /bin/web".to_owned(),
        },
        ProcessEventKind::MainChanged {
            pid: 8,
            start_time: 9,
        },
        ProcessEventKind::Notify {
            pid: 7,
            text: text(),
        },
        ProcessEventKind::NotifyRejected { message: text() },
        ProcessEventKind::NotifyDrained,
        ProcessEventKind::Suspended { signal: Signal(19) },
        ProcessEventKind::Continued,
        ProcessEventKind::TreeSignalled {
            signal: Signal::TERMINATE,
            processes: vec![TreeProcess {
                pid: 8,
                command: "worker".to_owned(),
            }],
            total: 1,
        },
        ProcessEventKind::Output {
            text: text(),
            stream: StdStream::Stderr,
            dropped_bytes: 1,
        },
        ProcessEventKind::OutputDropped {
            total_bytes: 2,
            errno: Some(28),
            reason: Some(text()),
            over: true,
        },
        ProcessEventKind::SocketActivated { socket: text() },
    ];
    events.into_iter().map(event)
}

fn messages() -> Vec<HolderMessage> {
    let mut messages = vec![
        HolderMessage::Takeover(Box::new(TakeoverState {
            version: VERSION,
            setup: Some(setup()),
            holder_pid: 5,
            restarts: 1,
            runtime_down_since: 20,
            ended: Some("it exited with code 1".to_owned()),
            up_since: 3,
            instances: vec![InstanceInfo {
                instance: web(),
                generation: 3,
                pid: Some(7),
                start_time: 8,
                record: Some("up=1".to_owned()),
                exit: Some(Exit::Code(1)),
                earlier: vec![EarlierExit {
                    generation: 2,
                    exited: Exited {
                        pid: 6,
                        exit: Exit::Code(1),
                        timed_out: false,
                        output: String::new(),
                        at: 10,
                    },
                }],
            }],
            sockets: vec![InstanceSockets {
                instance: web(),
                sockets: vec![bound()],
            }],
            fds: 2,
            tree: "cgroup2".to_owned(),
            stopping: true,
            upgrade: Some(UpgradeReport {
                number: 1,
                state: UpgradeState::RolledBack {
                    problem: "it exited with code 1".to_owned(),
                },
                note: "{}".to_owned(),
            }),
            can_reexec: true,
            drops_commands: true,
        })),
        HolderMessage::Configured { fds: 2 },
        HolderMessage::Refused {
            message: "cannot start app".to_owned(),
            exit: 1,
        },
        HolderMessage::OutputFlushed { number: 9 },
        HolderMessage::Directories {
            fds: 2,
            problem: Some("cannot use /run/app".to_owned()),
        },
        HolderMessage::StopRequested {
            signal: Signal::INTERRUPT,
            time_left_ms: Some(100),
        },
        HolderMessage::Reexecuted {
            number: 5,
            problem: Some("it hangs".to_owned()),
        },
        HolderMessage::ReloadRequested,
        HolderMessage::UpgradeAnswered {
            problem: Some("another upgrade is in flight".to_owned()),
        },
        HolderMessage::Ping,
    ];
    messages.extend(exits());
    messages.extend(events());
    messages
}

fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("tests/golden").join(name)
}

fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(name)).expect("a golden file");
    let line = |line: &str| serde_json::from_str(line).expect("a line of JSON");
    text.lines().map(line).collect()
}

/// A golden frame is a request of the runtime, or a message of the holder.
fn is_request(frame: &Value) -> bool {
    frame.get("request").is_some()
}

fn body(frame: &Value) -> &Value {
    &frame[if is_request(frame) {
        "request"
    } else {
        "message"
    }]
}

/// What a frame is read as, in the words of Rust.
fn read(frame: &Value) -> Result<String, String> {
    fn read<T: DeserializeOwned + std::fmt::Debug>(value: &Value) -> Result<String, String> {
        // As the channel does: from bytes.
        let bytes = serde_json::to_vec(value).expect("it is JSON");
        let message = serde_json::from_slice::<T>(&bytes);
        message
            .map(|message| format!("{message:?}"))
            .map_err(|error| error.to_string())
    }
    match is_request(frame) {
        true => read::<HolderRequest>(body(frame)),
        false => read::<HolderMessage>(body(frame)),
    }
}

fn written(kind: &str, message: &impl Serialize) -> Value {
    serde_json::json!({ kind: message })
}

/// Every object in a frame, named by its path.
fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(path.to_owned());
            for (key, field) in fields {
                objects(field, &format!("{path}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_message_has_the_frame_of_the_golden_file() {
    let requests = requests();
    let requests = requests.iter().map(|one| written("request", one));
    let messages = messages();
    let messages = messages.iter().map(|one| written("message", one));
    let all: Vec<Value> = requests.chain(messages).collect();
    let text: String = all.iter().map(|frame| format!("{frame}\n")).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden("frames.jsonl"), &text).expect("written");
    }
    let now = std::fs::read_to_string(golden("frames.jsonl")).expect("a golden file");
    assert_eq!(now, text, "a frame changed: UPDATE_GOLDEN=1 if it is to");
}

#[test]
fn an_older_sides_frames_are_read_without_the_fields_that_were_added() {
    for frame in lines("first.jsonl") {
        read(&frame).unwrap_or_else(|why| panic!("{frame}: {why}"));
    }
}

#[test]
fn fields_that_only_a_newer_side_knows_change_nothing() {
    for frame in lines("frames.jsonl") {
        let mut paths = Vec::new();
        objects(body(&frame), "", &mut paths);
        let mut newer = frame.clone();
        let root = if is_request(&frame) {
            "/request"
        } else {
            "/message"
        };
        for path in paths {
            let object = newer.pointer_mut(&format!("{root}{path}"));
            let object = object.and_then(Value::as_object_mut).expect("an object");
            object.insert("newer".to_owned(), serde_json::json!({ "a": [1, null] }));
        }
        assert_eq!(read(&newer), read(&frame), "{newer}");
    }
}

#[test]
fn words_that_only_a_newer_side_knows_are_read_as_other() {
    let mut lists = BTreeSet::new();
    for frame in lines("frames.jsonl") {
        let mut paths = Vec::new();
        objects(body(&frame), "", &mut paths);
        let root = if is_request(&frame) {
            "/request"
        } else {
            "/message"
        };
        for path in paths {
            for key in ["type", "event", "step", "output", "stream"] {
                let mut newer = frame.clone();
                let object = newer.pointer_mut(&format!("{root}{path}"));
                let object = object.and_then(Value::as_object_mut).expect("an object");
                // What a captured process wrote is no word of a list.
                if !object.contains_key(key) || (key == "output" && object.contains_key("exit")) {
                    continue;
                }
                object.insert(key.to_owned(), "newer".into());
                let message = read(&newer).unwrap_or_else(|why| panic!("{newer}: {why}"));
                assert_ne!(Ok(message), read(&frame), "{newer}");
                lists.insert(key);
            }
        }
    }
    assert_eq!(
        lists.into_iter().collect::<Vec<_>>(),
        ["event", "output", "step", "stream", "type"]
    );
    let end = serde_json::json!({ "message": event(ProcessEventKind::Exited(Exited {
        pid: 7, exit: Exit::Unknown, timed_out: false, output: String::new(), at: 1,
    })) });
    let mut newer = end.clone();
    newer["message"]["what"]["exit"] = serde_json::json!({ "frozen_by": "group" });
    assert_eq!(read(&newer), read(&end), "an end that is not known");
}

#[test]
fn names_that_only_a_newer_side_knows_are_those_of_no_module() {
    for frame in lines("frames.jsonl") {
        let newer = frame.to_string().replace("web@2", "team/web%2");
        let newer: Value = serde_json::from_str(&newer).expect("it is JSON");
        read(&newer).unwrap_or_else(|why| panic!("{newer}: {why}"));
    }
}
