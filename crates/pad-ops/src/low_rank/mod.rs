//! A weight with low-rank products added to some of its rows (LoRA, Hu et al., 2021).
//!
//! Saved for the backward: the low-rank factors.

use candle_core::{Result as CandleResult, Tensor};

use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        matmul::{Into, Mat, Threads, matmul},
        nary::{self, Backward, Gradients},
        slices,
    },
};

/// A product that is added to rows of a weight.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{LowRankUpdate, low_rank_update};
/// // LoRA of rank 1 on the queries alone: the first third of a qkv layer's rows.
/// let a = Tensor::new(&[[1_f32, 2.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[3_f32]], &Device::Cpu)?;
/// let queries = LowRankUpdate { a, b, scale: 2.0, first_row: 0 };
/// let qkv = Tensor::new(&[[0_f32, 0.0], [0.0, 0.0], [0.0, 0.0]], &Device::Cpu)?;
/// let adapted = low_rank_update(&qkv, &[queries])?;
/// assert_eq!(adapted.to_vec2::<f32>()?, [[6.0, 12.0], [0.0, 0.0], [0.0, 0.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LowRankUpdate {
    /// (r, I).
    pub a: Tensor,
    /// (O', r).
    pub b: Tensor,
    /// Factor on `b a`.
    pub scale: f64,
    /// The first of the O' rows that it is added to.
    pub first_row: usize,
}

/// Computes `weight` plus `scale b a` of each update, on its rows. A weight that tracks nothing
/// gets no gradient.
///
/// # Shapes
/// `weight` (O, I) -> the same. One floating dtype.
///
/// # Errors
/// [`Error::Shape`], `DType`, `Device` or `Value` for factors that do not fit.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{LowRankUpdate, low_rank_update};
/// let weight = Tensor::new(&[[1_f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let a = Tensor::new(&[[1_f32, 10.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[2_f32]], &Device::Cpu)?;
/// let update = LowRankUpdate { a, b, scale: 0.5, first_row: 1 };
/// let sum = low_rank_update(&weight, &[update])?;
/// assert_eq!(sum.to_vec2::<f32>()?, [[1.0, 2.0], [4.0, 14.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn low_rank_update(weight: &Tensor, updates: &[LowRankUpdate]) -> Result<Tensor> {
    const OP: &str = "low_rank_update";
    check::expect_rank(OP, "weight", weight, 2, "(O, I)")?;
    check::expect_float(OP, "weight", weight)?;
    let (outputs, inputs) = weight.dims2()?;
    for update in updates {
        check::expect_rank(OP, "a", &update.a, 2, "(r, I)")?;
        let rank = update.a.dim(0)?;
        check::expect_shape(OP, "a", &update.a, &[rank, inputs])?;
        check::expect_rank(OP, "b", &update.b, 2, "(O', r)")?;
        let rows = update.b.dim(0)?;
        check::expect_shape(OP, "b", &update.b, &[rows, rank])?;
        check::expect_like(OP, "a", &update.a, weight)?;
        check::expect_like(OP, "b", &update.b, weight)?;
        if update.first_row.saturating_add(rows) > outputs {
            return Err(Error::Value {
                op: OP,
                arg: "first_row",
                expected: format!("rows below {outputs}"),
                found: format!("{} + {rows}", update.first_row),
            });
        }
    }
    if !has_kernel(weight) || weight.elem_count() == 0 {
        return low_rank_update_reference(weight, updates);
    }
    let weight = weight.contiguous()?;
    let mut params = Vec::with_capacity(2 * updates.len());
    for update in updates {
        params.extend([update.a.contiguous()?, update.b.contiguous()?]);
    }
    let places = updates.iter().map(|update| (update.scale as f32, update.first_row)).collect();
    let node = Node { params: params.clone(), places, inputs };
    let mut sum = slices::borrow(&weight)?.to_vec();
    for (pair, &(scale, first)) in params.chunks_exact(2).zip(&node.places) {
        let (rank, rows) = (pair[0].dim(0)?, pair[1].dim(0)?);
        let (a, b) = (slices::borrow(&pair[0])?, slices::borrow(&pair[1])?);
        matmul(
            (&mut sum[first * inputs..(first + rows) * inputs], Mat::dense(rows, inputs)),
            Into::Add,
            scale,
            (&b, Mat::dense(rows, rank)),
            (&a, Mat::dense(rank, inputs)),
            Threads::All,
        );
    }
    let params: Vec<&Tensor> = params.iter().collect();
    Ok(nary::apply(OP, &weight, &params, sum, weight.shape().clone(), node)?)
}

/// [`low_rank_update`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// `weight` (O, I) -> the same.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{LowRankUpdate, reference};
/// let weight = Tensor::new(&[[1_f64, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let a = Tensor::new(&[[1_f64, 10.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[2_f64]], &Device::Cpu)?;
/// let update = LowRankUpdate { a, b, scale: 0.5, first_row: 1 };
/// let sum = reference::low_rank_update(&weight, &[update])?;
/// assert_eq!(sum.to_vec2::<f64>()?, [[1.0, 2.0], [4.0, 14.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn low_rank_update_reference(weight: &Tensor, updates: &[LowRankUpdate]) -> Result<Tensor> {
    let outputs = weight.dim(0)?;
    let mut sum = weight.clone();
    for update in updates {
        let product = (crate::products::matmul(&update.b, &update.a)? * update.scale)?;
        let rows = product.dim(0)?;
        let Some(behind) = outputs.checked_sub(update.first_row.saturating_add(rows)) else {
            return Err(Error::Value {
                op: "low_rank_update",
                arg: "first_row",
                expected: format!("rows below {outputs}"),
                found: format!("{} + {rows}", update.first_row),
            });
        };
        sum = (sum + product.pad_with_zeros(0, update.first_row, behind)?)?;
    }
    Ok(sum)
}

/// The operator's part of the graph: `d_b = scale d_w a^T`, `d_a = scale b^T d_w`.
struct Node {
    /// `a` and `b` of each update.
    params: Vec<Tensor>,
    /// Scale and first row of each.
    places: Vec<(f32, usize)>,
    inputs: usize,
}

impl Backward for Node {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let mut d_params = Vec::with_capacity(wanted.len());
        let pairs = self.params.chunks_exact(2).zip(wanted.chunks_exact(2));
        for ((pair, wanted), &(scale, first)) in pairs.zip(&self.places) {
            let (rank, rows) = (pair[0].dim(0)?, pair[1].dim(0)?);
            let (a, b) = (slices::borrow(&pair[0])?, slices::borrow(&pair[1])?);
            let d = &d_y[first * self.inputs..(first + rows) * self.inputs];
            let (d, b, a) = (
                (d, Mat::dense(rows, self.inputs)),
                (&b[..], Mat::dense(rows, rank)),
                (&a[..], Mat::dense(rank, self.inputs)),
            );
            d_params.push(wanted[0].then(|| {
                let mut d_a = vec![0.0; rank * self.inputs];
                let to = (&mut d_a[..], a.1);
                matmul(to, Into::Replace, scale, (b.0, b.1.t()), d, Threads::All);
                d_a
            }));
            d_params.push(wanted[1].then(|| {
                let mut d_b = vec![0.0; rows * rank];
                matmul((&mut d_b, b.1), Into::Replace, scale, d, (a.0, a.1.t()), Threads::All);
                d_b
            }));
        }
        Ok(Gradients { d_x: d_x.then(|| d_y.to_vec()), d_params })
    }
}
