//! The rows of the paper's comparison, as `pad pretrain --recipe` runs them, against the reference's
//! facts of ViT-B.

use pad::{
    Fusion, Scale,
    params::Role,
    ssl::Paradigm,
    train::{Schedule, lr_for_batch},
    vit::ViTConfig,
};
use pad_testkit::index;

use super::Pretrain;
use crate::{
    run::schedule::Length,
    settings::{Settings, Trainer, recipes::expect, values::Auto},
};

/// The rows; the others are sizes of a run.
const ROWS: [&str; 8] = [
    "scratch",
    "rgb-only",
    "full",
    "full-layer-decay",
    "fixed-scale",
    "per-layer-scale",
    "learnable-scale",
    "pad",
];

fn recipe(name: &str) -> Settings<Pretrain> {
    Settings::of_recipe(expect::<Pretrain>(name).unwrap()).unwrap()
}

#[test]
fn every_row_is_there_with_its_paradigm() {
    let paradigms = ROWS.map(|name| {
        let Settings { run, own } = recipe(name);
        assert_eq!((run.model.clone(), run.patch_size), (Auto::Given("base".into()), 16), "{name}");
        let paradigm = own.paradigm(&run, true);
        (
            name,
            paradigm,
            paradigm
                .has_adapters()
                .then(|| run.with_new_adapters(ViTConfig::base(16)).adapter.unwrap().scale),
        )
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
    for name in ROWS {
        let Settings { run, .. } = recipe(name);
        // 100 updates an epoch of 4096 images each.
        let length = Length::new(&run, 100, 1).unwrap();
        let schedule = length.schedule(&run, 4096);
        let mut compared = 0;
        for pair in facts["lr_schedule"].as_array().unwrap() {
            let (epoch, want) = (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
            let found = schedule.at(epoch);
            assert!((found - want).abs() < 1e-12, "{name}, epoch {epoch}: {found} {want}");
            compared += 1;
        }
        assert!(compared > 8);
        assert_eq!(run.weight_decay, 0.05);
        let peak_lr = lr_for_batch(1e-4, 4096);
        assert_eq!(schedule, Schedule::warmup_cosine(peak_lr, 0.0, 30.0, 100.0), "{name}");
    }
}

#[test]
fn groups_are_the_references() {
    let facts = index("vit_base_facts");
    let paradigm = |name: &str| {
        let Settings { run, own } = recipe(name);
        own.paradigm(&run, true)
    };
    let decayed = paradigm("full-layer-decay").plan(12, 100);
    let mut compared = 0;
    for group in facts["layer_decay_0.7"].as_array().unwrap() {
        for name in group["names"].as_array().unwrap() {
            let role = Role::of(name.as_str().unwrap());
            // The fixed tables never train here.
            let Some(rate) = decayed.rate(role) else { continue };
            assert!((rate.lr_factor - group["lr_scale"].as_f64().unwrap()).abs() < 1e-12, "{name}");
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared}");
    // PAD: what the reference trains, but for the decoder's fixed table; gates from epoch 61 on.
    let pad = paradigm("pad");
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
fn every_recipe_is_valid() {
    fn check<P: Trainer + PartialEq>() {
        for recipe in P::RECIPES {
            let settings = Settings::<P>::of_recipe(recipe).unwrap();
            // What a run writes is read back.
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.toml"), settings.to_toml(None).unwrap())
                .unwrap();
            assert!(Settings::<P>::of_run(folder.path()).unwrap() == settings, "{}", recipe.name);
        }
    }
    check::<Pretrain>();
    check::<crate::segment::Segment>();
    check::<crate::detect::Detect>();
}
