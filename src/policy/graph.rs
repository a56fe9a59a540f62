//! The dependency graph: who waits for whom, in waves and in one stable order.
//! Owns the reverse edges and the topological order; linear but for the sort by name.
//! Never looks at states: what an edge means at a moment is the lifecycle's.

use alloc::vec;
use alloc::vec::Vec;

use crate::spec::{DependencyCondition, ModuleId, ModuleSpec};

/// An edge seen from its target: who depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependent {
    /// Who depends.
    pub from: ModuleId,
    /// `requires` (true) or `wants` (false).
    pub hard: bool,
    /// What it waits for.
    pub until: DependencyCondition,
}

/// A graph without cycles.
#[derive(Debug, Clone, PartialEq)]
pub struct DependencyGraph {
    /// `dependents[starts[m]..starts[m + 1]]` are those of `m`.
    dependents: Vec<Dependent>,
    starts: Vec<u32>,
    wave: Vec<u32>,
    rank: Vec<u32>,
    order: Vec<ModuleId>,
}

impl DependencyGraph {
    /// Orders `modules`; every edge must point into the slice.
    ///
    /// # Errors
    /// The path of a cycle: each module depends on the next, the last one on the first.
    pub fn new(modules: &[ModuleSpec]) -> Result<DependencyGraph, Vec<ModuleId>> {
        let (starts, dependents) = reversed(modules);
        let of = |module: usize| starts[module] as usize..starts[module + 1] as usize;

        let mut unmet: Vec<usize> = modules.iter().map(|module| module.edges.len()).collect();
        let mut wave = vec![0_u32; modules.len()];
        let mut order: Vec<ModuleId> = ids(modules)
            .filter(|id| modules[id.index()].edges.is_empty())
            .collect();
        let mut next = 0;
        while let Some(&module) = order.get(next) {
            next += 1;
            for dependent in &dependents[of(module.index())] {
                let from = dependent.from.index();
                wave[from] = wave[from].max(wave[module.index()] + 1);
                unmet[from] -= 1;
                if unmet[from] == 0 {
                    order.push(dependent.from);
                }
            }
        }
        if order.len() < modules.len() {
            return Err(cycle(modules, &unmet));
        }
        order.sort_unstable_by_key(|id| (wave[id.index()], modules[id.index()].name.as_str(), *id));
        let mut rank = vec![0; modules.len()];
        for (place, module) in (0_u32..).zip(&order) {
            rank[module.index()] = place;
        }
        Ok(DependencyGraph {
            dependents,
            starts,
            wave,
            rank,
            order,
        })
    }

    /// Who depends on `module`, hard and soft.
    #[must_use]
    pub fn dependents(&self, module: ModuleId) -> &[Dependent] {
        let at = module.index();
        &self.dependents[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// How many modules must start one after the other before `module` can.
    #[must_use]
    pub fn wave(&self, module: ModuleId) -> u32 {
        self.wave[module.index()]
    }

    /// The place of `module` in [`DependencyGraph::order`].
    #[must_use]
    pub fn rank(&self, module: ModuleId) -> u32 {
        self.rank[module.index()]
    }

    /// Every module after all that it depends on: by wave, then by name.
    #[must_use]
    pub fn order(&self) -> &[ModuleId] {
        &self.order
    }
}

fn ids(modules: &[ModuleSpec]) -> impl Iterator<Item = ModuleId> {
    (0_u32..).take(modules.len()).map(ModuleId)
}

/// All edges, gathered by their target.
fn reversed(modules: &[ModuleSpec]) -> (Vec<u32>, Vec<Dependent>) {
    let mut starts = vec![0_u32; modules.len() + 1];
    for edge in modules.iter().flat_map(|module| &module.edges) {
        starts[edge.to.index() + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let total = starts[modules.len()] as usize;
    let nobody = Dependent {
        from: ModuleId(0),
        hard: false,
        until: DependencyCondition::Started,
    };
    let mut dependents = vec![nobody; total];
    let mut free = starts.clone();
    for (from, module) in ids(modules).zip(modules) {
        for edge in &module.edges {
            let place = &mut free[edge.to.index()];
            dependents[*place as usize] = Dependent {
                from,
                hard: edge.hard,
                until: edge.until,
            };
            *place += 1;
        }
    }
    (starts, dependents)
}

/// A cycle among those that were never free; it starts at its first name.
fn cycle(modules: &[ModuleSpec], unmet: &[usize]) -> Vec<ModuleId> {
    let stuck = |id: &ModuleId| unmet[id.index()] > 0;
    let name = |id: &ModuleId| modules[id.index()].name.as_str();
    let mut path: Vec<ModuleId> = Vec::new();
    let mut place = vec![usize::MAX; modules.len()];
    let mut next = ids(modules).filter(stuck).min_by_key(name);
    // Each stuck module depends on a stuck one, so the walk meets itself.
    while let Some(module) = next {
        let seen = &mut place[module.index()];
        if *seen != usize::MAX {
            path.drain(..*seen);
            break;
        }
        *seen = path.len();
        path.push(module);
        next = modules[module.index()]
            .edges
            .iter()
            .map(|edge| edge.to)
            .find(stuck);
    }
    let first = (0..path.len())
        .min_by_key(|&at| name(&path[at]))
        .unwrap_or(0);
    path.rotate_left(first);
    path
}
