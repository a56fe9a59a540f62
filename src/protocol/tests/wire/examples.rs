//! One example of every request, reply and notification.
//! Owns their values; making an example reads its parts back and compares.
//! Never compares with files: `schema.rs` does, with the fields too.

use std::fmt::Debug;

use mainstay_protocol::config_change::{SettingsAnswer, SettingsParams, SettingsVerdict};
use mainstay_protocol::config_plan::{
    ApplyResult, ConfigApplied, ConfigApplyParams, ConfigPlanParams,
};
use mainstay_protocol::config_values::{
    ConfigGetParams, ConfigLayer, ConfigOrigin, ConfigValue, ConfigValues,
};
use mainstay_protocol::doctor::{DoctorReport, LimitSupport, MachineCheck, MetricsText};
use mainstay_protocol::enums::{
    AccessLevel, DesiredState, HealthStatus, LogStream, ModuleImportance, ModuleKind, ModuleState,
    Rung, StateCause, SystemStatus,
};
use mainstay_protocol::health::HealthParams;
use mainstay_protocol::method::{self as m, ChangeAction, Empty, name};
use mainstay_protocol::rpc::{Response, RpcRequest};
use mainstay_protocol::view::{
    LastExit, MachineUsage, MemoryKind, ModuleCounts, SelfUsage, Throttle, UpgradeOutcome,
    UpgradeView, Usage,
};
use mainstay_protocol::{
    Event, EventKind, ModuleView, PROTOCOL, RequestId, RpcMessage, SystemView, Timestamp,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::config_examples;
use crate::explanations::{chaos, not_started, what_if, what_if_params, why, why_params};
use crate::health_examples;

/// A call and its answer.
pub(crate) struct Example {
    pub(crate) method: &'static str,
    pub(crate) request: RpcRequest,
    pub(crate) reply: Response,
}

pub(crate) fn example<P, R>(method: &'static str, params: P, result: R) -> Example
where
    P: Serialize + DeserializeOwned + PartialEq + Debug,
    R: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let request = RpcRequest::call(7, method, kept(params));
    let reply = Response::success(RequestId::Number(7), kept(result));
    assert_eq!(
        RpcMessage::parse(json!(request).to_string().as_bytes()),
        Ok(RpcMessage::Request(request.clone()))
    );
    assert_eq!(
        RpcMessage::parse(json!(reply).to_string().as_bytes()),
        Ok(RpcMessage::Reply(reply.clone()))
    );
    Example {
        method,
        request,
        reply,
    }
}

/// The value on the wire, after it was read back and compared.
fn kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) -> Value {
    let written = json!(value);
    let read: T = serde_json::from_value(written.clone()).expect("what is written can be read");
    assert_eq!(read, value);
    written
}

/// What clients and modules ask mainstay.
pub(crate) fn methods() -> Vec<Example> {
    let mut all = reading();
    all.extend(changing());
    all.extend(config_examples::all());
    all.extend(of_modules());
    all
}

fn reading() -> Vec<Example> {
    let hello = m::Hello {
        client: "mainstay-cli 0.1.0".to_owned(),
        protocol: PROTOCOL,
        token: Some("c2VjcmV0".to_owned()),
    };
    let welcome = m::Welcome {
        server: "mainstay 0.1.0".to_owned(),
        protocol: PROTOCOL,
        level: AccessLevel::Module,
        module: Some("storage".to_owned()),
    };
    vec![
        example(name::HELLO, hello, welcome),
        example(name::SYSTEM_STATUS, Empty {}, system()),
        example(name::MODULE_LIST, page(), vec![module()]),
        example(name::MODULE_GET, named(), module()),
        example(
            name::DOCTOR,
            Empty {},
            DoctorReport {
                limits: vec![LimitSupport {
                    limit: "cpu_percent".to_owned(),
                    mechanism: Some("governor".to_owned()),
                    effect: "stopped for a part of every 100 ms".to_owned(),
                    missing: Some("the control groups have no cpu controller".to_owned()),
                    remedy: Some("use `Delegate=yes`".to_owned()),
                }],
                checks: vec![MachineCheck {
                    name: "disk".to_owned(),
                    ok: false,
                    text: "1 MiB free".to_owned(),
                    remedy: Some("free some space".to_owned()),
                }],
            },
        ),
        example(
            name::HEALTH_REPORT,
            HealthParams {
                module: Some("storage".to_owned()),
                after: Some("event-bus".to_owned()),
                limit: Some(10),
            },
            health_examples::health(system()),
        ),
        example(
            name::METRICS,
            Empty {},
            MetricsText {
                text: "mainstay_modules 7\n# EOF\n".to_owned(),
            },
        ),
        example(
            name::EVENTS_LIST,
            which_events(),
            m::EventsResult {
                events: vec![event()],
            },
        ),
        example(
            name::EVENTS_SUBSCRIBE,
            which_events(),
            m::SubscribeResult { seq: 812 },
        ),
        example(
            name::LOGS_READ,
            m::LogsParams {
                module: "storage".to_owned(),
                lines: Some(10),
                follow: true,
                since: Some(Timestamp(1_795_000_000_000)),
                until: Some(Timestamp(1_795_000_060_000)),
                run: Some(4),
                stream: Some(LogStream::Stderr),
                grep: Some("listening|ready".to_owned()),
            },
            log_lines(),
        ),
        example(name::WHY, why_params(), why()),
        example(name::WHY_NOT_STARTED, Empty {}, not_started()),
        example(name::WHAT_IF, what_if_params(), what_if()),
        example(name::GRAPH, page(), graph()),
        example(name::CONFIG_GET, which_value(), values()),
        example(
            name::CONFIG_PLAN,
            ConfigPlanParams {
                path: Some("/tmp/mainstay.toml".to_owned()),
            },
            config_examples::plan(),
        ),
    ]
}

fn page() -> m::PageParams {
    m::PageParams {
        after: Some("analysis-engine".to_owned()),
        limit: Some(100),
    }
}

fn which_value() -> ConfigGetParams {
    ConfigGetParams {
        path: Some("health.interval".to_owned()),
    }
}

fn values() -> ConfigValues {
    ConfigValues {
        values: vec![ConfigValue {
            path: "health.interval".to_owned(),
            value: json!("10s"),
            hidden: true,
            origin: ConfigOrigin {
                layer: ConfigLayer::File,
                name: "config/mainstay.toml".to_owned(),
                line: Some(12),
            },
        }],
    }
}

fn changing() -> Vec<Example> {
    let params = m::ChangeParams {
        module: "storage".to_owned(),
        dry_run: true,
        wait: true,
    };
    let step = |module: &str, action, reason: &str| m::ChangeStep {
        module: module.to_owned(),
        action,
        reason: reason.to_owned(),
    };
    let steps = vec![
        step("analysis-engine", ChangeAction::Stop, "it requires storage"),
        step("storage", ChangeAction::Restart, "asked for"),
        step("analysis-engine", ChangeAction::Start, "it is wanted up"),
        step("metrics", ChangeAction::Notify, "it wants storage"),
    ];
    let result = m::ChangeResult {
        steps,
        module: module(),
        overtaken_by: Some("cli (uid 1000, pid 4811) requested start".to_owned()),
    };
    let change = |method| example(method, params.clone(), result.clone());
    vec![
        change(name::MODULE_START),
        change(name::MODULE_STOP),
        change(name::MODULE_RESTART),
        change(name::RECOVERY_ACCEPT),
        example(name::CHAOS_INJECT, chaos().0, chaos().1),
        example(
            name::MODULE_SIGNAL,
            m::SignalParams {
                module: "storage".to_owned(),
                signal: "HUP".to_owned(),
            },
            m::SignalResult {
                signal: "SIGHUP".to_owned(),
                pid: 4711,
            },
        ),
        example(
            name::SYSTEM_UPGRADE,
            m::UpgradeParams {
                program: "/usr/bin/mainstay".to_owned(),
            },
            m::UpgradeResult {
                from: "0.1.0".to_owned(),
                to: "0.2.0".to_owned(),
            },
        ),
        example(
            name::MODULE_HOLD,
            m::HoldParams {
                module: "storage".to_owned(),
                for_ms: 600_000,
            },
            m::HoldResult {
                held_until: Some(Timestamp(1_795_000_000_523)),
            },
        ),
        example(
            name::MODULE_RELEASE,
            m::ModuleParams {
                module: "storage".to_owned(),
            },
            m::HoldResult { held_until: None },
        ),
        example(
            name::CONFIG_APPLY,
            ConfigApplyParams {
                expected_plan: Some(7),
                wait: true,
            },
            ConfigApplied {
                plan: 9,
                result: ApplyResult::RolledBack,
                text: Some("storage failed: exit code 3".to_owned()),
                watch_ms: Some(30_000),
            },
        ),
        example(
            name::SYSTEM_STOP,
            m::StopParams {
                timeout_ms: Some(30_000),
            },
            Empty {},
        ),
    ]
}

fn published() -> (m::PublishParams, m::PublishResult) {
    let params = m::PublishParams {
        subject: "samples.cpu".to_owned(),
        payload: json!({"percent": 12.5}),
    };
    let result = m::PublishResult {
        delivered: 2,
        dropped: 0,
    };
    (params, result)
}

fn called() -> m::BusCallParams {
    m::BusCallParams {
        module: "analysis-engine".to_owned(),
        method: "score".to_owned(),
        params: json!({"sample": 1}),
        timeout_ms: Some(5000),
    }
}

fn subjects() -> m::BusSubscribeParams {
    m::BusSubscribeParams {
        subjects: vec!["samples.*".to_owned()],
    }
}

fn of_modules() -> Vec<Example> {
    let text = "compacting".to_owned();
    let (publish, delivered) = published();
    let score = || json!({"score": 0.9});
    vec![
        example(name::MODULE_READY, Empty {}, Empty {}),
        example(name::MODULE_STATUS, m::StatusParams { text }, Empty {}),
        example(name::MODULE_HEALTH, report(), Empty {}),
        example(name::BUS_PUBLISH, publish.clone(), delivered.clone()),
        example(name::BUS_SUBSCRIBE, subjects(), Empty {}),
        example(name::BUS_CALL, called(), score()),
        example(name::BUS_SEND, publish, delivered),
        example(name::BUS_TAP, subjects(), Empty {}),
        example(name::BUS_REQUEST, called(), score()),
    ]
}

/// What mainstay asks a module.
pub(crate) fn towards_modules() -> Vec<Example> {
    let call = m::CallParams {
        from: "storage".to_owned(),
        method: "score".to_owned(),
        params: json!({"sample": 1}),
    };
    vec![
        example(name::HEALTH_CHECK, Empty {}, report()),
        example(name::CALL, call, json!({"score": 0.9})),
        example(
            name::FEATURE_SET,
            m::FeatureParams {
                name: "thumbnails".to_owned(),
                value: json!(false),
            },
            m::Handled { handled: true },
        ),
        example(
            name::LOAD_REDUCE,
            m::LoadParams { factor: 0.5 },
            m::Handled { handled: false },
        ),
        example(
            name::CONFIG_PREPARE,
            SettingsParams {
                settings: json!({"depth": 3}),
            },
            SettingsAnswer {
                verdict: SettingsVerdict::Refused,
                reason: Some("depth is at most 2".to_owned()),
            },
        ),
        example(name::CONFIG_COMMIT, Empty {}, Empty {}),
        example(name::CONFIG_ABORT, Empty {}, Empty {}),
    ]
}

/// Towards whom, and the notification.
pub(crate) fn notifications() -> Vec<(&'static str, RpcRequest)> {
    let bus_event = m::BusEvent {
        subject: "samples.cpu".to_owned(),
        from: "data-capture".to_owned(),
        at: Timestamp(1_795_000_000_123),
        payload: json!({"percent": 12.5}),
        lag: 3,
    };
    vec![
        (
            "client",
            RpcRequest::notification(name::EVENT, kept(event())),
        ),
        (
            "client",
            RpcRequest::notification(name::LOG, kept(log_lines())),
        ),
        (
            "client",
            RpcRequest::notification(name::BUS_EVENT, kept(bus_event.clone())),
        ),
        (
            "module",
            RpcRequest::notification(name::EVENT, kept(bus_event)),
        ),
    ]
}

fn named() -> m::ModuleParams {
    m::ModuleParams {
        module: "storage".to_owned(),
    }
}

fn which_events() -> m::EventsParams {
    m::EventsParams {
        since: Some(800),
        since_time: Some(Timestamp(1_795_000_000_000)),
        kinds: vec![EventKind::ModuleExited, EventKind::RecoveryStarted],
        module: Some("storage".to_owned()),
        administrative: true,
        limit: Some(100),
    }
}

fn event() -> Event {
    Event {
        seq: 812,
        at: Timestamp(1_795_000_000_123),
        kind: EventKind::ModuleStateChanged,
        module: Some("storage".to_owned()),
        generation: Some(4),
        cause: Some(StateCause::Requested),
        cause_seq: Some(811),
        actor: Some("uid 1000".to_owned()),
        payload: json!({"from": "running", "to": "stopping"}),
    }
}

fn log_lines() -> m::LogLines {
    let structured = json!({ "level": "info", "message": "listening" });
    let lines = vec![structured.to_string(), "ready".to_owned()];
    let stamp = m::LineStamp {
        at: Some(Timestamp(1_795_000_000_123)),
        run: Some(4),
        stream: Some(LogStream::Stderr),
    };
    m::LogLines {
        module: "storage".to_owned(),
        lines,
        records: vec![Some(structured), None],
        stamps: vec![stamp, m::LineStamp::default()],
        dropped_bytes: 512,
        file: Some("/var/lib/app/logs/storage.log".to_owned()),
    }
}

fn report() -> m::HealthReportParams {
    let metrics = [("queue_depth", 120.0), ("error_rate", 0.02)];
    m::HealthReportParams {
        status: HealthStatus::Degraded,
        metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
        issues: vec!["queue is long".to_owned()],
    }
}

fn graph() -> m::GraphView {
    let node = |module: &str, wave, state| m::GraphNode {
        module: module.to_owned(),
        wave,
        state,
        done: module == "migrate",
    };
    let edge = m::GraphEdge {
        from: "storage".to_owned(),
        to: "event-bus".to_owned(),
        hard: true,
        until: "ready".to_owned(),
    };
    m::GraphView {
        modules: vec![
            node("migrate", 0, Some(ModuleState::Stopped)),
            node("event-bus", 0, Some(ModuleState::Running)),
            node("storage", 1, None),
        ],
        edges: vec![edge],
    }
}

fn module() -> ModuleView {
    ModuleView {
        module: "storage".to_owned(),
        description: "Keeps samples and scores".to_owned(),
        version: "1.0.0".to_owned(),
        kind: ModuleKind::Service,
        state: ModuleState::Backoff,
        desired: DesiredState::Up,
        since: Timestamp(1_795_000_000_123),
        cause: Some(StateCause::Exit),
        reason: Some("exit code 1".to_owned()),
        health: HealthStatus::Degraded,
        score: 80,
        issues: vec!["queue is long".to_owned()],
        metrics: [("queue_depth".to_owned(), 120.0)].into(),
        trends: vec![health_examples::trend()],
        pid: Some(4711),
        generation: 4,
        restarts: 3,
        requested_restarts: 1,
        started_because: Some("restarted: exit code 1".to_owned()),
        attempts: 1,
        required: true,
        importance: ModuleImportance::Normal,
        requires: vec!["event-bus".to_owned()],
        wants: vec!["metrics".to_owned()],
        waiting_on: vec!["event-bus".to_owned()],
        failed_need: Some("event-bus".to_owned()),
        waits_for: Some("event-bus, which failed: exit code 1; no further try".to_owned()),
        next_attempt_at: Some(Timestamp(1_795_000_000_523)),
        held_until: Some(Timestamp(1_795_000_000_523)),
        held_by: Some("updater (uid 1000, pid 4711)".to_owned()),
        status_text: Some("compacting".to_owned()),
        degraded: vec!["thumbnails".to_owned()],
        features: [
            ("search".to_owned(), true),
            ("thumbnails".to_owned(), false),
        ]
        .into(),
        proposal: Some("restart".to_owned()),
        throttle: Throttle {
            rung: Rung::None,
            mechanism: "cgroup2".to_owned(),
        },
        usage: Some(Usage {
            cpu_percent: 1.5,
            memory_bytes: 8_388_608,
            memory_kind: MemoryKind::Pss,
            file_handles: Some(9),
            threads: Some(3),
            processes: 1,
            io_bytes_per_s: Some(4096),
        }),
        last_exit: Some(LastExit {
            code: Some(1),
            signal: Some(9),
            at: Timestamp(1_795_000_000_120),
            ran_ms: Some(3_250),
            text: "exit code 1".to_owned(),
        }),
        probes_stretched_ms: Some(23_000),
        suspended_by: Some("SIGSTOP".to_owned()),
        output_dropped_bytes: 512,
    }
}

fn system() -> SystemView {
    SystemView {
        name: "skelly-jelly".to_owned(),
        status: SystemStatus::Degraded,
        reason: Some("metrics failed".to_owned()),
        failing_modules: vec!["metrics".to_owned()],
        issues: vec!["the disk is nearly full".to_owned()],
        version: "0.1.0".to_owned(),
        upgrade: Some(UpgradeView {
            number: 1,
            outcome: UpgradeOutcome::RolledBack,
            problem: Some("it ended with exit code 127".to_owned()),
            program: "/opt/mainstay".to_owned(),
            from: "0.1.0".to_owned(),
            to: "0.2.0".to_owned(),
            requested_at: Timestamp(1_795_000_000_523),
        }),
        plan: 7,
        config_problem: Some("mainstay.toml:3:1: unknown key `helth`".to_owned()),
        runtime_values: vec!["health.interval".to_owned()],
        pid: 101,
        holder_pid: 100,
        holder_version: Some("0.1.0".to_owned()),
        uptime_ms: 7_260_000,
        modules: ModuleCounts {
            total: 9,
            running: 7,
            backoff: 1,
            failed: 1,
            ..Default::default()
        },
        usage: MachineUsage {
            cpu_percent: 120.5,
            cores: 4,
            load: Some(1.5),
            memory_total_bytes: 8_589_934_592,
            memory_bytes: 4_294_967_296,
            disk_bytes: 10_737_418_240,
            network_bytes_per_s: 2048,
        },
        self_usage: SelfUsage {
            cpu_percent: 0.5,
            memory_bytes: 6_291_456,
        },
    }
}
