//! What the engine does with a request of the runtime, and with a signal that ends the holder.
//! Owns the order: the machines are told first, then what they want is done.
//! Never decides what passes the fence.

use std::time::Duration;

use mainstay_holder::machines::FenceError;
use mainstay_holder::messages::HolderMessage;
use mainstay_process::{ProcessEvent, ProcessEventKind, Signal, StartFailure, StartStep};

use super::fake_runtime::{Delivery, Request};
use super::{
    Checked, HEARTBEAT_TIMEOUT, HolderBug, HolderViolation, REFUSED, STOP_TIMEOUT, Sim, fake_os,
    named,
};

impl Sim {
    /// What the engine does with a request.
    pub(super) fn handle(&mut self, request: Request) -> Checked {
        self.note(|| format!("holder <- {request:?}"));
        if !self.has_bug(HolderBug::LoseRequests) {
            self.supervisor.request_received(self.now);
        }
        match request {
            Request::Configure => {
                if self.configured || self.check.is_refused() {
                    return Ok(()); // a copy
                }
                if self.rng.permille(20) {
                    return self.refuse_setup();
                }
                self.configured = true;
                self.supervisor
                    .setup_accepted(HEARTBEAT_TIMEOUT, STOP_TIMEOUT);
            }
            Request::Spawn {
                name,
                generation,
                timeout,
                hostile,
            } => self.spawn(&name, generation, timeout, hostile)?,
            Request::Signal { name, generation } => {
                self.check.signal_requested(&name, generation);
                self.roster.signal_requested(&name, generation, 15, true);
                if self.has_bug(HolderBug::KillUnasked) {
                    self.roster.kill_requested(&name, generation);
                }
            }
            Request::Stop {
                name,
                generation,
                within,
            } => {
                self.summary.stop_orders += 1;
                self.check
                    .stop_ordered(&name, generation, self.now + within);
                let roster = &mut self.roster;
                match self.options.injected_bug {
                    Some(HolderBug::IgnoreStopDeadlines) => {
                        roster.signal_requested(&name, generation, 15, true);
                    }
                    _ => roster.stop_requested(self.now, &name, generation, 15, within),
                }
            }
            Request::Kill { name, generation } => {
                self.check.kill_requested(&name, generation);
                self.roster.kill_requested(&name, generation);
            }
            Request::SaveRecord { name, record } => {
                self.check.saved(&name, &record);
                if self.has_bug(HolderBug::ForgetSaved) {
                    self.roster.forget_requested(&name);
                } else if !self.has_bug(HolderBug::LoseRecords) {
                    self.roster.record_saved(&named(&name), record);
                }
            }
            Request::Forget { name } => {
                self.check.forgotten(&name);
                self.roster.forget_requested(&name);
            }
            Request::Ready => self.runtime_is_ready(),
            Request::Upgrade => self.upgrade()?,
            Request::Pong => {}
            Request::Stopping { timeout } => self.stop_started(timeout),
            Request::Exit { .. } if self.has_bug(HolderBug::NeverExit) => {}
            Request::Exit { code } => self.supervisor.exit(code),
        }
        self.roster_effects()
    }

    fn spawn(&mut self, name: &str, generation: u64, timeout: Duration, hostile: bool) -> Checked {
        if hostile && !self.check.knows(name) {
            return Ok(()); // the fence of an instance goes with it
        }
        if self.has_bug(HolderBug::BurnGenerations)
            && let Ok(id) = self
                .roster
                .spawn_requested(self.now, &named(name), generation, timeout)
        {
            let message = "cannot start it".to_owned();
            self.roster.spawn_failed(id, fake_os::NO_PROGRAM, message);
        }
        let passed = self
            .roster
            .spawn_requested(self.now, &named(name), generation, timeout);
        let id = match passed {
            Ok(id) => {
                self.check
                    .spawn_accepted(self.now, name, id, generation, timeout)?;
                id
            }
            Err(_) if self.has_bug(HolderBug::IgnoreFence) => {
                let id = self.roster.intern(&named(name));
                let now = self.now;
                self.check
                    .spawn_accepted(now, name, id, generation, timeout)?;
                id
            }
            Err(_) if hostile => return Ok(()),
            Err(FenceError::Running(_)) => return self.refuse_spawn(name, generation),
            Err(FenceError::Stale) => {
                return Err(HolderViolation::RefusedSpawn(name.to_owned(), generation));
            }
        };
        self.queue_spawn(id, name, generation, timeout);
        Ok(())
    }

    /// The directories are another mainstay's: this one leaves.
    fn refuse_setup(&mut self) -> Checked {
        self.note(|| "the setup is refused".to_owned());
        self.check.refused(self.now);
        if !self.has_bug(HolderBug::ForgetRefusal) {
            self.supervisor.setup_refused(self.now, REFUSED);
        }
        self.send(Delivery::Refused)
    }

    /// As for a runtime that was sent the takeover state while a spawn hung.
    fn refuse_spawn(&mut self, name: &str, generation: u64) -> Checked {
        let failure = StartFailure {
            step: StartStep::Fence,
            errno: 16,
        };
        let message = "cannot start it while it runs".to_owned();
        let refusal = HolderMessage::Process(ProcessEvent {
            instance: named(name),
            generation,
            what: ProcessEventKind::SpawnFailed { failure, message },
        });
        self.send(Delivery::Message(Box::new(refusal)))
    }

    fn stop_started(&mut self, timeout: Duration) {
        self.supervisor.stop_started(self.now, timeout);
        let by = self.channel.map(|(epoch, ..)| epoch);
        self.check.stop_started(self.now + timeout, by);
    }

    pub(super) fn request_stop(&mut self) {
        self.note(|| "holder <- SIGTERM".to_owned());
        self.supervisor.stop_requested(self.now, Signal::TERMINATE);
        self.check.stop_started(self.now + STOP_TIMEOUT, None);
    }
}
