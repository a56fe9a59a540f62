//! A plan: an immutable, numbered set of specs that is known to be runnable.
//! Owns the specs, their graph and the checks that no single spec can make.
//! Never changes: a new configuration is a new plan.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::graph::{DependencyGraph, Dependent};
use crate::spec::{DependencyCondition, Edge, Kind, ModuleId, ModuleSpec, SystemSpec};

#[cfg(test)]
mod tests;

/// A set of modules that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    number: u64,
    system: SystemSpec,
    modules: Vec<ModuleSpec>,
    graph: DependencyGraph,
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
        /// Which.
        module: String,
    },
    /// Modules depend on each other in a circle.
    Cycle {
        /// Each depends on the next, the last one on the first.
        path: Vec<String>,
    },
    /// `until = "healthy"` on a module whose health nobody reports.
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
}

impl Plan {
    /// Checks and orders `modules`; their place in the vector is their [`ModuleId`].
    ///
    /// # Errors
    /// The first reason why they cannot be run.
    pub fn new(
        number: u64,
        system: SystemSpec,
        modules: Vec<ModuleSpec>,
    ) -> Result<Plan, PlanError> {
        check(&modules)?;
        let graph = DependencyGraph::new(&modules).map_err(|path| PlanError::Cycle {
            path: path
                .iter()
                .map(|id| modules[id.index()].name.clone())
                .collect(),
        })?;
        Ok(Plan {
            number,
            system,
            modules,
            graph,
        })
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

    /// Every module, by its id.
    #[must_use]
    pub fn modules(&self) -> &[ModuleSpec] {
        &self.modules
    }

    /// How many modules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Every id, in the order of the vector.
    pub fn ids(&self) -> impl Iterator<Item = ModuleId> + use<> {
        (0_u32..).take(self.modules.len()).map(ModuleId)
    }

    /// One module. Ids of another plan may not exist here: ask [`Plan::has`] first.
    #[must_use]
    pub fn module(&self, module: ModuleId) -> &ModuleSpec {
        &self.modules[module.index()]
    }

    /// Whether the id is of this plan.
    #[must_use]
    pub fn has(&self, module: ModuleId) -> bool {
        module.index() < self.modules.len()
    }

    /// The module of that name; linear.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModuleId> {
        self.ids().find(|id| self.module(*id).name == name)
    }

    /// What `module` depends on.
    #[must_use]
    pub fn dependencies(&self, module: ModuleId) -> &[Edge] {
        &self.modules[module.index()].edges
    }

    /// Who depends on `module`.
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

/// The checks before there is a graph.
fn check(modules: &[ModuleSpec]) -> Result<(), PlanError> {
    let mut names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(PlanError::SameName {
            name: pair[0].into(),
        });
    }
    for (at, spec) in modules.iter().enumerate() {
        let module = || spec.name.clone();
        for edge in &spec.edges {
            let Some(target) = modules.get(edge.to.index()) else {
                return Err(PlanError::Unknown {
                    module: module(),
                    to: edge.to,
                });
            };
            if edge.to.index() == at {
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
        }
    }
}

impl core::error::Error for PlanError {}
