//! How the heads lie in the packed array of queries, keys and values, and how kernels reach them.
#![allow(unsafe_code)]

use candle_core::Tensor;

use crate::{
    Error, Result, check,
    cpu::{level::multiversioned, matmul::Mat, real::Real},
    rope::cpu::{Direction, Rotation},
};

/// Values of a block of the N x N matrix: half a megabyte, so that it stays in the second-level
/// cache.
const BLOCK_VALUES: usize = 1 << 17;

/// `b` images, `n` tokens, `d` = `heads` * `head_dim`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) b: usize,
    pub(crate) n: usize,
    pub(crate) d: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

/// Which of the three.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Queries = 0,
    Keys = 1,
    Values = 2,
}

impl Sizes {
    pub(crate) fn scale(&self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }

    /// Query rows worked on together.
    pub(super) fn block_rows(&self) -> usize {
        (BLOCK_VALUES / self.n.max(1)).clamp(16, self.n.max(16)).min(self.n)
    }

    /// Where head `head` of a part of `image` begins in the packed array.
    pub(super) fn packed(&self, image: usize, part: Part, head: usize) -> usize {
        image * self.n * 3 * self.d + part as usize * self.d + head * self.head_dim
    }

    /// Rows `rows` of a head inside the packed array.
    pub(super) fn packed_mat(&self, rows: usize) -> Mat {
        Mat::strided(rows, self.head_dim, 3 * self.d)
    }

    /// Rows `rows` of a head inside the output.
    pub(super) fn out_mat(&self, rows: usize) -> Mat {
        Mat::strided(rows, self.head_dim, self.d)
    }

    /// Rows `rows` of a head on its own.
    pub(super) fn head_mat(&self, rows: usize) -> Mat {
        Mat::dense(rows, self.head_dim)
    }
}

/// Queries, keys and values (B, N, 3 D), the bias (3 D, or empty) that is added to them, and the
/// rotation of queries and keys.
pub(super) type Packed<'a, T> = (&'a [T], &'a [f32], Option<&'a Rotation>);

/// A pointer that tasks share, each for its own head.
#[derive(Clone, Copy)]
pub(super) struct Heads(pub(super) *mut f32);
// SAFETY: every task writes only the columns of its own (image, head), and these are disjoint.
unsafe impl Send for Heads {}
// SAFETY: as above.
unsafe impl Sync for Heads {}

impl Heads {
    /// The value at `offset`.
    pub(super) fn at(self, offset: usize) -> *mut f32 {
        // A method, so that closures capture the whole (Sync) wrapper and not the bare pointer.
        self.0.wrapping_add(offset)
    }
}

multiversioned! {
    /// `dense = (row + bias) scale` for rows that are `stride` apart; an empty bias adds nothing.
    pub(super) fn load_rows<T: Real>(
        rows: &[T],
        stride: usize,
        bias: &[f32],
        scale: f32,
        width: usize,
        dense: &mut [f32],
    ) {
        for (dense, row) in dense.chunks_exact_mut(width).zip(rows.chunks(stride)) {
            let row = &row[..width];
            if bias.len() == width {
                for i in 0..width {
                    dense[i] = (row[i].to_f32() + bias[i]) * scale;
                }
            } else {
                for i in 0..width {
                    dense[i] = row[i].to_f32() * scale;
                }
            }
        }
    }
}

/// Turns the gradients of rotated queries and keys of one head into those of the projections.
///
/// # Safety
/// `d_qkv` points to (B, N, 3 D), and no other thread accesses the columns of this head in this
/// image's rows.
pub(super) unsafe fn turn_back(
    rotation: &Rotation,
    d_qkv: Heads,
    s: &Sizes,
    image: usize,
    head: usize,
) {
    for part in [Part::Queries, Part::Keys] {
        for token in 0..s.n {
            let at = s.packed(image, part, head) + token * 3 * s.d;
            // SAFETY: row `token` of the image exists and has the head's columns; by this
            // function's contract they are this thread's own.
            let row = unsafe { std::slice::from_raw_parts_mut(d_qkv.at(at), s.head_dim) };
            rotation.rotate(image, token, row, Direction::Back);
        }
    }
}

/// Checks that `qkv` is (B, N, 3 D) of a floating dtype and `num_heads` divides D.
pub(super) fn expect_packed(op: &'static str, qkv: &Tensor, num_heads: usize) -> Result<()> {
    check::expect_rank(op, "qkv", qkv, 3, "(B, N, 3 D)")?;
    check::expect_float(op, "qkv", qkv)?;
    let width = qkv.dim(2)?;
    if num_heads == 0 || !width.is_multiple_of(3 * num_heads) {
        return Err(Error::Value {
            op,
            arg: "num_heads",
            expected: format!("a divisor of embed_dim ({} / 3)", width),
            found: num_heads.to_string(),
        });
    }
    Ok(())
}
