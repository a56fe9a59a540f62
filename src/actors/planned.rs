//! The plan in force: its configuration, its modules and their names, by slot.
//! Owns the specification and the launch data of each module, by id; it never shrinks.
//! Never changes: a new plan is a new value, and readers swap to it as a whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mainstay_policy::plan::Plan;
use mainstay_policy::{ModuleId, ModuleSpec};
use mainstay_process::Instance;

use crate::config::{Configuration, LaunchSpec};

/// The plan in force.
#[derive(Debug)]
pub(crate) struct Planned {
    /// What was configured.
    pub(crate) configuration: Arc<Configuration>,
    /// The plan built from it.
    pub(crate) plan: Arc<Plan>,
    /// By slot. A slot that the plan has no module in keeps its last definition: its run may still
    /// be stopping, and events about it still need its name.
    slots: Vec<Option<PlannedModule>>,
}

/// The committed plan.
#[derive(Debug)]
pub(crate) struct CommittedPlan {
    /// Its number.
    pub(crate) number: u64,
    /// What was configured.
    pub(crate) configuration: Arc<Configuration>,
    /// What the files come to, when that is not to be applied until they change.
    pub(crate) held: Option<String>,
}

/// The definition of one module in one plan.
#[derive(Debug, Clone)]
pub(crate) struct PlannedModule {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// What the holder calls it, whatever its name is.
    pub(crate) instance: Instance,
    /// What decisions need.
    pub(crate) spec: Arc<ModuleSpec>,
    /// How it is started.
    pub(crate) launch: Arc<LaunchSpec>,
}

impl Planned {
    /// The first plan of a runtime.
    pub(crate) fn new(configuration: Arc<Configuration>, plan: Arc<Plan>) -> Planned {
        Planned::onto(Vec::new(), configuration, plan)
    }

    /// The plan after this one. What it does not define keeps its definition.
    pub(crate) fn next(&self, configuration: Arc<Configuration>, plan: Arc<Plan>) -> Planned {
        Planned::onto(self.slots.clone(), configuration, plan)
    }

    fn onto(
        mut slots: Vec<Option<PlannedModule>>,
        configuration: Arc<Configuration>,
        plan: Arc<Plan>,
    ) -> Planned {
        slots.resize(slots.len().max(plan.slots()), None);
        for (spec, launch) in &configuration.modules {
            let id = plan.find(&spec.name);
            if let Some((id, spec)) = id.and_then(|id| Some((id, plan.get(id)?))) {
                let name: Arc<str> = Arc::from(spec.name.as_str());
                let instance = configuration.ids.instance(id).cloned();
                slots[id.index()] = Some(PlannedModule {
                    instance: instance.unwrap_or_else(|| Instance::new(&name, 1)),
                    name,
                    spec: Arc::clone(spec),
                    launch: Arc::new(launch.clone()),
                });
            }
        }
        Planned {
            configuration,
            plan,
            slots,
        }
    }

    /// How many slots there are: every id this runtime ever used is below it.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The name of the module in each slot, also of those that no plan has any more.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let ids = &self.configuration.ids;
        let names = (0_u32..).map_while(|slot| ids.name(ModuleId(slot)));
        names.map(|name| Arc::from(name.as_str())).collect()
    }

    /// The newest definition of a module.
    ///
    /// # Panics
    /// When no plan of this runtime ever had a module with this id.
    pub(crate) fn module(&self, module: ModuleId) -> &PlannedModule {
        match self.get(module) {
            Some(planned) => planned,
            None => unreachable!("no plan of this runtime has a module in slot {}", module.0),
        }
    }

    /// The newest definition of a module, if this plan or one before it has one.
    pub(crate) fn get(&self, module: ModuleId) -> Option<&PlannedModule> {
        self.slots.get(module.index())?.as_ref()
    }

    /// A cell with the definition of a module.
    pub(crate) fn define(&self, module: ModuleId) -> ArcSwap<PlannedModule> {
        ArcSwap::from_pointee(self.module(module).clone())
    }

    /// Its name.
    pub(crate) fn name(&self, module: ModuleId) -> &Arc<str> {
        &self.module(module).name
    }
}
