//! The rows of the paper's comparison, as `pretrain --recipe` runs them, against the reference's facts of ViT-B.

mod programs;

/// The settings of `pretrain`, and what they take from their neighbours.
#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "../examples/cli/flags.rs"]
mod flags;
#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "../examples/cli/overlay.rs"]
mod overlay;
#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "../examples/cli/settings.rs"]
mod settings;

use pad::{
    Fusion, Scale,
    params::Role,
    ssl::Paradigm,
    train::{Schedule, lr_for_batch},
};
use pad_testkit::index;
use settings::{Flags, RECIPES, Settings};

/// What `settings` takes from its parent.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn recipe(name: &str) -> Settings {
    Settings::named(name, &Flags::default()).unwrap()
}

#[test]
fn every_row_is_there_with_its_paradigm() {
    let paradigms = RECIPES.map(|(name, _)| {
        let settings = recipe(name);
        let model = settings.mae(None).unwrap();
        let scale = model.encoder.adapter.map(|adapter| adapter.scale);
        assert_eq!((model.encoder.embed_dim, model.encoder.depth), (768, 12), "{name}");
        (name, settings.paradigm(true).unwrap(), scale)
    });
    let pad = Paradigm::Pad { gate_frozen: 0.6, decoder_embed: false };
    let full = |layer_decay| Paradigm::Full { layer_decay };
    assert_eq!(
        paradigms,
        [
            ("scratch", Paradigm::Scratch, None),
            ("rgb-only", Paradigm::DecoderOnly, None),
            ("full", full(None), None),
            ("full-layer-decay", full(Some(0.7)), None),
            ("fixed-scale", pad, Some(Scale::Fixed(0.5))),
            ("per-layer-scale", pad, Some(Scale::FixedDecay { last: 0.5 })),
            ("learnable-scale", pad, Some(Scale::Learnable { init: 0.5 })),
            ("pad", pad, Some(Scale::Patchwise(Fusion::Concat))),
        ]
    );
}

#[test]
fn learning_rates_are_the_references() {
    let facts = index("vit_base_facts");
    for (name, _) in RECIPES {
        let settings = recipe(name);
        let schedule = Schedule::WarmupCosine {
            peak_lr: lr_for_batch(settings.blr, 4096),
            min_lr: settings.min_lr,
            warmup_epochs: settings.warmup_epochs,
            epochs: settings.epochs as f64,
        };
        let mut compared = 0;
        for pair in facts["lr_schedule"].as_array().unwrap() {
            let (epoch, want) = (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
            let found = schedule.at(epoch);
            assert!((found - want).abs() < 1e-12, "{name}, epoch {epoch}: {found} {want}");
            compared += 1;
        }
        assert!(compared > 8);
        assert_eq!(settings.weight_decay, 0.05);
    }
}

#[test]
fn groups_are_the_references() {
    let facts = index("vit_base_facts");
    let decayed = recipe("full-layer-decay").paradigm(true).unwrap();
    let mut compared = 0;
    for group in facts["layer_decay_0.7"].as_array().unwrap() {
        for name in group["names"].as_array().unwrap() {
            let role = Role::of(name.as_str().unwrap());
            // The fixed tables never train here.
            let Some(rate) = decayed.plan(12, 100).rate(role) else { continue };
            assert!((rate.lr_factor - group["lr_scale"].as_f64().unwrap()).abs() < 1e-12, "{name}");
            compared += 1;
        }
    }
    pad_testkit::expect_cases(compared, 201..);
    // PAD: what the reference trains, but for the decoder's fixed table; gates from epoch 61 on.
    let pad = recipe("pad").paradigm(true).unwrap();
    for (key, trains) in [("trainable_names", true), ("frozen_names", false)] {
        for name in
            facts[key].as_object().unwrap().keys().filter(|name| *name != "decoder_pos_embed")
        {
            assert_eq!(pad.trains(Role::of(name)), trains, "{name}");
        }
    }
    let gate = pad.plan(12, 100).rate(Role::of("blocks.3.scalar_pred.weight")).unwrap();
    assert_eq!(gate.frozen_through, Some(60));
}

#[test]
fn recipes_run_by_name_and_flags_override_them() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    programs::write_images(&data, 24);
    for name in ["rgb-only", "per-layer-scale"] {
        let out = folder.path().join(name);
        let recipe = format!("--recipe={name}");
        let flags = ["--weights=asset", "--model=auto", "--epochs=1", "--max-steps=2", &recipe];
        let mut command = programs::program("pretrain");
        command.arg("--data").arg(&data).arg("--out").arg(&out).args(flags);
        command.args([
            "--image-size=64",
            "--batch-size=4",
            "--accumulate=1",
            "--workers=1",
            "--eval-every=0",
        ]);
        programs::success(command);
        let summary = programs::bytes(out.join("summary.json"));
        let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary["steps"], 2);
        assert!(summary["held_out_after"].as_f64().unwrap().is_finite());
        assert_eq!(out.join("adapter.safetensors").exists(), name != "rgb-only");
    }
    let mut command = programs::program("pretrain");
    command.arg("--data").arg(&data).arg("--out").arg(folder.path().join("x")).arg("--recipe=paid");
    let error = programs::error_line(&command.output().unwrap());
    assert!(
        error.starts_with("no recipe `paid`, expected one of scratch, rgb-only, full"),
        "{error}"
    );
}
