//! Deadlines over the death of an actor, or of a whole runtime before this one.
//! Owns the stories of who has how much time left. Never waits for real time.

use super::*;
use crate::actors::lifecycle::LifecycleMsg;
use mainstay_policy::lifecycle::Operation;

/// Kills an actor and waits for the next one of its name.
async fn replaced(rig: &Rig, name: &str) {
    let of_that_name = |rig: &Rig| {
        let mut actors = rig.actors().into_iter();
        let found = actors.find(|(called, _)| called == name);
        found.expect("it is there").1
    };
    let old = of_that_name(rig);
    old.kill();
    rig.until("a new actor", |rig| {
        of_that_name(rig).get_id() != old.get_id()
    })
    .await;
}

/// Requests a change of a module, and does not wait for it.
fn request(rig: &Rig, module: &str, operation: Operation) {
    let module = rig.ctx.find(module).expect("known");
    let (requester, (published, _)) = ("a test".to_owned(), oneshot::channel());
    rig.ctx.actor_refs.lifecycle.cast(LifecycleMsg::Requested {
        module,
        operation,
        requester,
        published,
    });
}

async fn ends(rig: &mut Rig) -> Duration {
    let began = tokio::time::Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(600), &mut rig.end).await;
    end.expect("it ends").expect("it says how");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_start_keeps_its_deadline_when_its_actor_is_new() {
    let module = "[module.a]\ncommand = [\"a\"]\nstart = \"lazy\"\nready = { notify = true }\n\
                  startup_timeout = \"30s\"\n";
    let rig = Rig::start(module).await;
    request(&rig, "a", Operation::Start);
    rig.until("its start", |rig| rig.state("a") == ModuleState::Starting)
        .await;
    let began = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    replaced(&rig, "module a").await;
    rig.until("its end", |rig| {
        rig.os.deeds().iter().any(|deed| deed == "signal a 15")
    })
    .await;
    let took = began.elapsed().as_secs();
    assert!((29..32).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_stop_keeps_its_deadline_when_an_actor_is_new() {
    for actor in ["module deaf", "lifecycle"] {
        let module = "[module.deaf]\ncommand = [\"deaf\"]\nshutdown_timeout = \"10s\"\n";
        let rig = Rig::start(module).await;
        request(&rig, "deaf", Operation::Stop);
        rig.until("its stop", |rig| rig.state("deaf") == ModuleState::Stopping)
            .await;
        let began = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(7)).await;
        replaced(&rig, actor).await;
        rig.until("its end", |rig| rig.state("deaf") == ModuleState::Stopped)
            .await;
        let took = began.elapsed();
        let expected = Duration::from_secs(9)..Duration::from_secs(11);
        assert!(
            expected.contains(&took),
            "{took:?} after the death of {actor}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_found_running_is_looked_at_after_an_interval() {
    let module = "[module.a]\ncommand = [\"a\"]\n\
                  [module.a.health]\nprobes = [{ exec = [\"look\"], interval = \"10s\" }]\n";
    let rig = Rig::start(module).await;
    let looks = |rig: &Rig| {
        let deeds = rig.os.deeds();
        deeds.iter().filter(|deed| *deed == "command a").count()
    };
    rig.until("the first look", |rig| looks(rig) == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    replaced(&rig, "health").await;
    tokio::time::sleep(Duration::from_millis(9_500)).await;
    assert_eq!(looks(&rig), 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(looks(&rig), 2);
}

const DEAF: &str = "shutdown_timeout = \"20s\"\n\
    [module.deaf-a]\ncommand = [\"a\"]\nshutdown_timeout = \"20s\"\n\
    [module.deaf-b]\ncommand = [\"b\"]\nshutdown_timeout = \"20s\"\nrequires = [\"deaf-a\"]\n";

#[tokio::test(start_paused = true)]
async fn a_stop_goes_on_with_the_time_that_the_one_before_left() {
    let mut rig = Rig::start(DEAF).await;
    // Five seconds of it are the holder's.
    let left = Some(Duration::from_secs(9));
    let asked = rig.os.facts.try_send(OsEvent::StopRequested { left });
    asked.expect("the router listens");
    let took = ends(&mut rig).await;
    assert!(took <= Duration::from_secs(4), "{took:?}");
    let asked = ["signal deaf-b 15", "kill deaf-b", "signal deaf-a 15"];
    assert_eq!(rig.os.deeds()[2..5], asked, "nobody is killed unasked");
}

#[tokio::test(start_paused = true)]
async fn a_new_lifecycle_shares_out_what_is_left_of_a_stop() {
    let mut rig = Rig::start(DEAF).await;
    let asked = rig.os.facts.try_send(OsEvent::StopRequested { left: None });
    asked.expect("the router listens");
    tokio::time::sleep(Duration::from_secs(8)).await;
    replaced(&rig, "lifecycle").await;
    let took = ends(&mut rig).await;
    assert!(took <= Duration::from_secs(12), "{took:?}");
}
