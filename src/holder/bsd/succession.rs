//! Going on in the place of a holder that has died is for Linux: elsewhere the runtime stops all.
//! Never passes anything on.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::engine::Engine;
use crate::messages::{HolderMessage, HolderRequest};
use crate::wait::ReapedChild;

/// The number of what belongs to no instance.
pub(crate) const BASE: u32 = 0;
pub(crate) const SUPERVISION: u32 = u32::MAX;

/// There is none.
#[derive(Debug, Default)]
pub(crate) struct Succession {
    pub(crate) mirror: Option<()>,
    pub(crate) is_successor: bool,
}

/// There is none.
#[derive(Debug)]
pub(crate) struct ExecBarrier {
    pub(crate) write: OwnedFd,
}

impl ExecBarrier {
    pub(crate) fn new() -> io::Result<ExecBarrier> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Engine {
    pub(crate) fn perform_request(&mut self, request: HolderRequest) {
        self.handle_request(request);
    }

    pub(crate) fn mirror_requested(&mut self, _: u64) {
        drop(self.channel.take_fds(1));
    }

    pub(crate) fn mirror_notify(&self) {}

    pub(crate) fn mirror_before(&mut self, _: &HolderMessage) {}

    pub(crate) fn changed(&mut self, _: u32) {}

    pub(crate) fn mirror_before_start(&mut self, _: u32) {}

    pub(crate) fn update_mirror(&mut self) {}

    pub(crate) fn end_mirror(&mut self) {}

    pub(crate) fn is_inherited(&self, _: u32) -> bool {
        false
    }

    pub(crate) fn exit_of_lost_child(&mut self, _: u32) -> Option<ReapedChild> {
        None
    }

    pub(crate) fn inherited_runtime_ended(&mut self) {}

    pub(crate) fn next_look_at_lost_children(&self) -> Option<Instant> {
        None
    }

    pub(crate) fn look_at_lost_children(&mut self) {}
}
