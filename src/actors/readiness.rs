//! One look whether a module is ready, for the kinds that must be looked at.
//! Owns a short task per look, which casts what it saw back. Never decides when to look.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::spec::Readiness;

use super::module::ModuleMsg;
use super::{RuntimeContext, probing};

/// How long one look may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks once, in the background; the number tells a command that looks from any other.
pub(super) fn check_once(ctx: &Arc<RuntimeContext>, module: ModuleId, generation: u64) -> u64 {
    let (ctx, number) = (Arc::clone(ctx), ctx.os.now().0);
    tokio::spawn(async move {
        let found = match &ctx.spec(module).readiness {
            Readiness::Probe(probe) => {
                probing::probe(&ctx, module, number, probe, CHECK_TIMEOUT).await
            }
            other => Err(missing(other)),
        };
        ctx.actor_refs
            .module(module)
            .cast(ModuleMsg::Checked { generation, found });
    });
    number
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
