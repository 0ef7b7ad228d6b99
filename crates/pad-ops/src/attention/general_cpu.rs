//! One task per image and head of keys: the heads of queries that share it follow one another. The
//! N x M matrix of a head lives a block of rows at a time, in both directions.

use rayon::prelude::*;

use crate::{
    cpu::{
        matmul::{Into, Mat, Threads, matmul},
        scratch::Scratch,
    },
    softmax,
};

/// Values of a block of the N x M matrix: half a megabyte, so that it stays in the second-level
/// cache.
const BLOCK_VALUES: usize = 1 << 17;

/// Where a bias lies for an image, head, query and key: steps of 0 along the axes that it is
/// broadcast over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bias {
    len: usize,
    steps: [usize; 4],
}

impl Bias {
    /// A contiguous bias of `dims`, broadcast to images, heads, queries and keys.
    pub(super) fn broadcast(dims: &[usize]) -> Self {
        let (mut steps, mut step) = ([0; 4], 1);
        for (axis, &size) in dims.iter().rev().enumerate() {
            steps[3 - axis] = if size == 1 { 0 } else { step };
            step *= size;
        }
        Self { len: step, steps }
    }

    /// Adds the bias of queries from `first` on to the rows of logits `p`, `columns` each.
    fn add(&self, values: &[f32], at: [usize; 3], p: &mut [f32], columns: usize) {
        let [image, head, first] = at;
        let [of_image, of_head, of_query, of_key] = self.steps;
        for (query, row) in (first..).zip(p.chunks_exact_mut(columns)) {
            let from = image * of_image + head * of_head + query * of_query;
            match of_key {
                0 => row.iter_mut().for_each(|p| *p += values[from]),
                _ => row.iter_mut().zip(&values[from..]).for_each(|(p, bias)| *p += bias),
            }
        }
    }

    /// The transpose of [`Bias::add`].
    fn sum(&self, d_p: &[f32], at: [usize; 3], d_values: &mut [f32], columns: usize) {
        let [image, head, first] = at;
        let [of_image, of_head, of_query, of_key] = self.steps;
        for (query, row) in (first..).zip(d_p.chunks_exact(columns)) {
            let from = image * of_image + head * of_head + query * of_query;
            match of_key {
                0 => d_values[from] += row.iter().sum::<f32>(),
                _ => d_values[from..].iter_mut().zip(row).for_each(|(d, value)| *d += value),
            }
        }
    }
}

/// The sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) images: usize,
    /// Of queries.
    pub(super) heads: usize,
    /// Heads of queries that share one of keys.
    pub(super) group: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) head_dim: usize,
    /// Width of a value.
    pub(super) values: usize,
    pub(super) scale: f32,
    pub(super) causal: bool,
    pub(super) bias: Option<Bias>,
}

/// All gradients; that of the bias is empty if it is not needed.
pub(super) struct Found {
    pub(super) d_q: Vec<f32>,
    pub(super) d_k: Vec<f32>,
    pub(super) d_v: Vec<f32>,
    pub(super) d_bias: Vec<f32>,
}

/// What one head of keys and values gets, and the queries of its heads.
struct Parts<'a> {
    d_q: &'a mut [f32],
    d_k: &'a mut [f32],
    d_v: &'a mut [f32],
}

impl Geometry {
    /// Query rows worked on together.
    fn block_rows(self) -> usize {
        (BLOCK_VALUES / self.keys).clamp(16, self.queries.max(16)).min(self.queries)
    }

    /// `(first row, rows, keys that any of them sees)` of every block.
    fn blocks(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let step = self.block_rows();
        (0..self.queries).step_by(step).map(move |first| {
            let rows = step.min(self.queries - first);
            let seen = match self.causal {
                true => self.keys - self.queries + first + rows,
                false => self.keys,
            };
            (first, rows, seen)
        })
    }

    /// Values of one head of queries, keys, values and results.
    fn sizes(self) -> (usize, usize, usize, usize) {
        let (n, m) = (self.queries, self.keys);
        (n * self.head_dim, m * self.head_dim, m * self.values, n * self.values)
    }

    /// Image and head of queries number `index`.
    fn place(self, index: usize) -> (usize, usize) {
        (index / self.heads, index % self.heads)
    }

    /// The probabilities of query rows `first .. first + rows` of one head over their first `seen`
    /// keys, in `p`.
    fn probabilities(
        self,
        (q, k): (&[f32], &[f32]),
        bias: Option<&[f32]>,
        index: usize,
        (first, rows, seen): (usize, usize, usize),
        p: &mut [f32],
        threads: Threads,
    ) {
        matmul(
            (p, Mat::dense(rows, seen)),
            Into::Replace,
            self.scale,
            (&q[first * self.head_dim..], Mat::dense(rows, self.head_dim)),
            (k, Mat::dense(seen, self.head_dim).t()),
            threads,
        );
        if let (Some(place), Some(values)) = (self.bias, bias) {
            let (image, head) = self.place(index);
            place.add(values, [image, head, first], p, seen);
        }
        if self.causal {
            for (row, p) in p.chunks_exact_mut(seen).enumerate() {
                let own = self.keys - self.queries + first + row + 1;
                p[own..].fill(f32::NEG_INFINITY);
            }
        }
        softmax::forward_rows(p, seen);
    }

    /// -> (B, H, N, F).
    pub(super) fn forward(
        self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let (of_q, of_k, of_v, of_y) = self.sizes();
        let mut y = vec![0.0; self.images * self.heads * of_y];
        let scratch = || Scratch::<f32>::new(self.block_rows() * self.keys);
        y.par_chunks_mut(of_y).enumerate().for_each_init(scratch, |p, (index, y)| {
            let shared = index / self.group;
            let q = &q[index * of_q..][..of_q];
            let (k, v) = (&k[shared * of_k..][..of_k], &v[shared * of_v..][..of_v]);
            for block @ (first, rows, seen) in self.blocks() {
                let p = &mut p[..rows * seen];
                self.probabilities((q, k), bias, index, block, p, Threads::One);
                matmul(
                    (&mut y[first * self.values..], Mat::dense(rows, self.values)),
                    Into::Replace,
                    1.0,
                    (p, Mat::dense(rows, seen)),
                    (v, Mat::dense(seen, self.values)),
                    Threads::One,
                );
            }
        });
        y
    }

    /// With `P` computed again: `d_V = P^T d_Y`, `d_P = d_Y V^T`, `d_S = P (d_P - rowsum(d_P P))`,
    /// `d_Q = scale d_S K`, `d_K = scale d_S^T Q`, and the bias gets `d_S`.
    pub(super) fn backward(
        self,
        operands: (&[f32], &[f32], &[f32]),
        bias: Option<&[f32]>,
        d_y: &[f32],
        want_bias: bool,
    ) -> Found {
        let (of_q, of_k, of_v, _) = self.sizes();
        let (q, k, v) = operands;
        let mut found = Found {
            d_q: vec![0.0; q.len()],
            d_k: vec![0.0; k.len()],
            d_v: vec![0.0; v.len()],
            d_bias: Vec::new(),
        };
        let tasks = found.d_q.par_chunks_mut(self.group * of_q);
        let tasks = tasks.zip(found.d_k.par_chunks_mut(of_k)).zip(found.d_v.par_chunks_mut(of_v));
        let scratch = || {
            let len = self.block_rows() * self.keys;
            (Scratch::new(len), Scratch::new(len))
        };
        match self.bias.filter(|_| want_bias) {
            None => {
                tasks.enumerate().for_each_init(scratch, |scratch, (shared, ((d_q, d_k), d_v))| {
                    let parts = Parts { d_q, d_k, d_v };
                    self.back(
                        operands,
                        bias,
                        d_y,
                        shared,
                        parts,
                        scratch,
                        Threads::One,
                        |_, _, _| {},
                    );
                })
            }
            Some(place) => {
                // A bias that is broadcast gets sums over images and heads, in their order.
                let mut d_bias = vec![0.0; place.len];
                let mut scratch = scratch();
                let tasks = found.d_q.chunks_mut(self.group * of_q);
                let tasks = tasks.zip(found.d_k.chunks_mut(of_k)).zip(found.d_v.chunks_mut(of_v));
                for (shared, ((d_q, d_k), d_v)) in tasks.enumerate() {
                    let parts = Parts { d_q, d_k, d_v };
                    let sum = |at, d_s: &[f32], seen| place.sum(d_s, at, &mut d_bias, seen);
                    self.back(operands, bias, d_y, shared, parts, &mut scratch, Threads::All, sum);
                }
                found.d_bias = d_bias;
            }
        }
        found
    }

    /// The gradients of head `shared` of all keys and of the queries that see it; `take` is given
    /// image, head and first query, the gradient of a block's logits and its columns.
    #[allow(clippy::too_many_arguments)] // operands and results of one kernel
    fn back(
        self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        bias: Option<&[f32]>,
        d_y: &[f32],
        shared: usize,
        parts: Parts<'_>,
        (p, d_s): &mut (Scratch, Scratch),
        threads: Threads,
        mut take: impl FnMut([usize; 3], &[f32], usize),
    ) {
        let (of_q, of_k, of_v, of_y) = self.sizes();
        let (k, v) = (&k[shared * of_k..][..of_k], &v[shared * of_v..][..of_v]);
        for (member, d_q) in parts.d_q.chunks_exact_mut(of_q).enumerate() {
            let index = shared * self.group + member;
            let (q, d_y) = (&q[index * of_q..][..of_q], &d_y[index * of_y..][..of_y]);
            for block @ (first, rows, seen) in self.blocks() {
                let (p, d_s) = (&mut p[..rows * seen], &mut d_s[..rows * seen]);
                self.probabilities((q, k), bias, index, block, p, threads);
                let square = Mat::dense(rows, seen);
                let d_y = (&d_y[first * self.values..], Mat::dense(rows, self.values));
                let v_mat = Mat::dense(seen, self.values);
                let (v, d_v) = ((v, v_mat), (&mut *parts.d_v, v_mat));
                matmul(d_v, Into::Add, 1.0, (p, square.t()), d_y, threads);
                matmul((d_s, square), Into::Replace, 1.0, d_y, (v.0, v.1.t()), threads);
                softmax::backward_rows(p, d_s, seen);
                let (image, head) = self.place(index);
                take([image, head, first], d_s, seen);
                let q_mat = Mat::dense(rows, self.head_dim);
                let k_mat = Mat::dense(seen, self.head_dim);
                let to = (&mut d_q[first * self.head_dim..], q_mat);
                matmul(to, Into::Replace, self.scale, (d_s, square), (k, k_mat), threads);
                let (q, to) = ((&q[first * self.head_dim..], q_mat), (&mut *parts.d_k, k_mat));
                matmul(to, Into::Add, self.scale, (d_s, square.t()), q, threads);
            }
        }
    }
}
