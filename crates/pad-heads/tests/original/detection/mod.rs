//! Detection: backbone, pyramid, proposals, heads, the whole network, training.

mod backbone;
mod boxes;
mod heads;
mod network;
mod proposals;
mod training;

use candle_core::{Device, Tensor};

/// Boxes as a tensor.
fn table(boxes: &[[f32; 4]]) -> Tensor {
    Tensor::from_vec(boxes.concat(), (boxes.len(), 4), &Device::Cpu).unwrap()
}

fn scalar(tensor: &Tensor) -> f32 {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
}
