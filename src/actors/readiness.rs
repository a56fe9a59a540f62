//! One look whether a module is ready, for the kinds that must be looked at.
//! Owns a short task per look, which casts what it saw back. Never decides when to look.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::spec::Readiness;
use mainstay_process::{ListenerOwner, Probe, ProbeRole};

use super::module::ModuleMsg;
use super::{RuntimeContext, probing};
use crate::config::{ProbeKind, ProbeSpec};
use crate::os_text::duration_text;

/// Timeout of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks once, in the background; `startup`: with the startup probes instead of what `ready`
/// names. Returns the number of the command that checks, if it is one.
pub(super) fn check_once(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    generation: u64,
    startup: bool,
) -> u64 {
    let (ctx, number) = (Arc::clone(ctx), ctx.os.now().0);
    tokio::spawn(async move {
        let found = match startup {
            true => check_startup(&ctx, module, number).await,
            false => check_ready(&ctx, module, number).await,
        };
        ctx.actor_refs
            .module(module)
            .cast(ModuleMsg::Checked { generation, found });
    });
    number
}

async fn check_ready(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    number: u64,
) -> Result<(), String> {
    let (spec, owner) = (ctx.spec(module), ctx.launch(module).ready_owner);
    match &spec.readiness {
        Readiness::Probe(probe) => check(ctx, module, (probe, owner), CHECK_TIMEOUT, number).await,
        other => Err(missing(other)),
    }
}

/// Every startup probe has to succeed, in one round.
async fn check_startup(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    number: u64,
) -> Result<(), String> {
    let launch = ctx.launch(module);
    let of_startup = |probe: &&ProbeSpec| probe.role == ProbeRole::Startup;
    for spec in launch.probes.iter().filter(of_startup) {
        if let ProbeKind::Probe(probe) = &spec.check {
            check(ctx, module, (probe, spec.owner), spec.timeout, number).await?;
        }
    }
    Ok(())
}

async fn check(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    (probe, owner): (&Probe, ListenerOwner),
    timeout: Duration,
    number: u64,
) -> Result<(), String> {
    let check = probing::Check {
        probe,
        owner,
        timeout,
        number,
        lingers: None,
    };
    let found = probing::probe(ctx, module, check).await;
    found.map_err(|failure| failure.text)
}

/// What a module that is starting is waited for to do; None: nothing that takes time.
pub(crate) fn awaited(readiness: &Readiness) -> Option<String> {
    Some(match readiness {
        Readiness::Started => return None,
        Readiness::Settle(span) => format!("{} without an exit", duration_text(*span)),
        Readiness::Notify => "READY=1".to_owned(),
        Readiness::Log(pattern) => format!("a line of output that matches {pattern:?}"),
        Readiness::Fd(fd) => format!("a line on descriptor {fd}"),
        Readiness::Probe(probe) => probe.to_string(),
    })
}

/// What did not happen when a module that reports its readiness was not ready in time.
pub(super) fn missing(readiness: &Readiness) -> String {
    match readiness {
        Readiness::Notify => "it did not send READY=1".to_owned(),
        Readiness::Log(pattern) => format!("no line of its output matches {pattern:?}"),
        Readiness::Fd(fd) => format!("it did not write to descriptor {fd}"),
        Readiness::Probe(probe) => format!("{probe}: no answer"),
        Readiness::Started | Readiness::Settle(_) => String::new(),
    }
}
