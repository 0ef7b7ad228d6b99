//! Inputs of other kinds: views, half types, no values, values that are not finite, wrong ones.

use candle_core::{DType, Device, Tensor};
use pad_ops::{
    Fusion, Mode, attention_packed, drop_path, dropout, fuse_patchwise, gather_tokens, gelu,
    layer_norm, linear, masked_mse, softmax,
};
use pad_testkit::{close, numbers};

use crate::cases::{F32, F64, FUSIONS, key};

#[test]
fn views_are_read_in_their_own_order() {
    // A transposed view and its contiguous copy are the same operand.
    let x = numbers(&[5, 6, 4], F32, 1).transpose(0, 1).unwrap();
    let copy = x.contiguous().unwrap();
    for (got, want) in [
        (softmax(&x), softmax(&copy)),
        (gelu(&x), gelu(&copy)),
        (
            linear(&x, &numbers(&[4, 3], F32, 2).t().unwrap(), None),
            linear(&copy, &numbers(&[4, 3], F32, 2).t().unwrap().contiguous().unwrap(), None),
        ),
    ] {
        close("view", &got.unwrap(), &want.unwrap(), 0.0);
    }
}

#[test]
fn half_types_take_the_reference() {
    let x = numbers(&[2, 3, 8], DType::BF16, 1);
    let one = Tensor::ones(8, DType::BF16, &Device::Cpu).unwrap();
    let y = layer_norm(&x, &one, &one, 1e-6).unwrap();
    assert_eq!(y.dtype(), DType::BF16);
    let wide = |t: &Tensor| t.to_dtype(F32).unwrap();
    close("bf16", &wide(&y), &layer_norm(&wide(&x), &wide(&one), &wide(&one), 1e-6).unwrap(), 1e-2);
}

#[test]
fn dropout_drops_the_share_it_says() {
    let x = Tensor::ones((100, 1000), F32, &Device::Cpu).unwrap();
    let y = dropout(&x, 0.1, Mode::Train(key())).unwrap();
    let values = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let dropped = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
    assert!((dropped - 0.1).abs() < 0.005, "{dropped}");
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    assert!((mean - 1.0).abs() < 0.005, "{mean}");
    close("eval", &dropout(&x, 0.1, Mode::Eval).unwrap(), &x, 0.0);
    let other = dropout(&x, 0.1, Mode::Train(key().layer(3))).unwrap();
    assert_ne!(values, other.flatten_all().unwrap().to_vec1::<f32>().unwrap());
}

#[test]
fn drop_path_drops_whole_samples() {
    let x = Tensor::ones((400, 3, 2), F32, &Device::Cpu).unwrap();
    let y = drop_path(&x, 0.25, Mode::Train(key())).unwrap().to_vec3::<f32>().unwrap();
    let kept = 1.0 / 0.75;
    let mut dropped = 0;
    for sample in &y {
        let first = sample[0][0];
        assert!(first == 0.0 || (first - kept).abs() < 1e-6);
        assert!(sample.iter().flatten().all(|v| *v == first));
        dropped += usize::from(first == 0.0);
    }
    assert!((80..120).contains(&dropped), "{dropped} of 400");
}

#[test]
fn nan_and_infinities_are_not_hidden() {
    let x = Tensor::new(&[[1.0_f32, f32::NAN, 2.0], [0.0, 1.0, 2.0]], &Device::Cpu).unwrap();
    let y = softmax(&x).unwrap().to_vec2::<f32>().unwrap();
    assert!(y[0].iter().all(|v| v.is_nan()) && y[1].iter().all(|v| v.is_finite()));
    let z = gelu(&Tensor::new(&[f32::NAN, f32::INFINITY], &Device::Cpu).unwrap()).unwrap();
    let z = z.to_vec1::<f32>().unwrap();
    assert!(z[0].is_nan() && z[1] == f32::INFINITY);
}

#[test]
fn no_values_no_panic() {
    let empty = Tensor::zeros((0, 4, 8), F32, &Device::Cpu).unwrap();
    assert_eq!(gelu(&empty).unwrap().dims(), [0, 4, 8]);
    let weight = numbers(&[3, 8], F32, 1);
    assert_eq!(linear(&empty, &weight, None).unwrap().dims(), [0, 4, 3]);
}

#[test]
fn refusals_name_operator_and_argument() {
    let x = numbers(&[2, 3, 8], F32, 1);
    let ones = |n: usize| Tensor::ones(n, F32, &Device::Cpu).unwrap();
    let text = |result: pad_ops::Result<Tensor>| result.unwrap_err().to_string();
    let ids = Tensor::new(&[[0_u32, 3], [0, 1]], &Device::Cpu).unwrap();
    let kept = Tensor::zeros((2, 3), F32, &Device::Cpu).unwrap();
    let table = [
        (
            text(layer_norm(&x, &ones(7), &ones(8), 1e-6)),
            "layer_norm: `weight` has shape [7], expected [8]",
        ),
        (
            text(linear(&x, &numbers(&[4, 9], F32, 0), None)),
            "linear: `weight` has shape [4, 9], expected [4, 8]",
        ),
        (
            text(linear(&x, &numbers(&[4, 8], F64, 0), None)),
            "linear: `weight` has dtype F64, expected F32, BF16 or F16",
        ),
        (
            text(attention_packed(&numbers(&[1, 2, 12], F32, 0), 3)),
            "attention_packed: `num_heads` is 3, expected a divisor of embed_dim (12 / 3)",
        ),
        (text(gather_tokens(&x, &ids)), "gather_tokens: `ids` is 3, expected every index below 3"),
        (
            text(masked_mse(&x, &x, &kept)),
            "masked_mse: `mask` is none, expected at least one removed patch",
        ),
        (text(dropout(&x, 1.0, Mode::Eval)), "dropout: `p` is 1, expected 0 <= p < 1"),
        (
            text(fuse_patchwise(&x, &x, &numbers(&[1, 8], F32, 0), Fusion::Concat)),
            "fuse_patchwise: `gate` has shape [1, 8], expected [1, 16]",
        ),
        (text(softmax(&ids)), "softmax: `x` has dtype U32, expected a floating dtype"),
    ];
    for (got, want) in table {
        assert_eq!(got, want);
    }
    for fusion in FUSIONS {
        assert_eq!(fusion.gate_width(8), if fusion == Fusion::Concat { 16 } else { 8 });
    }
}
