//! Several adapters in one model: trained apart, saved apart, loaded, renamed; and adapter files
//! that are not what they should be.

use std::collections::BTreeMap;

use candle_core::{Tensor, safetensors};
use pad_adapter::{
    Adapter, AdapterConfig, Error, Result, Scale,
    checkpoint::{
        AdapterContents, AdapterFile, Backbone, BackboneOptions, Checkpoint, FloatType, save,
        save_adapter,
    },
    params::{DEFAULT_ADAPTER, ParamStore, Plan, Role, adapter_name},
};
use pad_ops::{Mode, rng::Key};
use pad_testkit::{close, numbers};

use crate::{
    dinov2::DINOV2,
    harness::{ADAPTER, CPU},
    vit::VIT,
};

const DIM: usize = 8;

/// A layer of a model of one's own, with adapters for the day and the night.
struct Layer {
    mixer: candle_nn::Linear,
    adapters: Vec<(String, Adapter)>,
}

fn build(names: &[&str]) -> impl Fn(candle_nn::VarBuilder<'static>) -> Result<Layer> {
    move |vb| {
        let place = vb.pp("layer.0");
        let adapters = names.iter().map(|name| {
            Ok((name.to_string(), Adapter::named(name, DIM, &ADAPTER, place.clone())?))
        });
        let adapters = adapters.collect::<Result<_>>()?;
        Ok(Layer { mixer: candle_nn::linear(DIM, DIM, vb.pp("mixer"))?, adapters })
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, which: &str) -> Tensor {
        use candle_nn::Module;
        let mlp = self.mixer.forward(x).unwrap();
        let (_, adapter) = self.adapters.iter().find(|(name, _)| name == which).unwrap();
        adapter.forward(x, &mlp, Mode::Eval).unwrap()
    }
}

fn backbone() -> Checkpoint {
    let tensors = [("mixer.weight", vec![DIM, DIM]), ("mixer.bias", vec![DIM])];
    let tensors = tensors.map(|(name, shape)| {
        (name.to_string(), numbers(&shape, candle_core::DType::F32, name.len() as u64))
    });
    Checkpoint::from_tensors("weights", tensors.into())
}

fn input() -> Tensor {
    numbers(&[2, 3, DIM], candle_core::DType::F32, 9)
}

/// Moves every variable of a store.
fn train(store: &ParamStore) {
    for (salt, one) in store.planned().into_iter().enumerate() {
        let noise = numbers(one.var.dims(), candle_core::DType::F32, 70 + salt as u64);
        one.var.set(&(one.var.as_tensor() + noise).unwrap().detach()).unwrap();
    }
}

/// A store on `weights` in which the adapters `trained` train.
fn store(weights: Checkpoint, fresh: &[&str], trained: &[&str]) -> ParamStore {
    ParamStore::from_checkpoint(weights, &CPU, Key::new(1))
        .with_plan(Plan::of_roles(Role::is_adapter).with_other(None))
        .with_fresh_adapters(fresh.iter().copied())
        .with_trained_adapters(trained.iter().copied())
}

#[test]
fn day_and_night_are_trained_and_saved_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(format!("{name}.safetensors"));
    let both = ["day", "night"];
    let notes = BTreeMap::new();

    // Day first, alone.
    let first = store(backbone(), &["day"], &["day"]);
    let layer = first.build(build(&["day"])).unwrap();
    train(&first);
    save_adapter(at("day"), &first, AdapterContents::from(ADAPTER).with_name("day"), &notes)
        .unwrap();
    let by_day = layer.forward(&input(), "day");

    // Night beside it, which alone trains.
    let day = AdapterFile::open(at("day")).unwrap();
    assert_eq!((day.name(), day.places()), ("day", vec!["layer.0".to_string()]));
    let second = store(day.onto(backbone()).unwrap(), &["night"], &["night"]);
    let layer = second.build(build(&both)).unwrap();
    assert_eq!(second.adapter_names(), both);
    assert_eq!(second.summary().trained, ADAPTER.parameter_count(DIM));
    assert!(second.planned().iter().all(|one| adapter_name(&one.name) == Some("night")));
    train(&second);
    close("day stays", &layer.forward(&input(), "day"), &by_day, 0.0);
    let by_night = layer.forward(&input(), "night");
    assert!(pad_testkit::relative_difference(&by_night, &by_day) > 1e-3);
    for name in both {
        let contents = AdapterContents::from(ADAPTER).with_name(name);
        save_adapter(at(name), &second, contents, &notes).unwrap();
    }

    // Both from their files; night under another name.
    let day = AdapterFile::open(at("day")).unwrap();
    let dusk = AdapterFile::open(at("night")).unwrap().with_name("dusk").unwrap();
    let weights = dusk.onto(day.onto(backbone()).unwrap()).unwrap();
    let third = store(weights, &[], &["dusk", "day"]);
    let layer = third.build(build(&["day", "dusk"])).unwrap();
    close("day", &layer.forward(&input(), "day"), &by_day, 0.0);
    close("dusk", &layer.forward(&input(), "dusk"), &by_night, 0.0);
    assert_eq!(third.summary().trained, 2 * ADAPTER.parameter_count(DIM));

    // Renamed in the store: the model keeps its variables, files have the new name.
    third.rename_adapter("dusk", "dawn").unwrap();
    assert_eq!(third.adapter_names(), ["dawn", "day"]);
    let contents = AdapterContents::from(ADAPTER).with_name("dawn");
    save_adapter(at("dawn"), &third, contents, &notes).unwrap();
    assert_eq!(AdapterFile::open(at("dawn")).unwrap().name(), "dawn");
    let [night, dawn] = ["night", "dawn"].map(|name| safetensors::load(at(name), &CPU).unwrap());
    assert_eq!(night.len(), 7);
    for (name, tensor) in night {
        close(&name, &dawn[&name], &tensor, 0.0);
    }
    assert_eq!(
        third.rename_adapter("dawn", "day").unwrap_err().to_string(),
        "adapter: `day` is the name of another adapter of the model"
    );
    assert_eq!(
        third.rename_adapter("dwan", "x").unwrap_err().to_string(),
        "adapter: expected one of dawn, day, found `dwan` (did you mean `dawn`?)"
    );
    assert!(third.rename_adapter("dawn", "a.b").unwrap_err().to_string().contains("is `a.b`"));
}

#[test]
fn names_that_no_adapter_has() {
    let notes = BTreeMap::new();
    let refused = store(backbone(), &["day"], &["dya"]).build(build(&["day"])).map(|_| ());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "adapter: expected one of day, found `dya` (did you mean `day`?)"
    );
    // Day may be new, night may not.
    let refused = store(backbone(), &["day"], &["day"]).build(build(&["day", "night"])).map(|_| ());
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("missing 7: layer.0.adapters.night.adaptmlp."), "{text}");
    let refused = store(backbone(), &[], &[]).build(build(&["3"])).map(|_| ());
    assert!(refused.unwrap_err().to_string().contains("is `3`, expected a letter"));

    let built = store(backbone(), &["day"], &["day"]);
    built.build(build(&["day"])).unwrap();
    let save = |contents: AdapterContents| {
        save_adapter("never-written.safetensors", &built, contents, &notes).unwrap_err().to_string()
    };
    assert_eq!(save(ADAPTER.into()), "adapter: expected one of day, found `default`");
    let day = AdapterContents::from(ADAPTER).with_name("day");
    assert_eq!(
        save(day.clone().with_head(true)),
        "adapter file: the model has no parameter of the role `Head` to save"
    );
    // A configuration that is not the adapters'.
    let other = AdapterConfig { bottleneck: 64, scale: Scale::Fixed(0.5), ..ADAPTER };
    assert_eq!(
        save(AdapterContents::from(other).with_name("day")),
        "adapter file: `bottleneck` of the adapter at `layer.0`: the configuration says 64, found 3; `scale` of the \
         adapter at `layer.0`: the configuration says fixed=0.5, found a gate of 16 values"
    );
    assert!(!std::path::Path::new("never-written.safetensors").exists());
}

/// Files whose digest says nothing: written where every parameter counted as head.
#[test]
fn an_empty_digest_is_refused() {
    let heads = ParamStore::scratch(&CPU, Key::new(1)).with_roles(|_| Role::Head);
    heads.build(build(&[DEFAULT_ADAPTER])).unwrap();
    let text = save_adapter("never-written.safetensors", &heads, ADAPTER, &BTreeMap::new());
    assert_eq!(
        text.unwrap_err().to_string(),
        "backbone digest: all 9 parameters are adapters', heads' or decoders', so no backbone is left"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    let good = store(backbone(), &[DEFAULT_ADAPTER], &[DEFAULT_ADAPTER]);
    good.build(build(&[DEFAULT_ADAPTER])).unwrap();
    save_adapter(&path, &good, ADAPTER, &BTreeMap::new()).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let with = |key: &str, value: &str| {
        let mut metadata = file.metadata().clone();
        metadata.insert(key.into(), value.into());
        save(&path, file.tensors(), &metadata, FloatType::AsIs).unwrap();
        let text = AdapterFile::open(&path).map(|_| ()).unwrap_err().to_string();
        text.replace(&path.display().to_string(), "FILE")
    };
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for digest in [nothing, "0123", &"x".repeat(64)] {
        assert_eq!(
            with("backbone_sha256", digest),
            format!(
                "FILE: metadata `backbone_sha256` is `{digest}`, expected the SHA-256 of a backbone, 64 hexadecimal \
                 digits and not those of no tensor at all: the adapter's backbone is unknown"
            )
        );
    }
    assert_eq!(
        with("backbone_tensors", "[]"),
        "FILE: metadata `backbone_tensors` is empty: the adapter's backbone is unknown"
    );
    assert!(with("backbone_tensors", "{").starts_with("FILE: metadata `backbone_tensors`: "));
    assert!(with("adapter", "{\"bottleneck\":\"x\"}").starts_with("FILE: metadata `adapter`: "));
    assert!(
        with("adapter_name", "a.b").contains("`adapter_name`: adapter: the name of an adapter")
    );
    assert!(with("format", "pad-adapter/9").contains("not an adapter file: format pad-adapter/9"));
    AdapterFile::open(&path).unwrap_err();
    save(&path, file.tensors(), file.metadata(), FloatType::AsIs).unwrap();
    let opened = AdapterFile::open(&path).unwrap();

    // A backbone without a tensor that counts, and one whose names are all others.
    let mut empty = backbone();
    empty.retain(|_| false);
    assert!(matches!(opened.check(&empty), Err(Error::Format { .. })));
    assert!(matches!(opened.check(&VIT.weights(1)), Err(Error::OtherBackbone { .. })));
    assert!(matches!(opened.check(&DINOV2.weights(1)), Err(Error::OtherBackbone { .. })));

    // A ViT of this project is not what it belongs to.
    let options = BackboneOptions::default();
    let text =
        Backbone::open(path.to_str().unwrap(), &options).map(|_| ()).unwrap_err().to_string();
    assert!(text.ends_with("`AdapterFile::open`, and `onto` with that model's weights"), "{text}");
}

/// Roles that forget the adapters do not make them part of the backbone.
#[test]
fn adapters_are_adapters_whatever_the_roles_say() {
    let prefix = "mixer".to_string();
    let forgetful = ParamStore::from_checkpoint(backbone(), &CPU, Key::new(1))
        .with_roles(move |name| if name.starts_with(&prefix) { Role::Block(0) } else { Role::Head })
        .with_fresh(Role::is_adapter)
        .with_trained(Role::is_adapter);
    forgetful.build(build(&[DEFAULT_ADAPTER])).unwrap();
    assert_eq!(forgetful.summary().trained, ADAPTER.parameter_count(DIM));
    assert!(forgetful.tensors(|role| role == Role::Head).is_empty());
}
