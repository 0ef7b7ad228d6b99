//! The formats of checkpoints, by name, and how they are detected.

use std::{fmt, str::FromStr};

use pad_ops::text::{shown, unknown_name};

use super::{clip, mmselfsup, ours, rule::Table, transformers, wrappers::Names};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, InputStats},
};

/// The metadata entry with the naming scheme of a file that this project exported.
pub(super) const NAMES: &str = "names";

/// The naming scheme of a checkpoint's tensors.
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
    /// timm's vision transformers, DINOv2 as its authors publish it.
    Timm,
    /// transformers' `ViTModel` and what is built on it.
    Vit,
    /// transformers' `ViTMAEForPreTraining`.
    VitMae,
    /// transformers' `Dinov2Model`.
    Dinov2,
    /// transformers' `CLIPVisionModel`, or the image half of `CLIPModel`.
    ClipVision,
    /// OpenAI's CLIP: the image tower, with or without `visual.`.
    Clip,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 10] = [
        Self::Ours,
        Self::Original,
        Self::Mae,
        Self::MmSelfSup,
        Self::Timm,
        Self::Vit,
        Self::VitMae,
        Self::Dinov2,
        Self::ClipVision,
        Self::Clip,
    ];

    /// The order in which formats are tried: those with more marks come first.
    const TRIED: [Self; 9] = [
        Self::ClipVision,
        Self::Clip,
        Self::VitMae,
        Self::Dinov2,
        Self::Vit,
        Self::MmSelfSup,
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
            Self::Vit => "vit",
            Self::VitMae => "vit-mae",
            Self::Dinov2 => "dinov2",
            Self::ClipVision => "clip-vision",
            Self::Clip => "clip",
        }
    }

    /// Detects the format of a checkpoint from its names; of files that this project wrote, from
    /// their metadata.
    ///
    /// # Errors
    /// [`Error::Format`] with some of the names if they are of no known format;
    /// [`Error::UnknownName`] for metadata with an unknown format.
    pub fn detect(checkpoint: &Checkpoint) -> Result<Self> {
        Self::found(checkpoint, Names::of(checkpoint.names())).map(|(format, _)| format)
    }

    /// [`Format::detect`] for names without wrappers; returns them without the prefix, if one
    /// stands in front of the format's.
    ///
    /// # Errors
    /// As [`Format::detect`]; [`Error::Format`] if several networks of a format lie in the file.
    pub(super) fn found(checkpoint: &Checkpoint, names: Names) -> Result<(Self, Names)> {
        // Our own exports say whose names they have, and may carry our metadata beside them.
        if let Some(name) = checkpoint.metadata().get(NAMES) {
            return Ok((name.parse()?, names));
        }
        let own = checkpoint.metadata().contains_key("vit") || checkpoint.own_format().is_some();
        if own && Self::Ours.prefix_in(&names).is_some() {
            return Ok((Self::Ours, names));
        }
        let found = Self::TRIED.into_iter().find(|format| format.prefix_in(&names).is_some());
        if let Some(format) = found {
            return Ok((format, names));
        }
        for format in Self::TRIED {
            if let Some(inside) = format.behind_a_prefix(checkpoint, &names)? {
                return Ok((format, inside));
            }
        }
        let found: Vec<String> =
            checkpoint.names().take(4).map(|name| shown(name).to_string()).collect();
        let more = if checkpoint.tensors().len() > found.len() { ", .." } else { "" };
        Err(Error::Format {
            path: checkpoint.path().to_path_buf(),
            what: format!(
                "the names are of no known format ({}{more}); name one of {}",
                found.join(", "),
                Self::names()
            ),
        })
    }

    /// The names behind the one prefix in front of the format's; `None` for another format.
    ///
    /// # Errors
    /// [`Error::Format`] with the prefixes, if there are several.
    pub(super) fn behind_a_prefix(
        self,
        checkpoint: &Checkpoint,
        names: &Names,
    ) -> Result<Option<Names>> {
        const WHY: &str = "not under the prefix of the network";
        let table = self.table();
        let Some(mark) = table.marks.first() else { return Ok(None) };
        let own = table.prefixes.iter().chain(&[""]);
        let mut places: Vec<(&str, Names)> = Vec::new();
        // More than a few make an error anyway.
        for prefix in names.prefixes_of(mark).into_iter().take(64) {
            // A prefix of the format's own stays.
            let outer = own.clone().find_map(|own| prefix.strip_suffix(own)).unwrap_or(prefix);
            if places.iter().any(|(known, _)| *known == outer) {
                continue;
            }
            let inside = names.under(outer, WHY).without_heads();
            if self.prefix_in(&inside).is_some() {
                places.push((outer, inside));
            }
        }
        if places.len() > 1 {
            let listed: Vec<String> =
                places.iter().take(8).map(|(prefix, _)| format!("`{}`", shown(prefix))).collect();
            return Err(Error::Format {
                path: checkpoint.path().to_path_buf(),
                what: format!(
                    "several networks, under the prefixes {}; expected the option `prefix` with one",
                    listed.join(", ")
                ),
            });
        }
        Ok(places.pop().map(|(_, inside)| inside))
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
            Self::Vit => transformers::VIT,
            Self::VitMae => transformers::VIT_MAE,
            Self::Dinov2 => transformers::DINOV2,
            Self::ClipVision => transformers::CLIP_VISION,
            Self::Clip => clip::CLIP,
        }
    }

    /// The prefix of the format's marks among `names`; `None` for another format.
    pub(super) fn prefix_in(self, names: &Names) -> Option<&'static str> {
        let table = self.table();
        let has = |prefix: &str, name: &str| names.has(&format!("{prefix}{name}"));
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
            marked && evident && used
        })
    }

    /// The statistics that all published weights of the format share. timm publishes weights of
    /// several; those with layer scale (DINOv2, DeiT III) have ImageNet's.
    pub(super) fn input_stats(self, has_layer_scale: bool) -> Option<InputStats> {
        match self {
            Self::Mae | Self::MmSelfSup | Self::VitMae | Self::Dinov2 => Some(InputStats::IMAGENET),
            Self::Timm if has_layer_scale => Some(InputStats::IMAGENET),
            Self::Clip | Self::ClipVision => Some(InputStats::CLIP),
            Self::Timm | Self::Vit | Self::Ours | Self::Original => None,
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
        assert_eq!(
            "onnx".parse::<Format>().unwrap_err().to_string(),
            "format: expected ours, original, mae, mmselfsup, timm, vit, vit-mae, dinov2, clip-vision or clip, found \
             `onnx`"
        );
    }
}
