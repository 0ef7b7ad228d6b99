//! How strongly an adapter acts: fixed, learnt, or predicted per patch. All that is known of a
//! scale stands in this file: its names, its tensors, its counts, how it is applied and how it is
//! inferred from a file.

use std::{fmt, str::FromStr};

use candle_core::{DType, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_ops::{AdapterScale, Mode, text::near_name};
use serde::{Deserialize, Serialize};

pub use pad_ops::Fusion;

use crate::{Error, Result};

/// The factor `s` in `x + s * A(x) + MLP(LN(x))`.
///
/// In TOML: `{ patchwise = "concat" }`, `{ fixed = 0.1 }`, `{ learnable = { init = 0.5 } }`, `{
/// fixed_decay = { last = 0.5 } }`, `{ fixed_linear = { last = 0.5 } }`. As text, for flags:
/// [`Scale::NAMES`].
///
/// ```
/// use pad_adapter::{Fusion, Scale};
/// assert_eq!("concat".parse::<Scale>()?, Scale::Patchwise(Fusion::Concat));
/// assert_eq!("fixed=0.1".parse::<Scale>()?.to_string(), "fixed=0.1");
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scale {
    /// One constant for every block.
    Fixed(f64),
    /// A constant that falls towards the input: block `i` of `depth` has `last * 0.8^(depth - 1 -
    /// i)`.
    FixedDecay {
        /// The last block's scale.
        last: f64,
    },
    /// A constant that rises in equal steps from 0.1 in the first block.
    FixedLinear {
        /// The last block's scale.
        last: f64,
    },
    /// One trained number per block.
    Learnable {
        /// Its first value.
        init: f64,
    },
    /// One number per patch, predicted by a gate from the block's own branches (section 3.2 of the
    /// paper).
    Patchwise(Fusion),
}

impl Default for Scale {
    fn default() -> Self {
        Scale::Patchwise(Fusion::Concat)
    }
}

/// Kinds of scales by their names as text.
const FUSIONS: [(&str, Fusion); 4] = [
    ("concat", Fusion::Concat),
    ("sum", Fusion::Sum),
    ("side", Fusion::Side),
    ("gside", Fusion::Gside),
];

/// A scale from its number.
type FromValue = fn(f64) -> Scale;

/// Kinds with a number behind `=`.
const VALUED: [(&str, FromValue); 4] = [
    ("fixed", Scale::Fixed),
    ("fixed-decay", |last| Scale::FixedDecay { last }),
    ("fixed-linear", |last| Scale::FixedLinear { last }),
    ("learnable", |init| Scale::Learnable { init }),
];

/// The number of a valued kind that is given without one.
const DEFAULT_VALUE: f64 = 0.5;

impl Scale {
    /// Every scale as text, `S` for a number. Without `=S` the number is 0.5.
    pub const NAMES: [&str; 8] = [
        "concat",
        "sum",
        "side",
        "gside",
        "fixed=S",
        "fixed-decay=S",
        "fixed-linear=S",
        "learnable=S",
    ];

    /// The scale of block `block` in a network of `depth` blocks: the two per-block rules become
    /// [`Scale::Fixed`].
    ///
    /// ```
    /// use pad_adapter::Scale;
    /// let Scale::Fixed(scale) = (Scale::FixedDecay { last: 0.5 }).at(10, 12) else { panic!() };
    /// assert!((scale - 0.4).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn at(self, block: usize, depth: usize) -> Self {
        let from_last = depth.saturating_sub(1 + block);
        match self {
            Scale::FixedDecay { last } => Scale::Fixed(last * 0.8_f64.powi(from_last as i32)),
            Scale::FixedLinear { last } => {
                let steps = depth.saturating_sub(1).max(1) as f64;
                Scale::Fixed(0.1 + (last - 0.1) * block as f64 / steps)
            }
            other => other,
        }
    }

    /// The number that the scale is made with; `None` for patchwise scales.
    fn value(self) -> Option<f64> {
        match self {
            Scale::Fixed(value) => Some(value),
            Scale::FixedDecay { last } | Scale::FixedLinear { last } => Some(last),
            Scale::Learnable { init } => Some(init),
            Scale::Patchwise(_) => None,
        }
    }

    /// Its fault, if it has one.
    pub(crate) fn fault(self) -> Option<String> {
        let value = self.value().filter(|value| !value.is_finite())?;
        Some(format!("`scale` is {value}, expected a finite number"))
    }

    /// The number of values that train, for tokens of `embed_dim` values.
    ///
    /// ```
    /// use pad_adapter::Scale;
    /// assert_eq!(Scale::default().parameter_count(768), 1536); // the gate of [MLP; A]
    /// assert_eq!(Scale::Learnable { init: 0.5 }.parameter_count(768), 1);
    /// assert_eq!(Scale::Fixed(0.5).parameter_count(768), 0);
    /// ```
    pub fn parameter_count(self, embed_dim: usize) -> usize {
        match self {
            Scale::Learnable { .. } => 1,
            Scale::Fixed(_) | Scale::FixedDecay { .. } | Scale::FixedLinear { .. } => 0,
            Scale::Patchwise(_) => self.gate_width(embed_dim),
        }
    }

    /// The number of them that are a gate's ([`Role::Gate`](crate::params::Role::Gate)): 0 without
    /// a gate.
    ///
    /// ```
    /// use pad_adapter::{Fusion, Scale};
    /// assert_eq!(Scale::Patchwise(Fusion::Sum).gate_width(768), 768);
    /// assert_eq!(Scale::Learnable { init: 0.5 }.gate_width(768), 0);
    /// ```
    pub fn gate_width(self, embed_dim: usize) -> usize {
        match self {
            Scale::Patchwise(fusion) => fusion.gate_width(embed_dim),
            _ => 0,
        }
    }

    /// The scale with its tensors; `vb` stands at the block.
    ///
    /// # Errors
    /// [`Error::FixedScale`] if a checkpoint holds another fixed scale; errors of `vb`.
    pub(crate) fn build(self, embed_dim: usize, vb: &VarBuilder) -> Result<AdapterScale> {
        Ok(match self {
            Scale::Fixed(value)
            | Scale::FixedDecay { last: value }
            | Scale::FixedLinear { last: value } => {
                check_fixed(value, &vb.pp("adaptmlp"))?;
                AdapterScale::Fixed(value)
            }
            Scale::Learnable { init } => {
                let vb = vb.pp("adaptmlp");
                AdapterScale::Learnable(vb.get_with_hints(1, "scale", Init::Const(init))?)
            }
            Scale::Patchwise(fusion) => {
                let shape = (1, fusion.gate_width(embed_dim));
                let vb = vb.pp("scalar_pred");
                let gate = vb.get_with_hints(shape, "weight", Init::Const(0.0))?;
                AdapterScale::Patchwise { gate, fusion }
            }
        })
    }

    /// The scale of a block whose tensors have the shapes that `dims` returns for their names.
    ///
    /// # Errors
    /// A description of the fault, if the tensors do not tell it.
    pub(crate) fn infer<'a>(
        dims: impl Fn(&str) -> Option<&'a [usize]>,
        embed_dim: usize,
    ) -> Result<Self, String> {
        match dims("scalar_pred.weight") {
            Some(&[_, columns]) if columns == Fusion::Concat.gate_width(embed_dim) => {
                Ok(Scale::Patchwise(Fusion::Concat))
            }
            Some(_) => {
                Err("`scale` cannot be inferred: the gates of sum, side and gside have the \
                            same shape; expected the option `scale`"
                    .into())
            }
            None if dims("adaptmlp.scale").is_some() => Ok(Scale::Learnable { init: 1.0 }),
            None => Err("`scale` cannot be inferred: a fixed one is not stored with the tensors; \
                         expected the option `scale`, such as fixed=0.5"
                .into()),
        }
    }
}

/// Compares a fixed scale, which is a constant of the configuration, with the file's, if it holds
/// one as the original's files do.
fn check_fixed(value: f64, vb: &VarBuilder) -> Result<()> {
    if !vb.contains_tensor("scale") {
        return Ok(());
    }
    let stored = vb.get_unchecked("scale")?.to_dtype(DType::F64)?;
    let found = stored.flatten_all()?.to_vec1::<f64>()?.first().copied().unwrap_or(f64::NAN);
    // The file has it in f32.
    if (found - value).abs() <= 1e-6 * value.abs().max(1e-6) {
        return Ok(());
    }
    let tensor = format!("{}.scale", vb.prefix());
    Err(Error::FixedScale { tensor, expected: value, found })
}

/// Returns `s * branch` for an adapter's output `branch` and the MLP's output `mlp`.
pub(crate) fn apply(scale: &AdapterScale, branch: &Tensor, mlp: &Tensor) -> Result<Tensor> {
    Ok(match scale {
        AdapterScale::Fixed(value) => (branch * *value)?,
        // Weights stay in f32 where activations are in half precision.
        AdapterScale::Learnable(scale) => branch.broadcast_mul(&scale.to_dtype(branch.dtype())?)?,
        AdapterScale::Patchwise { gate, fusion } => {
            pad_ops::fuse_patchwise(branch, mlp, &gate.to_dtype(branch.dtype())?, *fusion)?
        }
    })
}

/// Returns the patchwise scales on the adapter's output that `branch` computes; `None` for other
/// scales.
pub(crate) fn patchwise(
    scale: &AdapterScale,
    branch: impl FnOnce(Mode) -> Result<Tensor>,
    mlp: &Tensor,
) -> Result<Option<Tensor>> {
    let AdapterScale::Patchwise { gate, fusion } = scale else { return Ok(None) };
    let branch = branch(Mode::Eval)?;
    let gate = gate.to_dtype(branch.dtype())?;
    Ok(Some(pad_ops::patchwise_scales(&branch, mlp, &gate, *fusion)?))
}

/// As in [`Scale::NAMES`].
impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Scale::Fixed(value) => format!("fixed={value}"),
            Scale::FixedDecay { last } => format!("fixed-decay={last}"),
            Scale::FixedLinear { last } => format!("fixed-linear={last}"),
            Scale::Learnable { init } => format!("learnable={init}"),
            Scale::Patchwise(fusion) => {
                let known = FUSIONS.iter().find(|(_, known)| *known == fusion);
                known.map_or("", |(name, _)| *name).to_string()
            }
        };
        f.pad(&text)
    }
}

impl FromStr for Scale {
    type Err = Error;

    /// # Errors
    /// [`Error::UnknownName`] with the names; [`Error::Config`] for a number that cannot be read.
    fn from_str(text: &str) -> Result<Self> {
        let (kind, value) = match text.split_once('=') {
            Some((kind, value)) => (kind.trim(), Some(value.trim())),
            None => (text.trim(), None),
        };
        if let (Some((_, fusion)), None) = (FUSIONS.iter().find(|(name, _)| *name == kind), value) {
            return Ok(Scale::Patchwise(*fusion));
        }
        let Some((_, make)) = VALUED.iter().find(|(name, _)| *name == kind) else {
            let kinds = FUSIONS.iter().map(|(name, _)| *name).chain(VALUED.iter().map(|(n, _)| *n));
            let near = near_name(kind, kinds).filter(|near| *near != kind);
            let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let names = Self::NAMES.join(", ");
            return Err(Error::UnknownName(format!(
                "scale: expected one of {names}, found `{text}`{near}"
            )));
        };
        let number = value.map_or(Ok(DEFAULT_VALUE), str::parse::<f64>);
        let scale = number.ok().map(make).filter(|scale| scale.fault().is_none());
        scale.ok_or_else(|| Error::Config {
            what: "scale",
            faults: vec![format!("expected {kind}=S with a finite number S, found `{text}`")],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_block_rules() {
        let fixed = |scale: Scale, block| match scale.at(block, 12) {
            Scale::Fixed(value) => value,
            other => panic!("{other:?}"),
        };
        let decay = Scale::FixedDecay { last: 0.5 };
        assert!((fixed(decay, 11) - 0.5).abs() < 1e-12);
        assert!((fixed(decay, 9) - 0.5 * 0.64).abs() < 1e-12);
        let linear = Scale::FixedLinear { last: 0.5 };
        assert!((fixed(linear, 0) - 0.1).abs() < 1e-12);
        assert!((fixed(linear, 11) - 0.5).abs() < 1e-12);
        assert_eq!(Scale::default().at(3, 12), Scale::Patchwise(Fusion::Concat));
    }

    #[test]
    fn activations_in_half_precision_go_with_weights_in_f32() {
        use candle_core::Device;
        use pad_ops::rng::Key;

        use crate::{Adapter, AdapterConfig, params::ParamStore};
        for scale in [
            Scale::Fixed(0.5),
            Scale::Learnable { init: 0.5 },
            Scale::Patchwise(Fusion::Concat),
            Scale::Patchwise(Fusion::Sum),
        ] {
            let config = AdapterConfig { scale, bottleneck: 4, ..Default::default() };
            let ones = Tensor::ones(8, DType::F32, &Device::Cpu).unwrap();
            let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
                .with_value("adaptmlp.up_proj.bias", ones);
            let adapter = store.build(|vb| Adapter::new(8, &config, vb)).unwrap();
            let x = Tensor::arange(0_f32, 16.0, &Device::Cpu).unwrap().reshape((1, 2, 8)).unwrap();
            let want = adapter.delta(&x, &x, Mode::Eval).unwrap();
            for dtype in [DType::BF16, DType::F16] {
                let half = x.to_dtype(dtype).unwrap();
                let found = adapter.delta(&half, &half, Mode::Eval).unwrap();
                assert_eq!(found.dtype(), dtype);
                let off = (found.to_dtype(DType::F32).unwrap() - &want).unwrap();
                let off: f32 = off.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
                assert!(off < 2e-2, "{scale}: {off}");
                let scales = adapter.scales(&half, &half).unwrap();
                assert_eq!(scales.is_some(), matches!(scale, Scale::Patchwise(_)));
            }
        }
    }

    #[test]
    fn spelling_in_files() {
        let text = serde_json::to_string(&Scale::default()).unwrap();
        assert_eq!(text, r#"{"patchwise":"concat"}"#);
        let read: Scale = serde_json::from_str(r#"{"learnable":{"init":0.5}}"#).unwrap();
        assert_eq!(read, Scale::Learnable { init: 0.5 });
    }

    #[test]
    fn text_goes_both_ways() {
        for name in Scale::NAMES {
            let text = name.replace('S', "0.25");
            assert_eq!(text.parse::<Scale>().unwrap().to_string(), text);
        }
        assert_eq!("fixed".parse::<Scale>().unwrap(), Scale::Fixed(0.5));
        let error = |text: &str| text.parse::<Scale>().unwrap_err().to_string();
        assert_eq!(
            error("conkat"),
            "scale: expected one of concat, sum, side, gside, fixed=S, fixed-decay=S, fixed-linear=S, learnable=S, \
             found `conkat` (did you mean `concat`?)"
        );
        for text in ["fixed=x", "fixed=", "fixed=inf"] {
            assert_eq!(
                error(text),
                format!("scale: expected fixed=S with a finite number S, found `{text}`")
            );
        }
        assert!(error("concat=1").starts_with("scale: expected one of concat"));
    }

    #[test]
    fn shapes_tell_a_scale_or_the_option_is_named() {
        let infer = |name: &'static str, shape: &'static [usize]| {
            Scale::infer(|asked| (asked == name).then_some(shape), 8)
        };
        assert_eq!(infer("scalar_pred.weight", &[1, 16]), Ok(Scale::default()));
        assert_eq!(infer("adaptmlp.scale", &[1]), Ok(Scale::Learnable { init: 1.0 }));
        for (name, shape) in [("scalar_pred.weight", &[1, 8][..]), ("other", &[1])] {
            let text = infer(name, shape).unwrap_err();
            assert!(text.starts_with("`scale` cannot be inferred: "), "{text}");
            assert!(text.contains("the option `scale`"), "{text}");
        }
    }
}
