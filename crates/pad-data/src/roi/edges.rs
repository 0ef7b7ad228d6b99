//! The pixel graph of the segmentation: costs, the edges that need no look, and the order of the rest.
//!
//! Each pixel is joined with its eight neighbours; `cost = sqrt(3 d²)` for three equal channels that differ by `d`.
//! The segmentation visits edges by rising cost, equal costs by direction (right, down, down-right, up-right), then
//! by row and column of the 2x2 block that holds them.
//!
//! Each triangle of a 2x2 block tells in advance what happens to its costliest edge. When it is visited,
//! both cheaper edges have been; if each of those ended inside one segment, so do the ends of the costliest one, and
//! the visit changes nothing. So such an edge is left out, and put back (see [`Graph::hidden_behind`]) at the moment
//! at which one of the two cheaper edges is refused. That holds for any image and any setting: a left-out edge that
//! was never put back has both its path's edges inside one segment, be they visited or (by induction) left out.

use pulp::Arch;

/// Directions from the top left corner of a block, in the order in which equal costs are visited.
const RIGHT: u32 = 0;
const DOWN: u32 = 1;
const DOWN_RIGHT: u32 = 2;
const UP_RIGHT: u32 = 3;

/// Bits of an edge's number that hold the pixel.
const PIXEL_BITS: u32 = 30;
const PIXEL_MASK: u32 = (1 << PIXEL_BITS) - 1;
/// Most pixels of an image.
pub(super) const MAX_PIXELS: usize = 1 << PIXEL_BITS;

/// Low bits of a rounded cost that buckets ignore: a bucket spans 1/256 of a power of two.
const BUCKET_SHIFT: u32 = 15;
/// Costs below this share bucket 0: smoothed 8-bit images differ by more, or by rounding errors.
const SMALLEST: f32 = 1.0 / 65536.0;
const FIRST_BUCKET: u32 = SMALLEST.to_bits() >> BUCKET_SHIFT;
/// No cost exceeds `sqrt(3) < 2`.
pub(super) const BUCKETS: usize = ((2.0f32.to_bits() >> BUCKET_SHIFT) - FIRST_BUCKET + 1) as usize;

/// An edge: its direction above [`PIXEL_BITS`], below it the block's top left pixel. Numbers rise in visiting order.
pub(super) type EdgeId = u32;

/// A blurred image whose neighbouring pixels are joined.
#[derive(Clone, Copy)]
pub(super) struct Graph<'a> {
    pub(super) smooth: &'a [f64],
    pub(super) width: usize,
}

impl Graph<'_> {
    /// The two pixels of an edge.
    #[inline(always)]
    pub(super) fn ends(self, edge: EdgeId) -> (usize, usize) {
        let corner = (edge & PIXEL_MASK) as usize;
        match edge >> PIXEL_BITS {
            RIGHT => (corner, corner + 1),
            DOWN => (corner, corner + self.width),
            DOWN_RIGHT => (corner, corner + self.width + 1),
            _ => (corner + 1, corner + self.width),
        }
    }

    /// Calls `found` with each edge (and its rounded cost) that [`Edges::find`] may have left out because a way around
    /// it leads over `refused`.
    pub(super) fn hidden_behind(self, refused: EdgeId, mut found: impl FnMut(u64)) {
        let width = self.width;
        let height = self.smooth.len() / width;
        let corner = (refused & PIXEL_MASK) as usize;
        let (y, x) = (corner / width, corner % width);
        match refused >> PIXEL_BITS {
            RIGHT => {
                if y + 1 < height {
                    self.hidden_in_block(corner, (0, 1), &mut found);
                }
                if y > 0 {
                    self.hidden_in_block(corner - width, (2, 3), &mut found);
                }
            }
            DOWN => {
                if x + 1 < width {
                    self.hidden_in_block(corner, (0, 2), &mut found);
                }
                if x > 0 {
                    self.hidden_in_block(corner - 1, (1, 3), &mut found);
                }
            }
            DOWN_RIGHT => self.hidden_in_block(corner, (0, 3), &mut found),
            _ => self.hidden_in_block(corner, (1, 2), &mut found),
        }
    }

    /// [`Graph::hidden_behind`] for the two triangles of one block. Corners are numbered 0 1 / 2 3.
    fn hidden_in_block(self, block: usize, (a, b): (usize, usize), found: &mut impl FnMut(u64)) {
        let offset = [0, 1, self.width, self.width + 1];
        let rounded = |a: usize, b: usize| {
            cost(self.smooth[block + offset[a]], self.smooth[block + offset[b]]) as f32
        };
        let between = rounded(a, b);
        for c in (0..4).filter(|&c| c != a && c != b) {
            let (from_a, from_b) = (rounded(a, c), rounded(b, c));
            let (end, cost, other) =
                if from_a > from_b { (a, from_a, from_b) } else { (b, from_b, from_a) };
            if cost > max(between, other) {
                let (direction, at) = match (end.min(c), end.max(c)) {
                    (0, 1) => (RIGHT, 0),
                    (2, 3) => (RIGHT, self.width),
                    (0, 2) => (DOWN, 0),
                    (1, 3) => (DOWN, 1),
                    (0, 3) => (DOWN_RIGHT, 0),
                    _ => (UP_RIGHT, 0),
                };
                found(packed(cost.to_bits(), edge(direction, block + at)));
            }
        }
    }

    /// Sorts packed edges by exact cost, then by number.
    pub(super) fn sort(self, edges: &mut [u64]) {
        edges.sort_unstable();
        for equal in edges.chunk_by_mut(|a, b| a >> 32 == b >> 32) {
            if equal.len() > 1 {
                equal.sort_unstable_by_key(|&edge| {
                    (self.cost(edge as EdgeId).to_bits(), edge as EdgeId)
                });
            }
        }
    }

    /// The exact cost of an edge.
    #[inline(always)]
    pub(super) fn cost(self, edge: EdgeId) -> f64 {
        let (a, b) = self.ends(edge);
        cost(self.smooth[a], self.smooth[b])
    }
}

/// `(d² + d²) + d²` of the reference is `3 d²` with one rounding.
#[inline(always)]
fn cost(a: f64, b: f64) -> f64 {
    let difference = a - b;
    (3.0 * (difference * difference)).sqrt()
}

/// The number of an edge.
#[inline(always)]
fn edge(direction: u32, corner: usize) -> EdgeId {
    (direction << PIXEL_BITS) | corner as u32
}

/// An edge with its cost rounded to `f32`, cost first: sorting these sorts edges up to the rounding.
#[inline(always)]
fn packed(rounded: u32, edge: EdgeId) -> u64 {
    (u64::from(rounded) << 32) | u64::from(edge)
}

/// The bucket of a rounded cost.
#[inline(always)]
pub(super) fn bucket(rounded: u32) -> usize {
    ((rounded >> BUCKET_SHIFT).saturating_sub(FIRST_BUCKET) as usize).min(BUCKETS - 1)
}

/// The edges that must be looked at, in buckets of rising cost.
#[derive(Debug, Default)]
pub(super) struct Edges {
    rows: Rows,
    /// Kept edges as they were found.
    found: Vec<u64>,
    /// Kept edges, bucket by bucket, unordered inside.
    ordered: Vec<u64>,
    /// Where each bucket begins; one more than [`BUCKETS`].
    starts: Vec<u32>,
}

/// Rounded costs of one row of pixels or of blocks, and for each the cheapest way around it.
#[derive(Debug, Default)]
struct Rows {
    right: Vec<f32>,
    right_below: Vec<f32>,
    down: Vec<f32>,
    down_right: Vec<f32>,
    up_right: Vec<f32>,
    around_right: Vec<f32>,
    around_right_below: Vec<f32>,
    /// Around the left edge of each block, through that block.
    around_left: Vec<f32>,
    /// Around the right edge of each block, through that block; shifted by one, so that it lies at its pixel.
    around_down: Vec<f32>,
    around_down_right: Vec<f32>,
    around_up_right: Vec<f32>,
}

impl Edges {
    /// Finds the edges of `graph` that must be looked at.
    pub(super) fn find(&mut self, graph: Graph<'_>) {
        let Graph { smooth, width } = graph;
        let height = smooth.len() / width;
        self.rows.resize(width);
        self.found.resize(4 * smooth.len() + 1, 0);
        let arch = Arch::new();
        let mut found = 0;
        self.rows.around_right.fill(f32::INFINITY);
        right_costs(&smooth[..width], &mut self.rows.right);
        for y in 0..height - 1 {
            let rows = &mut self.rows;
            let upper = &smooth[y * width..][..width];
            let lower = &smooth[(y + 1) * width..][..width];
            arch.dispatch(
                #[inline(always)]
                || {
                    right_costs(lower, &mut rows.right_below);
                    differences(upper, lower, &mut rows.down);
                    differences(upper, &lower[1..], &mut rows.down_right);
                    differences(&upper[1..], lower, &mut rows.up_right);
                    rows.ways_around(width - 1);
                },
            );
            let at = y * width;
            found = keep(&rows.right, &rows.around_right, edge(RIGHT, at), &mut self.found, found);
            found = keep(&rows.down, &rows.around_down, edge(DOWN, at), &mut self.found, found);
            found = keep(
                &rows.down_right,
                &rows.around_down_right,
                edge(DOWN_RIGHT, at),
                &mut self.found,
                found,
            );
            found = keep(
                &rows.up_right,
                &rows.around_up_right,
                edge(UP_RIGHT, at),
                &mut self.found,
                found,
            );
            std::mem::swap(&mut rows.right, &mut rows.right_below);
            std::mem::swap(&mut rows.around_right, &mut rows.around_right_below);
        }
        let last = edge(RIGHT, (height - 1) * width);
        found = keep(&self.rows.right, &self.rows.around_right, last, &mut self.found, found);
        self.distribute(found);
    }

    /// Moves the first `found` edges to their buckets.
    fn distribute(&mut self, found: usize) {
        let found = &self.found[..found];
        self.starts.clear();
        self.starts.resize(BUCKETS + 1, 0);
        for &edge in found {
            self.starts[bucket((edge >> 32) as u32) + 1] += 1;
        }
        // A bucket's slot first holds where it begins; filling moves it to where it ends, the next one's beginning.
        let mut begin = 0;
        for start in &mut self.starts[1..] {
            let count = *start;
            *start = begin;
            begin += count;
        }
        self.ordered.resize(found.len().max(self.ordered.len()), 0);
        for &edge in found {
            let slot = &mut self.starts[bucket((edge >> 32) as u32) + 1];
            self.ordered[*slot as usize] = edge;
            *slot += 1;
        }
    }

    /// The kept edges of one bucket.
    pub(super) fn in_bucket(&self, bucket: usize) -> &[u64] {
        &self.ordered[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }
}

impl Rows {
    fn resize(&mut self, width: usize) {
        let blocks = width - 1;
        for row in [
            &mut self.right,
            &mut self.right_below,
            &mut self.down_right,
            &mut self.up_right,
            &mut self.around_right,
            &mut self.around_right_below,
            &mut self.around_left,
            &mut self.around_down_right,
            &mut self.around_up_right,
        ] {
            row.resize(blocks, 0.0);
        }
        self.down.resize(width, 0.0);
        self.around_down.resize(width, 0.0);
    }

    /// The cheapest way around each edge of a row of blocks: over the block's other corners, at the cost of the
    /// costlier of the two edges passed.
    #[inline(always)]
    fn ways_around(&mut self, blocks: usize) {
        let upper = &self.right[..blocks];
        let lower = &self.right_below[..blocks];
        let left = &self.down[..blocks];
        let right = &self.down[1..][..blocks];
        let falling = &self.down_right[..blocks];
        let rising = &self.up_right[..blocks];
        let around_upper = &mut self.around_right[..blocks];
        let around_lower = &mut self.around_right_below[..blocks];
        let around_left = &mut self.around_left[..blocks];
        self.around_down[0] = f32::INFINITY;
        let around_right = &mut self.around_down[1..][..blocks];
        let around_falling = &mut self.around_down_right[..blocks];
        let around_rising = &mut self.around_up_right[..blocks];
        for x in 0..blocks {
            let left_rising = max(left[x], rising[x]);
            let left_falling = max(left[x], falling[x]);
            let right_rising = max(right[x], rising[x]);
            let right_falling = max(right[x], falling[x]);
            let upper_rising = max(upper[x], rising[x]);
            let upper_falling = max(upper[x], falling[x]);
            let lower_rising = max(lower[x], rising[x]);
            let lower_falling = max(lower[x], falling[x]);
            around_upper[x] = min(around_upper[x], min(left_rising, right_falling));
            around_lower[x] = min(left_falling, right_rising);
            around_left[x] = min(upper_rising, lower_falling);
            around_right[x] = min(upper_falling, lower_rising);
            around_falling[x] = min(max(upper[x], right[x]), max(left[x], lower[x]));
            around_rising[x] = min(max(upper[x], left[x]), max(right[x], lower[x]));
        }
        for (down, &left) in self.around_down[..blocks].iter_mut().zip(&*around_left) {
            *down = min(*down, left);
        }
    }
}

/// `f32::max` asks for NaN; there are none.
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn right_costs(row: &[f64], out: &mut [f32]) {
    differences(row, &row[1..], out);
}

/// Rounded costs between two rows, as many as `out` holds.
#[inline(always)]
fn differences(a: &[f64], b: &[f64], out: &mut [f32]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = cost(a, b) as f32;
    }
}

/// Appends the edges that cost no more than the way around them to `out[found..]`. Rounded costs that differ stand
/// for exact costs that differ the same way, so an edge left out is truly the costliest of its triangle.
#[inline(always)]
fn keep(costs: &[f32], around: &[f32], first: EdgeId, out: &mut [u64], mut found: usize) -> usize {
    let out = &mut out[..];
    for (edge, (&cost, &around)) in (first..).zip(costs.iter().zip(around)) {
        out[found] = packed(cost.to_bits(), edge);
        found += usize::from(cost <= around);
    }
    found
}
