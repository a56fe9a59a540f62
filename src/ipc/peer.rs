//! Who is asking, and what they may do.
//! Owns the translation of peer credentials to a level. Never trusts what a client says of itself.

use mainstay_protocol::Level;

use crate::actors::House;
use crate::config::Who;
use crate::os::{LiveProcess, machine, transport};

/// Someone at the other end of the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its process when it connected.
    pub(crate) pid: u32,
    /// Its user.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
}

impl Peer {
    /// The most this peer may do; None: nothing. A peer inside a module's process tree gets no
    /// more than a module, whatever its user.
    pub(crate) fn level(self, house: &House) -> Option<Level> {
        if self.is_of_a_module(house) {
            return Some(Level::Module);
        }
        let ipc = &house.configuration.system.ipc;
        let allows = |who: &[Who]| who.iter().any(|who| self.is(who));
        if allows(&ipc.admins) {
            Some(Level::Admin)
        } else if allows(&ipc.operators) {
            Some(Level::Operate)
        } else if allows(&ipc.observers) {
            Some(Level::Observe)
        } else {
            None
        }
    }

    /// `user`: the user mainstay runs as (and root, who could do anything anyway).
    fn is(self, who: &Who) -> bool {
        match who {
            Who::Any => true,
            Who::User => self.uid == machine::own_uid() || self.uid == 0,
            Who::Uid(uid) => self.uid == *uid,
            Who::Group(group) => machine::in_group(self.uid, self.gid, group),
        }
    }

    /// What the holder started is of a module, even where it left the module's session: nothing
    /// but modules and their commands descends from it. Who is gone already cannot be told from
    /// one: a module could let a short-lived child connect for it.
    fn is_of_a_module(self, house: &House) -> bool {
        let line = transport::ancestry(self.pid, house.holder_pid);
        let embedded = house.holder_pid == std::process::id();
        if line.is_empty()
            || (!embedded && line.iter().skip(1).any(|(pid, _)| *pid == house.holder_pid))
        {
            return true;
        }
        house
            .plan
            .ids()
            .filter_map(|id| house.os.live_process(house.name(id)))
            .filter_map(LiveProcess::process)
            .any(|own| {
                line.iter()
                    .any(|(pid, session)| *pid == own || *session == own)
            })
    }
}
