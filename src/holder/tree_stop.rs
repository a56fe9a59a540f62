//! The rest of a tree whose main process has exited in a stop: it gets the stop signal too, and
//! the run goes on until all of it is gone. Owns nothing but that order.
//! Never sends the signal a second time: what a handler starts to clean up is not disturbed.

use std::time::Instant;

use mainstay_process::{Exit, ProcessEventKind, Signal};

use crate::clock::monotonic;
use crate::engine::Engine;
use crate::instance::trees_of;
use crate::wait::ReapedChild;
use crate::workers::reports::TreeFound;
use crate::workers::sweep::ProcessTree;
use crate::workers::tree_look::TreeLook;

impl Engine {
    /// The main process has exited, and is to be reaped next. False if no stop is in force, or
    /// nothing else can be alive of its tree.
    pub(crate) fn stop_rest_of_tree(&mut self, id: u32, exit: Exit) -> bool {
        let Some(signal) = self.roster.stop_signal(monotonic(), id) else {
            return false;
        };
        let group = self.instances.get(&id).and_then(|one| one.group.as_ref());
        if !group.map_or_else(|| self.needs_sweep(), |group| !group.is_empty()) {
            return false;
        }
        let instance = self.instances.get_mut(&id);
        if let Some(run) = instance.and_then(|one| one.run.as_mut()) {
            run.main_exit = Some((exit, monotonic()));
            self.roster.main_exited(id);
            self.tree_stops.add(id, signal);
        }
        true
    }

    /// Starts the look that is due.
    pub(crate) fn look_at_trees(&mut self, now: Instant) {
        self.tree_stops.expire(now);
        let is_due = self.tree_stops.next.is_some_and(|at| at <= now);
        if self.tree_stops.in_flight.is_some() || !is_due {
            return;
        }
        let ids: Vec<u32> = self.tree_stops.ids.keys().copied().collect();
        let looks: Vec<TreeLook> = ids.iter().filter_map(|id| self.tree_look(*id)).collect();
        self.tree_stops.next = None;
        if !looks.is_empty() {
            self.tree_stops.start(looks, &self.queue);
        }
    }

    fn tree_look(&mut self, id: u32) -> Option<TreeLook> {
        let instance = self.instances.get(&id)?;
        let run = instance.run.as_ref()?;
        let with_group = |tree| ProcessTree {
            group: instance.group.clone(),
            ..tree
        };
        Some(TreeLook {
            id,
            generation: run.generation,
            trees: trees_of(id, run).map(with_group).collect(),
            tag: instance.tag,
            signal: self.tree_stops.ids.get_mut(&id)?.take(),
        })
    }

    pub(crate) fn on_trees_looked(&mut self, found: Vec<TreeFound>) {
        self.tree_stops.in_flight = None;
        for tree in found {
            let run = self
                .instances
                .get(&tree.id)
                .and_then(|one| one.run.as_ref());
            let is_current = run.is_some_and(|run| run.generation == tree.generation);
            if !is_current || !self.tree_stops.ids.contains_key(&tree.id) {
                continue;
            }
            if tree.total == 0 {
                self.finish_tree_stop(tree.id);
            } else if let Some(signal) = tree.signalled {
                let what = ProcessEventKind::TreeSignalled {
                    signal: Signal(signal),
                    processes: tree.processes,
                    total: tree.total,
                };
                self.report_current(tree.id, what);
            }
        }
        self.tree_stops.look_again();
    }

    /// The rest of the tree is gone, or its time has passed: then it is killed. False if the main
    /// process is alive.
    pub(crate) fn finish_tree_stop(&mut self, id: u32) -> bool {
        let run = self.instances.get(&id).and_then(|one| one.run.as_ref());
        let Some((exit, at)) = run.and_then(|run| run.main_exit) else {
            return false;
        };
        self.tree_stops.ids.remove(&id);
        let left = self.kill_leftovers(id, false);
        self.exited(id, ReapedChild { pid: 0, exit }, at, left);
        true
    }
}
