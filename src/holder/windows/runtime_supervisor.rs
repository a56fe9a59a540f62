//! The holder as a process of its own: the console's events, and the runtime that may die.
//! Owns the runtime's process and when it is started again.
//! Never lets modules notice that the runtime was away.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::park;
use std::time::{Duration, Instant};

use windows_sys::Win32::System::Console::{
    AllocConsole, CTRL_BREAK_EVENT, CTRL_C_EVENT, GetConsoleProcessList, GetStdHandle,
    STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, SetConsoleCtrlHandler, SetStdHandle,
};

use super::create_process::{CreateProcessArgs, EnvBlock, create_suspended};
use super::engine::Engine;
use super::engine_queue::{EngineEvent, EngineQueue, QUEUE};
use super::handles::{ChildHandle, done};
use super::threads::thread;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// In control this long, a runtime's earlier deaths are forgotten.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// How long a runtime that closed its wire may take to end.
const RUNTIME_EXIT_TIMEOUT: Duration = Duration::from_secs(2);
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

/// State of the standalone holder.
#[derive(Debug)]
pub(crate) struct RuntimeSupervisor {
    command: RuntimeCommand,
    /// Its process and number.
    child: Option<(Arc<ChildHandle>, u32)>,
    pub(crate) restarts: u32,
    deaths: u32,
    ready_at: Option<Instant>,
    /// Without a runtime in control since.
    away_since: Instant,
    start_at: Option<Instant>,
    kill_at: Option<Instant>,
    was_ready: bool,
    refused: Option<u8>,
    /// What it returned, until its last words were heard too.
    ended: Option<u32>,
    silent: bool,
    /// It was ended because it did not answer.
    unresponsive: bool,
    /// How the last runtime ended, in words.
    pub(crate) last: Option<String>,
}

impl RuntimeSupervisor {
    fn new(command: RuntimeCommand) -> RuntimeSupervisor {
        let now = Instant::now();
        RuntimeSupervisor {
            command,
            child: None,
            restarts: 0,
            deaths: 0,
            ready_at: None,
            away_since: now,
            start_at: Some(now),
            kill_at: None,
            was_ready: false,
            refused: None,
            ended: None,
            silent: false,
            unresponsive: false,
            last: None,
        }
    }

    pub(crate) fn away_ms(&self) -> u64 {
        let away = match self.was_ready {
            true => self.away_since.elapsed(),
            false => Duration::ZERO,
        };
        u64::try_from(away.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.start_at, self.kill_at].into_iter().flatten().min()
    }

    fn backoff(&self) -> Duration {
        match self.deaths {
            0 | 1 => Duration::ZERO,
            deaths => (BACKOFF_MIN * 2u32.pow((deaths - 2).min(10))).min(BACKOFF_MAX),
        }
    }
}

/// Runs the holder in the foreground until all is stopped; the exit code of the process.
#[must_use]
pub fn run(runtime: RuntimeCommand) -> u8 {
    match begin(runtime) {
        Ok(engine) => engine.run(),
        Err(problem) => {
            eprintln!("cannot start the holder: {problem}");
            1
        }
    }
}

fn begin(runtime: RuntimeCommand) -> io::Result<Engine> {
    let (sender, news) = sync_channel(QUEUE);
    take_console(sender.clone())?;
    let mut engine = Engine::new(Arc::new(EngineQueue(sender)), news)?;
    engine.alone = Some(RuntimeSupervisor::new(runtime));
    engine.alone_on_time(Instant::now());
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
    pub(crate) fn show(&self, state: &str) {
        let (pid, restarts) = match &self.alone {
            Some(alone) => (alone.child.as_ref().map(|(_, pid)| *pid), alone.restarts),
            None => (Some(std::process::id()), 0),
        };
        let state = match self.stop_by {
            Some(_) => "stopping",
            None => state,
        };
        if let Some(places) = &self.places {
            places.write_status(state, pid, restarts);
        }
    }

    pub(crate) fn refused(&mut self, exit: u8) {
        match &mut self.alone {
            Some(alone) => {
                alone.refused = Some(exit);
                alone.kill_at = Some(Instant::now() + RUNTIME_EXIT_TIMEOUT);
            }
            None => self.end = self.end.or(Some(exit)),
        }
    }

    pub(crate) fn runtime_ready(&mut self) {
        if let Some(alone) = &mut self.alone {
            alone.was_ready = true;
            alone.ready_at = Some(Instant::now());
        }
        self.show("running");
    }

    /// The runtime does not read, or is not understood: it is not told anything any more.
    pub(crate) fn drop_channel(&mut self) {
        self.wire = None;
        match &mut self.alone {
            Some(alone) => {
                let end = Instant::now() + RUNTIME_EXIT_TIMEOUT;
                alone.kill_at = alone.child.as_ref().map(|_| end);
            }
            None => self.end = self.end.or(Some(0)),
        }
    }

    /// All it had asked was heard.
    pub(crate) fn channel_closed(&mut self) {
        self.drop_channel();
        if let Some(alone) = &mut self.alone {
            alone.silent = true;
        }
        self.finish_runtime_exit();
    }

    pub(crate) fn runtime_ended(&mut self, code: u32) {
        if let Some(alone) = &mut self.alone {
            alone.ended = Some(code);
        }
        self.finish_runtime_exit();
    }

    /// What it still had said counts: an order to leave may be the last of it.
    fn finish_runtime_exit(&mut self) {
        let Some(alone) = self.alone.as_mut().filter(|alone| alone.silent) else {
            return;
        };
        let Some(code) = alone.ended.take() else {
            return;
        };
        let now = Instant::now();
        (alone.child, alone.kill_at, alone.silent) = (None, None, false);
        alone.last = Some(match std::mem::take(&mut alone.unresponsive) {
            true => "it did not answer, and was killed".to_owned(),
            false => format!("it ended with exit code {code}"),
        });
        if let Some(exit) = alone.refused {
            self.end = self.end.or(Some(exit));
            return;
        }
        if !alone.was_ready {
            self.end = self.end.or(Some(u8::try_from(code).unwrap_or(1)));
            return;
        }
        if let Some(at) = alone.ready_at.take() {
            alone.away_since = now;
            if now.duration_since(at) >= STABLE_AFTER {
                alone.deaths = 0;
            }
        }
        alone.deaths += 1;
        alone.start_at = Some(now + alone.backoff());
        self.show("returning");
    }

    /// It was asked whether it lives, and did not answer.
    pub(crate) fn kill_unresponsive_runtime(&mut self) {
        if let Some(alone) = &mut self.alone {
            alone.unresponsive = true;
        }
        self.drop_channel();
        self.kill_runtime();
    }

    pub(crate) fn kill_runtime(&mut self) {
        if let Some(alone) = &mut self.alone {
            alone.kill_at = None;
            if let Some((process, _)) = &alone.child {
                process.kill();
            }
        }
    }

    pub(crate) fn alone_on_time(&mut self, now: Instant) {
        let Some(alone) = &mut self.alone else {
            return;
        };
        if alone.kill_at.is_some_and(|at| at <= now) {
            return self.kill_runtime();
        }
        if alone.start_at.is_none_or(|at| at > now) || self.end.is_some() {
            return;
        }
        alone.start_at = None;
        let again = alone.was_ready;
        alone.restarts += u32::from(again);
        let problem = match self.start_runtime() {
            Ok(()) => return self.show(if again { "returning" } else { "starting" }),
            Err(problem) => problem,
        };
        self.wire = None;
        let Some(alone) = self.alone.as_mut().filter(|_| again) else {
            eprintln!("cannot start the runtime: {problem}");
            self.end = Some(1);
            return;
        };
        (alone.silent, alone.ended) = (false, None);
        alone.deaths += 1;
        alone.start_at = Some(now + alone.backoff().max(BACKOFF_MIN));
        eprintln!("cannot start the runtime, trying again: {problem}");
    }

    /// With our own output and errors, and its end of a fresh wire.
    fn start_runtime(&mut self) -> io::Result<()> {
        let (hears, speaks) = self.connect()?;
        let Some(alone) = &mut self.alone else {
            return Ok(());
        };
        let number = |handle: &dyn AsRawHandle| handle.as_raw_handle().expose_provenance();
        let ends = format!("{},{}", number(&hears), number(&speaks));
        let command = &alone.command;
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
        alone.child = Some((process, pid));
        thread("wait", move || {
            let code = awaited.wait(None).unwrap_or(1);
            mail.send(EngineEvent::RuntimeEnded { runtime, code });
        })?;
        Ok(())
    }

    /// Ends all, cleans up, waits a moment for the runtime.
    pub(crate) fn shut_down(mut self, code: u8) -> u8 {
        self.stop_by = Some(Instant::now());
        self.show("stopping");
        self.end_all();
        if let Some(shelf) = self.shelf.take() {
            shelf.finish(RUNTIME_EXIT_TIMEOUT);
        }
        self.wire = None;
        if let Some((process, _)) = self.alone.take().and_then(|alone| alone.child)
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
