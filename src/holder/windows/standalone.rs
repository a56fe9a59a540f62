//! The holder as a process of its own, with a runtime that it starts and supervises.
//! Owns nothing; performs what the supervisor returns.
//! Never decides when the runtime is started or killed: the supervisor does.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::engine::{Engine, TREE_METHOD};
use super::engine_queue::{EngineQueue, QUEUE};
use super::handles::monotonic;
use super::runtime_process::{RuntimeProcess, take_console};
use crate::machines::runtime_supervisor::RUNTIME_EXIT_TIMEOUT;
use crate::machines::{RuntimeExit, RuntimeSupervisor, SupervisorEffect, SystemState, millis};
use crate::messages::HolderMessage;
use crate::runtime_command::RuntimeCommand;
use crate::status_file::HolderStatus;

/// Runs the holder in the foreground until all is stopped; returns the exit code of the process.
///
/// # Errors
/// In a sentence: the holder or its first runtime cannot be started. Nothing runs then.
pub fn run(runtime: RuntimeCommand) -> Result<u8, String> {
    let mut engine =
        begin(runtime).map_err(|problem| format!("cannot start the holder: {problem}"))?;
    engine.supervise();
    match engine.supervisor.last_exit_text() {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(engine.run()),
    }
}

fn begin(command: RuntimeCommand) -> io::Result<Engine> {
    let (sender, event) = sync_channel(QUEUE);
    take_console(sender.clone())?;
    let supervisor = RuntimeSupervisor::standalone(monotonic());
    let mut engine = Engine::new(supervisor, Arc::new(EngineQueue(sender)), event)?;
    engine.runtime_process = Some(RuntimeProcess::new(command));
    Ok(engine)
}

impl Engine {
    /// Performs what is due for the runtime, after everything that has happened is applied.
    pub(crate) fn supervise(&mut self) {
        self.perform_effects();
        while let Some(effect) = self.supervisor.next_effect(monotonic()) {
            match effect {
                SupervisorEffect::StartRuntime { new_program } => {
                    if let Err(problem) = self.start_runtime(new_program) {
                        self.close_channel();
                        let text = format!("cannot start the runtime: {problem}");
                        self.supervisor.start_failed(monotonic(), text);
                    }
                }
                SupervisorEffect::KeepNewProgram => {
                    if let Some(runtime) = &mut self.runtime_process {
                        runtime.keep_new_program();
                    }
                }
                SupervisorEffect::KillRuntime => {
                    let child = self.runtime_process.as_ref();
                    if let Some((process, _)) = child.and_then(|one| one.child.as_ref()) {
                        process.kill();
                    }
                }
                SupervisorEffect::CloseChannel => self.close_channel(),
                SupervisorEffect::SendPing => self.send(&HolderMessage::Ping),
                SupervisorEffect::SendStopRequest { signal, time_left } => {
                    let time_left_ms = time_left.map(millis);
                    self.send(&HolderMessage::StopRequested {
                        signal,
                        time_left_ms,
                    });
                }
                SupervisorEffect::WriteStatus(state) => self.write_status(state),
            }
            self.perform_effects();
        }
    }

    fn write_status(&self, state: SystemState) {
        let pid = match &self.runtime_process {
            Some(runtime) => runtime.child.as_ref().map(|(_, pid)| *pid),
            None => Some(std::process::id()),
        };
        if let Some(places) = &self.places {
            let config_dir = self.setup.as_ref().map_or("", |setup| &setup.config_dir);
            places.write_status(&HolderStatus::now(
                state.as_str(),
                pid,
                self.supervisor.restarts(),
                TREE_METHOD,
                config_dir,
                self.supervisor.last_exit_text(),
            ));
        }
    }

    /// The runtime does not read: it is not sent anything any more.
    pub(crate) fn drop_channel(&mut self) {
        self.close_channel();
        self.supervisor.channel_closed(monotonic());
    }

    fn close_channel(&mut self) {
        self.wire = None;
        self.roster.runtime_disconnected();
    }

    pub(crate) fn runtime_ended(&mut self, code: u32) {
        if let Some(runtime) = &mut self.runtime_process {
            runtime.child = None;
        }
        let text = format!("it ended with exit code {code}");
        let code = i32::try_from(code).ok();
        let exit = RuntimeExit { code, text };
        self.supervisor.runtime_exited(monotonic(), exit);
    }

    /// Another program takes the place of the runtime, unless that is not possible.
    pub(crate) fn upgrade(&mut self, program: String, note: String) {
        let accepted = self.supervisor.upgrade_requested(monotonic(), note);
        if let (Ok(()), Some(runtime)) = (accepted, &mut self.runtime_process) {
            runtime.new_program = Some(program.into());
        }
        let problem = accepted.err().map(str::to_owned);
        self.send(&HolderMessage::UpgradeAnswered { problem });
    }

    fn start_runtime(&mut self, new_program: bool) -> io::Result<()> {
        let theirs = self.connect()?;
        let (queue, number) = (Arc::clone(&self.mail), self.runtime);
        let Some(runtime) = &mut self.runtime_process else {
            return Ok(());
        };
        runtime.start(theirs, queue, number, new_program)?;
        self.supervisor.runtime_started(monotonic());
        self.roster.runtime_connected(monotonic());
        Ok(())
    }

    /// Ends all, cleans up, waits a moment for the runtime.
    pub(crate) fn shut_down(mut self, code: u8) -> u8 {
        self.write_status(SystemState::Stopping);
        self.end_all();
        if let Some(shelf) = self.shelf.take() {
            shelf.finish(RUNTIME_EXIT_TIMEOUT);
        }
        self.wire = None;
        if let Some((process, _)) = self.runtime_process.take().and_then(|one| one.child)
            && process.wait(Some(RUNTIME_EXIT_TIMEOUT)).is_none()
        {
            process.kill();
        }
        if let Some(places) = self.places.take() {
            places.release();
        }
        code
    }
}
