//! How stored pixels are turned to the upright image.

use pad_ops::ImageSize;

use super::{Image, Pixels};
use crate::Result;

/// The value of TIFF's and EXIF's tag 274: 1 (as stored) to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

impl Orientation {
    /// The orientation of a tag's value; as stored for values without a meaning.
    pub(super) fn of_tag(value: Option<u64>) -> Self {
        match value {
            Some(value @ 1..=8) => Self(value as u8),
            _ => Self::default(),
        }
    }

    /// Whether rows become columns.
    fn transposes(self) -> bool {
        self.0 >= 5
    }

    /// Size of the upright image.
    pub(super) fn size(self, stored: ImageSize) -> ImageSize {
        match self.transposes() {
            true => ImageSize::new(stored.width, stored.height),
            false => stored,
        }
    }

    /// Place in the stored image of a pixel of the upright one.
    fn source(self, row: usize, column: usize, stored: ImageSize) -> usize {
        let (bottom, right) = (stored.height - 1, stored.width - 1);
        let (row, column) = match self.0 {
            2 => (row, right - column),
            3 => (bottom - row, right - column),
            4 => (bottom - row, column),
            5 => (column, row),
            6 => (bottom - column, row),
            7 => (bottom - column, right - row),
            8 => (column, right - row),
            _ => (row, column),
        };
        row * stored.width + column
    }

    /// The upright image.
    pub(super) fn apply(self, image: Image) -> Result<Image> {
        if self == Self::default() {
            return Ok(image);
        }
        let (stored, channels) = (image.size(), image.channels());
        let size = self.size(stored);
        let places: Vec<usize> = (0..size.height)
            .flat_map(|row| (0..size.width).map(move |column| self.source(row, column, stored)))
            .collect();
        let pixels = match image.pixels() {
            Pixels::U8(values) => Pixels::U8(turned(values, channels, &places)),
            Pixels::U16(values) => Pixels::U16(turned(values, channels, &places)),
            Pixels::F32(values) => Pixels::F32(turned(values, channels, &places)),
        };
        let upright = Image::new(size, channels, pixels)?;
        match image.masked() {
            Some(masked) => upright.with_mask(turned(masked, 1, &places)),
            None => Ok(upright),
        }
    }
}

fn turned<T: Copy>(values: &[T], channels: usize, places: &[usize]) -> Vec<T> {
    places
        .iter()
        .flat_map(|&place| values[place * channels..][..channels].iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_turns_as_exif_says() {
        // Stored: rows 1 2 3 and 4 5 6. Expected by the table of TIFF 6.0, page 36.
        let stored = ImageSize::new(2, 3);
        let expected: [(u64, [u8; 6]); 8] = [
            (1, [1, 2, 3, 4, 5, 6]),
            (2, [3, 2, 1, 6, 5, 4]),
            (3, [6, 5, 4, 3, 2, 1]),
            (4, [4, 5, 6, 1, 2, 3]),
            (5, [1, 4, 2, 5, 3, 6]),
            (6, [4, 1, 5, 2, 6, 3]),
            (7, [6, 3, 5, 2, 4, 1]),
            (8, [3, 6, 2, 5, 1, 4]),
        ];
        for (tag, expected) in expected {
            let orientation = Orientation::of_tag(Some(tag));
            let image = Image::new(stored, 1, Pixels::U8((1..=6).collect())).unwrap();
            let image = image.with_mask(vec![true, false, false, false, false, false]).unwrap();
            let turned = orientation.apply(image).unwrap();
            assert_eq!(turned.size(), orientation.size(stored), "{tag}");
            // The masked pixel has the smallest value of the others, and moves along.
            let expected = expected.map(|value| value.max(2));
            assert_eq!(turned.pixels(), &Pixels::U8(expected.to_vec()), "{tag}");
            let place = turned.masked().unwrap().iter().position(|&masked| masked).unwrap();
            let corner = match tag {
                1 | 5 => 0,
                2 => 2,
                3 | 7 => 5,
                4 => 3,
                6 => 1,
                _ => 4,
            };
            assert_eq!(place, corner, "{tag}");
        }
        let stored_as_is = [None, Some(0), Some(9)].map(Orientation::of_tag);
        assert_eq!(stored_as_is, [Orientation::default(); 3]);
    }
}
