//! When the holder has exited: the runtime stops what runs, and every request gets a result.
//! Owns nothing of its own; it is the part of `held` that acts without a wire.
//! Never starts anything: a pending start is reported as failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mainstay_holder::messages::HolderRequest;
use mainstay_process::{
    Exit, Exited, Instance, ProcessEvent, ProcessEventKind, StartFailure, StartStep,
};

use super::super::{LiveProcess, OsEvent, machine};
use super::{HolderClient, lock};

impl HolderClient {
    /// The holder is gone: only ending what runs is left.
    pub(super) fn act_without_holder(&self, ask: &HolderRequest) {
        if let HolderRequest::Spawn(spawn) = ask {
            let why = "cannot start anything: the holder is gone";
            self.fail(&spawn.instance, spawn.generation, why);
        } else {
            #[cfg(unix)]
            super::super::orphans::end_orphans(ask, |instance| self.living(instance));
            // On Windows the system has ended everything with the holder.
        }
    }

    /// Watches what lives by its own pidfd, so that exits are still seen; what was asked for and
    /// not answered never will be.
    pub(super) fn watch_without_holder(self: &Arc<Self>) {
        self.gone.store(true, Ordering::Relaxed);
        #[cfg(unix)]
        self.governor.thaw_all();
        self.out_ready.notify_one();
        lock(&self.commands).clear();
        let (mut living, mut unanswered) = (Vec::new(), Vec::new());
        for (instance, slot) in lock(&self.slots).iter() {
            living.extend(slot.alive.map(|alive| (instance.clone(), alive)));
            unanswered.extend(slot.spawning.map(|run| (instance.clone(), run)));
        }
        for (instance, generation) in unanswered {
            let why = "cannot tell whether it was started: the holder is gone";
            self.fail(&instance, generation, why);
        }
        for (instance, alive) in living {
            tokio::spawn(Arc::clone(self).await_end(instance, alive));
        }
    }

    fn fail(&self, instance: &Instance, generation: u64, why: &str) {
        let failed = ProcessEvent {
            instance: instance.clone(),
            generation,
            what: ProcessEventKind::SpawnFailed {
                failure: StartFailure {
                    step: StartStep::Fork,
                    errno: 0,
                },
                message: why.to_owned(),
            },
        };
        if let Some(event) = self.apply_event(failed) {
            self.send_event(OsEvent::Process(event));
        }
    }

    async fn await_end(self: Arc<Self>, instance: Instance, alive: LiveProcess) {
        let pinned = machine::VerifiedProcess::new(alive.pid, alive.start_time);
        // Taken while it runs: afterwards nothing leads to what it leaves behind.
        #[cfg(unix)]
        let tree = mainstay_holder::OrphanTree::find(&instance, alive.pid, alive.start_time);
        if let Some(pinned) = pinned {
            pinned.ended().await;
        }
        #[cfg(unix)]
        if let Some(tree) = tree {
            let _killed_as_far_as_possible = self.handle.spawn_blocking(move || tree.kill()).await;
        }
        let exited = ProcessEvent {
            instance,
            generation: alive.generation,
            what: ProcessEventKind::Exited(Exited {
                pid: alive.pid,
                exit: Exit::Unknown,
                timed_out: false,
                output: String::new(),
                at: machine::monotonic().0,
            }),
        };
        if let Some(event) = self.apply_event(exited) {
            let _router_ended = self.facts.send(OsEvent::Process(event)).await;
        }
    }
}
