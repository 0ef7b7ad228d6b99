//! What a pre-training step enqueues on a GPU, counted from shapes: ViT-B with adapters, 256 images,
//! bf16, the frozen encoder on 50 tokens, the decoder on 197.
//!
//! Half blocks and optimiser are run dry and written down launch by launch. What is left to candle
//! is modelled operation by operation ([`outside`]), and so is what its backward adds at every node
//! of the graph: zeros, and a sum onto them (candle#1241). Between half blocks that is one value.
//!
//! `cargo test -p pad-ops --lib gpu::count -- --nocapture` prints the table of docs/gpu.md.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};

use super::{dry, emulated};
use crate::{
    AdamWStep, AdamWSteps, AdapterScale, AdapterWeights, AttentionWeights, Fusion, Keep,
    LinearWeights, MatmulPrecision, MlpWeights, Mode, NormWeights, attention_branch, mlp_branch,
    rng::Key, sums_of_squares,
};

/// The batch that is counted, and those that are run.
const BATCH: usize = 256;
const RUN: [usize; 2] = [2, 4];
const MIB: usize = 1 << 20;

/// What a part of a step costs.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    launches: usize,
    bytes: usize,
    /// Bytes kept from forward to backward.
    kept: usize,
    /// Small copies from the host: shapes and strides of candle's operations, tables.
    uploads: usize,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.launches += other.launches;
        self.bytes += other.bytes;
        self.kept += other.kept;
        self.uploads += other.uploads;
    }
}

impl std::ops::Mul<usize> for Cost {
    type Output = Self;

    fn mul(self, times: usize) -> Self {
        Self {
            launches: self.launches * times,
            bytes: self.bytes * times,
            kept: self.kept * times,
            uploads: self.uploads * times,
        }
    }
}

fn cost(launches: usize, bytes: usize, uploads: usize) -> Cost {
    Cost { launches, bytes, kept: 0, uploads }
}

fn of_log(log: &[dry::Recorded]) -> Cost {
    cost(log.len(), log.iter().map(|launch| launch.bytes).sum(), 0)
}

/// Zeros of a gradient's size, and the sum of it onto them.
fn accumulated(bytes: usize) -> Cost {
    cost(2, 4 * bytes, 0)
}

/// A variable, or a frozen tensor.
struct Maker {
    trained: bool,
}

impl Maker {
    fn tensor(&self, shape: &[usize]) -> Tensor {
        let zeros = Tensor::zeros(shape, DType::F32, &candle_core::Device::Cpu).unwrap();
        match self.trained {
            true => Var::from_tensor(&zeros).unwrap().into_inner(),
            false => zeros,
        }
    }

    fn norm(&self, d: usize) -> NormWeights {
        NormWeights { weight: self.tensor(&[d]), bias: self.tensor(&[d]), eps: 1e-6 }
    }

    fn dense(&self, inputs: usize, outputs: usize) -> LinearWeights {
        LinearWeights::new(self.tensor(&[outputs, inputs]), Some(self.tensor(&[outputs])))
    }
}

/// Where a half block's input comes from.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// Frozen operators: it gets no gradient.
    Frozen,
    /// Another half block, which takes the gradient as it is (`gpu::nary_tests` has the proof).
    HalfBlock,
    /// An operator of candle's, which adds it onto zeros.
    Other,
}

/// Forward and backward of one half block on `x` (BATCH, `tokens`, `d`), from what it costs on two
/// small batches: bytes are those of the weights and a multiple of the images.
fn half_block(
    tokens: usize,
    d: usize,
    before: Before,
    branch: impl Fn(&Tensor) -> (Tensor, usize),
) -> Cost {
    let [few, more] = RUN.map(|images| {
        let trained = before != Before::Frozen;
        let x = Maker { trained }.tensor(&[images, tokens, d]);
        of_batch(&x, before, &branch)
    });
    assert_eq!(few.launches, more.launches, "launches do not depend on the batch");
    let each = (more.bytes - few.bytes) / (RUN[1] - RUN[0]);
    Cost { bytes: few.bytes + (BATCH - RUN[0]) * each, ..few }
}

fn of_batch(x: &Tensor, before: Before, branch: &impl Fn(&Tensor) -> (Tensor, usize)) -> Cost {
    // Frozen weights are converted once, in the first step.
    emulated::through(|| dry::recorded(|| branch(x).0));
    let ((y, params), forward) = emulated::through(|| dry::recorded(|| branch(x)));
    let mut total = of_log(&forward);
    if !y.track_op() {
        return total;
    }
    let loss = y.sum_all().unwrap();
    let (_, backward) = emulated::through(|| dry::recorded(|| crate::backward(&loss).unwrap()));
    total += of_log(&backward);
    total += match before {
        Before::Frozen => Cost::default(),
        // What stands in for it has one value.
        Before::HalfBlock => accumulated(4),
        Before::Other => accumulated(4 * x.elem_count()),
    };
    // Zeros and a sum for every link: two of three parameters, further ones of two.
    let links = params.div_ceil(3).min(2) + params.saturating_sub(6).div_ceil(2);
    total += accumulated(4) * links;
    total
}

fn attention(tokens: usize, d: usize, heads: usize, trained: bool, before: Before) -> Cost {
    let maker = Maker { trained };
    let (qkv, proj) = (maker.dense(d, 3 * d), maker.dense(d, d));
    let plain = AttentionWeights::new(maker.norm(d), qkv, proj, heads);
    let weights = AttentionWeights { precision: MatmulPrecision::Bf16, ..plain };
    let branch = |x: &Tensor| {
        let y = attention_branch(x, &weights, Keep::Activations).unwrap();
        (y, if trained { 6 } else { 0 })
    };
    let mut total = half_block(tokens, d, before, branch);
    if trained || before != Before::Frozen {
        let (rows, narrow) = (BATCH * tokens, 2);
        let normed = if trained { narrow * d } else { 0 };
        total.kept = rows * (4 * d + 12 + normed + 3 * narrow * d + narrow * d + 4 * heads);
    }
    total
}

fn mlp(tokens: usize, d: usize, adapted: bool, before: Before) -> Cost {
    // The adapter trains beside a frozen MLP; a decoder's MLP trains.
    let (maker, bottleneck) = (Maker { trained: !adapted }, 64);
    let trains = Maker { trained: true };
    let adapter = || AdapterWeights {
        norm: Some(trains.norm(d)),
        down: trains.dense(d, bottleneck),
        up: trains.dense(bottleneck, d),
        dropout: 0.1,
        scale: AdapterScale::Patchwise { gate: trains.tensor(&[1, 2 * d]), fusion: Fusion::Concat },
    };
    let plain = MlpWeights::new(maker.norm(d), maker.dense(d, 4 * d), maker.dense(4 * d, d));
    let precision = MatmulPrecision::Bf16;
    let weights = MlpWeights { adapter: adapted.then(adapter), precision, ..plain };
    let branch = |x: &Tensor| {
        let mode = Mode::Train(Key::new(1));
        let y = mlp_branch(x, &weights, mode, Keep::Activations).unwrap();
        (y, if adapted { 7 } else { 6 })
    };
    let mut total = half_block(tokens, d, before, branch);
    let (rows, narrow) = (BATCH * tokens, 2);
    let hidden = 4 * narrow * d;
    let more = match adapted {
        // The MLP's output, the adapter's, what it saw, its bottleneck.
        true => 3 * narrow * d + narrow * bottleneck,
        // What `fc1` and `fc2` saw.
        false => narrow * d + hidden,
    };
    total.kept = rows * (4 * d + 12 + hidden + more);
    total
}

/// Norm over all gradients and the update of all parameters.
fn optimizer() -> Cost {
    // The sizes of PAD's adapters and decoder.
    let (d, k, inner) = (768, 64, 512);
    let mut shapes: Vec<usize> = Vec::new();
    for _ in 0..12 {
        shapes.extend([d, d, k * d, k, d * k, d, 2 * d]);
    }
    for _ in 0..8 {
        shapes.extend([inner, inner, 3 * inner * inner, 3 * inner, inner * inner, inner]);
        shapes.extend([inner, inner, 4 * inner * inner, 4 * inner, 4 * inner * inner, inner]);
    }
    shapes.extend([inner, inner, inner, 768 * inner, 768]);
    assert_eq!(shapes.iter().sum::<usize>(), 26_841_088, "what step 2 of PAD trains");
    let zeros = |count: &usize| Tensor::zeros(*count, DType::F32, &candle_core::Device::Cpu);
    let tensors: Vec<Tensor> = shapes.iter().map(|count| zeros(count).unwrap()).collect();
    let all: Vec<&Tensor> = tensors.iter().collect();
    let step = AdamWStep {
        keep: 1.0,
        toward: 0.1,
        beta2: 0.95,
        step_size: 1e-4,
        root_correction: 1.0,
        eps: 1e-8,
        gradient_factor: 1.0,
    };
    let work = || {
        sums_of_squares(&all).unwrap();
        let mut steps = AdamWSteps::new();
        for tensor in &tensors {
            assert!(steps.push(tensor, tensor, [tensor, tensor], &step).unwrap());
        }
        steps.run().unwrap();
    };
    let ((), log) = emulated::through(|| dry::recorded(work));
    // Parameter and moments are written too. Tables: two of pointers, two plans, the factors.
    let written = 3 * 4 * shapes.iter().sum::<usize>();
    let mut total = of_log(&log);
    total += cost(0, written, 5);
    total
}

/// What candle runs: embedding, mask tokens, the shuffles, the last norms, the prediction and the
/// loss. Sizes in bytes: `kept` tokens of the encoder, `all` of the decoder, `removed` ones.
fn outside() -> Cost {
    let f32s = |tokens: usize, width: usize| 4 * BATCH * tokens * width;
    let images = f32s(196, 768);
    let (kept, latent) = (f32s(49, 768), f32s(50, 768));
    let (small, all, removed) = (f32s(50, 512), f32s(197, 512), f32s(147, 512));
    let pixels = f32s(147, 768);
    // Ours.
    let gather = |bytes: usize| cost(1, 2 * bytes, 0);
    let scatter = |into: usize, bytes: usize| {
        let mut both = cost(1, into + bytes, 0);
        both += accumulated(into);
        both
    };
    // Zeros on both sides, and a copy.
    let widen = |into: usize| cost(5, 2 * into, 2);
    let mut total = Cost::default();
    let mut add = |costs: &[Cost]| costs.iter().for_each(|cost| total += *cost);
    // Embedding: patches in the kernel's order, the kept ones, their product, bias and positions.
    add(&[cost(1, 2 * images, 1), gather(kept), cost(2, 4 * kept, 0)]);
    add(&[cost(1, images, 1), gather(kept), cost(1, 3 * kept, 0), cost(4, 2 * latent, 1)]);
    // Four index arrays of the mask.
    add(&[cost(0, 0, 4)]);
    // The encoder's norm, the frozen layer to the decoder's width.
    add(&[cost(1, 2 * latent, 0), cost(2, 6 * latent, 0), accumulated(latent)]);
    add(&[cost(2, latent + 4 * small, 0), cost(1, latent + small, 0)]);
    add(&[accumulated(small) * 2, accumulated(latent) * 2]);
    // Mask tokens, the shuffle back, the class token, positions (whose gradient candle takes too).
    add(&[cost(1, removed, 1), accumulated(removed), cost(4, removed, 2)]);
    add(&[widen(small), accumulated(small)]);
    add(&[cost(2, 2 * all, 2), accumulated(small), accumulated(removed)]);
    add(&[gather(all), scatter(all, all)]);
    add(&[widen(small), accumulated(small), cost(2, 2 * all, 2), accumulated(all)]);
    add(&[cost(1, 2 * all, 1), accumulated(all) * 2]);
    // Before the last MLP the removed tokens alone.
    add(&[cost(1, 0, 0), gather(removed), scatter(all, removed)]);
    // The decoder's norm.
    add(&[cost(1, 2 * removed, 0), cost(4, 8 * removed, 1), accumulated(removed)]);
    add(&[accumulated(2048) * 2]);
    // The prediction: flat rows, product, bias.
    add(&[cost(2, removed + 3 * pixels, 0), accumulated(pixels) * 2, accumulated(removed) * 2]);
    add(&[cost(4, 3 * pixels + 2 * removed, 1), accumulated(3072), accumulated(1_572_864)]);
    // The target: patches in the target's order, the removed ones, normalised.
    add(&[cost(1, 2 * images, 1), gather(pixels), cost(1, 2 * pixels, 0)]);
    // Three half blocks' results are used by others: a value stands in for each.
    add(&[accumulated(4) * 3]);
    // The loss and its gradient: ours. A mask of ones.
    add(&[cost(3, 2 * pixels, 0), cost(1, 3 * pixels, 0), accumulated(pixels)]);
    total
}

#[test]
fn launches_and_bytes_of_a_step() {
    let first = attention(50, 768, 12, false, Before::Frozen);
    let parts = [
        ("encoder, attention", {
            let mut all = attention(50, 768, 12, false, Before::HalfBlock) * 11;
            all += first;
            all
        }),
        ("encoder, MLP and adapter", mlp(50, 768, true, Before::HalfBlock) * 12),
        ("decoder, attention", {
            let mut all = attention(197, 512, 16, true, Before::HalfBlock) * 7;
            all += attention(197, 512, 16, true, Before::Other);
            all
        }),
        ("decoder, MLP", {
            let mut all = mlp(197, 512, false, Before::HalfBlock) * 7;
            all += mlp(147, 512, false, Before::Other); // of the removed tokens
            all
        }),
        ("embedding, shuffles, loss (candle)", outside()),
        ("norm of gradients, AdamW", optimizer()),
    ];
    let mut total = Cost::default();
    println!("{:<36}{:>9}{:>8}{:>10}{:>9}", "part", "launches", "GB", "kept MiB", "uploads");
    let row = |name: &str, cost: Cost| {
        println!(
            "{name:<36}{:>9}{:>8.1}{:>10}{:>9}",
            cost.launches,
            cost.bytes as f64 / 1e9,
            cost.kept / MIB,
            cost.uploads
        );
    };
    for (name, cost) in parts {
        row(name, cost);
        total += cost;
    }
    row("a step", total);
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let maker = Maker { trained: true };
    let plain = AttentionWeights::new(maker.norm(64), maker.dense(64, 192), maker.dense(64, 64), 2);
    let weights = AttentionWeights { precision: MatmulPrecision::Bf16, ..plain };
    let x = maker.tensor(&[1, 197, 64]);
    let work = || attention_branch(&x, &weights, Keep::Activations).unwrap();
    let (_, log) = emulated::through(|| dry::recorded(work));
    for launch in &log {
        *names.entry(launch.name).or_default() += 1;
    }
    println!("a trained attention branch, forward: {names:?}");
    assert!(names.contains_key("attention_forward") && names["product"] == 2, "{names:?}");

    assert!(total.launches <= LAUNCHES, "{} launches, expected {LAUNCHES}", total.launches);
    assert!(total.bytes <= BYTES, "{} bytes, expected {BYTES}", total.bytes);
    assert!(total.kept <= KEPT, "{} bytes kept, expected {KEPT}", total.kept);
}

/// Limits of a step: candle's own operations took 6,041 launches, 416 GB, and kept 33 GiB.
const LAUNCHES: usize = 950;
const BYTES: usize = 90_000_000_000;
const KEPT: usize = 14 << 30;
