//! An event of every kind against its golden file, as the notification that carries it.
//! Owns the examples of payloads; the match has no catch-all, so a new kind needs one.
//! Never reads a journal.

use mainstay_protocol::{
    Event, EventKind, RpcMessage, RpcRequest, StateCause, Timestamp, method::name,
};
use serde_json::{Value, json};

use crate::golden;

#[test]
fn every_event_is_what_its_golden_file_says() {
    let lines: Vec<RpcRequest> = (1..)
        .zip(EventKind::ALL)
        .map(|(seq, kind)| RpcRequest::notification(name::EVENT, json!(example(seq, *kind))))
        .collect();
    let kept = golden::check(&golden::folder().join("events.json"), &json!(lines));
    for (request, line) in lines.into_iter().zip(kept.as_array().expect("a list")) {
        let event: Event = serde_json::from_value(line["params"].clone()).expect("an event");
        assert_eq!(json!(event), request.params);
        let read = RpcMessage::parse(line.to_string().as_bytes()).expect("a message");
        assert_eq!(read, RpcMessage::Request(request));
    }
}

fn example(seq: u64, kind: EventKind) -> Event {
    let of_module = matches!(
        kind.as_str().split_once('.'),
        Some(("module" | "recovery" | "operation", _))
    );
    let asked = matches!(
        kind,
        EventKind::ConfigApplied
            | EventKind::ConfigRolledBack
            | EventKind::OperationRequested
            | EventKind::OperationFinished
    );
    Event {
        seq,
        at: Timestamp(1_795_000_000_000 + seq * 1000),
        kind,
        module: of_module.then(|| "storage".to_owned()),
        generation: of_module.then_some(4),
        cause: of_module.then_some(StateCause::Exit),
        cause_seq: (of_module && seq > 1).then(|| seq - 1),
        actor: asked.then(|| "uid 1000".to_owned()),
        payload: payload(kind),
    }
}

fn payload(kind: EventKind) -> Value {
    let text = |text: &str| json!({ "text": text });
    match kind {
        EventKind::ModuleStateChanged => {
            json!({"from": "running", "to": "backoff", "text": "exit code 1"})
        }
        EventKind::ModuleAdded | EventKind::ModuleRemoved => json!({"plan": 7}),
        EventKind::ModuleRenamed => json!({"from": "store", "plan": 7}),
        EventKind::ModuleReady => json!({"after_ms": 120}),
        EventKind::ModuleExited => {
            json!({"pid": 4711, "code": 1, "signal": null, "core_dumped": false})
        }
        EventKind::ModuleHealthChanged => {
            json!({"from": "healthy", "to": "degraded", "issues": ["queue is long"]})
        }
        EventKind::ModuleThrottled => text("held at 50 % of one core"),
        EventKind::ModuleReleased => text("below 80 % of its limit for 30s"),
        EventKind::ModuleDegraded => text("thumbnails are off"),
        EventKind::ModuleRestored => text("thumbnails are on again"),
        EventKind::ModuleOutputLost => {
            json!({"total_bytes": 512, "reason": "storage.log is a fifo"})
        }
        EventKind::ModuleOutputRestored => json!({"total_bytes": 512}),
        EventKind::ModuleSuspended => json!({"signal": "SIGSTOP", "pid": 4711}),
        EventKind::ModuleContinued => json!({}),
        EventKind::ModuleTreeSignalled => {
            let workers =
                json!([{"pid": 4712, "command": "python3"}, {"pid": 4713, "command": "sh"}]);
            json!({"signal": 15, "processes": workers, "total": 2})
        }
        EventKind::ModuleFilesChanged => {
            json!({"path": "src/app.py", "count": 3, "restart": true})
        }
        EventKind::ModuleHookFailed => {
            let (command, output) = ("./clean --all", "clean: cannot lock the database\n");
            json!({"hook": "after_stop", "command": command, "text": "exit code 7", "output": output})
        }
        EventKind::ConfigSet => {
            json!({"key": "health.interval", "before": "30s", "after": "10s", "plan": 7})
        }
        EventKind::ConfigApplied => text("plan 7: storage restarts, because its command changed"),
        EventKind::ConfigCommitted => text("plan 7 ran for 30s"),
        EventKind::ConfigRejected => text("mainstay.toml:3:1: unknown key `helth`"),
        EventKind::ConfigRolledBack => text("storage failed during the watch; plan 6 is back"),
        EventKind::ConfigProblemCleared => text("mainstay.toml is good again"),
        EventKind::RecoveryStarted => {
            json!({"failure": "exit code 1", "attempt": 2, "delay_ms": 400,
                "strategy": "restart_with_reset", "along": ["analysis-engine"]})
        }
        EventKind::RecoveryProposed => {
            json!({"text": "exit code 1", "strategy": "restart"})
        }
        EventKind::CascadeStopped => {
            json!({"failed": ["storage"], "stopped": ["storage", "analysis-engine"]})
        }
        EventKind::UserNotified => text("storage failed: exit code 1"),
        EventKind::RecoveryStepCompleted => text("its cache was removed"),
        EventKind::RecoveryCompleted => text("running and healthy"),
        EventKind::RecoveryFailed => json!({"text": "3 restarts in 5m", "probation_ms": 30000}),
        EventKind::GroupExceeded => text("capture restarted 5 times within 30s"),
        EventKind::SystemStatusChanged => {
            json!({"from": "healthy", "to": "critical", "reason": "storage failed"})
        }
        EventKind::SystemOverloaded => text("memory pressure is above 90 %"),
        EventKind::SystemResumed => json!({"slept_ms": 3_600_000}),
        EventKind::ActorRestarted => json!({"actor": "health", "error": "a broken invariant"}),
        EventKind::RuntimeStarted => json!({"version": "0.1.0", "pid": 100, "plan": 7}),
        EventKind::RuntimeReturned => {
            let reason = "it was killed by SIGKILL";
            json!({"adopted": 7, "exits": 1, "away_ms": 150, "reason": reason})
        }
        EventKind::RuntimeUpgraded => {
            json!({
                "number": 1, "program": "/usr/bin/mainstay", "from": "0.1.0", "to": "0.2.0",
            })
        }
        EventKind::RuntimeUpgradeFailed => json!({
            "number": 2, "program": "/usr/bin/mainstay", "from": "0.1.0", "to": "0.2.0",
            "reason": "it ended with exit code 127",
        }),
        EventKind::HolderUpgraded => json!({"from": "0.1.0", "to": "0.2.0"}),
        EventKind::HolderUpgradeFailed => json!({
            "from": "0.1.0", "to": "0.2.0", "reason": "it is not at rest: a start is in flight",
        }),
        EventKind::HolderReplaced => json!({"pid": 5100, "before": 4200}),
        EventKind::OperationRequested => json!({"operation": "restart"}),
        EventKind::OperationFinished => {
            json!({"operation": "restart", "result": "done", "after_ms": 214})
        }
        EventKind::ClientRefused => json!({"code": "not_permitted", "method": "system.stop"}),
        EventKind::Other(kind) => panic!("{kind:?} is not of this version"),
        EventKind::ForensicsWritten => json!({
            "path": "/var/lib/mainstay/forensics/storage-4", "reason": "a stop by force",
            "bytes": 20480,
        }),
        EventKind::ChaosInjected => json!({"action": "hang", "pid": 4711, "for_ms": 1000}),
        EventKind::JournalGap => json!({"lost": 12, "from": 100, "to": 111}),
    }
}
