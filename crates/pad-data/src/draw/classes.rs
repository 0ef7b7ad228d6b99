//! Class maps as pictures, and their statistics.

use std::{io, path::Path};

use pad_ops::{
    ImageSize,
    fs::{write_atomic, write_atomic_bytes},
};
use png::{BitDepth, ColorType, Encoder};
use serde::{Deserialize, Serialize};

use super::{Canvas, Color};
use crate::{
    Error, Result,
    sets::segmentation::{ClassMap, Classes},
};

/// Size of a dot of the legend's letters and height of its lines, pixels.
const DOT: usize = 2;
const LINE: usize = 14;

impl Canvas {
    /// Returns the picture blended with the colours of the classes, `opacity` from 0 to 1. Ignored
    /// pixels stay unchanged.
    ///
    /// # Errors
    /// [`Error::Setting`] if the map is of another size, or `opacity` outside 0 to 1.
    pub fn overlay_classes(&self, map: &ClassMap, classes: &Classes, opacity: f32) -> Result<Self> {
        if map.size() != self.size {
            return Err(Error::Setting {
                name: "map",
                expected: format!("the picture's size, {}", self.size),
                found: map.size().to_string(),
            });
        }
        if !(0.0..=1.0).contains(&opacity) {
            return Err(Error::Setting {
                name: "opacity",
                expected: "0 to 1".into(),
                found: opacity.to_string(),
            });
        }
        let mut out = self.clone();
        for (pixel, &class) in out.pixels.iter_mut().zip(map.classes()) {
            let Some(color) = classes.palette.get(usize::from(class)) else { continue };
            for (value, &over) in pixel.iter_mut().zip(color) {
                let mixed = f32::from(*value) * (1.0 - opacity) + f32::from(over) * opacity;
                *value = mixed.round() as u8;
            }
        }
        Ok(out)
    }

    /// Returns a legend of these classes, one per line; unknown numbers are skipped. Letters and
    /// digits are drawn, other characters are blank.
    pub fn legend(classes: &Classes, shown: &[u8]) -> Self {
        let lines: Vec<(&str, Color)> = shown
            .iter()
            .filter_map(|&class| {
                let class = usize::from(class);
                Some((classes.names.get(class)?.as_str(), *classes.palette.get(class)?))
            })
            .collect();
        let letters = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let size = ImageSize::new((lines.len() * LINE).max(1), 20 + letters * 4 * DOT);
        let mut canvas = Self::new(size, [0; 3]);
        for (line, (name, color)) in lines.into_iter().enumerate() {
            let top = line * LINE + 2;
            canvas.paste(&Self::new(ImageSize::square(LINE - 4), color), top, 3);
            canvas.text(name, top, 18, DOT, [235; 3]);
        }
        canvas
    }
}

/// Writes a class map as an indexed PNG with the colours of the classes as its palette (ignored
/// pixels white): viewers show colours, [`read_mask`](crate::sets::segmentation::read_mask) reads
/// the classes.
///
/// # Errors
/// [`Error::Setting`] for sides of 2^32 and more, [`Error::Io`].
pub fn save_class_png(path: &Path, map: &ClassMap, classes: &Classes) -> Result<()> {
    let size = map.size();
    let (Ok(width), Ok(height)) = (u32::try_from(size.width), u32::try_from(size.height)) else {
        return Err(Error::Setting {
            name: "map",
            expected: "sides below 2^32".into(),
            found: size.to_string(),
        });
    };
    let mut palette = vec![[255; 3]; 256];
    palette.iter_mut().zip(&classes.palette).for_each(|(entry, color)| *entry = *color);
    write_atomic(path, |file| {
        let mut encoder = Encoder::new(file, width, height);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_palette(palette.concat());
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        writer.write_image_data(map.classes()).map_err(io::Error::other)?;
        writer.finish().map_err(io::Error::other)
    })
    .map_err(|cause| Error::Io { path: path.into(), cause })
}

/// The classes predicted in one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageClasses {
    /// Name of the image.
    pub name: String,
    /// Height, pixels.
    pub height: usize,
    /// Width, pixels.
    pub width: usize,
    /// The classes that occur, in order of their numbers.
    pub classes: Vec<ClassShare>,
}

/// One class of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassShare {
    /// Its number.
    pub class: u8,
    /// Its name.
    pub name: String,
    /// Share of the image's pixels, 0 to 1.
    pub share: f64,
    /// Mean score of its pixels, 0 to 1.
    pub mean_score: f64,
}

impl ImageClasses {
    /// Returns the classes of a predicted map; `scores` are those of the predicted class, one per
    /// pixel, row-major.
    ///
    /// # Errors
    /// [`Error::Setting`] if the number of scores differs from the number of pixels.
    pub fn of(
        name: impl Into<String>,
        map: &ClassMap,
        scores: &[f32],
        classes: &Classes,
    ) -> Result<Self> {
        let pixels = map.classes().len();
        if scores.len() != pixels {
            return Err(Error::Setting {
                name: "scores",
                expected: format!("{pixels}, one for each pixel"),
                found: scores.len().to_string(),
            });
        }
        let mut sums = vec![(0_u64, 0.0_f64); classes.len()];
        for (&class, &score) in map.classes().iter().zip(scores) {
            if let Some((count, sum)) = sums.get_mut(usize::from(class)) {
                *count += 1;
                *sum += f64::from(score);
            }
        }
        let found =
            (0_u8..=255).zip(&classes.names).zip(&sums).filter(|(_, (count, _))| *count > 0);
        let shares = found.map(|((class, name), &(count, sum))| ClassShare {
            class,
            name: name.clone(),
            share: count as f64 / pixels as f64,
            mean_score: sum / count as f64,
        });
        let ImageSize { height, width } = map.size();
        Ok(Self { name: name.into(), height, width, classes: shares.collect() })
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let io = |cause| Error::Io { path: path.into(), cause };
        let text = serde_json::to_vec_pretty(self).map_err(|error| io(io::Error::other(error)))?;
        write_atomic_bytes(path, &text).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::segmentation::read_mask;

    fn two() -> (ClassMap, Classes) {
        let map = ClassMap::new(ImageSize::new(16, 16), [[0, 1, 1, 255]; 64].concat()).unwrap();
        (map, Classes::new(["ground", "cow 2"]).unwrap())
    }

    #[test]
    fn overlays_mix_and_leave_ignored_pixels() {
        let (map, classes) = two();
        let canvas = Canvas::new(map.size(), [100; 3]);
        let over = canvas.overlay_classes(&map, &classes, 0.5).unwrap();
        assert_eq!(over.pixels[..4], [[50; 3], [114, 50, 50], [114, 50, 50], [100; 3]]);
        assert_eq!(
            canvas.overlay_classes(&map, &classes, 2.0).unwrap_err().to_string(),
            "`opacity` is 2, expected 0 to 1"
        );
        let small = Canvas::new(ImageSize::new(2, 2), [0; 3]);
        assert_eq!(
            small.overlay_classes(&map, &classes, 0.5).unwrap_err().to_string(),
            "`map` is 16x16, expected the picture's size, 2x2"
        );
    }

    #[test]
    fn legends_have_a_line_for_each_class() {
        let (_, classes) = two();
        let legend = Canvas::legend(&classes, &[1, 0, 255]);
        assert_eq!(legend.size(), ImageSize::new(28, 20 + 6 * 8));
        assert_eq!((legend.pixel(5, 5), legend.pixel(20, 5)), (Some([128, 0, 0]), Some([0; 3])));
        // The upper left dot of `c` is dark, the one beside it light.
        assert_eq!((legend.pixel(2, 18), legend.pixel(2, 20)), (Some([0; 3]), Some([235; 3])));
    }

    #[test]
    fn class_maps_come_back_from_their_files() {
        let (map, classes) = two();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        save_class_png(&path, &map, &classes).unwrap();
        let back = read_mask(&path, map.size(), &classes, &Default::default()).unwrap();
        assert_eq!(back, map);
        let nowhere = folder.path().join("no").join("map.png");
        assert!(save_class_png(&nowhere, &map, &classes).is_err());
    }

    #[test]
    fn shares_and_scores_are_by_class() {
        let (map, classes) = two();
        let scores = [[0.5, 0.25, 0.75, 1.0]; 64].concat();
        let found = ImageClasses::of("a", &map, &scores, &classes).unwrap();
        assert_eq!(found.classes.len(), 2);
        assert_eq!((found.classes[0].share, found.classes[0].mean_score), (0.25, 0.5));
        assert_eq!((found.classes[1].share, found.classes[1].mean_score), (0.5, 0.5));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        found.save(&path).unwrap();
        let back: ImageClasses = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(back, found);
        assert_eq!(
            ImageClasses::of("a", &map, &[0.0], &classes).unwrap_err().to_string(),
            "`scores` is 1, expected 256, one for each pixel"
        );
    }
}
