//! What is seen inside a transformer: feature maps of its blocks, scales of its adapters, attention of
//! its last block.

use candle_core::Tensor;
use pad_ops::Mode;

use super::{PatchGrid, Places, ViT};
use crate::{Error, Result};

/// A feature map of one block.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::vit::FeatureMap;
/// // Of images of 64 x 96 pixels, patches of 16: what `ViT::features` returns.
/// let data = Tensor::zeros((2, 384, 4, 6), DType::F32, &Device::Cpu)?;
/// let map = FeatureMap { data, stride: 16 };
/// assert_eq!(map.data.dim(3)? * map.stride, 96);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// (B, D, height, width) of the patch grid.
    pub data: Tensor,
    /// Pixels between neighbouring values.
    pub stride: usize,
}

impl ViT {
    /// [`ViT::encode_at`], and the attention of the last block
    /// ([`Block::attention_map`](super::Block::attention_map)).
    ///
    /// # Shapes
    /// `tokens` (B, N, D) as for [`ViT::encode_at`]; results (B, P + N, D) and (B, P + N, P + N),
    /// class token first.
    ///
    /// # Errors
    /// Tokens or places that do not fit.
    pub fn encode_with_attention(
        &self,
        tokens: &Tensor,
        places: &Places,
        mode: Mode,
    ) -> Result<(Tensor, Tensor)> {
        let (last, before) = self.blocks.split_last().ok_or(Error::Block { depth: 0, found: 0 })?;
        let mut x = self.embedding.with_prefix(tokens)?;
        for block in before {
            x = block.forward_at(&x, places, mode)?;
        }
        let attention = last.attention_map(&x, places)?;
        Ok((self.normed(&last.forward_at(&x, places, mode)?)?, attention))
    }

    /// Feature maps after the chosen blocks (no final norm, patches alone), in the order of
    /// `blocks`.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, D, H / patch, W / patch) each.
    ///
    /// # Errors
    /// [`Error::ImageShape`]; [`Error::Block`] for an index beyond the depth.
    pub fn features(
        &self,
        images: &Tensor,
        blocks: &[usize],
        mode: Mode,
    ) -> Result<Vec<FeatureMap>> {
        let depth = self.blocks.len();
        if let Some(&found) = blocks.iter().find(|&&block| block >= depth) {
            return Err(Error::Block { depth, found });
        }
        let (tokens, grid) = self.embed(images, None)?;
        let places = self.places(grid, None)?;
        let (batch, _, dim) = tokens.dims3()?;
        let prefix = self.config.prefix().len();
        let mut maps: Vec<Option<Tensor>> = vec![None; depth];
        self.run_blocks_at(&tokens, &places, mode, |i, x| {
            if blocks.contains(&i) {
                let x = x.narrow(1, prefix, grid.len())?.transpose(1, 2)?.contiguous()?;
                maps[i] = Some(x.reshape((batch, dim, grid.height, grid.width))?);
            }
            Ok(())
        })?;
        let stride = self.config.patch_size;
        let found = blocks.iter().filter_map(|&i| maps[i].clone());
        Ok(found.map(|data| FeatureMap { data, stride }).collect())
    }

    /// The patchwise scales of every block on whole images: per block (B, P + L), class token and
    /// registers first; `None` where a block has no patchwise adapter.
    ///
    /// # Errors
    /// [`Error::ImageShape`].
    pub fn scales(&self, images: &Tensor) -> Result<(Vec<Option<Tensor>>, PatchGrid)> {
        let (tokens, grid) = self.embed(images, None)?;
        let places = self.places(grid, None)?;
        let mut x = self.embedding.with_prefix(&tokens)?;
        let mut scales = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            scales.push(block.scales(&x, &places)?);
            x = block.forward_at(&x, &places, Mode::Eval)?;
        }
        Ok((scales, grid))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use pad_ops::{ImageSize, rng::Key};

    use super::*;
    use crate::{params::ParamStore, vit::ViTConfig};

    #[test]
    fn the_last_block_s_attention_beside_the_tokens() {
        let config = ViTConfig { image_size: ImageSize::square(16), ..ViTConfig::new(8, 16, 2, 4) };
        let store = ParamStore::scratch(&Device::Cpu, Key::new(3));
        let vit = store.build(|vb| ViT::new(&config, vb)).unwrap();
        let images = Tensor::arange(0_f32, 1536.0, &Device::Cpu).unwrap();
        let images = (images / 700.0).unwrap().reshape((2, 3, 16, 16)).unwrap();
        let (tokens, _) = vit.embed(&images, None).unwrap();
        let (features, attention) =
            vit.encode_with_attention(&tokens, &Places::default(), Mode::Eval).unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&features), values(&vit.forward(&images, Mode::Eval).unwrap()));
        assert_eq!((attention.dims(), attention.dtype()), (&[2, 5, 5][..], DType::F32));
        let rows = values(&attention);
        assert!(rows.chunks_exact(5).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        // By hand: the second block's input, its norm, queries times keys a head.
        let mut inputs = Vec::new();
        let x = vit.run_blocks(&tokens, Mode::Eval, |_, x| {
            inputs.push(x.clone());
            Ok(())
        });
        assert!(x.is_ok());
        let part = |name: &str| {
            let param = store.params().into_iter().find(|param| param.name == name);
            param.map(|param| values(&param.tensor)).unwrap()
        };
        let (weight, bias) = (part("blocks.1.attn.qkv.weight"), part("blocks.1.attn.qkv.bias"));
        let token = values(&inputs[0])[..5 * 16].to_vec();
        let normed: Vec<f64> = token
            .chunks_exact(16)
            .flat_map(|row| {
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / 16.0;
                let square = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
                let scale = (square / 16.0 + config.norm_eps).sqrt();
                row.iter().map(move |&v| (f64::from(v) - mean) / scale).collect::<Vec<_>>()
            })
            .collect();
        let project = |token: usize, output: usize| {
            let row = &weight[output * 16..][..16];
            let x = &normed[token * 16..][..16];
            f64::from(bias[output]) + row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>()
        };
        for from in 0..5 {
            let mut want = [0.0; 5];
            for head in 0..4 {
                let logit = |to: usize| {
                    let dim = head * 4..head * 4 + 4;
                    dim.map(|d| project(from, d) * project(to, 16 + d)).sum::<f64>() / 2.0
                };
                let shares: Vec<f64> = (0..5).map(|to| logit(to).exp()).collect();
                let all: f64 = shares.iter().sum();
                want.iter_mut().zip(&shares).for_each(|(want, share)| *want += share / all / 4.0);
            }
            for (to, want) in want.into_iter().enumerate() {
                assert!((f64::from(rows[from * 5 + to]) - want).abs() < 1e-5, "{from} {to}");
            }
        }
    }
}
