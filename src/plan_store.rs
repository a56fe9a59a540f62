//! The plans in the state directory: the committed one, the one being applied, and those before.
//! Owns the files `committed.json`, `staged.json` and `plans/N.json`, and how many are kept.
//! Never decides which plan is in force: moving one file over another is the commit.
//!
//! `committed.json` is the plan that a runtime that returns goes on with. A plan that is applied is
//! `staged.json` first; to commit it, that file is renamed. Both hold what modules are given in
//! confidence, so that this user alone may read them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mainstay_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{CommittedConfig, FileEdit};
use crate::os::private;

/// The version of the files. A newer one only adds, so that an older mainstay can use them.
pub(crate) const SCHEMA_VERSION: u32 = 1;
/// What became of a plan that is one to go back to.
pub(crate) const COMMITTED: &str = "committed";
/// How many plans are kept.
const PLANS_KEPT: usize = 32;

/// An application may start a runtime while work of its last one still ends: one thread writes.
static WRITER: Mutex<()> = Mutex::new(());

fn writer() -> MutexGuard<'static, ()> {
    WRITER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A plan as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredPlan {
    /// Its number.
    pub(crate) number: u64,
    /// When it was applied.
    pub(crate) at: Timestamp,
    /// Who asked for it, or what led to it.
    pub(crate) requester: String,
    /// The keys and modules that it changed, in words.
    #[serde(default)]
    pub(crate) changes: Vec<String>,
    /// What became of it.
    #[serde(default)]
    pub(crate) outcome: String,
    /// While it is staged: it is in force as a whole, and these modules are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watched: Option<Vec<String>>,
    /// What the files come to, when that is not to be applied until they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<String>,
    /// The files that were written for it, and for those before it since the committed one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) file_edits: Vec<FileEdit>,
    /// Its configuration.
    pub(crate) config: CommittedConfig,
}

impl StoredPlan {
    /// Whether it is, or was, one to go back to.
    pub(crate) fn is_committed(&self) -> bool {
        self.outcome == COMMITTED
    }
}

/// The plans of one system.
#[derive(Debug, Clone)]
pub(crate) struct PlanStore {
    state_dir: PathBuf,
}

impl PlanStore {
    /// Those in a state directory.
    pub(crate) fn new(state_dir: &Path) -> PlanStore {
        let state_dir = state_dir.to_owned();
        PlanStore { state_dir }
    }

    /// The committed plan.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(crate) fn committed(&self) -> io::Result<StoredPlan> {
        read(&self.path("committed.json"))
    }

    /// The same; where its file is missing or damaged, the newest committed one of the history.
    ///
    /// # Errors
    /// What is wrong with the file, when there is none in the history either.
    pub(crate) fn last_committed(&self) -> io::Result<StoredPlan> {
        self.committed()
            .or_else(|error| self.newest_committed().ok_or(error))
    }

    fn newest_committed(&self) -> Option<StoredPlan> {
        let newest = self.numbers().into_iter().rev();
        let mut plans = newest.filter_map(|number| self.plan(number).ok());
        plans.find(StoredPlan::is_committed)
    }

    /// The file of the committed plan.
    pub(crate) fn committed_path(&self) -> PathBuf {
        self.path("committed.json")
    }

    /// The plan that was being applied or watched.
    ///
    /// # Errors
    /// As [`PlanStore::committed`].
    pub(crate) fn staged(&self) -> io::Result<StoredPlan> {
        read(&self.path("staged.json"))
    }

    /// Keeps a plan that is about to be applied.
    ///
    /// # Errors
    /// What the system says; nothing is staged then.
    pub(crate) fn stage(&self, plan: &StoredPlan) -> io::Result<()> {
        let _writer = writer();
        self.keep(plan)?;
        write(&self.path("staged.json"), plan)
    }

    /// Makes the staged plan the committed one, also when that was done in part before.
    ///
    /// # Errors
    /// What the system says; the plan before is the committed one still.
    pub(crate) fn commit(&self, number: u64) -> io::Result<()> {
        let _writer = writer();
        let mut plan = match self.staged() {
            Ok(plan) => plan,
            Err(_) if self.committed().is_ok_and(|plan| plan.number == number) => return Ok(()),
            Err(error) => return Err(error),
        };
        COMMITTED.clone_into(&mut plan.outcome);
        plan.watched = None;
        self.keep(&plan)?;
        fs::rename(self.path("staged.json"), self.path("committed.json"))
    }

    /// The staged plan of this number is in force as a whole, and these modules are watched: a
    /// runtime that returns goes on with that.
    ///
    /// # Errors
    /// What the system says; it is rolled back by a runtime that returns.
    pub(crate) fn watch(&self, number: u64, modules: Vec<String>) -> io::Result<()> {
        let _writer = writer();
        match self.staged() {
            Ok(mut plan) if plan.number == number => {
                plan.watched = Some(modules);
                self.keep(&plan)?;
                write(&self.path("staged.json"), &plan)
            }
            _ => Ok(()), // it is committed, or another one follows
        }
    }

    /// Makes a plan the committed one that nothing has to be watched for.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn commit_now(&self, plan: &StoredPlan) -> io::Result<()> {
        let _writer = writer();
        write(&self.path("committed.json"), plan)?;
        self.keep(plan)
    }

    /// A plan that was committed to start with never got up: the one before is the last good one
    /// again, if one is kept.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start_failed(&self, number: u64, why: &str) -> io::Result<()> {
        let _writer = writer();
        let mut plan = self.plan(number)?;
        plan.outcome = format!("the start failed: {why}");
        self.keep(&plan)?;
        let good = self.newest_committed().unwrap_or(plan);
        write(&self.path("committed.json"), &good)
    }

    /// Drops the staged plan, and keeps in its history why.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn discard(&self, outcome: &str) -> io::Result<()> {
        let _writer = writer();
        let Ok(mut plan) = self.staged() else {
            return Ok(());
        };
        outcome.clone_into(&mut plan.outcome);
        plan.watched = None;
        // Without its history too: a plan that stays staged is rolled back by the next runtime.
        let kept = self.keep(&plan);
        fs::remove_file(self.path("staged.json"))?;
        kept
    }

    /// The numbers of all plans that are kept, oldest first.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.path("plans")).into_iter().flatten();
        let mut numbers: Vec<u64> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                name.to_str()?.strip_suffix(".json")?.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// Why a plan cannot be read, and which there are.
    pub(crate) fn not_kept(&self, error: &io::Error) -> String {
        let numbers = self.numbers();
        match (error.kind(), &numbers[..]) {
            (io::ErrorKind::NotFound, [first, .., last]) => format!(
                "there is no such plan; there are {first} to {last} (`mainstay config history`)"
            ),
            (io::ErrorKind::NotFound, [only]) => {
                format!("there is no such plan; there is only {only}")
            }
            _ => format!("{error}; `mainstay config history` lists what is kept"),
        }
    }

    /// The newest plan that was committed and says something else than `fingerprint`.
    pub(crate) fn before(&self, fingerprint: &str) -> Option<StoredPlan> {
        let newest = self.numbers().into_iter().rev();
        let mut plans = newest.filter_map(|number| self.plan(number).ok());
        plans.find(|plan| plan.is_committed() && plan.config.fingerprint != fingerprint)
    }

    /// A plan that is kept.
    ///
    /// # Errors
    /// There is none of this number, or it cannot be read.
    pub(crate) fn plan(&self, number: u64) -> io::Result<StoredPlan> {
        read(&self.path("plans").join(format!("{number}.json")))
    }

    fn keep(&self, plan: &StoredPlan) -> io::Result<()> {
        let folder = self.path("plans");
        private::private_dir(&folder)?;
        write(&folder.join(format!("{}.json", plan.number)), plan)?;
        let numbers = self.numbers();
        let many = numbers.len().saturating_sub(PLANS_KEPT);
        for old in &numbers[..many] {
            fs::remove_file(folder.join(format!("{old}.json")))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state_dir.join(name)
    }
}

fn read(path: &Path) -> io::Result<StoredPlan> {
    let file = private::open_regular(path)?;
    Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

fn write(path: &Path, plan: &StoredPlan) -> io::Result<()> {
    private::write(path, &serde_json::to_vec(plan)?, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSources, load};

    fn plan(number: u64) -> StoredPlan {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("mainstay.toml"), "").expect("a file");
        let configuration = load(&ConfigSources::folder(dir.path())).expect("a configuration");
        StoredPlan {
            number,
            at: Timestamp(number),
            requester: "ann".to_owned(),
            changes: Vec::new(),
            outcome: String::new(),
            watched: None,
            held: None,
            file_edits: Vec::new(),
            config: configuration.effective(),
        }
    }

    #[test]
    fn the_committed_plan_changes_when_the_staged_one_is_committed() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = PlanStore::new(dir.path());
        store.commit_now(&plan(1)).expect("kept");
        store.stage(&plan(2)).expect("kept");
        let committed = || store.committed().expect("a plan").number;
        assert_eq!((committed(), store.staged().expect("one").number), (1, 2));
        store.commit(2).expect("renamed");
        store.commit(2).expect("done before");
        assert!(store.commit(3).is_err(), "it was never staged");
        assert_eq!(committed(), 2);
        assert!(store.staged().is_err());
        store.stage(&plan(3)).expect("kept");
        store.discard("rolled back: it failed").expect("dropped");
        assert_eq!((committed(), store.numbers()), (2, vec![1, 2, 3]));
        let outcomes = [1, 2, 3].map(|number| store.plan(number).expect("kept").outcome);
        assert_eq!(outcomes, ["", "committed", "rolled back: it failed"]);
        store.discard("again").expect("there is none");
    }

    #[test]
    fn a_plan_that_never_got_up_is_none_to_go_back_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = PlanStore::new(dir.path());
        let committed = |number| StoredPlan {
            outcome: COMMITTED.to_owned(),
            ..plan(number)
        };
        let last = || store.last_committed().expect("a plan").number;
        store.commit_now(&committed(1)).expect("kept");
        store.start_failed(1, "db failed").expect("noted");
        assert_eq!(last(), 1, "there is no other");
        assert!(!store.committed().expect("a plan").is_committed());
        store.commit_now(&committed(2)).expect("kept");
        store.commit_now(&committed(3)).expect("kept");
        store.start_failed(3, "db failed").expect("noted");
        assert_eq!(last(), 2);
        let failed = store.plan(3).expect("kept");
        assert_eq!(failed.outcome, "the start failed: db failed");
    }

    #[test]
    fn the_oldest_plans_are_dropped_and_half_a_file_is_no_plan() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = PlanStore::new(dir.path());
        for number in 1..=40 {
            store.commit_now(&plan(number)).expect("kept");
        }
        assert_eq!(store.numbers(), (9..=40).collect::<Vec<u64>>());
        std::fs::write(dir.path().join("committed.json"), "{\"number\":").expect("half a file");
        assert!(store.committed().is_err());
    }
}
