//! Another plan while modules run: the actors of new modules start, those of others follow.

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{ChangeClass, ReplanError};
use mainstay_policy::plan::Plan;
use mainstay_protocol::method::EventsParams;

use super::*;
use crate::actors::lifecycle::LifecycleMsg;
use crate::actors::lifecycle::replan::Replan;
use crate::actors::root::RootMsg;
use crate::config::load_onto;

const TWO_CHANGED: &str =
    "[module.a]\ncommand = [\"a\"]\n[module.b]\ncommand = [\"changed\"]\nrequires = [\"a\"]\n";
const ADDED_IN_FRONT: &str = "[module.0a]\ncommand = [\"x\"]\n[module.a]\ncommand = [\"a\"]\n\
     [module.b]\ncommand = [\"b\"]\nrequires = [\"a\"]\n";
const ONLY_A: &str = "[module.a]\ncommand = [\"a\"]\n";

impl Rig {
    fn id(&self, name: &str) -> ModuleId {
        self.ctx.find(name).expect("a module of the plan")
    }

    /// The messages of the events about modules that a plan added or removed.
    fn membership(&self) -> Vec<String> {
        let journal = self.ctx.recorder.journal();
        assert!(journal.flush(Duration::from_secs(5)), "written");
        let events = journal.read(&EventsParams::default()).expect("readable");
        let kinds = [EventKind::ModuleAdded, EventKind::ModuleRemoved];
        let events = events.iter().filter(|event| kinds.contains(&event.kind));
        events.map(crate::journal::describe).collect()
    }

    /// Brings the modules to the plan of `text`.
    async fn replan(
        &self,
        number: u64,
        text: &str,
        changes: &[(&str, ChangeClass)],
    ) -> Result<(), ReplanError> {
        let path = self._dir.path().join("mainstay.toml");
        let head = std::fs::read_to_string(&path).expect("the configuration");
        let head = head.split("[module").next().unwrap_or_default();
        std::fs::write(&path, format!("{head}{text}")).expect("a file");
        let old = self.ctx.planned();
        let configuration = load_onto(&ConfigSources::folder(self._dir.path()), &old.configuration);
        let configuration = configuration.expect("a good configuration");
        let specs = configuration.modules.iter().map(|(spec, _)| spec.clone());
        let plan = Plan::new(number, configuration.system_spec.clone(), specs).expect("a plan");
        let changes = changes
            .iter()
            .map(|(name, class)| (plan.find(name).expect("a module"), *class));
        let changes = changes.collect();
        let planned = old.next(Arc::new(configuration), Arc::new(plan));
        let (result, done) = oneshot::channel();
        let replan = Box::new(Replan {
            events: Vec::new(),
            planned,
            changes,
            found: Vec::new(),
            result,
        });
        self.ctx.actor_refs.root.cast(RootMsg::Replan(replan));
        done.await.expect("the lifecycle answers")
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_module_starts_and_the_ids_of_others_stay() {
    let rig = Rig::start(TWO).await;
    let (a, b) = (rig.id("a"), rig.id("b"));
    let before = rig.os.deeds();
    rig.replan(2, ADDED_IN_FRONT, &[]).await.expect("accepted");
    rig.until("the new module to run", |rig| {
        rig.state("0a") == ModuleState::Running
    })
    .await;
    assert_eq!((rig.id("a"), rig.id("b")), (a, b));
    let deeds = rig.os.deeds();
    assert_eq!(deeds[before.len()..], ["spawn 0a 1".to_owned()]);
    assert_eq!(rig.ctx.plan().number(), 2);
    assert_eq!(rig.membership(), ["0a was added by plan 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_module_is_restarted_with_its_new_command_alone() {
    let rig = Rig::start(TWO).await;
    let before = rig.os.deeds();
    let changes = [("b", ChangeClass::Restart)];
    rig.replan(2, TWO_CHANGED, &changes)
        .await
        .expect("accepted");
    let restarted = |rig: &Rig| {
        let now = rig.ctx.snapshots.module(rig.id("b"));
        now.lifecycle.info.generation == 2 && rig.state("b") == ModuleState::Running
    };
    rig.until("the new run", restarted).await;
    assert_eq!(rig.ctx.launch(rig.id("b")).argv, ["changed"]);
    let touched = rig.os.deeds()[before.len()..].join(", ");
    assert!(!touched.contains(" a "), "{touched}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_module_is_stopped_and_forgotten() {
    let rig = Rig::start(TWO).await;
    rig.replan(2, ONLY_A, &[]).await.expect("accepted");
    rig.until("the module to stop", |rig| rig.ctx.find("b").is_none())
        .await;
    assert!(!rig.os.deeds().contains(&"forget b".to_owned()), "not yet");
    rig.ctx.actor_refs.lifecycle.cast(LifecycleMsg::Commit);
    rig.until("the module to be forgotten", |rig| {
        rig.os.deeds().contains(&"forget b".to_owned())
    })
    .await;
    assert_eq!(rig.ctx.find("b"), None);
    assert_eq!(rig.membership(), ["b was removed by plan 2"]);
    assert_eq!(rig.state("a"), ModuleState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_not_newer_changes_nothing() {
    let rig = Rig::start(TWO).await;
    let before = rig.os.deeds();
    let refused = rig.replan(1, ONLY_A, &[]).await;
    assert_eq!(refused, Err(ReplanError::Superseded { newest: 1 }));
    assert_eq!(rig.ctx.plan().number(), 1);
    assert_eq!(rig.os.deeds(), before);
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_dies_after_a_change_comes_back_under_the_new_plan() {
    let rig = Rig::start(TWO).await;
    rig.replan(2, ADDED_IN_FRONT, &[]).await.expect("accepted");
    rig.until("the new module to run", |rig| {
        rig.state("0a") == ModuleState::Running
    })
    .await;
    let before = rig.os.deeds();
    for name in ["lifecycle", "health", "registry", "module 0a"] {
        let cell = rig.actors().into_iter().find(|(actor, _)| actor == name);
        cell.expect("an actor").1.kill();
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    assert_eq!(rig.state("0a"), ModuleState::Running);
    assert_eq!(rig.os.deeds(), before);
}
