//! The plan of a configuration under faults of its modules, in virtual time: does it come up, and
//! come back?
//! Owns the fault file, the simulated processes, and the figures of many histories.
//! Never starts a process and never decides: the policy that a runtime runs by does.

mod advice;
mod chance;
mod fault_file;
mod figures;
mod history;
mod observer;
mod processes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::{ModuleId, ModuleSpec, Plan, PlanError};

use crate::config::{Configuration, ProbeKind, ProbeSpec};

pub(crate) use fault_file::{FaultError, FaultFile, ModuleFaults, Span};
pub(crate) use figures::{Figures, ModuleFigures, Percentiles};

/// How many histories, from which seed on, and how long each is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulationOptions {
    /// The number of histories.
    pub(crate) histories: u32,
    /// The seed of the first; the others follow it.
    pub(crate) seed: u64,
    /// The virtual time of each.
    pub(crate) lasts: Duration,
}

/// A plan, and what goes wrong with each of its modules.
pub(crate) struct Model {
    plan: Arc<Plan>,
    /// By slot.
    modules: Vec<Option<ModuleModel>>,
}

/// What goes wrong with a module, and what would notice it.
struct ModuleModel {
    faults: ModuleFaults,
    probes: Vec<ProbeSpec>,
}

impl Model {
    /// The plan of a configuration, with these faults.
    ///
    /// # Errors
    /// The faults of a module that the configuration does not have.
    pub(crate) fn new(config: &Configuration, faults: &FaultFile) -> Result<Model, FaultError> {
        let specs = config.modules.iter().map(|(spec, _)| Arc::clone(spec));
        let names = specs.clone().map(|spec| spec.name.clone());
        faults.check_names(&names.collect::<Vec<_>>())?;
        let plan = Plan::new(1, config.system_spec.clone(), specs).map_err(FaultError::plan)?;
        let of = |id: ModuleId| {
            let (spec, launch) = config.module(id)?;
            Some(ModuleModel {
                faults: faults.of(&spec.name),
                probes: launch.probes.clone(),
            })
        };
        let modules = (0_u32..).map(ModuleId).take(plan.slots()).map(of).collect();
        let plan = Arc::new(plan);
        Ok(Model { plan, modules })
    }

    /// Runs all histories.
    pub(crate) fn run(&self, options: SimulationOptions) -> Figures {
        let seeds = (0..options.histories).map(|nth| options.seed.wrapping_add(u64::from(nth)));
        let mut figures = Figures::new(self, options);
        for seed in seeds {
            let outcome = history::run(self, seed, options.lasts);
            figures.add(self, seed, outcome);
        }
        figures.finish(self)
    }

    fn spec(&self, module: ModuleId) -> &ModuleSpec {
        self.plan.module(module)
    }

    fn name(&self, module: ModuleId) -> &str {
        &self.plan.module(module).name
    }

    fn module(&self, module: ModuleId) -> Option<&ModuleModel> {
        self.modules.get(module.index())?.as_ref()
    }

    /// The modules that have a run.
    fn ids(&self) -> impl Iterator<Item = ModuleId> + '_ {
        use mainstay_policy::spec::Kind;
        self.plan
            .ids()
            .filter(|id| self.spec(*id).kind != Kind::Builtin)
    }
}

impl ModuleModel {
    /// Whether something would notice that it hangs.
    fn notices_hangs(&self) -> bool {
        use mainstay_process::ProbeRole;
        self.probes.iter().any(|probe| match probe.check {
            ProbeKind::Watchdog(_) => true,
            ProbeKind::Sdk | ProbeKind::Probe(_) => probe.role == ProbeRole::Liveness,
        })
    }
}

impl FaultError {
    fn plan(error: PlanError) -> FaultError {
        FaultError::Plan(format!("{error:?}"))
    }
}
