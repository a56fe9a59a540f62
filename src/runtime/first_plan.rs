//! The plan that a runtime begins with: of the files, the last committed one, or one that was
//! being applied when the runtime before ended.
//! Owns which of them it is. Never applies a plan to modules that run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_policy::plan::Plan;
use mainstay_protocol::Timestamp;

use super::RuntimeStartError;
use crate::actors::config::candidate::Candidate;
use crate::actors::config::rejected_text;
use crate::actors::{CommittedPlan, Planned};
use crate::config::system_keys::state_dirs;
use crate::config::{ConfigSources, Configuration, Problem, Problems, check_trusted, load};
use crate::os::{log_names, private};
use crate::plan_store::{COMMITTED, PlanStore, StoredPlan};

/// The configuration of a new start.
pub(crate) struct FirstConfig {
    /// What is to start.
    pub(crate) configuration: Configuration,
    /// Why it is the last committed plan and not what the files say.
    pub(crate) problem: Option<String>,
}

impl From<Configuration> for FirstConfig {
    fn from(configuration: Configuration) -> FirstConfig {
        FirstConfig {
            configuration,
            problem: None,
        }
    }
}

/// Reads the files. Where they have problems, the plan that was committed last is what starts: a
/// mistake in a file must not keep a system down that ran.
///
/// # Errors
/// The problems of the files, where there is no such plan or `sources` are strict.
pub(crate) fn read(sources: &ConfigSources) -> Result<FirstConfig, Problems> {
    let read = load(sources).and_then(|files| with_kept_overrides(sources, files));
    let problems = match read {
        Ok(configuration) if sources.strict => return Ok(configuration.into()),
        Ok(configuration) => {
            let lost = emptied(&configuration, sources);
            match lost.or_else(|| unmounted(&configuration, sources)) {
                Some(problem) => problem.into(),
                None => return Ok(configuration.into()),
            }
        }
        Err(problems) => problems,
    };
    if sources.strict {
        return Err(problems);
    }
    let Some(plan) = last_plan(sources) else {
        return Err(problems);
    };
    let number = plan.number;
    // A plan of another version of mainstay is no help.
    let Ok(configuration) = plan.config.for_new_holder().restore() else {
        return Err(problems);
    };
    Ok(FirstConfig {
        configuration,
        problem: Some(rejected_text(
            number,
            &problems.without_excerpts().to_string(),
        )),
    })
}

/// What `config set` said before the system was stopped holds until it is unset.
fn with_kept_overrides(
    sources: &ConfigSources,
    files: Configuration,
) -> Result<Configuration, Problems> {
    let store = PlanStore::new(&files.system.state_dir);
    let plan = store.last_committed().ok();
    let plan = plan.filter(|plan| plan.config.config_dir() == files.system.config_dir);
    match plan.map(|plan| plan.config.overrides().to_vec()) {
        Some(overrides) if !overrides.is_empty() => load(&ConfigSources {
            overrides,
            ..sources.clone()
        }),
        _ => Ok(files),
    }
}

/// A file that lost its content, perhaps to a full disk or a crash, although a plan is committed
/// that is another one.
fn emptied(configuration: &Configuration, sources: &ConfigSources) -> Option<Problem> {
    let files = configuration.empty_files();
    if files.is_empty() {
        return None;
    }
    let last = last_plan(sources)?;
    (last.config.fingerprint != configuration.fingerprint).then(|| {
        let message = format!(
            "cannot use the configuration: {} is empty",
            files.join(", ")
        );
        Problem::new(message).hint("if that is meant, write a comment into it")
    })
}

/// Folders of modules that are gone, perhaps a volume that is not mounted: nothing matches a
/// pattern of `mainstay.modules`, and the plan that is committed had modules there.
fn unmounted(configuration: &Configuration, sources: &ConfigSources) -> Option<Problem> {
    let warning = configuration.warnings().first()?;
    let last = last_plan(sources)?;
    let lost = last.config.lost_folder(configuration)?;
    let hint = format!(
        "{} was a module; if it is gone for good, start once with `mainstay up --strict`",
        lost.display()
    );
    Some(warning.clone().hint(hint))
}

/// The plan that the system of these sources committed last.
fn last_plan(sources: &ConfigSources) -> Option<StoredPlan> {
    let (own, others) = state_dirs(sources);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = real(&sources.folder);
    let of = |state_dir: &PathBuf| {
        let store = PlanStore::new(state_dir);
        // Root runs no plan that another user may write.
        let file = private::open_regular(&store.committed_path());
        if let Ok(file) = file {
            check_trusted(&file, &store.committed_path()).ok()?;
        }
        let plan = store.last_committed().ok()?;
        let fits = real(plan.config.config_dir()) == folder;
        (fits && plan.config.has_tasks(&sources.tasks)).then_some(plan)
    };
    of(&own).or_else(|| {
        // The files do not even say their name: only one system may be meant.
        let mut fitting = others.iter().filter_map(of);
        fitting.next().filter(|_| fitting.next().is_none())
    })
}

/// The plans that a runtime begins with.
pub(crate) struct FirstPlans {
    /// The number of the plan in force.
    pub(super) number: u64,
    /// The committed plan, if that is another one.
    pub(super) committed: Option<CommittedPlan>,
    /// What the files come to, when that is not to be applied until they change.
    pub(super) held: Option<String>,
}

impl Default for FirstPlans {
    fn default() -> FirstPlans {
        FirstPlans {
            number: 1,
            committed: None,
            held: None,
        }
    }
}

pub(super) fn stored(
    number: u64,
    at: Timestamp,
    configuration: &Configuration,
    requester: &str,
) -> StoredPlan {
    StoredPlan {
        number,
        at,
        requester: requester.to_owned(),
        changes: Vec::new(),
        outcome: COMMITTED.to_owned(),
        watched: None,
        held: None,
        file_edits: Vec::new(),
        config: configuration.effective(),
    }
}

/// What the last holder called a module, whose log file has that name until the next start.
pub(crate) fn last_instance(state_dir: &Path, module: &str) -> String {
    let plan = PlanStore::new(state_dir).last_committed().ok();
    let instance = plan.and_then(|plan| plan.config.instances().get(module).cloned());
    instance.unwrap_or_else(|| module.to_owned())
}

/// The configurations in a state directory: of the committed plan, and of one that is watched.
pub(crate) fn kept(state_dir: &Path) -> Vec<Configuration> {
    let store = PlanStore::new(state_dir);
    let plans = [store.committed(), store.staged()].into_iter().flatten();
    plans
        .filter_map(|plan| plan.config.restore().ok())
        .collect()
}

/// Keeps the plan of a new start: a runtime that returns goes on under it, whatever the files say
/// then. It has the number of the last one if it is the same, else the next.
pub(crate) fn commit_first(configuration: &Configuration) -> Result<FirstPlans, RuntimeStartError> {
    let (plans, first) = FirstCommit::choose(configuration)?;
    first.commit()?;
    Ok(plans)
}

/// What a start changes against the plan before it, in words; nothing where that cannot be read.
fn changes(before: StoredPlan, configuration: &Configuration) -> Vec<String> {
    let number = before.number;
    let compared = || {
        let before = before.config.restore_onto(configuration.ids.clone()).ok()?;
        let after = configuration.clone().with_ids(before.ids.clone());
        let specs = before.modules.iter().map(|(spec, _)| spec).cloned();
        let plan = Plan::new(number, before.system_spec.clone(), specs).ok()?;
        let base = Arc::new(Planned::new(Arc::new(before), Arc::new(plan)));
        Candidate::of(base, Arc::new(after), number + 1, |_, _| true).ok()
    };
    compared().map_or_else(Vec::new, |candidate| candidate.summary())
}

/// The plan of a new start that is to be kept before anything starts.
pub(crate) struct FirstCommit {
    store: PlanStore,
    plan: StoredPlan,
    /// It is not one that was up before.
    is_new: bool,
}

impl FirstCommit {
    fn failed(store: &PlanStore, source: io::Error) -> RuntimeStartError {
        let path = store.committed_path();
        RuntimeStartError::State { path, source }
    }

    /// Where it is kept and its number, if it has not been up before.
    pub(super) fn untried(&self) -> Option<(PlanStore, u64)> {
        self.is_new.then(|| (self.store.clone(), self.plan.number))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn commit(self) -> Result<(), RuntimeStartError> {
        let FirstCommit { store, plan, .. } = self;
        let done = store.commit_now(&plan);
        done.map_err(|error| FirstCommit::failed(&store, error))
    }

    /// Which plan that is; nothing is written but what an earlier start left.
    pub(super) fn choose(
        configuration: &Configuration,
    ) -> Result<(FirstPlans, FirstCommit), RuntimeStartError> {
        let state_dir = &configuration.system.state_dir;
        let store = PlanStore::new(state_dir);
        let failed = |source| FirstCommit::failed(&store, source);
        let newest = store.numbers().last().copied().unwrap_or(0);
        let last = store.last_committed().ok();
        if let Some(last) = &last {
            let log_dir = &configuration.system.logs.directory;
            log_names::restore(log_dir, last.config.instances());
        }
        let same = last.clone().filter(|last| {
            last.number == newest && last.config.fingerprint == configuration.fingerprint
        });
        store.discard("the system was stopped").map_err(failed)?;
        let is_new = same.as_ref().is_none_or(|same| !same.is_committed());
        let plan = match same {
            // Lines may have moved in the files.
            Some(same) => StoredPlan {
                config: configuration.effective(),
                held: None,
                outcome: COMMITTED.to_owned(),
                ..same
            },
            None => {
                let now = crate::os::wall_clock();
                StoredPlan {
                    changes: last.map_or_else(Vec::new, |last| changes(last, configuration)),
                    ..stored(newest + 1, now, configuration, "mainstay up")
                }
            }
        };
        let plans = FirstPlans {
            number: plan.number,
            committed: None,
            held: None,
        };
        let commit = FirstCommit {
            store,
            plan,
            is_new,
        };
        Ok((plans, commit))
    }
}

/// The committed plan; the files only where it cannot be read. A plan that was applied and not
/// committed is the one that runs: as soon as the actors are there it is watched again, or rolled
/// back where it was not in force as a whole.
pub(super) fn restore(
    state_dir: &Path,
    sources: &Result<ConfigSources, Problems>,
) -> Result<(Configuration, FirstPlans), RuntimeStartError> {
    let store = PlanStore::new(state_dir);
    let kept = store.last_committed().ok();
    let kept = kept.and_then(|plan| Some((plan.number, plan.config.restore().ok()?, plan.held)));
    if let Some((number, committed, held)) = kept {
        let staged = store.staged().ok().filter(|staged| staged.number > number);
        let ids = || committed.ids.clone();
        let staged = staged.and_then(|plan| {
            let restored = plan.config.restore_onto(ids()).ok()?;
            Some((plan.number, restored, plan.watched.is_some()))
        });
        let Some((newest, staged, is_watched)) = staged else {
            let plans = FirstPlans {
                number,
                committed: None,
                held,
            };
            return Ok((committed, plans));
        };
        // Until it is in force as a whole, what it removed may run: the rollback needs it all.
        let running = match is_watched {
            true => staged,
            false => staged.with_modules_of(&committed),
        };
        let configuration = Arc::new(committed);
        let committed = CommittedPlan {
            number,
            configuration,
            held,
        };
        let plans = FirstPlans {
            number: newest,
            committed: Some(committed),
            held: None,
        };
        return Ok((running, plans));
    }
    tracing::error!("cannot read the committed plan; going on with the files");
    match sources {
        Ok(sources) => {
            let configuration = load(sources).map_err(RuntimeStartError::Configuration)?;
            let plans = commit_first(&configuration).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot commit the plan");
                FirstPlans::default()
            });
            Ok((configuration, plans))
        }
        Err(_) => Err(RuntimeStartError::Os(
            "there is no configuration to go on with".to_owned(),
        )),
    }
}
