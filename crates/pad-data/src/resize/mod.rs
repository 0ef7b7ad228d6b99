//! Pillow's resize, bit for bit on 8-bit images.
//!
//! For every output row and column a window of input samples is weighted by a filter whose support
//! grows with the scale (so that shrinking does not alias). Details that make it equal to Pillow
//! (11.3 and before):
//!
//! 1. the crop is cut out first, so that pixels outside have no influence;
//! 2. weights are computed in f64, normalised to a sum of one, and rounded half away from zero to
//!    22 bits;
//! 3. columns first, rounded and clipped to 8 bits, then rows, rounded and clipped again.
//!
//! Floats take the same filter in f32 without rounding, and are clipped to 0..=255 after each pass,
//! as 8 bits are.
//!
//! Each pass is written so that the vector lanes run over independent outputs. Sums are formed in
//! the order of the samples on every machine, so the instruction set never changes a bit.

mod axis;
mod pass;
mod resampling;

use std::cell::Cell;

use pad_ops::ImageSize;

pub use self::resampling::{Filter, Resampling};
use self::{axis::AxisCache, pass::Scratch};
use crate::{
    Error, Result,
    image::{Image, Pixels},
    rect::Rect,
};

/// Resizes the whole image to `size`. See [`resample`].
///
/// # Errors
/// As [`resample`].
pub fn resize(image: &Image, size: ImageSize, filter: Filter) -> Result<Image> {
    resample(image, &Resampling::new(Rect::whole(image.size()), size), filter)
}

/// Crops and resizes as `resampling` says. 8-bit images give 8 bits; floats must be levels of 0 to
/// 255 (see [`Window`](crate::window::Window)) and give such levels.
///
/// # Errors
/// [`Error::Setting`] if a rectangle is empty or lies outside, or the image holds 16-bit counts,
/// which have no fixed range to be clipped to: apply a [`Window`](crate::window::Window) first.
pub fn resample(image: &Image, resampling: &Resampling, filter: Filter) -> Result<Image> {
    let (size, channels) = (resampling.size(), image.channels());
    let pixels = with_planes(image, resampling, filter, |planes| match planes {
        Planes::U8(planes) => Pixels::U8(interleaved(planes, channels)),
        Planes::F32(planes) => Pixels::F32(interleaved(planes, channels)),
    })?;
    Image::new(size, channels, pixels)
}

fn interleaved<T: Copy + Default>(planes: &[T], channels: usize) -> Vec<T> {
    if channels == 1 {
        return planes.to_vec();
    }
    let mut out = vec![T::default(); planes.len()];
    for (channel, plane) in planes.chunks_exact(planes.len() / channels).enumerate() {
        for (sample, &value) in out.iter_mut().skip(channel).step_by(channels).zip(plane) {
            *sample = value;
        }
    }
    out
}

/// A resampled image, planar, each channel row-major.
#[derive(Clone, Copy)]
pub(crate) enum Planes<'a> {
    U8(&'a [u8]),
    F32(&'a [f32]),
}

/// Buffers and weights of one thread, reused for every image.
#[derive(Default)]
struct Workspace {
    weights_u8: AxisCache<i32>,
    weights_f32: AxisCache<f32>,
    scratch_u8: Scratch<u8>,
    scratch_f32: Scratch<f32>,
}

thread_local! {
    static WORKSPACE: Cell<Option<Box<Workspace>>> = const { Cell::new(None) };
}

/// [`resample`] with a borrowed planar result, without an allocation.
pub(crate) fn with_planes<R>(
    image: &Image,
    resampling: &Resampling,
    filter: Filter,
    look: impl FnOnce(Planes<'_>) -> R,
) -> Result<R> {
    resampling.validate(image.size())?;
    let mut workspace = WORKSPACE.take().unwrap_or_default();
    let Workspace { weights_u8, weights_f32, scratch_u8, scratch_f32 } = &mut *workspace;
    let result = match image.pixels() {
        Pixels::U8(samples) => {
            let axes = weights_u8.both(resampling, filter);
            Ok(look(Planes::U8(scratch_u8.run(image, samples, resampling, &axes))))
        }
        Pixels::F32(samples) => {
            let axes = weights_f32.both(resampling, filter);
            Ok(look(Planes::F32(scratch_f32.run(image, samples, resampling, &axes))))
        }
        Pixels::U16(_) => Err(Error::Setting {
            name: "pixels",
            expected: "8-bit or float levels (apply a Window to 16-bit counts first)".into(),
            found: "16-bit counts".into(),
        }),
    };
    WORKSPACE.set(Some(workspace));
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        axis::{Axis, PRECISION_BITS},
        *,
    };

    /// One pass along the rows, sample by sample.
    fn naive_pass(
        samples: &[u8],
        (rows, columns): (usize, usize),
        to: usize,
        filter: Filter,
    ) -> Vec<u8> {
        let axis = Axis::<i32>::new(columns, to, filter);
        let mut out = Vec::new();
        for row in 0..rows {
            for position in 0..to {
                let (start, weights) = axis.at(position);
                let mut sum = 1_i64 << (PRECISION_BITS - 1);
                for (place, &weight) in weights.iter().enumerate() {
                    sum += i64::from(weight) * i64::from(samples[row * columns + start + place]);
                }
                out.push((sum >> PRECISION_BITS).clamp(0, 255) as u8);
            }
        }
        out
    }

    fn transposed(samples: &[u8], (rows, columns): (usize, usize)) -> Vec<u8> {
        (0..columns)
            .flat_map(|column| (0..rows).map(move |row| samples[row * columns + column]))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_fast_passes_are_the_plain_sums(
            (height, width) in (1_usize..90, 1_usize..90),
            (to_height, to_width) in (1_usize..90, 1_usize..90),
            rgb in any::<bool>(),
            bilinear in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let channels = if rgb { 3 } else { 1 };
            let mut samples = vec![0; height * width * channels];
            pad_ops::rng::Key::new(seed).stream().fill_bytes(&mut samples);
            // Edges, where the negative lobes leave 0..=255.
            if seed % 2 == 0 {
                samples.iter_mut().for_each(|sample| *sample = if *sample < 128 { 0 } else { 255 });
            }
            let filter = if bilinear { Filter::Bilinear } else { Filter::Bicubic };
            let image =
                Image::new(ImageSize::new(height, width), channels, Pixels::U8(samples.clone()))
                    .unwrap();
            let size = ImageSize::new(to_height, to_width);
            let resized = resize(&image, size, filter).unwrap();
            let Pixels::U8(found) = resized.pixels() else { panic!("8 bits stay 8 bits") };
            for channel in 0..channels {
                let plane: Vec<u8> =
                    samples.iter().skip(channel).step_by(channels).copied().collect();
                let wide = naive_pass(&plane, (height, width), to_width, filter);
                let turned = transposed(&wide, (height, to_width));
                let turned = naive_pass(&turned, (to_width, height), to_height, filter);
                let expected = transposed(&turned, (to_width, to_height));
                let found: Vec<u8> =
                    found.iter().skip(channel).step_by(channels).copied().collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn what_cannot_be_resized_is_refused() {
        let size = ImageSize::new(4, 5);
        let counts = Image::new(size, 1, Pixels::U16(vec![9; 20])).unwrap();
        assert_eq!(
            resize(&counts, size, Filter::Bicubic).unwrap_err().to_string(),
            "`pixels` is 16-bit counts, expected 8-bit or float levels (apply a Window to 16-bit \
             counts first)"
        );
        let image = Image::new(size, 1, Pixels::U8(vec![9; 20])).unwrap();
        let outside = Rect { top: 2, left: 0, height: 3, width: 5 };
        let text =
            |resampling| resample(&image, &resampling, Filter::Bicubic).unwrap_err().to_string();
        assert_eq!(
            text(Resampling::new(outside, size)),
            "`source` is 3x5 at (2, 0), expected at least one pixel inside 4x5"
        );
        assert_eq!(
            text(Resampling::new(Rect::whole(size), ImageSize::new(0, 3))),
            "`window` is 0x3 at (0, 0), expected at least one pixel inside 0x3"
        );
        let huge = Rect { top: usize::MAX, ..outside };
        assert!(resample(&image, &Resampling::new(huge, size), Filter::Bicubic).is_err());
    }

    #[test]
    fn floats_are_clipped_like_bytes() {
        let size = ImageSize::new(6, 6);
        let step = (0..36).map(|index| if index % 6 < 3 { 0.0 } else { 255.0 }).collect();
        let image = Image::new(size, 1, Pixels::F32(step)).unwrap();
        let resized = resize(&image, ImageSize::new(24, 24), Filter::Bicubic).unwrap();
        let Pixels::F32(levels) = resized.pixels() else { panic!("floats stay floats") };
        assert!(levels.iter().all(|level| (0.0..=255.0).contains(level)));
        assert!(levels.iter().any(|level| (1.0..254.0).contains(level)));
    }
}
