//! The way out: each file under its own names again, bit for bit, and under every other's, which
//! compute the same.

use std::collections::BTreeSet;

use candle_core::Tensor;
use pad_adapter::{
    Result,
    checkpoint::{Change, Checkpoint, ConversionReport},
    params::ParamStore,
    vit::{ViT, ViTConfig},
};
use pad_ops::{Mode, rng::Key};
use pad_testkit::close;

use super::entry::{CPU, Entry, TOLERANCE};

type Export = fn(Checkpoint) -> Result<(Checkpoint, ConversionReport)>;

const EXPORTS: [(&str, Export); 3] = [
    ("hf", Checkpoint::to_transformers),
    ("original", Checkpoint::to_authors),
    ("timm", Checkpoint::to_timm),
];

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[track_caller]
fn equal(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    assert!(bits(got) == bits(want), "{what}");
}

/// The biases of queries and values: keys' are masked.
fn unmasked(bias: &Tensor) -> Tensor {
    let third = bias.dim(0).unwrap() / 3;
    let part = |i: usize| bias.narrow(0, i * third, third).unwrap();
    Tensor::cat(&[part(0), part(2)], 0).unwrap()
}

/// The names that reading left out.
fn dropped(report: &ConversionReport) -> BTreeSet<&str> {
    let dropped = report.changes.iter().filter_map(|change| match change {
        Change::Dropped { name, .. } => Some(name.as_str()),
        _ => None,
    });
    dropped.collect()
}

/// `file` under our names, of `scheme`, whose own tensors are `raw`, read with `report`.
pub(super) fn check(
    entry: &Entry,
    scheme: &str,
    (config, file): (&ViTConfig, &Checkpoint),
    raw: &Checkpoint,
    report: &ConversionReport,
) {
    let mut ours = file.clone();
    ours.describe(config).unwrap();
    let tokens = |file: Checkpoint| {
        let config = file.vit_config().unwrap();
        let store = ParamStore::from_checkpoint(file, &CPU, Key::new(0)).with_unused(|_| true);
        let vit = store.build(|vb| ViT::new(&config, vb)).unwrap();
        entry.find("input.images").map(|images| vit.forward(images, Mode::Eval).unwrap())
    };
    let want = tokens(ours.clone());
    for (names, export) in EXPORTS {
        let what = format!("{} {scheme} as {names}", entry.name);
        let (there, said) = match export(ours.clone()) {
            Ok(there) => there,
            Err(error) => {
                let text = error.to_string();
                assert_ne!(names, scheme, "{what}: {text}");
                let is_known =
                    ["transformers has no model of the family ", "publish no file", "ViTModel: "];
                assert!(is_known.iter().any(|part| text.contains(part)), "{what}: {text}");
                continue;
            }
        };
        assert!(said.unknown().is_empty(), "{what}: {:?}", said.unknown());
        // Strict: the way back leaves nothing over, and the model of it computes the same.
        let (back, said) = there.clone().to_ours(None).unwrap();
        assert!(said.unknown().is_empty(), "{what}: {:?}", said.unknown());
        assert_eq!(said.unresolved, None, "{what}");
        if let (Some(want), Some(got)) = (&want, tokens(back.clone())) {
            close(&what, &got, want, TOLERANCE);
        }
        if names != scheme {
            continue;
        }
        assert_eq!(back.vit_config().unwrap(), there.vit_config().unwrap(), "{what}");
        for (name, want) in ours.tensors() {
            // CLIP's projection has no place in timm's encoder.
            if name == "proj" && names == "timm" {
                continue;
            }
            let got = back.get(name).unwrap_or_else(|| panic!("{what}: no `{name}`"));
            equal(&format!("{what}: {name}, there and back"), got, want);
        }
        let left_out = dropped(report);
        for (name, want) in raw.tensors() {
            let Some(got) = there.get(name) else {
                let is_buffer = name.ends_with("_index") || name.contains("freqs_");
                assert!(is_buffer || left_out.contains(&name[..]), "{what}: no `{name}`");
                continue;
            };
            let masked = raw.get(&format!("{name}_mask")).is_some();
            let (got, want) = match masked {
                true => (unmasked(got), unmasked(want)),
                false => (got.clone(), want.clone()),
            };
            equal(&format!("{what}: {name}"), &got, &want);
        }
        for name in there.names() {
            assert!(raw.get(name).is_some(), "{what}: `{name}` is not in the file");
        }
    }
}
