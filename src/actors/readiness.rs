//! One look whether a module is ready, for the kinds that must be looked at.
//! Owns a short task per look, which casts what it saw back. Never decides when to look.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::run::RunEvent;
use mainstay_policy::spec::Readiness;

use super::House;
use super::launching;
use super::module::ModuleMsg;
use crate::os::{LiveProcess, probe};

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
    // Only a listener of its own tree counts: a port that a stranger holds is not our readiness.
    let pid = house.os.live_process(&house.name(module));
    let pid = pid.and_then(LiveProcess::process);
    match &house.spec(module).readiness {
        Readiness::Tcp(address) => probe::tcp(address, pid, LOOK_TIMEOUT).await.is_ok(),
        Readiness::Unix(path) => probe::unix(path, LOOK_TIMEOUT).await.is_ok(),
        Readiness::Http { url, status } => {
            probe::http(url, *status, pid, LOOK_TIMEOUT).await.is_ok()
        }
        Readiness::Grpc(target) => probe::grpc(target, pid, LOOK_TIMEOUT).await.is_ok(),
        Readiness::File(path) => probe::file(path),
        Readiness::Exec(argv) => {
            let mut spawn = launching::command(house, module, argv);
            spawn.generation = number;
            spawn.timeout_ms = u64::try_from(LOOK_TIMEOUT.as_millis()).unwrap_or(2000);
            house.os.command(spawn).await.ok
        }
        Readiness::Started
        | Readiness::Settle(_)
        | Readiness::Notify
        | Readiness::Log(_)
        | Readiness::Fd(_) => false,
    }
}
