//! Every operator beside its reference, forward and backward, at the sizes of a ViT-B and of MAE's decoder.
//!
//!     cargo bench --bench ops
//!     cargo bench --bench ops -- attention

use std::hint::black_box;

use candle_core::{DType, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use pad::ops::{
    Fusion, attention_packed, fuse_patchwise, gelu, layer_norm, linear, masked_mse, reference,
    softmax,
};
use pad_testkit::numbers;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Op = fn(&[Tensor]) -> Result<Tensor>;

/// Name, operator, reference, shapes of the operands; the first is trained, the others are frozen.
const TABLE: &[(&str, Op, Op, &[&[usize]])] = &[
    (
        "layer_norm 800x768",
        |t| Ok(layer_norm(&t[0], &t[1], &t[2], 1e-6)?),
        |t| Ok(reference::layer_norm(&t[0], &t[1], &t[2], 1e-6)?),
        &[&[16, 50, 768], &[768], &[768]],
    ),
    (
        "linear 800x768x3072, frozen weight",
        |t| Ok(linear(&t[0], &t[1], Some(&t[2]))?),
        |t| Ok(reference::linear(&t[0], &t[1], Some(&t[2]))?),
        &[&[16, 50, 768], &[3072, 768], &[3072]],
    ),
    ("gelu 800x3072", |t| Ok(gelu(&t[0])?), |t| Ok(reference::gelu(&t[0])?), &[&[16, 50, 3072]]),
    (
        "softmax 4x12x197x197",
        |t| Ok(softmax(&t[0])?),
        |t| Ok(reference::softmax(&t[0])?),
        &[&[4, 12, 197, 197]],
    ),
    (
        "attention 16x197x512, 16 heads",
        |t| Ok(attention_packed(&t[0], 16)?),
        |t| Ok(reference::attention_packed(&t[0], 16)?),
        &[&[16, 197, 1536]],
    ),
    (
        "fuse_patchwise 800x768",
        |t| Ok(fuse_patchwise(&t[0], &t[1], &t[2], Fusion::Concat)?),
        |t| Ok(reference::fuse_patchwise(&t[0], &t[1], &t[2], Fusion::Concat)?),
        &[&[16, 50, 768], &[16, 50, 768], &[1, 1536]],
    ),
    (
        "masked_mse 16x196x768",
        |t| Ok(masked_mse(&t[0], &t[1], &t[1].narrow(2, 0, 1)?.squeeze(2)?.ones_like()?)?),
        |t| {
            let mask = t[1].narrow(2, 0, 1)?.squeeze(2)?.ones_like()?;
            Ok(reference::masked_mse(&t[0], &t[1], &mask)?)
        },
        &[&[16, 196, 768], &[16, 196, 768]],
    ),
];

fn forward_and_backward(op: Op, operands: &[Tensor]) -> Result<Tensor> {
    op(operands)?
        .sum_all()?
        .backward()?
        .get(&operands[0])
        .cloned()
        .ok_or_else(|| candle_core::Error::Msg("the first operand got no gradient".into()))
}

fn ops(criterion: &mut Criterion) {
    for (name, op, reference, shapes) in TABLE {
        let mut operands: Vec<Tensor> =
            shapes.iter().map(|shape| numbers(shape, DType::F32, 1)).collect();
        let trained = match Var::from_tensor(&operands[0]) {
            Ok(var) => var,
            Err(error) => panic!("{name}: {error}"),
        };
        operands[0] = trained.as_tensor().clone();
        let mut group = criterion.benchmark_group(*name);
        group.sample_size(10);
        for (path, op) in [("ours", *op), ("candle", *reference)] {
            group.bench_function(path, |bencher| {
                bencher.iter(|| black_box(forward_and_backward(op, &operands)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, ops);
criterion_main!(benches);
