//! Every kernel against the operator's composition of candle's operations: forward and gradients,
//! f32 and bf16. The kernels run as programs for the CPU; without a C++ compiler there is nothing
//! to run, and the tests say so.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_testkit::{close, numbers};

use super::emulated;
use crate::{
    AdamWStep, AdamWSteps, Fusion, ImageBox, ImageSize, Mode, RoiAlign, adamw_step, dropout,
    fuse_patchwise, gather_tokens, gelu, layer_norm, linear, masked_mse, normalize_patches,
    reference, resize_bilinear, rng::Key, roi_align, softmax, sums_of_squares,
};

/// Relative differences that are allowed: f32, bf16.
pub(super) const F32: (DType, f64) = (DType::F32, 1e-5);
pub(super) const BF16: (DType, f64) = (DType::BF16, 2e-2);

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
pub(super) fn compare(
    name: &str,
    shapes: &[&[usize]],
    kind: (DType, f64),
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    compare_to(name, &operands(shapes, kind.0), kind.1, operator, operator);
}

/// Numbers of these shapes, of which the dtype holds all.
fn operands(shapes: &[&[usize]], dtype: DType) -> Vec<Tensor> {
    let operand = |(salt, shape): (usize, &&[usize])| numbers(shape, DType::F32, salt as u64);
    let operands = shapes.iter().enumerate().map(operand);
    operands.map(|operand| operand.to_dtype(dtype).unwrap()).collect()
}

/// Compares the kernel with the composition of `exact` in f32 on the same values.
pub(super) fn compare_to(
    name: &str,
    operands: &[Tensor],
    tolerance: f64,
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    exact: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let agree = |name: &str, got: &Tensor, want: &Tensor| close(name, got, want, tolerance);
    compare_by(name, operands, &agree, operator, exact);
}

/// [`compare_to`] of an operator whose gradients are sums of many rounded values that nearly cancel.
/// In bf16 their rounding stands against the terms, not against the sum: so the root of the mean
/// square of the differences is held to the tolerance, and single values to twice as much.
pub(super) fn compare_sums(
    name: &str,
    operands: &[Tensor],
    tolerance: f64,
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    exact: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    if tolerance <= F32.1 {
        return compare_to(name, operands, tolerance, operator, exact);
    }
    let agree = |name: &str, got: &Tensor, want: &Tensor| {
        close(name, got, want, 2.0 * tolerance);
        let size = |of: &Tensor| -> Result<f64> {
            Ok(of.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
        };
        let share = size(&(got - want).unwrap()).unwrap() / size(want).unwrap();
        assert!(share <= tolerance, "{name}: the differences are {share:.1e} of the values");
    };
    compare_by(name, operands, &agree, operator, exact);
}

fn compare_by(
    name: &str,
    operands: &[Tensor],
    agree: &dyn Fn(&str, &Tensor, &Tensor),
    operator: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    exact: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    if !emulated::has_compiler() {
        pad_testkit::skipped(name, "there is no C++ compiler (c++)");
        return;
    }
    let wide: Vec<Tensor> =
        operands.iter().map(|operand| operand.to_dtype(DType::F32).unwrap()).collect();
    let (want, want_gradients) = reference::only(|| all(exact, &wide)).unwrap();
    let launches = emulated::launches();
    let (y, gradients) = emulated::through(|| all(operator, operands)).unwrap();
    assert!(emulated::launches() > launches, "{name}: no kernel ran");
    agree(name, &y, &want);
    for (at, (gradient, want)) in gradients.iter().zip(&want_gradients).enumerate() {
        let name = format!("{name}: gradient {at}");
        match (gradient, want) {
            (Some(gradient), Some(want)) => agree(&name, gradient, want),
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

#[test]
fn gather_kernels() {
    for kind in [F32, BF16] {
        for (n, d) in [(5, 33), (5, 8), (3, 1)] {
            let ids = Tensor::new(&[[2_u32, 0, 2, 1], [1, 2, 0, 0]], &Device::Cpu).unwrap();
            compare("gather", &[&[2, n, d]], kind, &|t| Ok(gather_tokens(&t[0], &ids)?));
        }
    }
    if emulated::has_compiler() {
        let x = numbers(&[1, 2, 3], DType::F32, 1);
        let ids = Tensor::new(&[[1_u32, 2]], &Device::Cpu).unwrap();
        let y = emulated::through(|| gather_tokens(&x, &ids)).unwrap().to_vec3::<f32>().unwrap();
        assert!(y[0][0].iter().all(|v| v.is_finite()) && y[0][1].iter().all(|v| v.is_nan()));
    }
}

#[test]
fn masked_mse_kernels() {
    for kind in [F32, BF16] {
        for (rows, n) in [(1, 5), (9, 12), (33, 3)] {
            compare("masked MSE", &[&[2, rows, n]], kind, &|t| {
                let target = numbers(&[2, rows, n], DType::F32, 9).to_dtype(t[0].dtype())?;
                let mask: Vec<f32> = (0..2 * rows).map(|i| (i % 3 != 1) as u8 as f32).collect();
                let mask = Tensor::from_vec(mask, (2, rows), &Device::Cpu)?;
                Ok(masked_mse(&t[0], &target, &mask.to_dtype(t[0].dtype())?)?)
            });
        }
    }
    if !emulated::has_compiler() {
        return;
    }
    for (rows, n) in [(3, 1), (5, 7), (9, 256)] {
        let x = numbers(&[rows, n], DType::F32, 3);
        let want = reference::only(|| normalize_patches(&x)).unwrap();
        let found = emulated::through(|| normalize_patches(&x)).unwrap();
        if n == 1 {
            assert_eq!(pad_testkit::largest(&found), 0.0);
        } else {
            close("normalised", &found, &want, 1e-5);
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
        pad_testkit::skipped("emulated kernels", "there is no C++ compiler (c++)");
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

/// Many tensors together: more values than a chunk, few, one; parts of larger arrays.
#[test]
fn adamw_steps_together() {
    if !emulated::has_compiler() {
        pad_testkit::skipped("emulated kernels", "there is no C++ compiler (c++)");
        return;
    }
    let shapes: [&[usize]; 4] = [&[8192 * 2 + 77], &[3, 5], &[1], &[8192]];
    let step = |at: usize| AdamWStep {
        keep: 1.0 - 1e-3 * at as f64,
        toward: 0.1,
        beta2: 0.95,
        step_size: 3e-3 + 1e-3 * at as f64,
        root_correction: 0.4,
        eps: 1e-8,
        gradient_factor: 0.7,
    };
    let part = |shape: &[usize], salt: u64| {
        let count: usize = shape.iter().product();
        numbers(&[count + 3], DType::F32, salt).narrow(0, 1, count).unwrap().reshape(shape).unwrap()
    };
    let mut together = AdamWSteps::new();
    let mut want = Vec::new();
    let mut found = Vec::new();
    emulated::through(|| {
        for (at, shape) in shapes.iter().enumerate() {
            let [p, g, m] = [1, 2, 3].map(|salt| part(shape, salt + 10 * at as u64));
            let v = part(shape, 4 + at as u64).sqr().unwrap();
            want.push(reference::adamw_step(&p, &g, &m, &v, &step(at)).unwrap());
            assert!(together.push(&p, &g, [&m, &v], &step(at)).unwrap());
            found.push([p, m, v]);
        }
        let other = AdamWStep { eps: 1e-6, ..step(0) };
        let [p, m, v] = &found[0];
        assert!(!together.push(p, p, [m, v], &other).unwrap(), "the numbers differ");
        let half = p.to_dtype(DType::BF16).unwrap();
        assert!(!together.push(&half, &half, [&half, &half], &step(0)).unwrap());
        let launches = emulated::launches();
        together.run().unwrap();
        assert_eq!(emulated::launches(), launches + 1);
    });
    for (found, want) in found.iter().zip(&want) {
        for (found, want) in found.iter().zip([&want.p, &want.exp_avg, &want.exp_avg_sq]) {
            close("together", found, want, 1e-6);
        }
    }
    let mut aside = AdamWSteps::new();
    let [p, m, v] = &found[1];
    assert!(!aside.push(p, p, [m, v], &step(0)).unwrap(), "on the CPU");

    let gradients: Vec<Tensor> =
        shapes.iter().zip(20..).map(|(shape, salt)| part(shape, salt)).collect();
    let all: Vec<&Tensor> = gradients.iter().collect();
    let squares = emulated::through(|| sums_of_squares(&all)).unwrap().unwrap();
    for (square, gradient) in squares.iter().zip(&gradients) {
        let wide = gradient.to_dtype(DType::F64).unwrap();
        let want = wide.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        assert!((square / want - 1.0).abs() < 1e-12);
    }
    assert_eq!(sums_of_squares(&all).unwrap(), None, "on the CPU");
    let huge = Tensor::new(&[3e38_f32, 3e38], p.device()).unwrap();
    let square = emulated::through(|| sums_of_squares(&[&huge])).unwrap().unwrap();
    assert!(square[0].is_finite(), "f32 squares would overflow");
}

/// A NaN must reach the result, not be lost on the way through bf16 or a maximum.
#[test]
fn nan_stays() {
    if !emulated::has_compiler() {
        pad_testkit::skipped("emulated kernels", "there is no C++ compiler (c++)");
        return;
    }
    let x = Tensor::new(&[[1_f32, f32::NAN, 2.0], [1.0, 2.0, 3.0]], &Device::Cpu);
    let x = x.unwrap().to_dtype(DType::BF16).unwrap();
    let y = emulated::through(|| softmax(&x)).unwrap().to_dtype(DType::F32).unwrap();
    let y = y.to_vec2::<f32>().unwrap();
    assert!(y[0].iter().all(|value| value.is_nan()) && y[1].iter().all(|value| value.is_finite()));
}

/// The harness finds what it is there for.
#[test]
fn emulation_finds_faults() {
    if !emulated::has_compiler() {
        pad_testkit::skipped("emulated kernels", "there is no C++ compiler (c++)");
        return;
    }
    let run = |name: &'static str, text: &'static str| {
        let launch = super::Launch {
            source: super::Source { name, text },
            constants: vec![("AHEAD", 1)],
            function: "faulty",
            values: DType::F32,
            blocks: 1,
            numbers: Vec::new(),
            output: (DType::F32, (1, 256).into()),
            more: Vec::new(),
        };
        let x = numbers(&[1, 256], DType::F32, 1);
        emulated::through(|| super::run(&launch, &[&x])).map_err(|error| error.to_string())
    };
    let outside = run(
        "outside",
        "extern \"C\" __global__ void faulty(const T* x, T* y) { y[threadIdx.x + AHEAD] = x[threadIdx.x]; }",
    );
    assert!(outside.unwrap_err().contains("argument 1: written outside the array"));
    for (name, text) in [
        (
            "reads behind",
            "extern \"C\" __global__ void faulty(const T* x, T* y) { y[threadIdx.x] = x[threadIdx.x + 1]; }",
        ),
        (
            "reads before",
            "extern \"C\" __global__ void faulty(const T* x, T* y) { y[threadIdx.x] = x[(int)threadIdx.x - 1]; }",
        ),
        (
            "reads far away",
            "extern \"C\" __global__ void faulty(const T* x, T* y) { y[threadIdx.x] = x[threadIdx.x << 12]; }",
        ),
    ] {
        assert!(
            run(name, text).unwrap_err().contains("argument 0: read outside the array"),
            "{name}"
        );
    }
    let half_a_warp = run(
        "half a warp",
        "extern \"C\" __global__ void faulty(const T* x, T* y) {
             if (threadIdx.x < 16) __syncwarp();
             y[threadIdx.x] = x[threadIdx.x];
         }",
    );
    assert!(half_a_warp.unwrap_err().contains("threads wait for others that never come"));
    let warps = run(
        "warps",
        "extern \"C\" __global__ void faulty(const T* x, T* y) {
             __shared__ float seen[256];
             seen[threadIdx.x] = x[threadIdx.x];
             __syncwarp();
             float other = seen[threadIdx.x ^ 31];
             __syncwarp();
             seen[threadIdx.x] = other;
             __syncwarp();
             y[threadIdx.x] = seen[threadIdx.x ^ 31];
         }",
    );
    close("there and back", &warps.unwrap(), &numbers(&[1, 256], DType::F32, 1), 0.0);
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

/// Operands that are left out, several outputs, one of them empty, and a table of arrays that are
/// changed in place.
#[test]
fn tables_and_absent_operands() {
    if !emulated::has_compiler() {
        pad_testkit::skipped("emulated kernels", "there is no C++ compiler (c++)");
        return;
    }
    let text = "extern \"C\" __global__ void several(
            const T* x, const T* absent, const unsigned long long* table, float* twice, float* none, T* thrice, int count) {
            int at = (int)place();
            if (at >= count || absent || none || table[1]) return;
            twice[at] = 2.0f * load(x, at);
            store(thrice, at, 3.0f * load(x, at));
            float* changed = (float*)table[at % 2 * 2];
            changed[at / 2] += load(x, at);
        }";
    let (count, like) = (6, (DType::F32, candle_core::Shape::from(6)));
    let launch = super::Launch {
        source: super::Source { name: "several", text },
        constants: Vec::new(),
        function: "several",
        values: DType::F32,
        blocks: 1,
        numbers: vec![super::Number::Int(count)],
        output: like.clone(),
        more: vec![(DType::F32, 0.into()), like],
    };
    let x = Tensor::arange(0_f32, 6.0, &Device::Cpu).unwrap();
    let changed = [10_f32, 20.0].map(|first| {
        // A part of a larger array.
        let whole = Tensor::new(&[0.0, first, first, first, 0.0], x.device()).unwrap();
        (whole.narrow(0, 1, 3).unwrap(), whole)
    });
    let table = [Some(&changed[0].0), None, Some(&changed[1].0)];
    let made = emulated::through(|| super::run_all(&launch, &[Some(&x), None], &table)).unwrap();
    let values = |t: &Tensor| t.to_vec1::<f32>().unwrap();
    assert_eq!(values(&made[0]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    assert_eq!(made[1].elem_count(), 0);
    assert_eq!(values(&made[2]), [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]);
    assert_eq!(values(&changed[0].1), [0.0, 10.0, 12.0, 14.0, 0.0]);
    assert_eq!(values(&changed[1].1), [0.0, 21.0, 23.0, 25.0, 0.0]);
}

/// Operators whose kernels see no values, one of them behind an operand of another dtype.
#[test]
fn empty_operands_launch_nothing() {
    let launches = emulated::launches();
    emulated::through(|| {
        let x = Tensor::zeros((0, 5), DType::F32, &Device::Cpu).unwrap();
        let weight = Tensor::ones(5, DType::F32, x.device()).unwrap();
        assert_eq!(layer_norm(&x, &weight, &weight, 1e-5).unwrap().dims(), [0, 5]);
        assert_eq!(softmax(&x).unwrap().dims(), [0, 5]);
        assert_eq!(gelu(&x).unwrap().dims(), [0, 5]);
        assert_eq!(dropout(&x, 0.5, Mode::Train(Key::new(1))).unwrap().dims(), [0, 5]);
        assert!(super::has_kernel([&weight]) && !super::has_kernel([&weight, &x]));
        let other = weight.to_dtype(DType::F64).unwrap();
        assert!(!super::has_kernel([&weight, &other]));
        let launch = super::Launch {
            source: super::Source { name: "never", text: "no kernel" },
            constants: Vec::new(),
            function: "never",
            values: DType::F32,
            blocks: 0,
            numbers: Vec::new(),
            output: (DType::F32, (0, 5).into()),
            more: Vec::new(),
        };
        assert_eq!(super::run(&launch, &[&x]).unwrap().dims(), [0, 5]);
    });
    assert_eq!(emulated::launches(), launches);
}
