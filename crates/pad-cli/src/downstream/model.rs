//! The model of a task at the start of a run, and the one that a run left.

use std::{collections::BTreeMap, path::Path};

use candle_core::Device;
use pad::{
    checkpoint::Backbone,
    data::transform::Normalize,
    heads::{Start, TaskNetwork},
    params::Role,
    rng::Key,
    train::TrainingCheckpoint,
};

use super::{Classes, Downstream, Model};
use crate::{
    run::{
        Result,
        adapters::{Adapted, adapt},
        backbone,
        folder::FROZEN_ADAPTERS,
        read_text,
        source::Found,
    },
    settings::{Given, Settings, merge::SETTINGS},
};

/// The classes of a run, in its folder.
pub const CLASSES: &str = "classes.json";

/// The classes as JSON.
pub fn classes_to_json<P: Downstream>(classes: &Classes<P>) -> Result<String> {
    Ok(serde_json::to_string_pretty(&P::Network::to_stored(classes))? + "\n")
}

fn classes_of_run<P: Downstream>(folder: &Path) -> Result<Classes<P>> {
    let path = folder.join(CLASSES);
    let fault = |error: String| format!("{}: {error}", path.display());
    let text = read_text(&path).map_err(|error| fault(error.to_string()))?;
    let stored = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    Ok(P::Network::from_stored(stored).map_err(|error| fault(error.to_string()))?)
}

/// The model at the start of a run: the backbone of `--weights`, all else new. `given` are the
/// settings that the user chose.
pub fn start<P: Downstream>(
    settings: &Settings<P>,
    given: &Given,
    backbone: Option<Backbone>,
    classes: &Classes<P>,
    normalize: Normalize,
    device: &Device,
) -> Result<Model<P>> {
    let Settings { run, own } = settings;
    let known = backbone::vit(run, backbone.as_ref())?;
    let Adapted { vit, leaves_out } = adapt(run, given, own.adapters(), known)?;
    let config = P::config(settings, vit, classes)?;
    let start = Start::new(device, Key::new(run.seed))
        .with_trained(own.trained())
        .with_layer_decay(run.layer_decay.unwrap_or(1.0))
        .with_fresh_adapters(leaves_out);
    let checkpoint = backbone.map(Backbone::into_checkpoint).filter(|_| own.starts_on_weights());
    let model = Model::<P>::new(&config, classes.clone(), checkpoint, &start)?
        .with_normalize(normalize)
        .with_checkpointing(run.checkpoint_blocks)
        .with_matmul_precision(run.dtype.0)
        .with_note(SETTINGS, settings.to_note()?);
    backbone::log_changes(run, model.changes());
    Ok(model)
}

/// A trained model, with how images go through it. For a checkpoint the model is built as the run
/// built it.
pub fn open<P: Downstream>(
    settings: &mut Settings<P>,
    found: Found,
    run: Option<&Path>,
    device: &Device,
) -> Result<(Model<P>, P::Inference)> {
    let model = match found {
        Found::File(file) => {
            Model::<P>::from_checkpoint(*file, device)?.with_matmul_precision(settings.run.dtype.0)
        }
        Found::Checkpoint(checkpoint) => {
            let classes = classes_of_run::<P>(run.ok_or("a checkpoint needs --run")?)?;
            let backbone = P::weights(settings)?;
            let usual = Normalize::downstream();
            let normalize = backbone::normalize(&settings.run, backbone.as_ref(), usual);
            let given = Given::new(); // chosen when the run began
            let model = start(settings, &given, backbone, &classes, normalize, device)?;
            expect_frozen(&checkpoint, &frozen::<P>(&model)?)?;
            checkpoint.load_evaluated(&model.parameters(settings.run.weight_decay))?;
            model
        }
    };
    let model = P::opened(settings, model)?;
    let normalize = model.normalize.clone().unwrap_or_else(Normalize::downstream);
    let pipeline = P::pipeline(settings, &normalize, &model.classes)?;
    Ok((model, settings.own.inference(pipeline)?))
}

/// What a checkpoint must find again in the weights of its run, since it does not hold what is
/// frozen: the digest of the backbone, and that of adapters that do not train.
pub fn frozen<P: Downstream>(model: &Model<P>) -> Result<BTreeMap<String, String>> {
    let mut facts = BTreeMap::from([("frozen".to_string(), model.store.backbone_digest()?)]);
    let adapters = backbone::frozen_digest(&model.store, Role::is_adapter)?;
    facts.extend(adapters.map(|digest| (FROZEN_ADAPTERS.to_string(), digest)));
    Ok(facts)
}

/// Checks that a checkpoint stands on the weights that it was trained on.
fn expect_frozen(checkpoint: &TrainingCheckpoint, found: &BTreeMap<String, String>) -> Result<()> {
    let stored = checkpoint.metadata()?;
    for (name, what) in [("frozen", "backbone"), (FROZEN_ADAPTERS, "adapters")] {
        // Runs of earlier versions do not know their adapters.
        let Some(expected) = stored.get(name) else { continue };
        let found = found.get(name).map_or("none", String::as_str);
        if expected != found {
            return Err(format!(
                "{}: `{name}`: expected the {what} {expected}, found {found}: the weights of the run are others now",
                checkpoint.path().display()
            )
            .into());
        }
    }
    Ok(())
}
