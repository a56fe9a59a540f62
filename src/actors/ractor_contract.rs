//! What the actors rely on in ractor, as tests: an upgrade that changes a fact fails here, loudly.
//! Owns two small actors, a parent that tells what it hears and a child that does what it is told.
//! Never tests our own actors. A fact that changed for the better is a reason to look at its rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{
    Actor, ActorProcessingErr, ActorRef, ActorStatus, MessagingErr, RpcReplyPort, SpawnErr,
    SupervisionEvent,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Events and answers come at once; what takes this long does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a child leaves behind for the test to read.
#[derive(Debug, Default)]
struct Notes {
    counted: AtomicUsize,
    post_stops: AtomicUsize,
}

impl Notes {
    fn counted(&self) -> usize {
        self.counted.load(Ordering::SeqCst)
    }

    fn post_stops(&self) -> usize {
        self.post_stops.load(Ordering::SeqCst)
    }
}

enum ChildMsg {
    Panic,
    Fail,
    Count,
    /// Counts, then answers once the gate has a permit.
    Hold(Arc<Semaphore>, RpcReplyPort<()>),
    Ask(RpcReplyPort<usize>),
}

struct Child;

impl Actor for Child {
    type Msg = ChildMsg;
    type State = Arc<Notes>;
    type Arguments = Option<Arc<Notes>>;

    async fn pre_start(
        &self,
        _: ActorRef<ChildMsg>,
        notes: Option<Arc<Notes>>,
    ) -> Result<Arc<Notes>, ActorProcessingErr> {
        notes.ok_or_else(|| "refused".into())
    }

    async fn handle(
        &self,
        _: ActorRef<ChildMsg>,
        msg: ChildMsg,
        notes: &mut Arc<Notes>,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ChildMsg::Panic => panic!("on request"),
            ChildMsg::Fail => return Err("on request".into()),
            ChildMsg::Count => {
                notes.counted.fetch_add(1, Ordering::SeqCst);
            }
            ChildMsg::Hold(gate, reply) => {
                notes.counted.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await?.forget();
                let _nobody_waits = reply.send(());
            }
            ChildMsg::Ask(reply) => {
                let _nobody_waits = reply.send(notes.counted());
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<ChildMsg>,
        notes: &mut Arc<Notes>,
    ) -> Result<(), ActorProcessingErr> {
        notes.post_stops.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// What a parent heard, as far as the ctx looks at it.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Started,
    Failed(String),
    Ended {
        with_state: bool,
        reason: Option<String>,
    },
    Other,
}

fn ended_with_state(reason: &str) -> Heard {
    Heard::Ended {
        with_state: true,
        reason: Some(reason.to_owned()),
    }
}

/// Answers pings and passes on what it hears of its children.
struct Parent;

impl Actor for Parent {
    type Msg = RpcReplyPort<()>;
    type State = mpsc::Sender<Heard>;
    type Arguments = mpsc::Sender<Heard>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        to: mpsc::Sender<Heard>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(to)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        ping: RpcReplyPort<()>,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(ping.send(())?)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        to: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        to.try_send(match event {
            SupervisionEvent::ActorStarted(_) => Heard::Started,
            SupervisionEvent::ActorFailed(_, error) => Heard::Failed(error.to_string()),
            SupervisionEvent::ActorTerminated(_, state, reason) => Heard::Ended {
                with_state: state.is_some(),
                reason,
            },
            SupervisionEvent::ProcessGroupChanged(_) => Heard::Other,
        })?;
        Ok(())
    }
}

/// A parent, and what it hears.
struct Family {
    parent: ActorRef<RpcReplyPort<()>>,
    task: JoinHandle<()>,
    heard: mpsc::Receiver<Heard>,
}

impl Family {
    async fn new() -> Family {
        let (to, heard) = mpsc::channel(64);
        let (parent, task) = Actor::spawn(None, Parent, to).await.expect("a parent");
        Family {
            parent,
            task,
            heard,
        }
    }

    /// A child that runs; that it started was heard.
    async fn child(&mut self, notes: &Arc<Notes>) -> (ActorRef<ChildMsg>, JoinHandle<()>) {
        let parent = self.parent.get_cell();
        let child = Actor::spawn_linked(None, Child, Some(Arc::clone(notes)), parent).await;
        assert_eq!(self.hear().await, Heard::Started);
        child.expect("a child")
    }

    async fn hear(&mut self) -> Heard {
        let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        heard.expect("an event").expect("a parent that lives")
    }
}

async fn a_child() -> (ActorRef<ChildMsg>, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let (child, _task) = Actor::spawn(None, Child, Some(Arc::clone(&notes)))
        .await
        .expect("a child");
    (child, notes)
}

/// Everything cast before this is handled after it.
async fn settled(child: &ActorRef<ChildMsg>) -> usize {
    match child.call(ChildMsg::Ask, Some(PATIENCE)).await {
        Ok(CallResult::Success(counted)) => counted,
        Ok(_) => panic!("no answer"),
        Err(error) => panic!("not delivered: {error}"),
    }
}

/// Fact 1: first work belongs into a message to self, not into `pre_start`.
#[tokio::test]
async fn a_failed_pre_start_is_told_to_the_caller_alone() {
    let mut family = Family::new().await;
    let spawned = Actor::spawn_linked(None, Child, None, family.parent.get_cell()).await;
    let error = spawned.expect_err("it refuses");
    assert!(matches!(error, SpawnErr::StartupFailed(_)), "{error:?}");
    let pong = family.parent.call(|ping| ping, Some(PATIENCE)).await;
    assert!(matches!(pong, Ok(CallResult::Success(()))));
    // Supervision comes before messages: what was to be heard was heard before the answer.
    assert!(family.heard.try_recv().is_err());
}

/// Facts 2 and 3: root need not tell them apart.
#[tokio::test]
async fn a_panic_and_an_error_in_handle_are_both_a_failure() {
    let (mut family, notes) = (Family::new().await, Arc::new(Notes::default()));
    for msg in [ChildMsg::Panic, ChildMsg::Fail] {
        let (child, task) = family.child(&notes).await;
        child.cast(msg).expect("delivered");
        let Heard::Failed(text) = family.hear().await else {
            panic!("not a failure");
        };
        assert!(text.contains("on request"), "{text}");
        task.await.expect("the task itself does not panic");
    }
    assert_eq!(notes.post_stops(), 0, "no clean-up after a panic or error");
}

/// Facts 4, 5 and 6: the reason is a text, so root keeps its own list of who is who.
#[tokio::test]
async fn kill_stop_and_drain_differ_by_text_alone() {
    let (mut family, notes) = (Family::new().await, Arc::new(Notes::default()));
    let (child, _task) = family.child(&notes).await;
    child.kill();
    let heard = family.hear().await;
    assert!(
        matches!(&heard, Heard::Ended { reason: Some(text), .. } if text == "killed"),
        "{heard:?}"
    );
    assert_eq!(notes.post_stops(), 0, "no clean-up after a kill");

    let (child, _task) = family.child(&notes).await;
    child.stop(Some("bye".to_owned()));
    // The state rides along: what it owns lives until the event is dropped.
    assert_eq!(family.hear().await, ended_with_state("bye"));
    assert_eq!(notes.post_stops(), 1);

    let (child, _task) = family.child(&notes).await;
    child.cast(ChildMsg::Count).expect("delivered");
    child.drain().expect("delivered");
    assert_eq!(family.hear().await, ended_with_state("Drained"));
    assert_eq!((notes.counted(), notes.post_stops()), (1, 2));
}

/// Fact 7: a command may be lost, so wishes are repeatable and state is rebuilt.
#[tokio::test]
async fn stop_lets_the_running_handler_end_and_drops_what_is_queued() {
    let (child, notes) = a_child().await;
    let gate = Arc::new(Semaphore::new(0));
    let hold = |gate: &Arc<Semaphore>| {
        let (child, gate) = (child.clone(), Arc::clone(gate));
        tokio::spawn(async move {
            let ask = |reply| ChildMsg::Hold(gate, reply);
            child.call(ask, Some(PATIENCE)).await.map_err(drop)
        })
    };
    let running = hold(&gate);
    while notes.counted() == 0 {
        tokio::task::yield_now().await;
    }
    let queued = hold(&gate);
    tokio::task::yield_now().await;
    child.stop(None);
    gate.add_permits(2);
    let (running, queued) = (running.await, queued.await);
    assert!(matches!(running, Ok(Ok(CallResult::Success(())))));
    assert!(matches!(queued, Ok(Ok(CallResult::SenderError))));
    assert_eq!(notes.counted(), 1);
}

/// Fact 8: two runtimes may live in one process, so no actor of ours has a name.
#[tokio::test]
async fn a_name_is_taken_for_the_whole_process() {
    let notes = Arc::new(Notes::default());
    let name = || Some("ractor-contract".to_owned());
    let first = Actor::spawn(name(), Child, Some(Arc::clone(&notes))).await;
    let (first, task) = first.expect("the name is free");
    let second = Actor::spawn(name(), Child, Some(notes)).await;
    let refused = matches!(second, Err(SpawnErr::ActorAlreadyRegistered(_)));
    first.kill();
    task.await.expect("ended");
    assert!(refused);
}

/// Fact 9: the ordered stop is ours; ractor's is only the last net.
#[tokio::test]
async fn the_end_of_a_parent_kills_its_children_without_post_stop() {
    let (mut family, notes) = (Family::new().await, Arc::new(Notes::default()));
    let mut children = Vec::new();
    for _ in 0..5 {
        children.push(family.child(&notes).await);
    }
    family.parent.stop(None);
    family.task.await.expect("ended");
    for (child, task) in children {
        let in_time = tokio::time::timeout(PATIENCE, task).await;
        let _cancelled_or_ended = in_time.expect("it ends with its parent");
        assert_eq!(child.get_status(), ActorStatus::Stopped);
    }
    assert_eq!(notes.post_stops(), 0);
}

/// Fact 10: the bound is ours, by credits.
#[tokio::test]
async fn a_mailbox_has_no_bound() {
    const MANY: usize = 100_000;
    let (child, notes) = a_child().await;
    // Nothing here awaits: the child cannot run in between.
    for _ in 0..MANY {
        child.cast(ChildMsg::Count).expect("accepted");
    }
    assert_eq!(notes.counted(), 0);
    assert_eq!(settled(&child).await, MANY);
    child.kill();
}

/// Why there are actor references: a reference of the wrong type is found out when it is used.
#[tokio::test]
async fn a_reference_of_another_type_refuses_to_send() {
    let (child, _notes) = a_child().await;
    let wrong: ActorRef<u8> = child.get_cell().into();
    let sent = wrong.cast(1);
    assert!(matches!(sent, Err(MessagingErr::InvalidActorType)));
    assert_eq!(settled(&child).await, 0, "and nobody was hurt");
    child.kill();
}

/// Why every order carries a generation: who gave up waiting did not take the order back.
#[tokio::test(start_paused = true)]
async fn a_call_that_timed_out_is_still_handled() {
    let (child, notes) = a_child().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let short = Some(Duration::from_millis(10));
    let late = child.call(|reply| ChildMsg::Hold(held, reply), short).await;
    assert!(matches!(late, Ok(CallResult::Timeout)));
    let late = child.call(ChildMsg::Ask, short).await;
    assert!(matches!(late, Ok(CallResult::Timeout)));
    child.cast(ChildMsg::Count).expect("queued behind both");
    gate.add_permits(1);
    assert_eq!(settled(&child).await, 2);
    assert_eq!(notes.counted(), 2);
    child.kill();
}

/// Why there is `DeadlineTimer`: after a stall every missed tick is delivered.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "shows why it is disallowed")]
async fn an_interval_bursts_after_a_stall() {
    let (child, notes) = a_child().await;
    let ticks = child.send_interval(Duration::from_millis(10), || ChildMsg::Count);
    tokio::time::sleep(Duration::from_millis(25)).await;
    let before = settled(&child).await;
    tokio::time::advance(Duration::from_secs(2)).await;
    while notes.counted() < before + 190 {
        tokio::task::yield_now().await;
    }
    ticks.abort();
    child.kill();
}

/// Why `DeadlineTimer` aborts on drop: ractor's timers do not.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "shows why it is disallowed")]
async fn a_dropped_timer_still_fires_and_an_aborted_one_does_not() {
    let (child, _notes) = a_child().await;
    drop(child.send_after(Duration::from_millis(20), || ChildMsg::Count));
    let aborted = child.send_after(Duration::from_millis(20), || ChildMsg::Count);
    aborted.abort();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(settled(&child).await, 1);
    child.kill();
}

/// Why actor tests take no time: ractor's clock is tokio's.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the timer is what is tested")]
async fn a_paused_clock_passes_a_day_at_once() {
    let (child, _notes) = a_child().await;
    let day = Duration::from_secs(86_400);
    let begun = tokio::time::Instant::now();
    let fired = child.send_after(day, || ChildMsg::Count).await;
    assert!(fired.expect("ran").is_ok());
    assert!(begun.elapsed() >= day);
    assert_eq!(settled(&child).await, 1);
    child.kill();
}

/// Why readers get snapshots, and followers a bounded channel that counts what it dropped.
#[tokio::test]
#[expect(clippy::disallowed_types, reason = "shows why it is disallowed")]
async fn an_output_port_loses_what_a_subscriber_is_behind() {
    let (child, _notes) = a_child().await;
    let port = ractor::OutputPort::<u32>::default();
    port.subscribe(child.clone(), |_| Some(ChildMsg::Count));
    tokio::task::yield_now().await;
    for number in 0..100 {
        port.send(number);
    }
    drop(port);
    // It forwards in a task of its own: some turns of this one thread are enough for all it has.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let delivered = settled(&child).await;
    assert!((1..100).contains(&delivered), "{delivered}");
    child.kill();
}
