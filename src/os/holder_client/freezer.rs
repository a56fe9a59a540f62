//! What the governor may do with the channel of the holder.
//! Owns nothing: the client may end before the governor does.
//! Never keeps the client alive.

use std::sync::Weak;

use mainstay_holder::messages::{FreezeRequest, HolderRequest};
use mainstay_process::Instance;

use super::super::LiveProcess;
use super::super::governor::FreezeOrders;
use super::HolderClient;

/// The governor's way to the holder.
struct Freezer(Weak<HolderClient>);

impl FreezeOrders for Freezer {
    fn live(&self, instance: &Instance, generation: u64) -> Option<LiveProcess> {
        let live = self.0.upgrade()?.living(instance)?;
        (live.generation == generation && live.pid != 0).then_some(live)
    }

    fn freeze(&self, instance: &Instance, generation: u64, ms: u64, processes: Vec<(u32, u64)>) {
        if let Some(client) = self.0.upgrade() {
            client.send_request(&HolderRequest::Freeze(FreezeRequest {
                instance: instance.clone(),
                generation,
                ms,
                processes,
            }));
        }
    }
}

impl HolderClient {
    pub(super) fn freezer(&self) -> Box<dyn FreezeOrders> {
        Box::new(Freezer(Weak::clone(&self.myself)))
    }
}
