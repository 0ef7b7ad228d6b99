//! Sequences: FFF files one behind the other.

use std::{ops::Range, path::Path};

use pad_ops::ImageSize;

use super::{
    container::{MAGICS, Records, order_of_file},
    counts,
};
use crate::{
    Error, Result,
    image::{
        Image,
        notice::warn_once,
        options::{DecodeOptions, RadiometricMode},
        units,
    },
};

/// Bytes of the header of an FFF file.
const HEADER: usize = 64;

/// Where the frames of a sequence lie. A frame ends where the next begins.
pub(in crate::image) fn places(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(start) = next_start(bytes, at) {
        starts.push(start);
        // What the records hold may look like a header too.
        let frame = Records::of_file(&bytes[start..], Path::new(""));
        let end = frame.map_or(HEADER, |records| records.end().max(HEADER));
        at = start + end;
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
}

fn next_start(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        // Both magics have their second letter in common.
        let found = at + memchr::memmem::find(bytes.get(at..)?, b"FF\0")?;
        at = found + 1;
        let Some(start) = found.checked_sub(1).filter(|&start| start >= from) else { continue };
        let file = &bytes[start..];
        let known = MAGICS.iter().any(|magic| file.starts_with(magic));
        if known && order_of_file(file).is_some() {
            return Some(start);
        }
    }
}

/// The bytes of the frame that the options choose.
fn chosen<'a>(bytes: &'a [u8], path: &Path, options: &DecodeOptions) -> Result<&'a [u8]> {
    let places = places(bytes);
    let page = options.page_of(path, places.len().max(1))?;
    if options.page.is_none() && places.len() > 1 {
        warn_once(path, "several frames", || {
            format!("the first of {} frames is read (see the page option)", places.len())
        });
    }
    // Without a frame, the reader names what is wrong with the first.
    Ok(places.get(page).map_or(bytes, |place| &bytes[place.clone()]))
}

/// Reads the frame that the options choose.
pub(in crate::image) fn decode(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<Image> {
    let records = Records::of_file(chosen(bytes, path, options)?, path)?;
    if options.radiometric == RadiometricMode::Picture {
        let what = "the picture of a FLIR sequence, which has none,".into();
        return Err(Error::Unsupported { path: path.into(), what });
    }
    let counts = counts(&records, path, options)?;
    match options.radiometric {
        RadiometricMode::Raw => Ok(counts),
        mode => units::convert(&counts, Some(&records.calibration()?), mode, path),
    }
}

/// Height and width of the frame that the options choose.
pub(in crate::image) fn size(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<ImageSize> {
    Ok(Records::of_file(chosen(bytes, path, options)?, path)?.raw()?.size)
}
