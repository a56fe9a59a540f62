//! A plan: an immutable, numbered set of specs that is known to be runnable.
//! Owns the specs, their graph and the checks that no single spec can make.
//! Never changes: a new configuration is a new plan.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::graph::{DependencyGraph, Dependent};
use crate::group::{GroupError, GroupMember, GroupTree};
use crate::spec::{DependencyCondition, Edge, Kind, ModuleId, ModuleSpec, SystemSpec};

#[cfg(test)]
mod tests;

/// A set of modules that can be run.
#[derive(Debug, Clone)]
pub struct Plan {
    number: u64,
    system: SystemSpec,
    /// By slot; None: this plan has no module there.
    modules: Vec<Option<Arc<ModuleSpec>>>,
    /// By name.
    ids: Vec<ModuleId>,
    graph: Arc<DependencyGraph>,
    groups: Arc<GroupTree>,
}

/// Why a set of modules cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// An edge points to no module of the plan.
    Unknown {
        /// Whose edge.
        module: String,
        /// Where it points.
        to: ModuleId,
    },
    /// A module depends on itself.
    SelfEdge {
        /// The module.
        module: String,
    },
    /// Modules depend on each other in a circle.
    Cycle {
        /// Each depends on the next, the last one on the first.
        path: Vec<String>,
    },
    /// `until = "healthy"` on a module without a probe.
    NeverHealthy {
        /// Whose edge.
        module: String,
        /// The one without probes.
        to: String,
    },
    /// `until = "completed"` on a builtin, which never ends.
    NeverCompletes {
        /// Whose edge.
        module: String,
        /// The builtin.
        to: String,
    },
    /// Two modules have the same name.
    SameName {
        /// The name.
        name: String,
    },
    /// Two modules have the same slot.
    SameSlot {
        /// One.
        module: String,
        /// The other.
        other: String,
    },
    /// A member of a group is no module of the plan.
    UnknownMember {
        /// The group.
        group: String,
        /// Where it points.
        to: ModuleId,
    },
    /// The groups do not form a tree.
    Groups {
        /// The group where that shows.
        group: String,
        /// What is wrong with it.
        error: GroupError,
    },
}

impl Plan {
    /// Checks and orders `modules`.
    ///
    /// # Errors
    /// The first reason why they cannot be run.
    pub fn new(
        number: u64,
        system: SystemSpec,
        modules: impl IntoIterator<Item = impl Into<Arc<ModuleSpec>>>,
    ) -> Result<Plan, PlanError> {
        let modules = by_slot(modules.into_iter().map(Into::into))?;
        let ids = by_name(&modules)?;
        check(&modules)?;
        let graph = DependencyGraph::new(&modules).map_err(|path| PlanError::Cycle {
            path: path.iter().map(|id| name(&modules, *id).into()).collect(),
        })?;
        let groups = groups(&system, &modules)?;
        Ok(Plan {
            number,
            system,
            modules,
            ids,
            graph: Arc::new(graph),
            groups: Arc::new(groups),
        })
    }

    /// Its supervision groups.
    #[must_use]
    pub fn groups(&self) -> &Arc<GroupTree> {
        &self.groups
    }

    /// Its graph.
    #[must_use]
    pub fn graph(&self) -> &Arc<DependencyGraph> {
        &self.graph
    }

    /// Its number; a newer plan has a higher one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What holds for the system as a whole.
    #[must_use]
    pub fn system(&self) -> &SystemSpec {
        &self.system
    }

    /// Every module, in the order of their names.
    pub fn modules(&self) -> impl Iterator<Item = &Arc<ModuleSpec>> {
        self.ids.iter().filter_map(|id| self.get(*id))
    }

    /// How many modules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many slots there are: the id of every module is below it. Not all have a module.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.modules.len()
    }

    /// Every id, in the order of the names.
    pub fn ids(&self) -> impl Iterator<Item = ModuleId> + '_ {
        self.ids.iter().copied()
    }

    /// The module in a slot, if this plan has one there.
    #[must_use]
    pub fn get(&self, module: ModuleId) -> Option<&Arc<ModuleSpec>> {
        self.modules.get(module.index())?.as_ref()
    }

    /// A module of this plan.
    ///
    /// # Panics
    /// When the slot has no module in this plan: ask [`Plan::has`] first.
    #[must_use]
    pub fn module(&self, module: ModuleId) -> &ModuleSpec {
        match &self.modules[module.index()] {
            Some(spec) => spec,
            None => unreachable!("plan {} has no module in slot {}", self.number, module.0),
        }
    }

    /// Whether this plan has a module in the slot.
    #[must_use]
    pub fn has(&self, module: ModuleId) -> bool {
        self.get(module).is_some()
    }

    /// The module of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModuleId> {
        let place = self
            .ids
            .binary_search_by(|id| self.module(*id).name.as_str().cmp(name));
        Some(self.ids[place.ok()?])
    }

    /// What `module` depends on.
    #[must_use]
    pub fn dependencies(&self, module: ModuleId) -> &[Edge] {
        &self.module(module).edges
    }

    /// The dependents of `module`.
    #[must_use]
    pub fn dependents(&self, module: ModuleId) -> &[Dependent] {
        self.graph.dependents(module)
    }

    /// How many modules must start one after the other before `module` can.
    #[must_use]
    pub fn wave(&self, module: ModuleId) -> u32 {
        self.graph.wave(module)
    }

    /// The place of `module` in [`Plan::order`].
    #[must_use]
    pub fn rank(&self, module: ModuleId) -> u32 {
        self.graph.rank(module)
    }

    /// The start order: every module after all that it depends on; by wave, then by name.
    #[must_use]
    pub fn order(&self) -> &[ModuleId] {
        self.graph.order()
    }
}

/// The modules, each in its slot.
fn by_slot(
    modules: impl Iterator<Item = Arc<ModuleSpec>>,
) -> Result<Vec<Option<Arc<ModuleSpec>>>, PlanError> {
    let mut slots: Vec<Option<Arc<ModuleSpec>>> = Vec::with_capacity(modules.size_hint().0);
    for module in modules {
        let at = module.id.index();
        if slots.len() <= at {
            slots.resize(at + 1, None);
        }
        if let Some(other) = &slots[at]
            && other.name != module.name
        {
            return Err(PlanError::SameSlot {
                module: module.name.clone(),
                other: other.name.clone(),
            });
        }
        let name = module.name.clone();
        if slots[at].replace(module).is_some() {
            return Err(PlanError::SameName { name });
        }
    }
    Ok(slots)
}

/// The ids in the order of the names, no two of which are the same.
fn by_name(modules: &[Option<Arc<ModuleSpec>>]) -> Result<Vec<ModuleId>, PlanError> {
    let mut names: Vec<(&str, ModuleId)> = (modules.iter().flatten())
        .map(|module| (module.name.as_str(), module.id))
        .collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(PlanError::SameName {
            name: pair[0].0.into(),
        }),
        None => Ok(names.into_iter().map(|(_, id)| id).collect()),
    }
}

/// The groups, whose members are modules of the plan.
fn groups(
    system: &SystemSpec,
    modules: &[Option<Arc<ModuleSpec>>],
) -> Result<GroupTree, PlanError> {
    for group in &system.groups {
        let unknown = group.members.iter().find_map(|member| match member {
            GroupMember::Module(id) => {
                let exists = matches!(modules.get(id.index()), Some(Some(_)));
                (!exists).then_some(*id)
            }
            GroupMember::Group(_) => None,
        });
        if let Some(to) = unknown {
            let group = group.name.clone();
            return Err(PlanError::UnknownMember { group, to });
        }
    }
    GroupTree::new(system.groups.clone()).map_err(|error| {
        let at = match &error {
            GroupError::TwoGroups { groups, .. } => groups[1],
            GroupError::Cycle { path } => path[0],
            GroupError::UnknownGroup { group } | GroupError::NoParent { group } => *group,
        };
        let spec = system.groups.get(at.0 as usize);
        let group = spec.map_or_else(String::new, |spec| spec.name.clone());
        PlanError::Groups { group, error }
    })
}

fn name(modules: &[Option<Arc<ModuleSpec>>], module: ModuleId) -> &str {
    modules[module.index()]
        .as_ref()
        .map_or("", |module| &module.name)
}

/// The checks of edges before there is a graph.
fn check(modules: &[Option<Arc<ModuleSpec>>]) -> Result<(), PlanError> {
    for spec in modules.iter().flatten() {
        let module = || spec.name.clone();
        for edge in &spec.edges {
            let Some(Some(target)) = modules.get(edge.to.index()) else {
                return Err(PlanError::Unknown {
                    module: module(),
                    to: edge.to,
                });
            };
            if edge.to == spec.id {
                return Err(PlanError::SelfEdge { module: module() });
            }
            let to = || target.name.clone();
            if edge.until == DependencyCondition::Healthy && !target.has_probes {
                return Err(PlanError::NeverHealthy {
                    module: module(),
                    to: to(),
                });
            }
            if edge.until == DependencyCondition::Completed && target.kind == Kind::Builtin {
                return Err(PlanError::NeverCompletes {
                    module: module(),
                    to: to(),
                });
            }
        }
    }
    Ok(())
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Unknown { module, to } => write!(
                f,
                "cannot order module {module}: it depends on module number {}, which is not in \
                 the plan; add that module or remove the dependency",
                to.0
            ),
            PlanError::SelfEdge { module } => write!(
                f,
                "cannot order module {module}: it depends on itself; remove that dependency"
            ),
            PlanError::Cycle { path } => {
                f.write_str("cannot order the modules: they depend on each other in a circle: ")?;
                for name in path {
                    write!(f, "{name} -> ")?;
                }
                write!(
                    f,
                    "{}; remove one of these dependencies",
                    path.first().map_or("", String::as_str)
                )
            }
            PlanError::NeverHealthy { module, to } => write!(
                f,
                "cannot let module {module} wait until {to} is healthy: nothing reports the \
                 health of {to}; give it a probe or wait until it is ready"
            ),
            PlanError::NeverCompletes { module, to } => write!(
                f,
                "cannot let module {module} wait until {to} has completed: {to} is builtin and \
                 never ends; wait until it is ready"
            ),
            PlanError::SameName { name } => {
                write!(
                    f,
                    "cannot tell two modules named {name} apart; rename one of them"
                )
            }
            PlanError::SameSlot { module, other } => write!(
                f,
                "cannot tell modules {module} and {other} apart: they have the same number; \
                 intern their names"
            ),
            PlanError::UnknownMember { group, to } => write!(
                f,
                "cannot form group {group}: its member number {} is not in the plan; add that \
                 module or remove the member",
                to.0
            ),
            PlanError::Groups { group, error } => {
                let (why, next) = match error {
                    GroupError::TwoGroups { .. } => {
                        ("a member is in two groups", "name it in one of them")
                    }
                    GroupError::Cycle { .. } => (
                        "groups contain each other in a circle",
                        "remove one of these members",
                    ),
                    GroupError::UnknownGroup { .. } => (
                        "a member group is not in the plan",
                        "add it or remove the member",
                    ),
                    GroupError::NoParent { .. } => (
                        "it escalates and is in no group",
                        "choose another on_exceeded",
                    ),
                };
                write!(f, "cannot form group {group}: {why}; {next}")
            }
        }
    }
}

impl core::error::Error for PlanError {}
