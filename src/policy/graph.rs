//! The dependency graph: which module waits for which, in waves and in one stable order.
//! Owns the edges (petgraph), the dependents of each module in one slice, and the start order.
//! Never looks at states: what an edge means at a moment is the lifecycle's.
//!
//! A node is the slot of a module id. petgraph gives the index of a removed node out again, so no
//! node is ever removed: the slot of a module that is gone has no edges and no place in the order.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::spec::{DependencyCondition, ModuleId, ModuleSpec};

#[cfg(test)]
mod tests;

/// An edge seen from its target: which module depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependent {
    /// The module that depends.
    pub from: ModuleId,
    /// `requires` (true) or `wants` (false).
    pub hard: bool,
    /// What it waits for.
    pub until: DependencyCondition,
}

/// From a module to what it depends on: `requires` (true) or `wants`, and until when.
type Edges = StableDiGraph<Option<Arc<ModuleSpec>>, (bool, DependencyCondition)>;

/// A graph in which every module comes after what it depends on.
#[derive(Debug, Clone)]
pub struct DependencyGraph {
    edges: Edges,
    /// `dependents[starts[m]..starts[m + 1]]` are those of `m`.
    dependents: Vec<Dependent>,
    starts: Vec<u32>,
    wave: Vec<u32>,
    rank: Vec<u32>,
    order: Vec<ModuleId>,
}

impl DependencyGraph {
    /// Orders the modules in `slots`; every edge must point to one of them.
    ///
    /// # Errors
    /// The path of a cycle: each module depends on the next, the last one on the first.
    pub fn new(slots: &[Option<Arc<ModuleSpec>>]) -> Result<DependencyGraph, Vec<ModuleId>> {
        let count = slots.iter().flatten().map(|module| module.edges.len());
        let mut edges = Edges::with_capacity(slots.len(), count.sum());
        for slot in slots {
            edges.add_node(slot.clone());
        }
        // Last first, because petgraph lists the newest edge of a node first.
        for module in slots.iter().rev().flatten() {
            for edge in module.edges.iter().rev() {
                edges.add_edge(node(module.id), node(edge.to), (edge.hard, edge.until));
            }
        }
        let mut graph = DependencyGraph::unordered(edges);
        let unmet = graph.find_waves();
        if graph.order.len() < slots.iter().flatten().count() {
            return Err(graph.cycle(&unmet));
        }
        graph.sort();
        Ok(graph)
    }

    /// This graph, and beside it the edges of `former` specs by which modules still run. Their
    /// edges may point to slots that have no module in this graph, if there is a former spec.
    ///
    /// The order respects all edges of this graph, and those former ones that form no cycle with
    /// them. A former edge that points against the order is left out of the dependents.
    #[must_use]
    pub fn with_former(&self, former: &[Arc<ModuleSpec>]) -> DependencyGraph {
        let mut edges = self.edges.clone();
        for spec in former {
            while edges.node_count() <= spec.id.index() {
                edges.add_node(None);
            }
            edges[node(spec.id)].get_or_insert_with(|| Arc::clone(spec));
        }
        for spec in former {
            for edge in &spec.edges {
                let (to, weight) = (node(edge.to), (edge.hard, edge.until));
                let mut alike = edges.edges_connecting(node(spec.id), to);
                let target = edges.node_weight(to).is_some_and(Option::is_some);
                if target && !alike.any(|alike| *alike.weight() == weight) {
                    edges.add_edge(node(spec.id), to, weight);
                }
            }
        }
        let mut graph = DependencyGraph::unordered(edges);
        let unmet = graph.find_waves();
        graph.break_cycles(self, &unmet);
        graph.sort();
        graph.leave_out_edges_against_the_order();
        graph
    }

    /// How many slots there are; the id of every module is below it.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.rank.len()
    }

    /// The modules that depend on `module`, hard and soft; none on one that is not here.
    #[must_use]
    pub fn dependents(&self, module: ModuleId) -> &[Dependent] {
        let at = module.index();
        if at >= self.slots() {
            return &[];
        }
        &self.dependents[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// How many modules must start one after the other before `module` can.
    #[must_use]
    pub fn wave(&self, module: ModuleId) -> u32 {
        self.wave[module.index()]
    }

    /// The position of `module` in [`DependencyGraph::order`]; one that is not here is after all.
    #[must_use]
    pub fn rank(&self, module: ModuleId) -> u32 {
        self.rank.get(module.index()).copied().unwrap_or(u32::MAX)
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

    /// Everything but the order.
    fn unordered(edges: Edges) -> DependencyGraph {
        let slots = edges.node_count();
        let mut starts = Vec::with_capacity(slots + 1);
        let mut dependents = Vec::with_capacity(edges.edge_count());
        for slot in edges.node_indices() {
            starts.push(position(dependents.len()));
            dependents.extend(edges.edges_directed(slot, Incoming).map(|edge| {
                let (hard, until) = *edge.weight();
                let from = id(edge.source());
                Dependent { from, hard, until }
            }));
        }
        starts.push(position(dependents.len()));
        DependencyGraph {
            edges,
            dependents,
            starts,
            wave: vec![0; slots],
            rank: vec![u32::MAX; slots],
            order: Vec::new(),
        }
    }

    fn modules(&self) -> impl Iterator<Item = ModuleId> {
        let nodes = self.edges.node_indices().map(id);
        nodes.filter(|id| self.edges[node(*id)].is_some())
    }

    fn name(&self, module: ModuleId) -> &str {
        match &self.edges[node(module)] {
            Some(spec) => &spec.name,
            None => "",
        }
    }

    fn dependencies(&self, module: ModuleId) -> impl Iterator<Item = ModuleId> {
        let targets = self.edges.neighbors_directed(node(module), Outgoing);
        targets.map(id)
    }

    /// Gathers the modules that no cycle holds up, in topological order, with their waves; returns
    /// how many dependencies of each module are unmet, by slot.
    fn find_waves(&mut self) -> Vec<u32> {
        let mut unmet = vec![0_u32; self.wave.len()];
        for dependent in &self.dependents {
            unmet[dependent.from.index()] += 1;
        }
        let free = self.modules().filter(|id| unmet[id.index()] == 0);
        self.order = free.collect();
        let mut next = 0;
        while let Some(&module) = self.order.get(next) {
            next += 1;
            let at = module.index();
            for place in self.starts[at]..self.starts[at + 1] {
                let from = self.dependents[place as usize].from;
                let wave = self.wave[from.index()].max(self.wave[at] + 1);
                self.wave[from.index()] = wave;
                unmet[from.index()] -= 1;
                if unmet[from.index()] == 0 {
                    self.order.push(from);
                }
            }
        }
        unmet
    }

    /// Adds the modules with unmet dependencies in the order of `plan`, those that it has not last.
    fn break_cycles(&mut self, plan: &DependencyGraph, unmet: &[u32]) {
        let rank = |id: &ModuleId| plan.rank.get(id.index()).copied().unwrap_or(u32::MAX);
        let held = self.modules().filter(|id| unmet[id.index()] > 0);
        let mut held: Vec<ModuleId> = held.collect();
        held.sort_unstable_by_key(|id| (rank(id), *id));
        let mut is_held = vec![false; self.wave.len()];
        held.iter().for_each(|id| is_held[id.index()] = true);
        for &module in &held {
            let met = self.dependencies(module).filter(|to| !is_held[to.index()]);
            let wave = met.map(|to| self.wave[to.index()] + 1).max().unwrap_or(0);
            (self.wave[module.index()], is_held[module.index()]) = (wave, false);
        }
        self.order.extend(held);
    }

    /// Sorts by wave and name, and numbers the result.
    fn sort(&mut self) {
        let mut order = core::mem::take(&mut self.order);
        order.sort_unstable_by_key(|id| (self.wave[id.index()], self.name(*id), *id));
        for (rank, module) in (0_u32..).zip(&order) {
            self.rank[module.index()] = rank;
        }
        self.order = order;
    }

    fn leave_out_edges_against_the_order(&mut self) {
        let mut kept = Vec::with_capacity(self.dependents.len());
        for at in 0..self.rank.len() {
            let all = self.starts[at] as usize..self.starts[at + 1] as usize;
            self.starts[at] = position(kept.len());
            let later = |it: &&Dependent| self.rank[it.from.index()] > self.rank[at];
            kept.extend(self.dependents[all].iter().filter(later));
        }
        self.starts[self.rank.len()] = position(kept.len());
        self.dependents = kept;
    }

    /// A cycle among the modules with unmet dependencies; it starts at its first name.
    fn cycle(&self, unmet: &[u32]) -> Vec<ModuleId> {
        let held = |id: &ModuleId| unmet[id.index()] > 0;
        let mut path: Vec<ModuleId> = Vec::new();
        let mut place = vec![usize::MAX; unmet.len()];
        let mut next = self.modules().filter(held).min_by_key(|id| self.name(*id));
        // Each module that is held up depends on one that is: the walk meets itself.
        while let Some(module) = next {
            let seen = &mut place[module.index()];
            if *seen != usize::MAX {
                path.drain(..*seen);
                break;
            }
            *seen = path.len();
            path.push(module);
            next = self.dependencies(module).find(held);
        }
        let first = (0..path.len()).min_by_key(|&at| self.name(path[at]));
        path.rotate_left(first.unwrap_or(0));
        path
    }
}

fn node(module: ModuleId) -> NodeIndex {
    NodeIndex::new(module.index())
}

fn id(node: NodeIndex) -> ModuleId {
    ModuleId(position(node.index()))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "petgraph numbers nodes and edges with u32"
)]
fn position(index: usize) -> u32 {
    index as u32
}
