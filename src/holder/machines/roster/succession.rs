//! The roster as it is passed on, entry by entry, to a holder that goes on after the death of
//! this one. Owns what the runtime, which goes on too, is told again.
//! Never tells it to a runtime that was not connected before: the takeover does.

use std::collections::BTreeMap;

use mainstay_process::{Exit, Instance, ProcessEventKind};
use serde::Serialize;

use super::instance::{InstancePhase, RosterEntry, RosterInstance};
use super::{Roster, RosterEffect, Takeover};

impl Roster {
    /// The number of an instance that is known.
    #[must_use]
    pub fn id_of(&self, name: &Instance) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// One instance, as it is passed on.
    #[must_use]
    pub fn entry(&self, id: u32) -> Option<impl Serialize + '_> {
        self.instances.get(&id)
    }

    /// A roster of these instances, with a runtime that was connected.
    #[must_use]
    pub fn from_entries(entries: BTreeMap<u32, RosterEntry>) -> Roster {
        let mut roster = Roster {
            takeover: Takeover::Sent,
            ..Roster::default()
        };
        for (id, RosterEntry(mut instance)) in entries {
            roster.ids.insert(instance.name.clone(), id);
            roster.last_id = roster.last_id.max(id);
            if let Some(process) = instance.running().filter(|one| !one.main_exited) {
                roster.by_pid.insert(process.pid, id);
            }
            let deadline = instance.limits().and_then(|limits| limits.next_deadline());
            roster.run_deadlines.extend(deadline.map(|at| (at, id)));
            roster.instances.insert(id, instance);
        }
        roster
    }

    /// The instances whose spawn is in flight.
    #[must_use]
    pub fn starting(&self) -> Vec<u32> {
        let ids = self.instances.keys().copied();
        ids.filter(|id| self.is_starting(*id)).collect()
    }

    /// The instances whose exit is not reported.
    #[must_use]
    pub fn exiting(&self) -> Vec<(u32, Exit)> {
        let exit = |(id, one): (&u32, &RosterInstance)| match &one.phase {
            InstancePhase::Exiting(pending) => Some((*id, pending.exited.exit)),
            _ => None,
        };
        self.instances.iter().filter_map(exit).collect()
    }

    /// Tells the runtime how each instance is: the last of what happened may not have reached it.
    pub fn tell_again(&mut self) {
        let all = self.instances.values();
        let told = all.flat_map(|one| {
            let spawned = one.running().filter(|_| one.name.command().is_none());
            let spawned = spawned.map(|process| {
                one.event(ProcessEventKind::Spawned {
                    pid: process.pid,
                    start_time: process.start_time,
                })
            });
            let state = spawned.into_iter().chain(one.notify_replay());
            state.chain(one.suspension()).chain(one.exit_replay())
        });
        self.effects.extend(told.map(RosterEffect::Send));
    }
}
