//! `doctor` and `metrics`: what this machine can enforce, and what everything uses, as numbers.
//! Owns the names of the metrics. Never measures: it reads what was published.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mainstay_protocol::doctor::{DoctorReport, MetricsText};
use mainstay_protocol::enums::Rung;
use mainstay_protocol::methods::{Doctor, Metrics};
use mainstay_protocol::view::{ModuleView, SystemView};
use mainstay_protocol::{ErrorCode, HealthStatus, ModuleState, RequestError};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Answer, Caller, MethodResult, view_builder};
use crate::actors::RuntimeContext;
use crate::os::machine_report;

impl Answer for Doctor {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        _: Self::Params,
    ) -> Result<MethodResult<DoctorReport>, RequestError> {
        let ctx = Arc::clone(ctx);
        let read = move || {
            let configuration = ctx.configuration();
            machine_report::report(ctx.os.enforcement(), &configuration.system.state_dir)
        };
        let report = tokio::task::spawn_blocking(read).await;
        let report = report.map_err(super::internal)?;
        Ok(MethodResult::Now(report))
    }
}

impl Answer for Metrics {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        _: Self::Params,
    ) -> Result<MethodResult<MetricsText>, RequestError> {
        let modules: Vec<ModuleView> = ctx
            .plan()
            .ids()
            .map(|id| view_builder::module(ctx, id))
            .collect();
        let text = render(&view_builder::system(ctx), &modules).map_err(|error| {
            let text = format!("cannot write the metrics: {error}");
            RequestError::new(ErrorCode::Internal, text)
        })?;
        Ok(MethodResult::Now(MetricsText { text }))
    }
}

type Labels = Vec<(&'static str, String)>;
type Values = Family<Labels, Gauge<f64, AtomicU64>>;
/// Name, what it is, and its value; None: it is not measured.
type Metric<T> = (&'static str, &'static str, fn(&T) -> Option<f64>);

const OF_MODULES: &[Metric<ModuleView>] = &[
    ("module_up", "Whether the module is ready", |it| {
        truth(it.state == ModuleState::Running)
    }),
    (
        "module_healthy",
        "Whether probes and its own report say so",
        |it| truth(it.health == HealthStatus::Healthy),
    ),
    ("module_score", "0 to 100, 100 is well", |it| {
        Some(it.score.into())
    }),
    (
        "module_restarts",
        "Starts after failures since mainstay started",
        |it| Some(it.restarts as f64),
    ),
    (
        "module_attempts",
        "Failures that are not restored yet",
        |it| Some(it.attempts.into()),
    ),
    (
        "module_throttle_rung",
        "Its rung of the throttle ladder, 0 is none",
        |it| Some(rung_number(it.throttle.rung)),
    ),
    (
        "module_output_dropped_bytes",
        "Output that did not reach its file",
        |it| Some(it.output_dropped_bytes as f64),
    ),
    (
        "module_cpu_percent",
        "CPU time in percent of one core",
        |it| it.usage.map(|usage| usage.cpu_percent),
    ),
    ("module_memory_bytes", "Memory of its process tree", |it| {
        it.usage.map(|usage| usage.memory_bytes as f64)
    }),
    ("module_processes", "Processes of its tree", |it| {
        it.usage.map(|usage| usage.processes as f64)
    }),
    ("module_threads", "Threads of its process tree", |it| {
        Some(it.usage?.threads? as f64)
    }),
    (
        "module_file_handles",
        "Open files of its process tree",
        |it| Some(it.usage?.file_handles? as f64),
    ),
    (
        "module_io_bytes_per_second",
        "Bytes read from and written to disks",
        |it| Some(it.usage?.io_bytes_per_s? as f64),
    ),
];

const OF_SYSTEM: &[Metric<SystemView>] = &[
    (
        "machine_cpu_percent",
        "Busy processors, 100 for each",
        |it| Some(it.usage.cpu_percent),
    ),
    ("machine_memory_bytes", "Memory in use", |it| {
        Some(it.usage.memory_bytes as f64)
    }),
    (
        "machine_disk_bytes",
        "In use on the volume of the state directory",
        |it| Some(it.usage.disk_bytes as f64),
    ),
    (
        "machine_network_bytes_per_second",
        "Received and sent",
        |it| Some(it.usage.network_bytes_per_s as f64),
    ),
    ("self_cpu_percent", "CPU time of mainstay itself", |it| {
        Some(it.self_usage.cpu_percent)
    }),
    ("self_memory_bytes", "Memory of mainstay itself", |it| {
        Some(it.self_usage.memory_bytes as f64)
    }),
    ("uptime_seconds", "Since `mainstay up`", |it| {
        Some(it.uptime_ms as f64 / 1000.0)
    }),
    ("modules", "Modules of the plan", |it| {
        Some(it.modules.total as f64)
    }),
    ("modules_failed", "Modules that failed", |it| {
        Some(it.modules.failed as f64)
    }),
];

/// The text of all metrics.
fn render(system: &SystemView, modules: &[ModuleView]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("mainstay");
    for (name, help, value) in OF_MODULES {
        let values = Values::default();
        for module in modules {
            if let Some(value) = value(module) {
                let labels = vec![("module", module.module.clone())];
                values.get_or_create(&labels).set(value);
            }
        }
        registry.register(*name, *help, values);
    }
    let reported = Values::default();
    for module in modules {
        for (name, value) in &module.metrics {
            let labels = vec![("module", module.module.clone()), ("metric", name.clone())];
            reported.get_or_create(&labels).set(*value);
        }
    }
    registry.register("module_metric", "What the module reports", reported);
    for (name, help, value) in OF_SYSTEM {
        let values = Values::default();
        if let Some(value) = value(system) {
            values.get_or_create(&Vec::new()).set(value);
        }
        registry.register(*name, *help, values);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn truth(is: bool) -> Option<f64> {
    Some(if is { 1.0 } else { 0.0 })
}

fn rung_number(rung: Rung) -> f64 {
    match rung {
        Rung::Other(_) | Rung::None => 0.0,
        Rung::Notice => 1.0,
        Rung::Priority => 2.0,
        Rung::Cap => 3.0,
        Rung::Restart => 4.0,
        Rung::Stop => 5.0,
    }
}
