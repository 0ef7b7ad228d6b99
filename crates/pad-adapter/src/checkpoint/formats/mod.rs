//! Foreign checkpoints: one table of names a format, one engine that reads the tables.

mod clip;
mod convert;
mod mmselfsup;
mod ours;
mod report;
mod rule;
mod transformers;

use std::{fmt, str::FromStr};

pub use report::{Change, ConversionReport};
use rule::{Group, Rule};

use super::Checkpoint;
use crate::{Error, Result};

/// The entry of a file's metadata that says whose names its tensors have.
const NAMES: &str = "names";

/// Whose names a checkpoint's tensors have.
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

/// What a format is: how it is told, and its rules.
struct Table {
    /// Names that must be there, behind the prefix.
    marks: &'static [&'static str],
    /// Names one of which must be there, unless there is none or a prefix is: told from its relatives by them.
    evidence: &'static [&'static str],
    /// What may stand in front of every name of the backbone.
    prefixes: &'static [&'static str],
    /// Rules for the names without the prefix where others have it; the same as for all if `None`.
    outside: Option<&'static [Group]>,
    /// Rules, the first that fits counts.
    groups: &'static [Group],
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

    /// The order in which formats are tried: whoever asks for more comes first.
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

    /// Its name on the command line.
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

    /// The format of a checkpoint, from its names; of files that this project wrote, from their metadata.
    ///
    /// # Errors
    /// [`Error::Format`] with some of the names if they are of none; [`Error::Config`] for metadata that name no format.
    pub fn detect(checkpoint: &Checkpoint) -> Result<Self> {
        // Our own exports say whose names they have, and may carry our metadata beside them.
        if let Some(name) = checkpoint.metadata().get(NAMES) {
            return name.parse();
        }
        let own = ["mae", "vit"].iter().any(|key| checkpoint.metadata().contains_key(*key));
        if own && Self::Ours.prefix_in(checkpoint).is_some() {
            return Ok(Self::Ours);
        }
        let found = Self::TRIED.into_iter().find(|format| format.prefix_in(checkpoint).is_some());
        found.ok_or_else(|| {
            let names: Vec<&str> = checkpoint.names().take(4).collect();
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

    /// All names, for errors and help.
    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    const fn table(self) -> Table {
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

    /// The prefix under which the format's marks are in `checkpoint`; `None` if it is of another format.
    fn prefix_in(self, checkpoint: &Checkpoint) -> Option<&'static str> {
        let table = self.table();
        let wrapper = convert::wrapper(checkpoint);
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
            let told = table.evidence.is_empty()
                || !prefix.is_empty()
                || table.evidence.iter().any(|name| has(prefix, name));
            let used =
                prefix.is_empty() || table.marks.first().is_some_and(|mark| has(prefix, mark));
            marked && told && used
        })
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
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| Error::Config {
            what: "format",
            faults: vec![format!("`{name}`, expected one of {}", Self::names())],
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
            "format: `onnx`, expected one of ours, original, mae, mmselfsup, timm, vit, vit-mae, dinov2, clip-vision, \
             clip"
        );
    }
}
