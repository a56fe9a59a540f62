//! One look whether a module is ready, for the kinds that must be looked at.
//! Owns a short task per look, which casts what it saw back. Never decides when to look.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::run::RunEvent;
use mainstay_policy::spec::Readiness;

use super::module::ModuleMsg;
use super::{RuntimeContext, probing};

/// How long one look may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks once, in the background; the number tells a command that looks from any other.
pub(super) fn check_once(ctx: &Arc<RuntimeContext>, module: ModuleId, generation: u64) -> u64 {
    let (ctx, number) = (Arc::clone(ctx), ctx.os.now().0);
    tokio::spawn(async move {
        let ok = is_ready(&ctx, module, number).await;
        ctx.actor_refs
            .module(module)
            .cast(ModuleMsg::Event(RunEvent::Probed { generation, ok }));
    });
    number
}

async fn is_ready(ctx: &RuntimeContext, module: ModuleId, number: u64) -> bool {
    match &ctx.spec(module).readiness {
        Readiness::Probe(probe) => {
            let probe = probing::probe(ctx, module, number, probe, CHECK_TIMEOUT);
            probe.await.is_ok()
        }
        Readiness::Started
        | Readiness::Settle(_)
        | Readiness::Notify
        | Readiness::Log(_)
        | Readiness::Fd(_) => false,
    }
}
