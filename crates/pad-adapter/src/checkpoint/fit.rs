//! Fits checkpoints to models with another position grid or number of input channels.

use candle_core::{DType, Tensor};

use super::Checkpoint;
use crate::{
    Result,
    vit::{PatchGrid, RelativeResize, ViTConfig},
};

impl Checkpoint {
    /// Fits the checkpoint to `config` and returns a description of each change:
    /// - a square `pos_embed` of another grid is interpolated, in the way of its family
    ///   ([`ViTConfig::pos_resize`]);
    /// - square `relative_position_bias_table`s of another grid are interpolated likewise
    ///   ([`ViTConfig::relative_resize`]);
    /// - RGB patch weights are summed for a model of one channel (a grey image repeated three times
    ///   gives the same tokens), and one-channel weights are spread over all channels in equal
    ///   parts;
    /// - RGB patch weights for a model of more bands stay those of its first three, and the others
    ///   get their mean, all scaled by three over the number of bands: an image whose bands are
    ///   equal gives the tokens of the grey one. (timm's `adapt_input_conv` scales likewise, but
    ///   repeats red, green and blue in turn.)
    /// - a `decoder_pos_embed` of another grid is dropped, since it is a fixed table that the model
    ///   computes itself.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an invalid configuration, an image size that the
    /// patch does not divide among them.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{checkpoint::Checkpoint, params::ParamStore, vit::{ViT, ViTConfig}};
    /// use pad_ops::{ImageSize, rng::Key};
    /// let small = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(8, 16, 1, 2) };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| ViT::new(&small, vb))?;
    /// let mut file = Checkpoint::from_tensors("mine", store.tensors(|_| true));
    /// let grey = ViTConfig { in_channels: 1, ..small };
    /// assert_eq!(file.fit(&grey)?, ["patch_embed.proj.weight from 3 to 1 channels"]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn fit(&mut self, config: &ViTConfig) -> Result<Vec<String>> {
        config.validate()?; // before tables of its size are made
        let mut changes = Vec::new();
        let wanted = config.pos_table_grid()?;
        let prefix = config.table_prefix();
        if let Some(table) = self.get("pos_embed").cloned()
            && let Some(found) = square_grid(&table, prefix)
            && found != wanted
            && table.dims().get(1) != Some(&(prefix + wanted.len()))
        {
            self.insert("pos_embed", config.pos_resize.table(&table, prefix, found, wanted)?);
            changes.push(format!("pos_embed interpolated from {found} to {wanted}"));
        }
        if let Some((count, from)) = self.fit_relative_tables(wanted, config.relative_resize)? {
            changes.push(format!(
                "{count} relative position tables interpolated from {from} to {wanted}"
            ));
        }
        if let Some(kernel) = self.get("patch_embed.proj.weight").cloned()
            && let [_, found, _, _] = *kernel.dims()
            && found != config.in_channels
        {
            let kernel = kernel.to_dtype(DType::F32)?;
            let summed = kernel.sum_keepdim(1)?;
            let channels = config.in_channels;
            let fitted = if channels == 1 {
                Some(summed)
            } else if found == 1 {
                let copies = vec![(summed / channels as f64)?; channels];
                Some(Tensor::cat(&copies, 1)?)
            } else if found == 3 && channels > 3 {
                let share = 3.0 / channels as f64;
                let mut bands = vec![(kernel * share)?];
                bands.extend(vec![(summed / channels as f64)?; channels - 3]);
                Some(Tensor::cat(&bands, 1)?)
            } else {
                None
            };
            if let Some(fitted) = fitted {
                self.insert("patch_embed.proj.weight", fitted);
                changes
                    .push(format!("patch_embed.proj.weight from {found} to {channels} channels"));
            }
        }
        let rows = config.grid()?.len() + usize::from(config.class_token);
        if self.get("decoder_pos_embed").is_some_and(|table| table.dims().get(1) != Some(&rows)) {
            self.remove("decoder_pos_embed");
            changes.push(format!("decoder_pos_embed computed for {rows} rows"));
        }
        Ok(changes)
    }

    /// Interpolates every BEiT table to the grid `wanted`; returns their number and former grid.
    fn fit_relative_tables(
        &mut self,
        wanted: PatchGrid,
        resize: RelativeResize,
    ) -> Result<Option<(usize, PatchGrid)>> {
        let mut fitted = None;
        let tables = self.tensors().iter().filter(|(name, _)| name.ends_with(RELATIVE_TABLE));
        let tables: Vec<_> = tables.map(|(name, table)| (name.clone(), table.clone())).collect();
        for (name, table) in tables {
            let Some(from) = grid_of_relative(&table).filter(|&from| from != wanted) else {
                continue;
            };
            // A table that is rectangular already, of the grid that is wanted.
            let offsets = |side: usize| (2 * side).saturating_sub(1);
            let rows = offsets(wanted.height) * offsets(wanted.width) + 3;
            if table.dims().first() == Some(&rows) {
                continue;
            }
            self.insert(name, resize.table(&table, from, wanted)?);
            fitted = Some((fitted.map_or(1, |(count, _)| count + 1), from));
        }
        Ok(fitted)
    }
}

const RELATIVE_TABLE: &str = "relative_position_bias_table";

/// The grid of a table ((2 side - 1)^2 + 3, H).
fn grid_of_relative(table: &Tensor) -> Option<PatchGrid> {
    let offsets = table.dims().first()?.checked_sub(3)?;
    let across = offsets.isqrt();
    let square = across * across == offsets && !across.is_multiple_of(2);
    square.then(|| PatchGrid::new(across.div_ceil(2), across.div_ceil(2)))
}

/// The grid of a table (1, `prefix` + side^2, D).
fn square_grid(table: &Tensor, prefix: usize) -> Option<PatchGrid> {
    let rows = table.dims().get(1)?.checked_sub(prefix)?;
    let side = rows.isqrt();
    (side > 0 && side * side == rows).then(|| PatchGrid::new(side, side))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::Device;

    use super::*;

    /// The kernel of two tokens and patches of one pixel, fitted to `channels`.
    fn fitted(kernel: &[[f32; 3]; 2], channels: usize) -> Vec<Vec<f32>> {
        let kernel = Tensor::new(kernel, &Device::Cpu).unwrap().reshape((2, 3, 1, 1)).unwrap();
        let name = "patch_embed.proj.weight";
        let mut file = Checkpoint::from_tensors("a", BTreeMap::from([(name.to_string(), kernel)]));
        let config = ViTConfig { in_channels: channels, ..ViTConfig::new(8, 16, 1, 2) };
        let changes = file.fit(&config).unwrap();
        assert_eq!(changes, [format!("{name} from 3 to {channels} channels")]);
        file.get(name).unwrap().reshape((2, channels)).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn colours_become_bands() {
        let kernel = [[4.0, 8.0, -3.0], [1.0, 1.0, 1.0]];
        assert_eq!(fitted(&kernel, 1), [[9.0], [3.0]]);
        // Three quarters of each colour, and of their mean.
        assert_eq!(fitted(&kernel, 4), [[3.0, 6.0, -2.25, 2.25], [0.75; 4]]);
        for channels in [4, 5, 7, 64] {
            let rows = fitted(&kernel, channels);
            // Equal bands give what a grey image gives.
            for (row, colors) in rows.iter().zip(&kernel) {
                let (sum, expected) = (row.iter().sum::<f32>(), colors.iter().sum::<f32>());
                assert!((sum - expected).abs() < 1e-5, "{channels}: {sum} {expected}");
            }
            assert!(rows[0][3..].iter().all(|band| *band == rows[0][3]), "{channels}");
        }
    }
}
