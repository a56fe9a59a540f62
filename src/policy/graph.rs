//! The dependency graph: who waits for whom, in waves and in one stable order.
//! Owns the reverse edges and the topological order; linear but for the sort by name.
//! Never looks at states: what an edge means at a moment is the lifecycle's.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::spec::{DependencyCondition, Edge, ModuleId, ModuleSpec};

/// An edge seen from its target: who depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependent {
    /// The module that depends.
    pub from: ModuleId,
    /// `requires` (true) or `wants` (false).
    pub hard: bool,
    /// What it waits for.
    pub until: DependencyCondition,
}

/// A graph without cycles. Its nodes are the slots of module ids; a slot without a module has no
/// edges and no place in the order.
#[derive(Debug, Clone, PartialEq)]
pub struct DependencyGraph {
    /// `dependents[starts[m]..starts[m + 1]]` are those of `m`.
    dependents: Vec<Dependent>,
    starts: Vec<u32>,
    wave: Vec<u32>,
    rank: Vec<u32>,
    order: Vec<ModuleId>,
}

/// Modules by slot.
type Slots = [Option<Arc<ModuleSpec>>];

impl DependencyGraph {
    /// Orders the modules in `slots`; every edge must point to one of them.
    ///
    /// # Errors
    /// The path of a cycle: each module depends on the next, the last one on the first.
    pub fn new(slots: &Slots) -> Result<DependencyGraph, Vec<ModuleId>> {
        let (starts, dependents) = reversed(slots);
        let of = |slot: usize| starts[slot] as usize..starts[slot + 1] as usize;

        let mut unmet: Vec<usize> = slots.iter().map(|slot| edges(slot).len()).collect();
        let mut wave = vec![0_u32; slots.len()];
        let free = modules(slots).filter(|(_, module)| module.edges.is_empty());
        let mut order: Vec<ModuleId> = free.map(|(id, _)| id).collect();
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
        if order.len() < slots.iter().flatten().count() {
            return Err(cycle(slots, &unmet));
        }
        order.sort_unstable_by_key(|id| (wave[id.index()], name(slots, *id), *id));
        let mut rank = vec![u32::MAX; slots.len()];
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

    /// How many slots there are; the id of every module is below it.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.rank.len()
    }

    /// The modules that depend on `module`, hard and soft.
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

    /// The position of `module` in [`DependencyGraph::order`].
    #[must_use]
    pub fn rank(&self, module: ModuleId) -> u32 {
        self.rank[module.index()]
    }

    /// The module at a position of [`DependencyGraph::order`].
    #[must_use]
    pub fn at(&self, rank: u32) -> ModuleId {
        self.order[rank as usize]
    }

    /// Every module after all that it depends on: by wave, then by name.
    #[must_use]
    pub fn order(&self) -> &[ModuleId] {
        &self.order
    }
}

fn edges(slot: &Option<Arc<ModuleSpec>>) -> &[Edge] {
    slot.as_ref().map_or(&[], |module| &module.edges)
}

fn name(slots: &Slots, module: ModuleId) -> &str {
    slots[module.index()]
        .as_ref()
        .map_or("", |module| &module.name)
}

fn modules(slots: &Slots) -> impl Iterator<Item = (ModuleId, &ModuleSpec)> {
    let numbered = (0_u32..).map(ModuleId).zip(slots);
    numbered.filter_map(|(id, slot)| Some((id, slot.as_deref()?)))
}

/// All edges, gathered by their target.
fn reversed(slots: &Slots) -> (Vec<u32>, Vec<Dependent>) {
    let mut starts = vec![0_u32; slots.len() + 1];
    for edge in slots.iter().flat_map(edges) {
        starts[edge.to.index() + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let total = starts[slots.len()] as usize;
    let nobody = Dependent {
        from: ModuleId(0),
        hard: false,
        until: DependencyCondition::Started,
    };
    let mut dependents = vec![nobody; total];
    let mut free = starts.clone();
    for (from, module) in modules(slots) {
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

/// A cycle among the modules that were never free; it starts at its first name.
fn cycle(slots: &Slots, unmet: &[usize]) -> Vec<ModuleId> {
    let stuck = |id: &ModuleId| unmet[id.index()] > 0;
    let name = |id: &ModuleId| name(slots, *id);
    let mut path: Vec<ModuleId> = Vec::new();
    let mut place = vec![usize::MAX; slots.len()];
    let mut next = modules(slots)
        .map(|(id, _)| id)
        .filter(stuck)
        .min_by_key(name);
    // Each stuck module depends on a stuck one, so the walk meets itself.
    while let Some(module) = next {
        let seen = &mut place[module.index()];
        if *seen != usize::MAX {
            path.drain(..*seen);
            break;
        }
        *seen = path.len();
        path.push(module);
        let targets = edges(&slots[module.index()]).iter().map(|edge| edge.to);
        next = targets.into_iter().find(stuck);
    }
    let first = (0..path.len())
        .min_by_key(|&at| name(&path[at]))
        .unwrap_or(0);
    path.rotate_left(first);
    path
}
