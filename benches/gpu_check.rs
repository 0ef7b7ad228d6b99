//! Every operator on a CUDA device against the CPU, forward and gradients; then one optimisation step of AdamW. Prints a
//! table of the largest relative differences and fails if one is too large.
//!
//!     cargo bench --features cuda --bench gpu_check              # device 0
//!     cargo bench --features cuda --bench gpu_check -- 1
//!     benches/gpu_check.sh                                       # this, and times beside PyTorch

#[path = "../crates/pad-ops/tests/cases/mod.rs"]
mod cases;

use std::{error::Error, process::ExitCode};

use candle_core::{DType, Device, Tensor, Var};
use cases::{ATTENTION, CASES, Case, MLP, ONLY_F32, all, attention, mlp, operands};
use pad::{
    MatmulPrecision,
    train::{AdamW, AdamWConfig, Gradients, Parameter},
};
use pad_testkit::{numbers, relative_difference};

/// What may differ, relative to the largest value.
const F32: f64 = 1e-3;
const BF16: f64 = 2e-2;

/// Largest relative difference of the result and of the gradients; `None` for what is all zero.
fn differences(got: &[Tensor], want: &[Tensor]) -> (f64, f64) {
    let differ = |got: &Tensor, want: &Tensor| match pad_testkit::largest(want) {
        0.0 => pad_testkit::largest(got),
        _ => relative_difference(got, want),
    };
    let each: Vec<f64> = got.iter().zip(want).map(|(got, want)| differ(got, want)).collect();
    let (forward, backward) = each.split_first().unwrap_or((&f64::INFINITY, &[]));
    (*forward, backward.iter().copied().fold(0.0, f64::max))
}

/// A row of the table; whether it holds.
fn row(name: &str, kind: &str, found: Result<(f64, f64), String>, allowed: f64) -> bool {
    match found {
        Ok((forward, backward)) => {
            let good = forward <= allowed && backward <= allowed;
            let verdict = if good { "" } else { "  MISS" };
            println!("{name:<44} {kind:<6} {forward:>9.1e} {backward:>9.1e}{verdict}");
            good
        }
        Err(error) => {
            println!("{name:<44} {kind:<6} {}", error.lines().next().unwrap_or("failed"));
            false
        }
    }
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

/// Three steps of AdamW on the device against the CPU: the variable and its moments.
fn adamw(device: &Device) -> Result<(f64, f64), String> {
    let run = |device: &Device| -> Result<Vec<Tensor>, Box<dyn Error>> {
        let home = |t: &Tensor| t.to_dtype(DType::F32)?.to_device(&Device::Cpu);
        let names = ["first", "second"];
        let shapes: [&[usize]; 2] = [&[300, 7], &[5]];
        let mut parameters = Vec::new();
        for (at, (name, shape)) in names.iter().zip(shapes).enumerate() {
            let value = numbers(shape, DType::F32, at as u64).to_device(device)?;
            parameters.push(Parameter::new(*name, Var::from_tensor(&value)?));
        }
        let mut adamw = AdamW::new(parameters, AdamWConfig::default())?;
        for step in 0..3 {
            let gradients: Vec<Option<Tensor>> = shapes
                .iter()
                .map(|shape| Ok(Some(numbers(shape, DType::F32, 9 + step).to_device(device)?)))
                .collect::<candle_core::Result<_>>()?;
            adamw.step(&Gradients::new(gradients), 1e-2, 0)?;
        }
        let mut found = Vec::new();
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

fn main() -> ExitCode {
    let number = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(0);
    let device = match Device::new_cuda(number) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("error: CUDA device {number}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{:<44} {:<6} {:>9} {:>9}", "operator", "dtype", "forward", "gradient");
    let mut good = true;
    for &case in CASES.iter().chain(ONLY_F32) {
        good &= row(case.0, "f32", compare(case, DType::F32, &device), F32);
        good &= row(case.0, "bf16", compare(case, DType::BF16, &device), BF16);
    }
    let mixed: [Case; 2] = [
        ("attention_branch", |t| attention(t, MatmulPrecision::Bf16), ATTENTION),
        ("mlp_branch", |t| mlp(t, MatmulPrecision::Bf16), MLP),
    ];
    for case in mixed {
        good &= row(case.0, "mixed", compare(case, DType::F32, &device), BF16);
    }
    good &= row("AdamW, three steps", "f32", adamw(&device), F32);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
