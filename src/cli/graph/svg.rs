//! The graph as a picture: boxes in columns by wave, coloured by state, arrows to what they need.
//! Owns colours, lines and text.
//! Never needs anything else to be shown: no script, no font, no file.

use std::fmt::Write;

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::{GraphEdge, GraphNode, GraphView};

use super::layout::{self, BOX_HEIGHT, Layout, MARGIN, Placed, Point};
use super::state_text;

const FONT: &str = "ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace";

const EDGE: &str = "#78828c";

/// Returns the picture as SVG.
pub(super) fn svg(graph: &GraphView) -> String {
    let layout = layout::layout(graph);
    let (width, height) = (
        layout.width.max(2.0 * MARGIN),
        layout.height.max(2.0 * MARGIN),
    );
    let mut out = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0}' height='{height:.0}' \
         viewBox='0 0 {width:.0} {height:.0}' font-family='{FONT}'>\n\
         <defs><marker id='needs' viewBox='0 0 8 8' refX='7.5' refY='4' markerWidth='7' \
         markerHeight='7' orient='auto'><path d='M0 0.5 L8 4 L0 7.5 Z' fill='{EDGE}'/></marker>\
         </defs>\n<rect width='100%' height='100%' fill='#ffffff'/>\n"
    );
    edges(&mut out, graph, &layout);
    for (node, place) in graph.modules.iter().zip(&layout.boxes) {
        module(&mut out, node, place);
    }
    out.push_str("</svg>\n");
    out
}

fn edges(out: &mut String, graph: &GraphView, layout: &Layout) {
    let drawn = graph.edges.iter().zip(&layout.edges);
    for (edge, points) in drawn.filter(|(_, points)| points.len() > 1) {
        let dashes = match edge.hard {
            true => "",
            false => " stroke-dasharray='5 4'",
        };
        let _ = writeln!(
            out,
            "<path d='{}' fill='none' stroke='{EDGE}' stroke-width='1.3'{dashes} \
             marker-end='url(#needs)'><title>{}</title></path>",
            curve(points),
            title(edge)
        );
        // The default condition needs no word.
        if edge.until != "ready" {
            let ((x, y), until) = (points[0], escaped(&edge.until));
            let _ = writeln!(
                out,
                "<text x='{:.1}' y='{:.1}' font-size='10' fill='#5a646e' \
                 text-anchor='end'>{until}</text>",
                x - 6.0,
                y - 5.0,
            );
        }
    }
}

fn title(edge: &GraphEdge) -> String {
    let word = if edge.hard { "requires" } else { "wants" };
    let (from, to) = (escaped(&edge.from), escaped(&edge.to));
    format!("{from} {word} {to} ({})", escaped(&edge.until))
}

/// A line through the points: level at each of them, and straight where it passes a column.
fn curve(points: &[Point]) -> String {
    let mut path = String::new();
    for (n, pair) in points.windows(2).enumerate() {
        let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
        if n == 0 {
            let _ = write!(path, "M{x1:.1} {y1:.1}");
        }
        let middle = f64::midpoint(x1, x2);
        let _ = match n % 2 {
            0 => write!(
                path,
                " C{middle:.1} {y1:.1} {middle:.1} {y2:.1} {x2:.1} {y2:.1}"
            ),
            _ => write!(path, " L{x2:.1} {y2:.1}"),
        };
    }
    path
}

fn module(out: &mut String, node: &GraphNode, place: &Placed) {
    let (colour, state) = (colour(node.state), state_text(node));
    let (x, width, top) = (place.x, place.width, place.y - BOX_HEIGHT / 2.0);
    // Without a state the name has the middle of the box.
    let name_y = if state.is_empty() {
        place.y + 4.5
    } else {
        place.y - 2.0
    };
    let (name, middle) = (escaped(&node.module), x + width / 2.0);
    let colon = if state.is_empty() { "" } else { ": " };
    let at = format!("x='{x:.1}' y='{top:.1}' width='{width:.1}' height='{BOX_HEIGHT}' rx='6'");
    let _ = writeln!(
        out,
        "<g><title>{name}{colon}{state}</title><rect {at} fill='#ffffff'/>\n\
         <rect {at} fill='{colour}' fill-opacity='0.12' stroke='{colour}' stroke-width='1.5'/>\n\
         <text x='{middle:.1}' y='{name_y:.1}' font-size='13' fill='#1b2228' \
         text-anchor='middle'>{name}</text>",
    );
    if !state.is_empty() {
        let _ = writeln!(
            out,
            "<text x='{middle:.1}' y='{:.1}' font-size='10' fill='{colour}' \
             text-anchor='middle'>{state}</text>",
            place.y + 12.0
        );
    }
    out.push_str("</g>\n");
}

/// The colour of a state, dark enough for text on white.
pub(super) fn colour(state: Option<ModuleState>) -> &'static str {
    match state {
        Some(ModuleState::Running) => "#1b7a34",
        Some(ModuleState::Waiting | ModuleState::Starting | ModuleState::Backoff) => "#a15c00",
        Some(ModuleState::Failed) => "#c22222",
        Some(ModuleState::Stopping | ModuleState::Stopped | ModuleState::NotStarted) => "#6b747c",
        Some(ModuleState::Other(_)) | None => "#3b5a78",
    }
}

/// Text that XML may contain.
fn escaped(text: &str) -> String {
    let line = crate::cli::format::single_line(text);
    let line = line.replace('&', "&amp;").replace('<', "&lt;");
    line.replace('>', "&gt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::graph::layout::tests::graph;

    #[test]
    fn every_module_has_a_box_and_every_edge_a_line() {
        let mut graph = graph(
            &[&["db", "a<b"], &["api"], &["web"]],
            &[("api", "db"), ("web", "api"), ("web", "db")],
        );
        graph.modules[0].state = Some(ModuleState::Failed);
        (graph.edges[0].hard, graph.edges[0].until) = (false, "healthy".to_owned());
        let text = svg(&graph);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches("<g>").count(), 4);
        assert_eq!(text.matches("marker-end").count(), 3);
        assert_eq!(text.matches("stroke-dasharray").count(), 1);
        assert!(text.contains("a&lt;b") && !text.contains("a<b"));
        assert!(text.contains(">failed</text>") && text.contains(">healthy</text>"));
    }

    #[test]
    fn an_empty_graph_is_an_empty_picture() {
        assert!(svg(&graph(&[], &[])).contains("viewBox='0 0 48 48'"));
    }
}
