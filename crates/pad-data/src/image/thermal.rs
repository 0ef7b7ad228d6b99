//! The thermal image of a radiometric JPEG file, of any maker.

use std::{borrow::Cow, path::Path};

use pad_ops::ImageSize;

use super::{
    Image, Pixels, dji,
    endian::Order,
    flir::{self, Radiometric},
    hikmicro,
    jpeg::Facts,
    options::{DecodeOptions, RadiometricMode},
    orientation::Orientation,
    units,
};
use crate::Result;

/// How a thermal image is stored.
enum Stored<'a> {
    /// As FLIR does: counts and the constants of the camera.
    Flir,
    /// Counts of a size, low byte first, without constants.
    Counts(ImageSize, Cow<'a, [u8]>),
}

fn find<'a>(bytes: &'a [u8], facts: &Facts, path: &Path) -> Result<Option<Stored<'a>>> {
    if flir::contains(bytes) {
        return Ok(Some(Stored::Flir));
    }
    if let Some((size, samples)) = dji::find(bytes, facts, path) {
        return Ok(Some(Stored::Counts(size, samples.into())));
    }
    let hikmicro = hikmicro::find(bytes, path)?;
    Ok(hikmicro.map(|(size, samples)| Stored::Counts(size, samples.into())))
}

/// The orientation of a thermal image of size `size`: that of its picture, if both lie the same
/// way; cameras that turn the counts themselves do not state it for them.
fn orientation(facts: &Facts, size: ImageSize) -> Orientation {
    let is_upright = |size: ImageSize| size.height > size.width;
    let alike = facts.stored_size().is_some_and(|other| is_upright(other) == is_upright(size));
    if alike { facts.exif.orientation } else { Orientation::default() }
}

/// The thermal image of a JPEG file as the options choose it, upright; `None` for a file without
/// one, and if the picture is chosen.
pub(super) fn decode(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Option<Image>> {
    let mode = options.radiometric;
    if mode == RadiometricMode::Picture {
        return Ok(None);
    }
    let facts = Facts::of(bytes);
    let Some(stored) = find(bytes, &facts, path)? else { return Ok(None) };
    let image = match stored {
        Stored::Flir if mode == RadiometricMode::Raw => flir::counts_of_jpeg(bytes, path, options)?,
        Stored::Flir => {
            let Some(thermal) = Radiometric::parse(bytes, path, options)? else { return Ok(None) };
            units::convert(&thermal.counts, Some(&thermal.calibration), mode, path)?
        }
        Stored::Counts(size, samples) => {
            options.check(path, size, samples.len() as u64)?;
            let counts = Pixels::U16(Order::Little.words(&samples));
            units::convert(&Image::new(size, 1, counts)?, None, mode, path)?
        }
    };
    let upright = orientation(&facts, image.size()).apply(image)?;
    Ok(Some(upright.with_companion(facts.upright_size())))
}

fn stored_size(bytes: &[u8], facts: &Facts, path: &Path) -> Result<Option<ImageSize>> {
    let size = match find(bytes, facts, path)? {
        None => return Ok(None),
        Some(Stored::Flir) => flir::size_of_jpeg(bytes, path)?,
        Some(Stored::Counts(size, _)) => size,
    };
    Ok(Some(orientation(facts, size).size(size)))
}

/// Size of the thermal image that [`decode`] reads; `None` where it reads none.
pub(super) fn chosen_size(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<Option<ImageSize>> {
    match options.radiometric {
        RadiometricMode::Picture => Ok(None),
        _ => stored_size(bytes, &Facts::of(bytes), path),
    }
}

/// Size of the thermal image beside a picture; `None` for a file without one, and for a damaged
/// one, which does not concern the picture.
pub(super) fn size(bytes: &[u8], facts: &Facts, path: &Path) -> Option<ImageSize> {
    stored_size(bytes, facts, path).ok().flatten()
}
