//! Dropout whose mask is fixed by a [`Key`] (Srivastava et al., 2014), and drop path (Huang et al.,
//! 2016).
//!
//! Saved for the backward: nothing; the mask is drawn again from the key.

pub(crate) mod device;
mod probability;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result as CandleResult, Shape, Tensor};
use rayon::prelude::*;

pub(crate) use probability::check_probability;
use probability::{kept, threshold};

use crate::{
    Mode, Result, check,
    cpu::{has_kernel, slices},
    gpu,
    rng::{Key, Purpose},
};

/// Values per task; the mask does not depend on it, since each task seeks to its own place in the
/// stream.
const CHUNK: usize = 4096;

/// Zeroes each value with probability `p` and scales the others by `1 / (1 - p)`; the identity in
/// [`Mode::Eval`] and for `p = 0`.
///
/// # Shapes
/// Any, floating dtype. Equal keys drop the same places on every device and for any number of
/// threads.
///
/// # Errors
/// [`Error::Value`](crate::Error::Value) unless `0 <= p < 1`, `DType` for integers.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Mode, dropout, rng::Key};
/// let x = Tensor::ones(8, DType::F32, &Device::Cpu)?;
/// let y = dropout(&x, 0.5, Mode::Train(Key::new(1)).scope("drop"))?.to_vec1::<f32>()?;
/// assert!(y.iter().all(|&value| value == 0.0 || value == 2.0));
/// assert_eq!(dropout(&x, 0.5, Mode::Eval)?.to_vec1::<f32>()?, [1.0; 8]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn dropout(x: &Tensor, p: f64, mode: Mode) -> Result<Tensor> {
    const OP: &str = "dropout";
    check_probability(OP, p)?;
    check::expect_float(OP, "x", x)?;
    let Mode::Train(key) = mode else { return Ok(x.clone()) };
    if p == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let key = key.purpose(Purpose::Dropout);
    if gpu::has_kernel([x]) {
        return Ok(device::apply(x, p, key)?);
    }
    if !has_kernel(x) {
        return dropout_reference(x, p, key);
    }
    Ok(x.contiguous()?.apply_op1(Dropout { p, key })?)
}

/// [`dropout`] in training as a product with a mask tensor: any device and floating dtype.
///
/// # Shapes
/// Any.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Mode, dropout, reference, rng::{Key, Purpose}};
/// let (x, key) = (Tensor::ones(8, DType::F32, &Device::Cpu)?, Key::new(1).layer(2));
/// let y = reference::dropout(&x, 0.5, key.purpose(Purpose::Dropout))?;
/// assert_eq!(y.to_vec1::<f32>()?, dropout(&x, 0.5, Mode::Train(key))?.to_vec1::<f32>()?);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn dropout_reference(x: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    let mut mask = vec![1.0; x.elem_count()];
    apply(&mut mask, p, key);
    let mask = Tensor::from_vec(mask, x.shape(), &Device::Cpu)?;
    Ok((x * mask.to_dtype(x.dtype())?.to_device(x.device())?)?)
}

/// Drops the whole residual branch of each sample with probability `p` and scales the others by
/// `1 / (1 - p)` (stochastic depth); the identity in [`Mode::Eval`] and for `p = 0`.
///
/// # Shapes
/// `x` (B, ..), floating dtype.
///
/// # Errors
/// [`Error::Value`](crate::Error::Value) unless `0 <= p < 1`, `Shape` for a scalar.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Mode, drop_path, rng::Key};
/// let x = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
/// let y = drop_path(&x, 0.5, Mode::Train(Key::new(1)).layer(3))?.to_vec2::<f32>()?;
/// assert!(y.iter().all(|sample| *sample == [0.0, 0.0] || *sample == [2.0, 2.0]));
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn drop_path(x: &Tensor, p: f64, mode: Mode) -> Result<Tensor> {
    const OP: &str = "drop_path";
    check_probability(OP, p)?;
    check::last_dim(OP, "x", x)?;
    check::expect_float(OP, "x", x)?;
    let Mode::Train(key) = mode else { return Ok(x.clone()) };
    if p == 0.0 {
        return Ok(x.clone());
    }
    let mut shape = vec![1; x.rank()];
    shape[0] = x.dim(0)?;
    let mask = Tensor::from_vec(path_factors(shape[0], p, key), shape, x.device())?;
    Ok(x.broadcast_mul(&mask.to_dtype(x.dtype())?)?)
}

/// What [`drop_path`] multiplies each of the samples of `x` by: 0 or `1 / (1 - p)`. `None` in
/// [`Mode::Eval`] and for `p = 0`.
///
/// # Shapes
/// `x` (B, ..) -> (B), in the dtype and on the device of `x`.
///
/// # Errors
/// As [`drop_path`].
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Mode, drop_path_factors, rng::Key};
/// let x = Tensor::zeros((8, 2, 3), DType::F32, &Device::Cpu)?;
/// let factors = drop_path_factors(&x, 0.75, Mode::Train(Key::new(1)))?.unwrap().to_vec1::<f32>()?;
/// assert!(factors.len() == 8 && factors.iter().all(|&factor| factor == 0.0 || factor == 4.0));
/// assert!(drop_path_factors(&x, 0.75, Mode::Eval)?.is_none());
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn drop_path_factors(x: &Tensor, p: f64, mode: Mode) -> Result<Option<Tensor>> {
    const OP: &str = "drop_path_factors";
    check_probability(OP, p)?;
    check::last_dim(OP, "x", x)?;
    check::expect_float(OP, "x", x)?;
    let Mode::Train(key) = mode else { return Ok(None) };
    if p == 0.0 {
        return Ok(None);
    }
    let batch = x.dim(0)?;
    let factors = Tensor::from_vec(path_factors(batch, p, key), batch, x.device())?;
    Ok(Some(factors.to_dtype(x.dtype())?))
}

fn path_factors(batch: usize, p: f64, key: Key) -> Vec<f32> {
    let mut stream = key.purpose(Purpose::DropPath).stream();
    let kept = kept(p);
    (0..batch).map(|_| if stream.bernoulli(p) { 0.0 } else { kept }).collect()
}

/// Multiplies `values` by the mask that `key` draws.
pub(crate) fn apply(values: &mut [f32], p: f64, key: Key) {
    let (kept, threshold) = (kept(p), threshold(p));
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut stream = key.stream();
        stream.seek((chunk * CHUNK) as u64);
        for value in values {
            *value *= if stream.next_u32() < threshold { 0.0 } else { kept };
        }
    });
}

struct Dropout {
    p: f64,
    key: Key,
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let mut y = slices::values(self.name(), x, layout)?.to_vec();
        apply(&mut y, self.p, self.key);
        Ok(slices::output(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let mut d_x = slices::read(d_y, <[f32]>::to_vec)?;
        apply(&mut d_x, self.p, self.key);
        Ok(Some(slices::tensor(d_x, x.shape())?))
    }
}
