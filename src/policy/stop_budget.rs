//! A total stop budget, shared out in reverse dependency order.
//! Owns the sums: along every chain of modules that must end one after the other, the shares
//! never exceed the total. Never looks at a clock: the lifecycle turns shares into deadlines.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::graph::DependencyGraph;
use crate::spec::{Importance, ModuleId, ModuleSpec};

#[cfg(test)]
mod tests;

/// The most that is kept back for the kills themselves.
const RESERVE_MAX: Duration = Duration::from_millis(500);
/// Below this no further level is tried (nanoseconds of a weight of 1).
const SMALLEST_LEVEL: u64 = 1_000;

/// What is kept back of a total: 5 %, at most 500 ms.
#[must_use]
pub fn reserve(total: Duration) -> Duration {
    (total / 20).min(RESERVE_MAX)
}

/// How much of a scarce budget a module keeps in comparison with others.
#[must_use]
pub fn weight(importance: Importance) -> u64 {
    match importance {
        Importance::Low => 1,
        Importance::Normal => 2,
        Importance::High => 4,
        Importance::Critical => 8,
    }
}

/// A budget shared out over the modules that live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopBudget {
    /// Nanoseconds, by module.
    grace: Vec<u64>,
    /// The longest sum of shares among those that end after a module, by module.
    time_after: Vec<u64>,
}

impl StopBudget {
    /// Shares `budget` (without reserve) over the modules whose spec `live` returns.
    ///
    /// Every module gets its `shutdown_timeout` if every chain has room for that.
    /// Where a chain has not, its modules get `weight × level`, with the highest level at which the
    /// chains through them fit. A chain never exceeds the budget: none of its members has a level
    /// above its own.
    #[must_use]
    pub fn new<'a>(
        graph: &DependencyGraph,
        budget: Duration,
        live: impl Fn(ModuleId) -> Option<&'a ModuleSpec>,
    ) -> StopBudget {
        let budget = nanos(budget);
        let mut chains = Chains {
            graph,
            live: vec![None; graph.slots()],
        };
        for module in graph.order() {
            chains.live[module.index()] = live(*module);
        }
        let own = chains
            .live
            .iter()
            .map(|spec| spec.map_or(0, |spec| nanos(spec.shutdown_timeout)));
        let own: Vec<u64> = own.collect();
        let weights = chains.live.iter();
        let weights = weights.map(|spec| spec.map_or(0, |spec| weight(spec.importance)));
        let weights: Vec<u64> = weights.collect();

        let mut grace: Vec<Option<u64>> = (chains.live.iter())
            .map(|spec| spec.is_none().then_some(0))
            .collect();
        // At this level every module has its own timeout.
        let mut level = own.iter().copied().max().unwrap_or(0);
        level = level.max(SMALLEST_LEVEL + 1);
        while level > SMALLEST_LEVEL && grace.contains(&None) {
            let shares: Vec<u64> = (own.iter().zip(&weights))
                .map(|(own, weight)| (*own).min(level.saturating_mul(*weight)))
                .collect();
            let above = chains.longest(&shares, Direction::Dependents);
            let below = chains.longest(&shares, Direction::Dependencies);
            let mut shortest = u64::MAX;
            for (at, grace) in grace.iter_mut().enumerate() {
                let through = above[at]
                    .saturating_add(shares[at])
                    .saturating_add(below[at]);
                match grace {
                    Some(_) => {}
                    None if through <= budget => *grace = Some(shares[at]),
                    None => shortest = shortest.min(through),
                }
            }
            // A chain shrinks no faster than the level: none of the levels above fits anybody.
            let fits = u128::from(level) * u128::from(budget) / u128::from(shortest);
            level -= level / 10;
            while level > SMALLEST_LEVEL && u128::from(level) > fits {
                level -= level / 10;
            }
        }
        let grace: Vec<u64> = grace.into_iter().map(|grace| grace.unwrap_or(0)).collect();
        let time_after = chains.longest(&grace, Direction::Dependencies);
        StopBudget { grace, time_after }
    }

    /// The share of one module.
    #[must_use]
    pub fn grace(&self, module: ModuleId) -> Duration {
        Duration::from_nanos(self.grace[module.index()])
    }

    /// What those need that end after `module`.
    #[must_use]
    pub fn time_after(&self, module: ModuleId) -> Duration {
        Duration::from_nanos(self.time_after[module.index()])
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Dependents,
    Dependencies,
}

/// The modules that run, along their edges.
struct Chains<'a> {
    graph: &'a DependencyGraph,
    /// By slot.
    live: Vec<Option<&'a ModuleSpec>>,
}

impl Chains<'_> {
    /// For each live module the longest sum of shares on one side of it, itself not counted.
    fn longest(&self, shares: &[u64], way: Direction) -> Vec<u64> {
        let mut sums = vec![0_u64; self.live.len()];
        let mut visit = |module: ModuleId| {
            let at = module.index();
            let Some(spec) = self.live[at] else {
                return;
            };
            let sum = sums[at].saturating_add(shares[at]);
            let mut reach = |to: ModuleId| sums[to.index()] = sums[to.index()].max(sum);
            match way {
                Direction::Dependencies => {
                    let dependents = self.graph.dependents(module).iter();
                    dependents.for_each(|dependent| reach(dependent.from));
                }
                Direction::Dependents => spec.edges.iter().for_each(|edge| reach(edge.to)),
            }
        };
        let order = self.graph.order().iter().copied();
        match way {
            Direction::Dependencies => order.for_each(&mut visit),
            Direction::Dependents => order.rev().for_each(&mut visit),
        }
        sums
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
