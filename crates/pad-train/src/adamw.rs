//! AdamW (Loshchilov and Hutter, 2017) in PyTorch's order of operations, with a state that can be saved.

use std::{collections::BTreeMap, sync::Mutex};

use candle_core::{
    CpuStorage, DType, Device, InplaceOp2, Layout, Result as CandleResult, Shape, Tensor, bail,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Gradients, Parameter, Result};

/// AdamW's constants; the default is MAE's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment. Default 0.9.
    pub beta1: f64,
    /// Decay of the second moment. Default 0.95.
    pub beta2: f64,
    /// Added to the root of the second moment. Default 1e-8.
    pub eps: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8 }
    }
}

/// Running means of the gradient and of its square, where they are updated.
#[derive(Debug)]
enum Moments {
    /// `f32` on the CPU: plain vectors, so that one pass can write parameter and moments.
    Host { first: Vec<f32>, second: Vec<f32> },
    /// Any other device or dtype.
    Device { first: Tensor, second: Tensor },
}

impl Moments {
    /// The moments that belong to `value`, from tensors of its shape.
    fn new(value: &Tensor, first: &Tensor, second: &Tensor) -> CandleResult<Self> {
        if value.device().is_cpu() && value.dtype() == DType::F32 {
            let host = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
            return Ok(Moments::Host { first: host(first)?, second: host(second)? });
        }
        let like = |t: &Tensor| t.to_dtype(value.dtype())?.to_device(value.device());
        Ok(Moments::Device { first: like(first)?, second: like(second)? })
    }

    fn tensors(&self, shape: &Shape) -> CandleResult<(Tensor, Tensor)> {
        match self {
            Moments::Host { first, second } => {
                let tensor = |values: &[f32]| Tensor::from_slice(values, shape, &Device::Cpu);
                Ok((tensor(first)?, tensor(second)?))
            }
            Moments::Device { first, second } => Ok((first.clone(), second.clone())),
        }
    }
}

/// One parameter's moments and the number of its updates.
#[derive(Debug)]
struct State {
    moments: Moments,
    updates: u32,
}

/// AdamW over a list of parameters. Per update: `p *= 1 - lr * decay`, `m += (1 - b1)(g - m)`,
/// `v = b2 v + (1 - b2) g^2`, `p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
    states: Vec<State>,
}

impl AdamW {
    /// An optimiser with zero moments.
    ///
    /// # Errors
    /// Whatever candle says.
    pub fn new(parameters: Vec<Parameter>, config: AdamWConfig) -> Result<Self> {
        let zero = |parameter: &Parameter| -> Result<State> {
            let value = parameter.var.as_tensor();
            let zeros = value.zeros_like()?;
            Ok(State { moments: Moments::new(value, &zeros, &zeros)?, updates: 0 })
        };
        let states = parameters.iter().map(zero).collect::<Result<_>>()?;
        Ok(Self { config, parameters, states })
    }

    /// What it updates.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// One update. Parameters without a gradient, or frozen in `epoch`, are left alone.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless there is one entry for each parameter; whatever candle says.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, epoch: usize) -> Result<()> {
        gradients.expect_len(self.parameters.len())?;
        let entries = self.parameters.iter().zip(&mut self.states).zip(gradients.as_slice());
        for ((parameter, state), gradient) in entries {
            let Some(gradient) = gradient else { continue };
            if !parameter.moves_in(epoch) {
                continue;
            }
            state.updates += 1;
            let rates = Rates::new(&self.config, parameter, lr, state.updates);
            match &mut state.moments {
                Moments::Host { first, second } => {
                    let update = Update { rates, moments: Mutex::new((first, second)) };
                    parameter.var.as_tensor().inplace_op2(&gradient.contiguous()?, &update)?;
                }
                Moments::Device { first, second } => {
                    rates.composed(parameter, gradient, first, second)?;
                }
            }
        }
        Ok(())
    }

    /// Moments and counts by name: `first.NAME`, `second.NAME`, `updates.NAME` (1, `u32`).
    ///
    /// # Errors
    /// Whatever candle says.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (Parameter { name, var, .. }, state) in self.parameters.iter().zip(&self.states) {
            let (first, second) = state.moments.tensors(var.shape())?;
            tensors.insert(format!("first.{name}"), first);
            tensors.insert(format!("second.{name}"), second);
            let updates = Tensor::new(&[state.updates], &Device::Cpu)?;
            tensors.insert(format!("updates.{name}"), updates);
        }
        Ok(tensors)
    }

    /// Takes back what [`AdamW::state`] gave; nothing is changed on an error.
    ///
    /// # Errors
    /// Every difference, one entry each: missing, unexpected, wrong shape.
    pub fn load_state(
        &mut self,
        tensors: &BTreeMap<String, Tensor>,
    ) -> std::result::Result<(), Vec<String>> {
        let mut faults = Vec::new();
        let mut states = Vec::new();
        for Parameter { name, var, .. } in &self.parameters {
            let mut take = |part: &str, shape: &[usize]| {
                let name = format!("{part}.{name}");
                match tensors.get(&name) {
                    Some(tensor) if tensor.dims() == shape => return Some(tensor),
                    Some(tensor) => faults
                        .push(format!("{name} has shape {:?}, expected {shape:?}", tensor.dims())),
                    None => faults.push(format!("missing {name}")),
                }
                None
            };
            let (first, second) = (take("first", var.dims()), take("second", var.dims()));
            let updates = take("updates", &[1]);
            let (Some(first), Some(second), Some(updates)) = (first, second, updates) else {
                continue;
            };
            let state = || -> CandleResult<State> {
                let moments = Moments::new(var.as_tensor(), first, second)?;
                let updates = updates.to_dtype(DType::U32)?.to_vec1::<u32>()?;
                Ok(State { moments, updates: updates.first().copied().unwrap_or(0) })
            };
            match state() {
                Ok(state) => states.push(state),
                Err(error) => faults.push(format!("{name}: {error}")),
            }
        }
        let known = |name: &str| {
            let (part, name) = name.split_once('.').unwrap_or_default();
            matches!(part, "first" | "second" | "updates")
                && self.parameters.iter().any(|parameter| parameter.name == name)
        };
        faults.extend(
            tensors.keys().filter(|name| !known(name)).map(|name| format!("unexpected {name}")),
        );
        if faults.is_empty() {
            self.states = states;
            return Ok(());
        }
        Err(faults)
    }
}

/// The numbers of one parameter's update.
#[derive(Clone, Copy, Debug)]
struct Rates {
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// `1 - lr * decay`.
    keep: f64,
    /// `lr / (1 - b1^t)`.
    step_size: f64,
    /// `sqrt(1 - b2^t)`.
    correction: f64,
}

/// Values per task: fixed, so that results never depend on the number of threads (elementwise they could not).
const CHUNK: usize = 1 << 14;

impl Rates {
    fn new(config: &AdamWConfig, parameter: &Parameter, lr: f64, updates: u32) -> Self {
        let lr = lr * parameter.lr_factor;
        let power = |beta: f64| 1.0 - beta.powf(f64::from(updates));
        Self {
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            keep: 1.0 - lr * parameter.weight_decay,
            step_size: lr / power(config.beta1),
            correction: power(config.beta2).sqrt(),
        }
    }

    #[inline]
    fn update(self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (beta2, eps, keep) = (self.beta2 as f32, self.eps as f32, self.keep as f32);
        let (one_minus_beta1, one_minus_beta2) =
            ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let (step_size, correction) = (self.step_size as f32, self.correction as f32);
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            m[i] += one_minus_beta1 * (g[i] - m[i]);
            v[i] = beta2 * v[i] + one_minus_beta2 * g[i] * g[i];
            p[i] = p[i] * keep - step_size * m[i] / (v[i].sqrt() / correction + eps);
        }
    }

    /// The same by candle operations: any device and floating dtype.
    fn composed(
        self,
        parameter: &Parameter,
        gradient: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
    ) -> Result<()> {
        let gradient = gradient.to_dtype(first.dtype())?;
        let change = ((&gradient - &*first)? * (1.0 - self.beta1))?;
        *first = (&*first + change)?;
        let square = (gradient.sqr()? * (1.0 - self.beta2))?;
        *second = ((&*second * self.beta2)? + square)?;
        let root = ((second.sqrt()? / self.correction)? + self.eps)?;
        let step = ((&*first / root)? * self.step_size)?;
        parameter.var.set(&((parameter.var.as_tensor() * self.keep)? - step)?)?;
        Ok(())
    }
}

/// One multi-threaded pass over parameter, gradient and both moments, in place.
struct Update<'a> {
    rates: Rates,
    moments: Mutex<(&'a mut Vec<f32>, &'a mut Vec<f32>)>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        value: &mut CpuStorage,
        value_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> CandleResult<()> {
        let (CpuStorage::F32(value), CpuStorage::F32(gradient)) = (value, gradient) else {
            bail!("adamw: the gradient of an f32 parameter is not f32");
        };
        let (Some((from, to)), Some((g_from, g_to))) =
            (value_layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            bail!("adamw: parameter and gradient must be contiguous");
        };
        let Ok(mut moments) = self.moments.lock() else { bail!("adamw: a thread panicked") };
        let (first, second) = &mut *moments;
        let values =
            value[from..to].par_chunks_mut(CHUNK).zip(gradient[g_from..g_to].par_chunks(CHUNK));
        let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        values.zip(moments).for_each(|((p, g), (m, v))| self.rates.update(p, g, m, v));
        Ok(())
    }
}
