//! From a module's launch to what the holder is asked to start.
//! Owns the variables that mainstay sets for a module. Never performs anything.

use std::sync::atomic::Ordering;

use mainstay_policy::ModuleId;
use mainstay_policy::spec::{Readiness, StartMode};
use mainstay_process::{ActivationSocket, Instance, Isolation, Output, SpawnRequest};
use mainstay_protocol::{
    ENV_DEGRADED, ENV_FEATURES, ENV_FEATURES_FILE, ENV_GENERATION, ENV_MODULE, ENV_SETTINGS,
    ENV_SOCKET, ENV_TOKEN,
};

use super::RuntimeContext;
use crate::config::LogStreams;
use crate::os::machine;

/// The order for a module's main process.
pub(crate) fn main_request(
    ctx: &RuntimeContext,
    module: ModuleId,
    generation: u64,
) -> SpawnRequest {
    let (spec, launch) = (ctx.spec(module), ctx.launch(module));
    let mut spawn = command_request(ctx, module, &launch.argv);
    spawn.generation = generation;
    spawn.output = Output::Log;
    spawn.split_output = ctx.configuration().system.logs.streams == LogStreams::Split;
    spawn.stdin = launch.stdin;
    spawn.notify = spec.readiness == Readiness::Notify || spec.watchdog.is_some();
    spawn.watchdog_usec = spec
        .watchdog
        .map(|every| u64::try_from(every.as_micros()).unwrap_or(u64::MAX));
    spawn.ready_fd = match spec.readiness {
        Readiness::Fd(fd) => i32::try_from(fd).ok(),
        _ => None,
    };
    spawn.sockets = sockets(ctx, module);
    let token = ctx.tokens.sign(&ctx.instance(module), generation);
    if ctx.degraded.get(module).load(Ordering::Relaxed) {
        let features = launch.degrade.disable.join(",");
        spawn.env.push((ENV_DEGRADED.to_owned(), features));
    }
    spawn.env.extend([
        (ENV_GENERATION.to_owned(), generation.to_string()),
        (
            ENV_SOCKET.to_owned(),
            path_text(&ctx.configuration().system.runtime_dir.join("module.sock")),
        ),
        (ENV_TOKEN.to_owned(), token),
    ]);
    spawn
}

/// Where a module listens.
fn sockets(ctx: &RuntimeContext, module: ModuleId) -> Vec<ActivationSocket> {
    let launch = ctx.launch(module);
    let socket = |(name, address): &(String, String)| ActivationSocket {
        name: name.clone(),
        address: address.clone(),
    };
    launch.sockets.iter().map(socket).collect()
}

/// Listens for the modules that start on the first connection. A `new` runtime waits until they
/// listen, before it reports that everything is up.
pub(crate) async fn bind_lazy_sockets(ctx: &RuntimeContext, new: bool) {
    let plan = ctx.plan();
    let listening: Vec<_> = plan
        .ids()
        .filter_map(|id| listen_if_lazy(ctx, id))
        .collect();
    let mut last = None;
    for (instance, listens) in listening {
        listens.await;
        last = Some(instance);
    }
    if let Some(last) = last.filter(|_| new) {
        ctx.os.flush_output(&last).await;
    }
}

/// Listens for a module if it starts on the first connection; returns what listens, and what
/// completes then.
pub(crate) fn listen_if_lazy(
    ctx: &RuntimeContext,
    module: ModuleId,
) -> Option<(Instance, impl Future<Output = ()> + use<>)> {
    let sockets = sockets(ctx, module);
    let is_lazy = ctx.spec(module).start == StartMode::Lazy && !sockets.is_empty();
    is_lazy.then(|| {
        let instance = ctx.instance(module);
        let listens = ctx.os.listen(&instance, sockets);
        (instance, listens)
    })
}

/// The order for a command that belongs to a module (hooks, probes): same directory, user and
/// environment, no token, output reported with its end.
pub(crate) fn command_request(
    ctx: &RuntimeContext,
    module: ModuleId,
    argv: &[String],
) -> SpawnRequest {
    let (spec, launch) = (ctx.spec(module), ctx.launch(module));
    let mut env = launch.env.clone();
    env.extend(ctx.secret_variables(module));
    env.push((ENV_MODULE.to_owned(), spec.name.clone()));
    if !ctx.configuration().system.features.is_empty() {
        env.push((ENV_FEATURES.to_owned(), ctx.features_text(module)));
    }
    if let Some(path) = ctx.features_file(module) {
        env.push((ENV_FEATURES_FILE.to_owned(), path_text(&path)));
    }
    if let Some(path) = ctx.settings_file(module) {
        env.push((ENV_SETTINGS.to_owned(), path_text(&path)));
    }
    let directory = path_text(&launch.directory);
    SpawnRequest {
        env,
        clear_env: launch.clear_env,
        user: launch.user.clone(),
        group: launch.group.clone(),
        limits: launch.limits,
        no_new_privileges: (launch.no_new_privileges).unwrap_or(machine::HAS_NO_NEW_PRIVILEGES),
        isolation: enforced_isolation(ctx, &launch.isolation),
        ..SpawnRequest::command(ctx.instance(module), argv.to_vec(), directory)
    }
}

/// What this machine can set up of an isolation; `status` says what it cannot.
fn enforced_isolation(ctx: &RuntimeContext, asked: &Isolation) -> Isolation {
    let has = |key| ctx.os.enforcement().mechanism(key).is_some();
    Isolation {
        capabilities: asked.capabilities.filter(|_| has("capabilities")),
        read_only: asked
            .read_only
            .iter()
            .filter(|_| has("read_only"))
            .cloned()
            .collect(),
        private_tmp: asked.private_tmp && has("private_tmp"),
    }
}

/// Whether the machine has left what a module says it needs.
///
/// # Errors
/// What is needed and what is free, as text.
pub(crate) fn check_resources(ctx: &RuntimeContext, module: ModuleId) -> Result<(), String> {
    let needs = ctx.launch(module).needs;
    let state_dir = &ctx.configuration().system.state_dir;
    // The machine is asked only for what is needed: this lies on the way of every start.
    let memory = needs.memory_bytes.map(|_| machine::memory_available());
    let memory = needs.memory_bytes.zip(memory.flatten());
    let disk = needs.disk_bytes.map(|_| machine::disk(state_dir));
    let disk = needs.disk_bytes.zip(disk.flatten().map(|(_, free)| free));
    for (what, pair) in [("memory", memory), ("disk", disk)] {
        if let Some((needed, free)) = pair.filter(|(needed, free)| free < needed) {
            let mb = |bytes: u64| bytes / (1024 * 1024);
            return Err(format!(
                "not enough {what}: it needs {} MB, {} MB are free",
                mb(needed),
                mb(free)
            ));
        }
    }
    Ok(())
}

/// Paths of a configuration come from UTF-8 text.
fn path_text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}
