//! An example of a health report, and of a metric that grows.
//! Owns their values. Never repeats those of the system.

use mainstay_protocol::enums::{HealthStatus, ModuleState};
use mainstay_protocol::health::{Deduction, HealthReport, ProbeView, SystemHealth, Trend};
use mainstay_protocol::{SystemView, Timestamp};

pub(crate) fn trend() -> Trend {
    Trend {
        metric: "memory_bytes".to_owned(),
        per_hour: 10_485_760.0,
        limit: Some(268_435_456.0),
        limit_in_s: Some(540),
    }
}

pub(crate) fn health(system: SystemView) -> SystemHealth {
    let report = HealthReport {
        module: "storage".to_owned(),
        state: ModuleState::Running,
        status: HealthStatus::Degraded,
        score: 50,
        deductions: vec![Deduction {
            points: 40,
            text: "it is degraded".to_owned(),
        }],
        last_check: Some(Timestamp(1_795_000_000_123)),
        metrics: [("queue_depth".to_owned(), 120.0)].into(),
        issues: vec!["tcp 127.0.0.1:9000: connection refused, 2 tries".to_owned()],
        trends: vec![trend()],
        probes: vec![ProbeView {
            probe: "tcp 127.0.0.1:9000".to_owned(),
            role: "liveness".to_owned(),
            health: HealthStatus::Degraded,
            failures: 2,
            response_ms: Some(3),
            stretched_ms: Some(23_000),
            paused: Some("a debugger holds its main process".to_owned()),
            output: Some("no answer".to_owned()),
        }],
    };
    SystemHealth {
        status: system.status,
        reason: system.reason,
        failing_modules: system.failing_modules,
        uptime_ms: system.uptime_ms,
        issues: system.issues,
        usage: system.usage,
        self_usage: system.self_usage,
        modules: vec![report],
    }
}
