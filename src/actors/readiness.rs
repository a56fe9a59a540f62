//! One look whether a module is ready, for the kinds that must be looked at.
//! Owns a short task per look, which casts what it saw back. Never decides when to look.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::run::RunEvent;
use mainstay_policy::spec::Readiness;

use super::module::ModuleMsg;
use super::{House, probing};

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks once, in the background; the number tells a command that looks from any other.
pub(super) fn look_once(house: &Arc<House>, module: ModuleId, generation: u64) -> u64 {
    let (house, number) = (Arc::clone(house), house.os.now().0);
    tokio::spawn(async move {
        let ok = seen(&house, module, number).await;
        house
            .switchboard
            .module(module)
            .cast(ModuleMsg::Event(RunEvent::Probed { generation, ok }));
    });
    number
}

async fn seen(house: &House, module: ModuleId, number: u64) -> bool {
    match &house.spec(module).readiness {
        Readiness::Probe(probe) => {
            let probe = probing::probe(house, module, number, probe, LOOK_TIMEOUT);
            probe.await.is_ok()
        }
        Readiness::Started
        | Readiness::Settle(_)
        | Readiness::Notify
        | Readiness::Log(_)
        | Readiness::Fd(_) => false,
    }
}
