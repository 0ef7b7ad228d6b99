//! The segmentation: visits the edges that the tiles left open, in order over the whole image.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    FelzenszwalbConfig,
    graph::{CLOSE, EdgeId, Graph, Key, MARGIN, SQRT_3},
    order::{Sorter, settle},
    smooth::Smoother,
    tile::{Crossing, Node, Nodes, Tile},
};

/// No label yet.
const NONE: u32 = u32::MAX;

/// Buffers of the segmentation, and its result.
#[derive(Debug, Default)]
pub(super) struct Segmenter {
    smoother: Smoother,
    smooth: Vec<f64>,
    tile: Tile,
    nodes: Nodes,
    sorter: Sorter<Crossing>,
    /// All crossings, in visiting order.
    sorted: Vec<Crossing>,
    forest: Forest,
    late: Late,
    refused: Vec<u64>,
    small: Vec<u64>,
    small_sorter: Sorter<u64>,
    root_of: Vec<u32>,
    label_of: Vec<u32>,
    /// The segment of each pixel.
    pub(super) labels: Vec<u32>,
}

impl Segmenter {
    /// Labels the pixels of `gray` (not empty, rows of `width`) and returns the number of segments.
    pub(super) fn run(&mut self, gray: &[u8], width: usize, config: &FelzenszwalbConfig) -> u32 {
        // The reference divides the scale once.
        let scale = config.scale / 255.0;
        self.smoother.run(gray, width, config.sigma, &mut self.smooth);
        let graph = Graph { smooth: &self.smooth, width };
        self.nodes.find(graph, scale, &mut self.tile);
        self.sorter.run(&[&self.nodes.crossings], &mut self.sorted);
        settle(&mut self.sorted, graph, Crossing::edge);
        self.forest.reset(&self.nodes.nodes, graph, scale);
        self.late.reset(gray.len());
        self.refused.clear();
        Visit {
            graph,
            node_of: &self.nodes.node_of,
            forest: &mut self.forest,
            late: &mut self.late,
            refused: &mut self.refused,
        }
        .all(&self.sorted);
        self.join_small(width, config.min_size);
        self.label()
    }

    /// The second visit: joins segments of fewer than `min_size` pixels to a neighbour. Edges
    /// accepted before lie inside segments, edges between two large ones change nothing now or
    /// later, and hidden ones would come when the cheaper edges of their triangle have already
    /// joined a small segment to both others.
    fn join_small(&mut self, width: usize, min_size: u32) {
        let Self { smooth, nodes, forest, refused, small, small_sorter, .. } = self;
        let graph = Graph { smooth, width };
        let roots_to_join = |forest: &mut Forest, edge: u64| {
            let (a, b) = graph.ends(edge as EdgeId);
            let (a, b) = (forest.find(nodes.node_of[a]), forest.find(nodes.node_of[b]));
            let joins = a != b && forest.pixels(a).min(forest.pixels(b)) < min_size;
            joins.then_some((a, b))
        };
        refused.retain(|&edge| roots_to_join(forest, edge).is_some());
        small_sorter.run(&[refused], small);
        settle(small, graph, |&edge| edge as EdgeId);
        for &edge in &*small {
            if let Some((a, b)) = roots_to_join(forest, edge) {
                forest.join(a, b, edge as EdgeId);
            }
        }
    }

    /// Numbers the segments by their first pixel and returns their number.
    fn label(&mut self) -> u32 {
        let Self { forest, nodes, root_of, label_of, labels, .. } = self;
        root_of.clear();
        root_of.extend((0..nodes.nodes.len() as u32).map(|node| forest.root(node)));
        label_of.clear();
        label_of.resize(nodes.nodes.len(), NONE);
        labels.clear();
        let mut count = 0;
        labels.extend(nodes.node_of.iter().map(|&node| {
            let label = &mut label_of[root_of[node as usize] as usize];
            if *label == NONE {
                *label = count;
                count += 1;
            }
            *label
        }));
        count
    }
}

/// The first visit.
struct Visit<'a> {
    graph: Graph<'a>,
    node_of: &'a [u32],
    forest: &'a mut Forest,
    late: &'a mut Late,
    refused: &'a mut Vec<u64>,
}

impl Visit<'_> {
    fn all(&mut self, sorted: &[Crossing]) {
        for crossing in sorted {
            while let Some(edge) = self.late.before(crossing, self.graph) {
                self.late_one(edge);
            }
            let (a, b) = crossing.ends;
            self.one(crossing.edge(), crossing.key(), a, b);
        }
        while let Some(edge) = self.late.pop(self.graph) {
            self.late_one(edge);
        }
    }

    fn late_one(&mut self, edge: EdgeId) {
        let (a, b) = self.graph.ends(edge);
        self.one(edge, self.graph.key(edge), self.node_of[a], self.node_of[b]);
    }

    #[inline(always)]
    fn one(&mut self, edge: EdgeId, key: Key, a: u32, b: u32) {
        let (a, b) = (self.forest.find(a), self.forest.find(b));
        if a == b {
            return;
        }
        if self.forest.accepts(a, b, edge, key, self.graph) {
            self.forest.accept(a, b, edge, key);
        } else {
            self.refused.push(u64::from(key) << 32 | u64::from(edge));
            self.bring_back(edge, key, [a, b]);
        }
    }

    /// Queues what hides behind a refused edge between two roots.
    #[inline(never)]
    fn bring_back(&mut self, edge: EdgeId, key: Key, ends: [u32; 2]) {
        let Self { graph, node_of, forest, late, .. } = self;
        let cost = key_cost(key);
        let Late { queue, soonest, stack, noted } = &mut **late;
        stack.push((edge, ends));
        while let Some((edge, ends)) = stack.pop() {
            if !noted.insert(edge) {
                continue;
            }
            let root = |pixel: usize| forest.root(node_of[pixel]);
            graph.hidden_behind(edge, ends, root, |hidden, key, ends| {
                if ends.iter().any(|&root| forest.is_closed(root, cost)) {
                    // It will be refused too, for a segment that refuses once never changes again;
                    // and the second visit, which joins over the cheaper edges first, has no use
                    // for it.
                    stack.push((hidden, ends));
                } else {
                    queue.push(Reverse((graph.cost(hidden).to_bits(), hidden)));
                    *soonest = key.min(*soonest);
                }
            });
        }
    }
}

/// Hidden edges that must be visited after all. All cost more than the edge that brought them back.
#[derive(Debug, Default)]
struct Late {
    /// Those to visit, by exact cost and number. One that was brought back twice is visited twice,
    /// to no effect.
    queue: BinaryHeap<Reverse<(u64, EdgeId)>>,
    /// The smallest key of `queue`, or less.
    soonest: Key,
    /// Those that are refused for sure, with their segments: they in turn bring back what hides
    /// behind them.
    stack: Vec<(EdgeId, [u32; 2])>,
    /// Those that have done so.
    noted: EdgeSet,
}

/// A set of edges, a bit each.
#[derive(Debug, Default)]
struct EdgeSet(Vec<u64>);

impl EdgeSet {
    fn reset(&mut self, pixels: usize) {
        self.0.clear();
        self.0.resize(pixels.div_ceil(64) * 4, 0);
    }

    /// Adds an edge and returns whether it is new.
    fn insert(&mut self, edge: EdgeId) -> bool {
        // The direction goes into the word's number, so that the bits are dense.
        let corner = (edge << 2 >> 2) as usize;
        let word = &mut self.0[corner / 64 * 4 + (edge >> 30) as usize];
        let bit = 1 << (corner % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl Late {
    fn reset(&mut self, pixels: usize) {
        self.queue.clear();
        self.soonest = Key::MAX;
        self.stack.clear();
        self.noted.reset(pixels);
    }

    /// The next edge if it comes before `crossing`.
    #[inline(always)]
    fn before(&mut self, crossing: &Crossing, graph: Graph<'_>) -> Option<EdgeId> {
        if self.soonest > crossing.key() + CLOSE {
            return None;
        }
        self.before_exactly(crossing.edge(), graph)
    }

    #[inline(never)]
    fn before_exactly(&mut self, edge: EdgeId, graph: Graph<'_>) -> Option<EdgeId> {
        let &Reverse(first) = self.queue.peek()?;
        if first < (graph.cost(edge).to_bits(), edge) { self.pop(graph) } else { None }
    }

    /// The next edge.
    fn pop(&mut self, graph: Graph<'_>) -> Option<EdgeId> {
        let next = self.queue.pop().map(|Reverse((_, edge))| edge);
        self.soonest = self.queue.peek().map_or(Key::MAX, |&Reverse((_, edge))| graph.key(edge));
        next
    }
}

/// What a key's cost is, to [`MARGIN`].
#[inline(always)]
fn key_cost(key: Key) -> f32 {
    f32::from_bits(key) * SQRT_3 as f32
}

/// Segments as trees over the nodes.
#[derive(Debug, Default)]
struct Forest {
    parent: Vec<u32>,
    roots: Vec<Root>,
    scale: f64,
}

/// The state of a segment.
#[derive(Clone, Copy, Debug)]
struct Root {
    /// The cost from which on it refuses, to [`MARGIN`].
    limit: f32,
    node: Node,
}

impl Forest {
    fn reset(&mut self, nodes: &[Node], graph: Graph<'_>, scale: f64) {
        self.scale = scale;
        self.parent.clear();
        self.parent.extend(0..nodes.len() as u32);
        self.roots.clear();
        self.roots.extend(nodes.iter().map(|&node| {
            let inner = if node.pixels == 1 { 0.0 } else { key_cost(graph.key(node.last)) };
            Root { limit: inner + (scale / f64::from(node.pixels)) as f32, node }
        }));
    }

    /// The root above a node. Trees are hardly ever more than two high, so three steps are taken
    /// without asking.
    #[inline(always)]
    fn find(&mut self, node: u32) -> u32 {
        let parent = &self.parent[..];
        let root = parent[parent[node as usize] as usize];
        let higher = parent[root as usize];
        if higher == root { root } else { self.climb(node, higher) }
    }

    /// The root above a node that has a tall tree, which is flattened on the way.
    #[cold]
    #[inline(never)]
    fn climb(&mut self, node: u32, higher: u32) -> u32 {
        let root = self.root(higher);
        let mut at = node;
        while at != root {
            at = std::mem::replace(&mut self.parent[at as usize], root);
        }
        root
    }

    /// The root above a node, without touching the tree.
    fn root(&self, mut node: u32) -> u32 {
        while self.parent[node as usize] != node {
            node = self.parent[node as usize];
        }
        node
    }

    fn pixels(&self, root: u32) -> u32 {
        self.roots[root as usize].node.pixels
    }

    /// Whether both segments accept an edge: its cost is below `inner + scale / pixels` of both,
    /// rounded to `f32`.
    #[inline(always)]
    fn accepts(&self, a: u32, b: u32, edge: EdgeId, key: Key, graph: Graph<'_>) -> bool {
        let limit = self.roots[a as usize].limit.min(self.roots[b as usize].limit);
        let cost = key_cost(key);
        if cost < limit * (1.0 - MARGIN) {
            return true;
        }
        if cost > limit * (1.0 + MARGIN) {
            return false;
        }
        self.accepts_exactly(a, b, graph.cost(edge), graph)
    }

    /// The same with the reference's roundings.
    #[cold]
    #[inline(never)]
    fn accepts_exactly(&self, a: u32, b: u32, cost: f64, graph: Graph<'_>) -> bool {
        [a, b].into_iter().all(|root| {
            let Node { pixels, last } = self.roots[root as usize].node;
            let inner = if pixels == 1 { 0.0 } else { graph.cost(last) };
            cost < f64::from((inner + self.scale / f64::from(pixels)) as f32)
        })
    }

    /// Whether a segment refuses everything from this cost (to [`MARGIN`]) on; `false` if that is
    /// too close to tell.
    fn is_closed(&self, root: u32, cost: f32) -> bool {
        cost > self.roots[root as usize].limit * (1.0 + MARGIN)
    }

    #[inline(always)]
    fn accept(&mut self, a: u32, b: u32, edge: EdgeId, key: Key) {
        let root = self.join(a, b, edge);
        let root = &mut self.roots[root as usize];
        root.limit = key_cost(key) + self.scale as f32 / root.node.pixels as f32;
    }

    /// Joins two roots and returns the one that stays, the larger.
    #[inline(always)]
    fn join(&mut self, a: u32, b: u32, last: EdgeId) -> u32 {
        let (pixels_a, pixels_b) = (self.pixels(a), self.pixels(b));
        // Without a branch: which one it is cannot be foreseen.
        let swap = (a ^ b) & u32::from(pixels_a < pixels_b).wrapping_neg();
        let (root, child) = (a ^ swap, b ^ swap);
        self.parent[child as usize] = root;
        self.roots[root as usize].node = Node { pixels: pixels_a + pixels_b, last };
        root
    }
}
