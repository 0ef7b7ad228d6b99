//! The adapters of a run: those of its weights, new ones, or none.

use pad::{
    AdapterActivation, AdapterConfig, AdapterKind, AdapterNorm, AdapterPlacement, LoraConfig,
    LoraTarget, Scale, vit::ViTConfig,
};

use super::Result;
use crate::settings::{Given, RunSettings, names::Adapters, values::Text};

/// Settings that say what new adapters are.
const SETTINGS: [&str; 9] = [
    "adapter",
    "adapter_scale",
    "bottleneck",
    "adapter_norm",
    "adapter_dropout",
    "lora_rank",
    "lora_alpha",
    "lora_targets",
    "lora_bias",
];

/// Whether a model has adapters, before weights and settings are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It always has some: new ones where the weights have none.
    Always,
    /// It has those of the weights, or new ones if they are wanted.
    AsWeights,
    /// It has none.
    Never,
}

/// A transformer with its adapters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapted {
    /// The transformer.
    pub vit: ViTConfig,
    /// Whether the adapters of the weights are left out.
    pub leaves_out: bool,
}

/// Gives the transformer `known` of the weights the adapters of the run. `given` are the settings
/// that the user chose.
///
/// # Errors
/// Adapters of the weights that differ from what the user chose; settings that new ones do not
/// have.
pub fn adapt(run: &RunSettings, given: &Given, place: Place, known: ViTConfig) -> Result<Adapted> {
    let has = known.adapter.is_some() || known.lora.is_some();
    let new = || -> Result<Adapted> {
        let faults = run.new_adapter_faults();
        match faults.is_empty() {
            true => Ok(Adapted { vit: run.with_new_adapters(known), leaves_out: has }),
            false => Err(faults.join("; ").into()),
        }
    };
    let none =
        || Adapted { vit: ViTConfig { adapter: None, lora: None, ..known }, leaves_out: has };
    let adapted = match (place, run.adapters.unwrap_or(Adapters::Auto)) {
        (Place::Never, _) | (_, Adapters::None) => none(),
        (_, Adapters::New) => new()?,
        (_, Adapters::Auto) if has => match keep(run, given, known)? {
            Some(kept) => kept,
            None => new()?,
        },
        (Place::AsWeights, Adapters::Auto) if run.adapter.is_none() => none(),
        (_, Adapters::Auto) => new()?,
    };
    if adapted.vit.adapter.is_none() && adapted.vit.lora.is_none() {
        let unused: Vec<_> = chosen(given).map(|name| format!("`{name}`")).collect();
        if !unused.is_empty() {
            let help = match place {
                Place::AsWeights => " (--adapters new puts new ones into it)",
                _ => "",
            };
            tracing::warn!("no effect of {}: the model has no adapters{help}", unused.join(", "));
        }
    }
    Ok(adapted)
}

fn chosen(given: &Given) -> impl Iterator<Item = &'static str> {
    SETTINGS.into_iter().filter(|name| given.contains(*name))
}

/// The transformer with the adapters of the weights; `None` for a run of an earlier version that
/// replaced them.
///
/// # Errors
/// Adapters that differ from what the user chose.
fn keep(run: &RunSettings, given: &Given, known: ViTConfig) -> Result<Option<Adapted>> {
    let differences = differences(run, given, &known);
    if !differences.is_empty() {
        // In earlier versions a kind of adapters meant new ones: so says the file of a run.
        if run.adapter.is_some() && !given.contains("adapter") {
            return Ok(None);
        }
        return Err(format!(
            "{}: its adapters are not those of the settings: {}; leave these out to use its adapters, or start \
             new ones with --adapters new",
            run.weights,
            differences.join("; ")
        )
        .into());
    }
    tracing::info!("adapters of the weights: {}", describe(&known));
    let mut vit = known;
    if let Some(dropout) = run.adapter_dropout {
        vit.adapter = vit.adapter.map(|adapter| AdapterConfig { dropout, ..adapter });
        vit.lora = vit.lora.map(|lora| LoraConfig { dropout, ..lora });
    }
    Ok(Some(Adapted { vit, leaves_out: false }))
}

/// What of the adapters of `known` differs from the settings: all of it where the settings name a
/// kind, else what the user chose. Dropout is no property of the weights.
fn differences(run: &RunSettings, given: &Given, known: &ViTConfig) -> Vec<String> {
    let whole = run.adapter.is_some();
    let is_said = |name: &str| whole || given.contains(name);
    // Without a kind it is that of the weights.
    let of_kind = run.adapter.unwrap_or_else(|| Text(kind(known)));
    let wanted = RunSettings { adapter: Some(of_kind), ..run.clone() }.with_new_adapters(*known);
    let mut found = Differences::default();
    match (wanted.adapter, wanted.lora, known.adapter, known.lora) {
        (Some(wanted), _, Some(known), _) => {
            if whole && wanted.placement != known.placement {
                found.push("adapter", kind_of(&wanted), kind_of(&known));
            } else if whole && wanted.activation != known.activation {
                found.push("adapter", with_activation(&wanted), with_activation(&known));
            }
            if is_said("bottleneck") {
                found.compare("bottleneck", wanted.bottleneck, known.bottleneck);
            }
            if is_said("adapter_norm") {
                let has_norm = |config: &AdapterConfig| config.norm == AdapterNorm::In;
                found.compare("adapter_norm", has_norm(&wanted), has_norm(&known));
            }
            // What a learnable scale began with is gone once it has trained.
            let are_learnt = [wanted.scale, known.scale]
                .iter()
                .all(|scale| matches!(scale, Scale::Learnable { .. }));
            let is_chosen = run.adapter_scale.given().is_some() && given.contains("adapter_scale");
            if (whole || is_chosen) && !are_learnt {
                found.compare("adapter_scale", wanted.scale, known.scale);
            }
        }
        (_, Some(wanted), _, Some(known)) => {
            found.compare("adapter", kind_of_lora(&wanted), kind_of_lora(&known));
            if is_said("lora_targets") {
                found.compare("lora_targets", targets(&wanted), targets(&known));
            }
            if is_said("lora_rank") {
                found.compare("lora_rank", ranks(&wanted), ranks(&known));
            }
            if is_said("lora_alpha") {
                found.compare("lora_alpha", alphas(&wanted), alphas(&known));
            }
            if is_said("lora_bias") {
                found.compare("lora_bias", wanted.bias, known.bias);
            }
        }
        _ => found.push("adapter", kind(&wanted), kind(known)),
    }
    if !whole {
        // What is said of the other form, which the weights do not have.
        let has_lora = known.lora.is_some();
        let other = if has_lora { "bottlenecks" } else { "low-rank adapters" };
        let is_of_other = |name: &str| {
            !matches!(name, "adapter" | "adapter_dropout") && name.starts_with("lora_") != has_lora
        };
        for name in chosen(given).filter(|name| is_of_other(name)) {
            found.push(name, other, format!("{} adapters", kind(known)));
        }
    }
    found.0
}

/// A line for each difference.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare(&mut self, name: &str, wanted: impl ToString, known: impl ToString) {
        let (wanted, known) = (wanted.to_string(), known.to_string());
        if wanted != known {
            self.push(name, wanted, known);
        }
    }

    fn push(&mut self, name: &str, wanted: impl ToString, known: impl ToString) {
        let (wanted, known) = (wanted.to_string(), known.to_string());
        self.0.push(format!("`{name}`: expected {wanted}, found {known}"));
    }
}

/// The adapters of a transformer, for the log.
fn describe(vit: &ViTConfig) -> String {
    match (vit.adapter, vit.lora) {
        (Some(adapter), _) => {
            let AdapterConfig { bottleneck, scale, .. } = adapter;
            format!("{}, bottleneck {bottleneck}, scale {scale}", kind(vit))
        }
        (None, Some(lora)) => {
            format!(
                "{}, rank {}, alpha {}, on {}",
                kind(vit),
                ranks(&lora),
                alphas(&lora),
                targets(&lora)
            )
        }
        (None, None) => "none".into(),
    }
}

/// The kind of a transformer's adapters.
fn kind(vit: &ViTConfig) -> AdapterKind {
    match (vit.adapter, vit.lora) {
        (_, Some(lora)) => kind_of_lora(&lora),
        (adapter, None) => adapter.map_or(AdapterKind::Pad, |adapter| kind_of(&adapter)),
    }
}

fn kind_of(config: &AdapterConfig) -> AdapterKind {
    match (config.placement, config.norm) {
        (AdapterPlacement::AfterBoth, _) => AdapterKind::Houlsby,
        (AdapterPlacement::AfterMlp, _) => AdapterKind::Pfeiffer,
        (_, AdapterNorm::None) => AdapterKind::AdaptFormer,
        _ => AdapterKind::Pad,
    }
}

fn with_activation(config: &AdapterConfig) -> String {
    let activation = match config.activation {
        AdapterActivation::Relu => "ReLU",
        AdapterActivation::Gelu => "GELU",
        _ => "another activation",
    };
    format!("{} with {activation}", kind_of(config))
}

fn kind_of_lora(config: &LoraConfig) -> AdapterKind {
    match (config.dora, config.rank_stabilized) {
        (true, _) => AdapterKind::Dora,
        (false, true) => AdapterKind::RsLora,
        (false, false) => AdapterKind::Lora,
    }
}

/// The adapted layers, each with what `of` says of it; one value for all where it is the same.
fn sizes(config: &LoraConfig, of: impl Fn(pad::LoraSize) -> String) -> String {
    let sizes: Vec<(&str, String)> = (LoraTarget::ALL.into_iter())
        .filter_map(|target| Some((target.name(), of(config.targets.get(target)?))))
        .collect();
    match sizes.split_first() {
        Some(((_, first), others)) if others.iter().all(|(_, other)| other == first) => {
            first.clone()
        }
        _ => {
            let each = sizes.iter().map(|(name, size)| format!("{size} on {name}"));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

fn ranks(config: &LoraConfig) -> String {
    sizes(config, |size| size.rank.to_string())
}

fn alphas(config: &LoraConfig) -> String {
    sizes(config, |size| size.alpha.to_string())
}

fn targets(config: &LoraConfig) -> String {
    let targets =
        LoraTarget::ALL.into_iter().filter(|target| config.targets.get(*target).is_some());
    targets.map(LoraTarget::name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::values::{Auto, List};

    fn pad(bottleneck: usize) -> ViTConfig {
        let adapter = AdapterConfig { bottleneck, ..Default::default() };
        ViTConfig { adapter: Some(adapter), ..ViTConfig::pico(16) }
    }

    fn lora(kind: AdapterKind, rank: usize, targets: &[LoraTarget]) -> ViTConfig {
        let kind = kind.lora().unwrap();
        let sizes = LoraConfig::new(rank, 2.0 * rank as f64, targets).targets;
        ViTConfig { lora: Some(LoraConfig { targets: sizes, ..kind }), ..ViTConfig::pico(16) }
    }

    fn given(names: &[&str]) -> Given {
        names.iter().map(ToString::to_string).collect()
    }

    fn kept(run: &RunSettings, names: &[&str], known: ViTConfig) -> ViTConfig {
        let adapted = adapt(run, &given(names), Place::Always, known).unwrap();
        assert!(!adapted.leaves_out);
        adapted.vit
    }

    fn refused(run: &RunSettings, names: &[&str], known: ViTConfig) -> String {
        let error = adapt(run, &given(names), Place::Always, known).unwrap_err().to_string();
        let error = error.strip_prefix("asset: its adapters are not those of the settings: ");
        let error = error.unwrap().strip_suffix(
            "; leave these out to use its adapters, or start new ones with --adapters new",
        );
        error.unwrap().to_string()
    }

    #[test]
    fn adapters_of_the_weights_are_kept_unless_the_user_says_others() {
        let run = RunSettings { bottleneck: 32, ..Default::default() };
        assert_eq!(kept(&run, &[], pad(8)), pad(8), "a default and a preset say nothing");
        assert_eq!(refused(&run, &["bottleneck"], pad(8)), "`bottleneck`: expected 32, found 8");
        let same = RunSettings { bottleneck: 8, ..Default::default() };
        assert_eq!(kept(&same, &["bottleneck"], pad(8)), pad(8));
        let several = RunSettings {
            adapter_scale: Auto::Given("fixed=0.5".parse().unwrap()),
            adapter_norm: Some(false),
            ..Default::default()
        };
        assert_eq!(
            refused(&several, &["adapter_scale", "adapter_norm"], pad(8)),
            "`adapter_norm`: expected false, found true; `adapter_scale`: expected fixed=0.5, found concat"
        );
        // Dropout is of the training, not of the weights.
        let dropout = RunSettings { adapter_dropout: Some(0.3), ..Default::default() };
        let found = kept(&dropout, &["adapter_dropout"], pad(8)).adapter.unwrap();
        assert_eq!((found.bottleneck, found.dropout), (8, 0.3));
    }

    #[test]
    fn a_learnable_scale_has_learnt() {
        let scale = |text: &str| text.parse::<Scale>().unwrap();
        let of = |text: &str| RunSettings {
            bottleneck: 8,
            adapter_scale: Auto::Given(scale(text)),
            ..Default::default()
        };
        let learnt = |text: &str| {
            let adapter = AdapterConfig { bottleneck: 8, scale: scale(text), ..Default::default() };
            ViTConfig { adapter: Some(adapter), ..ViTConfig::pico(16) }
        };
        let known = learnt("learnable=1");
        assert_eq!(kept(&of("learnable=0.5"), &["adapter_scale"], known), known);
        let whole = RunSettings { adapter: Some(Text(AdapterKind::Pad)), ..of("learnable=0.5") };
        assert_eq!(kept(&whole, &["adapter", "adapter_scale"], known), known);
        assert_eq!(
            refused(&of("fixed=0.5"), &["adapter_scale"], known),
            "`adapter_scale`: expected fixed=0.5, found learnable=1"
        );
        assert_eq!(
            refused(&of("fixed=0.5"), &["adapter_scale"], learnt("fixed=1")),
            "`adapter_scale`: expected fixed=0.5, found fixed=1"
        );
    }

    #[test]
    fn a_kind_says_all_of_them() {
        let of = |kind| RunSettings { adapter: Some(Text(kind)), ..Default::default() };
        let names = &["adapter"];
        assert_eq!(kept(&of(AdapterKind::Pad), names, pad(64)), pad(64));
        assert_eq!(
            refused(&of(AdapterKind::Pad), names, pad(8)),
            "`bottleneck`: expected 64, found 8"
        );
        assert_eq!(
            refused(&of(AdapterKind::Houlsby), names, pad(64)),
            "`adapter`: expected houlsby, found pad; `adapter_norm`: expected false, found true; \
             `adapter_scale`: expected fixed=1, found concat"
        );
        assert_eq!(
            refused(&of(AdapterKind::Lora), names, pad(64)),
            "`adapter`: expected lora, found pad"
        );
        let qv = [LoraTarget::Query, LoraTarget::Value];
        let known = lora(AdapterKind::Lora, 8, &qv);
        assert_eq!(kept(&of(AdapterKind::Lora), names, known), known);
        assert_eq!(kept(&RunSettings::default(), &[], known), known);
        assert_eq!(
            refused(&of(AdapterKind::Dora), names, lora(AdapterKind::Lora, 4, &[LoraTarget::Fc1])),
            "`adapter`: expected dora, found lora; `lora_targets`: expected query,value, found fc1; \
             `lora_rank`: expected 8, found 4; `lora_alpha`: expected 16, found 8"
        );
        let mut uneven = known;
        let sizes = &mut uneven.lora.as_mut().unwrap().targets;
        sizes.set(LoraTarget::Value, pad::LoraSize { rank: 2, alpha: 16.0 });
        assert_eq!(
            refused(&of(AdapterKind::Lora), names, uneven),
            "`lora_rank`: expected 8, found 8 on query, 2 on value"
        );
        let targets = RunSettings {
            lora_targets: Some(List(vec![Text(LoraTarget::Qkv)])),
            ..of(AdapterKind::Lora)
        };
        assert_eq!(
            refused(&targets, &["adapter", "lora_targets"], known),
            "`lora_targets`: expected qkv, found query,value"
        );
        assert_eq!(
            refused(&RunSettings::default(), &["bottleneck"], known),
            "`bottleneck`: expected bottlenecks, found lora adapters"
        );
    }

    /// Without a kind, what is said of low-rank adapters is said of those of the weights.
    #[test]
    fn low_rank_adapters_are_compared_without_their_kind() {
        let of = |rank: usize| RunSettings { lora_rank: Some(rank), ..Default::default() };
        let names = &["lora_rank"];
        let known = lora(AdapterKind::Dora, 2, &[LoraTarget::Fc1, LoraTarget::Fc2]);
        assert_eq!(kept(&of(2), names, known), known);
        assert_eq!(refused(&of(4), names, known), "`lora_rank`: expected 4, found 2");
        let alpha = RunSettings { lora_alpha: Some(8.0), ..of(2) };
        assert_eq!(
            refused(&alpha, &["lora_rank", "lora_alpha"], known),
            "`lora_alpha`: expected 8, found 4"
        );
        assert_eq!(
            refused(&of(2), names, pad(8)),
            "`lora_rank`: expected low-rank adapters, found pad adapters"
        );
        // New ones must have a kind.
        let plain = ViTConfig::pico(16);
        let error = adapt(&of(2), &given(names), Place::Always, plain).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`lora_rank` with `adapter` pad, expected lora, rslora or dora"
        );
        let none = adapt(&of(2), &given(names), Place::AsWeights, plain).unwrap();
        assert_eq!(none, Adapted { vit: plain, leaves_out: false });
    }

    #[test]
    fn activations_are_named_where_nothing_else_differs() {
        let of = |kind| RunSettings { adapter: Some(Text(kind)), ..Default::default() };
        let wanted = of(AdapterKind::Houlsby);
        let mut known = wanted.with_new_adapters(ViTConfig::pico(16));
        assert_eq!(kept(&wanted, &["adapter"], known), known);
        known.adapter.as_mut().unwrap().activation = AdapterActivation::Relu;
        assert_eq!(
            refused(&wanted, &["adapter"], known),
            "`adapter`: expected houlsby with GELU, found houlsby with ReLU"
        );
    }

    #[test]
    fn new_ones_and_none_where_they_are_wanted() {
        let of = |adapters| RunSettings { adapters, bottleneck: 16, ..Default::default() };
        let nothing = given(&[]);
        let (plain, known) = (ViTConfig::pico(16), pad(8));
        let adapt = |adapters, place, known| adapt(&of(adapters), &nothing, place, known).unwrap();
        for adapters in [None, Some(Adapters::Auto), Some(Adapters::New)] {
            let new = adapt(adapters, Place::Always, plain);
            assert_eq!(new, Adapted { vit: pad(16), leaves_out: false });
        }
        // New ones of the same form are new, too.
        let new = adapt(Some(Adapters::New), Place::Always, pad(16));
        assert_eq!(new, Adapted { vit: pad(16), leaves_out: true });
        let new = adapt(Some(Adapters::New), Place::AsWeights, known);
        assert_eq!(new, Adapted { vit: pad(16), leaves_out: true });
        assert_eq!(adapt(None, Place::AsWeights, plain).vit, plain);
        assert_eq!(adapt(None, Place::AsWeights, known).vit, known);
        for (place, adapters) in [(Place::AsWeights, Some(Adapters::None)), (Place::Never, None)] {
            let none = adapt(adapters, place, known);
            assert_eq!(none, Adapted { vit: plain, leaves_out: true });
        }
    }

    /// There, a kind of adapters meant new ones, and checkpoints hold these.
    #[test]
    fn runs_of_earlier_versions_go_on_as_they_began() {
        let run = RunSettings { adapter: Some(Text(AdapterKind::Lora)), ..Default::default() };
        let known = pad(8);
        let adapted = adapt(&run, &given(&[]), Place::AsWeights, known).unwrap();
        assert_eq!(adapted, Adapted { vit: run.with_new_adapters(known), leaves_out: true });
    }
}
