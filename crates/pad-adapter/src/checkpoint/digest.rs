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

/// SHA-256 of nothing: what a digest without parts would be.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whether a parameter counts for the digest: it is of the backbone, which is all that is neither
/// an adapter's, nor a head's, nor a decoder's, and [`Checkpoint::fit`] does not change it.
pub(crate) fn is_part(name: &str, role: Role) -> bool {
    is_of_backbone(role) && !is_fitted(name)
}

/// Whether a role is neither an adapter's, nor a head's, nor a decoder's.
pub(crate) fn is_of_backbone(role: Role) -> bool {
    !role.is_adapter() && !role.is_decoder() && role != Role::Head
}

/// Whether [`Checkpoint::fit`] brings the tensor to other input sizes and numbers of channels: the
/// patch embedding and the position table, under this project's names.
pub(crate) fn is_fitted(name: &str) -> bool {
    matches!(Role::of(name), Role::PatchEmbed | Role::PosTable)
}

/// Whether a tensor is one of this project's ViT without what is fitted: the parts that the first
/// adapter files know.
pub(crate) fn is_own_part(name: &str) -> bool {
    matches!(Role::of(name), Role::ClassToken | Role::Block(_) | Role::FinalNorm)
}

/// Whether a tensor of one of our blocks has the size of the patch grid.
pub(crate) fn is_table(name: &str) -> bool {
    matches!(Role::of(name), Role::Block(_))
        && ["relative_position_bias_table", "rel_pos_h", "rel_pos_w"]
            .iter()
            .any(|table| name.ends_with(table))
}

/// Whether `digest` is one: 64 hexadecimal digits, and not the digest of nothing.
pub(crate) fn is_digest(digest: &str) -> bool {
    digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) && digest != NOTHING
}

fn add(hash: &mut Sha256, name: &str, tensor: &Tensor) -> Result<()> {
    hash.update(name.as_bytes());
    hash.update([0]);
    for &side in tensor.dims() {
        hash.update((side as u64).to_le_bytes());
    }
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    hash.update(&bytes);
    Ok(())
}

fn digits(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
        add(&mut hash, name, tensor)?;
    }
    Ok((!is_empty).then(|| digits(hash)))
}

/// SHA-256 of one tensor: name, shape and `f32` values.
pub(crate) fn of_tensor(name: &str, tensor: &Tensor) -> Result<String> {
    let mut hash = Sha256::new();
    add(&mut hash, name, tensor)?;
    Ok(digits(hash))
}

impl Checkpoint {
    /// The digest of the backbone in the checkpoint: SHA-256, as 64 hexadecimal digits, of names,
    /// shapes and `f32` values of every tensor that is neither an adapter's, nor a head's, nor a
    /// decoder's ([`Role::of`]).
    ///
    /// Patch embedding and position tables under this project's names are left out, since
    /// [`Checkpoint::fit`] changes them for other image sizes and channel counts: the digest is the
    /// same before and after. Adapter files hold digests of their own for them.
    ///
    /// # Errors
    /// [`Error::Format`] for a checkpoint without a tensor of a backbone: the digest would be one of
    /// nothing, and any other such file would have the same.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::{Device, Tensor};
    /// use pad_adapter::checkpoint::Checkpoint;
    ///
    /// let file = |name: &str, value: f32| -> pad_adapter::Result<Checkpoint> {
    ///     let tensor = Tensor::new(&[value], &Device::Cpu)?;
    ///     Ok(Checkpoint::from_tensors("FILE", BTreeMap::from([(name.to_string(), tensor)])))
    /// };
    /// let digest = file("stages.0.weight", 1.0)?.backbone_digest()?;
    /// assert_eq!(digest[..8], *"2bd62271");
    /// assert_ne!(file("stages.0.weight", 2.0)?.backbone_digest()?, digest);
    /// assert!(file("head.weight", 1.0)?.backbone_digest().is_err());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn backbone_digest(&self) -> Result<String> {
        self.digest_of(|name| is_part(name, Role::of(name)), Tables::Without)?.ok_or_else(|| {
            Error::Format {
                path: self.path().to_path_buf(),
                what: "no tensor of a backbone: all are adapters', heads', decoders', patch embeddings or \
                       position tables"
                    .into(),
            }
        })
    }

    /// The digest of every tensor in the checkpoint, whatever its role: SHA-256, as 64 hexadecimal
    /// digits, of names, shapes and `f32` values. Files of the same tensors have the same digest,
    /// wherever they lie and whatever their format.
    ///
    /// # Errors
    /// [`Error::Format`] for a checkpoint without a tensor.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::checkpoint::Checkpoint;
    ///
    /// let file = |name: &str, tensor: Tensor| {
    ///     Checkpoint::from_tensors("FILE", BTreeMap::from([(name.to_string(), tensor)])).digest()
    /// };
    /// let head = Tensor::new(&[1_f32, 2.0], &Device::Cpu)?;
    /// let digest = file("head.weight", head.clone())?;
    /// assert_eq!(digest.len(), 64);
    /// assert_eq!(file("head.weight", head.to_dtype(DType::F16)?)?, digest); // the same values
    /// assert_ne!(file("head.bias", head.clone())?, digest);
    /// assert_ne!(file("head.weight", (head * 2.0)?)?, digest);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn digest(&self) -> Result<String> {
        self.digest_of(|_| true, Tables::With)?.ok_or_else(|| Error::Format {
            path: self.path().to_path_buf(),
            what: "no tensor".into(),
        })
    }

    /// The digest of the tensors for whose names `wanted` returns true; `None` without any.
    pub(super) fn digest_of(
        &self,
        wanted: impl Fn(&str) -> bool,
        tables: Tables,
    ) -> Result<Option<String>> {
        backbone(self.tensors().iter().filter(|(name, _)| wanted(name)), tables)
    }
}
