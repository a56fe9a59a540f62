//! `graph`: the dependencies as text by waves, as a picture, for Graphviz or for Mermaid.
//! Owns the forms; the picture has files of its own.
//! Never sorts: modules and edges keep the order of the reply.

mod layout;
mod part;
mod svg;

use std::fmt::Write;

use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{GraphEdge, GraphNode, GraphView};

use super::args::{self, GlobalArgs};
use super::error::CliError;
use super::status::state_colour;
use super::system_locator::SystemLocator;
use super::terminal::{self, Terminal};
use super::{format, history};
use crate::config::Configuration;

pub(crate) fn run(args: &args::GraphArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let mut graph = read(args, global)?;
    if let Some(module) = &args.module {
        graph = part::around(&graph, module).ok_or_else(|| unknown(module))?;
    }
    if args.json {
        terminal::print_json(&graph)?;
    } else if args.svg {
        terminal::print(&svg::svg(&graph))?;
    } else if args.dot {
        terminal::print(&dot(&graph))?;
    } else if args.mermaid {
        terminal::print(&mermaid(&graph))?;
    } else {
        let screen = Terminal::of_stdout();
        terminal::print_text(&match &args.module {
            Some(module) => part::text(&graph, module, screen),
            None => tree(&graph, screen),
        })?;
    }
    Ok(CliExitCode::Ok)
}

fn unknown(module: &str) -> CliError {
    let module = format::single_line(module);
    let text = format!("cannot find a module named {module}; `mainstay graph` lists all");
    CliError::new(CliExitCode::Refused, text)
}

/// The graph of the running system, else that of its files.
fn read(args: &args::GraphArgs, global: &GlobalArgs) -> Result<GraphView, CliError> {
    if !args.files {
        match SystemLocator::find(global)?.connect() {
            Ok(mut client) => {
                if let Some(module) = &args.module {
                    client.module(module)?; // a name that is wrong is refused in its words
                }
                return Ok(client.graph()?);
            }
            Err(CliError::NotRunning { name, .. }) if global.socket.is_none() => {
                let text = format!("mainstay '{name}' is not running: this is what its files say");
                terminal::print_error(&text);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(of_files(&history::configuration(global)?))
}

/// The graph of a configuration, in start order, without states.
fn of_files(configuration: &Configuration) -> GraphView {
    let mut graph = GraphView {
        modules: Vec::new(),
        edges: Vec::new(),
    };
    for (wave, names) in configuration.waves().iter().enumerate() {
        for name in names {
            let module = configuration.modules.iter();
            let module = module.map(|(spec, _)| spec).find(|spec| spec.name == *name);
            let edges = module.into_iter().flat_map(|spec| &spec.edges);
            graph.edges.extend(edges.filter_map(|edge| {
                Some(GraphEdge {
                    from: (*name).to_owned(),
                    to: configuration.module(edge.to)?.0.name.clone(),
                    hard: edge.hard,
                    until: edge.until.as_str().to_owned(),
                })
            }));
            graph.modules.push(GraphNode {
                module: (*name).to_owned(),
                wave,
                state: None,
                done: false,
            });
        }
    }
    graph
}

/// Prints the waves, and below each module its dependencies.
fn tree(graph: &GraphView, screen: Terminal) -> String {
    let mut out = String::new();
    let waves = graph
        .modules
        .iter()
        .map(|node| node.wave)
        .max()
        .map_or(0, |last| last + 1);
    for wave in 0..waves {
        let _ = writeln!(out, "wave {}", wave + 1); // counted as by `check`
        for node in graph.modules.iter().filter(|node| node.wave == wave) {
            let _ = write!(out, "  {}", format::single_line(&node.module));
            append_state(&mut out, node, screen);
            out.push('\n');
            for edge in graph.edges.iter().filter(|edge| edge.from == node.module) {
                let word = if edge.hard { "requires" } else { "wants" };
                let _ = writeln!(
                    out,
                    "    {word} {}{}",
                    format::single_line(&edge.to),
                    until(edge)
                );
            }
        }
    }
    out
}

/// ` (running)`; nothing where the state is unknown.
fn append_state(out: &mut String, node: &GraphNode, screen: Terminal) {
    if let Some(state) = node.state {
        out.push_str(" (");
        screen.paint(out, state_colour(state), &state_text(node));
        out.push(')');
    }
}

/// The state in words; empty where it is unknown.
fn state_text(node: &GraphNode) -> String {
    match node.done {
        true => "done".to_owned(),
        false => node
            .state
            .map_or("", |state| state.as_str())
            .replace('_', " "),
    }
}

/// Omits `ready`, the default condition.
fn until(edge: &GraphEdge) -> String {
    match edge.until.as_str() {
        "ready" => String::new(),
        other => format!(", {}", format::single_line(other)),
    }
}

fn dot(graph: &GraphView) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = String::from("digraph mainstay {\n  rankdir = BT;\n  node [shape = box];\n");
    for node in &graph.modules {
        let colour = node.state.map_or_else(String::new, |state| {
            format!(
                " [color = \"{0}\", fontcolor = \"{0}\"]",
                svg::colour(Some(state))
            )
        });
        let _ = writeln!(out, "  {}{colour};", quoted(&node.module));
    }
    for edge in &graph.edges {
        let style = if edge.hard { "solid" } else { "dashed" };
        let (from, to, label) = (quoted(&edge.from), quoted(&edge.to), quoted(&edge.until));
        let _ = writeln!(out, "  {from} -> {to} [style = {style}, label = {label}];");
    }
    out.push_str("}\n");
    out
}

fn mermaid(graph: &GraphView) -> String {
    let mut out = String::from("graph BT\n");
    let number = |name: &str| graph.modules.iter().position(|node| node.module == name);
    for (n, GraphNode { module, state, .. }) in graph.modules.iter().enumerate() {
        let _ = writeln!(out, "  m{n}[\"{}\"]", module.replace('"', "#quot;"));
        if let Some(state) = *state {
            let _ = writeln!(out, "  style m{n} stroke:{}", svg::colour(Some(state)));
        }
    }
    for edge in &graph.edges {
        if let (Some(from), Some(to)) = (number(&edge.from), number(&edge.to)) {
            let arrow = if edge.hard { "-->" } else { "-.->" };
            let _ = writeln!(out, "  m{from} {arrow}|{}| m{to}", edge.until);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_protocol::enums::ModuleState;

    fn graph() -> GraphView {
        let node = |module: &str, wave, state| GraphNode {
            module: module.to_owned(),
            wave,
            state,
            done: false,
        };
        let edge = |from: &str, to: &str, hard, until: &str| GraphEdge {
            from: from.to_owned(),
            to: to.to_owned(),
            hard,
            until: until.to_owned(),
        };
        GraphView {
            modules: vec![
                node("event-bus", 0, Some(ModuleState::Running)),
                node("migrate", 0, None),
                node("storage", 1, Some(ModuleState::Waiting)),
            ],
            edges: vec![
                edge("storage", "event-bus", true, "ready"),
                edge("storage", "migrate", false, "completed"),
            ],
        }
    }

    #[test]
    fn the_tree_goes_by_waves() {
        let expected = "\
wave 1
  event-bus (running)
  migrate
wave 2
  storage (waiting)
    requires event-bus
    wants migrate, completed
";
        assert_eq!(tree(&graph(), Terminal::default()), expected);
        let empty = GraphView {
            modules: Vec::new(),
            edges: Vec::new(),
        };
        assert_eq!(tree(&empty, Terminal::default()), "");
    }

    #[test]
    fn graphviz_gets_a_digraph() {
        let mut graph = graph();
        graph.modules[1].module = "a \"b\"".to_owned();
        let expected = r##"digraph mainstay {
  rankdir = BT;
  node [shape = box];
  "event-bus" [color = "#1b7a34", fontcolor = "#1b7a34"];
  "a \"b\"";
  "storage" [color = "#a15c00", fontcolor = "#a15c00"];
  "storage" -> "event-bus" [style = solid, label = "ready"];
  "storage" -> "migrate" [style = dashed, label = "completed"];
}
"##;
        assert_eq!(dot(&graph), expected);
    }

    #[test]
    fn mermaid_gets_numbered_nodes() {
        let expected = "\
graph BT
  m0[\"event-bus\"]
  style m0 stroke:#1b7a34
  m1[\"migrate\"]
  m2[\"storage\"]
  style m2 stroke:#a15c00
  m2 -->|ready| m0
  m2 -.->|completed| m1
";
        assert_eq!(mermaid(&graph()), expected);
    }
}
