//! One module of the graph: what it needs and what needs it, directly or not.
//! Owns the choice of the part, and its text.
//! Never invents an edge: what is not among the modules is left out.

use std::collections::BTreeSet;
use std::fmt::Write;

use mainstay_protocol::method::{GraphEdge, GraphView};

use super::{append_state, until};
use crate::cli::format;
use crate::cli::terminal::Terminal;

/// Where a walk goes from a module.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Needs,
    NeededBy,
}

impl Direction {
    /// The near and the far end of an edge, seen along the walk.
    fn ends(self, edge: &GraphEdge) -> (&str, &str) {
        match self {
            Direction::Needs => (&edge.from, &edge.to),
            Direction::NeededBy => (&edge.to, &edge.from),
        }
    }
}

/// The module with all it needs and all that needs it; none if there is no such module.
pub(super) fn around(graph: &GraphView, module: &str) -> Option<GraphView> {
    graph.modules.iter().find(|node| node.module == module)?;
    let mut kept = reached(graph, module, Direction::Needs);
    kept.append(&mut reached(graph, module, Direction::NeededBy));
    let is_kept = |name: &str| kept.contains(name);
    let modules = graph.modules.iter();
    let edges = graph.edges.iter();
    Some(GraphView {
        modules: modules
            .filter(|node| is_kept(&node.module))
            .cloned()
            .collect(),
        edges: edges
            .filter(|edge| is_kept(&edge.from) && is_kept(&edge.to))
            .cloned()
            .collect(),
    })
}

fn reached<'g>(graph: &'g GraphView, module: &'g str, way: Direction) -> BTreeSet<&'g str> {
    let (mut found, mut more) = (BTreeSet::from([module]), vec![module]);
    while let Some(at) = more.pop() {
        let ends = graph.edges.iter().map(|edge| way.ends(edge));
        for (_, far) in ends.filter(|(near, _)| *near == at) {
            if found.insert(far) {
                more.push(far);
            }
        }
    }
    found
}

/// The module, below it what it needs and what needs it; each module is expanded once.
pub(super) fn text(graph: &GraphView, module: &str, screen: Terminal) -> String {
    let mut tree = PartTree {
        graph,
        screen,
        out: String::new(),
        shown: BTreeSet::new(),
    };
    tree.name(module);
    tree.out.push('\n');
    for (way, title, none) in [
        (Direction::Needs, "needs", "needs no other module"),
        (Direction::NeededBy, "is needed by", "no module needs it"),
    ] {
        tree.shown.clear();
        let is_any = graph.edges.iter().any(|edge| way.ends(edge).0 == module);
        let _ = writeln!(tree.out, "  {}", if is_any { title } else { none });
        tree.below(module, way, 2);
    }
    tree.out
}

struct PartTree<'g> {
    graph: &'g GraphView,
    screen: Terminal,
    out: String,
    shown: BTreeSet<&'g str>,
}

impl<'g> PartTree<'g> {
    fn name(&mut self, module: &str) {
        self.out.push_str(&format::single_line(module));
        let node = self.graph.modules.iter().find(|node| node.module == module);
        if let Some(node) = node {
            append_state(&mut self.out, node, self.screen);
        }
    }

    fn below(&mut self, module: &str, way: Direction, depth: usize) {
        let graph = self.graph;
        for edge in graph.edges.iter().filter(|edge| way.ends(edge).0 == module) {
            let (_, far) = way.ends(edge);
            self.out.extend(std::iter::repeat_n("  ", depth));
            self.name(far);
            let wish = if edge.hard { "" } else { ", wanted" };
            let _ = write!(self.out, "{wish}{}", until(edge));
            let is_first = self.shown.insert(far);
            let goes_on = graph.edges.iter().any(|edge| way.ends(edge).0 == far);
            self.out.push_str(match !is_first && goes_on {
                true => ", see above\n",
                false => "\n",
            });
            if is_first {
                self.below(far, way, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_protocol::enums::ModuleState;
    use mainstay_protocol::method::GraphNode;

    use super::*;

    fn graph() -> GraphView {
        let edge = |from: &str, to: &str, hard, until: &str| GraphEdge {
            from: from.to_owned(),
            to: to.to_owned(),
            hard,
            until: until.to_owned(),
        };
        let node = |module: &str| GraphNode {
            module: module.to_owned(),
            wave: 0,
            state: Some(ModuleState::Running),
            done: module == "migrate",
        };
        GraphView {
            modules: ["pg", "redis", "migrate", "web", "nginx", "apart"]
                .map(node)
                .into(),
            edges: vec![
                edge("migrate", "pg", true, "ready"),
                edge("web", "migrate", true, "completed"),
                edge("web", "pg", true, "ready"),
                edge("web", "redis", false, "ready"),
                edge("nginx", "web", true, "healthy"),
            ],
        }
    }

    #[test]
    fn one_module_has_what_it_needs_and_what_needs_it() {
        let part = around(&graph(), "web").expect("it is there");
        let expected = "\
web (running)
  needs
    migrate (done), completed
      pg (running)
    pg (running)
    redis (running), wanted
  is needed by
    nginx (running), healthy
";
        assert_eq!(text(&part, "web", Terminal::default()), expected);
        let part = around(&graph(), "pg").expect("it is there");
        let names: Vec<&str> = part.modules.iter().map(|node| &*node.module).collect();
        assert_eq!(names, ["pg", "migrate", "web", "nginx"]);
        let expected = "\
pg (running)
  needs no other module
  is needed by
    migrate (done)
      web (running), completed
        nginx (running), healthy
    web (running), see above
";
        assert_eq!(text(&part, "pg", Terminal::default()), expected);
    }

    #[test]
    fn a_module_that_is_not_there_has_no_part() {
        assert!(around(&graph(), "wep").is_none());
        let part = around(&graph(), "apart").expect("it is there");
        assert!(part.edges.is_empty() && part.modules.len() == 1);
    }
}
