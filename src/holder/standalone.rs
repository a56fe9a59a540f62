//! The holder as a process of its own, with a runtime that it starts and supervises.
//! Owns nothing; performs what the supervisor returns.
//! Never decides when the runtime is started or killed: the supervisor does.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use mainstay_process::{Exit, Instance};
use nix::sys::signal::Signal;

use crate::clock::monotonic;
use crate::engine::{Engine, EngineOptions};
use crate::kernel::{self, Program};
use crate::machines::runtime_supervisor::{EXEC_TIMEOUT, RUNTIME_EXIT_TIMEOUT};
use crate::machines::{RuntimeExit, RuntimeSupervisor, SupervisorEffect, SystemState, millis};
use crate::messages::HolderMessage;
use crate::runtime_command::RuntimeCommand;
use crate::runtime_process::{RuntimeProcess, raise_limit};
use crate::status_file::HolderStatus;
use crate::succession::{BASE, SUPERVISION};
use crate::threads::thread;
use crate::wait::ReapedChild;
use crate::workers::service_manager::ServiceManager;
use crate::{poll_key, process};

/// Runs the holder in the foreground until all is stopped; returns the exit code of the process.
///
/// # Errors
/// In a sentence: the holder or its first runtime cannot be started. Nothing runs then.
pub fn run(runtime: RuntimeCommand) -> Result<u8, String> {
    let mut engine =
        begin(runtime).map_err(|problem| format!("cannot start the holder: {problem}"))?;
    engine.supervise();
    engine.runtime_started(); // waits for it: nothing else has begun
    match engine.supervisor.last_exit_text() {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(engine.run()),
    }
}

fn begin(runtime: RuntimeCommand) -> io::Result<Engine> {
    let nofile = raise_limit()?;
    // SIGTERM to the holder must find a holder: signals are taken before anything is started.
    let runtime = RuntimeProcess::new(runtime)?;
    kernel::become_subreaper();
    let no_groups = std::env::var_os("MAINSTAY_CGROUP").is_some_and(|value| value == "off");
    let options = EngineOptions {
        no_groups,
        plain_fork: false,
    };
    let supervisor = RuntimeSupervisor::standalone(monotonic());
    let mut engine = Engine::new(supervisor, options, nofile)?;
    let inherited = kernel::orphans().unwrap_or_default().into_iter();
    let seen = inherited.filter_map(kernel::process);
    engine.inherited_children = seen.map(|one| (one.pid, one.start_time)).collect();
    engine.watch(&runtime.signals, poll_key::SIGNALS)?;
    engine.runtime = Some(Box::new(runtime));
    engine.service_manager = ServiceManager::from_environment(monotonic());
    Ok(engine)
}

impl Engine {
    /// Performs what is due for the runtime, after everything that has happened is applied.
    pub(crate) fn supervise(&mut self) {
        self.perform_effects();
        while let Some(effect) = self.supervisor.next_effect(monotonic()) {
            match effect {
                SupervisorEffect::StartRuntime { new_program } => self.start_runtime(new_program),
                SupervisorEffect::KeepNewProgram => {
                    self.runtime
                        .iter_mut()
                        .for_each(|one| one.keep_new_program());
                    self.changed(BASE);
                }
                SupervisorEffect::KillRuntime => {
                    let starting = self.runtime.as_mut().and_then(|one| one.abandon_start());
                    if let Some(pid) = starting {
                        process::kill(pid, libc::SIGKILL); // a child that is not reaped yet
                    }
                    if let Some(runtime) = &self.runtime {
                        runtime.kill();
                    }
                }
                SupervisorEffect::CloseChannel => drop(self.close_channel()),
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

    pub(crate) fn runtime_pid(&self) -> Option<i32> {
        self.runtime.as_ref()?.pid
    }

    fn write_status(&self, state: SystemState) {
        let pid = match &self.runtime {
            Some(runtime) => runtime.pid.map(i32::unsigned_abs),
            None => Some(std::process::id()),
        };
        let config_dir = self.setup.as_ref().map_or("", |setup| &setup.config_dir);
        let supervisor = &self.supervisor;
        if let Some(dirs) = &self.dirs {
            dirs.write_status(&HolderStatus::now(
                state.as_str(),
                pid,
                supervisor.restarts(),
                self.tree(),
                config_dir,
                supervisor.last_exit_text(),
            ));
        }
    }

    pub(crate) fn read_signals(&mut self) {
        while let Some(runtime) = &mut self.runtime {
            let Some(signal) = runtime.signals.next() else {
                return;
            };
            match signal {
                libc::SIGCHLD => self.reap_again = true,
                libc::SIGHUP if !runtime.terminal => self.send(&HolderMessage::ReloadRequested),
                // A shell that exits sends it beside the kernel: that is no second Ctrl-C.
                libc::SIGHUP if self.supervisor.is_stopping() => {}
                _ => {
                    let signal = mainstay_process::Signal(signal);
                    self.supervisor.stop_requested(monotonic(), signal);
                    self.changed(SUPERVISION);
                }
            }
        }
    }

    fn start_runtime(&mut self, new_program: bool) {
        let bare = self.context.is_none() && self.setup_in_flight.is_none();
        let runtime = self.runtime.as_mut();
        let started = runtime.map(|runtime| runtime.start(&self.queue, bare, new_program));
        if let Some(Err(problem)) = started {
            self.runtime_start_failed(&problem);
        }
    }

    /// A start of the runtime has a result.
    pub(crate) fn runtime_started(&mut self) {
        let Some(runtime) = &mut self.runtime else {
            return;
        };
        let starting = runtime.starting.as_ref();
        let result = starting.map(|one| one.recv_timeout(EXEC_TIMEOUT));
        if let Some(Err(RecvTimeoutError::Timeout)) = result {
            return self.supervise(); // the first one, which hangs
        }
        runtime.starting = None;
        match result {
            Some(Ok(Ok((socket, pid)))) => {
                runtime.pid = Some(pid);
                self.supervisor.runtime_started(monotonic());
                if self.connect(socket).is_err() {
                    self.supervisor.channel_closed(monotonic());
                }
            }
            Some(Ok(Err(problem))) => self.runtime_start_failed(&problem),
            Some(Err(ended)) => self.runtime_start_failed(&io::Error::other(ended)),
            None => {}
        }
        self.reap_again |= std::mem::take(&mut self.reap_retry);
    }

    /// Another program takes the place of the runtime, unless that is not possible.
    pub(crate) fn upgrade(&mut self, program: &str, note: String) {
        let fd = self.channel.take_fds(1).pop();
        let opened = Program::passed(program, fd);
        let requested = || self.supervisor.upgrade_requested(monotonic(), note);
        let problem = match (&mut self.runtime, opened) {
            (Some(runtime), Ok(program)) => {
                let accepted = requested();
                if accepted.is_ok() {
                    runtime.new_program = Some(Arc::new(program));
                }
                accepted.err().map(str::to_owned)
            }
            (_, Err(problem)) => Some(problem.to_string()),
            (None, _) => requested().err().map(str::to_owned),
        };
        self.send(&HolderMessage::UpgradeAnswered { problem });
    }

    fn runtime_start_failed(&mut self, problem: &io::Error) {
        let text = format!("cannot start the runtime: {problem}");
        self.supervisor.start_failed(monotonic(), text);
    }

    /// The runtime was reaped. The rest of its channel counts: `Exit` may be the last request.
    pub(crate) fn runtime_ended(&mut self, ended: ReapedChild) {
        if let Some(runtime) = &mut self.runtime {
            runtime.pid = None;
        }
        while self.supervisor.exit_code().is_none() && self.read_wire_once() {}
        self.drop_channel();
        let text = match ended.exit {
            Exit::Signal { signal, .. } => Signal::try_from(signal.0).map_or_else(
                |_| format!("it was killed by {signal}"),
                |signal| format!("it was killed by {signal}"),
            ),
            Exit::Code(code) => format!("it ended with exit code {code}"),
            Exit::Oom | Exit::Stuck | Exit::Unknown => "how it ended is unknown".to_owned(),
        };
        let code = ended.exit.code();
        let exit = RuntimeExit { code, text };
        self.supervisor.runtime_exited(monotonic(), exit);
    }

    /// Once a stop has ended every run, their groups are removed on a thread, while the runtime
    /// still writes its journal.
    pub(crate) fn remove_idle_groups(&mut self) {
        if !self.supervisor.is_stopping() || !self.roster.is_all_idle() {
            return;
        }
        let instances = self.instances.values_mut();
        let idle = instances.filter_map(|one| one.group.take().map(|_| one.name.clone()));
        let idle: Vec<Instance> = idle.collect();
        if let Some(context) = self.context.clone().filter(|_| !idle.is_empty()) {
            let _ = thread("groups", move || {
                let names = idle.iter().zip(context.groups.iter().cycle());
                names.for_each(|(name, groups)| groups.forget(name));
            }); // else they are removed at the end
        }
    }

    /// Ends all, cleans up, waits for the runtime: [`RUNTIME_EXIT_TIMEOUT`], and as long again once
    /// it is killed. One that is not gone then, in an uninterruptible wait, is left to the system.
    pub(crate) fn shut_down(mut self, code: u8) -> u8 {
        self.write_status(SystemState::Stopping);
        self.end_mirror();
        self.channel.flush(&self.poll);
        // Blocked in this thread since its start: a signal now changes nothing.
        let in_flight = self.setup_in_flight.take();
        let ready = in_flight.and_then(|setup| setup.recv_timeout(RUNTIME_EXIT_TIMEOUT).ok());
        if let Some(Ok(ready)) = ready {
            self.take_over(ready); // it is released with the rest
        }
        // One whose start was just made is awaited below like another.
        if let Some(runtime) = &mut self.runtime
            && let Some(starting) = runtime.starting.take()
            && let Ok(started) = starting.recv_timeout(RUNTIME_EXIT_TIMEOUT)
        {
            runtime.pid = started.ok().map(|(_, pid)| pid);
        }
        self.end_all();
        self.channel.flush(&self.poll);
        if let Some(context) = self.context.take() {
            if let Some(groups) = &context.groups {
                groups.remove_all();
            }
            context.logs.quit(RUNTIME_EXIT_TIMEOUT);
        }
        self.channel.close(&self.poll);
        if let Some(runtime) = self.runtime.take() {
            let kill_at = monotonic() + RUNTIME_EXIT_TIMEOUT;
            let give_up_at = kill_at + RUNTIME_EXIT_TIMEOUT;
            while !runtime.has_ended() && monotonic() < give_up_at {
                if monotonic() > kill_at {
                    runtime.kill();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if let Some(dirs) = self.dirs.take() {
            let kept = self.instances.values();
            dirs.remove_sockets(kept.flat_map(|one| one.sockets.bound()).collect());
            dirs.release();
        }
        code
    }
}
