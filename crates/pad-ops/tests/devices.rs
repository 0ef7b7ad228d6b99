//! The way that devices without kernels of ours take, on the CPU: every operator composed of
//! candle's operations, forward and gradients, against the CPU's kernels, in f32 and in bf16.

mod cases;

use candle_core::{DType, Device, Tensor, Var};
use cases::{ATTENTION, CASES, Case, MLP, ONLY_F32, all, attention, mlp, operands};
use pad_ops::{Keep, MatmulPrecision, reference};
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

/// Activation checkpointing of what has no kernel: two nodes of the graph (the operator, its result)
/// in place of many, the same result and gradients.
#[test]
fn checkpointing_of_compositions() {
    type Branch = fn(&[Tensor], Keep) -> pad_ops::Result<Tensor>;
    let branches: [(&str, Branch, _); 2] = [
        (
            "attention_branch",
            |t, keep| cases::attention_kept(t, MatmulPrecision::F32, keep),
            ATTENTION,
        ),
        ("mlp_branch", |t, keep| cases::mlp_kept(t, MatmulPrecision::F32, keep), MLP),
    ];
    for (name, op, shapes) in branches {
        let operands = operands(shapes, DType::F32, &Device::Cpu);
        let run = |keep: Keep| {
            let vars: Vec<Var> = operands.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
            let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let y = op(&tensors, keep).unwrap();
            let nodes = y.sorted_nodes().len() - vars.len();
            let weights = numbers(y.dims(), DType::F32, 77);
            let loss = (&y * weights).unwrap().sum_all().unwrap();
            // Both ways of going back.
            let [a, b] = [loss.backward().unwrap(), pad_ops::backward(&loss).unwrap()];
            let gradients = [a, b].map(|store| {
                let of = |var: &Var| store.get(var).unwrap_or_else(|| panic!("{name}")).clone();
                vars.iter().map(of).collect::<Vec<_>>()
            });
            (y, gradients, nodes)
        };
        reference::only(|| {
            let (y, [kept, _], many) = run(Keep::Activations);
            let (again, gradients, few) = run(Keep::Nothing);
            let links = shapes.len().div_ceil(2);
            assert!(few <= 2 + links && few < many, "{name}: {few} nodes, {many} when all is kept");
            close(name, &again, &y, 0.0);
            for gradients in gradients {
                compare(name, &gradients, &kept, 1e-6);
            }
        });
    }
}
