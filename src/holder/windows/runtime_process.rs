//! The process of the runtime, and the events of the console that it shares with the holder.
//! Owns that process.
//! Never decides when the runtime is started or killed: the supervisor does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
use std::thread::park;

use windows_sys::Win32::System::Console::{
    AllocConsole, CTRL_BREAK_EVENT, CTRL_C_EVENT, GetConsoleProcessList, GetStdHandle,
    STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, SetConsoleCtrlHandler, SetStdHandle,
};

use super::create_process::{CreateProcessArgs, EnvBlock, create_suspended};
use super::engine_queue::{EngineEvent, EngineQueue};
use super::handles::{ChildHandle, done};
use super::threads::thread;
use crate::runtime_command::RuntimeCommand;

const STANDARD: [u32; 3] = [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE];
/// Names the two ends of the wire to the runtime: the numbers of inherited handles.
const ENV_WIRE: &str = "MAINSTAY_WIRE";

/// What the holder needs to start the runtime, and its process.
#[derive(Debug)]
pub(crate) struct RuntimeProcess {
    command: RuntimeCommand,
    /// Of the upgrade that is in flight, or was rolled back.
    pub(crate) new_program: Option<PathBuf>,
    /// Its process and number.
    pub(crate) child: Option<(Arc<ChildHandle>, u32)>,
}

impl RuntimeProcess {
    pub(crate) fn new(command: RuntimeCommand) -> RuntimeProcess {
        RuntimeProcess {
            command,
            new_program: None,
            child: None,
        }
    }

    /// Later starts use the program of the last upgrade.
    pub(crate) fn keep_new_program(&mut self) {
        if let Some(program) = self.new_program.take() {
            self.command.program = program;
        }
    }

    /// Starts the runtime with the holder's output and errors and the ends of its channel;
    /// `number` counts the runtimes.
    pub(crate) fn start(
        &mut self,
        (hears, speaks): (PipeReader, PipeWriter),
        queue: Arc<EngineQueue>,
        number: u32,
        new_program: bool,
    ) -> io::Result<()> {
        let value = |handle: &dyn AsRawHandle| handle.as_raw_handle().expose_provenance();
        let ends = format!("{},{}", value(&hears), value(&speaks));
        let command = &self.command;
        let tried = self.new_program.as_ref().filter(|_| new_program);
        let program = tried.unwrap_or(&command.program);
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
            program,
            argv: std::iter::once(program.as_os_str()).chain(args).collect(),
            directory: None,
            variables: &variables,
            standard: [null.as_handle(), stdout.as_handle(), stderr.as_handle()],
            more: vec![hears.as_handle(), speaks.as_handle()],
            jobs: Vec::new(),
            idle: false,
        })?;
        let process = Arc::new(process);
        let awaited = Arc::clone(&process);
        self.child = Some((process, pid));
        thread("wait", move || {
            let code = awaited.wait(None).unwrap_or(1);
            let runtime = number;
            queue.send(EngineEvent::RuntimeEnded { runtime, code });
        })
    }
}

/// Where the console's events go: Windows calls a function and passes nothing of ours along.
static STOP: OnceLock<SyncSender<EngineEvent>> = OnceLock::new();
static REPORT: OnceLock<fn(&str)> = OnceLock::new();

/// Stops everything in order, as Ctrl-C does; for a service, which has no console to press it.
pub fn request_stop() {
    if let Some(stop) = STOP.get() {
        let _full_of_news = stop.try_send(EngineEvent::StopAsked);
    }
}

/// Called with each message of the runtime to the service manager, in the form of sd_notify(3).
pub fn on_service_report(report: fn(&str)) {
    let _only_once = REPORT.set(report);
}

pub(crate) fn service_report(text: &str) {
    if let Some(report) = REPORT.get() {
        report(text);
    }
}

/// Modules can be asked to end only through a console that they share with us.
#[expect(unsafe_code, reason = "system calls")]
pub(crate) fn take_console(stop: SyncSender<EngineEvent>) -> io::Result<()> {
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
    request_stop();
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
