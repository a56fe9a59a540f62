//! Changes that a request makes by itself: one value, or a return to a former plan.
//! Owns what each of them makes of the plan in force and of the files.
//! Never applies a change of the files without a request.

use std::sync::Arc;

use super::candidate::Candidate;
use crate::actors::{Planned, RuntimeContext};
use crate::config::{
    ConfigSources, Configuration, FileEdit, KeyForm, Problem, Problems, RuntimeValue, form_of,
    keys, load_onto, runtime_layer,
};
use crate::plan_store::{PlanStore, StoredPlan};

/// Keys whose values decide what is read or where things are: they are set in a file alone.
const OF_FILES: [&str; 5] = [
    "mainstay.name",
    "mainstay.state_dir",
    "mainstay.runtime_dir",
    "mainstay.modules",
    "logs.directory",
];

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigEdit {
    /// One value is set; `persist`: in the file.
    Set {
        path: String,
        value: String,
        persist: bool,
    },
    /// What `config set` said is dropped; `persist`: what the file says too.
    Unset { path: String, persist: bool },
    /// The content of a former plan; None: the one before.
    RollBack { plan: Option<u64> },
}

/// What is known beside the configuration of a candidate.
#[derive(Debug, Default)]
pub(crate) struct EditResult {
    /// The file that is written before the plan is applied.
    pub(crate) file: Option<FileEdit>,
    /// What the files come to, when that is not to be applied until they change.
    pub(crate) held: Option<String>,
    /// The plan whose content this is again.
    pub(crate) plan: Option<u64>,
}

impl ConfigEdit {
    /// The key, if it is about one.
    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            ConfigEdit::Set { path, .. } | ConfigEdit::Unset { path, .. } => Some(path),
            ConfigEdit::RollBack { .. } => None,
        }
    }

    /// Whether a file is written.
    pub(crate) fn is_persistent(&self) -> bool {
        match self {
            ConfigEdit::Set { persist, .. } | ConfigEdit::Unset { persist, .. } => *persist,
            ConfigEdit::RollBack { .. } => false,
        }
    }
}

impl Candidate {
    /// The candidate of a change; blocks.
    ///
    /// # Errors
    /// Why it cannot be made, as text.
    pub(crate) fn of_edit(
        ctx: &RuntimeContext,
        number: u64,
        edit: &ConfigEdit,
        requester: &str,
        is_holding: bool,
    ) -> Result<Candidate, String> {
        let base = ctx.planned();
        let running = Arc::clone(&base.configuration);
        let (configuration, mut edit) = match edit {
            ConfigEdit::Set {
                path,
                value,
                persist,
            } => {
                check_key(path, *persist).map_err(text)?;
                let value = RuntimeValue {
                    path: path.clone(),
                    value: value.clone(),
                    requester: requester.to_owned(),
                    at: ctx.os.wall_clock(),
                };
                match persist {
                    false => set(&running, value),
                    true => write(ctx, &running, path, Some(&value.value)),
                }
            }
            ConfigEdit::Unset {
                path,
                persist: false,
            } => unset(&running, path),
            ConfigEdit::Unset { path, .. } => {
                check_key(path, true).map_err(text)?;
                write(ctx, &running, path, None)
            }
            ConfigEdit::RollBack { plan } => return roll_back(ctx, base, number, *plan),
        }
        .map_err(text)?;
        // What the files say was not to be applied, and is not by this.
        if is_holding && edit.file.is_none() {
            edit.held = held(ctx, &running, &configuration);
        }
        let mut candidate = Candidate::checked(ctx, base, configuration, number)?;
        candidate.edit = edit;
        Ok(candidate)
    }
}

fn text(problems: Problems) -> String {
    problems.without_excerpts().to_string()
}

fn check_key(path: &str, persist: bool) -> Result<(), Problems> {
    let refuse = |message: String, hint: &str| Err(Problem::new(message).hint(hint).into());
    let Some(names) = keys(path) else {
        let message = format!("cannot set {path}: a part of it is empty");
        return refuse(message, "name a key as in health.interval");
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if form_of(&names) == KeyForm::Section {
        let message = format!("cannot set {path}: it is a table");
        return refuse(message, "name one of its keys");
    }
    // The names of modules have no variable of these.
    let is_of_files = OF_FILES.contains(&names.join(".").as_str());
    if is_of_files && (!persist || names == ["mainstay", "modules"]) {
        let message = format!("cannot set {path}: it is read before anything runs");
        return refuse(
            message,
            "edit the file; all but mainstay.modules waits for the next start",
        );
    }
    Ok(())
}

fn set(
    running: &Configuration,
    value: RuntimeValue,
) -> Result<(Configuration, EditResult), Problems> {
    let mut values = running.overrides().to_vec();
    let path = value.path.clone();
    runtime_layer::set(&mut values, value);
    let configuration = running.with_overrides(values)?;
    if !configuration
        .overrides()
        .iter()
        .any(|value| value.path == path)
    {
        let message = format!("cannot set {path}: there is no such module");
        return Err(Problem::new(message)
            .hint("a module needs a file that registers it")
            .into());
    }
    Ok((configuration, EditResult::default()))
}

fn unset(running: &Configuration, path: &str) -> Result<(Configuration, EditResult), Problems> {
    let mut values = running.overrides().to_vec();
    if !runtime_layer::unset(&mut values, path) {
        let message = format!("cannot unset {path}: `config set` did not set it");
        let hint = "`--persist` removes it from its file; `config get --origin` says who sets it";
        return Err(Problem::new(message).hint(hint).into());
    }
    Ok((running.with_overrides(values)?, EditResult::default()))
}

/// Writes a value into its file, and drops it from the layer of `config set`.
fn write(
    ctx: &RuntimeContext,
    running: &Configuration,
    path: &str,
    value: Option<&str>,
) -> Result<(Configuration, EditResult), Problems> {
    let sources = |overrides: Vec<RuntimeValue>| ConfigSources {
        overrides,
        ..ctx.sources.clone()
    };
    let files = load_onto(&sources(running.overrides().to_vec()), running)?;
    if files.fingerprint != running.fingerprint {
        let message = format!("cannot write {path}: the files differ from the plan in force");
        let hint = "`mainstay plan` shows it; apply it with `mainstay reload` first";
        return Err(Problem::new(message).hint(hint).into());
    }
    let mut values = running.overrides().to_vec();
    runtime_layer::unset(&mut values, path);
    let below = sources(values);
    let names = keys(path).unwrap_or_default();
    let file = FileEdit::prepare(&below, &names, value)?;
    let edited = ConfigSources {
        edit: Some(file.clone()),
        ..below
    };
    let configuration = load_onto(&edited, running)?;
    let edit = EditResult {
        file: Some(file),
        ..EditResult::default()
    };
    Ok((configuration, edit))
}

/// What the files come to beside a configuration that is not theirs, if they can be read.
fn held(ctx: &RuntimeContext, running: &Configuration, next: &Configuration) -> Option<String> {
    let sources = ConfigSources {
        overrides: next.overrides().to_vec(),
        ..ctx.sources.clone()
    };
    let files = load_onto(&sources, running).ok()?;
    (files.fingerprint != next.fingerprint).then_some(files.fingerprint)
}

/// The plan to go back to: this one, or the newest committed one that differs; blocks.
///
/// # Errors
/// It is not kept, as text.
pub(crate) fn rollback_target(
    store: &PlanStore,
    running: &Configuration,
    plan: Option<u64>,
) -> Result<StoredPlan, String> {
    match plan {
        Some(plan) => store
            .plan(plan)
            .map_err(|error| format!("cannot go back to plan {plan}: {}", store.not_kept(&error))),
        None => store.before(&running.fingerprint).ok_or_else(|| {
            "cannot go back: no plan before this one is kept; `mainstay config history` lists them"
                .to_owned()
        }),
    }
}

fn roll_back(
    ctx: &RuntimeContext,
    base: Arc<Planned>,
    number: u64,
    plan: Option<u64>,
) -> Result<Candidate, String> {
    let running = &base.configuration;
    let store = PlanStore::new(&running.system.state_dir);
    let stored = rollback_target(&store, running, plan)?;
    let again = stored.number;
    let restored = stored.config.restore_for(running).map_err(text)?;
    let edit = EditResult {
        file: None,
        held: held(ctx, running, &restored),
        plan: Some(again),
    };
    let mut candidate = Candidate::checked(ctx, base, restored, number)?;
    candidate.edit = edit;
    Ok(candidate)
}
