//! Mirroring.

use serde::{Deserialize, Serialize};

use super::Draws;
use crate::{
    Error, Result,
    image::{Image, Pixels},
};

/// Mirrors left and right with a probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HorizontalFlip {
    /// Probability. Default 0.5.
    pub probability: f64,
}

impl Default for HorizontalFlip {
    fn default() -> Self {
        Self { probability: 0.5 }
    }
}

/// A decision of [`HorizontalFlip`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// As it is.
    None,
    /// Left and right change places.
    Horizontal,
}

impl HorizontalFlip {
    /// One that never mirrors.
    pub const NEVER: Self = Self { probability: 0.0 };

    /// Checks that the probability is 0 to 1.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        if (0.0..=1.0).contains(&self.probability) {
            return Ok(());
        }
        Err(Error::Setting {
            name: "probability",
            expected: "0 to 1".into(),
            found: self.probability.to_string(),
        })
    }

    /// Decides; one draw.
    pub fn draw(&self, draws: &mut impl Draws) -> Flip {
        if draws.uniform(0.0, 1.0) < self.probability { Flip::Horizontal } else { Flip::None }
    }

    /// Mirrors `image` if so decided.
    pub fn apply(image: Image, flip: Flip) -> Result<Image> {
        if flip == Flip::None {
            return Ok(image);
        }
        let (size, channels) = (image.size(), image.channels());
        let mut pixels = image.into_pixels();
        match &mut pixels {
            Pixels::U8(values) => mirror(values, size.width, channels),
            Pixels::U16(values) => mirror(values, size.width, channels),
            Pixels::F32(values) => mirror(values, size.width, channels),
        }
        Image::new(size, channels, pixels)
    }
}

fn mirror<T>(values: &mut [T], width: usize, channels: usize) {
    for row in values.chunks_exact_mut(width * channels) {
        row.reverse();
        // Reversing the samples also reversed the channels of each pixel.
        row.chunks_exact_mut(channels).for_each(<[T]>::reverse);
    }
}

#[cfg(test)]
mod tests {
    use pad_ops::{ImageSize, rng::Key};

    use super::*;

    #[test]
    fn pixels_move_and_channels_stay() {
        let image = Image::new(ImageSize::new(2, 2), 3, Pixels::U8((0..12).collect())).unwrap();
        let flipped = HorizontalFlip::apply(image.clone(), Flip::Horizontal).unwrap();
        assert_eq!(flipped.pixels(), &Pixels::U8(vec![3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]));
        assert_eq!(HorizontalFlip::apply(flipped, Flip::Horizontal).unwrap(), image);
        assert_eq!(HorizontalFlip::apply(image.clone(), Flip::None).unwrap(), image);
    }

    #[test]
    fn the_probability_is_kept() {
        let mut stream = Key::new(3).stream();
        let mut count = |probability| {
            let flip = HorizontalFlip { probability };
            (0..1000).filter(|_| flip.draw(&mut stream) == Flip::Horizontal).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 1000));
        assert!((450..550).contains(&count(0.5)));
        let refused = HorizontalFlip { probability: 1.5 }.validate().unwrap_err();
        assert_eq!(refused.to_string(), "`probability` is 1.5, expected 0 to 1");
    }
}
