//! Which backbone an adapter file belongs to: digests of all that is neither adapter nor head, and
//! the comparison with a backbone at hand.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint,
    digest::{self, Tables},
};
use crate::{
    Result,
    params::{ParamStore, Role},
};

const DIGEST: &str = "backbone_sha256";
const NAMES: &str = "backbone_tensors";
const INPUTS: &str = "inputs_sha256";

/// Digits of a digest that are shown.
const SHOWN: usize = 12;

/// The backbone of an adapter file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    /// Over the backbone without what is fitted to an input.
    digest: String,
    /// The tensors of the digest, where the rule for this project's ViT does not give them.
    names: Option<BTreeSet<String>>,
    /// Tensors that [`Checkpoint::fit`] changes: compared where their shape is the same.
    inputs: BTreeMap<String, Input>,
}

/// A tensor that is fitted to the size of the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Input {
    shape: Vec<usize>,
    sha256: String,
}

impl Identity {
    /// Of the backbone in a store, by the roles of its parameters.
    pub(super) fn of(store: &ParamStore) -> Result<Self> {
        let params = store.params();
        let parts: BTreeMap<&String, &Tensor> = (params.iter())
            .filter(|param| digest::is_of_backbone(param.role))
            .map(|param| (&param.name, &param.tensor))
            .collect();
        let fitted = |name: &str| digest::is_fitted(name) || digest::is_table(name);
        let mut inputs = BTreeMap::new();
        for (&name, &tensor) in parts.iter().filter(|(name, _)| fitted(name)) {
            let sha256 = digest::of_tensor(name, tensor)?;
            inputs.insert(name.clone(), Input { shape: tensor.dims().to_vec(), sha256 });
        }
        let names: BTreeSet<String> =
            parts.keys().filter(|name| !fitted(name)).map(|name| (*name).clone()).collect();
        // What the rule for this project's names would take of the whole model.
        let own: BTreeSet<String> = (params.iter().map(|param| &param.name))
            .filter(|name| digest::is_own_part(name) && !fitted(name))
            .cloned()
            .collect();
        let digest = store.backbone_digest()?;
        Ok(Self { digest, names: (names != own).then_some(names), inputs })
    }

    /// Writes it into the metadata of an adapter file.
    pub(super) fn write(&self, metadata: &mut BTreeMap<String, String>) -> serde_json::Result<()> {
        metadata.insert(DIGEST.into(), self.digest.clone());
        if let Some(names) = &self.names {
            metadata.insert(NAMES.into(), serde_json::to_string(names)?);
        }
        if !self.inputs.is_empty() {
            metadata.insert(INPUTS.into(), serde_json::to_string(&self.inputs)?);
        }
        Ok(())
    }

    /// Reads it from the metadata of an adapter file.
    ///
    /// # Errors
    /// What is wrong with the metadata.
    pub(super) fn read(metadata: &BTreeMap<String, String>) -> std::result::Result<Self, String> {
        let digest = metadata.get(DIGEST).cloned().unwrap_or_default();
        if digest.is_empty() {
            return Err(format!(
                "metadata `{DIGEST}` is missing: the adapter's backbone is unknown"
            ));
        }
        if !digest::is_digest(&digest) {
            return Err(format!(
                "metadata `{DIGEST}` is `{digest}`, expected the SHA-256 of a backbone, 64 hexadecimal \
                 digits and not those of no tensor at all: the adapter's backbone is unknown"
            ));
        }
        fn json<T: serde::de::DeserializeOwned>(
            metadata: &BTreeMap<String, String>,
            key: &str,
        ) -> std::result::Result<Option<T>, String> {
            let text = metadata.get(key);
            text.map(|text| serde_json::from_str(text))
                .transpose()
                .map_err(|error| format!("metadata `{key}`: {error}"))
        }
        let names: Option<BTreeSet<String>> = json(metadata, NAMES)?;
        if names.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(format!("metadata `{NAMES}` is empty: the adapter's backbone is unknown"));
        }
        Ok(Self { digest, names, inputs: json(metadata, INPUTS)?.unwrap_or_default() })
    }

    /// The digest.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// The digest as errors show it.
    pub(super) fn shown(&self) -> String {
        short(&self.digest)
    }

    /// Compares it with the backbone in `checkpoint`. Returns what was found there if it is another
    /// one.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) for a checkpoint without a backbone.
    pub(super) fn difference(&self, checkpoint: &Checkpoint) -> Result<Option<String>> {
        let found = match &self.names {
            Some(names) => match self.listed(checkpoint, names)? {
                Ok(found) => found,
                Err(difference) => return Ok(Some(difference)),
            },
            None => {
                let found = checkpoint.backbone_digest()?;
                // The first files know this project's names alone, and counted relative tables.
                let own = |tables| checkpoint.digest_of(digest::is_own_part, tables);
                let is = |digest: Option<String>| digest.is_some_and(|it| it == self.digest);
                let foreign = |name: &str| {
                    digest::is_part(name, Role::of(name)) && !digest::is_own_part(name)
                };
                let is_one_of_the_first = found != self.digest
                    && ((checkpoint.names().any(foreign) && is(own(Tables::Without)?))
                        || (checkpoint.names().any(digest::is_table) && is(own(Tables::With)?)));
                if is_one_of_the_first { self.digest.clone() } else { found }
            }
        };
        if found != self.digest {
            return Ok(Some(short(&found)));
        }
        for (name, input) in &self.inputs {
            // Another shape was fitted to another input; an absent one is computed.
            if let Some(tensor) = checkpoint.get(name)
                && tensor.dims() == input.shape
                && digest::of_tensor(name, tensor)? != input.sha256
            {
                return Ok(Some(format!("{} with another `{name}`", short(&found))));
            }
        }
        Ok(None)
    }

    /// The digest of the listed tensors, or what of them is missing.
    fn listed(
        &self,
        checkpoint: &Checkpoint,
        names: &BTreeSet<String>,
    ) -> Result<std::result::Result<String, String>> {
        let mut missing = names.iter().filter(|name| checkpoint.get(name).is_none());
        if let Some(first) = missing.next() {
            let others = match missing.count() {
                0 => String::new(),
                others => format!(" and {others} other tensors"),
            };
            let found = checkpoint.backbone_digest()?;
            return Ok(Err(format!("{} without `{first}`{others}", short(&found))));
        }
        let found = checkpoint.digest_of(|name| names.contains(name), Tables::Without)?;
        Ok(Ok(found.unwrap_or_default()))
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(SHOWN).collect()
}
