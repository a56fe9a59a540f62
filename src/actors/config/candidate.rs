//! A configuration that may follow the one in force, with all that it would change.
//! Owns the comparison with what is in force, and its words.
//! Never applies anything.

use std::sync::{Arc, Mutex, PoisonError};

use mainstay_policy::diff::{Difference, KeyClass, diff};
use mainstay_policy::lifecycle::ChangeClass;
use mainstay_policy::plan::Plan;
use mainstay_policy::reload::does_well;
use mainstay_policy::{ModuleId, ModuleIds};
use serde_json::{Value, json};

use super::ReloadRequest;
use super::delivery::can_follow;
use super::edit::EditResult;
use crate::actors::{Planned, RuntimeContext};
use crate::config::{
    ConfigChanges, ConfigSources, Configuration, KeyChange, LaunchSpec, NotEnforced,
    check_enforcement, is_confidential, load_watched,
};
use crate::os::folder_watch::FolderWatch;

/// The changes of a plan that has the content of an earlier one.
pub(crate) fn again(plan: u64, mut changes: Vec<String>) -> Vec<String> {
    changes.insert(0, format!("plan {plan} again"));
    changes
}

/// A configuration that may follow.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The configuration.
    pub(crate) configuration: Arc<Configuration>,
    /// What was in force when it was compared.
    pub(crate) base: Arc<Planned>,
    /// Its plan.
    pub(crate) plan: Arc<Plan>,
    /// The keys that differ.
    pub(crate) keys: ConfigChanges,
    /// The modules that differ, in the order in which the changes are applied.
    pub(crate) differences: Vec<(ModuleId, Difference)>,
    /// It goes back to the committed plan.
    is_rollback: bool,
    /// What belongs to the change of a request.
    pub(crate) edit: EditResult,
    /// Modules that have accepted their new settings.
    pub(crate) prepared: Vec<ModuleId>,
}

impl Candidate {
    /// Reads the files and watches them from then on; blocks.
    ///
    /// # Errors
    /// All problems of the files, as text.
    pub(crate) fn read(
        ctx: &RuntimeContext,
        sources: &ConfigSources,
        number: u64,
        watch: Option<&Mutex<FolderWatch>>,
    ) -> Result<Candidate, String> {
        let base = ctx.planned();
        let sources = &ConfigSources {
            overrides: base.configuration.overrides().to_vec(),
            ..sources.clone()
        };
        let (mut read, consulted) = load_watched(sources, &base.configuration);
        let watch = watch.map(|watch| watch.lock().unwrap_or_else(PoisonError::into_inner));
        // A change before its folder was watched was not reported.
        if watch.is_some_and(|mut watch| watch.set(&consulted)) {
            read = load_watched(sources, &base.configuration).0;
        }
        let configuration = read.map_err(|problems| problems.without_excerpts().to_string())?;
        Candidate::checked(ctx, base, configuration, number)
    }

    /// Compares a configuration with what is in force, if this machine can enforce it.
    ///
    /// # Errors
    /// As [`Candidate::read`].
    pub(crate) fn checked(
        ctx: &RuntimeContext,
        base: Arc<Planned>,
        configuration: Configuration,
        number: u64,
    ) -> Result<Candidate, String> {
        check_enforcement(&configuration, |key| {
            let (cause, remedy) = ctx.os.enforcement().missing(key)?;
            Some(NotEnforced { cause, remedy })
        })
        .map_err(|problems| problems.without_excerpts().to_string())?;
        ctx.open_secrets(&configuration)?;
        let follows = |module: ModuleId, launch: &LaunchSpec| can_follow(ctx, module, launch);
        Candidate::of(base, Arc::new(configuration), number, follows)
    }

    /// Compares a configuration with what is in force.
    ///
    /// # Errors
    /// Why it is no plan.
    pub(crate) fn of(
        base: Arc<Planned>,
        configuration: Arc<Configuration>,
        number: u64,
        follows: impl Fn(ModuleId, &LaunchSpec) -> bool,
    ) -> Result<Candidate, String> {
        let specs = configuration.modules.iter().map(|(spec, _)| spec);
        let plan = Plan::new(number, configuration.system_spec.clone(), specs.cloned());
        let plan = plan.map_err(|error| error.to_string())?;
        let keys = base.configuration.changes_to(&configuration);
        // A run that cannot be told of new settings is restarted.
        let follows = |module: ModuleId| {
            let next = configuration.module(module);
            next.is_some_and(|(_, launch)| follows(module, launch))
        };
        let classes = keys.classes().into_iter();
        let classes = classes.map(|(module, class)| match class {
            KeyClass::Notify if !follows(module) => (module, KeyClass::Restart),
            class => (module, class),
        });
        let classes: Vec<(ModuleId, KeyClass)> = classes.collect();
        let differences = diff(&base.plan, &plan, &classes);
        Ok(Candidate {
            configuration,
            base,
            plan: Arc::new(plan),
            keys,
            differences,
            is_rollback: false,
            edit: EditResult::default(),
            prepared: Vec::new(),
        })
    }

    /// What a rollback applies: the committed configuration, with every slot that there is by now.
    ///
    /// # Errors
    /// As [`Candidate::of`].
    pub(crate) fn rollback(
        base: Arc<Planned>,
        committed: &Configuration,
        number: u64,
        follows: impl Fn(ModuleId, &LaunchSpec) -> bool,
    ) -> Result<Candidate, String> {
        let ids: ModuleIds = base.configuration.ids.clone();
        let configuration = committed.clone().with_ids(ids);
        let candidate = Candidate::of(base, Arc::new(configuration), number, follows)?;
        Ok(Candidate {
            is_rollback: true,
            ..candidate
        })
    }

    /// Whether it goes back to the committed plan.
    pub(crate) fn is_rollback(&self) -> bool {
        self.is_rollback
    }

    /// What becomes of the runs. A module that a rollback brings back is as it was.
    pub(crate) fn run_changes(&self) -> Vec<(ModuleId, ChangeClass)> {
        let differences = self.differences.iter();
        let stays = |change: &Difference| self.is_rollback && *change == Difference::Added;
        differences
            .filter(|(_, change)| !stays(change))
            .map(|(module, difference)| (*module, difference.class()))
            .collect()
    }

    /// The modules whose settings change and whose runs go on, with how they are then started.
    pub(crate) fn notified(&self) -> impl Iterator<Item = (ModuleId, &LaunchSpec)> {
        self.differences.iter().filter_map(|(module, difference)| {
            let launch = &self.configuration.module(*module)?.1;
            let before = &self.base.configuration.module(*module)?.1;
            let goes_on = difference.class() == ChangeClass::Live;
            (goes_on && before.settings != launch.settings).then_some((*module, launch))
        })
    }

    /// A module asks for a restart.
    pub(crate) fn restart(&mut self, module: ModuleId) {
        let found = self.differences.iter_mut().find(|(id, _)| *id == module);
        if let Some((_, difference)) = found {
            *difference = Difference::Changed(KeyClass::Restart);
        }
    }

    /// The modules that it changes and that do well: those are watched.
    pub(crate) fn touched(&self, ctx: &RuntimeContext) -> Vec<ModuleId> {
        let modules = self.differences.iter().map(|(module, _)| *module);
        let does_well = |module: &ModuleId| {
            if !self.base.plan.has(*module) {
                return true;
            }
            let now = ctx.snapshots.module(*module);
            let is_unhealthy = now.health.status == mainstay_protocol::HealthStatus::Unhealthy;
            does_well(&now.lifecycle.info, is_unhealthy)
        };
        modules.filter(does_well).collect()
    }

    /// The keys of a module that differ.
    pub(crate) fn keys_of(&self, module: ModuleId) -> &[KeyChange] {
        let mut modules = self.keys.modules.iter();
        let found = modules.find(|(id, _)| *id == module);
        found.map_or(&[], |(_, keys)| keys)
    }

    /// The name of a module of either plan.
    pub(crate) fn name(&self, module: ModuleId) -> String {
        let ids = &self.configuration.ids;
        let name = ids.name(module);
        name.map_or_else(|| module.0.to_string(), ToString::to_string)
    }

    /// What is recorded of a value that was set or unset.
    pub(crate) fn edit_payload(&self, request: &ReloadRequest) -> Option<Value> {
        let edit = request.edit.as_ref()?;
        let path = edit.path()?;
        let value = |configuration: &Configuration| {
            let values = configuration.values(path).unwrap_or_default();
            values
                .into_iter()
                .next()
                .map(|it| it.value)
                .unwrap_or_default()
        };
        let (before, after) = (value(&self.base.configuration), value(&self.configuration));
        let plan = self.plan.number();
        let mut payload = json!({ "key": path, "before": before, "after": after, "plan": plan });
        if is_confidential(path, &before) || is_confidential(path, &after) {
            payload["before"] = Value::Null;
            payload["after"] = Value::Null;
            payload["hidden"] = true.into();
        }
        if edit.is_persistent() {
            payload["persisted"] = true.into();
        }
        Some(payload)
    }

    /// The name that a module has in the plan in force, if it gets another one.
    pub(crate) fn renamed_from(&self, module: ModuleId) -> Option<&str> {
        let (before, after) = (self.base.plan.get(module)?, self.plan.get(module)?);
        (before.name != after.name).then_some(before.name.as_str())
    }

    /// The same for the history: with the plan whose content it is, if it is one.
    pub(crate) fn history(&self) -> Vec<String> {
        match self.edit.plan {
            Some(plan) => again(plan, self.summary()),
            None => self.summary(),
        }
    }

    /// One line for each change.
    pub(crate) fn summary(&self) -> Vec<String> {
        let system = self.keys.system.iter().map(|key| key.path.clone());
        let modules = self.differences.iter().map(|(module, difference)| {
            let name = match self.renamed_from(*module) {
                None => self.name(*module),
                Some(former) => format!("{} renamed from {former}", self.name(*module)),
            };
            match difference {
                Difference::Added => format!("{name} added"),
                Difference::Removed => format!("{name} removed"),
                Difference::TakenAlong(by) => {
                    format!("{name} restarted with {}", self.name(*by))
                }
                Difference::Changed(_) => match &self.changed_keys(*module)[..] {
                    [] if self.renamed_from(*module).is_some() => name,
                    keys => format!("{name} changed ({})", keys.join(", ")),
                },
            }
        });
        let dropped = self.base.configuration.overrides().iter();
        let dropped = dropped.filter(|value| {
            let now = self.configuration.overrides().iter();
            !now.clone().any(|other| other.path == value.path)
        });
        let dropped = dropped.map(|value| format!("{} no longer set at runtime", value.path));
        system.chain(modules).chain(dropped).collect()
    }

    /// The keys of a module that differ, without `module.NAME.`; not `renamed_from` of a renamed
    /// one.
    fn changed_keys(&self, module: ModuleId) -> Vec<&str> {
        let prefix = format!("module.{}.", self.name(module));
        let keys = self.keys_of(module).iter();
        let keys = keys.map(|key| key.path.strip_prefix(&prefix).unwrap_or(&key.path));
        let is_told = self.renamed_from(module).is_some();
        keys.filter(|key| !is_told || *key != "renamed_from")
            .collect()
    }
}
