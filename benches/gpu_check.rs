//! Every operator on a CUDA device against the CPU, forward and gradients; then steps of AdamW. Prints a line an operator
//! with the largest relative differences and fails if one is too large.
//!
//!     cargo bench --features cuda --bench gpu_check              # device 0, a table
//!     cargo bench --features cuda --bench gpu_check -- --json    # a line of JSON each
//!     cargo bench --bench gpu_check -- --device cpu --small      # the CPU in the GPU's place: a dry run
//!     scripts/gpu-pack.sh                                        # all checks, for a machine without Rust
//!
//! Operators run in a child process: after an error of the driver, which stays with a process, another one takes over
//! behind the operator that failed.

#[path = "../crates/pad-ops/tests/cases/mod.rs"]
mod cases;

use std::{
    error::Error,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Tensor, Var};
use cases::{ATTENTION, CASES, Case, MLP, ONLY_F32, all, attention, mlp, operands};
use clap::Parser;
use pad::{
    Fusion, MatmulPrecision, Mode,
    ops::{
        AdapterScale, AdapterWeights, AttentionWeights, Keep, LinearWeights, MlpWeights,
        NormWeights, ResidualWeights,
    },
    rng::Key,
    train::{AdamW, AdamWConfig, Gradients, Optimizer, Parameter},
};
use pad_testkit::{numbers, relative_difference};
use serde_json::{Value, json};

/// What may differ, relative to the largest value.
const F32: f64 = 1e-3;
const BF16: f64 = 2e-2;
/// Half blocks whose stream is in bf16 too: several products, norms and sums in a row, each rounded
/// (the CPU's own composition differs by 2.9e-2 from that in `f32`).
const HALF_BLOCK: f64 = 4e-2;
/// An operator that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Compares operators on a device with the CPU.
#[derive(Parser, Debug)]
struct Flags {
    /// cuda, cuda:N, or cpu for a dry run
    #[arg(long, default_value = "cuda")]
    device: String,
    /// A line of JSON an operator
    #[arg(long)]
    json: bool,
    /// Leave out the shapes of real steps
    #[arg(long)]
    small: bool,
    /// Operators whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Run in this process, beginning at operator N
    #[arg(long, value_name = "N")]
    child: Option<usize>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn norm(t: &[Tensor]) -> NormWeights {
    NormWeights { weight: t[0].clone(), bias: t[1].clone(), eps: 1e-6 }
}

fn dense(t: &[Tensor]) -> LinearWeights {
    LinearWeights::new(t[0].clone(), Some(t[1].clone()))
}

/// Heads of 64 in an encoder of width 768, of 32 in a decoder of 512.
fn half_block(
    t: &[Tensor],
    num_heads: usize,
    precision: MatmulPrecision,
) -> pad::ops::Result<Tensor> {
    let (norm, qkv, proj) = (norm(&t[1..3]), dense(&t[3..5]), dense(&t[5..7]));
    let weights =
        AttentionWeights { precision, ..AttentionWeights::new(norm, qkv, proj, num_heads) };
    pad::ops::attention_branch(&t[0], &weights, Keep::Activations)
}

fn adapted_mlp(t: &[Tensor], precision: MatmulPrecision, keep: Keep) -> pad::ops::Result<Tensor> {
    let adapter = AdapterWeights {
        norm: Some(norm(&t[7..9])),
        down: dense(&t[9..11]),
        up: dense(&t[11..13]),
        dropout: 0.1,
        scale: AdapterScale::Patchwise { gate: t[13].clone(), fusion: Fusion::Concat },
    };
    let (norm, fc1, fc2) = (norm(&t[1..3]), dense(&t[3..5]), dense(&t[5..7]));
    let weights =
        MlpWeights { adapter: Some(adapter), precision, ..MlpWeights::new(norm, fc1, fc2) };
    pad::ops::mlp_branch(&t[0], &weights, Mode::Train(Key::new(4)), keep)
}

/// Attention with layer scale and drop path, as DINOv2 has them; the first image's is dropped.
fn scaled_block(t: &[Tensor], precision: MatmulPrecision) -> pad::ops::Result<Tensor> {
    let factors = (0..t[0].dim(0)?).map(|image| if image == 0 { 0_f32 } else { 1.25 });
    let factors =
        Tensor::new(factors.collect::<Vec<_>>(), t[0].device())?.to_dtype(t[0].dtype())?;
    let residual = ResidualWeights { gamma: Some(t[7].clone()), factors: Some(factors) };
    let (norm, qkv, proj) = (norm(&t[1..3]), dense(&t[3..5]), dense(&t[5..7]));
    let weights =
        AttentionWeights { precision, residual, ..AttentionWeights::new(norm, qkv, proj, 6) };
    pad::ops::attention_branch(&t[0], &weights, Keep::Activations)
}

const SCALED: &[&[usize]] =
    &[&[9, 197, 384], &[384], &[384], &[1152, 384], &[1152], &[384, 384], &[384], &[384]];
const DECODER: &[&[usize]] =
    &[&[8, 197, 512], &[512], &[512], &[1536, 512], &[1536], &[512, 512], &[512]];
const ENCODER: &[&[usize]] =
    &[&[33, 50, 768], &[768], &[768], &[2304, 768], &[2304], &[768, 768], &[768]];
const ODD: &[&[usize]] = &[&[3, 61, 90], &[90], &[90], &[270, 90], &[270], &[90, 90], &[90]];
const LONG: &[&[usize]] = &[&[1, 300, 64], &[64], &[64], &[192, 64], &[192], &[64, 64], &[64]];
const ADAPTED: &[&[usize]] = &[
    &[33, 50, 768],
    &[768],
    &[768],
    &[3072, 768],
    &[3072],
    &[768, 3072],
    &[768],
    &[768],
    &[768],
    &[64, 768],
    &[64],
    &[768, 64],
    &[768],
    &[1, 1536],
];

/// The shapes of a step (ViT-B, 256 images), odd widths, and more rows than a block has threads.
const LARGE: &[Case] = &[
    (
        "layer_norm, 50432 x 512",
        |t| pad_ops::layer_norm(&t[0], &t[1], &t[2], 1e-6),
        &[&[50432, 512], &[512], &[512]],
    ),
    (
        "layer_norm, 1031 x 1021",
        |t| pad_ops::layer_norm(&t[0], &t[1], &t[2], 1e-6),
        &[&[1031, 1021], &[1021], &[1021]],
    ),
    ("softmax, 1024 x 197 x 197", |t| pad_ops::softmax(&t[0]), &[&[1024, 197, 197]]),
    ("softmax, 513 x 3", |t| pad_ops::softmax(&t[0]), &[&[513, 3]]),
    ("gelu, 50432 x 512", |t| pad_ops::gelu(&t[0]), &[&[50432, 512]]),
    (
        "linear, 12800 x 768 x 2304",
        |t| pad_ops::linear(&t[0], &t[1], Some(&t[2])),
        &[&[12800, 768], &[2304, 768], &[2304]],
    ),
    (
        "linear, 777 x 123 x 77",
        |t| pad_ops::linear(&t[0], &t[1], Some(&t[2])),
        &[&[777, 123], &[77, 123], &[77]],
    ),
    (
        "attention_packed, 8 x 197 x 512",
        |t| pad_ops::attention_packed(&t[0], 16),
        &[&[8, 197, 1536]],
    ),
    (
        "fuse_patchwise, 256 x 50 x 768",
        |t| pad_ops::fuse_patchwise(&t[0], &t[1], &t[2], Fusion::Concat),
        &[&[256, 50, 768], &[256, 50, 768], &[1, 1536]],
    ),
    (
        "dropout, 12800 x 64",
        |t| pad_ops::dropout(&t[0], 0.1, Mode::Train(Key::new(1))),
        &[&[12800, 64]],
    ),
    ("attention_branch, decoder", |t| half_block(t, 16, MatmulPrecision::F32), DECODER),
    ("attention_branch, encoder", |t| half_block(t, 12, MatmulPrecision::F32), ENCODER),
    ("attention_branch, odd", |t| half_block(t, 3, MatmulPrecision::F32), ODD),
    ("attention_branch, long", |t| half_block(t, 2, MatmulPrecision::F32), LONG),
    ("attention_branch, layer scale", |t| scaled_block(t, MatmulPrecision::F32), SCALED),
    ("mlp_branch, encoder", |t| adapted_mlp(t, MatmulPrecision::F32, Keep::Activations), ADAPTED),
    (
        "mlp_branch, encoder, checkpointed",
        |t| adapted_mlp(t, MatmulPrecision::F32, Keep::Nothing),
        ADAPTED,
    ),
];

/// Weights and residual stream in f32, products in bf16: what a GPU trains with.
const MIXED: &[Case] = &[
    ("attention_branch", |t| attention(t, MatmulPrecision::Bf16), ATTENTION),
    ("mlp_branch", |t| mlp(t, MatmulPrecision::Bf16), MLP),
];
const LARGE_MIXED: &[Case] = &[
    ("attention_branch, decoder", |t| half_block(t, 16, MatmulPrecision::Bf16), DECODER),
    ("attention_branch, encoder", |t| half_block(t, 12, MatmulPrecision::Bf16), ENCODER),
    ("attention_branch, odd", |t| half_block(t, 3, MatmulPrecision::Bf16), ODD),
    ("attention_branch, long", |t| half_block(t, 2, MatmulPrecision::Bf16), LONG),
    ("attention_branch, layer scale", |t| scaled_block(t, MatmulPrecision::Bf16), SCALED),
    ("mlp_branch, encoder", |t| adapted_mlp(t, MatmulPrecision::Bf16, Keep::Activations), ADAPTED),
    (
        "mlp_branch, encoder, checkpointed",
        |t| adapted_mlp(t, MatmulPrecision::Bf16, Keep::Nothing),
        ADAPTED,
    ),
];

/// Compares a device with the CPU: the largest difference and the scale of the values.
type Compare = dyn Fn(&Device) -> Result<(f64, f64), String>;

/// A comparison: its name, what runs in which dtype, and what may differ.
struct Check {
    name: &'static str,
    kind: &'static str,
    allowed: f64,
    run: Box<Compare>,
}

impl Check {
    fn of(case: Case, kind: &'static str, dtype: DType, allowed: f64) -> Self {
        let run = move |device: &Device| compare(case, dtype, device);
        Self { name: case.0, kind, allowed, run: Box::new(run) }
    }
}

fn checks(flags: &Flags) -> Vec<Check> {
    let none: &[Case] = &[];
    let [large, large_mixed] = if flags.small { [none; 2] } else { [LARGE, LARGE_MIXED] };
    let mut checks = Vec::new();
    for &case in CASES.iter().chain(ONLY_F32).chain(large) {
        checks.push(Check::of(case, "f32", DType::F32, F32));
        // candle convolves no bf16 on the CPU.
        if flags.device != "cpu" || !ONLY_F32.iter().any(|only| only.0 == case.0) {
            let allowed = if case.0.ends_with("_branch") { HALF_BLOCK } else { BF16 };
            checks.push(Check::of(case, "bf16", DType::BF16, allowed));
        }
    }
    for &case in MIXED.iter().chain(large_mixed) {
        checks.push(Check::of(case, "mixed", DType::F32, BF16));
    }
    for (name, way) in [
        ("AdamW, three steps", Way::Step),
        ("AdamW, three clipped steps", Way::Clipped),
        ("AdamW, three clipped steps begun", Way::Begun),
    ] {
        let run = move |device: &Device| adamw(device, way);
        checks.push(Check { name, kind: "f32", allowed: F32, run: Box::new(run) });
    }
    checks.retain(|check| flags.only.as_deref().is_none_or(|only| check.name.contains(only)));
    checks
}

/// Largest relative difference of the result and of the gradients; what is all zero is compared as it is.
fn differences(got: &[Tensor], want: &[Tensor]) -> (f64, f64) {
    let differ = |got: &Tensor, want: &Tensor| match pad_testkit::largest(want) {
        0.0 => pad_testkit::largest(got),
        _ => relative_difference(got, want),
    };
    let each: Vec<f64> = got.iter().zip(want).map(|(got, want)| differ(got, want)).collect();
    let (forward, backward) = each.split_first().unwrap_or((&f64::INFINITY, &[]));
    (*forward, backward.iter().copied().fold(0.0, f64::max))
}

/// The operator in `dtype` on `device` against f32 on the CPU, on the same numbers.
fn compare(case: Case, dtype: DType, device: &Device) -> Result<(f64, f64), String> {
    let (_, op, shapes) = case;
    let run = || -> candle_core::Result<_> {
        let home = operands(shapes, dtype, &Device::Cpu);
        let wide: Vec<Tensor> =
            home.iter().map(|t| t.to_dtype(DType::F32)).collect::<candle_core::Result<_>>()?;
        let want = all(op, &wide)?;
        let got = all(op, &operands(shapes, dtype, device))?;
        Ok(differences(&got, &want))
    };
    run().map_err(|error| error.to_string())
}

/// How a step of AdamW is taken.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Step,
    Clipped,
    /// Norm and clipping on the device; the last step has a loss that is not a number.
    Begun,
}

/// Steps of AdamW on the device against the CPU: the variables and their moments.
fn adamw(device: &Device, way: Way) -> Result<(f64, f64), String> {
    let run = |device: &Device| -> Result<Vec<Tensor>, Box<dyn Error>> {
        let home = |t: &Tensor| t.to_dtype(DType::F32)?.to_device(&Device::Cpu);
        let names = ["first", "second", "third"];
        // More values than a chunk, a few, one.
        let shapes: [&[usize]; 3] = [&[300, 217], &[5], &[1]];
        let mut parameters = Vec::new();
        for (at, (name, shape)) in names.iter().zip(shapes).enumerate() {
            let value = numbers(shape, DType::F32, at as u64).to_device(device)?;
            parameters.push(Parameter::new(*name, Var::from_tensor(&value)?));
        }
        let mut adamw = AdamW::new(parameters, AdamWConfig::default())?;
        let mut norms = Vec::new();
        for step in 0..3 {
            let gradients: Vec<Option<Tensor>> = shapes
                .iter()
                .map(|shape| Ok(Some(numbers(shape, DType::F32, 9 + step).to_device(device)?)))
                .collect::<candle_core::Result<_>>()?;
            let mut gradients = Gradients::new(gradients);
            if way == Way::Begun {
                let loss = if step == 2 { f32::NAN } else { 1.0 };
                let loss = Tensor::new(loss, device)?;
                let begun = adamw.begin_step(&gradients, &[&loss], Some(1.0), 1e-2, 0)?;
                let report = adamw.finish_step(begun.ok_or("the device took no step")?)?;
                norms.extend([report.grad_norm as f32, report.updated as f32]);
                continue;
            }
            if way == Way::Clipped {
                norms.push(gradients.clip(1.0)? as f32);
            }
            norms.push(adamw.step(&gradients, 1e-2, 0)?.grad_norm as f32);
        }
        let mut found = vec![Tensor::new(norms, &Device::Cpu)?];
        for parameter in adamw.parameters() {
            found.push(home(parameter.var.as_tensor())?);
        }
        for (name, tensor) in adamw.state()? {
            if !name.ends_with(".step") {
                found.push(home(&tensor)?);
            }
        }
        Ok(found)
    };
    let compare = || Ok(differences(&run(device)?, &run(&Device::Cpu)?));
    compare().map_err(|error: Box<dyn Error>| error.to_string())
}

/// Runs the checks from number `first` on, in this process, until one ends with an error.
fn child(flags: &Flags, first: usize) -> ExitCode {
    let device = match pad::ops::device::open(&flags.device) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    for check in checks(flags).iter().skip(first) {
        let (start, found) = (Instant::now(), (check.run)(&device));
        let seconds = (start.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        let mut line = json!({ "operator": check.name, "kind": check.kind, "seconds": seconds });
        let failed = found.is_err();
        match found {
            Ok((forward, gradient)) => {
                // JSON has no infinity.
                let number = |value: f64| if value.is_finite() { value } else { f64::MAX };
                line["forward"] = json!(number(forward));
                line["gradient"] = json!(number(gradient));
                line["allowed"] = json!(check.allowed);
                line["ok"] = json!(forward <= check.allowed && gradient <= check.allowed);
            }
            Err(error) => {
                line["error"] = json!(error.lines().next().unwrap_or("failed"));
                line["ok"] = json!(false);
            }
        }
        println!("{line}");
        if std::io::stdout().flush().is_err() || failed {
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}

/// A child process and the lines that it writes.
fn start(first: usize) -> std::io::Result<(Child, Receiver<String>)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args().skip(1))
        .args(["--child", &first.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let (give, take) = channel();
    if let Some(lines) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if give.send(line).is_err() {
                    return;
                }
            }
        });
    }
    Ok((child, take))
}

fn print(flags: &Flags, line: &Value) {
    if flags.json {
        println!("{line}");
        return;
    }
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
    print!("{:<36} {:<6}", text("operator"), text("kind"));
    match (line["forward"].as_f64(), line["gradient"].as_f64()) {
        (Some(forward), Some(gradient)) => {
            let verdict = if line["ok"] == true { "" } else { "  MISS" };
            println!(" {forward:>9.1e} {gradient:>9.1e}{verdict}");
        }
        _ => println!(" {}", text("error")),
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(first) = flags.child {
        return child(&flags, first);
    }
    if !flags.json {
        println!("{:<36} {:<6} {:>9} {:>9}", "operator", "dtype", "forward", "gradient");
    }
    let checks = checks(&flags);
    let (mut next, mut good) = (0, true);
    while let Some(check) = checks.get(next) {
        let first = next;
        let (mut process, lines) = match start(first) {
            Ok(started) => started,
            Err(error) => {
                eprintln!("error: a process cannot be started: {error}");
                return ExitCode::FAILURE;
            }
        };
        let mut why = None;
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
                    good &= line["ok"] == true;
                    print(&flags, &line);
                    next += 1;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    why = Some(format!("no result within {} s", PATIENCE.as_secs()));
                    let _ = process.kill(); // it may have ended just now
                    break;
                }
            }
        }
        let status = process.wait();
        let ended = match &status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let reported = matches!(&status, Ok(status) if status.code() == Some(3));
        if next == first && matches!(&status, Ok(status) if status.code() == Some(1)) {
            return ExitCode::FAILURE; // the device cannot be opened, and it has said why
        }
        if next < checks.len() && !reported {
            let check = checks.get(next).unwrap_or(check);
            let error = why.unwrap_or(format!("the process ended without a result: {ended}"));
            good = false;
            print(
                &flags,
                &json!({ "operator": check.name, "kind": check.kind, "error": error, "ok": false }),
            );
            next += 1;
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
