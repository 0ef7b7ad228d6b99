//! The rotation of one head of one token, for every kernel that has heads at hand.

use candle_core::Result;

use super::tables::{RopePairs, RopeTables};
use crate::cpu::slices;

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    /// The transposed rotation, for gradients.
    Back,
}

/// Tables as kernels on several threads read them.
pub(crate) struct Rotation {
    sin: Vec<f32>,
    cos: Vec<f32>,
    pairs: RopePairs,
    /// Pairs of a head.
    half: usize,
    /// Places, which are those of the last tokens.
    places: usize,
    /// Tokens in front that are not rotated.
    prefix: usize,
    per_image: bool,
}

impl Rotation {
    /// For sequences of `n` tokens; the tables have been checked and are contiguous `f32`.
    pub(crate) fn new(tables: &RopeTables, n: usize) -> Result<Self> {
        let dims = tables.sin.dims();
        let (places, half) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        Ok(Self {
            sin: slices::borrow(&tables.sin)?.to_vec(),
            cos: slices::borrow(&tables.cos)?.to_vec(),
            pairs: tables.pairs,
            half,
            places,
            prefix: n.saturating_sub(places),
            per_image: dims.len() == 3,
        })
    }

    /// Rotates the values of a head of token `token` of `image`.
    #[inline]
    pub(crate) fn rotate(
        &self,
        image: usize,
        token: usize,
        head: &mut [f32],
        direction: Direction,
    ) {
        let Some(place) = token.checked_sub(self.prefix) else { return };
        let place = if self.per_image { image * self.places + place } else { place };
        let at = place * self.half..(place + 1) * self.half;
        let (sin, cos) = (&self.sin[at.clone()], &self.cos[at]);
        let sign = if direction == Direction::Back { -1.0 } else { 1.0 };
        match self.pairs {
            RopePairs::Halves => {
                let (a, b) = head.split_at_mut(self.half);
                for (((a, b), sin), cos) in a.iter_mut().zip(b).zip(sin).zip(cos) {
                    let (x, y, sin) = (*a, *b, sign * sin);
                    *a = x * cos - y * sin;
                    *b = y * cos + x * sin;
                }
            }
            RopePairs::Neighbours => {
                for ((pair, sin), cos) in head.chunks_exact_mut(2).zip(sin).zip(cos) {
                    let (x, y, sin) = (pair[0], pair[1], sign * sin);
                    pair[0] = x * cos - y * sin;
                    pair[1] = y * cos + x * sin;
                }
            }
        }
    }

    /// Rotates dense rows of a head, one a token.
    pub(crate) fn rotate_rows(&self, image: usize, rows: &mut [f32], head_dim: usize) {
        for (token, head) in rows.chunks_exact_mut(head_dim).enumerate() {
            self.rotate(image, token, head, Direction::Forward);
        }
    }
}
