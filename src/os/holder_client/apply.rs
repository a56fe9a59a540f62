//! What a message of the holder changes in the table of what lives.
//! Owns nothing: the table is the client's.
//! Never decides and never signals.

use mainstay_holder::messages::HolderRequest;
use mainstay_process::{Instance, ProcessEvent, ProcessEventKind, StartStep};

use super::super::{CommandResult, LiveProcess, Os, OsEvent, RunExit};
use super::{HolderClient, lock};

impl HolderClient {
    /// Applies what happened to an instance; commands end here.
    pub(super) fn apply_event(&self, mut event: ProcessEvent) -> Option<ProcessEvent> {
        if event.instance.command().is_some() {
            self.finish_command(&event);
            return None;
        }
        let generation = event.generation;
        if self.successor.has_begun() && self.is_known(&event) {
            return None; // the holder before has told it
        }
        let mut slots = lock(&self.slots);
        match &event.what {
            ProcessEventKind::Spawned { pid, start_time } => {
                let slot = slots.entry(event.instance.clone()).or_default();
                slot.spawning = None;
                slot.alive = Some(LiveProcess {
                    generation,
                    pid: *pid,
                    start_time: *start_time,
                });
            }
            ProcessEventKind::SpawnFailed { failure, .. } => {
                let alive = slots.get_mut(&event.instance).and_then(|slot| {
                    slot.spawning.take_if(|run| *run == generation);
                    slot.alive
                });
                // A second request for a run that is alive: the first one was carried out.
                if let Some(alive) = alive.filter(|one| one.generation == generation)
                    && failure.step == StartStep::Fence
                {
                    event.what = ProcessEventKind::Spawned {
                        pid: alive.pid,
                        start_time: alive.start_time,
                    };
                }
            }
            ProcessEventKind::Exited(exited) => {
                let slot = slots.entry(event.instance.clone()).or_default();
                slot.alive = None;
                slot.last_exit = Some(RunExit {
                    generation,
                    exited: exited.clone(),
                });
            }
            ProcessEventKind::MainChanged { pid, start_time } => {
                let alive = slots.get_mut(&event.instance)?.alive.as_mut()?;
                (alive.pid, alive.start_time) = (*pid, *start_time);
            }
            _ => {}
        }
        drop(slots);
        Some(event)
    }

    /// Whether a start or an end was reported before.
    fn is_known(&self, event: &ProcessEvent) -> bool {
        let slots = lock(&self.slots);
        let Some(slot) = slots.get(&event.instance) else {
            return false;
        };
        let alive = slot.alive.filter(|one| one.generation == event.generation);
        let ended = slot.last_exit.as_ref();
        let ended = ended.is_some_and(|exit| exit.generation == event.generation);
        match &event.what {
            ProcessEventKind::Spawned { pid, .. } => {
                ended || alive.is_some_and(|alive| alive.pid == *pid)
            }
            ProcessEventKind::Exited(_) => ended && alive.is_none(),
            _ => false,
        }
    }

    fn finish_command(&self, event: &ProcessEvent) {
        if let ProcessEventKind::SpawnFailed { failure, .. } = &event.what {
            if failure.is_lost() {
                return self.command_again(&event.instance);
            }
            if failure.step == StartStep::Fence && self.successor.has_begun() {
                return; // requested of two holders, and known to the first
            }
        }
        let result = match &event.what {
            ProcessEventKind::Exited(exited) => CommandResult::from(exited),
            ProcessEventKind::SpawnFailed { message, .. } => CommandResult::failed(message.clone()),
            _ => return,
        };
        let instance = event.instance.clone();
        let waiting = lock(&self.commands).remove(&instance);
        if !(self.drops_commands && matches!(event.what, ProcessEventKind::Exited(_))) {
            self.send_request(&HolderRequest::Forget { instance });
        }
        if let Some(waiting) = waiting {
            let _caller_is_gone = waiting.result.send(result);
        }
    }

    /// Its start was lost with the holder.
    fn command_again(&self, instance: &Instance) {
        let request = lock(&self.commands)
            .get(instance)
            .map(|one| one.request.clone());
        let instance = instance.clone();
        self.send_request(&HolderRequest::Forget { instance });
        if let Some(request) = request {
            self.spawn(request);
        }
    }

    pub(super) fn finish_flush(&self, number: u64) -> Option<OsEvent> {
        let asker = lock(&self.flushes).remove(&number)?;
        let _it_left = asker.send(());
        None
    }
}
