//! The wall clock of the machine is set back while a configuration is applied and watched.
//! Owns the promise that no deadline and no history depends on it. Never waits for real time.

use mainstay_protocol::Event;
use mainstay_protocol::method::EventsParams;

use super::reload::CHANGED;
use super::*;
use crate::actors::config::ReloadOutcome;
use crate::journal::{DATABASE, verify};
use crate::plan_store::PlanStore;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Rig {
    fn set_clock_back(&self, by: Duration) {
        *self.os.set_back.lock().expect("whole") += by;
    }

    /// All events of the journal, after checking that its chain holds.
    fn history(&self) -> Vec<Event> {
        let journal = self.ctx.recorder.journal();
        assert!(journal.flush(Duration::from_secs(5)), "written");
        let checked = verify(&self._dir.path().join("state").join(DATABASE));
        assert!(checked.is_ok(), "{checked:?}");
        let limit = Some(1000);
        let all = EventsParams {
            limit,
            ..EventsParams::default()
        };
        journal.read(&all).expect("readable")
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_changes_no_watch_no_rollback_and_no_order() {
    for fails in [false, true] {
        let rig = Rig::start(TWO).await;
        let outcome = rig.edit_and_reload(CHANGED).await;
        let begun = tokio::time::Instant::now();
        rig.until("the new run", |rig| {
            rig.os.deeds().contains(&"spawn b 2".to_owned())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = rig.os.wall_clock();
        rig.set_clock_back(DAY);
        let kept = if fails {
            rig.os.end(&Instance::new("b", 1), Signal(libc::SIGSEGV));
            assert!(matches!(outcome.await, Ok(ReloadOutcome::RolledBack(_))));
            assert!(begun.elapsed() < Duration::from_secs(12), "at once");
            rig.until("b to run as before", |rig| {
                rig.state("b") == ModuleState::Running
            })
            .await;
            3
        } else {
            assert_eq!(outcome.await, Ok(ReloadOutcome::Committed));
            let watched = begun.elapsed().as_secs();
            assert!((29..=31).contains(&watched), "the whole watch: {watched} s");
            2
        };
        let store = PlanStore::new(&rig._dir.path().join("state"));
        rig.until("the plan to be kept", |_| {
            store.committed().is_ok_and(|plan| plan.number == kept)
        })
        .await;
        let numbers: Vec<u64> = (1..=kept).collect();
        assert_eq!(store.numbers(), numbers, "the history goes by number");

        let events = rig.history();
        assert!(events.is_sorted_by_key(|event| event.seq));
        let (late, early): (Vec<&Event>, Vec<&Event>) = events
            .iter()
            .partition(|event| event.at.0 < before.0 - 3_600_000);
        assert!(!late.is_empty() && !early.is_empty());
        let newest = early.iter().map(|event| event.seq).max();
        assert!(
            newest < late.iter().map(|event| event.seq).min(),
            "as it happened"
        );
        let since_time = Some(Timestamp(rig.os.wall_clock().0 - 3_600_000));
        let recent = EventsParams {
            since_time,
            limit: Some(1000),
            ..EventsParams::default()
        };
        let recent = rig.ctx.recorder.journal().read(&recent).expect("readable");
        assert_eq!(recent.len(), events.len(), "the last hour hides nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_delays_no_restart() {
    let rig = Rig::start("[module.a]\ncommand = [\"a\"]\n").await;
    rig.set_clock_back(DAY);
    let begun = tokio::time::Instant::now();
    rig.os.end(&Instance::new("a", 1), Signal(libc::SIGSEGV));
    rig.until("its new run", |rig| {
        rig.os.deeds().contains(&"spawn a 2".to_owned())
    })
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    rig.history();
}
