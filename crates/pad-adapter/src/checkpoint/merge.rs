//! Low-rank adapters merged into the layers that they adapt.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::Checkpoint;
use crate::{Error, LoraTarget, Result, lora::LowRank, params::DEFAULT_ADAPTER, vit::ViTConfig};

impl Checkpoint {
    /// The same model without its low-rank adapters: each adapted weight becomes `W + s B A` (for
    /// DoRA, with its rows' trained lengths), each trained bias the sum. The merged model computes
    /// the same, to rounding; what was adapted is `f32` then.
    ///
    /// # Errors
    /// [`Error::Config`] for a model without low-rank adapters, and for one with adapters beside
    /// the MLP: these see the residual stream, not what a layer of the block sees, so no weight of
    /// the block can hold them. [`Error::Format`] for absent tensors.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{LoraConfig, LoraTarget, checkpoint::Checkpoint, params::ParamStore};
    /// use pad_adapter::vit::{ViT, ViTConfig};
    /// use pad_ops::rng::Key;
    ///
    /// let lora = Some(LoraConfig::new(4, 8.0, &[LoraTarget::Query, LoraTarget::Value]));
    /// let config = ViTConfig { lora, ..ViTConfig::new(8, 32, 2, 2) };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| ViT::new(&config, vb))?;
    /// let mut adapted = Checkpoint::from_tensors("mine", store.tensors(|_| true));
    /// adapted.describe(&config)?;
    /// let merged = adapted.clone().merge_lora()?;
    /// // A and B of 2 targets in 2 blocks are gone.
    /// assert_eq!(adapted.names().count() - merged.names().count(), 2 * 2 * 2);
    /// assert_eq!(merged.vit_config()?.lora, None);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn merge_lora(mut self) -> Result<Self> {
        let config = self.vit_config()?;
        let refuse = |fault: &str| Error::Config { what: "merge", faults: vec![fault.into()] };
        let Some(lora) = config.lora else {
            return Err(refuse(match config.adapter {
                Some(_) => {
                    "an adapter beside the MLP has a nonlinearity and sees the residual stream, not a layer's input: \
                     no weight can hold it, expected low-rank adapters"
                }
                None => "the model has no low-rank adapters",
            }));
        };
        let layers: [(&str, &[LoraTarget]); 4] = [
            ("attn.qkv", &[LoraTarget::Qkv, LoraTarget::Query, LoraTarget::Key, LoraTarget::Value]),
            ("attn.proj", &[LoraTarget::Proj]),
            ("mlp.fc1", &[LoraTarget::Fc1]),
            ("mlp.fc2", &[LoraTarget::Fc2]),
        ];
        let is_low_rank = |name: &str| name.split('.').any(|part| part.starts_with("lora_"));
        let names: Vec<String> =
            self.names().filter(|name| is_low_rank(name)).map(str::to_string).collect();
        let mut parts: HashMap<String, Tensor> = HashMap::new();
        for name in names {
            if let Some(tensor) = self.remove(&name) {
                parts.insert(name, tensor);
            }
        }
        let vb = VarBuilder::from_tensors(parts, DType::F32, &Device::Cpu);
        for block in 0..config.depth {
            for (layer, targets) in layers {
                if targets.iter().all(|&target| lora.targets.get(target).is_none()) {
                    continue;
                }
                let at = format!("blocks.{block}.{layer}");
                let of = |name: &str| self.get(&format!("{at}.{name}")).cloned();
                let weight = of("weight").ok_or_else(|| Error::Format {
                    path: self.path().to_path_buf(),
                    what: format!("no tensor `{at}.weight`, which an adapter is for"),
                })?;
                let weight = weight.to_dtype(DType::F32)?;
                let (outputs, inputs) = weight.dims2()?;
                let block = vb.pp("blocks").pp(block);
                let Some(low_rank) =
                    LowRank::new(&lora, targets, [outputs, inputs], (DEFAULT_ADAPTER, &block))?
                else {
                    continue;
                };
                let bias = of("bias").map(|bias| bias.to_dtype(DType::F32)).transpose()?;
                let (weight, bias) = low_rank.merged(&weight, bias.as_ref())?;
                // In `f32`, whatever the backbone is stored in: half a float would not hold them.
                self.insert(format!("{at}.weight"), weight);
                if let Some(bias) = bias {
                    self.insert(format!("{at}.bias"), bias);
                }
            }
        }
        self.describe(&ViTConfig { lora: None, ..config })?;
        Ok(self)
    }
}
