//! The digest that says which backbone an adapter belongs to.

use candle_core::{DType, Tensor};
use sha2::{Digest, Sha256};

use super::Checkpoint;
use crate::{Error, Result, params::Role};

/// Whether relative position tables count. They depend on the input size, so they do not; the first
/// adapter files counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    With,
    Without,
}

/// Whether parameters of `role` are the same for every input size and number of channels.
pub(crate) fn is_part(role: Role) -> bool {
    matches!(role, Role::ClassToken | Role::Block(_) | Role::FinalNorm)
}

/// Whether a tensor of a block has the size of the patch grid.
fn is_table(name: &str) -> bool {
    ["relative_position_bias_table", "rel_pos_h", "rel_pos_w"]
        .iter()
        .any(|table| name.ends_with(table))
}

/// SHA-256 of the parts of a backbone, sorted by name, as 64 hexadecimal digits; `None` without any
/// part.
pub(crate) fn backbone<'a>(
    parts: impl Iterator<Item = (&'a String, &'a Tensor)>,
    tables: Tables,
) -> Result<Option<String>> {
    let mut hash = Sha256::new();
    let mut is_empty = true;
    for (name, tensor) in parts.filter(|(name, _)| tables == Tables::With || !is_table(name)) {
        is_empty = false;
        hash.update(name.as_bytes());
        hash.update([0]);
        for &side in tensor.dims() {
            hash.update((side as u64).to_le_bytes());
        }
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        hash.update(&bytes);
    }
    let digest = || hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((!is_empty).then(digest))
}

impl Checkpoint {
    /// The digest of the backbone in the checkpoint, whose names are this project's: SHA-256, as 64
    /// hexadecimal digits, of names, shapes and `f32` values of class token, blocks and final norm.
    ///
    /// Patch embedding and position tables are left out, since [`Checkpoint::fit`] changes them for
    /// other image sizes and channel counts: the digest is the same before and after.
    ///
    /// # Errors
    /// [`Error::Format`] for a checkpoint without a tensor of a backbone.
    pub fn backbone_digest(&self) -> Result<String> {
        self.digest(Tables::Without)
    }

    pub(super) fn digest(&self, tables: Tables) -> Result<String> {
        let parts = self.tensors().iter().filter(|(name, _)| is_part(Role::of(name)));
        backbone(parts, tables)?.ok_or_else(|| Error::Format {
            path: self.path().to_path_buf(),
            what: "no tensor of a backbone: expected `cls_token`, `blocks.*` or `norm.*`".into(),
        })
    }
}
