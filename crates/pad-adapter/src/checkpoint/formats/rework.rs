//! Tensors whose values have to be put in another order, or that only together say what they mean.

use candle_core::DType;

use crate::{Error, Result, checkpoint::Checkpoint};

impl Checkpoint {
    /// Applies the masks of biases (DINOv3: keys have none, whatever the file holds), and gives the
    /// patch embedding of lists of patches a convolution's shape.
    ///
    /// # Errors
    /// [`Error::Format`] for a mask that hides anything but all of the keys' biases, and for flat
    /// patches of no square size.
    pub(super) fn reworked(mut self, channels: Option<usize>) -> Result<Self> {
        let masks: Vec<String> = self
            .names()
            .filter_map(|name| name.strip_suffix(".bias_mask"))
            .map(str::to_string)
            .collect();
        for layer in masks {
            self.unmask(&layer)?;
        }
        if let Some(weight) = self.get("patch_embed.proj.weight").cloned()
            && let [dim, values] = *weight.dims()
        {
            let fits = |channels: usize| {
                let side = (values / channels.max(1)).isqrt();
                (channels > 0 && side > 0 && side * side * channels == values).then_some(side)
            };
            let candidates = channels.map_or(vec![3, 1], |channels| vec![channels]);
            let found = candidates.into_iter().find_map(|c| fits(c).map(|side| (c, side)));
            let (channels, side) = found.ok_or_else(|| Error::Format {
                path: self.path().to_path_buf(),
                what: format!(
                    "`patch_embed.proj.weight` takes {values} values, expected those of a square patch"
                ),
            })?;
            // Pixel major, channel last.
            let weight = weight.reshape((dim, side, side, channels))?;
            let weight = weight.permute((0, 3, 1, 2))?.contiguous()?;
            self.insert("patch_embed.proj.weight", weight);
        }
        Ok(self)
    }

    fn unmask(&mut self, layer: &str) -> Result<()> {
        let refuse = |what: String, file: &Self| Error::Format {
            path: file.path().to_path_buf(),
            what: format!("`{layer}.bias_mask` {what}"),
        };
        let mask = self.remove(&format!("{layer}.bias_mask"));
        let bias = self.get(&format!("{layer}.bias")).cloned();
        let (Some(mask), Some(bias)) = (mask, bias) else {
            return Err(refuse("masks no bias".into(), self));
        };
        let values = mask.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if bias.dims() != mask.dims() || !values.len().is_multiple_of(3) {
            let what = format!("has shape {:?}, expected {:?}", mask.dims(), bias.dims());
            return Err(refuse(what, self));
        }
        let third = values.len() / 3;
        let all_one = |part: &[f32]| part.iter().all(|&value| value == 1.0);
        // A file written before the mask was filled holds NaN there.
        let hidden = |part: &[f32]| part.iter().all(|&value| value == 0.0 || value.is_nan());
        let (queries, rest) = values.split_at(third);
        let (keys, others) = rest.split_at(third);
        if all_one(&values) {
            return Ok(());
        }
        if !hidden(keys) || !(all_one(queries) && all_one(others) || hidden(queries)) {
            let what = "hides other biases than the keys', expected 1 for queries and values";
            return Err(refuse(what.into(), self));
        }
        let attention = layer.strip_suffix(".qkv").unwrap_or(layer).to_string();
        self.remove(&format!("{layer}.bias"));
        self.insert(format!("{attention}.q_bias"), bias.narrow(0, 0, third)?.contiguous()?);
        let value = bias.narrow(0, 2 * third, third)?.contiguous()?;
        self.insert(format!("{attention}.v_bias"), value);
        Ok(())
    }
}
