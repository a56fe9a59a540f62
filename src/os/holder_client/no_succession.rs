//! Where no holder goes on in the place of one that has died: Linux alone has what that needs.
//! Never keeps anything.

use std::sync::Arc;

use mainstay_holder::messages::{HolderRequest, MirrorRecord, TakeoverState};

use super::HolderClient;
use crate::os::transport::{HolderReader, PassedFd};

#[derive(Default)]
pub(super) struct Unperformed;

impl Unperformed {
    pub(super) fn push(&mut self, _: &HolderRequest, _: &[PassedFd]) {}

    pub(super) fn performed(&mut self, _: u64) {}
}

pub(super) struct Successor;

impl Successor {
    pub(super) fn of(_: &TakeoverState) -> Successor {
        Successor
    }

    pub(super) fn has_begun(&self) -> bool {
        false
    }

    pub(super) fn passed_on(&self) -> u32 {
        0
    }

    pub(super) fn holder_ended(&self) -> impl Future<Output = ()> + use<> {
        std::future::pending()
    }

    pub(super) fn keep(&self, _: &MirrorRecord, _: &mut HolderReader) {}
}

impl HolderClient {
    pub(super) fn request_mirror(&self) {}

    pub(super) fn name_main_process(&self) {}

    pub(super) fn follow_main_process(self: &Arc<Self>) {}

    pub(super) async fn succeed(self: &Arc<Self>, _: &mut HolderReader) -> bool {
        false
    }
}
