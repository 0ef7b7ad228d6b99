//! Every kernel of every `kernel.cu`: odd sizes, and operands without values. (Each run of the
//! emulation has arrays that begin unaligned too.) A kernel that no entry of the table runs fails.

use std::{collections::BTreeSet, fs, path::Path};

use candle_core::{DType, Device, Result, Tensor};
use pad_testkit::numbers;

use super::{
    branch_tests::{
        AttentionCase, KINDS, MlpCase, Residue, Strength, attention_case, attention_shapes,
        branch_operands, mlp_case, mlp_operands,
    },
    emulated,
    tests::{BF16, F32, compare, compare_sums, compare_to},
};
use crate::{
    AdamWStep, AdamWSteps, DeviceNorms, Fusion, ImageBox, ImageSize, Keep, MatmulPrecision, Mode,
    RoiAlign, adamw_step, attention_packed, dropout, fuse_patchwise, gather_tokens, gelu,
    layer_norm, linear, look_up_levels, masked_mse, normalize_patches, reference, resize_bilinear,
    rng::Key, roi_align, softmax, sums_of_squares,
};

type Operator = fn(&[Tensor]) -> Result<Tensor>;

/// An operator with its kernels, operands of odd sizes, and such without values.
struct Entry {
    operator: Operator,
    kernels: &'static [&'static str],
    odd: &'static [&'static [usize]],
    empty: &'static [&'static [usize]],
}

fn boxes(count: usize) -> Vec<ImageBox> {
    let roi = |image, bbox| ImageBox { map: 0, image, bbox };
    let all = [roi(1, [-3.0, 2.0, 9.0, 30.0]), roi(0, [0.5, 1.0, 7.5, 5.0])];
    all[..count].to_vec()
}

fn ids(x: &Tensor) -> Result<Tensor> {
    let (b, n, _) = x.dims3()?;
    let ids: Vec<u32> = (0..b * 3).map(|at| (at * 2 % n.max(1)) as u32).collect();
    Tensor::from_vec(ids, (b, 3), x.device())
}

fn loss(t: &[Tensor]) -> Result<Tensor> {
    let target = numbers(t[0].dims(), DType::F32, 9).to_dtype(t[0].dtype())?;
    let rows = t[0].dims()[..2].to_vec();
    let mask = Tensor::ones(rows, t[0].dtype(), t[0].device())?;
    Ok(masked_mse(&t[0], &target, &mask)?)
}

const TABLE: &[Entry] = &[
    Entry {
        operator: |t| Ok(layer_norm(&t[0], &t[1], &t[2], 1e-5)?),
        kernels: &[
            "layer_norm_forward",
            "layer_norm_moments",
            "layer_norm_d_x",
            "layer_norm_d_affine",
        ],
        odd: &[&[3, 33], &[33], &[33]],
        empty: &[&[0, 33], &[33], &[33]],
    },
    Entry {
        operator: |t| Ok(softmax(&t[0])?),
        kernels: &["softmax_forward", "softmax_backward"],
        odd: &[&[5, 31]],
        empty: &[&[0, 31]],
    },
    Entry {
        operator: |t| Ok(gelu(&t[0])?),
        kernels: &["gelu_forward", "gelu_backward"],
        odd: &[&[257, 3]],
        empty: &[&[257, 0]],
    },
    Entry {
        operator: |t| Ok(fuse_patchwise(&t[0], &t[1], &t[2], Fusion::Concat)?),
        kernels: &["fuse_forward", "fuse_scales", "fuse_d_adapter", "fuse_d_mlp", "fuse_d_gate"],
        odd: &[&[1, 5, 33], &[1, 5, 33], &[1, 66]],
        empty: &[&[1, 0, 33], &[1, 0, 33], &[1, 66]],
    },
    Entry {
        operator: |t| Ok(linear(&t[0], &t[1], Some(&t[2]))?),
        kernels: &["linear_add_bias", "linear_sum_rows"],
        odd: &[&[1, 5, 9], &[33, 9], &[33]],
        empty: &[&[1, 0, 9], &[33, 9], &[33]],
    },
    Entry {
        operator: |t| Ok(dropout(&t[0], 0.3, Mode::Train(Key::new(5)))?),
        kernels: &["dropout"],
        odd: &[&[33]],
        empty: &[&[0]],
    },
    Entry {
        operator: |t| Ok(gather_tokens(&t[0], &ids(&t[0])?)?),
        kernels: &["gather_tokens", "gather_tokens_backward"],
        odd: &[&[2, 5, 33]],
        empty: &[&[2, 5, 0]],
    },
    Entry {
        operator: |t| Ok(resize_bilinear(&t[0], ImageSize::new(9, 5), false)?),
        kernels: &["resize_forward", "resize_backward"],
        odd: &[&[1, 3, 5, 7]],
        empty: &[&[0, 3, 5, 7]],
    },
    Entry {
        operator: |t| Ok(roi_align(&t[..1], &[1.0], &boxes(2), RoiAlign::square(3))?),
        kernels: &["roi_align_forward", "roi_align_backward"],
        odd: &[&[2, 3, 7, 9]],
        empty: &[&[2, 0, 7, 9]],
    },
    Entry {
        operator: loss,
        kernels: &["masked_mse_rows", "masked_mse_total", "masked_mse_backward"],
        odd: &[&[2, 9, 5]],
        empty: &[&[2, 0, 5]],
    },
    Entry {
        operator: |t| Ok(attention_packed(&t[0], 3)?),
        kernels: &["attention_forward", "attention_backward"],
        odd: &[&[1, 7, 45]],
        empty: &[&[1, 0, 45]],
    },
];

/// On operands without values nothing is launched, and the result is the composition's.
fn without_values(name: &str, shapes: &[&[usize]], dtype: DType, operator: Operator) {
    let zeros = |shape: &&[usize]| Tensor::zeros(*shape, dtype, &Device::Cpu).unwrap();
    let operands: Vec<Tensor> = shapes.iter().map(zeros).collect();
    let want = reference::only(|| operator(&operands));
    let launches = emulated::launches();
    let found = emulated::through(|| operator(&operands));
    assert_eq!(emulated::launches(), launches, "{name}: something was launched");
    match (found, want) {
        (Ok(found), Ok(want)) => assert_eq!(found.dims(), want.dims(), "{name}"),
        (found, want) => assert_eq!(found.is_ok(), want.is_ok(), "{name}: {found:?}, {want:?}"),
    }
}

fn branches() {
    let attention = AttentionCase {
        sizes: (3, 7, 3, 5),
        keep: Keep::Activations,
        biases: true,
        residue: Residue::Both,
    };
    let plain = MlpCase {
        sizes: [3, 7, 13, 21, 5],
        strength: Strength::None,
        adapter_norm: false,
        dropout: 0.25,
        keep: Keep::Activations,
        biases: true,
        residue: Residue::Both,
    };
    let gated = Strength::Patchwise(Fusion::Concat);
    let cases = [
        plain,
        MlpCase { biases: false, ..plain },
        MlpCase { strength: gated, adapter_norm: true, ..plain },
        MlpCase { strength: Strength::Learnable, ..plain },
        MlpCase { sizes: [2, 2, 1601, 3, 7], strength: gated, adapter_norm: true, ..plain },
    ];
    for (kind, precision) in &KINDS[..2] {
        let operands = branch_operands(&attention_shapes(attention.sizes), kind.0);
        let run = |precision| move |t: &[Tensor]| attention_case(t, attention, precision);
        let exact = run(MatmulPrecision::F32);
        compare_to("attention branch", &operands, kind.1, &run(*precision), &exact);
        for case in cases {
            let operands = mlp_operands(case, *kind);
            let run = |precision| move |t: &[Tensor]| mlp_case(t, case, precision);
            let exact = run(MatmulPrecision::F32);
            compare_sums("MLP branch", &operands, kind.1, &run(*precision), &exact);
        }
    }
}

fn without_gradient() {
    let [p, g, m] = [1, 2, 3].map(|salt| numbers(&[3, 5], DType::F32, salt));
    let v = m.sqr().unwrap();
    let step = AdamWStep {
        keep: 0.99,
        toward: 0.1,
        beta2: 0.95,
        step_size: 1e-3,
        root_correction: 0.5,
        eps: 1e-8,
        gradient_factor: 1.0,
    };
    emulated::through(|| {
        adamw_step(&p, &g, &m, &v, &step).unwrap();
        let mut steps = AdamWSteps::new();
        assert!(steps.push(&p, &g, [&m, &v], &step).unwrap());
        let norms = DeviceNorms::enqueue(&[&g], &[], 1.0, None).unwrap().unwrap();
        steps.run_if_finite(&norms).unwrap();
        normalize_patches(&numbers(&[3, 7], DType::F32, 1)).unwrap();
        let levels = Tensor::new(&[[[[3_u8, 250, 7]]]], &Device::Cpu).unwrap();
        look_up_levels(&levels, &numbers(&[1, 256], DType::F32, 2)).unwrap();
    });
    let launches = emulated::launches();
    let nothing = Tensor::zeros((0, 5), DType::F32, &Device::Cpu).unwrap();
    emulated::through(|| {
        let pair = [&nothing, &nothing];
        let moved = adamw_step(&nothing, &nothing, &nothing, &nothing, &step).unwrap();
        assert_eq!(moved.p.dims(), [0, 5]);
        assert!(!AdamWSteps::new().push(&nothing, &nothing, pair, &step).unwrap());
        assert_eq!(sums_of_squares(&[&g, &nothing]).unwrap(), None);
        assert!(DeviceNorms::enqueue(&[&nothing], &[], 1.0, None).unwrap().is_none());
        assert_eq!(normalize_patches(&nothing).unwrap().dims(), [0, 5]);
        let levels = Tensor::zeros((0, 1, 3, 3), DType::U8, &Device::Cpu).unwrap();
        let values = look_up_levels(&levels, &numbers(&[1, 256], DType::F32, 2)).unwrap();
        assert_eq!(values.dims(), [0, 1, 3, 3]);
        AdamWSteps::new().run().unwrap();
    });
    assert_eq!(emulated::launches(), launches);
}

/// The kernels of all sources.
fn kernels(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            kernels(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("__global__ void ").skip(1);
            into.extend(names.filter_map(|rest| Some(rest.split('(').next()?.to_string())));
        }
    }
}

#[test]
fn every_kernel() {
    if !emulated::has_compiler() {
        eprintln!("not run, there is no C++ compiler (c++)");
        return;
    }
    let mut all = BTreeSet::new();
    kernels(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 40, "{all:?}");
    for entry in TABLE {
        let before = emulated::kernels_run();
        let name = entry.kernels[0];
        for kind in [F32, BF16] {
            compare(name, entry.odd, kind, &entry.operator);
            without_values(name, entry.empty, kind.0, entry.operator);
        }
        let after = emulated::kernels_run();
        let run: BTreeSet<&str> = after.difference(&before).copied().collect();
        assert_eq!(run, entry.kernels.iter().copied().collect(), "the kernels of an operator");
    }
    branches();
    without_gradient();
    let run: BTreeSet<String> = emulated::kernels_run().iter().map(ToString::to_string).collect();
    let missing: Vec<&String> = all.difference(&run).collect();
    assert!(missing.is_empty(), "no entry of the table runs {missing:?}");
}
