//! The segmentation itself: edges by rising cost, segments as trees of pixels.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    FelzenszwalbConfig,
    edges::{BUCKETS, EdgeId, Edges, Graph, bucket},
    smooth::Smoother,
};

/// End of a chain; no label.
const NONE: u32 = u32::MAX;

/// Buffers of the segmentation, and its result.
#[derive(Debug, Default)]
pub(super) struct Segmenter {
    smoother: Smoother,
    smooth: Vec<f64>,
    edges: Edges,
    forest: Forest,
    /// The bucket at hand, in order.
    current: Vec<u64>,
    late: Late,
    /// Edges that were visited and not accepted, in order.
    refused: Vec<EdgeId>,
    /// The segment of each pixel.
    pub(super) labels: Vec<u32>,
}

impl Segmenter {
    /// Labels the pixels of `gray` (not empty, rows of `width`) and returns the number of segments.
    pub(super) fn run(&mut self, gray: &[u8], width: usize, config: &FelzenszwalbConfig) -> u32 {
        self.smoother.run(gray, width, config.sigma, &mut self.smooth);
        let graph = Graph { smooth: &self.smooth, width };
        self.edges.find(graph);
        // The reference divides the scale once.
        self.forest.reset(gray.len(), config.scale / 255.0);
        self.late.reset();
        self.refused.clear();
        for bucket in 0..BUCKETS {
            self.current.clear();
            self.late.take(bucket, &mut self.current);
            // Edges inside a segment are the most by far; they need no order.
            self.current.extend(self.edges.in_bucket(bucket).iter().filter(|&&edge| {
                let (a, b) = graph.ends(edge as EdgeId);
                self.forest.find(a) != self.forest.find(b)
            }));
            graph.sort(&mut self.current);
            Visit {
                graph,
                bucket,
                forest: &mut self.forest,
                late: &mut self.late,
                refused: &mut self.refused,
            }
            .all(&self.current);
        }
        // Accepted and left-out edges lie inside segments already, so the second visit needs the refused only.
        for &edge in &self.refused {
            let (a, b) = graph.ends(edge);
            let (a, b) = (self.forest.find(a), self.forest.find(b));
            if a != b && self.forest.pixels(a).min(self.forest.pixels(b)) < config.min_size {
                self.forest.join(a, b);
            }
        }
        self.forest.label(&mut self.labels)
    }
}

/// The first visit of one bucket's edges.
struct Visit<'a> {
    graph: Graph<'a>,
    bucket: usize,
    forest: &'a mut Forest,
    late: &'a mut Late,
    refused: &'a mut Vec<EdgeId>,
}

impl Visit<'_> {
    fn all(&mut self, edges: &[u64]) {
        for &edge in edges {
            let edge = edge as EdgeId;
            while let Some(before) = self.late.before(edge, self.graph) {
                self.one(before);
            }
            self.one(edge);
        }
        while let Some(Reverse((_, edge))) = self.late.soon.pop() {
            self.one(edge);
        }
    }

    fn one(&mut self, edge: EdgeId) {
        let (a, b) = self.graph.ends(edge);
        let (a, b) = (self.forest.find(a), self.forest.find(b));
        if a == b {
            return;
        }
        let cost = self.graph.cost(edge);
        if cost < f64::from(self.forest.limit[a].min(self.forest.limit[b])) {
            self.forest.accept(a, b, cost);
            return;
        }
        self.refused.push(edge);
        let Self { graph, bucket: now, forest, late, .. } = self;
        graph.hidden_behind(edge, |hidden| {
            let (a, b) = graph.ends(hidden as EdgeId);
            if forest.find(a) != forest.find(b) {
                late.put_back(hidden, *now, *graph);
            }
        });
    }
}

/// Left-out edges that must be visited after all. All cost more than the edge that brings them back.
#[derive(Debug, Default)]
struct Late {
    /// Those of the bucket at hand, by exact cost and number.
    soon: BinaryHeap<Reverse<(u64, EdgeId)>>,
    /// Those of later buckets: the edge and the next of its bucket.
    chained: Vec<(u64, u32)>,
    /// The first of each bucket.
    first: Vec<u32>,
}

impl Late {
    fn reset(&mut self) {
        self.soon.clear();
        self.chained.clear();
        self.first.clear();
        self.first.resize(BUCKETS, NONE);
    }

    fn put_back(&mut self, edge: u64, now: usize, graph: Graph<'_>) {
        let bucket = bucket((edge >> 32) as u32);
        if bucket == now {
            let edge = edge as EdgeId;
            self.soon.push(Reverse((graph.cost(edge).to_bits(), edge)));
        } else {
            let first = &mut self.first[bucket];
            self.chained.push((edge, *first));
            *first = self.chained.len() as u32 - 1;
        }
    }

    /// Moves a bucket's edges to `out`. An edge may have been put back more than once; visiting it again changes
    /// nothing.
    fn take(&mut self, bucket: usize, out: &mut Vec<u64>) {
        let mut next = self.first[bucket];
        while let Some(&(edge, after)) = self.chained.get(next as usize) {
            out.push(edge);
            next = after;
        }
    }

    /// The next edge of the bucket at hand if it comes before `edge`.
    fn before(&mut self, edge: EdgeId, graph: Graph<'_>) -> Option<EdgeId> {
        let &Reverse(soonest) = self.soon.peek()?;
        if soonest >= (graph.cost(edge).to_bits(), edge) {
            return None;
        }
        self.soon.pop();
        Some(soonest.1)
    }
}

/// Segments as trees over the pixels.
#[derive(Debug, Default)]
struct Forest {
    /// The pixel above, or of a root its pixels, negative.
    parent: Vec<i32>,
    /// Of a root: the cost from which on it refuses, `inner + scale / pixels` rounded to `f32` as in the reference.
    limit: Vec<f32>,
    scale: f64,
}

impl Forest {
    fn reset(&mut self, pixels: usize, scale: f64) {
        self.parent.clear();
        self.parent.resize(pixels, -1);
        self.limit.clear();
        self.limit.resize(pixels, scale as f32);
        self.scale = scale;
    }

    /// The root of a pixel's tree; every second pixel passed moves up one step.
    #[inline(always)]
    fn find(&mut self, mut at: usize) -> usize {
        loop {
            let above = self.parent[at];
            if above < 0 {
                return at;
            }
            let higher = self.parent[above as usize];
            if higher < 0 {
                return above as usize;
            }
            self.parent[at] = higher;
            at = higher as usize;
        }
    }

    fn pixels(&self, root: usize) -> u32 {
        self.parent[root].unsigned_abs()
    }

    /// Joins two roots under the larger one and returns it.
    #[inline(always)]
    fn join(&mut self, a: usize, b: usize) -> usize {
        let (larger, smaller) = if self.parent[a] <= self.parent[b] { (a, b) } else { (b, a) };
        self.parent[larger] += self.parent[smaller];
        self.parent[smaller] = larger as i32;
        larger
    }

    #[inline(always)]
    fn accept(&mut self, a: usize, b: usize, cost: f64) {
        let root = self.join(a, b);
        self.limit[root] = (cost + self.scale / f64::from(self.pixels(root))) as f32;
    }

    /// Numbers the trees by their first pixel and returns how many there are.
    fn label(&mut self, labels: &mut Vec<u32>) -> u32 {
        let pixels = self.parent.len();
        labels.clear();
        labels.resize(pixels, NONE);
        let mut count = 0;
        for pixel in 0..pixels {
            let root = self.find(pixel);
            // A root that comes later in the image gets its label here and keeps it.
            if labels[root] == NONE {
                labels[root] = count;
                count += 1;
            }
            labels[pixel] = labels[root];
        }
        count
    }
}
