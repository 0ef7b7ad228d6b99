//! A shallower model, of some of a model's blocks.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::Checkpoint;
use crate::{Error, Result, Scale, params::Role, vit::ViTConfig};

/// What stands in front of a block's number.
const BLOCKS: &str = "blocks.";

impl Checkpoint {
    /// The model of some of its blocks, in their order: a student that starts with layers of its
    /// teacher, as DistilBERT does (Sanh et al., 2019), or the features of an early block.
    /// Embeddings and norms behind the blocks stay; adapters go with their blocks. What else the file
    /// holds, decoders and classifiers, was trained behind all blocks, and is left out; so is all
    /// that its metadata say, but for the statistics of its images.
    ///
    /// # Errors
    /// [`Error::Config`] without blocks, for blocks that the model or the file does not have, unless
    /// they ascend, and for adapters whose scale follows a rule over all blocks ([`Scale::at`]) that
    /// the kept ones do not follow; what [`Checkpoint::vit_config`] says of a model that is not known.
    ///
    /// [`Scale::at`]: crate::Scale::at
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
        let mut config = self.vit_config()?;
        let input_stats = self.input_stats()?;
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
        let in_file = |block: &usize| {
            let start = format!("{BLOCKS}{block}.");
            self.names().any(|name| name.starts_with(&start))
        };
        let without = kept.iter().filter(|block| **block < config.depth && !in_file(block));
        faults.extend(without.map(|block| {
            format!("no tensor is called `{BLOCKS}{block}.`.., expected this project's names")
        }));
        if let Some(adapter) = config.adapter.as_mut() {
            match kept_scale(adapter.scale, kept, config.depth) {
                Some(scale) => adapter.scale = scale,
                None => faults.push(format!(
                    "adapters of scale {}: those of blocks {kept:?} follow no such rule",
                    adapter.scale
                )),
            }
        }
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
        // A description of a task says how deep its model is.
        self.clear_metadata();
        if let Some(stats) = input_stats {
            let mut entries = BTreeMap::new();
            stats.write(&mut entries);
            for (key, value) in entries {
                self.set_metadata(key, value);
            }
        }
        self.describe(&ViTConfig { depth: kept.len(), ..config })?;
        Ok(self)
    }
}

/// The scale that gives the kept blocks what they had as blocks of a model `depth` deep; `None` if
/// there is no rule that does.
fn kept_scale(scale: Scale, kept: &[usize], depth: usize) -> Option<Scale> {
    let had: Vec<Scale> = kept.iter().map(|&block| scale.at(block, depth)).collect();
    let value = |scale: &Scale| match scale {
        Scale::Fixed(value) => Some(*value),
        _ => None,
    };
    let close = |a: &Scale, b: &Scale| match (value(a), value(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9,
        _ => a == b,
    };
    let follows = |rule: &Scale| {
        had.iter().enumerate().all(|(block, scale)| close(&rule.at(block, kept.len()), scale))
    };
    let of_last = match (scale, had.last().and_then(value)) {
        (Scale::FixedDecay { .. }, Some(last)) => Scale::FixedDecay { last },
        (Scale::FixedLinear { .. }, Some(last)) => Scale::FixedLinear { last },
        _ => scale,
    };
    [Some(of_last), had.first().copied()].into_iter().flatten().find(follows)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use pad_ops::rng::Key;

    use super::*;
    use crate::{AdapterConfig, params::ParamStore, vit::ViT};

    #[test]
    fn scales_by_a_rule_stay_what_they_were_or_are_refused() {
        let linear = Scale::FixedLinear { last: 0.5 };
        let decay = Scale::FixedDecay { last: 0.5 };
        // The first of twelve, the last ones, a single one, all.
        assert_eq!(
            kept_scale(linear, &[0, 1, 2], 12),
            Some(Scale::FixedLinear { last: 0.1 + 0.4 * 2.0 / 11.0 })
        );
        assert_eq!(kept_scale(linear, &[9, 10, 11], 12), None);
        assert_eq!(kept_scale(linear, &[11], 12), Some(Scale::Fixed(0.5)));
        assert_eq!(kept_scale(decay, &[9, 10, 11], 12), Some(decay));
        assert_eq!(kept_scale(decay, &[0, 4, 8], 12), None);
        let Some(Scale::FixedDecay { last }) = kept_scale(decay, &[4, 5], 12) else { panic!() };
        assert!((last - 0.5 * 0.8_f64.powi(6)).abs() < 1e-12, "{last}");
        for same in [Scale::Fixed(0.1), Scale::Learnable { init: 1.0 }] {
            assert_eq!(kept_scale(same, &[2, 7], 12), Some(same));
        }

        let adapter = Some(AdapterConfig { bottleneck: 4, scale: linear, ..Default::default() });
        let config = ViTConfig { adapter, ..ViTConfig::new(8, 16, 4, 2) };
        let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
        store.build(|vb| ViT::new(&config, vb)).unwrap();
        let mut file = Checkpoint::from_tensors("mine", store.tensors(|_| true));
        file.describe(&config).unwrap();
        let error = file.keep_blocks(&[1, 3]).unwrap_err().to_string();
        assert_eq!(
            error,
            "blocks: adapters of scale fixed-linear=0.5: those of blocks [1, 3] follow no such rule"
        );
    }

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

        // What describes a task of all blocks is left out, statistics of images are not.
        file.set_metadata("mae", "{}");
        file.set_metadata("input_mean", "0.5,0.5,0.5");
        file.set_metadata("input_std", "0.25,0.25,0.25");
        let one = file.clone().keep_blocks(&[4]).unwrap();
        let keys: Vec<&str> = one.metadata().keys().map(String::as_str).collect();
        assert_eq!(keys, ["input_mean", "input_std", "vit"]);

        // Behind a prefix no block is found.
        let mut hidden = Checkpoint::from_tensors(
            "task",
            file.tensors()
                .iter()
                .map(|(name, x)| (format!("backbone.{name}"), x.clone()))
                .collect(),
        );
        hidden.describe(&config).unwrap();
        let error = hidden.keep_blocks(&[0]).unwrap_err().to_string();
        assert_eq!(
            error,
            "blocks: no tensor is called `blocks.0.`.., expected this project's names"
        );

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
