//! The pixel graph of the segmentation: each pixel joined with its eight neighbours.
//!
//! An edge costs `sqrt(3 d²)` if its pixels differ by `d` (three equal channels). The segmentation
//! visits edges by rising cost; equal costs by direction (right, down, down-right, up-right), then
//! by row and column of the 2x2 block that holds them.
//!
//! In each triangle of a 2x2 block the result for its costliest edge is known in advance. When it
//! is visited, both cheaper edges have been; if each of those ended inside one segment, so do the
//! ends of the costliest one, and the visit changes nothing. So such an edge is hidden: left out at
//! first, and brought back ([`Graph::hidden_behind`]) when one of the cheaper two is refused. This
//! holds for any image and any setting: the two ways around a hidden edge that was never brought
//! back end inside one segment, be they visited or, by induction over the cost, hidden themselves.

/// Sides of the tiles that the image is cut into. Only triangles inside a tile hide edges.
pub(super) const TILE: usize = 128;

/// Directions from the top left corner of a block, in the order in which equal costs are visited.
pub(super) const RIGHT: u32 = 0;
pub(super) const DOWN: u32 = 1;
pub(super) const DOWN_RIGHT: u32 = 2;
pub(super) const UP_RIGHT: u32 = 3;

/// Bits of an edge's number that hold the pixel.
const PIXEL_BITS: u32 = 30;
const PIXEL_MASK: u32 = (1 << PIXEL_BITS) - 1;
/// Maximum number of pixels of an image.
pub(super) const MAX_PIXELS: usize = 1 << PIXEL_BITS;

/// An edge: its direction above [`PIXEL_BITS`], below it the block's top left pixel. Among equal
/// costs, numbers rise in visiting order.
pub(super) type EdgeId = u32;

/// Returns the number of an edge.
#[inline(always)]
pub(super) fn edge(direction: u32, corner: usize) -> EdgeId {
    (direction << PIXEL_BITS) | corner as u32
}

/// `|d|` as bits of an `f32`: a quick stand-in for the cost. Where two keys differ by more than
/// [`CLOSE`], costs differ the same way.
pub(super) type Key = u32;

/// Rounding to `f32` can separate or join equal costs by one unit in the last place.
pub(super) const CLOSE: Key = 1;

/// `sqrt 3`: what a key's number must be multiplied by to be a cost.
pub(super) const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// Larger than the relative error of a cost or limit that was computed from keys in `f32`, a few
/// times 2^-24.
pub(super) const MARGIN: f32 = 1e-6;

/// The key of the edge between two blurred pixels.
#[inline(always)]
pub(super) fn key(a: f64, b: f64) -> Key {
    ((a - b).abs() as f32).to_bits()
}

/// A blurred image whose neighbouring pixels are joined.
#[derive(Clone, Copy, Debug)]
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

    /// The exact cost of an edge. The reference's `(d² + d²) + d²` is `3 d²` with one rounding.
    #[inline(always)]
    pub(super) fn cost(self, edge: EdgeId) -> f64 {
        let (a, b) = self.ends(edge);
        let difference = self.smooth[a] - self.smooth[b];
        (3.0 * (difference * difference)).sqrt()
    }

    /// The key of an edge.
    #[inline(always)]
    pub(super) fn key(self, edge: EdgeId) -> Key {
        let (a, b) = self.ends(edge);
        key(self.smooth[a], self.smooth[b])
    }

    /// Calls `found` with each edge that is hidden by a triangle in which `edge`, between the
    /// segments `ends`, is one of the cheaper two, unless it lies inside one segment: the edge, its
    /// key, its segments.
    pub(super) fn hidden_behind(
        self,
        edge: EdgeId,
        ends: [u32; 2],
        segment: impl Fn(usize) -> u32,
        mut found: impl FnMut(EdgeId, Key, [u32; 2]),
    ) {
        let width = self.width;
        let corner = (edge & PIXEL_MASK) as usize;
        // Blocks hold the corners 0 1 / 2 3; an edge lies in one or two of them: its two corners,
        // the other two.
        let (blocks, count) = match edge >> PIXEL_BITS {
            RIGHT => ([(corner, 0, 1, [2, 3]), (corner.wrapping_sub(width), 2, 3, [0, 1])], 2),
            DOWN => ([(corner, 0, 2, [1, 3]), (corner.wrapping_sub(1), 1, 3, [0, 2])], 2),
            DOWN_RIGHT => ([(corner, 0, 3, [1, 2]); 2], 1),
            _ => ([(corner, 1, 2, [0, 3]); 2], 1),
        };
        let offset = [0, 1, width, width + 1];
        for &(block, a, b, others) in &blocks[..count] {
            if !self.inside_a_tile(block) {
                continue;
            }
            let value = |corner: usize| self.smooth[block + offset[corner]];
            let way = key(value(a), value(b));
            for c in others {
                let third = segment(block + offset[c]);
                let (from_a, from_b) = (key(value(a), value(c)), key(value(b), value(c)));
                for (end, root, cost, other) in
                    [(a, ends[0], from_a, from_b), (b, ends[1], from_b, from_a)]
                {
                    if cost > way.max(other) + CLOSE && third != root {
                        // An edge's ends are named by rising corner.
                        let roots = if end < c { [root, third] } else { [third, root] };
                        found(edge_of_corners(block, width, end, c), cost, roots);
                    }
                }
            }
        }
    }

    /// Returns whether the 2x2 block with this top left pixel exists and lies inside one tile.
    fn inside_a_tile(self, block: usize) -> bool {
        // A number that wrapped below zero lies beyond the image.
        if block >= self.smooth.len() - self.smooth.len().min(self.width + 1) {
            return false;
        }
        // Pixels are fewer than 2^32, and the shorter division is the faster one.
        let (y, x) = (block as u32 / self.width as u32, block as u32 % self.width as u32);
        let (y, x) = (y as usize, x as usize);
        x + 1 < self.width && (x + 1) % TILE != 0 && (y + 1) % TILE != 0
    }
}

/// The edge between two corners of a block.
fn edge_of_corners(block: usize, width: usize, a: usize, b: usize) -> EdgeId {
    match (a.min(b), a.max(b)) {
        (0, 1) => edge(RIGHT, block),
        (2, 3) => edge(RIGHT, block + width),
        (0, 2) => edge(DOWN, block),
        (1, 3) => edge(DOWN, block + 1),
        (0, 3) => edge(DOWN_RIGHT, block),
        _ => edge(UP_RIGHT, block),
    }
}
