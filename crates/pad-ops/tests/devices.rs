//! The way that devices without kernels of ours take, on the CPU: every operator composed of
//! candle's operations, forward and gradients, against the CPU's kernels, in f32 and in bf16.

mod cases;

use candle_core::{DType, Device, Tensor};
use cases::{ATTENTION, CASES, Case, MLP, ONLY_F32, all, attention, mlp, operands};
use pad_ops::{MatmulPrecision, reference};
use pad_testkit::{close, largest, numbers};

fn compare(name: &str, got: &[Tensor], want: &[Tensor], tolerance: f64) {
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        close(&format!("{name}: {at} (0 the result, then gradients)"), got, want, tolerance);
    }
}

#[test]
fn compositions_equal_kernels() {
    for &(name, op, shapes) in CASES.iter().chain(ONLY_F32) {
        let operands = operands(shapes, DType::F32, &Device::Cpu);
        let kernels = all(op, &operands).unwrap();
        let composed = reference::only(|| all(op, &operands)).unwrap();
        compare(name, &composed, &kernels, 1e-4);
    }
}

#[test]
fn compositions_in_bf16() {
    for &(name, op, shapes) in CASES {
        let operands = operands(shapes, DType::BF16, &Device::Cpu);
        let wide: Vec<Tensor> =
            operands.iter().map(|operand| operand.to_dtype(DType::F32).unwrap()).collect();
        let kernels = all(op, &wide).unwrap();
        let half = all(op, &operands).unwrap();
        compare(name, &half, &kernels, 3e-2);
    }
}

/// f32 weights and residual stream, products in bf16: what a GPU trains with.
#[test]
fn mixed_precision() {
    let cases: [Case; 2] = [
        ("attention_branch", |t| attention(t, MatmulPrecision::Bf16), ATTENTION),
        ("mlp_branch", |t| mlp(t, MatmulPrecision::Bf16), MLP),
    ];
    for (name, op, shapes) in cases {
        let operands = operands(shapes, DType::F32, &Device::Cpu);
        let kernels = all(op, &operands).unwrap();
        let composed = reference::only(|| all(op, &operands)).unwrap();
        compare(name, &composed, &kernels, 3e-2);
        let rounded = (&composed[0] - &kernels[0]).unwrap();
        assert!(largest(&rounded) > 0.0, "{name}: the composition is another computation");
    }
}

#[test]
fn only_ends_with_its_work() {
    let x = numbers(&[3, 5], DType::F32, 1);
    let bits = |y: Tensor| -> Vec<u32> {
        y.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
    };
    let before = bits(pad_ops::gelu(&x).unwrap());
    let inside = reference::only(|| bits(pad_ops::gelu(&x).unwrap()));
    assert_eq!(inside, bits(reference::gelu(&x).unwrap()));
    let panicked = std::panic::catch_unwind(|| reference::only(|| panic!("inside")));
    assert!(panicked.is_err());
    assert_eq!(bits(pad_ops::gelu(&x).unwrap()), before);
}
