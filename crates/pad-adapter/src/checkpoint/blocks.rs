//! A shallower model, of some of a model's blocks.

use candle_core::Tensor;

use super::Checkpoint;
use crate::{Error, Result, params::Role, vit::ViTConfig};

/// What stands in front of a block's number.
const BLOCKS: &str = "blocks.";

impl Checkpoint {
    /// The model of some of its blocks, in their order: a student that starts with layers of its
    /// teacher, as DistilBERT does (Sanh et al., 2019), or the features of an early block.
    /// Embeddings and norms behind the blocks stay; adapters go with their blocks. What else the file
    /// holds, decoders and classifiers, was trained behind all blocks, and is left out.
    ///
    /// # Errors
    /// [`Error::Config`] without blocks, for blocks that the model does not have, and unless they
    /// ascend; what [`Checkpoint::vit_config`] says of a model that is not known.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{checkpoint::Checkpoint, params::ParamStore, vit::{ViT, ViTConfig}};
    /// use pad_ops::rng::Key;
    ///
    /// let config = ViTConfig::new(8, 32, 12, 2);
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| ViT::new(&config, vb))?;
    /// let teacher = Checkpoint::from_tensors("mine", store.tensors(|_| true));
    /// let norm = |file: &Checkpoint, block| {
    ///     file.get(&format!("blocks.{block}.mlp.fc1.weight")).unwrap().sum_all()?.to_scalar::<f32>()
    /// };
    /// let mut described = teacher.clone();
    /// described.describe(&config)?;
    /// let student = described.keep_blocks(&[0, 4, 11])?;
    /// assert_eq!(student.vit_config()?.depth, 3);
    /// assert_eq!(norm(&student, 2)?, norm(&teacher, 11)?);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn keep_blocks(mut self, kept: &[usize]) -> Result<Self> {
        let config = self.vit_config()?;
        let mut faults = Vec::new();
        if kept.is_empty() {
            faults.push("no block is kept, expected at least one".to_string());
        }
        if !kept.is_sorted_by(|one, next| one < next) {
            faults.push(format!("blocks {kept:?}, expected ascending numbers"));
        }
        let absent = kept.iter().filter(|&&block| block >= config.depth);
        faults.extend(
            absent.map(|block| {
                format!("block {block} of {}, which are counted from 0", config.depth)
            }),
        );
        if !faults.is_empty() {
            return Err(Error::Config { what: "blocks", faults });
        }
        let moved: Vec<(String, Tensor)> = self
            .tensors()
            .iter()
            .filter_map(|(name, tensor)| {
                let (block, rest) = name.strip_prefix(BLOCKS)?.split_once('.')?;
                let block: usize = block.parse().ok()?;
                let place = kept.iter().position(|&one| one == block)?;
                Some((format!("{BLOCKS}{place}.{rest}"), tensor.clone()))
            })
            .collect();
        let stays = |name: &str| Role::of(name).is_backbone() || name.starts_with("fc_norm.");
        self.retain(|name| stays(name) && !name.starts_with(BLOCKS));
        for (name, tensor) in moved {
            self.insert(name, tensor);
        }
        self.describe(&ViTConfig { depth: kept.len(), ..config })?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use pad_ops::rng::Key;

    use super::*;
    use crate::{AdapterConfig, params::ParamStore, vit::ViT};

    #[test]
    fn blocks_keep_their_adapters_and_what_is_wrong_is_named() {
        let adapter = Some(AdapterConfig { bottleneck: 4, ..AdapterConfig::default() });
        let config = ViTConfig { adapter, ..ViTConfig::new(8, 16, 11, 2) };
        let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
        store.build(|vb| ViT::new(&config, vb)).unwrap();
        let mut file = Checkpoint::from_tensors("mine", store.tensors(|_| true));
        file.describe(&config).unwrap();
        file.insert(
            "decoder_pred.weight",
            Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap(),
        );
        let gate = file.get("blocks.10.adaptmlp.down_proj.weight").unwrap().clone();
        // Blocks 1 and 10 begin with the same digit.
        let two = file.clone().keep_blocks(&[1, 10]).unwrap();
        assert!(two.names().all(|name| !name.starts_with("decoder")));
        let moved = two.get("blocks.1.adaptmlp.down_proj.weight").unwrap();
        assert_eq!(moved.to_vec2::<f32>().unwrap(), gate.to_vec2::<f32>().unwrap());
        let found = two.vit_config().unwrap();
        assert_eq!((found.depth, found.adapter.unwrap().bottleneck), (2, 4));
        let store = ParamStore::from_checkpoint(two, &Device::Cpu, Key::new(0));
        store.build(|vb| ViT::new(&found, vb)).unwrap();

        for (kept, what) in [
            (&[][..], "no block is kept"),
            (&[3, 1], "ascending"),
            (&[1, 1], "ascending"),
            (&[0, 11], "block 11 of 11"),
        ] {
            let error = file.clone().keep_blocks(kept).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
