//! Where modules and edges of a graph are drawn: a column for each wave, few crossings.
//! Owns the order in a column and all coordinates.
//! Never knows how anything looks: boxes have a height, names a width.

use std::collections::HashMap;

use mainstay_protocol::method::GraphView;

pub(super) const BOX_HEIGHT: f64 = 38.0;
/// Width of one character of a name.
const CHARACTER: f64 = 7.9;
const PADDING: f64 = 12.0;
const BOX_WIDTH_MIN: f64 = 90.0;
/// Between two boxes of a column.
const ROW_GAP: f64 = 16.0;
/// Between an edge that passes and what is beside it.
const PASS_GAP: f64 = 12.0;
const COLUMN_GAP: f64 = 96.0;
pub(super) const MARGIN: f64 = 24.0;
/// Passes over all columns, for the order and for the places.
const SWEEPS: usize = 12;
/// With more segments only the last order is taken, not the best.
const COUNTED_MAX: usize = 3000;

/// A point of the picture.
pub(super) type Point = (f64, f64);

/// The box of a module.
pub(super) struct Placed {
    pub(super) x: f64,
    /// Its middle.
    pub(super) y: f64,
    pub(super) width: f64,
}

/// The picture.
pub(super) struct Layout {
    /// In the order of the graph.
    pub(super) boxes: Vec<Placed>,
    /// For each edge of the graph its points, from the dependent to the dependency; none for an
    /// edge to something else.
    pub(super) edges: Vec<Vec<Point>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A module, or where an edge passes a column.
struct Vertex {
    layer: usize,
    /// Half of its height, and what stays free beside it.
    half: f64,
    /// Vertices of the layers before and after it.
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

impl Vertex {
    fn new(layer: usize, half: f64) -> Vertex {
        Vertex {
            layer,
            half,
            before: Vec::new(),
            after: Vec::new(),
            y: 0.0,
        }
    }
}

/// Places all modules and edges.
pub(super) fn layout(graph: &GraphView) -> Layout {
    let mut vertices: Vec<Vertex> = graph
        .modules
        .iter()
        .map(|node| Vertex::new(node.wave, (BOX_HEIGHT + ROW_GAP) / 2.0))
        .collect();
    let paths = connect(graph, &mut vertices);
    let mut layers = layers(&vertices);
    order(&mut layers, &vertices);
    place(&layers, &mut vertices);
    let columns = columns(graph, layers.len());
    let boxes = graph.modules.iter().zip(&vertices).map(|(node, vertex)| {
        let (x, width) = columns[node.wave];
        Placed {
            x,
            y: vertex.y,
            width,
        }
    });
    let bottom = vertices.iter().map(|vertex| vertex.y + vertex.half);
    let (last_x, last_width) = columns.last().copied().unwrap_or((MARGIN, 0.0));
    Layout {
        boxes: boxes.collect(),
        edges: (paths.iter())
            .map(|path| points(path, &vertices, &columns))
            .collect(),
        width: last_x + last_width + MARGIN,
        height: bottom.fold(0.0, f64::max) + MARGIN,
    }
}

/// Adds a vertex wherever an edge passes a column; returns the vertices of each edge, from the
/// dependent on.
fn connect(graph: &GraphView, vertices: &mut Vec<Vertex>) -> Vec<Vec<usize>> {
    let names = graph.modules.iter().enumerate();
    let by_name: HashMap<&str, usize> = names.map(|(n, node)| (&*node.module, n)).collect();
    let mut paths = Vec::with_capacity(graph.edges.len());
    for edge in &graph.edges {
        let ends = by_name.get(&*edge.from).zip(by_name.get(&*edge.to));
        let Some((&from, &to)) =
            ends.filter(|(from, to)| vertices[**from].layer > vertices[**to].layer)
        else {
            paths.push(Vec::new());
            continue;
        };
        let mut path = vec![from];
        for layer in (vertices[to].layer + 1..vertices[from].layer).rev() {
            vertices.push(Vertex::new(layer, PASS_GAP / 2.0));
            path.push(vertices.len() - 1);
        }
        path.push(to);
        for pair in path.windows(2) {
            vertices[pair[0]].before.push(pair[1]);
            vertices[pair[1]].after.push(pair[0]);
        }
        paths.push(path);
    }
    paths
}

fn layers(vertices: &[Vertex]) -> Vec<Vec<usize>> {
    let count = vertices.iter().map(|vertex| vertex.layer + 1).max();
    let mut layers = vec![Vec::new(); count.unwrap_or(0)];
    for (n, vertex) in vertices.iter().enumerate() {
        layers[vertex.layer].push(n);
    }
    layers
}

/// Sorts each layer by the mean place of its neighbours, forth and back; keeps the order with the
/// fewest crossings.
fn order(layers: &mut [Vec<usize>], vertices: &[Vertex]) {
    let segments: usize = vertices.iter().map(|vertex| vertex.before.len()).sum();
    let mut position = vec![0.0; vertices.len()];
    let number = |layer: &[usize], position: &mut [f64]| {
        for (place, n) in layer.iter().enumerate() {
            position[*n] = place as f64;
        }
    };
    for layer in layers.iter() {
        number(layer, &mut position);
    }
    let mut best = (
        crossings(layers, vertices, &position, segments),
        layers.to_vec(),
    );
    for sweep in 0..SWEEPS {
        let forth = sweep % 2 == 0;
        let count = layers.len();
        for step in 0..count {
            let layer = &mut layers[if forth { step } else { count - 1 - step }];
            let mean = |n: usize| {
                let neighbours = match forth {
                    true => &vertices[n].before,
                    false => &vertices[n].after,
                };
                mean(neighbours.iter().map(|other| position[*other])).unwrap_or(position[n])
            };
            let mut keyed: Vec<(f64, usize)> = layer.iter().map(|n| (mean(*n), *n)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *layer = keyed.into_iter().map(|(_, n)| n).collect();
            number(layer, &mut position);
        }
        let found = crossings(layers, vertices, &position, segments);
        if found < best.0 || segments > COUNTED_MAX {
            best = (found, layers.to_vec());
        }
    }
    layers.clone_from_slice(&best.1);
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), one| (sum + one, count + 1.0));
    (count > 0.0).then_some(sum / count)
}

/// Segments between two layers that cross; 0 where there are too many to count.
fn crossings(
    layers: &[Vec<usize>],
    vertices: &[Vertex],
    position: &[f64],
    segments: usize,
) -> usize {
    if segments > COUNTED_MAX {
        return 0;
    }
    let of_layer = |layer: &Vec<usize>| {
        let ends: Vec<Point> = layer
            .iter()
            .flat_map(|n| {
                vertices[*n]
                    .before
                    .iter()
                    .map(|to| (position[*n], position[*to]))
            })
            .collect();
        let pairs = ends.iter().enumerate();
        let crossing = |(n, a): (usize, &Point)| {
            let rest = ends[n + 1..].iter();
            rest.filter(|b| (a.0 - b.0) * (a.1 - b.1) < 0.0).count()
        };
        pairs.map(crossing).sum::<usize>()
    };
    layers.iter().map(of_layer).sum()
}

/// Moves each vertex towards its neighbours, as far as the order and the gaps allow.
fn place(layers: &[Vec<usize>], vertices: &mut [Vertex]) {
    for layer in layers {
        spread(layer, vertices, &vec![0.0; layer.len()]);
    }
    for sweep in 0..SWEEPS {
        for step in 0..layers.len() {
            let layer = &layers[match sweep % 2 {
                0 => step,
                _ => layers.len() - 1 - step,
            }];
            let desired: Vec<f64> = layer
                .iter()
                .map(|n| {
                    let vertex = &vertices[*n];
                    let around = vertex.before.iter().chain(&vertex.after);
                    mean(around.map(|other| vertices[*other].y)).unwrap_or(vertex.y)
                })
                .collect();
            spread(layer, vertices, &desired);
        }
    }
    let top = vertices.iter().map(|vertex| vertex.y - vertex.half);
    let up = top.fold(f64::INFINITY, f64::min) - MARGIN;
    vertices.iter_mut().for_each(|vertex| vertex.y -= up);
}

/// Places a layer as near to the desired places as order and gaps allow: the mean of what comes out
/// from above and from below.
fn spread(layer: &[usize], vertices: &mut [Vertex], desired: &[f64]) {
    let mut down = desired.to_vec();
    for at in 1..layer.len() {
        let gap = vertices[layer[at - 1]].half + vertices[layer[at]].half;
        down[at] = down[at].max(down[at - 1] + gap);
    }
    let mut up = desired.to_vec();
    for at in (1..layer.len()).rev() {
        let gap = vertices[layer[at - 1]].half + vertices[layer[at]].half;
        up[at - 1] = up[at - 1].min(up[at] - gap);
    }
    for ((n, down), up) in layer.iter().zip(down).zip(up) {
        vertices[*n].y = f64::midpoint(down, up);
    }
}

/// Left edge and width of each column.
fn columns(graph: &GraphView, count: usize) -> Vec<(f64, f64)> {
    let mut x = MARGIN;
    let widths = (0..count).map(|wave| {
        let names = graph.modules.iter().filter(|node| node.wave == wave);
        let widest = names.map(|node| node.module.chars().count()).max();
        (widest.unwrap_or(0) as f64 * CHARACTER + 2.0 * PADDING).max(BOX_WIDTH_MIN)
    });
    widths
        .map(|width| {
            let column = (x, width);
            x += width + COLUMN_GAP;
            column
        })
        .collect()
}

/// The points of an edge: it leaves the dependent at its left side, passes columns level, and
/// arrives at the right side of the dependency.
fn points(path: &[usize], vertices: &[Vertex], columns: &[(f64, f64)]) -> Vec<Point> {
    let mut points = Vec::new();
    for (at, n) in path.iter().enumerate() {
        let vertex = &vertices[*n];
        let (x, width) = columns[vertex.layer];
        if at > 0 {
            points.push((x + width, vertex.y));
        }
        if at + 1 < path.len() {
            points.push((x, vertex.y));
        }
    }
    points
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use mainstay_protocol::method::{GraphEdge, GraphNode};

    /// Modules by wave, and edges from dependent to dependency.
    pub(in crate::cli::graph) fn graph(waves: &[&[&str]], edges: &[(&str, &str)]) -> GraphView {
        let nodes = waves.iter().enumerate().flat_map(|(wave, names)| {
            names.iter().map(move |name| GraphNode {
                module: (*name).to_owned(),
                wave,
                state: None,
                done: false,
            })
        });
        let edge = |(from, to): &(&str, &str)| GraphEdge {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            hard: true,
            until: "ready".to_owned(),
        };
        GraphView {
            modules: nodes.collect(),
            edges: edges.iter().map(edge).collect(),
        }
    }

    #[test]
    fn boxes_of_a_column_do_not_overlap_and_nothing_leaves_the_picture() {
        let names: Vec<String> = (0..60).map(|n| format!("m{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let waves: Vec<&[&str]> = vec![&names[..20], &names[20..45], &names[45..]];
        let edges: Vec<(&str, &str)> = (20..60)
            .flat_map(|n| [(names[n], names[n * 7 % 20]), (names[n], names[n * 3 % 20])])
            .collect();
        let graph = graph(&waves, &edges);
        let layout = layout(&graph);
        for (n, one) in layout.boxes.iter().enumerate() {
            assert!(one.x >= MARGIN && one.x + one.width <= layout.width - MARGIN + 0.01);
            assert!(one.y - BOX_HEIGHT / 2.0 >= 0.0 && one.y + BOX_HEIGHT / 2.0 <= layout.height);
            for (m, other) in layout.boxes.iter().enumerate().skip(n + 1) {
                let beside = graph.modules[n].wave == graph.modules[m].wave;
                let apart = (one.y - other.y).abs() >= BOX_HEIGHT;
                assert!(!beside || apart, "{n} and {m}");
            }
        }
    }

    #[test]
    fn edges_that_need_not_cross_do_not() {
        let graph = graph(
            &[&["a", "b", "c"], &["x", "y", "z"]],
            &[("x", "c"), ("y", "b"), ("z", "a")],
        );
        let layout = layout(&graph);
        for edge in &layout.edges {
            let (first, last) = (edge[0].1, edge[edge.len() - 1].1);
            assert!((first - last).abs() < 0.5, "{first} {last}");
        }
    }

    #[test]
    fn an_edge_over_several_waves_passes_beside_the_boxes_between() {
        let graph = graph(
            &[&["a"], &["b"], &["c"]],
            &[("c", "a"), ("c", "b"), ("b", "a")],
        );
        let layout = layout(&graph);
        let long = &layout.edges[0];
        assert_eq!(long.len(), 4);
        let between = &layout.boxes[1];
        assert!((long[1].1 - between.y).abs() > BOX_HEIGHT / 2.0);
        let unknown = GraphView {
            edges: vec![GraphEdge {
                to: "gone".to_owned(),
                ..graph.edges[0].clone()
            }],
            ..graph
        };
        assert!(super::layout(&unknown).edges[0].is_empty());
    }
}
