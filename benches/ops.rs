//! Every operator beside its reference, forward and backward, at the sizes of a ViT-B and of MAE's decoder.
//!
//!     cargo bench --bench ops
//!     cargo bench --bench ops -- attention

use std::{error::Error, hint::black_box, time::Instant};

use candle_core::{DType, Result, Tensor, Var};
use pad::ops::{
    Fusion, attention_packed, fuse_patchwise, gelu, layer_norm, linear, masked_mse, reference,
    softmax,
};
use pad_testkit::{numbers, processor};

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

/// Timed runs of each path, in turn, so that whatever else the machine does falls on both.
const TIMES: usize = 11;

/// Median times of both, ms.
fn beside(paths: [Op; 2], operands: &[Tensor]) -> Result<[f64; 2]> {
    let mut times = [Vec::with_capacity(TIMES), Vec::with_capacity(TIMES)];
    for round in 0..=TIMES {
        for (op, times) in paths.iter().zip(&mut times) {
            let start = Instant::now();
            black_box(forward_and_backward(*op, operands)?);
            // The first round warms up.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[TIMES / 2]
    }))
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("{}, level {}", processor(), pad::ops::cpu_level());
    println!(
        "{:<40} {:>10} {:>10} {:>6}",
        "forward and backward", "ours, ms", "candle, ms", "ratio"
    );
    for (name, op, reference, shapes) in TABLE {
        if !chosen.is_empty() && !chosen.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let mut operands: Vec<Tensor> =
            shapes.iter().map(|shape| numbers(shape, DType::F32, 1)).collect();
        operands[0] = Var::from_tensor(&operands[0])?.as_tensor().clone();
        let [ours, candle] = beside([*op, *reference], &operands)?;
        println!("{name:<40} {ours:>10.3} {candle:>10.3} {:>6.1}", candle / ours);
    }
    Ok(())
}
