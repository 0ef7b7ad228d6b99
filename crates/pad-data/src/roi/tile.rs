//! The cheap half of the segmentation, tile by tile in the first-level cache.
//!
//! Inside a tile, edges are visited in order, and an edge is accepted at once if that is sure to be
//! what the whole image's visit does: both segments are as they will be then (nothing that touches
//! them is left open at a lower cost, inside the tile or across its border), and they are so small
//! that neither can refuse. Any other edge is left open, and so is whatever costs more at the two
//! segments. What is left are far fewer nodes than pixels, and the edges between them, for
//! [`segments`](super::segments).

use pulp::Arch;

use super::{
    graph::{
        CLOSE, DOWN, DOWN_RIGHT, EdgeId, Graph, Key, MARGIN, RIGHT, SQRT_3, TILE, UP_RIGHT, edge,
        key,
    },
    order::{Ranked, Sorter, key_of, settle},
};

/// Pixels of a tile.
const LEN: usize = TILE * TILE;
/// Bits of a pixel's number inside its tile; above them an edge's number has the direction.
const LOCAL_BITS: u32 = LEN.trailing_zeros();
/// More than the edges of a tile.
const LIST: usize = 4 * LEN;
/// Key of an edge that does not exist. Some units below the largest, so that [`CLOSE`] can be
/// added.
const NEVER: i32 = i32::MAX - 8;
/// Share of the edges that a tile visits: beyond it most are left open anyway. Changes the speed
/// only.
const VISITED: f64 = 0.50;
/// A tile stops when fewer than one in this number of edges is accepted. Changes the speed only.
const STOP: usize = 4;
/// Edges between two looks at that.
const CHUNK: usize = 512;

/// An edge between two nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crossing {
    /// The key above the edge's number.
    rank: u64,
    /// The nodes.
    pub(super) ends: (u32, u32),
}

impl Crossing {
    /// The edge's key.
    #[inline(always)]
    pub(super) fn key(&self) -> Key {
        key_of(self.rank)
    }

    /// The edge's number.
    #[inline(always)]
    pub(super) fn edge(&self) -> EdgeId {
        self.rank as EdgeId
    }
}

impl Ranked for Crossing {
    #[inline(always)]
    fn rank(&self) -> u64 {
        self.rank
    }
}

/// A segment so far: pixels that are sure to be one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) pixels: u32,
    /// The edge that was accepted last, if there are two pixels.
    pub(super) last: EdgeId,
}

/// What the tiles leave to do.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    pub(super) nodes: Vec<Node>,
    /// The node of each pixel.
    pub(super) node_of: Vec<u32>,
    /// The edges left open, but for the hidden ones.
    pub(super) crossings: Vec<Crossing>,
}

/// The root of a segment inside a tile.
#[derive(Clone, Copy, Debug)]
struct Root {
    /// The cheapest edge left open, in keys.
    open: Key,
    pixels: u16,
    /// The edge accepted last.
    last: u16,
}

/// Buffers of a tile.
#[derive(Debug)]
pub(super) struct Tile {
    rows: Box<Rows>,
    cheap: Box<[u64; LIST]>,
    dear: Box<[u64; LIST]>,
    sorter: Sorter<u64>,
    sorted: Vec<u64>,
    parent: Box<[u16; LEN]>,
    roots: Box<[Root; LEN]>,
    left_open: Vec<u64>,
    /// The node of each pixel.
    local: Box<[u32; LEN]>,
}

/// Where a tile lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Default for Tile {
    fn default() -> Self {
        Self {
            rows: Box::new(Rows::new()),
            cheap: Box::new([0; LIST]),
            dear: Box::new([0; LIST]),
            sorter: Sorter::default(),
            sorted: Vec::new(),
            parent: Box::new([0; LEN]),
            roots: Box::new([Root { open: 0, pixels: 0, last: 0 }; LEN]),
            left_open: Vec::new(),
            local: Box::new([0; LEN]),
        }
    }
}

impl Nodes {
    /// Fills this with what `graph`'s tiles leave to do; costs are refused from `scale / pixels`
    /// on.
    pub(super) fn find(&mut self, graph: Graph<'_>, scale: f64, tile: &mut Tile) {
        let width = graph.width;
        let height = graph.smooth.len() / width;
        self.nodes.clear();
        self.crossings.clear();
        self.node_of.resize(graph.smooth.len(), 0);
        for y in (0..height).step_by(TILE) {
            for x in (0..width).step_by(TILE) {
                let place =
                    Place { x, y, width: TILE.min(width - x), height: TILE.min(height - y) };
                tile.run(graph, place, scale, self);
            }
        }
        for y in 0..height {
            let below_is_another = (y + 1) % TILE == 0;
            let step = if below_is_another { 1 } else { TILE };
            let first = if below_is_another { 0 } else { TILE - 1 };
            for x in (first..width).step_by(step) {
                self.cross(graph, (y, x), height);
            }
        }
    }

    /// Adds the edges of a 2x2 block that lead from tile to tile.
    fn cross(&mut self, graph: Graph<'_>, (y, x): (usize, usize), height: usize) {
        let corner = y * graph.width + x;
        let right = x + 1 < graph.width;
        let down = y + 1 < height;
        let right_crosses = (x + 1) % TILE == 0;
        let down_crosses = (y + 1) % TILE == 0;
        for (direction, crosses) in [
            (RIGHT, right && right_crosses),
            (DOWN, down && down_crosses),
            (DOWN_RIGHT, right && down),
            (UP_RIGHT, right && down),
        ] {
            if crosses {
                let edge = edge(direction, corner);
                let (a, b) = graph.ends(edge);
                let rank = u64::from(graph.key(edge)) << 32 | u64::from(edge);
                self.crossings.push(Crossing { rank, ends: (self.node_of[a], self.node_of[b]) });
            }
        }
    }
}

impl Tile {
    fn run(&mut self, graph: Graph<'_>, place: Place, scale: f64, out: &mut Nodes) {
        let (cheap, dear) = self.find_edges(graph, place);
        self.sorter.run(&[&self.cheap[..cheap]], &mut self.sorted);
        let number = |local: u32| {
            let pixel = local as usize % LEN;
            let corner = (place.y + pixel / TILE) * graph.width + place.x + pixel % TILE;
            edge(local >> LOCAL_BITS, corner)
        };
        settle(&mut self.sorted, graph, |&edge| number(edge as u32));
        self.reset(graph, place);
        let stopped = self.join(scale);

        // Roots become nodes; the rest are the edges between them.
        let mut count = out.nodes.len();
        // One more than needed: a slot is written before it is known whether it counts.
        out.nodes.resize(count + LEN + 1, Node { pixels: 0, last: 0 });
        for y in 0..place.height {
            for pixel in y * TILE..y * TILE + place.width {
                let Root { pixels, last, .. } = self.roots[pixel];
                out.nodes[count] =
                    Node { pixels: u32::from(pixels), last: number(u32::from(last)) };
                self.local[pixel] = count as u32;
                count += usize::from(usize::from(self.parent[pixel]) == pixel);
            }
        }
        out.nodes.truncate(count);
        for y in 0..place.height {
            let at = y * TILE;
            let row = &mut out.node_of[(place.y + y) * graph.width + place.x..][..place.width];
            for (node, pixel) in row.iter_mut().zip(at..) {
                // A root keeps its own number, so reading and writing `local` in one pass is safe.
                *node = self.local[find(&mut self.parent, pixel)];
                self.local[pixel] = *node;
            }
        }
        let left = [&self.left_open[..], &self.sorted[stopped..], &self.dear[..dear]];
        let most = left.iter().map(|part| part.len()).sum::<usize>();
        let mut count = out.crossings.len();
        // One more than needed: a slot is written before it is known whether it counts.
        out.crossings.resize(count + most + 1, Crossing { rank: 0, ends: (0, 0) });
        for part in left {
            for &edge in part {
                let (a, b) = ends(edge as u32);
                let (a, b) = (self.local[a], self.local[b]);
                let rank = (edge >> 32) << 32 | u64::from(number(edge as u32));
                out.crossings[count] = Crossing { rank, ends: (a, b) };
                count += usize::from(a != b);
            }
        }
        out.crossings.truncate(count);
    }

    /// Collects the edges that are not hidden, cheap and dear ones, and returns how many of each.
    fn find_edges(&mut self, graph: Graph<'_>, place: Place) -> (usize, usize) {
        let smooth =
            |y: usize| &graph.smooth[(place.y + y) * graph.width + place.x..][..place.width];
        let dear_from = self.rows.quantile(place, smooth);
        let rows = &mut *self.rows;
        let arch = Arch::new();
        let blocks = place.width - 1;
        let (mut cheap, mut dear) = (0, 0);
        rows.around_right.fill(NEVER);
        keys(smooth(0), &smooth(0)[1..], &mut rows.right);
        for y in 0..place.height {
            let corner = (y * TILE) as u32;
            let last = y + 1 == place.height;
            if !last {
                arch.dispatch(
                    #[inline(always)]
                    || rows.look_at(smooth(y), smooth(y + 1)),
                );
            }
            let mut take = |direction: u32, keys: &[i32; TILE], around: &[i32; TILE], count| {
                let first = direction << LOCAL_BITS | corner;
                for (i, (&key, &around)) in keys.iter().zip(around).enumerate().take(count) {
                    let edge = (key as u64) << 32 | u64::from(first + i as u32);
                    // Written before it is known whether it counts: a branch here could not be
                    // foreseen.
                    self.cheap[cheap % LIST] = edge;
                    self.dear[dear % LIST] = edge;
                    // No triangle hides an edge that costs no more than the way around it.
                    let kept = key <= around + CLOSE as i32;
                    cheap += usize::from(kept & (key < dear_from));
                    dear += usize::from(kept & (key >= dear_from));
                }
            };
            take(RIGHT, &rows.right, &rows.around_right, blocks);
            if !last {
                take(DOWN, &rows.down, &rows.around_down, blocks + 1);
                take(DOWN_RIGHT, &rows.down_right, &rows.around_down_right, blocks);
                take(UP_RIGHT, &rows.up_right, &rows.around_up_right, blocks);
            }
            std::mem::swap(&mut rows.right, &mut rows.right_below);
            std::mem::swap(&mut rows.around_right, &mut rows.around_right_below);
        }
        (cheap, dear)
    }

    /// Makes each pixel a segment, open at its cheapest edge across the tile's border.
    fn reset(&mut self, graph: Graph<'_>, place: Place) {
        for (i, parent) in self.parent.iter_mut().enumerate() {
            *parent = i as u16;
        }
        self.roots.fill(Root { open: NEVER as Key, pixels: 1, last: 0 });
        let height = graph.smooth.len() / graph.width;
        let inside = |y: usize, x: usize| {
            (place.y..place.y + place.height).contains(&y)
                && (place.x..place.x + place.width).contains(&x)
        };
        let mut border = |y: usize, x: usize| {
            let value = graph.smooth[y * graph.width + x];
            let mut open = NEVER as Key;
            for there_y in y.saturating_sub(1)..(y + 2).min(height) {
                for there_x in x.saturating_sub(1)..(x + 2).min(graph.width) {
                    if !inside(there_y, there_x) {
                        let there = graph.smooth[there_y * graph.width + there_x];
                        open = open.min(key(value, there));
                    }
                }
            }
            self.roots[(y - place.y) * TILE + x - place.x].open = open;
        };
        for x in place.x..place.x + place.width {
            border(place.y, x);
            border(place.y + place.height - 1, x);
        }
        for y in place.y..place.y + place.height {
            border(y, place.x);
            border(y, place.x + place.width - 1);
        }
    }

    /// Visits sorted edges until few are accepted, and returns how many were visited.
    fn join(&mut self, scale: f64) -> usize {
        self.left_open.clear();
        // Below this, `cost < scale / pixels` for both, whatever is added to the right side.
        let sure = (scale / SQRT_3) as f32 * (1.0 - MARGIN);
        let mut visited = 0;
        for chunk in self.sorted.chunks(CHUNK) {
            let mut accepted = 0;
            for &edge in chunk {
                let (a, b) = ends(edge as u32);
                let (a, b) = (find(&mut self.parent, a), find(&mut self.parent, b));
                if a == b {
                    continue;
                }
                let (root_a, root_b) = (self.roots[a], self.roots[b]);
                let key = key_of(edge);
                let open = root_a.open.min(root_b.open);
                let pixels = root_a.pixels + root_b.pixels;
                if key + CLOSE < open && f32::from_bits(key) * f32::from(pixels) < sure {
                    // The larger one's root stays. Without a branch: which one it is cannot be
                    // foreseen.
                    let swap = (a ^ b) & usize::from(root_a.pixels < root_b.pixels).wrapping_neg();
                    let (root, child) = (a ^ swap, b ^ swap);
                    self.parent[child % LEN] = root as u16;
                    self.roots[root % LEN] = Root { open, pixels, last: edge as u16 };
                    accepted += 1;
                } else {
                    self.roots[a].open = root_a.open.min(key);
                    self.roots[b].open = root_b.open.min(key);
                    self.left_open.push(edge);
                }
            }
            visited += chunk.len();
            if accepted * STOP < chunk.len() {
                break;
            }
        }
        visited
    }
}

/// The two pixels of an edge inside a tile.
#[inline(always)]
fn ends(edge: u32) -> (usize, usize) {
    const FROM: [usize; 4] = [0, 0, 0, 1];
    const TO: [usize; 4] = [1, TILE, TILE + 1, TILE];
    let corner = edge as usize % LEN;
    let direction = (edge >> LOCAL_BITS) as usize % 4;
    ((corner + FROM[direction]) % LEN, (corner + TO[direction]) % LEN)
}

/// The root above a pixel. Trees are hardly ever more than two high, so three steps are taken
/// without asking; loops whose length cannot be foreseen cost more than the steps.
#[inline(always)]
fn find(parent: &mut [u16; LEN], pixel: usize) -> usize {
    let above = usize::from(parent[pixel % LEN]) % LEN;
    let root = usize::from(parent[above]) % LEN;
    let higher = usize::from(parent[root]) % LEN;
    if higher == root { root } else { climb(parent, pixel, higher) }
}

/// The root above a pixel that has a tall tree, which is flattened on the way.
#[cold]
#[inline(never)]
fn climb(parent: &mut [u16; LEN], pixel: usize, mut root: usize) -> usize {
    while usize::from(parent[root % LEN]) != root {
        root = usize::from(parent[root % LEN]);
    }
    let mut at = pixel;
    while at != root {
        let above = usize::from(parent[at % LEN]);
        parent[at % LEN] = root as u16;
        at = above;
    }
    root
}

/// Keys of one row of pixels or of blocks, and for each the cheapest way around it.
#[derive(Debug)]
struct Rows {
    blocks: usize,
    right: [i32; TILE],
    right_below: [i32; TILE],
    down: [i32; TILE],
    down_right: [i32; TILE],
    up_right: [i32; TILE],
    around_right: [i32; TILE],
    around_right_below: [i32; TILE],
    around_down: [i32; TILE],
    around_down_right: [i32; TILE],
    around_up_right: [i32; TILE],
    sample: Vec<i32>,
}

impl Rows {
    fn new() -> Self {
        let row = [0; TILE];
        Self {
            blocks: 0,
            right: row,
            right_below: row,
            down: row,
            down_right: row,
            up_right: row,
            around_right: row,
            around_right_below: row,
            around_down: row,
            around_down_right: row,
            around_up_right: row,
            sample: Vec::new(),
        }
    }

    /// The key below which about the share [`VISITED`] of a tile's edges lies.
    fn quantile<'a>(&mut self, place: Place, smooth: impl Fn(usize) -> &'a [f64]) -> i32 {
        self.blocks = place.width - 1;
        self.sample.clear();
        for y in (0..place.height).step_by(16) {
            let row = smooth(y);
            self.sample.extend(row.windows(2).map(|pair| key(pair[0], pair[1]) as i32));
        }
        if self.sample.is_empty() {
            return NEVER;
        }
        let rank = (self.sample.len() as f64 * VISITED) as usize;
        *self.sample.select_nth_unstable(rank).1
    }

    /// Takes in the blocks between two rows of pixels.
    #[inline(always)]
    fn look_at(&mut self, upper: &[f64], lower: &[f64]) {
        keys(lower, &lower[1..], &mut self.right_below);
        keys(upper, lower, &mut self.down);
        keys(upper, &lower[1..], &mut self.down_right);
        keys(&upper[1..], lower, &mut self.up_right);
        self.ways_around();
    }

    /// The cheapest way around each edge of a row of blocks: over one of the block's other corners,
    /// at the cost of the costlier of the two edges passed.
    #[inline(always)]
    fn ways_around(&mut self) {
        let blocks = self.blocks;
        let upper = &self.right[..blocks];
        let lower = &self.right_below[..blocks];
        let left = &self.down[..blocks];
        let right = &self.down[1..][..blocks];
        let falling = &self.down_right[..blocks];
        let rising = &self.up_right[..blocks];
        // The way through the block above is there already.
        least(&mut self.around_right, [left, rising], [right, falling]);
        self.around_right_below.fill(NEVER);
        least(&mut self.around_right_below, [left, falling], [right, rising]);
        self.around_down.fill(NEVER);
        least(&mut self.around_down, [upper, rising], [lower, falling]);
        least(&mut self.around_down[1..], [upper, falling], [lower, rising]);
        self.around_down_right.fill(NEVER);
        least(&mut self.around_down_right, [upper, right], [left, lower]);
        self.around_up_right.fill(NEVER);
        least(&mut self.around_up_right, [upper, left], [right, lower]);
    }
}

/// Lowers `around` to the cheaper of two ways of two edges each.
#[inline(always)]
fn least(around: &mut [i32], [a, b]: [&[i32]; 2], [c, d]: [&[i32]; 2]) {
    for ((around, (&a, &b)), (&c, &d)) in
        around.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d))
    {
        *around = (*around).min(a.max(b)).min(c.max(d));
    }
}

/// Keys between two rows, for as many pixels as both have.
#[inline(always)]
fn keys(a: &[f64], b: &[f64], out: &mut [i32]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = key(a, b) as i32;
    }
}
