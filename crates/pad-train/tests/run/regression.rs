//! A small regression with everything a real run has: dropout drawn from the mode, a gate that
//! thaws late, decay on matrices only, parts of the loss.

use candle_core::{DType, Device, Tensor, Var};
use pad_ops::{
    Mode,
    rng::{Key, Purpose},
};
use pad_train::{AdamW, AdamWConfig, BatchIter, Batches, BoxError, Losses, Parameter, Task};

pub(crate) const INPUTS: usize = 6;
pub(crate) const OUTPUTS: usize = 3;

pub(crate) struct Regression {
    weight: Var,
    bias: Var,
    gate: Var,
    pub(crate) dropout: bool,
}

pub(crate) struct Pairs {
    pub(crate) inputs: Tensor,
    pub(crate) targets: Tensor,
}

fn random(key: Key, shape: &[usize]) -> Tensor {
    let mut stream = key.stream();
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| stream.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

impl Regression {
    pub(crate) fn new() -> Self {
        let var = |name: &str, shape: &[usize]| {
            Var::from_tensor(&random(Key::new(1).named(name), shape)).unwrap()
        };
        Self {
            weight: var("weight", &[INPUTS, OUTPUTS]),
            bias: var("bias", &[OUTPUTS]),
            gate: var("gate", &[1, OUTPUTS]),
            dropout: true,
        }
    }

    pub(crate) fn optimizer(&self) -> AdamW {
        let decaying =
            |name: &str, var: &Var| Parameter::new(name, var.clone()).with_weight_decay(0.05);
        let mut parameters = vec![
            decaying("weight", &self.weight),
            decaying("bias", &self.bias),
            decaying("gate", &self.gate),
        ];
        parameters[2].frozen_through = Some(0);
        AdamW::new(parameters, AdamWConfig::default()).unwrap()
    }
}

impl Task for Regression {
    type Batch = Pairs;

    fn losses(&self, batch: &Pairs, mode: Mode) -> Result<Losses, BoxError> {
        let inputs = match mode {
            Mode::Train(key) if self.dropout => {
                let mut keep = vec![0.0; batch.inputs.elem_count()];
                key.purpose(Purpose::Dropout).stream().fill_uniform(&mut keep);
                let keep: Vec<f32> = keep.iter().map(|&u| f32::from(u > 0.25) / 0.75).collect();
                (&batch.inputs * Tensor::from_vec(keep, batch.inputs.shape(), &Device::Cpu)?)?
            }
            _ => batch.inputs.clone(),
        };
        let gate = (self.gate.as_tensor() + 1.0)?;
        let linear = inputs.matmul(&self.weight)?;
        let outputs = linear.broadcast_mul(&gate)?.broadcast_add(&self.bias)?;
        let error = (outputs - &batch.targets)?;
        let (square, absolute) = (error.sqr()?.mean_all()?, error.abs()?.mean_all()?);
        let total = (&square + (&absolute * 0.1)?)?;
        Ok(Losses::new(total).with_part("square", square).with_part("absolute", absolute))
    }

    fn images_in(&self, batch: &Pairs) -> usize {
        batch.inputs.dims()[0]
    }
}

/// Batches of `size` pairs, a function of epoch and sample alone. Sample `poison` of epoch 1 is
/// NaN.
pub(crate) struct Samples {
    pub(crate) per_epoch: usize,
    pub(crate) size: usize,
    pub(crate) poison: Option<usize>,
}

impl Samples {
    pub(crate) fn new(per_epoch: usize, size: usize) -> Self {
        Self { per_epoch, size, poison: None }
    }

    pub(crate) fn batch(&self, epoch: usize, batch: usize) -> Result<Pairs, BoxError> {
        let truth = random(Key::new(99), &[INPUTS, OUTPUTS]);
        let samples = batch * self.size..(batch + 1) * self.size;
        let rows = samples.map(|sample| {
            let row = random(Key::new(2).epoch(epoch as u64).sample(sample as u64), &[1, INPUTS]);
            match self.poison == Some(sample) && epoch == 1 {
                true => row * f64::NAN,
                false => Ok(row),
            }
        });
        let rows = rows.collect::<candle_core::Result<Vec<_>>>()?;
        let inputs = Tensor::cat(&rows, 0)?;
        let targets = inputs.matmul(&truth)?;
        assert_eq!(targets.dtype(), DType::F32);
        Ok(Pairs { inputs, targets })
    }
}

impl Batches for Samples {
    type Batch = Pairs;

    fn per_epoch(&self) -> usize {
        self.per_epoch
    }

    fn epoch(&mut self, epoch: usize, first: usize) -> Result<BatchIter<'_, Pairs>, BoxError> {
        Ok(Box::new((first..self.per_epoch).map(move |batch| self.batch(epoch, batch))))
    }
}

/// Bits of all variables and of the optimiser's state.
pub(crate) fn bits(optimizer: &AdamW) -> Vec<(String, Vec<u32>)> {
    let values = |tensor: &Tensor| -> Vec<u32> {
        let flat = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
        flat.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    let variables = optimizer.parameters().iter().map(|p| (p.name.clone(), values(&p.var)));
    let state = optimizer.state().unwrap();
    variables.chain(state.iter().map(|(name, t)| (name.clone(), values(t)))).collect()
}
