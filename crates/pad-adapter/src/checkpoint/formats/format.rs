//! The formats of checkpoints, by name, and how they are detected.

use std::{fmt, str::FromStr};

use pad_ops::text::{shown, unknown_name};

use super::{authors, clip, mmselfsup, ours, rule::Table, transformers};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, InputStats},
};

/// The metadata entry with the naming scheme of a file that this project exported.
pub(super) const NAMES: &str = "names";

/// Prefixes of programs that train on several devices or compile.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// The wrapper's prefix that all names have; empty without one.
pub(super) fn wrapper(checkpoint: &Checkpoint) -> &'static str {
    let all = |prefix: &str| checkpoint.names().all(|name| name.starts_with(prefix));
    WRAPPERS.into_iter().find(|prefix| all(prefix)).unwrap_or("")
}

/// The naming scheme of a checkpoint's tensors.
///
/// ```
/// use pad_adapter::checkpoint::{Checkpoint, Format};
/// assert_eq!("clip-vision".parse::<Format>()?, Format::ClipVision);
/// assert_eq!(Format::ALL.map(Format::name)[..4], ["ours", "original", "mae", "mmselfsup"]);
/// let foreign = Checkpoint::from_tensors("net.pth", Default::default());
/// let error = Format::detect(&foreign).unwrap_err().to_string();
/// assert!(error.starts_with("net.pth: the names are of no known format"), "{error}");
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// This project's: timm's names, MAE's decoder, the original's adapters.
    Ours,
    /// The original PAD repository, pre-training or (with prefix `backbone.`) downstream.
    Original,
    /// facebookresearch's MAE: the encoder, or all of it.
    Mae,
    /// MMSelfSup and mmpretrain: MAE and MILAN.
    MmSelfSup,
    /// timm's vision transformers, whatever their family.
    Timm,
    /// DINOv2 and DINOv3 as their authors publish them.
    Dino,
    /// EVA-02 and EVA-CLIP as their authors publish them.
    Eva,
    /// BEiT and BEiT v2 as their authors publish them.
    BeitOriginal,
    /// PE as its authors publish it.
    Pe,
    /// transformers' `ViTModel` and what is built on it.
    Vit,
    /// transformers' `ViTMAEForPreTraining`.
    VitMae,
    /// transformers' `Dinov2Model`, with and without registers.
    Dinov2,
    /// transformers' `DINOv3ViTModel`.
    Dinov3,
    /// transformers' `BeitModel`.
    Beit,
    /// transformers' `SiglipVisionModel` and `Siglip2VisionModel`, or the image half of
    /// `SiglipModel`.
    Siglip,
    /// transformers' `CLIPVisionModel`, or the image half of `CLIPModel`.
    ClipVision,
    /// OpenAI's CLIP: the image tower, with or without `visual.`.
    Clip,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 17] = [
        Self::Ours,
        Self::Original,
        Self::Mae,
        Self::MmSelfSup,
        Self::Timm,
        Self::Dino,
        Self::Eva,
        Self::BeitOriginal,
        Self::Pe,
        Self::Vit,
        Self::VitMae,
        Self::Dinov2,
        Self::Dinov3,
        Self::Beit,
        Self::Siglip,
        Self::ClipVision,
        Self::Clip,
    ];

    /// The order in which formats are tried: those with more marks come first.
    pub(super) const TRIED: [Self; 16] = [
        Self::ClipVision,
        Self::Siglip,
        Self::Pe,
        Self::Clip,
        Self::VitMae,
        Self::Dinov3,
        Self::Dinov2,
        Self::Beit,
        Self::Vit,
        Self::MmSelfSup,
        Self::Dino,
        Self::Eva,
        Self::BeitOriginal,
        Self::Original,
        Self::Mae,
        Self::Timm,
    ];

    /// Its name, as in flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Original => "original",
            Self::Mae => "mae",
            Self::MmSelfSup => "mmselfsup",
            Self::Timm => "timm",
            Self::Dino => "dino",
            Self::Eva => "eva",
            Self::BeitOriginal => "beit-original",
            Self::Pe => "pe",
            Self::Vit => "vit",
            Self::VitMae => "vit-mae",
            Self::Dinov2 => "dinov2",
            Self::Dinov3 => "dinov3",
            Self::Beit => "beit",
            Self::Siglip => "siglip",
            Self::ClipVision => "clip-vision",
            Self::Clip => "clip",
        }
    }

    /// [`Format::detect`] for a checkpoint whose names stand without wrappers.
    ///
    /// # Errors
    /// As [`Format::detect`].
    pub(super) fn of_plain(checkpoint: &Checkpoint) -> Result<Self> {
        // Our own exports say whose names they have, and may carry our metadata beside them.
        if let Some(name) = checkpoint.metadata().get(NAMES) {
            return name.parse();
        }
        let own = checkpoint.metadata().contains_key("vit") || checkpoint.own_format().is_some();
        if own && Self::Ours.prefix_in(checkpoint).is_some() {
            return Ok(Self::Ours);
        }
        let found = Self::TRIED.into_iter().find(|format| format.prefix_in(checkpoint).is_some());
        found.ok_or_else(|| {
            let names = checkpoint.names().take(4).map(|name| shown(name).to_string());
            let names: Vec<String> = names.collect();
            let more = if checkpoint.tensors().len() > names.len() { ", .." } else { "" };
            Error::Format {
                path: checkpoint.path().to_path_buf(),
                what: format!(
                    "the names are of no known format ({}{more}); name one of {}",
                    names.join(", "),
                    Self::names()
                ),
            }
        })
    }

    /// All names, for errors.
    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    pub(super) const fn table(self) -> Table {
        match self {
            Self::Ours => ours::OURS,
            Self::Original => ours::ORIGINAL,
            Self::Mae => ours::MAE,
            Self::MmSelfSup => mmselfsup::MMSELFSUP,
            Self::Timm => ours::TIMM,
            Self::Dino => authors::DINO,
            Self::Eva => authors::EVA,
            Self::BeitOriginal => authors::BEIT_ORIGINAL,
            Self::Pe => authors::PE,
            Self::Vit => transformers::VIT,
            Self::VitMae => transformers::VIT_MAE,
            Self::Dinov2 => transformers::DINOV2,
            Self::Dinov3 => transformers::DINOV3,
            Self::Beit => transformers::BEIT,
            Self::Siglip => transformers::SIGLIP,
            Self::ClipVision => transformers::CLIP_VISION,
            Self::Clip => clip::CLIP,
        }
    }

    /// The prefix of the format's marks in `checkpoint`; `None` for another format.
    pub(super) fn prefix_in(self, checkpoint: &Checkpoint) -> Option<&'static str> {
        let table = self.table();
        let wrapper = wrapper(checkpoint);
        let has = |prefix: &str, name: &str| {
            checkpoint.get(&format!("{wrapper}{prefix}{name}")).is_some()
        };
        let prefixes = table.prefixes.iter().chain(&[""]);
        prefixes.copied().find(|prefix| {
            // Of a format that has prefixes for some names only, the marks may lie on either side.
            let marked = table
                .marks
                .iter()
                .all(|mark| has(prefix, mark) || (table.outside.is_none() && has("", mark)));
            let evident = table.evidence.is_empty()
                || !prefix.is_empty()
                || table.evidence.iter().any(|name| has(prefix, name));
            let used =
                prefix.is_empty() || table.marks.first().is_some_and(|mark| has(prefix, mark));
            marked && evident && used && (table.test)(&|name| has(prefix, name), !prefix.is_empty())
        })
    }

    /// The statistics that all published weights of the format share. timm publishes weights of
    /// several, which the encoder tells from each other: those with layer scale (DINOv2, DINOv3,
    /// DeiT III, BEiT v2) have ImageNet's. `pooled`: whether a learnt query pools its tokens.
    pub(super) fn input_stats(self, found: &Checkpoint, pooled: bool) -> Option<InputStats> {
        let has = |name: &str| found.get(name).is_some();
        match self {
            Self::Mae
            | Self::MmSelfSup
            | Self::VitMae
            | Self::Dinov2
            | Self::Dinov3
            | Self::Dino => Some(InputStats::IMAGENET),
            Self::Timm if has("norm_pre.weight") => {
                // PE's towers pool by attention, or have no final norm or class token.
                let clip = has("norm.weight") && has("cls_token") && !pooled;
                Some(if clip { InputStats::CLIP } else { InputStats::HALF })
            }
            Self::Timm if has("blocks.0.ls1.gamma") => Some(InputStats::IMAGENET),
            Self::Timm if !has("cls_token") => Some(InputStats::HALF),
            Self::Clip | Self::ClipVision | Self::Eva => Some(InputStats::CLIP),
            Self::Pe | Self::Siglip => Some(InputStats::HALF),
            Self::Timm
            | Self::Vit
            | Self::Ours
            | Self::Original
            | Self::Beit
            | Self::BeitOriginal => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| {
            Error::UnknownName(unknown_name("format", name, Self::ALL.map(Self::name)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        let error = "onnx".parse::<Format>().unwrap_err().to_string();
        assert!(error.starts_with("format: expected ours, original, mae, mmselfsup, timm, dino, "));
        assert!(error.ends_with("clip-vision or clip, found `onnx`"), "{error}");
    }
}
