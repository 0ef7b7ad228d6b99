//! First values of parameters.

use candle_core::{Device, Result, Shape, Tensor};
use candle_nn::{Init, init::NormalOrUniform};
use pad_ops::rng::{Key, Purpose};

/// Draws a first value from the run's key and the parameter's name.
pub(super) fn initial(shape: &Shape, name: &str, init: Init, key: Key) -> Result<Tensor> {
    let mut stream = key.purpose(Purpose::Init).named(name).stream();
    let count = shape.elem_count();
    let mut uniform = |low: f64, high: f64| -> Vec<f32> {
        (0..count).map(|_| stream.range_f64(low, high) as f32).collect()
    };
    let values = match init {
        Init::Const(value) => vec![value as f32; count],
        Init::Uniform { lo, up } => uniform(lo, up),
        Init::Randn { mean, stdev } => {
            (0..count).map(|_| (mean + stdev * stream.normal()) as f32).collect()
        }
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Uniform => uniform(-3_f64.sqrt() * std, 3_f64.sqrt() * std),
                NormalOrUniform::Normal => {
                    (0..count).map(|_| (std * stream.normal()) as f32).collect()
                }
            }
        }
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}
