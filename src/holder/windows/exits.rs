//! Runs: their start behind the fence, how they are asked to end, and how they end.
//! Owns the order: `Spawned` before `Exited`, and that only when the whole tree is gone.
//! Never ends a process that is not in a job of ours.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mainstay_process::{
    Exit, Exited, Instance, Output, ProcessEventKind, Signal, SpawnRequest, StartStep,
};
use windows_sys::Win32::Foundation::{ERROR_BUSY, ERROR_NOT_READY, ERROR_REVISION_MISMATCH};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};

use super::create_process::{
    CreateProcessArgs, SpawnError, check, create_suspended, program, variables,
};
use super::engine::{Engine, RunningProcess};
use super::engine_queue::{EngineEvent, EngineQueue};
use super::handles::{ChildHandle, JobObject, done, monotonic_nanos};
use super::output::{OutputStream, drain};
use super::threads::thread;

/// What a program without a handler returns when it is asked to end (STATUS_CONTROL_C_EXIT).
const ENDED_AS_ASKED: u32 = 0xc000_013a;
/// How long a killed tree may take to be gone, and its output to be read.
const GONE_WITHIN: Duration = Duration::from_millis(500);
/// How long killed processes may take to be gone when the holder leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    pub(crate) fn spawn(&mut self, spawn: &SpawnRequest) {
        let (instance, generation) = (spawn.instance.clone(), spawn.generation);
        let what = match self.start(spawn) {
            Ok((pid, start_time)) => ProcessEventKind::Spawned { pid, start_time },
            Err(SpawnError { failure, message }) => {
                ProcessEventKind::SpawnFailed { failure, message }
            }
        };
        self.report(&instance, generation, what);
    }

    fn start(&mut self, spawn: &SpawnRequest) -> Result<(u32, u64), SpawnError> {
        let name = spawn.instance.clone();
        self.fence(spawn)?;
        check(spawn)?;
        let Some(shelf) = self.shelf.clone() else {
            let what = "start before the setup is done";
            return Err(SpawnError::new(StartStep::Fence, ERROR_NOT_READY, what));
        };
        let variables = variables(spawn, &self.inherited);
        let program = program(spawn, &variables)?;
        let pipe = |error: io::Error| SpawnError::of(StartStep::Pipe, &error, "open a pipe");
        let null = File::options()
            .read(true)
            .write(true)
            .open("NUL")
            .map_err(pipe)?;
        let (from, to) = io::pipe().map_err(pipe)?;
        let output = match spawn.output {
            Output::Null => null.as_handle(),
            Output::Log | Output::Captured => to.as_handle(),
        };
        let standard = [null.as_handle(), output, output];
        let job = JobObject::new(None)
            .map_err(|error| SpawnError::of(StartStep::Fork, &error, "make a job for it"))?;
        let (process, pid) = self.spawn_in_job(spawn, &program, &variables, standard, &job)?;
        drop(to); // the last writer is the tree now
        let job = Arc::new(job);
        let start_time = process.start_time();
        let mail = Arc::clone(&self.mail);
        let instance = self.instance(&name);
        instance.generation = spawn.generation;
        instance.kept = Arc::default();
        instance.last_exit = None;
        instance.forgotten = false;
        instance.run = Some(RunningProcess {
            pid,
            start_time,
            job: Arc::clone(&job),
            timed_out: false,
            killed: false,
        });
        let stream = OutputStream {
            from,
            name: name.clone(),
            generation: spawn.generation,
            told: spawn.output == Output::Captured,
            tapped: Arc::clone(&instance.tapped),
            kept: Arc::clone(&instance.kept),
            shelf,
            mail: Arc::clone(&mail),
        };
        let end = RunWatcher {
            process,
            job,
            name: name.clone(),
            generation: spawn.generation,
            mail,
        };
        if let Err(error) = drain(stream).and_then(|tail| end.watch(tail)) {
            instance.run = None; // its job is closed with its last handle: it ends
            return Err(SpawnError::of(
                StartStep::Fork,
                &error,
                "start a thread for it",
            ));
        }
        if spawn.timeout_ms > 0 {
            let at = Instant::now() + Duration::from_millis(spawn.timeout_ms);
            self.alarms.insert((at, name, spawn.generation));
        }
        Ok((pid, start_time))
    }

    fn spawn_in_job(
        &self,
        spawn: &SpawnRequest,
        program: &Path,
        variables: &super::create_process::EnvBlock,
        standard: [BorrowedHandle<'_>; 3],
        job: &JobObject,
    ) -> Result<(ChildHandle, u32), SpawnError> {
        create_suspended(&CreateProcessArgs {
            program,
            argv: spawn.argv.iter().map(AsRef::as_ref).collect(),
            directory: Some(Path::new(&spawn.directory)),
            variables,
            standard,
            more: Vec::new(),
            jobs: vec![&self.modules, job],
            idle: spawn.limits.nice.is_some_and(|nice| nice > 0),
        })
        .map_err(|error| {
            SpawnError::of(
                StartStep::Exec,
                &error,
                &format!("execute {}", program.display()),
            )
        })
    }

    /// There are never two, and generations only grow.
    fn fence(&mut self, spawn: &SpawnRequest) -> Result<(), SpawnError> {
        let instance = self.instance(&spawn.instance);
        let (errno, what) = match &instance.run {
            Some(_) => (
                ERROR_BUSY,
                format!(
                    "start {} while generation {} lives",
                    spawn.instance, instance.generation
                ),
            ),
            None if spawn.generation <= instance.generation => (
                ERROR_REVISION_MISMATCH,
                format!("start generation {} again", spawn.generation),
            ),
            None => return Ok(()),
        };
        Err(SpawnError::new(StartStep::Fence, errno, &what))
    }

    fn current(&mut self, name: &str, generation: u64) -> Option<&mut RunningProcess> {
        let instance = self.instances.get_mut(name)?;
        let run = instance.run.as_mut()?;
        (instance.generation == generation).then_some(run)
    }

    /// CTRL_BREAK to the group that its main process leads. Who cannot be asked is ended at once:
    /// waiting would change nothing.
    #[expect(unsafe_code, reason = "a system call")]
    pub(crate) fn request_stop(&mut self, name: &Instance, generation: u64) {
        let Some(run) = self.current(name, generation) else {
            return;
        };
        // SAFETY: numbers only. The run's process is held by a handle until its exit was taken
        // in, so its number means nobody else.
        let asked = done(unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, run.pid) });
        if let Err(error) = asked {
            let message = format!("cannot ask it to end by CTRL_BREAK, it is ended: {error}");
            self.report(
                name,
                generation,
                ProcessEventKind::NotifyRejected { message },
            );
            self.kill(name, generation);
        }
    }

    pub(crate) fn kill(&mut self, name: &str, generation: u64) {
        if let Some(run) = self.current(name, generation) {
            run.killed = true;
            run.job.kill();
        }
    }

    pub(crate) fn kill_timed_out(&mut self, name: &Instance, generation: u64) {
        if let Some(run) = self.current(name, generation) {
            run.timed_out = true;
            self.kill(name, generation);
        }
    }

    pub(crate) fn forget(&mut self, name: &str) {
        let Some(instance) = self.instances.get_mut(name) else {
            return;
        };
        instance.forgotten = true;
        let generation = instance.generation;
        if instance.run.is_some() {
            return self.kill(name, generation); // the rest when it has ended
        }
        self.instances.remove(name);
        if let Some(shelf) = &self.shelf {
            shelf.forget(name);
        }
    }

    pub(crate) fn exited(&mut self, name: &Instance, generation: u64, code: u32, output: String) {
        let Some(instance) = self.instances.get_mut(name) else {
            return;
        };
        let Some(run) = instance.run.take() else {
            return;
        };
        // There are no signals here; two of them say what else happened.
        let exit = match code {
            _ if run.killed => signalled(Signal::KILL),
            ENDED_AS_ASKED => signalled(Signal::TERMINATE),
            code => Exit::Code(code.cast_signed()),
        };
        let exited = Exited {
            pid: run.pid,
            exit,
            timed_out: run.timed_out,
            output,
            at: monotonic_nanos(),
        };
        instance.last_exit = Some(exited.clone());
        let forgotten = instance.forgotten;
        self.report(name, generation, ProcessEventKind::Exited(exited));
        if forgotten {
            self.forget(name);
        }
    }

    /// Ends everything that lives; the holder goes afterwards.
    pub(crate) fn end_all(&mut self) {
        self.modules.kill();
        let end = Instant::now() + LEAVE_WITHIN;
        while self.instances.values().any(|one| one.run.is_some()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.news.recv_timeout(left) {
                Ok(EngineEvent::Exited {
                    name,
                    generation,
                    code,
                    output,
                }) => self.exited(&name, generation, code, output),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

fn signalled(signal: Signal) -> Exit {
    Exit::Signal {
        signal,
        core: false,
    }
}

/// A run whose end is awaited.
struct RunWatcher {
    process: ChildHandle,
    job: Arc<JobObject>,
    name: Instance,
    generation: u64,
    mail: Arc<EngineQueue>,
}

impl RunWatcher {
    fn watch(self, tail: Receiver<String>) -> io::Result<()> {
        let work = move || self.wait(&tail);
        thread("wait", work)
    }

    /// Waits for the main process, ends what it left, and takes what was still to be read.
    fn wait(self, tail: &Receiver<String>) {
        let code = self.process.wait(None).unwrap_or_default();
        self.job.kill();
        let end = Instant::now() + GONE_WITHIN;
        while !self.job.is_empty() && Instant::now() < end {
            sleep(Duration::from_millis(1));
        }
        let output = tail.recv_timeout(GONE_WITHIN).unwrap_or_default();
        self.mail.send(EngineEvent::Exited {
            name: self.name,
            generation: self.generation,
            code,
            output,
        });
        // Until here: its number is nobody else's while the loop may still use it.
        drop(self.process);
    }
}
