//! Operators on maps: kernels against references, gradients against finite differences, PyTorch's
//! recorded results.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_ops::{
    CrossEntropy, HardPixels, ImageSize, Moments, PixelMean, Windows, adaptive_avg_pool2d,
    batch_norm2d, batch_norm2d_with, channel_norm2d, conv_transpose2x2, conv2d, cross_entropy2d,
    max_pool2d, reference, resize_bilinear, window_partition, window_unpartition,
};
use pad_testkit::{Precision, close, golden, gradcheck, largest, numbers};
use proptest::prelude::*;

const F32: DType = DType::F32;
const F64: DType = DType::F64;

type Op = fn(&[Tensor], &Sizes) -> Result<Tensor>;

/// An operator with its reference and the shapes of its operands, made from a few sizes.
struct Case {
    name: &'static str,
    fast: Op,
    reference: Op,
    shapes: fn(&Sizes) -> Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    b: usize,
    c: usize,
    o: usize,
    h: usize,
    w: usize,
}

fn maps(s: &Sizes) -> Vec<usize> {
    vec![s.b, s.c, s.h, s.w]
}

/// Statistics that no operand moves.
fn moments(t: &[Tensor]) -> Result<Moments> {
    let of = |salt| numbers(t[1].dims(), t[1].dtype(), salt);
    Ok(Moments { mean: of(31), variance: (of(32).sqr()? + 0.1)? })
}

/// Another size, both larger and smaller than the image.
fn other(s: &Sizes) -> ImageSize {
    ImageSize::new(s.h * 2 + 1, s.w.div_ceil(2))
}

fn labels(s: &Sizes) -> Result<Tensor> {
    let label = |i: usize| if i % 5 == 3 { 255 } else { (i * 7 % s.c) as u8 };
    let labels: Vec<u8> = (0..s.b * s.h * s.w).map(label).collect();
    Tensor::from_vec(labels, (s.b, s.h, s.w), &Device::Cpu)
}

fn weighted(s: &Sizes) -> CrossEntropy {
    CrossEntropy {
        class_weights: Some((0..s.c).map(|i| 0.5 + i as f32 * 0.3).collect()),
        mean: PixelMean::Valid,
        ..CrossEntropy::default()
    }
}

fn windows(s: &Sizes) -> Windows {
    Windows { height: s.h, width: s.w, side: 1 + s.o % 5 }
}

fn hard(threshold: Option<f64>) -> CrossEntropy {
    let hard = Some(HardPixels { threshold, min_kept: 3 });
    CrossEntropy { hard, ..CrossEntropy::default() }
}

macro_rules! case {
    ($name:literal, $op:ident, $shapes:expr, |$t:ident, $s:ident| ($($arg:expr),*) $($end:tt)*) => {
        Case {
            name: $name,
            fast: |$t, $s| { let _ = $s; Ok($op($($arg),*)?$($end)*) },
            reference: |$t, $s| { let _ = $s; Ok(reference::$op($($arg),*)?$($end)*) },
            shapes: $shapes,
        }
    };
}

const CASES: [Case; 18] = [
    case!("conv2d 1", conv2d, |s| vec![maps(s), vec![s.o, s.c, 1, 1], vec![s.o]], |t, s| (
        &t[0],
        &t[1],
        Some(&t[2]),
        0
    )),
    case!("conv2d 1, padded", conv2d, |s| vec![maps(s), vec![s.o, s.c, 1, 1]], |t, s| (
        &t[0], &t[1], None, 1
    )),
    case!("conv2d 3", conv2d, |s| vec![maps(s), vec![s.o, s.c, 3, 3], vec![s.o]], |t, s| (
        &t[0],
        &t[1],
        Some(&t[2]),
        1
    )),
    case!("conv2d 5", conv2d, |s| vec![maps(s), vec![s.o, s.c, 5, 5]], |t, s| (
        &t[0], &t[1], None, 4
    )),
    case!(
        "conv_transpose2x2",
        conv_transpose2x2,
        |s| vec![maps(s), vec![s.c, s.o, 2, 2], vec![s.o]],
        |t, s| (&t[0], &t[1], Some(&t[2]))
    ),
    case!("max_pool2d 1", max_pool2d, |s| vec![maps(s)], |t, s| (&t[0], 1, 2)),
    case!("max_pool2d 2", max_pool2d, |s| vec![vec![s.b, s.c, s.h + 1, s.w + 1]], |t, s| (
        &t[0], 2, 2
    )),
    case!("adaptive_avg_pool2d 3", adaptive_avg_pool2d, |s| vec![maps(s)], |t, s| (
        &t[0],
        ImageSize::square(3)
    )),
    case!("resize_bilinear", resize_bilinear, |s| vec![maps(s)], |t, s| (&t[0], other(s), false)),
    case!("resize_bilinear, corners", resize_bilinear, |s| vec![maps(s)], |t, s| (
        &t[0],
        other(s),
        true
    )),
    case!(
        "batch_norm2d",
        batch_norm2d,
        |s| vec![vec![s.b, s.c, s.h + 1, s.w + 1], vec![s.c], vec![s.c]],
        |t, s| (&t[0], &t[1], &t[2], 1e-5).0
    ),
    case!(
        "batch_norm2d_with",
        batch_norm2d_with,
        |s| vec![maps(s), vec![s.c], vec![s.c]],
        |t, s| (&t[0], &moments(t)?, &t[1], &t[2], 1e-5)
    ),
    case!(
        "channel_norm2d",
        channel_norm2d,
        |s| vec![vec![s.b, s.c + 1, s.h, s.w], vec![s.c + 1], vec![s.c + 1]],
        |t, s| (&t[0], &t[1], &t[2], 1e-2)
    ),
    case!("window_partition", window_partition, |s| vec![vec![s.b, s.h * s.w, s.c]], |t, s| (
        &t[0],
        windows(s)
    )),
    case!(
        "window_unpartition",
        window_unpartition,
        |s| vec![vec![s.b * windows(s).count(), windows(s).tokens(), s.c]],
        |t, s| (&t[0], windows(s))
    ),
    case!("cross_entropy2d", cross_entropy2d, |s| vec![maps(s)], |t, s| (
        &t[0],
        &labels(s)?,
        &CrossEntropy::default()
    )),
    case!("cross_entropy2d, weighted", cross_entropy2d, |s| vec![maps(s)], |t, s| (
        &t[0],
        &labels(s)?,
        &weighted(s)
    )),
    case!("cross_entropy2d, hard", cross_entropy2d, |s| vec![maps(s)], |t, s| (
        &t[0],
        &labels(s)?,
        &hard(Some(0.3))
    )),
];

fn operands(case: &Case, sizes: &Sizes, dtype: DType) -> Vec<Tensor> {
    let shapes = (case.shapes)(sizes);
    shapes.iter().enumerate().map(|(i, shape)| numbers(shape, dtype, i as u64)).collect()
}

/// Output and the gradient to every operand, of a loss with a residual.
fn run(op: Op, operands: &[Tensor], sizes: &Sizes) -> Result<(Tensor, Vec<Tensor>)> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = op(&tracked, sizes)?;
    let mut loss = (&out * numbers(out.dims(), out.dtype(), 77))?.sum_all()?;
    for tensor in &tracked {
        loss = (loss + (tensor.sqr()? * 0.1)?.sum_all()?)?;
    }
    let grads = loss.backward()?;
    let grads = vars.iter().map(|v| grads.get(v.as_tensor()).cloned().expect("a gradient"));
    Ok((out.detach(), grads.collect()))
}

fn fast_equals_reference(case: &Case, sizes: Sizes) {
    let operands = operands(case, &sizes, F32);
    let (fast, fast_grads) = run(case.fast, &operands, &sizes).unwrap();
    // In f64: sums that nearly cancel would otherwise compare the rounding of two orders of
    // addition.
    let exact: Vec<Tensor> = operands.iter().map(|x| x.to_dtype(F64).unwrap()).collect();
    let (want, want_grads) = run(case.reference, &exact, &sizes).unwrap();
    let name = format!("{} {sizes:?}", case.name);
    if largest(&want) == 0.0 {
        assert_eq!(largest(&fast), 0.0, "{name}");
    } else {
        close(&name, &fast, &want, 2e-5);
    }
    for (i, (got, want)) in fast_grads.iter().zip(&want_grads).enumerate() {
        close(&format!("{name}, gradient {i}"), got, want, 1e-4);
    }
}

#[test]
fn corner_sizes() {
    let table = [
        Sizes { b: 1, c: 1, o: 1, h: 1, w: 1 },
        Sizes { b: 2, c: 3, o: 5, h: 1, w: 7 },
        Sizes { b: 2, c: 1, o: 1, h: 11, w: 13 }, // a bias whose gradient nearly cancels
        Sizes { b: 3, c: 17, o: 2, h: 9, w: 5 },
        Sizes { b: 1, c: 64, o: 9, h: 45, w: 61 }, // convolution in several blocks of rows
        Sizes { b: 2, c: 16, o: 17, h: 1, w: 1 },  // Winograd's tiles from here on
        Sizes { b: 1, c: 18, o: 16, h: 5, w: 8 },
        Sizes { b: 2, c: 33, o: 20, h: 6, w: 7 },
        Sizes { b: 1, c: 160, o: 31, h: 47, w: 62 }, // in several blocks
    ];
    for case in &CASES {
        for sizes in table {
            fast_equals_reference(case, sizes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_sizes(b in 1_usize..4, c in 1_usize..9, o in 1_usize..9, h in 1_usize..14, w in 1_usize..14) {
        for case in &CASES {
            fast_equals_reference(case, Sizes { b, c, o, h, w });
        }
    }
}

/// Weights too many for one group of Winograd's transforms.
#[test]
fn groups_of_outputs() {
    let sizes = Sizes { b: 1, c: 1100, o: 250, h: 5, w: 6 };
    fast_equals_reference(&CASES[2], sizes);
}

#[test]
fn finite_differences() {
    let sizes = Sizes { b: 2, c: 3, o: 2, h: 4, w: 5 };
    let wide = Sizes { b: 1, c: 17, o: 16, h: 3, w: 4 };
    let f = |t: &[Tensor]| (CASES[2].fast)(t, &wide);
    gradcheck("Winograd", &operands(&CASES[2], &wide, F32), Precision::F32, f);
    for case in &CASES {
        // Steps must not move a pixel over the edge between hard and easy, nor change a maximum.
        if case.name.contains("hard") || case.name.contains("max_pool") {
            continue;
        }
        let f = |t: &[Tensor]| (case.fast)(t, &sizes);
        gradcheck(case.name, &operands(case, &sizes, F32), Precision::F32, f);
        gradcheck(case.name, &operands(case, &sizes, F64), Precision::F64, f);
    }
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let sizes = Sizes { b: 3, c: 70, o: 33, h: 40, w: 37 };
    for case in &CASES {
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (out, grads) = run(case.fast, &operands(case, &sizes, F32), &sizes).unwrap();
                let tensors = std::iter::once(&out).chain(&grads);
                let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                tensors.flat_map(flat).map(f32::to_bits).collect::<Vec<u32>>()
            })
        };
        let one = bits(1);
        assert_eq!(one, bits(2), "{}", case.name);
        assert_eq!(one, bits(3), "{}", case.name);
    }
}

#[test]
fn frozen_operands_get_no_gradient() {
    let x = Var::from_tensor(&numbers(&[1, 2, 4, 4], F32, 0)).unwrap();
    let weight = numbers(&[3, 2, 3, 3], F32, 1);
    let up = numbers(&[2, 3, 2, 2], F32, 2);
    let one = Tensor::ones(2, F32, &Device::Cpu).unwrap();
    for y in [
        conv2d(&x, &weight, None, 1).unwrap(),
        conv_transpose2x2(&x, &up, None).unwrap(),
        batch_norm2d(&x, &one, &one, 1e-5).unwrap().0,
    ] {
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(largest(grads.get(&x).unwrap()) > 0.0);
        assert!(
            grads.get(&weight).is_none() && grads.get(&up).is_none() && grads.get(&one).is_none()
        );
    }
    // And a frozen input with a trained weight.
    let weight = Var::from_tensor(&weight).unwrap();
    let frozen = x.as_detached_tensor();
    let y = conv2d(&frozen, &weight, None, 1).unwrap().sqr().unwrap().sum_all().unwrap();
    let grads = y.backward().unwrap();
    assert!(largest(grads.get(&weight).unwrap()) > 0.0 && grads.get(&frozen).is_none());
}

/// Every `out.{i}` of a golden file and the gradient of `sum(out * w)`.
fn equals_pytorch(file: &str, count: usize, op: impl Fn(&Tensor, &Tensor) -> Tensor) {
    let golden = golden(&format!("segmentation/{file}"));
    for i in 0..count {
        let x = Var::from_tensor(&golden[&format!("input.{i}")]).unwrap();
        let w = &golden[&format!("input.w{i}")];
        let y = op(&x, w);
        close(&format!("{file} {i}"), &y, &golden[&format!("out.{i}")], 1e-5);
        let grads = (y * w).unwrap().sum_all().unwrap().backward().unwrap();
        let want = &golden[&format!("grad.input.{i}")];
        close(&format!("{file} gradient {i}"), grads.get(&x).unwrap(), want, 1e-5);
    }
}

fn size_of(map: &Tensor) -> ImageSize {
    let (_, _, height, width) = map.dims4().unwrap();
    ImageSize { height, width }
}

#[test]
fn resizing_equals_pytorch() {
    equals_pytorch("resize_bilinear", 9, |x, w| resize_bilinear(x, size_of(w), false).unwrap());
}

#[test]
fn pooling_equals_pytorch() {
    equals_pytorch("adaptive_avg_pool", 24, |x, w| adaptive_avg_pool2d(x, size_of(w)).unwrap());
}

#[test]
fn corners_stay_where_they_are() {
    let x = Tensor::new(&[[[[0_f32, 1.0], [2.0, 3.0]]]], &Device::Cpu).unwrap();
    let y = resize_bilinear(&x, ImageSize::square(3), true).unwrap();
    let want = [[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]];
    assert_eq!(y.squeeze(0).unwrap().squeeze(0).unwrap().to_vec2::<f32>().unwrap(), want);
}

#[test]
fn maxima_go_to_the_first_of_equals_and_nan_shows() {
    let x = Tensor::new(&[[[[1_f32, 1.0], [0.0, f32::NAN]]]], &Device::Cpu).unwrap();
    assert!(
        max_pool2d(&x, 2, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0].is_nan()
    );
    let x = Var::from_tensor(&Tensor::ones((1, 1, 2, 2), F32, &Device::Cpu).unwrap()).unwrap();
    let grads = max_pool2d(&x, 2, 2).unwrap().sum_all().unwrap().backward().unwrap();
    let d_x = grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(d_x, [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn batch_norm_measures_unbiased_variances() {
    let x = Tensor::new(&[[[[1_f32, 2.0], [3.0, 6.0]]]], &Device::Cpu).unwrap();
    let one = Tensor::ones(1, F32, &Device::Cpu).unwrap();
    let (_, moments) = batch_norm2d(&x, &one, &one, 1e-5).unwrap();
    assert_eq!(moments.mean.to_vec1::<f32>().unwrap(), [3.0]);
    let variance = moments.variance.to_vec1::<f32>().unwrap()[0];
    assert!((variance - 14.0 / 3.0).abs() < 1e-5, "{variance}");
    // Far from zero: no cancellation.
    let far = (&x + 10_000.0).unwrap();
    let (_, moments) = batch_norm2d(&far, &one, &one, 1e-5).unwrap();
    let variance = moments.variance.to_vec1::<f32>().unwrap()[0];
    assert!((variance - 14.0 / 3.0).abs() < 1e-3, "{variance}");
}

fn scalar(tensor: &Tensor) -> f32 {
    tensor.to_scalar::<f32>().unwrap()
}

#[test]
fn cross_entropy_divides_as_it_is_told() {
    // Two classes, logits 0: every pixel costs ln 2.
    let logits = Tensor::zeros((1, 2, 1, 4), F32, &Device::Cpu).unwrap();
    let labels = Tensor::new(&[[[0_u8, 1, 255, 255]]], &Device::Cpu).unwrap();
    let ln2 = std::f32::consts::LN_2;
    let loss =
        |options: &CrossEntropy| scalar(&cross_entropy2d(&logits, &labels, options).unwrap());
    let all = CrossEntropy::default();
    assert!((loss(&all) - ln2 / 2.0).abs() < 1e-6);
    let valid = CrossEntropy { mean: PixelMean::Valid, ..all.clone() };
    assert!((loss(&valid) - ln2).abs() < 1e-6);
    let weights = Some(vec![3.0, 1.0]);
    assert!((loss(&CrossEntropy { class_weights: weights.clone(), ..all }) - ln2).abs() < 1e-6);
    assert!((loss(&CrossEntropy { class_weights: weights, ..valid }) - ln2).abs() < 1e-6);
}

#[test]
fn a_batch_without_a_label_costs_nothing() {
    let nan = Tensor::full(f32::NAN, (2, 3, 2, 2), &Device::Cpu).unwrap();
    for logits in [numbers(&[2, 3, 2, 2], F32, 1), nan] {
        let logits = Var::from_tensor(&logits).unwrap();
        let labels = Tensor::full(255_u32, (2, 2, 2), &Device::Cpu).unwrap();
        for mean in [PixelMean::All, PixelMean::Valid] {
            for hard in [None, hard(Some(0.7)).hard, hard(None).hard] {
                let options = CrossEntropy { mean, hard, ..CrossEntropy::default() };
                let loss = cross_entropy2d(&logits, &labels, &options).unwrap();
                assert_eq!(scalar(&loss), 0.0);
                assert_eq!(largest(loss.backward().unwrap().get(&logits).unwrap()), 0.0);
            }
        }
    }
}

#[test]
fn hard_pixels_are_those_of_low_probability() {
    // Probabilities of the own class: about 0.9, 0.5, 0.1, 0.02.
    let odds = [2.197_f32, 0.0, -2.197, -3.892];
    let logits = Tensor::new(&[[[odds], [[0.0; 4]]]], &Device::Cpu).unwrap();
    let labels = Tensor::zeros((1, 1, 4), DType::U8, &Device::Cpu).unwrap();
    let counted = |threshold, min_kept| {
        let hard = Some(HardPixels { threshold, min_kept });
        let logits = Var::from_tensor(&logits).unwrap();
        let options = CrossEntropy { hard, ..CrossEntropy::default() };
        let loss = cross_entropy2d(&logits, &labels, &options).unwrap();
        let grads = loss.backward().unwrap();
        let d = grads.get(&logits).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (0..4).map(|i| d[i] != 0.0).collect::<Vec<bool>>()
    };
    assert_eq!(counted(Some(0.3), 0), [false, false, true, true]);
    assert_eq!(counted(Some(0.05), 2), [false, false, true, true], "at least two");
    assert_eq!(counted(Some(0.95), 1), [true; 4]);
    assert_eq!(counted(None, 1), [false, false, false, true]);
    assert_eq!(counted(None, 9), [true; 4]);
}

#[test]
fn refusals_name_operator_and_argument() {
    let x = numbers(&[1, 2, 4, 5], F32, 0);
    let one = Tensor::ones(2, F32, &Device::Cpu).unwrap();
    let label = |value: u8| Tensor::full(value, (1, 4, 5), &Device::Cpu).unwrap();
    let options = CrossEntropy::default();
    let weights = |weights: &[f32]| CrossEntropy {
        class_weights: Some(weights.to_vec()),
        ..CrossEntropy::default()
    };
    let dot = numbers(&[1, 2, 1, 1], F32, 0);
    let table = [
        (
            conv2d(&x, &numbers(&[3, 1, 3, 3], F32, 0), None, 1),
            "conv2d: `weight` has shape [3, 1, 3, 3], expected [3, 2, 3, 3]",
        ),
        (
            conv2d(&x, &numbers(&[3, 2, 7, 7], F32, 0), None, 1),
            "conv2d: `weight` is 7x7 dilated by 1x1, expected a kernel of at most the image, 4x5 padded by 1x1",
        ),
        (
            conv_transpose2x2(&x, &numbers(&[2, 3, 3, 3], F32, 0), None),
            "conv_transpose2x2: `weight` has shape [2, 3, 3, 3], expected [2, 3, 2, 2]",
        ),
        (
            max_pool2d(&x, 5, 1),
            "max_pool2d: `kernel` is 5, expected between 1 and the image's smaller side 4",
        ),
        (max_pool2d(&x, 2, 0), "max_pool2d: `stride` is 0, expected at least 1"),
        (
            adaptive_avg_pool2d(&x, ImageSize::new(0, 2)),
            "adaptive_avg_pool2d: `size` is 0x2, expected at least 1x1",
        ),
        (
            resize_bilinear(&x, ImageSize::new(2, 0), false),
            "resize_bilinear: `size` is 2x0, expected at least 1x1",
        ),
        (
            batch_norm2d(&dot, &one, &one, 1e-5).map(|(y, _)| y),
            "batch_norm2d: `x` is 1, expected more than one value per channel to take statistics of",
        ),
        (
            cross_entropy2d(&x, &label(2), &options),
            "cross_entropy2d: `labels` is 2 in image 0 at row 0, column 0, expected a label below 2, or 255 to be ignored",
        ),
        (
            cross_entropy2d(&x, &label(0).narrow(1, 0, 3).unwrap(), &options),
            "cross_entropy2d: `labels` has shape [1, 3, 5], expected [1, 4, 5]",
        ),
        (
            cross_entropy2d(&x, &x.narrow(1, 0, 1).unwrap().squeeze(1).unwrap(), &options),
            "cross_entropy2d: `labels` has dtype F32, expected U8 or U32",
        ),
        (
            cross_entropy2d(&x, &label(0), &weights(&[1.0])),
            "cross_entropy2d: `class_weights` is 1 weights, expected one weight for each of 2 classes",
        ),
        (
            cross_entropy2d(&x, &label(0), &weights(&[1.0, -1.0])),
            "cross_entropy2d: `class_weights` is -1, expected finite weights >= 0",
        ),
    ];
    for (got, want) in table {
        assert_eq!(got.unwrap_err().to_string(), want);
    }
}

#[test]
fn no_values_no_panic() {
    let empty = Tensor::zeros((0, 2, 4, 4), F32, &Device::Cpu).unwrap();
    assert_eq!(max_pool2d(&empty, 2, 2).unwrap().dims(), [0, 2, 2, 2]);
    assert_eq!(resize_bilinear(&empty, ImageSize::square(3), false).unwrap().dims(), [0, 2, 3, 3]);
    assert_eq!(adaptive_avg_pool2d(&empty, ImageSize::square(2)).unwrap().dims(), [0, 2, 2, 2]);
}
