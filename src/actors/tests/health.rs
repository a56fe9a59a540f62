//! Probes over a fake machine: what counts as a failure, and what follows from it.
//! Owns the stories of hanging commands, debuggers and sleeping machines. Never waits for real time.

use super::*;
use mainstay_protocol::HealthStatus;

const PROBED: &str = "[recovery]\nbackoff = { initial = \"1s\" }\n\
    [module.a]\ncommand = [\"a\"]\n[module.a.health]\nprobes = [{ exec = [\"look\"], \
    interval = \"10s\", timeout = \"2s\", adaptive = false }]\n";

fn instance(name: &str) -> Instance {
    Instance::new(name, 1)
}

fn outcome(rig: &Rig, outcome: CommandOutcome) {
    *rig.os.outcome.lock().expect("whole") = outcome;
}

fn health(rig: &Rig, name: &str) -> HealthStatus {
    let id = rig.ctx.find(name).expect("known");
    rig.ctx.snapshots.module(id).health.status
}

fn spawns(rig: &Rig, name: &str) -> usize {
    let deeds = rig.os.deeds();
    let begin = format!("spawn {name} ");
    deeds.iter().filter(|deed| deed.starts_with(&begin)).count()
}

fn commands(rig: &Rig) -> usize {
    let deeds = rig.os.deeds();
    deeds.iter().filter(|deed| *deed == "command a").count()
}

async fn well(rig: &Rig) {
    rig.until("it to be healthy", |rig| {
        health(rig, "a") == HealthStatus::Healthy
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_be_killed_fails_at_its_timeout_and_is_not_started_again() {
    let rig = Rig::start(PROBED).await;
    well(&rig).await;
    let before = commands(&rig);
    outcome(&rig, CommandOutcome::Hangs);
    rig.until("the restart", |rig| spawns(rig, "a") == 2).await;
    // One of this run, and perhaps the first one of the next.
    assert!(commands(&rig) <= before + 2, "{:?}", rig.os.deeds());
}

#[tokio::test(start_paused = true)]
async fn what_a_failing_command_printed_is_kept() {
    let rig = Rig::start(PROBED).await;
    well(&rig).await;
    outcome(&rig, CommandOutcome::Fails);
    rig.until("a failure", |rig| {
        health(rig, "a") == HealthStatus::Degraded
    })
    .await;
    let id = rig.ctx.find("a").expect("known");
    let info = Arc::clone(&rig.ctx.snapshots.module(id).health);
    assert_eq!(info.output(), Some("first\nbroken\n"));
    assert_eq!(info.issues, ["`look`: exit code 1: broken"]);
    assert!(info.last_check.is_some());
    assert_eq!(info.probes[0].failures, 1);
}

#[tokio::test(start_paused = true)]
async fn probes_pause_while_a_debugger_holds_the_process() {
    let rig = Rig::start(PROBED).await;
    well(&rig).await;
    let hold = Some(RunHold::Debugger);
    rig.os
        .holds
        .lock()
        .expect("whole")
        .extend(hold.map(|hold| (instance("a"), hold)));
    outcome(&rig, CommandOutcome::Fails);
    let before = commands(&rig);
    tokio::time::sleep(Duration::from_hours(3)).await;
    assert_eq!((spawns(&rig, "a"), commands(&rig)), (1, before));
    let id = rig.ctx.find("a").expect("known");
    let paused = rig.ctx.snapshots.module(id).health.probes[0].paused.clone();
    assert_eq!(paused.as_deref(), Some("a debugger holds its main process"));
    rig.os.holds.lock().expect("whole").clear();
    rig.until("the restart", |rig| spawns(rig, "a") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_mainstay_stops_for_a_part_of_the_time_is_excused_and_a_hang_of_it_is_noticed() {
    let rig = Rig::start(PROBED).await;
    well(&rig).await;
    rig.os
        .holds
        .lock()
        .expect("whole")
        .insert(instance("a"), RunHold::Frozen);
    outcome(&rig, CommandOutcome::Fails);
    let began = tokio::time::Instant::now();
    rig.until("the restart", |rig| spawns(rig, "a") == 2).await;
    assert!(
        began.elapsed() >= Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_of_the_machine_every_probe_gets_a_whole_interval() {
    let rig = Rig::start(PROBED).await;
    well(&rig).await;
    outcome(&rig, CommandOutcome::Fails);
    rig.until("two failures", |rig| {
        let id = rig.ctx.find("a").expect("known");
        rig.ctx.snapshots.module(id).health.probes[0].failures == 2
    })
    .await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    *rig.os.slept.lock().expect("whole") = Duration::from_hours(8);
    let before = commands(&rig);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(commands(&rig), before, "not at once after it");
    outcome(&rig, CommandOutcome::Succeeds);
    well(&rig).await;
    assert_eq!(spawns(&rig, "a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_readiness_probe_keeps_dependents_waiting_and_restarts_nothing() {
    let modules = PROBED.replace("interval", "role = \"readiness\", interval");
    let modules = modules.replace(
        "[module.a]",
        "[module.b]\ncommand = [\"b\"]\nrequires = [\"a\"]\nstart = \"lazy\"\n[module.a]",
    );
    let rig = Rig::start(&modules).await;
    well(&rig).await;
    outcome(&rig, CommandOutcome::Fails);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(
        (spawns(&rig, "a"), health(&rig, "a")),
        (1, HealthStatus::Degraded)
    );
    let (published, _) = oneshot::channel();
    let lifecycle = &rig.ctx.actor_refs.lifecycle;
    lifecycle.cast(super::super::lifecycle::LifecycleMsg::Requested {
        module: rig.ctx.find("b").expect("known"),
        operation: mainstay_policy::lifecycle::Operation::Start,
        requester: "a test".to_owned(),
        published,
    });
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(rig.state("b"), ModuleState::Waiting);
    outcome(&rig, CommandOutcome::Succeeds);
    rig.until("b to run", |rig| rig.state("b") == ModuleState::Running)
        .await;
}
