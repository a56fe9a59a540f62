//! mainstay inside of an application, which here is the test itself.
//! Owns the promises of `mainstay::Runtime`. Never looks inside.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use mainstay::{Runtime, RuntimeBuilder, StartError};
use mainstay_client::blocking::Client;
use mainstay_protocol::config_change::ConfigSetParams;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{ErrorCode, EventKind, ModuleState, ModuleView, SystemStatus};
use tempfile::TempDir;

use crate::daemon::{kill, lives, misbehave, prepare, wait_for};

mod examples;
mod tasks;

/// Longer than anything takes that goes well.
const PATIENCE: Duration = Duration::from_secs(10);

fn pair() -> String {
    format!(
        "[module.base]\ncommand = {}\nready = {{ notify = true }}\n\
         [module.top]\ncommand = {}\nrequires = [\"base\"]\n",
        misbehave("--ready notify --ready-after 20ms"),
        misbehave(""),
    )
}

fn builder(dir: &TempDir) -> RuntimeBuilder {
    Runtime::builder().config(dir.path().join("config"))
}

async fn until(
    mainstay: &Runtime,
    module: &str,
    what: &str,
    is: impl Fn(&ModuleView) -> bool,
) -> ModuleView {
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            let view = mainstay.module(module).expect("the module exists");
            if is(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    match seen.await {
        Ok(view) => view,
        Err(_) => panic!(
            "waited in vain for {module} {what}: {:?}",
            mainstay.module(module)
        ),
    }
}

fn gone(pid: u32) {
    assert!(
        wait_for("its end", || (!lives(pid)).then_some(())).is_some(),
        "{pid} lives on"
    );
}

fn pids(mainstay: &Runtime) -> Vec<u32> {
    mainstay
        .modules()
        .iter()
        .filter_map(|view| view.pid)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tasks_and_two_processes_are_one_system() {
    let indexer = "[module.indexer]\nrequires = [\"base\"]\nready = { notify = true }\n\
                   settings = { depth = 3 }\n";
    let dir = prepare("", &(pair() + indexer));
    let mainstay = builder(&dir)
        .task("indexer", |ctx| async move {
            assert_eq!(ctx.settings()["depth"], 3);
            ctx.status("indexing");
            ctx.ready();
            ctx.cancelled().await;
            Ok(())
        })
        .task("pulse", |ctx| async move {
            ctx.cancelled().await;
            Ok(())
        })
        .start()
        .await
        .expect("it starts");
    mainstay.wait_started().await.expect("everything comes up");
    let status = mainstay.status();
    assert_eq!(
        (status.status, status.modules.running),
        (SystemStatus::Healthy, 4)
    );
    assert_eq!(
        (status.pid, status.holder_pid),
        (std::process::id(), std::process::id())
    );
    let indexer = mainstay.module("indexer").expect("it exists");
    assert_eq!(
        (indexer.state, indexer.pid),
        (ModuleState::Running, None),
        "a task has no process"
    );
    assert_eq!(indexer.status_text.as_deref(), Some("indexing"));
    assert_eq!(
        mainstay.module("pulse").expect("undeclared").state,
        ModuleState::Running
    );
    // The order of needs holds between processes and tasks.
    let order: Vec<String> = mainstay
        .graph()
        .modules
        .into_iter()
        .map(|node| node.module)
        .collect();
    let place = |name: &str| order.iter().position(|module| module == name);
    assert!(place("base") < place("indexer"), "{order:?}");
    // What dies is restarted, through the handle and the socket alike.
    let top = mainstay.restart_module("top").await.expect("granted");
    assert_eq!((top.state, top.generation), (ModuleState::Running, 2));
    kill(
        mainstay
            .module("base")
            .expect("it exists")
            .pid
            .expect("it runs"),
        libc::SIGKILL,
    );
    until(&mainstay, "base", "to be back", |view| {
        view.generation == 2 && view.state == ModuleState::Running
    })
    .await;
    let why = mainstay.why("base").await.expect("a story");
    assert!(
        why.chain.iter().any(|link| link.text.contains("SIGKILL")),
        "{:?}",
        why.chain
    );
    let unknown = mainstay.module("idexer").expect_err("there is none");
    assert_eq!(unknown.data.code, ErrorCode::UnknownModule);
    assert!(unknown.message.contains("indexer"), "{unknown}");
    let health = mainstay.system_health();
    assert_eq!(
        (health.status, health.modules.len()),
        (SystemStatus::Healthy, 5),
        "the builtin event-bus is among them"
    );
    let processes = pids(&mainstay);
    assert_eq!(processes.len(), 2);
    let outcome = mainstay.stop_system(PATIENCE).await;
    assert_eq!((outcome.forced, outcome.failure), (0, None));
    assert!(
        processes.iter().all(|pid| !lives(*pid)),
        "a process outlived the stop"
    );
    let left = std::fs::read_dir(dir.path().join("run")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "sockets are left behind");
    assert_eq!(
        mainstay.stop_system(PATIENCE).await.forced,
        0,
        "a second stop returns at once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_set_while_everything_runs() {
    let dir = prepare("", &pair());
    let mainstay = builder(&dir).start().await.expect("it starts");
    mainstay.wait_started().await.expect("all ready");
    let before = pids(&mainstay);
    let set = |path: &str, value: &str| ConfigSetParams {
        path: path.to_owned(),
        value: value.to_owned(),
        ..ConfigSetParams::default()
    };
    let changed = mainstay.update_config(set("health.interval", "7s")).await;
    let applied = changed.expect("it is valid").applied.expect("no dry run");
    assert_eq!(mainstay.status().plan, applied.plan);
    let values = mainstay.config("health.interval").expect("a key");
    assert_eq!(values[0].value, "7s");
    assert_eq!(pids(&mainstay), before, "nothing was restarted");
    let wrong = mainstay.update_config(set("health.interval", "soon")).await;
    let wrong = wrong.expect_err("no duration");
    assert_eq!(wrong.data.code, ErrorCode::InvalidConfig);
    mainstay.stop_system(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runtimes_live_in_one_process() {
    let (one, two) = (prepare("", &pair()), prepare("", &pair()));
    let task = |ctx: mainstay::TaskContext| async move {
        ctx.cancelled().await;
        Ok(())
    };
    let first = builder(&one)
        .task("own", task)
        .start()
        .await
        .expect("it starts");
    let second = builder(&two)
        .task("own", task)
        .start()
        .await
        .expect("so does the second");
    first.wait_started().await.expect("up");
    second.wait_started().await.expect("up");
    let third = builder(&one)
        .start()
        .await
        .expect_err("the state directory is taken");
    assert!(matches!(third, StartError::StateDir(_)), "{third}");
    let (ours, theirs) = (pids(&first), pids(&second));
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    first.stop_system(PATIENCE).await;
    assert!(ours.iter().all(|pid| !lives(*pid)));
    assert_eq!(second.status().modules.running, 3);
    assert_eq!(pids(&second), theirs, "the second did not notice");
    second.stop_system(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_child_of_the_application_keeps_its_exit_status() {
    let start = |code: u32| -> Child {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("read line; exit {code}")])
            .stdin(Stdio::piped());
        command.spawn().expect("a shell")
    };
    let dir = prepare("", &pair());
    let mut before = start(7);
    let mainstay = builder(&dir).start().await.expect("it starts");
    mainstay.wait_started().await.expect("up");
    let mut during = start(9);
    drop((before.stdin.take(), during.stdin.take()));
    // It is a zombie now, and mainstay waits for children of its own at the same time.
    assert!(wait_for("its end", || (!lives(during.id())).then_some(())).is_some());
    mainstay.restart_module("top").await.expect("granted");
    assert_eq!(before.wait().expect("ours").code(), Some(7));
    assert_eq!(during.wait().expect("ours").code(), Some(9));
    mainstay.stop_system(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_are_stopped_when_the_last_handle_is_dropped() {
    let dir = prepare("", &pair());
    let cancelled = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&cancelled);
    let mainstay = builder(&dir)
        .task("own", move |ctx| {
            let told = Arc::clone(&told);
            async move {
                ctx.cancelled().await;
                told.store(true, SeqCst);
                Ok(())
            }
        })
        .start()
        .await
        .expect("it starts");
    mainstay.wait_started().await.expect("up");
    let processes = pids(&mainstay);
    let clone = mainstay.clone();
    drop(mainstay);
    assert_eq!(clone.status().modules.running, 3, "a handle is left");
    drop(clone);
    processes.into_iter().for_each(gone);
    assert!(wait_for("the task", || cancelled.load(SeqCst).then_some(())).is_some());
}

#[test]
fn modules_end_when_the_applications_tokio_runtime_ends() {
    let dir = prepare("", &pair());
    let tokio = tokio::runtime::Runtime::new().expect("a tokio runtime");
    let (mainstay, processes) = tokio.block_on(async {
        let mainstay = builder(&dir).start().await.expect("it starts");
        mainstay.wait_started().await.expect("up");
        let processes = pids(&mainstay);
        (mainstay, processes)
    });
    assert_eq!(processes.len(), 2);
    drop(tokio);
    assert!(
        processes.iter().all(|pid| !lives(*pid)),
        "a process outlived its application"
    );
    drop(mainstay);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_of_an_embedded_runtime_answers_the_client() {
    let dir = prepare("", &pair());
    let mainstay = builder(&dir)
        .task("own", |ctx| async move {
            ctx.cancelled().await;
            Ok(())
        })
        .start()
        .await
        .expect("it starts");
    mainstay.wait_started().await.expect("up");
    let socket = dir.path().join("run/control.sock");
    let asked = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(socket)?;
        Ok::<_, mainstay_client::Error>((client.status()?, client.module("own")?))
    });
    let (status, own) = asked.await.expect("no panic").expect("it answers");
    assert_eq!(status.modules.running, 3);
    assert_eq!((own.state, own.pid), (ModuleState::Running, None));
    let config = dir.path().join("config");
    let printed = tokio::task::spawn_blocking(move || cli(&["status"], &config)).await;
    let printed = printed.expect("no panic");
    assert!(
        printed.contains("own") && printed.contains("top"),
        "{printed}"
    );
    let events = mainstay
        .events(EventsParams::default())
        .await
        .expect("a journal");
    assert!(
        events
            .iter()
            .any(|event| event.kind == EventKind::RuntimeStarted)
    );
    mainstay.stop_system(PATIENCE).await;
}

fn cli(words: &[&str], config: &Path) -> String {
    let mut command = Command::new(crate::daemon::binary());
    let output = command
        .args(words)
        .arg("--config")
        .arg(config)
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_module_without_a_command_needs_a_task_and_a_task_has_no_command() {
    let dir = prepare("", "[module.ghost]\n");
    let error = builder(&dir).start().await.expect_err("nobody runs it");
    assert!(matches!(error, StartError::Configuration(_)), "{error}");
    assert!(
        error.to_string().contains("ghost: it has no command"),
        "{error}"
    );
    let dir = prepare(
        "",
        "[module.own]\ncommand = [\"true\"]\nready = { log = \"up\" }\n",
    );
    let error = builder(&dir)
        .task("own", |_ctx| async { Ok(()) })
        .start()
        .await;
    let text = error.expect_err("it cannot be both").to_string();
    assert!(
        text.contains("module.own.command") && text.contains("module.own.ready"),
        "{text}"
    );
    let same = |_ctx| async { Ok(()) };
    let error = builder(&dir).task("a", same).task("a", same).start().await;
    assert!(matches!(error, Err(StartError::DuplicateTask(name)) if name == "a"));
}

#[tokio::test]
async fn a_failed_first_start_is_told_with_its_reason() {
    let dir = prepare("", "[module.own]\nrecovery = { restart = \"never\" }\n");
    let mainstay = builder(&dir)
        .task("own", |_ctx| async { Err("no index to be found".into()) })
        .start()
        .await
        .expect("it begins");
    // It runs for a moment, which is all that `ready = \"started\"` asks; what needs it would not.
    let view = until(&mainstay, "own", "to be failed", |view| {
        view.state == ModuleState::Failed
    })
    .await;
    assert_eq!(
        view.last_exit.expect("it failed").text,
        "failed: no index to be found"
    );
    mainstay.stop_system(PATIENCE).await;
    let dir = prepare(
        "",
        "[module.own]\nready = { notify = true }\nstartup_timeout = \"50ms\"\n\
                           recovery = { restart = \"never\" }\n",
    );
    let mainstay = builder(&dir)
        .task("own", |ctx| async move {
            ctx.cancelled().await;
            Ok(())
        })
        .start()
        .await
        .expect("it begins");
    let refusal = mainstay
        .wait_started()
        .await
        .expect_err("it is never ready");
    assert!(
        refusal
            .message
            .contains("own failed: it was not ready in time"),
        "{refusal}"
    );
    let outcome = tokio::time::timeout(PATIENCE, mainstay.wait_ended())
        .await
        .expect("it ends");
    assert_eq!(outcome.failure.as_deref(), Some(refusal.message.as_str()));
}

/// What an orphan of a module, in a session of its own, is told without a token by an application.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_of_a_module_gets_no_more_than_a_module_in_an_application_either() {
    let dir = prepare("", "");
    let folder = dir.path().display().to_string();
    let socket = format!("{folder}/run/control.sock");
    let (mainstay, attack) = (crate::daemon::binary(), format!("{folder}/attack.sh"));
    let text = format!(
        "until [ -S {socket} ]; do sleep 0.02; done\n\
         for request in 'stop other' down; do\n\
         {mainstay} $request --socket {socket} >>{folder}/words 2>&1; echo $? >>{folder}/new; done\n\
         mv {folder}/new {folder}/codes\n"
    );
    std::fs::write(&attack, text).expect("a script");
    let script = format!("setsid setsid --fork sh {attack}; exec sleep 600");
    let path = dir.path().join("config/mainstay.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let modules = format!(
        "[module.orphaning]\ncommand = [\"sh\", \"-c\", {script:?}]\n[module.other]\ncommand = {}\n",
        misbehave("")
    );
    std::fs::write(&path, text + &modules).expect("written");
    let runtime = builder(&dir).start().await.expect("it starts");
    let codes = wait_for("the answers", || {
        std::fs::read_to_string(dir.path().join("codes")).ok()
    });
    let words = std::fs::read_to_string(dir.path().join("words")).unwrap_or_default();
    assert_eq!(codes.as_deref(), Some("4\n4\n"), "{words}");
    assert_eq!(
        runtime.module("other").expect("it exists").state,
        ModuleState::Running
    );
    runtime.stop_system(PATIENCE).await;
}
