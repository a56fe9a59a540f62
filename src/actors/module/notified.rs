//! What a run says by sd_notify or over its connection: ready, busy, alive, about to end.
//! Owns what each word changes.
//! Never trusts a message of a run that has ended.

use std::sync::Arc;

use mainstay_policy::run::RunEvent;
use ractor::ActorRef;

use super::{ModuleActorState, ModuleMsg};
use crate::actors::health::HealthMsg;
use crate::actors::notify_parser::{self, NotifyAssignment};
use crate::actors::registry::RegistryMsg;

impl ModuleActorState {
    pub(super) fn on_notify(
        &mut self,
        myself: &ActorRef<ModuleMsg>,
        generation: u64,
        word: NotifyAssignment,
    ) {
        match word {
            NotifyAssignment::Ready => {
                self.note(RunEvent::ReadyReported { generation });
                self.end_reload(generation);
                if let Some(text) = self.reported.ready() {
                    self.set_status_text(generation, &text);
                }
            }
            NotifyAssignment::Status(text) => {
                let shown = self.reported.status(text);
                self.set_status_text(generation, &shown);
            }
            NotifyAssignment::Watchdog => {
                self.note(RunEvent::WatchdogFed { generation });
                if !std::mem::replace(&mut self.fed, true) {
                    let fed = HealthMsg::watchdog_fed(self.id, generation);
                    self.ctx.actor_refs.health.cast(fed);
                }
            }
            NotifyAssignment::WatchdogTrigger => {
                self.note(RunEvent::WatchdogTriggered { generation });
            }
            NotifyAssignment::WatchdogEvery(every) => {
                self.note(RunEvent::WatchdogSet { generation, every });
            }
            NotifyAssignment::ExtendTimeout(by) => {
                if self.reloading.is_some_and(|(run, _)| run == generation) {
                    self.await_reload(myself, generation, by);
                }
                self.note(RunEvent::TimeoutExtended { generation, by });
            }
            NotifyAssignment::Stopping => self.on_stopping(generation),
            NotifyAssignment::Reloading => {
                self.on_reloading(myself, generation);
                let shown = self.reported.reloading();
                self.set_status_text(generation, &shown);
            }
            NotifyAssignment::Errno(errno) => self.reported.errno(errno),
            NotifyAssignment::ExitStatus(status) => self.reported.exit_status(status),
        }
    }

    /// The run reported that it stops: its health is not checked any more.
    fn on_stopping(&mut self, generation: u64) {
        self.set_status_text(generation, "stopping");
        self.note(RunEvent::StoppingReported { generation });
        if generation == self.module.generation() && self.module.is_ready() {
            let (module, running) = (self.id, false);
            self.ctx
                .actor_refs
                .health
                .cast(HealthMsg::ReadinessChanged {
                    module,
                    generation,
                    running,
                    found: false,
                });
        }
    }

    pub(super) fn set_status_text(&self, generation: u64, text: &str) {
        if self.is_current_run(generation) {
            let text = Arc::from(notify_parser::one_line(text));
            self.ctx
                .actor_refs
                .registry
                .cast(RegistryMsg::StatusText(self.id, text));
        }
    }
}
