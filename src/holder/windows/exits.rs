//! Runs: their start behind the fence, how they are asked to end, and how they end.
//! Owns the order: `Spawned` before `Exited`, and that only when the whole tree is gone.
//! Never ends a process that is not in a job of ours.

use std::fs::File;
use std::io;
use std::iter;
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mainstay_process::{
    Exit, Instance, Output, ProcessEventKind, Signal, SpawnRequest, StartStep, StdStream,
};
use windows_sys::Win32::Foundation::{ERROR_BUSY, ERROR_NOT_READY, ERROR_REVISION_MISMATCH};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};

use super::create_process::{
    CreateProcessArgs, SpawnError, check, create_suspended, program, variables,
};
use super::engine::{Engine, NO_STOP};
use super::engine_queue::{EngineEvent, EngineQueue};
use super::handles::{ChildHandle, JobObject, done, monotonic};
use super::output::{OutputStream, drain};
use super::threads::thread;
use crate::machines::{FenceError, nanoseconds};

/// What a program without a handler returns when it is asked to end (STATUS_CONTROL_C_EXIT).
const ENDED_AS_ASKED: u32 = 0xc000_013a;
/// How long a killed tree may take to be gone, and its output to be read.
const GONE_WITHIN: Duration = Duration::from_millis(500);
/// The pause between two looks at the rest of a tree that is being stopped.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long killed processes may take to be gone when the holder leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    pub(crate) fn spawn(&mut self, spawn: &SpawnRequest) {
        let (name, generation) = (&spawn.instance, spawn.generation);
        let timeout = Duration::from_millis(spawn.timeout_ms);
        let passed = self
            .roster
            .spawn_requested(monotonic(), name, generation, timeout);
        let (errno, what) = match passed {
            Ok(id) => return self.start_or_fail(id, spawn, timeout),
            Err(FenceError::Running(running)) => {
                let what = format!("start {name} while generation {running} lives");
                (ERROR_BUSY, what)
            }
            Err(FenceError::Stale) => {
                let what = format!("start generation {generation} again");
                (ERROR_REVISION_MISMATCH, what)
            }
        };
        let SpawnError { failure, message } = SpawnError::new(StartStep::Fence, errno, &what);
        let what = ProcessEventKind::SpawnFailed { failure, message };
        self.report(name, generation, what);
    }

    fn start_or_fail(&mut self, id: u32, spawn: &SpawnRequest, timeout: Duration) {
        match self.start(spawn) {
            Ok(process) => {
                let now = monotonic();
                self.roster.process_started(now, id, process, timeout);
            }
            Err(SpawnError { failure, message }) => {
                self.roster.spawn_failed(id, failure, message);
            }
        }
    }

    fn start(&mut self, spawn: &SpawnRequest) -> Result<(u32, u64), SpawnError> {
        let name = spawn.instance.clone();
        check(spawn)?;
        let Some(shelf) = self.shelf.clone() else {
            let what = "start before the setup is done";
            return Err(SpawnError::new(StartStep::Fence, ERROR_NOT_READY, what));
        };
        let variables = variables(spawn, &self.inherited);
        let program = program(spawn, &variables)?;
        let pipe = |error: io::Error| SpawnError::of(StartStep::Pipe, &error, "open a pipe");
        let null = null_device().map_err(pipe)?;
        let (from, to) = io::pipe().map_err(pipe)?;
        let output = match spawn.output {
            Output::Null => null.as_handle(),
            Output::Log | Output::Captured => to.as_handle(),
        };
        let is_split = spawn.split_output && spawn.output == Output::Log;
        let errors = is_split.then(io::pipe).transpose().map_err(pipe)?;
        let stderr = errors.as_ref().map_or(output, |(_, to)| to.as_handle());
        let standard = [null.as_handle(), output, stderr];
        let job = JobObject::new(None)
            .map_err(|error| SpawnError::of(StartStep::Fork, &error, "make a job for it"))?;
        let (process, pid) = self.spawn_in_job(spawn, &program, &variables, standard, &job)?;
        let (from_errors, to_errors) = errors.unzip();
        drop((to, to_errors)); // the last writer is the tree now
        let job = Arc::new(job);
        let start_time = process.start_time();
        let mail = Arc::clone(&self.mail);
        let instance = self.instance(&name);
        instance.kept = Arc::default();
        instance.killed = false;
        instance.stop_by = Arc::new(AtomicU64::new(NO_STOP));
        instance.job = Some(Arc::clone(&job));
        instance.log = (spawn.output == Output::Log).then(|| Arc::clone(&shelf));
        let stream = |(from, stream)| OutputStream {
            from,
            stream,
            name: name.clone(),
            generation: spawn.generation,
            told: spawn.output == Output::Captured,
            tapped: Arc::clone(&instance.tapped),
            kept: Arc::clone(&instance.kept),
            shelf: Arc::clone(&shelf),
            mail: Arc::clone(&mail),
        };
        let first = match is_split {
            true => StdStream::Stdout,
            false => StdStream::Both,
        };
        let errors = from_errors.map(|from| (from, StdStream::Stderr));
        let pipes = iter::once((from, first)).chain(errors);
        let tails: io::Result<Vec<_>> = pipes.map(stream).map(drain).collect();
        let end = RunWatcher {
            process,
            job,
            name: name.clone(),
            generation: spawn.generation,
            stop_by: Arc::clone(&instance.stop_by),
            mail,
        };
        if let Err(error) = tails.and_then(|tails| end.watch(tails)) {
            instance.job = None; // its job is closed with its last handle: it ends
            return Err(SpawnError::of(
                StartStep::Fork,
                &error,
                "start a thread for it",
            ));
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

    /// CTRL_BREAK to the group that its main process leads. Who cannot be asked is ended at once:
    /// waiting would change nothing.
    #[expect(unsafe_code, reason = "a system call")]
    pub(crate) fn request_stop(&mut self, id: u32) {
        let named = self.roster.name_and_generation(id);
        let Some((run, (name, generation))) = self.roster.running(id).zip(named) else {
            return;
        };
        // SAFETY: numbers only. The run's process is held by a handle until its exit was taken
        // in, so its number means nobody else.
        let asked = done(unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, run.pid) });
        if let Err(error) = asked {
            let message = format!("cannot ask it to end by CTRL_BREAK, it is ended: {error}");
            let what = ProcessEventKind::NotifyRejected { message };
            self.report(&name, generation, what);
            self.kill(id);
        }
    }

    pub(crate) fn kill(&mut self, id: u32) {
        let named = self.roster.name_and_generation(id);
        let instance = named.and_then(|(name, _)| self.instances.get_mut(&name));
        if let Some((instance, job)) =
            instance.and_then(|one| Some((&mut one.killed, one.job.as_ref()?)))
        {
            *instance = true;
            job.kill();
        }
    }

    pub(crate) fn exited(&mut self, name: &Instance, generation: u64, code: u32, output: String) {
        let current = self.roster.current(name, generation);
        let Some((id, instance)) = current.zip(self.instances.get_mut(name)) else {
            return;
        };
        instance.job = None;
        // There are no signals here; two of them say what else happened.
        let exit = match code {
            _ if instance.killed => signalled(Signal::KILL),
            ENDED_AS_ASKED => signalled(Signal::TERMINATE),
            code => Exit::Code(code.cast_signed()),
        };
        if let Some(log) = instance.log.take() {
            log.end_run(name, generation, exit);
        }
        let pending = (false, false);
        self.roster
            .process_exited(monotonic(), id, exit, pending, output);
        self.perform_effects();
    }

    /// Ends everything that lives; the holder goes afterwards.
    pub(crate) fn end_all(&mut self) {
        self.modules.kill();
        let end = Instant::now() + LEAVE_WITHIN;
        while self.instances.values().any(|one| one.job.is_some()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.event.recv_timeout(left) {
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

fn null_device() -> io::Result<File> {
    File::options().read(true).write(true).open("NUL")
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
    /// As in the instance.
    stop_by: Arc<AtomicU64>,
    mail: Arc<EngineQueue>,
}

impl RunWatcher {
    fn has_time(&self) -> bool {
        let stop_by = self.stop_by.load(Ordering::Relaxed);
        stop_by != NO_STOP && nanoseconds(monotonic()) < stop_by
    }

    fn watch(self, tails: Vec<Receiver<String>>) -> io::Result<()> {
        let work = move || self.wait(&tails);
        thread("wait", work)
    }

    /// Waits for the main process, ends what it left, and takes what was still to be read. In a
    /// stop the rest of the tree has got CTRL_BREAK with it, and keeps the rest of the time.
    fn wait(self, tails: &[Receiver<String>]) {
        let code = self.process.wait(None).unwrap_or_default();
        while self.has_time() && !self.job.is_empty() {
            sleep(LOOK_INTERVAL);
        }
        self.job.kill();
        let end = Instant::now() + GONE_WITHIN;
        while !self.job.is_empty() && Instant::now() < end {
            sleep(Duration::from_millis(1));
        }
        let tail = |tail: &Receiver<String>| tail.recv_timeout(GONE_WITHIN).unwrap_or_default();
        let output = tails.iter().map(tail).collect();
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
