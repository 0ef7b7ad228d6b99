//! Names and colours of classes, and the ignored label.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    draw::Color,
    sets::text::{PAGE_BYTES, read_text},
};

/// The classes of a set.
///
/// In the folder format they are read from `classes.toml`. For MSRS, whose infrared pictures are in
/// `ir/`:
///
/// ```toml
/// classes = ["unlabelled", "car", "person", "bike", "curve", "car stop", "guardrail", "colour cone", "bump"]
/// images = "ir"                   # default "images"
/// masks = "Segmentation_labels"   # default "masks"
/// ```
///
/// and for a set of the layout of PST900, with every optional entry:
///
/// ```toml
/// classes = ["background", "fire extinguisher", "backpack", "hand drill", "survivor"]
/// palette = [[0, 0, 0], [0, 0, 255], [0, 255, 0], [255, 0, 0], [255, 255, 255]]
/// ignore_index = 255
/// images = "thermal"
/// masks = "labels"
/// [remap]                         # values of the files that mean another label
/// 5 = 255
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classes {
    /// Names, by number. 1 to 255.
    pub names: Vec<String>,
    /// A colour for each class, RGB.
    pub palette: Vec<Color>,
    /// The label that is not a class; losses and metrics ignore it. Usually 255.
    pub ignore: u8,
    /// Values of the mask files that stand for another label; all others stand for themselves.
    pub remap: BTreeMap<u8, u8>,
}

/// `classes.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    classes: Vec<String>,
    palette: Option<Vec<Color>>,
    #[serde(default = "ignored")]
    ignore_index: u8,
    #[serde(default)]
    remap: BTreeMap<String, u8>,
    #[serde(default = "images")]
    images: String,
    #[serde(default = "masks")]
    masks: String,
}

fn ignored() -> u8 {
    255
}

fn images() -> String {
    "images".into()
}

fn masks() -> String {
    "masks".into()
}

/// Classes of SODA, by number.
const SODA: [&str; 21] = [
    "background",
    "person",
    "building",
    "tree",
    "road",
    "pole",
    "grass",
    "door",
    "table",
    "chair",
    "car",
    "bicycle",
    "lamp",
    "monitor",
    "traffic cone",
    "trash can",
    "animal",
    "fence",
    "sky",
    "river",
    "sidewalk",
];

/// Classes of MFNet, by number, and the colours its authors draw them in.
const MFNET: [(&str, Color); 9] = [
    ("unlabelled", [0, 0, 0]),
    ("car", [64, 0, 128]),
    ("person", [64, 64, 0]),
    ("bike", [0, 128, 192]),
    ("curve", [0, 0, 192]),
    ("car stop", [128, 128, 0]),
    ("guardrail", [64, 64, 128]),
    ("colour cone", [192, 128, 128]),
    ("bump", [192, 64, 0]),
];

impl Classes {
    /// Classes of these names in the colours of Pascal VOC, ignoring 255.
    ///
    /// # Errors
    /// [`Error::Setting`] unless there are 1 to 255.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if !(1..=255).contains(&names.len()) {
            return Err(Error::Setting {
                name: "classes",
                expected: "1 to 255 names".into(),
                found: names.len().to_string(),
            });
        }
        let palette = (0..names.len()).map(voc_color).collect();
        Ok(Self { names, palette, ignore: 255, remap: BTreeMap::new() })
    }

    /// The 21 classes of SODA.
    pub fn soda() -> Self {
        Self::fixed(SODA.iter().enumerate().map(|(class, &name)| (name, voc_color(class))))
    }

    /// The 9 classes of MFNet, of which 0 is everything unlabelled.
    pub fn mfnet() -> Self {
        Self::fixed(MFNET)
    }

    /// The 10 classes of rendered scenes.
    #[cfg(feature = "scenes")]
    pub fn scenes() -> Self {
        Self::fixed(pad_scenes::CLASSES.into_iter().zip(pad_scenes::PALETTE))
    }

    fn fixed<'a>(classes: impl IntoIterator<Item = (&'a str, Color)>) -> Self {
        let (names, palette) =
            classes.into_iter().map(|(name, color)| (name.to_string(), color)).unzip();
        Self { names, palette, ignore: 255, remap: BTreeMap::new() }
    }

    /// Whether the colours are other ones than those that [`Classes::new`] gives.
    pub(super) fn has_own_palette(&self) -> bool {
        let voc = (0..self.names.len()).map(voc_color);
        !self.palette.iter().copied().eq(voc)
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no classes.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Reads `classes.toml`; also the names of the folders of images and masks.
    pub(super) fn read(path: &Path) -> Result<(Self, String, String)> {
        let text = read_text(path, PAGE_BYTES)?;
        let fault = |what: String| Error::Entry { path: path.into(), what };
        let file: File = toml::from_str(&text).map_err(|error| fault(in_line(&text, &error)))?;
        if !(1..=255).contains(&file.classes.len()) {
            let found = file.classes.len();
            return Err(fault(format!("`classes`: expected 1 to 255 names, found {found}")));
        }
        let mut classes = Self::new(file.classes)?;
        if let Some(palette) = file.palette {
            if palette.len() != classes.len() {
                let (expected, found) = (classes.len(), palette.len());
                return Err(fault(format!(
                    "`palette`: expected {expected} colours, one for each class, found {found}"
                )));
            }
            classes.palette = palette;
        }
        classes.ignore = file.ignore_index;
        if usize::from(classes.ignore) < classes.len() {
            return Err(fault(format!(
                "`ignore_index`: expected a number above the classes (at least {}), found {}",
                classes.len(),
                classes.ignore
            )));
        }
        for (from, to) in file.remap {
            let from: u8 = from.parse().map_err(|_| {
                fault(format!("`remap`: expected values of 0 to 255, found `{from}`"))
            })?;
            if usize::from(to) >= classes.len() && to != classes.ignore {
                return Err(fault(format!(
                    "`remap`: {from} becomes {to}, expected a class below {} or {}",
                    classes.len(),
                    classes.ignore
                )));
            }
            classes.remap.insert(from, to);
        }
        Ok((classes, file.images, file.masks))
    }
}

/// What is wrong with a text, in one line: that of the library draws the place below it.
fn in_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    let what = error.message().escape_debug();
    line.map_or_else(|| what.to_string(), |line| format!("line {line}: {what}"))
}

/// Colour `class` of Pascal VOC: the bits of the number, dealt to red, green and blue in turn,
/// highest first.
fn voc_color(class: usize) -> Color {
    let mut color = [0; 3];
    for bit in 0..8 {
        for (channel, value) in color.iter_mut().enumerate() {
            *value |= (((class >> (3 * bit + channel)) & 1) as u8) << (7 - bit);
        }
    }
    color
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_voc() {
        assert_eq!(
            [0, 1, 2, 15, 20].map(voc_color),
            [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128]]
        );
        assert_eq!((Classes::soda().len(), Classes::mfnet().len()), (21, 9));
    }

    #[test]
    fn numbers_of_classes_are_checked() {
        let refused = |names: usize| Classes::new(vec!["x"; names]).unwrap_err().to_string();
        assert_eq!(refused(0), "`classes` is 0, expected 1 to 255 names");
        assert_eq!(refused(256), "`classes` is 256, expected 1 to 255 names");
        assert!(Classes::new(vec!["x"; 255]).is_ok());
    }

    #[test]
    fn faults_of_a_file_are_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.toml");
        for (text, expected) in [
            ("classes = [\"a\"]\nclases = 3\n", "classes.toml: line 2: unknown field `clases`"),
            ("classes = [\"a\"", "classes.toml: line 1: "),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Classes::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        }
    }
}
