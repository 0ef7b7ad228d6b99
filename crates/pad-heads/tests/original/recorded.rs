//! A recorded case of the original: its tensors, and a store that serves its parameters under their
//! own names.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use pad_adapter::{
    checkpoint::Checkpoint,
    params::{ParamStore, Planned},
};
use pad_heads::layers::is_running_statistic;
use pad_ops::rng::Key;
use pad_testkit::{close, golden, largest};

pub(crate) struct Recorded {
    file: String,
    tensors: BTreeMap<String, Tensor>,
    pub(crate) store: ParamStore,
}

impl Recorded {
    pub(crate) fn open(file: &str) -> Self {
        Self::open_with(file, |_, value| value)
    }

    /// A case of detection.
    pub(crate) fn detection(file: &str) -> Self {
        Self::detection_with(file, |_, value| value)
    }

    /// With parameters changed on the way.
    pub(crate) fn open_with(file: &str, change: impl Fn(&str, Tensor) -> Tensor) -> Self {
        Self::of(&format!("segmentation/{file}"), change)
    }

    /// A case of detection with parameters changed on the way.
    pub(crate) fn detection_with(file: &str, change: impl Fn(&str, Tensor) -> Tensor) -> Self {
        Self::of(&format!("detection/{file}"), change)
    }

    fn of(file: &str, change: impl Fn(&str, Tensor) -> Tensor) -> Self {
        let tensors = golden(file);
        let params = tensors.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("param.")?;
            Some((name.to_string(), change(name, value.clone())))
        });
        let checkpoint = Checkpoint::from_tensors(file, params.collect());
        let store = ParamStore::from_checkpoint(checkpoint, &Device::Cpu, Key::new(0));
        Self { file: file.to_string(), tensors, store: store.with_trained(|_| true) }
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no `{name}`", self.file))
    }

    /// Boxes, one a row.
    pub(crate) fn boxes(&self, name: &str) -> Vec<[f32; 4]> {
        let rows = self.get(name).reshape(((), 4)).unwrap().to_vec2::<f32>().unwrap();
        rows.into_iter().map(|row| [row[0], row[1], row[2], row[3]]).collect()
    }

    /// Whole numbers.
    pub(crate) fn integers(&self, name: &str) -> Vec<i64> {
        self.get(name).to_vec1().unwrap()
    }

    /// Whether the file has it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Compares the gradient of every parameter of which the file has one.
    pub(crate) fn gradients_equal(&self, loss: &Tensor) {
        let grads = pad_ops::backward(loss).unwrap();
        let mut compared = 0;
        let trained = self.store.planned();
        let scale = trained.iter().filter_map(|planned| grads.get(&planned.var)).map(largest);
        let scale = scale.fold(0.0, f64::max);
        for Planned { name, var, .. } in &trained {
            let Some(want) = self.tensors.get(&format!("grad.{name}")) else {
                assert!(
                    is_running_statistic(name) || name.contains("attn.") || name.contains("norm1")
                );
                continue;
            };
            let name = format!("{} gradient of {name}", self.file);
            let got = grads.get(var).unwrap_or_else(|| panic!("no {name}"));
            compared += 1;
            // A bias in front of batch statistics has no effect: both hold rounding noise.
            if largest(want) < 1e-5 * scale {
                assert!(largest(got) < 2e-5 * scale, "{name}: {} is not noise", largest(got));
                continue;
            }
            close(&name, got, want, 1e-3);
        }
        let wanted = self.tensors.keys().filter(|name| {
            name.strip_prefix("grad.").is_some_and(|name| !name.starts_with("input."))
        });
        assert_eq!(compared, wanted.count(), "{}: parameters with a gradient", self.file);
    }

    /// Compares the running statistics with those that the file has after its one forward.
    pub(crate) fn statistics_equal(&self) {
        let now = self.store.tensors(|_| true);
        for (name, want) in &self.tensors {
            if let Some(name) = name.strip_prefix("out.after.") {
                close(name, &now[name], want, 1e-4);
            }
        }
    }
}
