//! The holder as a process of its own: the console's events, and the process of the runtime.
//! Owns that process; performs what the supervisor returns.
//! Never decides when the runtime is started or killed: the supervisor does.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::park;

use windows_sys::Win32::System::Console::{
    AllocConsole, CTRL_BREAK_EVENT, CTRL_C_EVENT, GetConsoleProcessList, GetStdHandle,
    STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, SetConsoleCtrlHandler, SetStdHandle,
};

use super::create_process::{CreateProcessArgs, EnvBlock, create_suspended};
use super::engine::Engine;
use super::engine_queue::{EngineEvent, EngineQueue, QUEUE};
use super::handles::{ChildHandle, done, monotonic};
use super::threads::thread;
use crate::machines::runtime_supervisor::RUNTIME_EXIT_TIMEOUT;
use crate::machines::{RuntimeExit, RuntimeSupervisor, SupervisorEffect, SystemState, millis};
use crate::messages::HolderMessage;
use crate::status_file::HolderStatus;

const STANDARD: [u32; 3] = [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE];
/// Names the two ends of the wire to the runtime: the numbers of inherited handles.
const ENV_WIRE: &str = "MAINSTAY_WIRE";

/// How to start the runtime.
#[derive(Debug, Clone)]
pub struct RuntimeCommand {
    /// The program.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// Variables on top of the holder's own.
    pub env: Vec<(OsString, OsString)>,
}

/// What the holder needs to start the runtime, and its process.
#[derive(Debug)]
pub(crate) struct RuntimeProcess {
    command: RuntimeCommand,
    /// Its process and number.
    child: Option<(Arc<ChildHandle>, u32)>,
}

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
    let (sender, news) = sync_channel(QUEUE);
    take_console(sender.clone())?;
    let supervisor = RuntimeSupervisor::standalone(monotonic());
    let mut engine = Engine::new(supervisor, Arc::new(EngineQueue(sender)), news)?;
    let child = None;
    engine.runtime_process = Some(RuntimeProcess { command, child });
    Ok(engine)
}

/// Where the console's events go: Windows calls a function and passes nothing of ours along.
static STOP: OnceLock<SyncSender<EngineEvent>> = OnceLock::new();

/// Modules can be asked to end only through a console that they share with us.
#[expect(unsafe_code, reason = "system calls")]
fn take_console(stop: SyncSender<EngineEvent>) -> io::Result<()> {
    let _only_once = STOP.set(stop);
    // SAFETY: the place is as long as is said; the function is there for the process's life.
    unsafe {
        let mut anyone = 0;
        if GetConsoleProcessList(&raw mut anyone, 1) == 0 {
            // Without one modules are ended without being asked. What it would do to our own
            // output is undone.
            let ours = STANDARD.map(|number| (number, GetStdHandle(number)));
            AllocConsole();
            for (number, handle) in ours {
                SetStdHandle(number, handle);
            }
        }
        done(SetConsoleCtrlHandler(Some(on_event), 1))
    }
}

/// Called on a thread of its own. When it returns from anything but Ctrl-C and Ctrl-Break, Windows
/// ends this process, and with it the jobs: then it has as long as Windows gives.
#[expect(unsafe_code, reason = "the form that Windows calls")]
unsafe extern "system" fn on_event(event: u32) -> i32 {
    if let Some(stop) = STOP.get() {
        let _full_of_news = stop.try_send(EngineEvent::StopAsked);
    }
    while !matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT) {
        park();
    }
    1
}

/// The runtime leaves the console's events to the holder, which tells it in order.
#[expect(unsafe_code, reason = "the form that Windows calls")]
unsafe extern "system" fn ignore_event(event: u32) -> i32 {
    while !matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT) {
        park();
    }
    1
}

/// The runtime's end of the wire in the process that the holder started; once.
#[expect(unsafe_code, reason = "handles that were inherited are plain numbers")]
#[must_use]
pub fn inherited() -> Option<(PipeReader, PipeWriter)> {
    let said = std::env::var(ENV_WIRE).ok()?;
    let (hears, speaks) = said.split_once(',')?;
    let (hears, speaks): (usize, usize) = (hears.parse().ok()?, speaks.parse().ok()?);
    // SAFETY: the holder named them to this process alone: they are open and nobody else's. The
    // function is there for the process's life.
    unsafe {
        SetConsoleCtrlHandler(Some(ignore_event), 1);
        let own = |number: usize| {
            OwnedHandle::from_raw_handle(std::ptr::with_exposed_provenance_mut(number))
        };
        Some((own(hears).into(), own(speaks).into()))
    }
}

impl Engine {
    /// Performs what is due for the runtime, after everything that has happened is applied.
    pub(crate) fn supervise(&mut self) {
        self.perform_effects();
        while let Some(effect) = self.supervisor.next_effect(monotonic()) {
            match effect {
                SupervisorEffect::StartRuntime => {
                    if let Err(problem) = self.start_runtime() {
                        self.close_channel();
                        let text = format!("cannot start the runtime: {problem}");
                        self.supervisor.start_failed(monotonic(), text);
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
                super::engine::TREE_METHOD,
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

    /// With our own output and errors, and its end of a fresh wire.
    fn start_runtime(&mut self) -> io::Result<()> {
        let (hears, speaks) = self.connect()?;
        let Some(runtime_process) = &mut self.runtime_process else {
            return Ok(());
        };
        let number = |handle: &dyn AsRawHandle| handle.as_raw_handle().expose_provenance();
        let ends = format!("{},{}", number(&hears), number(&speaks));
        let command = &runtime_process.command;
        let mut variables = EnvBlock::default();
        for (name, value) in std::env::vars_os().chain(command.env.iter().cloned()) {
            variables.set(&name, &value);
        }
        variables.set(OsStr::new(ENV_WIRE), OsStr::new(&ends));
        let null = File::options().read(true).write(true).open("NUL")?;
        let owned = |handle: io::Result<OwnedHandle>| {
            handle.or_else(|_| null.as_handle().try_clone_to_owned())
        };
        let stdout = owned(io::stdout().as_handle().try_clone_to_owned())?;
        let stderr = owned(io::stderr().as_handle().try_clone_to_owned())?;
        let args = command.args.iter().map(|arg| &**arg);
        let (process, pid) = create_suspended(&CreateProcessArgs {
            program: &command.program,
            argv: std::iter::once(command.program.as_os_str())
                .chain(args)
                .collect(),
            directory: None,
            variables: &variables,
            standard: [null.as_handle(), stdout.as_handle(), stderr.as_handle()],
            more: vec![hears.as_handle(), speaks.as_handle()],
            jobs: Vec::new(),
            idle: false,
        })?;
        let process = Arc::new(process);
        let (awaited, mail, runtime) = (Arc::clone(&process), Arc::clone(&self.mail), self.runtime);
        runtime_process.child = Some((process, pid));
        thread("wait", move || {
            let code = awaited.wait(None).unwrap_or(1);
            mail.send(EngineEvent::RuntimeEnded { runtime, code });
        })?;
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
