//! One optional gradient per parameter, in the parameters' order.

use std::sync::OnceLock;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor, WithDType, backprop::GradStore};
use rayon::prelude::*;

use crate::{Error, Parameter, Result};

/// Numbers summed by one thread at a time. Fixed, so that sums do not depend on the number of
/// threads.
const CHUNK: usize = 1 << 15;

/// Gradients of a list of parameters. Scaling costs nothing: the factor is applied when the
/// gradients are used.
///
/// ```
/// use pad_train::{Gradients, candle_core::{Device, Tensor}};
/// let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
/// let first = Gradients::new(vec![Some(tensor(&[1.0, 2.0])?), None]);
/// let second = Gradients::new(vec![Some(tensor(&[3.0, 2.0])?), Some(tensor(&[4.0])?)]);
/// let mean = first.add(&second)?.scale(0.5);
/// assert_eq!(mean.get(0)?.unwrap().to_vec1::<f32>()?, [2.0, 2.0]);
/// assert_eq!(mean.get(1)?.unwrap().to_vec1::<f32>()?, [2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gradients {
    tensors: Vec<Option<Tensor>>,
    factor: f64,
    /// Sum of squares of each tensor without the factor, once it was needed.
    squares: OnceLock<Vec<f64>>,
}

impl Gradients {
    /// Creates gradients that are already in the parameters' order.
    ///
    /// ```
    /// use pad_train::{Gradients, candle_core::{Device, Tensor}};
    /// let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
    /// assert_eq!(Gradients::new(vec![Some(tensor(&[1.0])?), None]).len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(tensors: Vec<Option<Tensor>>) -> Self {
        Self { tensors, factor: 1.0, squares: OnceLock::new() }
    }

    /// Picks the gradients of `parameters` from the result of `backward`. Parameters that are
    /// frozen in `epoch` get none, so that they neither move nor count in the norm.
    ///
    /// ```
    /// use pad_train::{Gradients, Parameter, candle_core::{Device, Var}};
    /// let [x, y] = [Var::new(&[3_f32], &Device::Cpu)?, Var::new(&[5_f32], &Device::Cpu)?];
    /// let store = (x.as_tensor() * y.as_tensor())?.sum_all()?.backward()?;
    /// let parameters = [Parameter::new("x", x), Parameter::new("y", y).with_frozen_through(Some(0))];
    /// let gradients = Gradients::from_store(&parameters, &store, 0);
    /// assert_eq!(gradients.get(0)?.unwrap().to_vec1::<f32>()?, [5.0]);
    /// assert!(gradients.get(1)?.is_none()); // frozen in epoch 0
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_store(parameters: &[Parameter], store: &GradStore, epoch: usize) -> Self {
        let pick = |parameter: &Parameter| match parameter.trains_in(epoch) {
            true => store.get(parameter.var.as_tensor()).cloned(),
            false => None,
        };
        Self::new(parameters.iter().map(pick).collect())
    }

    /// Returns the number of parameters, with and without gradient.
    ///
    /// ```
    /// assert_eq!(pad_train::Gradients::new(vec![None, None]).len(), 2);
    /// ```
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Returns whether there is no parameter.
    ///
    /// ```
    /// assert!(pad_train::Gradients::new(vec![]).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Returns the gradient of parameter `index`, with the factor applied; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Candle`] if candle cannot scale it.
    ///
    /// ```
    /// use pad_train::{Gradients, candle_core::{Device, Tensor}};
    /// let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
    /// let gradients = Gradients::new(vec![Some(tensor(&[1.0, 2.0])?)]).scale(10.0);
    /// assert_eq!(gradients.get(0)?.unwrap().to_vec1::<f32>()?, [10.0, 20.0]);
    /// assert!(gradients.get(7)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(&self, index: usize) -> Result<Option<Tensor>> {
        let Some(tensor) = self.tensors.get(index).and_then(Option::as_ref) else {
            return Ok(None);
        };
        if self.factor == 1.0 {
            return Ok(Some(tensor.clone()));
        }
        (tensor * self.factor)
            .map(Some)
            .map_err(Error::candle("scaling gradient", &index.to_string()))
    }

    /// Adds the gradients of another micro-batch. A gradient that only one of them has is
    /// kept.
    ///
    /// # Errors
    /// [`Error::GradientCount`] or [`Error::Candle`].
    ///
    /// ```
    /// use pad_train::{Gradients, candle_core::{Device, Tensor}};
    /// let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
    /// let one = Gradients::new(vec![Some(tensor(&[1.0])?)]);
    /// assert_eq!(one.add(&one)?.get(0)?.unwrap().to_vec1::<f32>()?, [2.0]);
    /// assert!(one.add(&Gradients::new(vec![])).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add(&self, other: &Self) -> Result<Self> {
        if self.len() != other.len() {
            return Err(Error::GradientCount { expected: self.len(), found: other.len() });
        }
        if self.factor == other.factor {
            let sums = self.tensors.iter().zip(&other.tensors).enumerate();
            let sums = sums.map(|(index, (a, b))| sum(index, a.clone(), b.clone()));
            let tensors = sums.collect::<Result<_>>()?;
            return Ok(Self { factor: self.factor, ..Self::new(tensors) });
        }
        let sums = (0..self.len()).map(|index| sum(index, self.get(index)?, other.get(index)?));
        Ok(Self::new(sums.collect::<Result<_>>()?))
    }

    /// Multiplies all gradients by `factor`.
    ///
    /// ```
    /// use pad_train::{Gradients, candle_core::{Device, Tensor}};
    /// let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
    /// let half = Gradients::new(vec![Some(tensor(&[1.0])?)]).scale(0.5);
    /// assert_eq!(half.get(0)?.unwrap().to_vec1::<f32>()?, [0.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn scale(mut self, factor: f64) -> Self {
        self.factor *= factor;
        self
    }

    /// Returns the Euclidean norm over all gradients, summed in f64 in a fixed order: the same bits
    /// for any number of threads.
    ///
    /// # Errors
    /// [`Error::Candle`].
    ///
    /// ```
    /// use pad_train::{Gradients, candle_core::{Device, Tensor}};
    /// let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
    /// let gradients = Gradients::new(vec![Some(tensor(&[3.0])?), None, Some(tensor(&[4.0])?)]);
    /// assert_eq!(gradients.global_norm()?, 5.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn global_norm(&self) -> Result<f64> {
        Ok(self.factor.abs() * self.squares()?.iter().sum::<f64>().sqrt())
    }

    /// Scales all gradients so that their norm is at most `max_norm`, and returns the norm from
    /// before, as `torch.nn.utils.clip_grad_norm_`. Gradients that are not finite are left as they
    /// are.
    ///
    /// # Errors
    /// [`Error::Settings`] unless `max_norm` is finite and greater than 0; [`Error::Candle`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use pad_train::Gradients;
    /// let mut gradients = Gradients::new(vec![Some(Tensor::new(&[3_f32, 4.0], &Device::Cpu)?), None]);
    /// assert_eq!(gradients.clip(1.0)?, 5.0);
    /// assert!((gradients.global_norm()? - 1.0).abs() < 1e-6);
    /// assert!(gradients.clip(f64::NAN).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clip(&mut self, max_norm: f64) -> Result<f64> {
        if !(max_norm > 0.0 && max_norm.is_finite()) {
            let fault = format!("`max_norm` is {max_norm}, expected a finite number > 0");
            return Err(Error::Settings { faults: vec![fault] });
        }
        let norm = self.global_norm()?;
        let factor = max_norm / (norm + 1e-6);
        if norm.is_finite() && factor < 1.0 {
            self.factor *= factor;
        }
        Ok(norm)
    }

    /// What the tensors of [`Self::raw`] are to be multiplied by.
    pub(crate) fn factor(&self) -> f64 {
        self.factor
    }

    /// The gradients without the factor.
    pub(crate) fn raw(&self) -> &[Option<Tensor>] {
        &self.tensors
    }

    /// Sum of squares of each gradient, without the factor; 0 for a missing one.
    pub(crate) fn squares(&self) -> Result<&[f64]> {
        if let Some(squares) = self.squares.get() {
            return Ok(squares);
        }
        let squares = sums_of_squares(&self.tensors)?;
        Ok(self.squares.get_or_init(|| squares))
    }
}

fn sum(index: usize, a: Option<Tensor>, b: Option<Tensor>) -> Result<Option<Tensor>> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let sum = a.add(&b).map_err(Error::candle("adding gradient", &index.to_string()))?;
            Ok(Some(sum))
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// Tensors of an accelerator are reduced there and fetched together: one wait instead of one for
/// each.
fn sums_of_squares(tensors: &[Option<Tensor>]) -> Result<Vec<f64>> {
    let mut squares = vec![0.0; tensors.len()];
    let mut remote: Vec<(usize, Tensor)> = Vec::new();
    let wrap = |cause| Error::Candle { doing: "norm of the gradients".into(), cause };
    let present: Vec<(usize, &Tensor)> =
        tensors.iter().enumerate().filter_map(|(at, t)| Some((at, t.as_ref()?))).collect();
    let all: Vec<&Tensor> = present.iter().map(|(_, tensor)| *tensor).collect();
    if let Some(sums) = pad_ops::sums_of_squares(&all).map_err(|error| wrap(error.into()))? {
        for ((index, _), sum) in present.into_iter().zip(sums) {
            squares[index] = sum;
        }
        return Ok(squares);
    }
    for (index, tensor) in tensors.iter().enumerate() {
        let Some(tensor) = tensor else { continue };
        match tensor.device() {
            Device::Cpu => squares[index] = host_sum(tensor).map_err(wrap)?,
            device => {
                let wide = if device.is_metal() { DType::F32 } else { DType::F64 }; // Metal has no f64
                let sum = tensor.to_dtype(wide).and_then(|t| t.sqr()?.sum_all());
                remote.push((index, sum.map_err(wrap)?));
            }
        }
    }
    if !remote.is_empty() {
        let sums: Vec<&Tensor> = remote.iter().map(|(_, sum)| sum).collect();
        let fetched = Tensor::stack(&sums, 0).and_then(|t| t.to_device(&Device::Cpu));
        let fetched = fetched.and_then(|t| t.to_dtype(DType::F64)?.to_vec1::<f64>());
        for ((index, _), sum) in remote.iter().zip(fetched.map_err(wrap)?) {
            squares[*index] = sum;
        }
    }
    Ok(squares)
}

fn host_sum(tensor: &Tensor) -> candle_core::Result<f64> {
    let tensor = match tensor.dtype() {
        DType::F32 | DType::F64 => tensor.contiguous()?,
        _ => tensor.to_dtype(DType::F32)?.contiguous()?,
    };
    match tensor.dtype() {
        DType::F64 => with_slice(&tensor, sum_of_squares::<f64>),
        _ => with_slice(&tensor, sum_of_squares::<f32>),
    }
}

/// Calls `use_slice` with the numbers of a contiguous tensor on the CPU.
fn with_slice<T: WithDType, R>(
    tensor: &Tensor,
    use_slice: impl FnOnce(&[T]) -> R,
) -> candle_core::Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("expected a tensor on the CPU, found {:?}", tensor.device().location())
    };
    let slice = <T as WithDType>::cpu_storage_as_slice(storage as &CpuStorage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(use_slice(&slice[start..end])),
        None => candle_core::bail!("expected a contiguous tensor, found {layout:?}"),
    }
}

fn sum_of_squares<T: Copy + Into<f64> + Sync>(values: &[T]) -> f64 {
    if values.len() <= CHUNK {
        return sum_of_chunk(values);
    }
    let partial: Vec<f64> = values.par_chunks(CHUNK).map(sum_of_chunk).collect();
    partial.iter().sum()
}

/// Eight sums side by side, which the compiler turns into vector instructions without changing the
/// order.
fn sum_of_chunk<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            let value: f64 = value.into();
            *lane += value * value;
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        let value: f64 = value.into();
        *lane += value * value;
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    fn tensor(values: &[f32]) -> Option<Tensor> {
        Some(Tensor::new(values, &Device::Cpu).unwrap())
    }

    fn values(gradients: &Gradients, index: usize) -> Option<Vec<f32>> {
        gradients.get(index).unwrap().map(|t| t.to_vec1().unwrap())
    }

    #[test]
    fn picks_sums_and_scales() {
        let var = |x: f32| Var::new(&[x, 2.0 * x], &Device::Cpu).unwrap();
        let mut parameters: Vec<_> =
            ["a", "b", "frozen"].map(|name| Parameter::new(name, var(1.0))).into();
        parameters[2].frozen_through = Some(1);
        let loss = (parameters[0].var.sqr().unwrap() + parameters[2].var.sqr().unwrap()).unwrap();
        let store = loss.sum_all().unwrap().backward().unwrap();

        let early = Gradients::from_store(&parameters, &store, 1);
        assert_eq!(values(&early, 0), Some(vec![2.0, 4.0]));
        assert_eq!(values(&early, 1), None, "not in the loss");
        assert_eq!(values(&early, 2), None, "still frozen");
        let late = Gradients::from_store(&parameters, &store, 2);
        assert_eq!(values(&late, 2), Some(vec![2.0, 4.0]));

        let sum = early.add(&late).unwrap().scale(0.5);
        assert_eq!(values(&sum, 0), Some(vec![2.0, 4.0]));
        assert_eq!(values(&sum, 2), Some(vec![1.0, 2.0]), "only one of them has it");
        let unlike = sum.add(&early).unwrap();
        assert_eq!(values(&unlike, 0), Some(vec![4.0, 8.0]), "factors differ");
        let wrong = early.add(&Gradients::new(vec![])).unwrap_err();
        assert_eq!(wrong.to_string(), "expected gradients of 3 parameters, found 0");
    }

    #[test]
    fn norm_and_clip() {
        let mut gradients = Gradients::new(vec![tensor(&[3.0]), None, tensor(&[0.0, 4.0])]);
        assert_eq!(gradients.global_norm().unwrap(), 5.0);
        assert_eq!(gradients.clip(10.0).unwrap(), 5.0);
        assert_eq!(gradients.global_norm().unwrap(), 5.0, "short gradients stay");
        assert_eq!(gradients.clip(1.0).unwrap(), 5.0);
        assert!((gradients.global_norm().unwrap() - 1.0).abs() < 1e-6);
        assert!((values(&gradients, 2).unwrap()[1] - 0.8).abs() < 1e-6);

        let mut broken = Gradients::new(vec![tensor(&[f32::NAN]), tensor(&[1.0])]);
        assert!(broken.clip(0.5).unwrap().is_nan());
        assert_eq!(values(&broken, 1), Some(vec![1.0]), "left alone");
    }

    #[test]
    fn norm_is_the_same_for_any_number_of_threads_and_layout() {
        let n = 3 * CHUNK + 13;
        let data: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 1e3).collect();
        let exact = data.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        let tensor = Tensor::new(data.as_slice(), &Device::Cpu).unwrap();
        let norm = |threads: usize, tensor: &Tensor| {
            let gradients = Gradients::new(vec![Some(tensor.clone())]);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| gradients.global_norm().unwrap())
        };
        let one = norm(1, &tensor);
        assert!((one / exact - 1.0).abs() < 1e-12);
        for threads in [2, 3, 5] {
            assert_eq!(norm(threads, &tensor).to_bits(), one.to_bits());
        }
        let transposed = tensor.narrow(0, 0, n - 1).unwrap().reshape(((), 2)).unwrap().t().unwrap();
        let wide = transposed.to_dtype(DType::F64).unwrap();
        assert!((norm(1, &transposed) / norm(1, &wide) - 1.0).abs() < 1e-12);
        let huge = Gradients::new(vec![super::tests::tensor(&[3e38, 3e38])]);
        assert!(huge.global_norm().unwrap().is_finite(), "f32 squares would overflow");
    }
}
