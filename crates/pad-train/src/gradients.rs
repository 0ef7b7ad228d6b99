//! One gradient per parameter, in the parameters' order.

use candle_core::{DType, Tensor, backprop::GradStore};

use crate::{Error, Parameter, Result};

/// Gradients of a list of parameters; absent where a loss does not depend on the parameter.
#[derive(Clone, Debug)]
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// Takes the parameters' gradients out of candle's store.
    pub fn from_store(parameters: &[Parameter], store: &GradStore) -> Self {
        let get = |parameter: &Parameter| store.get(parameter.var.as_tensor()).cloned();
        Self(parameters.iter().map(get).collect())
    }

    /// One entry a parameter, in order.
    pub fn as_slice(&self) -> &[Option<Tensor>] {
        &self.0
    }

    /// Adds the gradients of another micro-batch.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        for (sum, other) in self.0.iter_mut().zip(&other.0) {
            *sum = match (sum.take(), other) {
                (Some(sum), Some(other)) => Some((sum + other)?),
                (sum, other) => sum.or_else(|| other.clone()),
            };
        }
        Ok(())
    }

    /// Multiplies every gradient by `factor`.
    ///
    /// # Errors
    /// Whatever candle says.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.iter_mut().flatten() {
            *gradient = (&*gradient * factor)?;
        }
        Ok(())
    }

    /// Euclidean length of all gradients together, summed in f64 in the parameters' order.
    ///
    /// # Errors
    /// Whatever candle says.
    pub fn global_norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.iter().flatten() {
            let square = gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?;
            sum += f64::from(square.to_scalar::<f32>()?);
        }
        Ok(sum.sqrt())
    }

    /// Shrinks all gradients together so that their norm, `norm`, does not exceed `max_norm`, as PyTorch's
    /// `clip_grad_norm_` does.
    ///
    /// # Errors
    /// Whatever candle says.
    pub fn clip(&mut self, norm: f64, max_norm: f64) -> Result<()> {
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 { self.scale(factor) } else { Ok(()) }
    }

    /// The first parameter whose gradient holds a NaN or an infinity.
    ///
    /// # Errors
    /// Whatever candle says.
    pub fn first_not_finite(&self, parameters: &[Parameter]) -> Result<Option<String>> {
        for (gradient, parameter) in self.0.iter().zip(parameters) {
            if let Some(gradient) = gradient {
                let sum = gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
                if !sum.is_finite() {
                    return Ok(Some(parameter.name.clone()));
                }
            }
        }
        Ok(None)
    }

    pub(crate) fn expect_len(&self, parameters: usize) -> Result<()> {
        if self.0.len() == parameters {
            return Ok(());
        }
        Err(Error::Setting {
            name: "gradients",
            expected: format!("{parameters}, one for each parameter"),
            found: self.0.len().to_string(),
        })
    }
}
