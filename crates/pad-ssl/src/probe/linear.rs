//! A linear layer on frozen features: softmax regression by SGD with momentum and a cosine schedule.

use candle_core::{D, DType, Device, Tensor};
use pad_ops::rng::{Key, Purpose};

use super::{Features, refuse};
use crate::Result;

/// A linear probe's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearProbe {
    /// Passes over the training features. Default 100.
    pub epochs: usize,
    /// Images per update. Default 256.
    pub batch_size: usize,
    /// Learning rate at the start; falls to 0 along a cosine. Default 0.1.
    pub lr: f64,
    /// Momentum. Default 0.9.
    pub momentum: f64,
    /// Weight decay of the weights. Default 0.
    pub weight_decay: f64,
    /// Whether features are brought to mean 0 and variance 1 by the training set's statistics, as the batch norm
    /// without weights does in MAE's evaluation. Default: yes.
    pub normalize: bool,
    /// Seed of the order of images. Default 0.
    pub seed: u64,
}

impl Default for LinearProbe {
    fn default() -> Self {
        Self {
            epochs: 100,
            batch_size: 256,
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.0,
            normalize: true,
            seed: 0,
        }
    }
}

impl LinearProbe {
    fn validate(&self) -> Result<()> {
        let finite = |value: f64| value.is_finite() && value >= 0.0;
        if self.epochs > 0
            && self.batch_size > 0
            && finite(self.lr)
            && self.lr > 0.0
            && finite(self.weight_decay)
            && (0.0..1.0).contains(&self.momentum)
        {
            return Ok(());
        }
        Err(refuse(format!(
            "linear probe: {self:?}, expected epochs, batch_size and lr above 0, 0 <= momentum < 1, weight_decay of 0 or \
             more"
        )))
    }

    /// Learns from `train` and gives the class of each image of `asked`.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) for settings out of range or features of another width.
    pub fn classify(&self, train: &Features, asked: &Features) -> Result<Vec<usize>> {
        self.validate()?;
        train.expect_like(asked)?;
        let (known, asked) = if self.normalize {
            let statistics = Statistics::of(train.values())?;
            (statistics.apply(train.values())?, statistics.apply(asked.values())?)
        } else {
            (train.values().clone(), asked.values().clone())
        };
        let (weight, bias) = self.fit(&known, train.labels(), train.classes())?;
        let logits = asked.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let answers: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
        Ok(answers.into_iter().map(|class| class as usize).collect())
    }

    /// Weights (C, D) and bias (C), from zero: the problem is convex, so the start decides nothing.
    fn fit(&self, x: &Tensor, labels: &[usize], classes: usize) -> Result<(Tensor, Tensor)> {
        let (images, dim) = x.dims2()?;
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let (mut weight, mut bias) = (zeros(&[classes, dim])?, zeros(&[classes])?);
        let (mut weight_speed, mut bias_speed) = (zeros(&[classes, dim])?, zeros(&[classes])?);
        let per_epoch = images.div_ceil(self.batch_size);
        let updates = (self.epochs * per_epoch) as f64;
        let mut update = 0_usize;
        for epoch in 0..self.epochs {
            let mut order: Vec<u32> = (0..images as u32).collect();
            let key = Key::new(self.seed).epoch(epoch as u64).purpose(Purpose::Shuffle);
            key.stream().shuffle(&mut order);
            for batch in order.chunks(self.batch_size) {
                let rows = x.index_select(&Tensor::new(batch, &Device::Cpu)?, 0)?;
                let mut wanted = vec![0.0_f32; batch.len() * classes];
                for (row, &image) in batch.iter().enumerate() {
                    wanted[row * classes + labels[image as usize]] = 1.0;
                }
                let wanted = Tensor::from_vec(wanted, (batch.len(), classes), &Device::Cpu)?;
                let logits = rows.matmul(&weight.t()?)?.broadcast_add(&bias)?;
                // The gradient of the cross entropy to the logits.
                let error = ((pad_ops::softmax(&logits)? - wanted)? / batch.len() as f64)?;
                let weight_grad =
                    (error.t()?.contiguous()?.matmul(&rows)? + (&weight * self.weight_decay)?)?;
                weight_speed = ((weight_speed * self.momentum)? + weight_grad)?;
                bias_speed = ((bias_speed * self.momentum)? + error.sum(0)?)?;
                let turn = std::f64::consts::PI * update as f64 / updates;
                let lr = self.lr * 0.5 * (1.0 + turn.cos());
                weight = (weight - (&weight_speed * lr)?)?;
                bias = (bias - (&bias_speed * lr)?)?;
                update += 1;
            }
        }
        Ok((weight, bias))
    }
}

/// Mean and standard deviation of each value over a set.
struct Statistics {
    mean: Tensor,
    std: Tensor,
}

impl Statistics {
    fn of(x: &Tensor) -> Result<Self> {
        let mean = x.mean_keepdim(0)?;
        let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
        Ok(Self { mean, std: (variance + 1e-6)?.sqrt()? })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_sub(&self.mean)?.broadcast_div(&self.std)?)
    }
}
