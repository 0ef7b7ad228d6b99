//! Pre-trained weights under a run, and the transformer that they make.

use std::collections::BTreeMap;

use candle_core::Tensor;
use pad::{
    checkpoint::{Backbone, BackboneOptions, Checkpoint},
    data::transform::Normalize,
    params::{ParamStore, Role},
    vit::ViTConfig,
};

use super::Result;
use crate::{
    settings::{RunSettings, values::Auto},
    tools::weights::{backbone_options, in_flags},
};

/// How this run's weights are opened.
fn options(run: &RunSettings) -> BackboneOptions {
    backbone_options()
        .with_reader(pad::ssl::read_backbone)
        .with_prefix(run.prefix.clone())
        .with_key(run.key.clone())
        .with_backbone(run.backbone.clone())
        .with_any_backbone(run.any_backbone)
        .with_scale(run.adapter_scale.given().copied())
}

/// The weights that the settings name; `None` for `none`.
pub fn open(run: &RunSettings) -> Result<Option<Backbone>> {
    if run.weights == "none" {
        return Ok(None);
    }
    open_as(&run.weights, run).map(Some)
}

/// Weights opened as those of this run are.
pub fn open_as(source: &str, run: &RunSettings) -> Result<Backbone> {
    let backbone = Backbone::open(source, &options(run)).map_err(in_flags)?;
    if !backbone.report().is_unchanged() {
        tracing::info!("{source}: {}", backbone.report().summary());
    }
    Ok(backbone)
}

/// The transformer that settings and weights describe, as the weights have it.
pub fn vit(run: &RunSettings, backbone: Option<&Backbone>) -> Result<ViTConfig> {
    match (&run.model, backbone) {
        (Auto::Given(name), backbone) => {
            let named = ViTConfig::preset(name, run.patch_size)?;
            let known = backbone.map(|backbone| backbone.config_as(named));
            known.unwrap_or(Ok(named)).map_err(|error| in_flags(error).into())
        }
        (Auto::Auto, Some(backbone)) => backbone.config().map_err(|error| in_flags(error).into()),
        (Auto::Auto, None) => Err(format!(
            "without weights the model must be named: --model {}",
            ViTConfig::PRESETS.join(", ")
        )
        .into()),
    }
}

/// The normalisation of a run: the one that is given, that of the weights, or `usual`; logged.
pub fn normalize(run: &RunSettings, backbone: Option<&Backbone>, usual: Normalize) -> Normalize {
    let of_weights = || {
        let stats = backbone?.input_stats()?;
        Some(Normalize { mean: stats.mean, std: stats.std })
    };
    let (normalize, origin) = match &run.normalize {
        Auto::Given(normalize) => (normalize.clone(), "as set"),
        Auto::Auto => match of_weights() {
            Some(normalize) => (normalize, "that of the weights"),
            None => (usual, "the weights do not say theirs"),
        },
    };
    tracing::info!("normalisation: {normalize} ({origin})");
    normalize
}

/// The digest of the parameters that do not train and whose role `wanted` accepts, which the
/// checkpoints of a run do not hold; `None` without any.
pub fn frozen_digest(store: &ParamStore, wanted: impl Fn(Role) -> bool) -> Result<Option<String>> {
    let params = store.params().into_iter();
    let frozen = params.filter(|param| param.var.is_none() && wanted(param.role));
    let frozen: BTreeMap<String, Tensor> = frozen.map(|param| (param.name, param.tensor)).collect();
    if frozen.is_empty() {
        return Ok(None);
    }
    Ok(Some(Checkpoint::from_tensors("frozen parameters", frozen).digest()?))
}

/// Logs what fitting weights to a model changed.
pub fn log_changes(run: &RunSettings, changes: &[String]) {
    changes.iter().for_each(|change| tracing::info!("{}: {change}", run.weights));
}
