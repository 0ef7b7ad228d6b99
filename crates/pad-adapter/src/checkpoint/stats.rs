//! The statistics of the images that weights were trained on.

use std::collections::BTreeMap;

use pad_ops::text::shown;
use serde::{Deserialize, Serialize};

/// Entries of a file's metadata.
const MEAN: &str = "input_mean";
const STD: &str = "input_std";

/// Mean and standard deviation, of levels between 0 and 1, that a network's input was normalised
/// with: a property of its weights, one value per channel.
///
/// ```
/// use pad_adapter::checkpoint::InputStats;
/// assert_eq!(InputStats::IMAGENET.mean, [0.485, 0.456, 0.406]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputStats {
    /// Mean of each channel.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

impl InputStats {
    /// ImageNet's: MAE, DINO, DINOv2, DeiT.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// CLIP's.
    pub const CLIP: Self = Self {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };

    /// One half for each channel: the first vision transformers, timm's `augreg` weights.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };

    /// Reads the entries `input_mean` and `input_std` of a file's metadata; `None` without either.
    ///
    /// # Errors
    /// A description of the fault, if one of the two is missing or is not three numbers.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use pad_adapter::checkpoint::InputStats;
    /// let entry = |key: &str, value: &str| (key.to_string(), value.to_string());
    /// let mut metadata = BTreeMap::from([entry("input_mean", "0.5,0.5,0.5")]);
    /// assert_eq!(InputStats::read(&metadata).unwrap_err(), "metadata `input_std` is missing");
    /// metadata.extend([entry("input_std", "0.5,0.5,0.5")]);
    /// assert_eq!(InputStats::read(&metadata).unwrap(), Some(InputStats::HALF));
    /// ```
    pub fn read(metadata: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let (mean, std) = match (metadata.get(MEAN), metadata.get(STD)) {
            (None, None) => return Ok(None),
            (Some(mean), Some(std)) => (mean, std),
            (found, _) => {
                let absent = if found.is_some() { STD } else { MEAN };
                return Err(format!("metadata `{absent}` is missing"));
            }
        };
        let values = |key: &str, text: &str| {
            let numbers: Option<Vec<f32>> =
                text.split(',').map(|t| t.trim().parse().ok()).collect();
            numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| {
                let text = shown(text);
                format!("metadata `{key}`: expected three numbers, found `{text}`")
            })
        };
        let stats = Self { mean: values(MEAN, mean)?, std: values(STD, std)? };
        match stats.is_valid() {
            true => Ok(Some(stats)),
            false => {
                let std = shown(std);
                Err(format!("metadata `{STD}`: expected positive numbers, found `{std}`"))
            }
        }
    }

    /// Writes the entries `input_mean` and `input_std` into a file's metadata.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use pad_adapter::checkpoint::InputStats;
    /// let mut metadata = BTreeMap::new();
    /// InputStats::HALF.write(&mut metadata);
    /// assert_eq!(metadata["input_mean"], "0.5,0.5,0.5");
    /// ```
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        let text = |values: [f32; 3]| values.map(|value| value.to_string()).join(",");
        metadata.insert(MEAN.into(), text(self.mean));
        metadata.insert(STD.into(), text(self.std));
    }

    fn is_valid(&self) -> bool {
        self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_finite() && *std > 0.0)
    }

    /// The statistics in a JSON object, under the keys `mean` and `std`, one or three numbers each.
    pub(super) fn in_json(json: &serde_json::Value, mean: &str, std: &str) -> Option<Self> {
        let values = |key: &str| -> Option<[f32; 3]> {
            let values = json.get(key)?.as_array()?.iter();
            let values: Option<Vec<f32>> = values.map(|v| Some(v.as_f64()? as f32)).collect();
            match values?[..] {
                [value] => Some([value; 3]),
                [first, second, third] => Some([first, second, third]),
                _ => None,
            }
        };
        let stats = Self { mean: values(mean)?, std: values(std)? };
        stats.is_valid().then_some(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_go_both_ways() {
        let mut metadata = BTreeMap::new();
        assert_eq!(InputStats::read(&metadata), Ok(None));
        for stats in [InputStats::IMAGENET, InputStats::CLIP, InputStats::HALF] {
            stats.write(&mut metadata);
            assert_eq!(InputStats::read(&metadata), Ok(Some(stats)));
        }
        let mut refusal = |key: &str, value: &str| {
            metadata.insert(key.into(), value.into());
            InputStats::read(&metadata).unwrap_err()
        };
        assert_eq!(
            refusal(STD, "1,2"),
            "metadata `input_std`: expected three numbers, found `1,2`"
        );
        assert_eq!(
            refusal(STD, "0,0,0"),
            "metadata `input_std`: expected positive numbers, found `0,0,0`"
        );
        metadata.remove(STD);
        assert_eq!(InputStats::read(&metadata), Err("metadata `input_std` is missing".into()));
    }

    #[test]
    fn json_of_one_or_three_values() {
        let json = serde_json::json!({"image_mean": [0.5], "image_std": [0.5, 0.5, 0.5]});
        let found = InputStats::in_json(&json, "image_mean", "image_std");
        assert_eq!(found, Some(InputStats::HALF));
        assert_eq!(InputStats::in_json(&json, "mean", "std"), None);
    }
}
