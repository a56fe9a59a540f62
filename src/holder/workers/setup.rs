//! The thread that sets a system up: directories, locks, control groups, the other threads.
//! Owns what is ready until the loop takes it; runs once, before the first process.
//! Never holds up the loop: a disk that does not answer costs the start alone.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use crate::directories::SystemDirs;
use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{CgroupRoot, CgroupTree};
use crate::messages::HolderSetup;
use crate::spawn::launch::probe_cgroup_spawn;
use crate::spawn::prepare::BaseEnvironment;
use crate::spawn::spawn_job::SpawnContext;
use crate::spawn::spawner::Spawner;
use crate::succession::ExecBarrier;
use crate::threads::thread;
use crate::workers::log_writer::LogWriter;
use crate::workers::mark::{MarkSecret, note_walk, was_walked};
use crate::workers::output::OutputDrain;
use crate::workers::sweep::sweep_marked;

/// What does not come from the runtime.
#[derive(Debug)]
pub(crate) struct SetupOptions {
    pub(crate) site: Option<CgroupRoot>,
    pub(crate) nofile: libc::rlimit,
    pub(crate) plain_fork: bool,
    /// The holder is a process of its own.
    pub(crate) standalone: bool,
}

/// A system in which processes can be started.
#[derive(Debug)]
pub(crate) struct SystemReady {
    pub(crate) setup: HolderSetup,
    pub(crate) dirs: SystemDirs,
    pub(crate) context: Arc<SpawnContext>,
    pub(crate) spawner: Spawner,
}

/// Why there is none, in a sentence.
pub(crate) type SetupResult = Result<SystemReady, String>;

/// Starts the thread; [`EngineEvent::SetupDone`] follows, and the result is at the receiver.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(
    setup: HolderSetup,
    options: SetupOptions,
    queue: Arc<EngineQueue>,
) -> io::Result<Receiver<SetupResult>> {
    let (sender, receiver) = sync_channel(1);
    thread("setup", move || {
        let site = options.site.clone();
        let result = set_up(setup, options, &queue);
        let _ = sender.send(result); // the holder exits
        queue.send(EngineEvent::SetupDone);
        site.iter().for_each(CgroupRoot::remove_orphans); // no start waits for that
    })?;
    Ok(receiver)
}

fn set_up(setup: HolderSetup, options: SetupOptions, queue: &Arc<EngineQueue>) -> SetupResult {
    let say = |why: String| format!("cannot start {}: {why}", setup.name);
    let dirs = SystemDirs::claim(&setup, Arc::clone(queue)).map_err(say)?;
    let started = start_threads(&setup, &options, &dirs, queue);
    let (context, spawner) = started.map_err(|problem| say(problem.to_string()))?;
    Ok(SystemReady {
        setup,
        dirs,
        context,
        spawner,
    })
}

fn start_threads(
    setup: &HolderSetup,
    options: &SetupOptions,
    dirs: &SystemDirs,
    queue: &Arc<EngineQueue>,
) -> io::Result<(Arc<SpawnContext>, Spawner)> {
    let state_dir = Path::new(&setup.state_dir);
    let marks = MarkSecret::open(state_dir)?;
    let standalone = options.standalone;
    let site = options.site.as_ref();
    // A copy of the state directory has the same secret.
    let about = std::fs::metadata(state_dir)?;
    let (dev, ino, secret) = (about.dev(), about.ino(), marks.public_name());
    let unique = format!("{secret}.{dev:x}.{ino:x}");
    let groups = site.and_then(|site| CgroupTree::make(site, &setup.name, &unique, standalone));
    if groups.is_none() || was_walked(state_dir) {
        sweep_marked(&marks.prefix()); // of an earlier holder
    }
    note_walk(state_dir, groups.is_none());
    let writer = LogWriter::start(setup.log_dir.clone().into(), Arc::clone(queue))?;
    let logs = OutputDrain::start(writer, Arc::clone(queue))?;
    logs.set_limits(setup.live.log_max_bytes, setup.live.log_keep);
    let dev_null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let mut context = SpawnContext {
        inherited: BaseEnvironment::capture(),
        groups,
        notify_folder: dirs.notify_folder(),
        marks,
        nofile: options.nofile,
        dev_null: dev_null?.into(),
        barrier: standalone.then(ExecBarrier::new).and_then(Result::ok),
        logs,
        queue: Arc::clone(queue),
        embedded: !standalone,
        plain_fork: options.plain_fork,
    };
    if let Some(mut groups) = context.groups.take() {
        groups.probe(|group| probe_cgroup_spawn(&context, group));
        context.groups = Some(groups);
    }
    let context = Arc::new(context);
    let spawner = Spawner::start(Arc::clone(&context))?;
    Ok((context, spawner))
}
