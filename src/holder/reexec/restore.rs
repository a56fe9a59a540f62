//! A holder that goes on from the state of another program of the same process.
//! Owns the order in which its parts are there again.
//! Never closes what the program before would need: until all is restored, it works on duplicates.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::execute::execute;
use super::groups::GroupTreeState;
use super::instances::{FormerMainState, InstanceState};
use super::kept_fds::{KeptFd, KeptFds};
use super::notify_state::NotifyThreadState;
use super::output::OutputState;
use super::state::{HolderState, WayBack};
use crate::clock::monotonic;
use crate::directories::SystemDirs;
use crate::engine::{Engine, EngineOptions};
use crate::kernel;
use crate::machines::{Roster, RuntimeSupervisor};
use crate::messages::HolderMessage;
use crate::poll_key;
use crate::random::Tags;
use crate::spawn::prepare::BaseEnvironment;
use crate::spawn::spawn_job::SpawnContext;
use crate::spawn::spawner::Spawner;
use crate::succession::ExecBarrier;
use crate::workers::log_writer::LogWriter;
use crate::workers::mark::MarkSecret;
use crate::workers::notify_receiver::NotifyReceiver;
use crate::workers::output::OutputDrain;
use crate::workers::service_manager::ServiceManager;

/// Goes on as the holder that executed this program, until all is stopped; returns the exit code
/// of the process. `state` is the descriptor it named.
///
/// # Errors
/// In a sentence: neither this program nor the one before can go on.
pub fn resume(state: RawFd) -> Result<u8, String> {
    let cannot = |problem: String| format!("cannot go on as the holder: {problem}");
    let text = read(state).map_err(|problem| cannot(problem.to_string()))?;
    let back: WayBack = serde_json::from_slice(&text).map_err(|one| cannot(one.to_string()))?;
    let parsed = HolderState::parse(&text);
    let restored = parsed.and_then(|(mut state, roster, supervisor)| {
        let kept = std::mem::take(&mut state.kept);
        let restored = restore(state, roster, supervisor);
        restored
            .map(|engine| (engine, kept))
            .map_err(|problem| problem.to_string())
    });
    match restored {
        Ok((engine, kept)) => Ok(go_on(engine, kept, back)),
        Err(problem) if back.problem.is_some() => Err(cannot(problem)),
        Err(problem) => Err(cannot(return_to(&back, &text, problem))),
    }
}

fn read(state: RawFd) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::from(KeptFd::new(state).own()?).read_to_end(&mut text)?;
    Ok(text)
}

fn go_on(mut engine: Engine, kept: KeptFds, back: WayBack) -> u8 {
    kept.close();
    let (number, problem) = (back.number, back.problem);
    engine.send(&HolderMessage::Reexecuted { number, problem });
    engine.reap_again = true; // who ended meanwhile
    engine.run()
}

/// Executes the program before, which finds all as it left it.
fn return_to(back: &WayBack, text: &[u8], problem: String) -> String {
    let with_problem = || -> serde_json::Result<Vec<u8>> {
        let mut state: serde_json::Value = serde_json::from_slice(text)?;
        state["problem"] = format!("cannot go on as the holder: {problem}").into();
        serde_json::to_vec(&state)
    };
    match with_problem() {
        Ok(text) => {
            let failed = execute(back.program.raw(), &text);
            format!("{problem}; the program before cannot be executed again: {failed}")
        }
        Err(failed) => format!("{problem}; {failed}"),
    }
}

pub(crate) fn restore(
    state: HolderState,
    roster: Roster,
    supervisor: RuntimeSupervisor,
) -> io::Result<Engine> {
    let (rlim_cur, rlim_max) = state.nofile;
    let nofile = libc::rlimit { rlim_cur, rlim_max };
    let runtime = state.runtime.restore()?;
    kernel::become_subreaper();
    let options = EngineOptions {
        no_groups: true, // a place for them is not looked for again
        plain_fork: false,
    };
    let mut engine = Engine::new(supervisor, options, nofile)?;
    engine.watch(&runtime.signals, poll_key::SIGNALS)?;
    if let Some(pinned) = &runtime.pinned {
        engine.watch(pinned, poll_key::RUNTIME)?;
    }
    engine.runtime = Some(Box::new(runtime));
    engine.service_manager = ServiceManager::from_environment(monotonic());
    engine.inherited_children = state.inherited_children.into_iter().collect();
    (engine.up_since, engine.strays_due) = (state.up_since, state.strays_due);
    engine.tags = Tags::after(state.tags);
    engine.roster = roster;
    let dirs = SystemDirs::start(state.dirs.restore()?, Arc::clone(&engine.queue))?;
    let folder = dirs.notify_folder();
    engine.dirs = Some(dirs);
    engine
        .channel
        .reopen(&engine.poll, state.channel.restore()?)?;
    let log_dir = state.setup.log_dir.clone();
    engine.setup = Some(state.setup);
    restore_context(
        &mut engine,
        log_dir,
        (state.groups, state.mark, state.output),
        state.barrier,
    )?;
    if let Some(notify) = state.notify {
        restore_notify(&mut engine, folder, notify)?;
    }
    restore_instances(&mut engine, state.instances, state.former_mains)?;
    Ok(engine)
}

fn restore_context(
    engine: &mut Engine,
    log_dir: String,
    (groups, mark, output): (Option<GroupTreeState>, String, OutputState),
    barrier: Option<KeptFd>,
) -> io::Result<()> {
    let writer = LogWriter::start(log_dir.into(), Arc::clone(&engine.queue))?;
    let logs = OutputDrain::start(writer, Arc::clone(&engine.queue))?;
    output.restore(&logs)?;
    let dev_null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let dirs = engine.dirs.as_ref();
    let context = Arc::new(SpawnContext {
        inherited: BaseEnvironment::capture(),
        groups: groups.map(GroupTreeState::restore).transpose()?,
        notify_folder: dirs.map(SystemDirs::notify_folder).unwrap_or_default(),
        marks: MarkSecret(mark),
        nofile: engine.nofile,
        dev_null: dev_null?.into(),
        barrier: Some(match barrier {
            Some(read) => ExecBarrier::reopen(read.take()?)?,
            None => ExecBarrier::new()?,
        }),
        logs,
        queue: Arc::clone(&engine.queue),
        embedded: false,
        plain_fork: false,
    });
    engine.spawner = Some(Spawner::start(Arc::clone(&context))?);
    engine.context = Some(context);
    Ok(())
}

fn restore_notify(
    engine: &mut Engine,
    folder: PathBuf,
    state: NotifyThreadState<KeptFd>,
) -> io::Result<()> {
    let receiver = NotifyReceiver::start(&engine.queue, folder)?;
    engine.watch(&receiver, poll_key::NOTIFY)?;
    receiver.resume(state)?;
    engine.notify_receiver = Some(Arc::new(receiver));
    Ok(())
}

fn restore_instances(
    engine: &mut Engine,
    instances: Vec<InstanceState>,
    former_mains: Vec<FormerMainState>,
) -> io::Result<()> {
    for state in instances {
        let id = state.id;
        let instance = state.restore()?;
        if let Some(run) = &instance.run {
            if let Some(ready) = &run.ready {
                engine.watch(ready, poll_key::READY | u64::from(id))?;
            }
            if let Some(pinned) = &run.pinned {
                engine.watch(pinned, poll_key::PROCESS | u64::from(id))?;
            }
        }
        if engine.roster.is_idle(id) {
            instance.sockets.watch(&engine.poll, id);
        }
        engine.instances.insert(id, instance);
    }
    for state in former_mains {
        let (pid, former) = (state.pid, state.restore()?);
        if let Some(pinned) = &former.pinned {
            engine.watch(pinned, poll_key::FORMER)?;
        }
        engine.former_mains.insert(pid, former);
    }
    Ok(())
}
