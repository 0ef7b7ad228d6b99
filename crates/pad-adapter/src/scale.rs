//! How strongly an adapter acts: fixed, learnt, or predicted per patch.

use serde::{Deserialize, Serialize};

pub use pad_ops::Fusion;

/// The factor `s` in `x + s * A(x) + MLP(LN(x))`.
///
/// In TOML: `{ patchwise = "concat" }`, `{ fixed = 0.1 }`, `{ learnable = { init = 0.5 } }`,
/// `{ fixed_decay = { last = 0.5 } }`, `{ fixed_linear = { last = 0.5 } }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// One constant for every block.
    Fixed(f64),
    /// A constant that falls towards the input: block `i` of `depth` has `last * 0.8^(depth - 1 - i)`.
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
    /// One number per patch, predicted by a gate from the block's own branches (section 3.2 of the paper).
    Patchwise(Fusion),
}

impl Default for Scale {
    fn default() -> Self {
        Scale::Patchwise(Fusion::Concat)
    }
}

impl Scale {
    /// The scale of block `block` in a network of `depth` blocks: the two per-block rules become [`Scale::Fixed`].
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
    fn spelling_in_files() {
        let text = serde_json::to_string(&Scale::default()).unwrap();
        assert_eq!(text, r#"{"patchwise":"concat"}"#);
        let read: Scale = serde_json::from_str(r#"{"learnable":{"init":0.5}}"#).unwrap();
        assert_eq!(read, Scale::Learnable { init: 0.5 });
    }
}
