//! Every kernel against the operator's composition of candle's operations: forward and gradients,
//! f32 and bf16. The kernels run as programs for the CPU; without a C++ compiler there is nothing
//! to run, and the tests say so.

use candle_core::{DType, Result, Tensor, Var};
use pad_testkit::{close, numbers};

use super::emulated;
use crate::{
    AdamWStep, Fusion, ImageBox, ImageSize, Mode, RoiAlign, adamw_step, dropout, fuse_patchwise,
    gelu, layer_norm, linear, reference, resize_bilinear, rng::Key, roi_align, softmax,
};

/// Relative differences that are allowed: f32, bf16.
const F32: (DType, f64) = (DType::F32, 1e-5);
const BF16: (DType, f64) = (DType::BF16, 2e-2);

/// The result and the gradients of a weighted sum of it, all in f32.
fn all(
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    operands: &[Tensor],
) -> Result<(Tensor, Vec<Option<Tensor>>)> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = operator(&tensors)?;
    let weights = numbers(y.dims(), DType::F32, 77).to_dtype(y.dtype())?;
    let mut store = (&y * weights)?.sum_all()?.backward()?;
    let gradients = vars.iter().map(|var| store.remove(var));
    let wide = |tensor: Tensor| tensor.to_dtype(DType::F32);
    let gradients = gradients.map(|gradient| gradient.map(wide).transpose());
    Ok((wide(y.detach())?, gradients.collect::<Result<_>>()?))
}

/// Compares the kernel with the composition in f32 on the same values.
fn compare(
    name: &str,
    shapes: &[&[usize]],
    (dtype, tolerance): (DType, f64),
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    if !emulated::has_compiler() {
        eprintln!("{name}: not run, there is no C++ compiler (c++)");
        return;
    }
    let operands: Vec<Tensor> = shapes
        .iter()
        .enumerate()
        .map(|(salt, shape)| numbers(shape, DType::F32, salt as u64).to_dtype(dtype).unwrap())
        .collect();
    let wide: Vec<Tensor> =
        operands.iter().map(|operand| operand.to_dtype(DType::F32).unwrap()).collect();
    let (want, want_gradients) = reference::only(|| all(operator, &wide)).unwrap();
    let launches = emulated::launches();
    let (y, gradients) = emulated::through(|| all(operator, &operands)).unwrap();
    assert!(emulated::launches() > launches, "{name}: no kernel ran");
    close(name, &y, &want, tolerance);
    for (at, (gradient, want)) in gradients.iter().zip(&want_gradients).enumerate() {
        let name = format!("{name}: gradient {at}");
        match (gradient, want) {
            (Some(gradient), Some(want)) => close(&name, gradient, want, tolerance),
            (None, None) => {}
            (found, want) => {
                // The composition sends zeros where there is no way.
                let largest = [found, want].into_iter().flatten().map(pad_testkit::largest);
                assert_eq!(largest.fold(0.0, f64::max), 0.0, "{name}: only one of them is there");
            }
        }
    }
}

#[test]
fn layer_norm_kernels() {
    for kind in [F32, BF16] {
        for (rows, d) in [(1, 5), (3, 33), (70, 100), (9, 384)] {
            let eps = 1e-5;
            let shapes: [&[usize]; 3] = [&[rows, d], &[d], &[d]];
            compare("layer norm", &shapes, kind, &|t| Ok(layer_norm(&t[0], &t[1], &t[2], eps)?));
        }
    }
}

#[test]
fn softmax_kernels() {
    for kind in [F32, BF16] {
        for (rows, n) in [(1, 2), (5, 31), (17, 197)] {
            compare("softmax", &[&[rows, n]], kind, &|t| Ok(softmax(&(&t[0] * 3.0)?)?));
        }
    }
}

#[test]
fn gelu_kernels() {
    for kind in [F32, BF16] {
        for count in [1, 255, 257] {
            compare("gelu", &[&[count, 3]], kind, &|t| Ok(gelu(&(&t[0] * 2.0)?)?));
        }
    }
}

#[test]
fn fusion_kernels() {
    for kind in [F32, BF16] {
        for fusion in [Fusion::Concat, Fusion::Sum, Fusion::Side, Fusion::Gside] {
            for (tokens, d) in [(1, 1), (5, 33), (130, 64)] {
                let gate = [1, fusion.gate_width(d)];
                let shapes: [&[usize]; 3] = [&[1, tokens, d], &[1, tokens, d], &gate];
                compare(&format!("{fusion:?}"), &shapes, kind, &|t| {
                    Ok(fuse_patchwise(&t[0], &t[1], &t[2], fusion)?)
                });
            }
        }
    }
}

#[test]
fn linear_kernels() {
    for kind in [F32, BF16] {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 9, 33), (130, 3, 40)] {
            let shapes: [&[usize]; 3] = [&[1, rows, inputs], &[outputs, inputs], &[outputs]];
            compare("linear", &shapes, kind, &|t| Ok(linear(&t[0], &t[1], Some(&t[2]))?));
        }
    }
}

#[test]
fn roi_align_kernels() {
    let roi = |map, image, bbox| ImageBox { map, image, bbox };
    let rois = [
        roi(1, 1, [-3.0, 2.0, 9.0, 30.0]),
        roi(0, 0, [0.5, 1.0, 7.5, 5.0]),
        roi(0, 1, [2.0, 2.0, 3.0, 6.5]),
        roi(1, 0, [-90.0, -90.0, -80.0, -80.0]),
        roi(0, 0, [3.0, 0.0, 9.0, 7.0]),
    ];
    let shapes: [&[usize]; 2] = [&[2, 3, 7, 9], &[2, 3, 4, 5]];
    for kind in [F32, BF16] {
        for options in
            [RoiAlign::square(3), RoiAlign { height: 2, width: 5, sampling_ratio: Some(2) }]
        {
            compare("RoIAlign", &shapes, kind, &|t| Ok(roi_align(t, &[1.0, 0.5], &rois, options)?));
        }
        // All on one map, in their order.
        compare("RoIAlign of one map", &shapes[..1], kind, &|t| {
            Ok(roi_align(t, &[1.0], &[rois[1], rois[2], rois[4]], RoiAlign::square(2))?)
        });
    }
}

#[test]
fn resize_kernels() {
    for kind in [F32, BF16] {
        for (from, to) in [((5, 7), (12, 9)), ((9, 8), (4, 3)), ((1, 6), (5, 1)), ((3, 3), (1, 7))]
        {
            for align_corners in [false, true] {
                let size = ImageSize::new(to.0, to.1);
                compare("resize", &[&[2, 3, from.0, from.1]], kind, &|t| {
                    Ok(resize_bilinear(&t[0], size, align_corners)?)
                });
            }
        }
    }
}

/// The same places as on the CPU, where the mask is drawn by another program.
#[test]
fn dropout_kernels() {
    let key = Key::new(0x1234_5678_9abc_def0).epoch(1 << 40).sample(u64::MAX).layer(9);
    for kind in [F32, BF16] {
        for count in [15, 16, 33, 4099] {
            for p in [0.1, 0.75] {
                compare("dropout", &[&[count]], kind, &|t| {
                    Ok(dropout(&t[0], p, Mode::Train(key))?)
                });
            }
        }
    }
}

#[test]
fn adamw_kernels() {
    if !emulated::has_compiler() {
        eprintln!("not run, there is no C++ compiler (c++)");
        return;
    }
    let step = AdamWStep {
        keep: 0.998,
        toward: 0.1,
        beta2: 0.95,
        step_size: 3e-3,
        root_correction: 0.4,
        eps: 1e-8,
        gradient_factor: 0.7,
    };
    for shape in [&[1][..], &[3, 5], &[257, 2]] {
        let [p, g, m] = [1, 2, 3].map(|salt| numbers(shape, DType::F32, salt));
        let v = numbers(shape, DType::F32, 4).sqr().unwrap();
        let want = reference::adamw_step(&p, &g, &m, &v, &step).unwrap();
        let found = emulated::through(|| adamw_step(&p, &g, &m, &v, &step)).unwrap();
        close("p", &found.p, &want.p, 1e-6);
        close("exp_avg", &found.exp_avg, &want.exp_avg, 1e-6);
        close("exp_avg_sq", &found.exp_avg_sq, &want.exp_avg_sq, 1e-6);
        // And once more from what it left, whose moments are parts of one array.
        let want = reference::adamw_step(&want.p, &g, &want.exp_avg, &want.exp_avg_sq, &step);
        let found = emulated::through(|| {
            adamw_step(&found.p, &g, &found.exp_avg, &found.exp_avg_sq, &step)
        });
        close("p again", &found.unwrap().p, &want.unwrap().p, 1e-6);
    }
}

/// A NaN must reach the result, not be lost on the way through bf16 or a maximum.
#[test]
fn nan_stays() {
    if !emulated::has_compiler() {
        eprintln!("not run, there is no C++ compiler (c++)");
        return;
    }
    let x = Tensor::new(&[[1_f32, f32::NAN, 2.0], [1.0, 2.0, 3.0]], &candle_core::Device::Cpu);
    let x = x.unwrap().to_dtype(DType::BF16).unwrap();
    let y = emulated::through(|| softmax(&x)).unwrap().to_dtype(DType::F32).unwrap();
    let y = y.to_vec2::<f32>().unwrap();
    assert!(y[0].iter().all(|value| value.is_nan()) && y[1].iter().all(|value| value.is_finite()));
}

/// The harness finds what it is there for.
#[test]
fn emulation_finds_faults() {
    if !emulated::has_compiler() {
        eprintln!("not run, there is no C++ compiler (c++)");
        return;
    }
    let run = |name: &'static str, text: &'static str| {
        let launch = super::Launch {
            source: super::Source { name, text },
            function: "faulty",
            values: DType::F32,
            blocks: 1,
            numbers: Vec::new(),
            output: (DType::F32, (1, 256).into()),
        };
        let x = numbers(&[1, 256], DType::F32, 1);
        emulated::through(|| super::run(&launch, &[&x])).map_err(|error| error.to_string())
    };
    let outside = run(
        "outside",
        "extern \"C\" __global__ void faulty(const T* x, T* y) { y[threadIdx.x + 1] = x[threadIdx.x]; }",
    );
    assert!(outside.unwrap_err().contains("argument 1: written outside the array"));
    let unordered = run(
        "unordered",
        "extern \"C\" __global__ void faulty(const T* x, T* y) {
             __shared__ float seen[256];
             seen[threadIdx.x] = x[threadIdx.x];
             y[threadIdx.x] = seen[255 - threadIdx.x];
         }",
    );
    assert!(unordered.unwrap_err().contains("hangs on the order of threads"));
    let alone = run(
        "alone",
        "extern \"C\" __global__ void faulty(const T* x, T* y) { if (threadIdx.x == 0) __syncthreads(); }",
    );
    assert!(alone.unwrap_err().contains("threads wait for others that never come"));
    let fine = run(
        "fine",
        "extern \"C\" __global__ void faulty(const T* x, T* y) { y[threadIdx.x] = x[threadIdx.x]; }",
    );
    let x = numbers(&[1, 256], DType::F32, 1);
    close("copied", &fine.unwrap(), &x, 0.0);
}
