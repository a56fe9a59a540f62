//! Reloads through the actors: applied, watched, committed or rolled back, and never half.
//! Owns a folder with a configuration that each test edits.
//! Never waits for real time but for the files.

use mainstay_protocol::method::EventsParams;
use serde_json::Value;

use super::*;
use crate::actors::config::edit::ConfigEdit;
use crate::actors::config::{ConfigMsg, ReloadOutcome, ReloadRefusal, ReloadReply, ReloadRequest};
use crate::actors::lifecycle::LifecycleMsg;
use crate::plan_store::PlanStore;

pub(super) const CHANGED: &str =
    "[module.a]\ncommand = [\"a\"]\n[module.b]\ncommand = [\"changed\"]\nrequires = [\"a\"]\n";
const ONLY_A: &str = "[module.a]\ncommand = [\"a\"]\n";

type Reply = Result<ReloadReply, ReloadRefusal>;

impl Rig {
    fn edit(&self, modules: &str) {
        let path = self._dir.path().join("mainstay.toml");
        let head = std::fs::read_to_string(&path).expect("the configuration");
        let head = head.split("[module").next().unwrap_or_default();
        std::fs::write(&path, format!("{head}{modules}")).expect("a file");
    }

    /// Requests a reload as a person.
    async fn reload(&self) -> (Reply, oneshot::Receiver<ReloadOutcome>) {
        self.request(None).await
    }

    /// Requests a change as a person; None: what the files say.
    pub(super) async fn request(
        &self,
        edit: Option<ConfigEdit>,
    ) -> (Reply, oneshot::Receiver<ReloadOutcome>) {
        let (reply, replied) = oneshot::channel();
        let (outcome, becomes) = oneshot::channel();
        let request = ReloadRequest {
            edit,
            reply: Some(reply),
            outcome: Some(outcome),
            ..ReloadRequest::by("ann")
        };
        let config = &self.ctx.actor_refs.config;
        assert!(config.cast(ConfigMsg::Reload(request)));
        (replied.await.expect("config answers"), becomes)
    }

    pub(super) async fn edit_and_reload(&self, modules: &str) -> oneshot::Receiver<ReloadOutcome> {
        self.edit(modules);
        let (reply, outcome) = self.reload().await;
        assert!(
            matches!(
                reply,
                Ok(ReloadReply::Applied(_) | ReloadReply::Committing(_))
            ),
            "{reply:?}"
        );
        outcome
    }

    /// A file was saved, and nobody waits.
    async fn saved(&self) {
        let config = &self.ctx.actor_refs.config;
        config.cast(ConfigMsg::Reload(ReloadRequest::default()));
        // Whoever asks next is answered after it.
        let _answered = self.reload().await;
    }

    fn store(&self) -> PlanStore {
        PlanStore::new(&self._dir.path().join("state"))
    }

    /// Whether the plan of this number is the committed one, and none is staged.
    fn keeps(&self, number: u64) -> bool {
        let committed = self.store().committed();
        committed.is_ok_and(|plan| plan.number == number) && self.store().staged().is_err()
    }

    fn problem(&self) -> Option<String> {
        self.ctx.snapshots.system().config_problem.clone()
    }

    /// The payloads of the events of this kind.
    fn told(&self, kind: EventKind) -> Vec<Value> {
        let journal = self.ctx.recorder.journal();
        assert!(journal.flush(Duration::from_secs(5)), "written");
        let events = journal.read(&EventsParams::default()).expect("readable");
        let events = events.into_iter().filter(|event| event.kind == kind);
        events.map(|event| event.payload).collect()
    }

    fn argv(&self, name: &str) -> Vec<String> {
        self.ctx
            .launch(self.ctx.find(name).expect("a module"))
            .argv
            .clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_applied_watched_and_committed() {
    let rig = Rig::start(TWO).await;
    let before = rig.os.deeds();
    let outcome = rig.edit_and_reload(CHANGED).await;
    rig.until("the new run", |rig| {
        rig.os.deeds().contains(&"spawn b 2".to_owned())
    })
    .await;
    assert_eq!(rig.store().committed().expect("kept").number, 1);
    let begun = tokio::time::Instant::now();
    assert_eq!(outcome.await, Ok(ReloadOutcome::Committed));
    assert!(
        begun.elapsed() >= Duration::from_secs(29),
        "the whole watch"
    );
    assert_eq!(rig.store().committed().expect("kept").number, 2);
    assert!(rig.store().staged().is_err());
    let touched = rig.os.deeds()[before.len()..].join(", ");
    assert_eq!(
        touched, "signal b 15, spawn b 2",
        "only what the plan named"
    );
    assert_eq!(
        rig.told(EventKind::ConfigApplied)[0]["text"],
        "b changed (command)"
    );
    assert_eq!(rig.told(EventKind::ConfigCommitted)[0]["plan"], 2);
    let (reply, _) = rig.reload().await;
    assert_eq!(reply, Ok(ReloadReply::Unchanged(2)));
    assert_eq!(rig.os.deeds()[before.len()..].join(", "), touched);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_brings_back_the_plan_before_with_all_that_it_had() {
    let rig = Rig::start(TWO).await;
    // b changes and a third module is new; in the same edit nothing of a.
    let text = format!("{CHANGED}[module.c]\ncommand = [\"c\"]\n");
    let outcome = rig.edit_and_reload(&text).await;
    rig.until("the new runs", |rig| rig.state("c") == ModuleState::Running)
        .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    rig.os.end(&Instance::new("b", 1), Signal(libc::SIGSEGV));
    let ReloadOutcome::RolledBack(why) = outcome.await.expect("an outcome") else {
        panic!("rolled back")
    };
    assert!(
        why.starts_with("b failed: ") && why.contains("SIGSEGV"),
        "{why}"
    );
    rig.until("b to run as before", |rig| {
        rig.state("b") == ModuleState::Running && rig.argv("b") == ["b"]
    })
    .await;
    rig.until("c to be gone", |rig| {
        rig.os.deeds().contains(&"forget c".to_owned())
    })
    .await;
    assert_eq!(rig.ctx.plan().number(), 3);
    rig.until("the plan before to be kept", |rig| rig.keeps(3))
        .await;
    assert_eq!(rig.told(EventKind::ConfigRolledBack)[0]["from"], 2);
    assert!(
        rig.problem()
            .is_some_and(|text| text.contains("rolled back: b failed"))
    );
    // The same content is applied again only when a person asks, or when it changed.
    let before = rig.os.deeds();
    let config = &rig.ctx.actor_refs.config;
    config.cast(ConfigMsg::Reload(ReloadRequest::default()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.os.deeds(), before);
    rig.edit(TWO);
    rig.saved().await;
    assert_eq!(rig.problem(), None);
    assert_eq!(rig.told(EventKind::ConfigProblemCleared).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_plan_removed_is_restored_as_it_was() {
    let three = format!("{TWO}[module.c]\ncommand = [\"c\"]\n");
    let rig = Rig::start(&three).await;
    let (published, done) = oneshot::channel();
    rig.ctx.actor_refs.lifecycle.cast(LifecycleMsg::Requested {
        module: rig.ctx.find("c").expect("c"),
        operation: mainstay_policy::lifecycle::Operation::Stop,
        requester: "ann".to_owned(),
        published,
    });
    done.await.expect("published");
    rig.until("c to stop", |rig| rig.state("c") == ModuleState::Stopped)
        .await;
    // b and c are removed, a is changed and fails.
    let outcome = rig
        .edit_and_reload("[module.a]\ncommand = [\"changed\"]\n")
        .await;
    rig.until("b to be removed", |rig| rig.ctx.find("b").is_none())
        .await;
    rig.until("a to run", |rig| {
        rig.os.deeds().contains(&"spawn a 2".to_owned())
    })
    .await;
    rig.os.end(&Instance::new("a", 1), Signal(libc::SIGSEGV));
    assert!(matches!(outcome.await, Ok(ReloadOutcome::RolledBack(_))));
    rig.until("all to be back", |rig| {
        rig.ctx
            .find("b")
            .is_some_and(|_| rig.state("b") == ModuleState::Running)
    })
    .await;
    assert_eq!(rig.state("a"), ModuleState::Running);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.state("c"), ModuleState::Stopped, "a person stopped it");
    assert!(!rig.os.deeds().contains(&"forget b".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_changes_nothing_until_it_is_good() {
    let rig = Rig::start(TWO).await;
    let (before, plan) = (rig.os.deeds(), rig.ctx.planned());
    rig.edit("[module.a]\ncommand = [\"a]\n");
    let (reply, _) = rig.reload().await;
    let Err(ReloadRefusal::Invalid(text)) = reply else {
        panic!("{reply:?}")
    };
    assert!(text.contains("mainstay.toml:6"), "{text}");
    let problem = rig.problem().unwrap_or_default();
    assert!(problem.ends_with(&text) && problem.contains("plan 1 is in force"));
    rig.saved().await;
    assert_eq!(rig.told(EventKind::ConfigRejected).len(), 1, "told once");
    assert!(Arc::ptr_eq(&rig.ctx.planned(), &plan));
    rig.edit(TWO);
    rig.saved().await;
    assert_eq!((rig.problem(), rig.os.deeds()), (None, before));
    assert_eq!(rig.told(EventKind::ConfigProblemCleared).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_newest_plan_wins_and_what_is_committed_stays_the_one_to_return_to() {
    let rig = Rig::start(TWO).await;
    let first = rig.edit_and_reload(CHANGED).await;
    let second = rig
        .edit_and_reload(&format!("{CHANGED}required = false\n"))
        .await;
    assert_eq!(first.await, Ok(ReloadOutcome::Superseded));
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.os.end(&Instance::new("b", 1), Signal(libc::SIGSEGV));
    assert!(matches!(second.await, Ok(ReloadOutcome::RolledBack(_))));
    rig.until("the first command", |rig| {
        rig.argv("b") == ["b"] && rig.state("b") == ModuleState::Running
    })
    .await;
    rig.until("the plan before to be kept", |rig| rig.keeps(4))
        .await;
    assert_eq!(rig.ctx.plan().number(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_be_kept_is_not_applied() {
    let rig = Rig::start(TWO).await;
    let before = rig.os.deeds();
    // A file where the folder of the plans is to be: as root nothing else refuses.
    let state = rig._dir.path().join("state");
    std::fs::remove_dir_all(state.join("plans")).expect("removed");
    std::fs::write(state.join("plans"), "").expect("a file");
    rig.edit(CHANGED);
    let (reply, _) = rig.reload().await;
    let Err(ReloadRefusal::Refused(text)) = reply else {
        panic!("{reply:?}")
    };
    assert!(text.contains("cannot be kept in"), "{text}");
    assert_eq!((rig.os.deeds(), rig.ctx.plan().number()), (before, 1));
    std::fs::remove_file(state.join("plans")).expect("removed");
    let (reply, _) = rig.reload().await;
    assert!(
        matches!(
            reply,
            Ok(ReloadReply::Applied(_) | ReloadReply::Committing(_))
        ),
        "{reply:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_dies_during_the_watch_changes_no_outcome() {
    for (name, fails) in [("config", true), ("config", false), ("lifecycle", true)] {
        let rig = Rig::start(TWO).await;
        let _outcome = rig.edit_and_reload(CHANGED).await;
        rig.until("the new run", |rig| {
            rig.os.deeds().contains(&"spawn b 2".to_owned())
        })
        .await;
        rig.until("it to run", |rig| rig.state("b") == ModuleState::Running)
            .await;
        let cell = rig.actors().into_iter().find(|(actor, _)| actor == name);
        cell.expect("an actor").1.kill();
        tokio::time::sleep(Duration::from_secs(5)).await;
        if fails {
            rig.os.end(&Instance::new("b", 1), Signal(libc::SIGSEGV));
            let is_back = |rig: &Rig| rig.argv("b") == ["b"];
            rig.until(&format!("{name}: rolled back"), is_back).await;
        } else {
            let is_kept = |rig: &Rig| rig.store().committed().is_ok_and(|plan| plan.number == 2);
            rig.until(&format!("{name}: committed"), is_kept).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_watch_a_plan_is_committed_when_it_is_in_force() {
    let rig = Rig::start(TWO).await;
    let path = rig._dir.path().join("mainstay.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let text = text.replace("[mainstay]\n", "[mainstay]\nreload_watch = \"0s\"\n");
    std::fs::write(&path, text).expect("a file");
    let outcome = rig.edit_and_reload(ONLY_A).await;
    assert_eq!(outcome.await, Ok(ReloadOutcome::Committed));
    rig.until("b to be forgotten", |rig| {
        rig.os.deeds().contains(&"forget b".to_owned())
    })
    .await;
    assert_eq!(rig.store().committed().expect("kept").number, 2);
}

/// A plan that is not applied takes nothing with it of the one that is watched.
#[tokio::test(start_paused = true)]
async fn what_is_refused_leaves_the_plan_that_is_watched_with_its_edits_of_files() {
    let persist = |value: &str| ConfigEdit::Set {
        path: "module.b.description".to_owned(),
        value: value.to_owned(),
        persist: true,
    };
    for refused_by in ["a file that cannot be written", "a stop"] {
        let rig =
            Rig::start("[module.b]\ncommand = [\"b\"]\n[module.deaf]\ncommand = [\"d\"]\n").await;
        let folder = rig._dir.path();
        let text = || std::fs::read_to_string(folder.join("mainstay.toml")).expect("a text");
        let before = text();
        let (reply, outcome) = rig.request(Some(persist("\"first\""))).await;
        assert_eq!(reply, Ok(ReloadReply::Applied(2)));
        rig.until("it to be in force", |rig| {
            rig.state("b") == ModuleState::Running
        })
        .await;
        let first = text();
        assert!(first.contains("first") && first != before);
        if refused_by == "a stop" {
            let (budget, requester) = (None, "ann".to_owned());
            let stop = LifecycleMsg::StopAll { budget, requester };
            rig.ctx.actor_refs.lifecycle.cast(stop);
        } else {
            // In the way of the new text, for root as well.
            std::fs::create_dir(folder.join(".mainstay.toml.mainstay")).expect("a folder");
        }
        let (reply, _) = rig.request(Some(persist("\"second\""))).await;
        assert!(matches!(reply, Err(ReloadRefusal::Refused(_))), "{reply:?}");
        rig.until("the refused plan to be dropped", |rig| {
            rig.store().staged().is_ok_and(|plan| plan.number == 2)
        })
        .await;
        assert_eq!(text(), first, "{refused_by}");
        if refused_by == "a stop" {
            continue;
        }
        std::fs::remove_dir(folder.join(".mainstay.toml.mainstay")).expect("removed");
        rig.os.end(&Instance::new("b", 1), Signal(libc::SIGSEGV));
        let outcome = outcome.await;
        assert!(
            matches!(outcome, Ok(ReloadOutcome::RolledBack(_))),
            "{outcome:?}"
        );
        rig.until("the former text", |_| text() == before).await;
    }
}

/// The watch lasts as long as it says: a failure of the last moment counts.
#[tokio::test(start_paused = true)]
async fn a_module_that_is_unhealthy_long_after_the_apply_is_rolled_back() {
    let with = |command: &str| {
        format!(
            "[module.a]\ncommand = [\"{command}\"]\nhealth.adaptive = false\n\
             health.probes = [{{ exec = [\"look\"], interval = \"2s\" }}]\n"
        )
    };
    let rig = Rig::start(&with("a")).await;
    let outcome = rig.edit_and_reload(&with("changed")).await;
    rig.until("the new run", |rig| rig.argv("a") == ["changed"])
        .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    *rig.os.outcome.lock().expect("whole") = CommandOutcome::Fails;
    let Ok(ReloadOutcome::RolledBack(why)) = outcome.await else {
        panic!("rolled back")
    };
    assert!(why.starts_with("a failed: "), "{why}");
    *rig.os.outcome.lock().expect("whole") = CommandOutcome::Succeeds;
    rig.until("the run before", |rig| {
        rig.argv("a") == ["a"] && rig.state("a") == ModuleState::Running
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_modules_that_fail_at_once_are_one_rollback() {
    let rig = Rig::start(TWO).await;
    let both = "[module.a]\ncommand = [\"bad-a\"]\n\
        [module.b]\ncommand = [\"bad-b\"]\nrequires = [\"a\"]\n";
    let outcome = rig.edit_and_reload(both).await;
    rig.until("the new runs", |rig| {
        ["a", "b"]
            .iter()
            .all(|name| rig.state(name) == ModuleState::Running)
            && rig.argv("b") == ["bad-b"]
    })
    .await;
    for name in ["a", "b"] {
        rig.os.end(&Instance::new(name, 1), Signal(libc::SIGSEGV));
    }
    assert!(matches!(outcome.await, Ok(ReloadOutcome::RolledBack(_))));
    rig.until("both to run as before", |rig| {
        ["a", "b"]
            .iter()
            .all(|name| rig.argv(name) == [*name] && rig.state(name) == ModuleState::Running)
    })
    .await;
    assert_eq!(rig.told(EventKind::ConfigRolledBack).len(), 1);
    assert_eq!(rig.ctx.plan().number(), 3);
}

/// It would fail with the plan before too.
#[tokio::test(start_paused = true)]
async fn a_module_that_failed_again_and_again_is_no_reason_to_roll_back() {
    let with = |command: &str| {
        format!(
            "[module.a]\ncommand = [\"{command}\"]\nrecovery.max_attempts = 0\n\
             recovery.backoff = {{ initial = \"0s\", floor = \"0s\", max = \"1ms\" }}\n\
             [module.b]\ncommand = [\"{command}\"]\n"
        )
    };
    let rig = Rig::start(&with("a")).await;
    let runs_again = async |run: u64| {
        rig.os.end(&Instance::new("a", 1), Signal(libc::SIGSEGV));
        rig.until("the next run", |rig| {
            let module = rig.ctx.configuration().ids.find("a").expect("a module");
            let now = rig.ctx.snapshots.module(module);
            now.lifecycle.info.generation == run && rig.state("a") == ModuleState::Running
        })
        .await;
    };
    runs_again(2).await;
    runs_again(3).await;
    let outcome = rig.edit_and_reload(&with("changed")).await;
    rig.until("the new runs", |rig| rig.argv("a") == ["changed"])
        .await;
    rig.until("a to run", |rig| rig.state("a") == ModuleState::Running)
        .await;
    rig.os.end(&Instance::new("a", 1), Signal(libc::SIGSEGV));
    assert_eq!(outcome.await, Ok(ReloadOutcome::Committed));
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_goes_back_from_a_watched_one_is_not_watched() {
    let rig = Rig::start(TWO).await;
    let superseded = rig.edit_and_reload(CHANGED).await;
    rig.edit(TWO);
    let (reply, outcome) = rig.reload().await;
    assert_eq!(reply, Ok(ReloadReply::Committing(3)));
    assert_eq!(superseded.await, Ok(ReloadOutcome::Superseded));
    assert_eq!(outcome.await, Ok(ReloadOutcome::Committed));
}

#[tokio::test(start_paused = true)]
async fn a_request_during_the_watch_hears_what_becomes_of_the_plan() {
    let rig = Rig::start(TWO).await;
    let outcome = rig.edit_and_reload(CHANGED).await;
    let (reply, again) = rig.reload().await;
    assert_eq!(reply, Ok(ReloadReply::Applied(2)));
    assert_eq!(outcome.await, Ok(ReloadOutcome::Committed));
    assert_eq!(again.await, Ok(ReloadOutcome::Committed));
    let (reply, _) = rig.reload().await;
    assert_eq!(reply, Ok(ReloadReply::Unchanged(2)));
}
