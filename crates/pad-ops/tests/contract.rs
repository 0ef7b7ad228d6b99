//! What every operator promises, walked over all of them: empty operands, forward and backward;
//! errors that name the operator for wrong shapes and dtypes; constants that mean nothing; half
//! precision beside `f32`.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_ops::{
    AdapterScale, AdapterWeights, AttentionBias, AttentionOptions, AttentionWeights, Conv2dOptions,
    CrossEntropy, Fusion, HardPixels, ImageBox, ImageSize, Keep, LinearWeights, MlpWeights, Mode,
    Moments, NormWeights, RoiAlign, Windows, rng::Key,
};
use pad_testkit::{close, largest, numbers};

const F32: DType = DType::F32;

#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Images.
    b: usize,
    /// Tokens or rows.
    n: usize,
    /// Channels or columns.
    c: usize,
}

struct Case {
    name: &'static str,
    op: fn(&[Tensor], Sizes) -> pad_ops::Result<Tensor>,
    shapes: fn(Sizes) -> Vec<Vec<usize>>,
}

fn train() -> Mode {
    Mode::Train(Key::new(4).layer(1))
}

fn like(tensor: Tensor, other: &Tensor) -> Tensor {
    tensor.to_dtype(other.dtype()).unwrap()
}

fn map(s: Sizes) -> Vec<usize> {
    vec![s.b, s.c, s.n, 5]
}

fn norm(weight: &Tensor, bias: &Tensor) -> NormWeights {
    NormWeights { weight: weight.clone(), bias: bias.clone(), eps: 1e-5 }
}

fn dense(weight: &Tensor, bias: &Tensor) -> LinearWeights {
    LinearWeights::new(weight.clone(), Some(bias.clone()))
}

fn attention_weights(t: &[Tensor], eps: f64) -> AttentionWeights {
    let norm = NormWeights { eps, ..norm(&t[1], &t[2]) };
    AttentionWeights::new(norm, dense(&t[3], &t[4]), dense(&t[5], &t[6]), 1)
}

fn mlp_weights(t: &[Tensor], scale: AdapterScale, dropout: f64) -> MlpWeights {
    let adapter = AdapterWeights {
        norm: None,
        down: dense(&t[7], &t[8]),
        up: dense(&t[9], &t[10]),
        dropout,
        scale,
    };
    let plain = MlpWeights::new(norm(&t[1], &t[2]), dense(&t[3], &t[4]), dense(&t[5], &t[6]));
    MlpWeights { adapter: Some(adapter), ..plain }
}

fn mlp_shapes(s: Sizes) -> Vec<Vec<usize>> {
    let (c, h, k) = (s.c, 6, 2);
    let all = [vec![s.b, s.n, c], vec![c], vec![c], vec![h, c], vec![h], vec![c, h], vec![c]];
    let adapter = [vec![k, c], vec![k], vec![c, k], vec![c]];
    all.into_iter().chain(adapter).collect()
}

fn decomposed(t: &[Tensor]) -> AttentionBias {
    AttentionBias::Decomposed { rows: t[1].clone(), columns: t[2].clone() }
}

const CASES: &[Case] = &[
    Case {
        name: "layer_norm",
        op: |t, _| pad_ops::layer_norm(&t[0], &t[1], &t[2], 1e-5),
        shapes: |s| vec![vec![s.b, s.n, s.c], vec![s.c], vec![s.c]],
    },
    Case {
        name: "softmax",
        op: |t, _| pad_ops::softmax(&t[0]),
        shapes: |s| vec![vec![s.b, s.n, s.c]],
    },
    Case {
        name: "linear",
        op: |t, _| pad_ops::linear(&t[0], &t[1], Some(&t[2])),
        shapes: |s| vec![vec![s.b, s.n, s.c], vec![6, s.c], vec![6]],
    },
    Case { name: "gelu", op: |t, _| pad_ops::gelu(&t[0]), shapes: |s| vec![vec![s.b, s.n, s.c]] },
    Case {
        name: "dropout",
        op: |t, _| pad_ops::dropout(&t[0], 0.3, train()),
        shapes: |s| vec![vec![s.b, s.n, s.c]],
    },
    Case {
        name: "drop_path",
        op: |t, _| pad_ops::drop_path(&t[0], 0.3, train()),
        shapes: |s| vec![vec![s.b, s.n, s.c]],
    },
    Case {
        name: "attention",
        op: |t, _| {
            let options = AttentionOptions { causal: true, ..AttentionOptions::of_head_dim(4) };
            pad_ops::attention_with(&t[0], &t[1], &t[2], Some(&t[3]), &options)
        },
        shapes: |s| {
            let keys = vec![s.b, 1, 9, 4];
            vec![vec![s.b, 2, s.n, 4], keys, vec![s.b, 1, 9, s.c], vec![s.n, 9]]
        },
    },
    Case {
        name: "attention_packed",
        op: |t, _| pad_ops::attention_packed(&t[0], 1),
        shapes: |s| vec![vec![s.b, s.n, 3 * s.c]],
    },
    Case {
        name: "attention_packed_biased",
        op: |t, _| {
            pad_ops::attention_packed_biased(&t[0], 1, &AttentionBias::PerHead(t[1].clone()))
        },
        shapes: |s| vec![vec![s.b, s.n, 3 * s.c], vec![1, s.n, s.n]],
    },
    Case {
        name: "attention_packed_biased",
        op: |t, _| pad_ops::attention_packed_biased(&t[0], 1, &decomposed(t)),
        shapes: |s| vec![vec![s.b, s.n, 3 * s.c], vec![s.b, 1, s.n, s.n], vec![s.b, 1, s.n, 1]],
    },
    Case {
        name: "attention_branch",
        op: |t, _| pad_ops::attention_branch(&t[0], &attention_weights(t, 1e-5), Keep::Activations),
        shapes: |s| {
            let c = s.c;
            let all = [vec![s.b, s.n, c], vec![c], vec![c], vec![3 * c, c], vec![3 * c]];
            all.into_iter().chain([vec![c, c], vec![c]]).collect()
        },
    },
    Case {
        name: "mlp_branch",
        op: |t, _| {
            let weights = mlp_weights(t, AdapterScale::Fixed(0.1), 0.1);
            pad_ops::mlp_branch(&t[0], &weights, train(), Keep::Nothing)
        },
        shapes: mlp_shapes,
    },
    Case {
        name: "fuse_patchwise",
        op: |t, _| pad_ops::fuse_patchwise(&t[0], &t[1], &t[2], Fusion::Concat),
        shapes: |s| vec![vec![s.b, s.n, s.c], vec![s.b, s.n, s.c], vec![1, 2 * s.c]],
    },
    Case {
        name: "patchwise_scales",
        op: |t, _| pad_ops::patchwise_scales(&t[0], &t[1], &t[2], Fusion::Concat),
        shapes: |s| vec![vec![s.b, s.n, s.c], vec![s.b, s.n, s.c], vec![1, 2 * s.c]],
    },
    Case {
        name: "gather_tokens",
        op: |t, s| {
            let ids = Tensor::zeros((s.b, s.n.min(2)), DType::U32, &Device::Cpu)?;
            pad_ops::gather_tokens(&t[0], &ids)
        },
        shapes: |s| vec![vec![s.b, s.n, s.c]],
    },
    Case {
        name: "masked_mse",
        op: |t, s| {
            let mask = like(Tensor::ones((s.b, s.n), F32, &Device::Cpu)?, &t[0]);
            pad_ops::masked_mse(&t[0], &t[0].zeros_like()?, &mask)
        },
        shapes: |s| vec![vec![s.b, s.n, s.c]],
    },
    Case {
        name: "normalize_patches",
        op: |t, _| pad_ops::normalize_patches(&t[0]),
        shapes: |s| vec![vec![s.b, s.n, s.c]],
    },
    Case {
        name: "conv2d",
        op: |t, _| pad_ops::conv2d(&t[0], &t[1], Some(&t[2]), 1),
        shapes: |s| vec![map(s), vec![4, s.c, 3, 3], vec![4]],
    },
    Case {
        name: "conv2d",
        op: |t, _| {
            let options =
                Conv2dOptions { stride: ImageSize::square(2), groups: 2, ..Default::default() };
            pad_ops::conv2d_with(&t[0], &t[1], Some(&t[2]), options)
        },
        shapes: |s| vec![vec![s.b, 2 * s.c, s.n, 5], vec![6, s.c, 2, 1], vec![6]],
    },
    Case {
        name: "conv_transpose2x2",
        op: |t, _| pad_ops::conv_transpose2x2(&t[0], &t[1], Some(&t[2])),
        shapes: |s| vec![map(s), vec![s.c, 4, 2, 2], vec![4]],
    },
    Case {
        name: "max_pool2d",
        op: |t, _| pad_ops::max_pool2d(&t[0], 2, 2),
        shapes: |s| vec![map(s)],
    },
    Case {
        name: "adaptive_avg_pool2d",
        op: |t, _| pad_ops::adaptive_avg_pool2d(&t[0], ImageSize::new(3, 4)),
        shapes: |s| vec![map(s)],
    },
    Case {
        name: "resize_bilinear",
        op: |t, _| pad_ops::resize_bilinear(&t[0], ImageSize::new(3, 9), false),
        shapes: |s| vec![map(s)],
    },
    Case {
        name: "batch_norm2d",
        op: |t, _| Ok(pad_ops::batch_norm2d(&t[0], &t[1], &t[2], 1e-5)?.0),
        shapes: |s| vec![map(s), vec![s.c], vec![s.c]],
    },
    Case {
        name: "batch_norm2d_with",
        op: |t, _| {
            let one = Tensor::ones(t[1].dims(), F32, &Device::Cpu)?.to_dtype(t[0].dtype())?;
            let moments = Moments { mean: one.clone(), variance: one };
            pad_ops::batch_norm2d_with(&t[0], &moments, &t[1], &t[2], 1e-5)
        },
        shapes: |s| vec![map(s), vec![s.c], vec![s.c]],
    },
    Case {
        name: "channel_norm2d",
        op: |t, _| pad_ops::channel_norm2d(&t[0], &t[1], &t[2], 1e-5),
        shapes: |s| vec![map(s), vec![s.c], vec![s.c]],
    },
    Case {
        name: "roi_align",
        op: |t, s| {
            let roi = ImageBox { map: 0, image: 0, bbox: [0.5, 0.5, 3.0, 3.0] };
            let rois = if s.b == 0 { vec![] } else { vec![roi] };
            pad_ops::roi_align(&[t[0].clone()], &[1.0], &rois, RoiAlign::square(2))
        },
        shapes: |s| vec![map(s)],
    },
    Case {
        name: "window_partition",
        op: |t, s| {
            let windows = Windows { height: s.n, width: 2, side: 2 };
            pad_ops::window_partition(&t[0], windows)
        },
        shapes: |s| vec![vec![s.b, 2 * s.n, s.c]],
    },
    Case {
        name: "window_unpartition",
        op: |t, s| {
            let windows = Windows { height: s.n, width: 2, side: 2 };
            pad_ops::window_unpartition(&t[0], windows)
        },
        shapes: |s| vec![vec![s.b * s.n.div_ceil(2), 4, s.c]],
    },
    Case {
        name: "cross_entropy2d",
        op: |t, s| {
            let labels = Tensor::zeros((s.b, s.n, 5), DType::U8, &Device::Cpu)?;
            pad_ops::cross_entropy2d(&t[0], &labels, &CrossEntropy::default())
        },
        shapes: |s| vec![map(s)],
    },
];

/// What the documentation says is an error without values: operator and what is empty.
const UNDEFINED: &[(&str, &str)] = &[
    ("masked_mse", "bnc"),        // 0 / 0
    ("batch_norm2d", "bn"),       // the variance of no value
    ("max_pool2d", "n"),          // no window fits
    ("conv2d", "n"),              // the kernel is larger than the image
    ("adaptive_avg_pool2d", "n"), // the mean of no pixel
    ("resize_bilinear", "n"),     // between no pixels
    ("window_partition", "n"),    // a grid without tokens
    ("window_unpartition", "n"),
    ("cross_entropy2d", "c"), // labels of no class
];

fn operands(case: &Case, sizes: Sizes, dtype: DType) -> Vec<Tensor> {
    let shapes = (case.shapes)(sizes);
    shapes.iter().enumerate().map(|(i, shape)| numbers(shape, dtype, i as u64)).collect()
}

type Found = (Tensor, Vec<Option<Tensor>>);

fn run(case: &Case, sizes: Sizes, operands: &[Tensor]) -> pad_ops::Result<Found> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = (case.op)(&tracked, sizes)?;
    let grads = (&y * like(numbers(y.dims(), F32, 77), &y))?.sum_all()?.backward()?;
    Ok((y.detach(), vars.iter().map(|v| grads.get(v.as_tensor()).cloned()).collect()))
}

#[test]
fn every_operator_takes_no_values() {
    const WHOLE: Sizes = Sizes { b: 2, n: 4, c: 4 };
    for case in CASES {
        run(case, WHOLE, &operands(case, WHOLE, F32)).unwrap();
        for (what, sizes) in [
            ("b", Sizes { b: 0, ..WHOLE }),
            ("n", Sizes { n: 0, ..WHOLE }),
            ("c", Sizes { c: 0, ..WHOLE }),
            ("bn", Sizes { b: 0, n: 0, ..WHOLE }),
        ] {
            for dtype in [F32, DType::F64, DType::BF16] {
                let name = format!("{} without `{what}` in {dtype:?}", case.name);
                let operands = operands(case, sizes, dtype);
                let undefined = UNDEFINED.iter().any(|(op, faults)| {
                    *op == case.name && what.chars().all(|what| faults.contains(what))
                        || *op == case.name && what == "bn" && faults.contains('n')
                });
                let found = run(case, sizes, &operands);
                if undefined {
                    let text =
                        found.err().unwrap_or_else(|| panic!("{name}: no error")).to_string();
                    assert!(text.starts_with(&format!("{}: `", case.name)), "{name}: {text}");
                    continue;
                }
                let (y, grads) = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(y.dtype(), dtype, "{name}");
                for (operand, gradient) in operands.iter().zip(grads) {
                    // Targets are data, and a result that is its operand has one of its own.
                    if case.name == "normalize_patches" {
                        continue;
                    }
                    let Some(gradient) = gradient else {
                        // candle's sum of two empty tensors is the first of them: a residual
                        // around nothing does not reach the weights.
                        assert!(case.name.ends_with("_branch"), "{name}: no gradient");
                        continue;
                    };
                    assert_eq!(gradient.dims(), operand.dims(), "{name}");
                    if y.elem_count() == 0 && gradient.elem_count() > 0 {
                        assert_eq!(largest(&gradient), 0.0, "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn sums_of_nothing_are_the_bias() {
    let bias = Tensor::new(&[1_f32, -2.0], &Device::Cpu).unwrap();
    let none = |shape: &[usize]| Tensor::zeros(shape, F32, &Device::Cpu).unwrap();
    let y = pad_ops::linear(&none(&[3, 0]), &none(&[2, 0]), Some(&bias)).unwrap();
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[1.0, -2.0]; 3]);
    let y = pad_ops::linear(&none(&[3, 0]), &none(&[2, 0]), None).unwrap();
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[0.0, 0.0]; 3]);
    let y = pad_ops::conv2d(&none(&[1, 0, 1, 2]), &none(&[2, 0, 1, 1]), Some(&bias), 0).unwrap();
    assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 1.0, -2.0, -2.0]);
    let y = pad_ops::conv_transpose2x2(&none(&[1, 0, 1, 1]), &none(&[0, 2, 2, 2]), Some(&bias));
    let y = y.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(y, [1.0, 1.0, 1.0, 1.0, -2.0, -2.0, -2.0, -2.0]);
}

#[test]
fn every_error_names_its_operator() {
    let sizes = Sizes { b: 2, n: 4, c: 4 };
    // Every shape is right for these.
    let shapeless = ["gelu", "dropout"];
    for case in CASES {
        let good = operands(case, sizes, F32);
        for place in 0..good.len() {
            let at = |wrong: Tensor| {
                let mut operands = good.clone();
                operands[place] = wrong;
                (case.op)(&operands, sizes).err().map(|error| error.to_string())
            };
            let own = good[place].dims().to_vec();
            let longer: Vec<usize> =
                own[..own.len() - 1].iter().copied().chain([own[own.len() - 1] + 1]).collect();
            let deeper: Vec<usize> = [3].into_iter().chain(own.iter().copied()).collect();
            let shapes = [vec![], longer, deeper].map(|shape| at(numbers(&shape, F32, 1)));
            let named = |text: &String| text.starts_with(&format!("{}: `", case.name));
            for text in shapes.iter().flatten() {
                assert!(named(text), "{}, operand {place}: {text}", case.name);
            }
            let refused = shapes.iter().flatten().count();
            assert!(refused > 0 || shapeless.contains(&case.name), "{}: {place}", case.name);
            let integers = good[place].zeros_like().unwrap().to_dtype(DType::U32).unwrap();
            let text = at(integers).unwrap_or_else(|| panic!("{}: takes integers", case.name));
            assert!(named(&text) && text.contains("U32"), "{}, operand {place}: {text}", case.name);
            if good.len() > 1 {
                let text = at(good[place].to_dtype(DType::F64).unwrap());
                let text = text.unwrap_or_else(|| panic!("{}: mixes f64 and f32", case.name));
                assert!(named(&text) && text.contains("F64"), "{}, {place}: {text}", case.name);
            }
        }
    }
}

#[test]
fn constants_that_mean_nothing_are_refused() {
    let x = numbers(&[2, 4, 4, 4], F32, 1);
    let (tokens, one) = (numbers(&[2, 3, 4], F32, 2), Tensor::ones(4, F32, &Device::Cpu).unwrap());
    let moments = Moments { mean: one.clone(), variance: one.clone() };
    let text = |result: pad_ops::Result<Tensor>| result.unwrap_err().to_string();
    for eps in [-10.0, -1e-9, f64::NAN, f64::INFINITY, 1e300] {
        for (name, found) in [
            ("layer_norm", pad_ops::layer_norm(&tokens, &one, &one, eps)),
            ("channel_norm2d", pad_ops::channel_norm2d(&x, &one, &one, eps)),
            ("batch_norm2d", pad_ops::batch_norm2d(&x, &one, &one, eps).map(|found| found.0)),
            ("batch_norm2d_with", pad_ops::batch_norm2d_with(&x, &moments, &one, &one, eps)),
        ] {
            let expected = format!("{name}: `eps` is {eps}, expected a finite number >= 0");
            assert_eq!(text(found), expected);
        }
    }
    let sizes = Sizes { b: 2, n: 3, c: 4 };
    let branch = |name: &str| {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        operands(case, sizes, F32)
    };
    let (attention, mlp) = (branch("attention_branch"), branch("mlp_branch"));
    let found = pad_ops::attention_branch(
        &attention[0],
        &attention_weights(&attention, -10.0),
        Keep::Activations,
    );
    assert_eq!(text(found), "attention_branch: `eps` is -10, expected a finite number >= 0");
    for (scale, dropout, expected) in [
        (f64::NAN, 0.1, "mlp_branch: `scale` is NaN, expected a finite number"),
        (0.1, 2.0, "mlp_branch: `p` is 2, expected 0 <= p < 1"),
    ] {
        let weights = mlp_weights(&mlp, AdapterScale::Fixed(scale), dropout);
        let found = pad_ops::mlp_branch(&mlp[0], &weights, Mode::Eval, Keep::Nothing);
        assert_eq!(text(found), expected);
    }
    for p in [1.0, 2.0, -0.1, f64::NAN, f64::INFINITY] {
        for mode in [Mode::Eval, train()] {
            let expected = format!("`p` is {p}, expected 0 <= p < 1");
            assert_eq!(text(pad_ops::dropout(&x, p, mode)), format!("dropout: {expected}"));
            assert_eq!(text(pad_ops::drop_path(&x, p, mode)), format!("drop_path: {expected}"));
        }
        assert!(pad_ops::nn::Dropout::new(p, "drop").is_err());
    }
    for scale in [f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(
            text(pad_ops::attention(&x, &x, &x, None, scale)),
            format!("attention: `scale` is {scale}, expected a finite number")
        );
    }
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let found =
            pad_ops::roi_align(std::slice::from_ref(&x), &[scale], &[], RoiAlign::square(2));
        let expected = format!("roi_align: `scales` is {scale}, expected finite numbers above 0");
        assert_eq!(text(found), expected);
    }
    let boxes = [[0.0, 0.0, 1.0, 1.0]];
    for threshold in [-0.1, 1.5, f32::NAN] {
        let expected = format!(
            "nms: `threshold` is {threshold}, expected an intersection over union between 0 and 1"
        );
        assert_eq!(pad_ops::nms(&boxes, &[1.0], threshold).unwrap_err().to_string(), expected);
        let found = pad_ops::batched_nms(&boxes, &[1.0], &[0], threshold);
        assert_eq!(found.unwrap_err().to_string(), format!("batched_{expected}"));
    }
    let labels = Tensor::zeros((2, 4, 4), DType::U8, &Device::Cpu).unwrap();
    for threshold in [-0.1, 1.5, f64::NAN] {
        let hard = Some(HardPixels { threshold: Some(threshold), min_kept: 1 });
        let options = CrossEntropy { hard, ..CrossEntropy::default() };
        assert_eq!(
            text(pad_ops::cross_entropy2d(&x, &labels, &options)),
            format!(
                "cross_entropy2d: `hard.threshold` is {threshold}, expected a probability between 0 and 1"
            )
        );
    }
    let options = |stride, dilation, groups| Conv2dOptions {
        padding: ImageSize::square(0),
        stride,
        dilation,
        groups,
    };
    let (none, one) = (ImageSize::new(1, 0), ImageSize::square(1));
    let weight = numbers(&[4, 4, 2, 2], F32, 3);
    for (options, expected) in [
        (options(none, one, 1), "conv2d: `stride` is 1x0, expected at least 1x1"),
        (options(one, none, 1), "conv2d: `dilation` is 1x0, expected at least 1x1"),
        (
            options(one, one, 0),
            "conv2d: `groups` is 0, expected a divisor of 4 channels and 4 outputs",
        ),
        (
            options(one, one, 3),
            "conv2d: `groups` is 3, expected a divisor of 4 channels and 4 outputs",
        ),
        (
            options(one, ImageSize::square(9), 1),
            "conv2d: `weight` is 2x2 dilated by 9x9, expected a kernel of at most the image, 4x4 padded by 0x0",
        ),
        (
            options(one, ImageSize::square(usize::MAX), 1),
            "conv2d: `weight` is 2x2 dilated by 18446744073709551615x18446744073709551615, expected a kernel \
             of at most the image, 4x4 padded by 0x0",
        ),
    ] {
        assert_eq!(text(pad_ops::conv2d_with(&x, &weight, None, options)), expected);
    }
}

/// Sizes whose products or sums have no room in a `usize` are refused, not wrapped.
#[test]
fn sizes_beyond_counting_are_refused() {
    let x = numbers(&[1, 1, 4, 4], F32, 1);
    let text = |result: pad_ops::Result<Tensor>| result.unwrap_err().to_string();
    let vast = ImageSize::square(1 << 33);
    assert_eq!(vast.area(), usize::MAX);
    for (name, found) in [
        ("resize_bilinear", pad_ops::resize_bilinear(&x, vast, false)),
        ("adaptive_avg_pool2d", pad_ops::adaptive_avg_pool2d(&x, vast)),
    ] {
        let expected = format!("{name}: `size` is {vast}, expected images that fit into memory");
        assert_eq!(text(found), expected);
    }
    let tokens = numbers(&[1, 4, 2], F32, 1);
    for side in [1 << 32, usize::MAX] {
        let windows = pad_ops::Windows { height: 2, width: 2, side };
        for found in [
            pad_ops::window_partition(&tokens, windows),
            pad_ops::window_unpartition(&tokens, windows),
        ] {
            let found = text(found);
            assert!(found.contains("expected windows whose tokens can be counted"), "{found}");
        }
    }
    let weight = numbers(&[4, 2], F32, 2);
    let (a, b) = (numbers(&[1, 2], F32, 3), numbers(&[2, 1], F32, 4));
    for first_row in [3, usize::MAX] {
        let update = [pad_ops::LowRankUpdate { a: a.clone(), b: b.clone(), scale: 1.0, first_row }];
        let expected =
            format!("low_rank_update: `first_row` is {first_row} + 2, expected rows below 4");
        assert_eq!(text(pad_ops::low_rank_update(&weight, &update)), expected);
        assert_eq!(text(pad_ops::reference::low_rank_update(&weight, &update)), expected);
    }
}

/// Operators whose weights may be of another precision than their activations.
const MIXABLE: [&str; 8] = [
    "layer_norm",
    "linear",
    "attention",
    "conv2d",
    "conv_transpose2x2",
    "batch_norm2d",
    "batch_norm2d_with",
    "channel_norm2d",
];

#[test]
fn half_precision_goes_with_f32() {
    let sizes = Sizes { b: 2, n: 4, c: 4 };
    let cases = CASES.iter().filter(|case| MIXABLE.contains(&case.name));
    assert_eq!(cases.clone().count(), MIXABLE.len() + 1, "conv2d twice");
    for case in cases {
        for (of_x, of_weights) in
            [(DType::BF16, F32), (F32, DType::BF16), (DType::F16, F32), (DType::BF16, DType::F16)]
        {
            let name = format!("{}, x {of_x:?}, weights {of_weights:?}", case.name);
            // Numbers that both have, so that only the result is rounded.
            let rounded: Vec<Tensor> = operands(case, sizes, DType::BF16);
            let rounded: Vec<Tensor> = rounded
                .iter()
                .map(|x| x.to_dtype(DType::F16).unwrap().to_dtype(DType::BF16).unwrap())
                .collect();
            let wide: Vec<Tensor> = rounded.iter().map(|x| x.to_dtype(F32).unwrap()).collect();
            let mixed: Vec<Tensor> = (wide.iter().enumerate())
                .map(|(i, x)| x.to_dtype(if i == 0 { of_x } else { of_weights }).unwrap())
                .collect();
            let (want, want_grads) = run(case, sizes, &wide).unwrap();
            let (got, got_grads) = run(case, sizes, &mixed).unwrap();
            assert_eq!(got.dtype(), of_x, "{name}");
            close(&name, &got.to_dtype(F32).unwrap(), &want, 1e-2);
            for (i, (got, want)) in got_grads.iter().zip(&want_grads).enumerate() {
                let (got, want) = (got.as_ref().unwrap(), want.as_ref().unwrap());
                assert_eq!(got.dtype(), mixed[i].dtype(), "{name}, gradient {i}");
                close(&format!("{name}, gradient {i}"), &got.to_dtype(F32).unwrap(), want, 2e-2);
            }
        }
    }
}
