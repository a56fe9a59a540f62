//! One check of a module by one of its probes.
//! Owns a short task a check, which casts its result back. Never decides when to check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_protocol::method::{HealthReportParams, name};
use mainstay_protocol::{ErrorCode, HealthStatus};

use super::super::{RuntimeContext, probing};
use super::HealthMsg;
use super::monitored::DueProbe;
use crate::config::{ProbeKind, ProbeSpec};
use crate::os::RunHold;

/// What one check found.
#[derive(Debug)]
pub(crate) struct ProbeResult {
    /// How the module is.
    pub(super) health: HealthStatus,
    /// What is wrong, as text.
    pub(super) issues: Vec<String>,
    /// Numbers that the module reported.
    pub(super) metrics: BTreeMap<String, f64>,
    /// What a failing command printed.
    pub(super) output: Option<String>,
    /// It has no connection over which it could be asked.
    pub(super) absent: bool,
    /// Why it could not answer, if that is not its own fault.
    pub(super) held: Option<RunHold>,
    /// How long the check took; None: nothing was checked.
    pub(super) took: Option<Duration>,
}

impl ProbeResult {
    fn new(health: HealthStatus) -> ProbeResult {
        ProbeResult {
            health,
            issues: Vec::new(),
            metrics: BTreeMap::new(),
            output: None,
            absent: false,
            held: None,
            took: None,
        }
    }

    fn failed(issue: String) -> ProbeResult {
        ProbeResult {
            issues: vec![issue],
            ..ProbeResult::new(HealthStatus::Unhealthy)
        }
    }

    pub(super) fn response_ms(&self) -> Option<u64> {
        let took = self
            .took
            .filter(|_| self.health != HealthStatus::Unhealthy)?;
        u64::try_from(took.as_millis()).ok()
    }
}

/// Starts a check in the background.
pub(super) fn start(ctx: Arc<RuntimeContext>, module: ModuleId, due: DueProbe, spec: ProbeSpec) {
    tokio::spawn(async move {
        let result = run(&ctx, module, &due, &spec).await;
        let msg = HealthMsg::Probed {
            module,
            generation: due.generation,
            probe: due.index,
            number: due.number,
            result,
        };
        ctx.actor_refs.health.cast(msg);
    });
}

async fn run(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    due: &DueProbe,
    spec: &ProbeSpec,
) -> ProbeResult {
    let (instance, since) = (ctx.instance(module), ctx.os.now());
    if let held @ Some(RunHold::Debugger) = ctx.os.held_since(&instance, since) {
        let unknown = ProbeResult::new(HealthStatus::Unknown);
        return ProbeResult { held, ..unknown };
    }
    let mut result = match &spec.check {
        ProbeKind::Probe(probe) => {
            let check = probing::Check {
                probe,
                owner: spec.owner,
                timeout: spec.timeout,
                number: due.number,
                lingers: Some(&due.lingers),
            };
            match probing::probe(ctx, module, check).await {
                Ok(()) => ProbeResult::new(HealthStatus::Healthy),
                Err(failure) => ProbeResult {
                    output: Some(failure.output).filter(|output| !output.is_empty()),
                    ..ProbeResult::failed(failure.text)
                },
            }
        }
        ProbeKind::Sdk => over_connection(ctx, module, spec).await,
        ProbeKind::Watchdog(_) => ProbeResult::new(HealthStatus::Healthy),
    };
    result.took = Some(ctx.os.now().since(since));
    if result.health == HealthStatus::Unhealthy {
        result.held = ctx.os.held_since(&instance, since);
    }
    result
}

/// Asks the module itself over its connection.
async fn over_connection(ctx: &RuntimeContext, module: ModuleId, spec: &ProbeSpec) -> ProbeResult {
    let params = serde_json::Value::Null;
    let request = ctx
        .bus
        .request(module, name::HEALTH_CHECK, params, spec.timeout);
    match request.await {
        Ok(answer) => match serde_json::from_value::<HealthReportParams>(answer) {
            Ok(report) => ProbeResult {
                issues: report.issues,
                metrics: report.metrics,
                ..ProbeResult::new(report.status)
            },
            Err(error) => ProbeResult::failed(format!("its health report makes no sense: {error}")),
        },
        Err(refusal) => ProbeResult {
            absent: refusal.data.code == ErrorCode::Unavailable,
            ..ProbeResult::failed(format!("it did not answer: {}", refusal.message))
        },
    }
}
