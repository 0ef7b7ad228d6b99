//! RoI files: one `x,y,width,height` per line, integers, one file per image.

use std::{io::Write, path::Path};

use pad_ops::ImageSize;

use super::Roi;
use crate::{Error, Result};

/// Reads the RoI file of an image of `size`. An empty file holds no RoI; blank lines and spaces
/// around numbers are skipped.
///
/// # Errors
/// [`Error::Io`]; [`Error::Line`] with the line's number for a line other than four whole numbers,
/// a width or height of 0, and a rectangle outside the image.
pub fn read(path: &Path, size: ImageSize) -> Result<Vec<Roi>> {
    let bytes =
        pad_ops::fs::read(path).map_err(|cause| Error::Io { path: path.to_path_buf(), cause })?;
    parse_file(&bytes, path, Some(size))
}

/// [`read`] from memory; `path` names the file in errors. Without a size rectangles are not checked
/// against the image.
///
/// # Errors
/// [`Error::Line`] as [`read`].
pub fn parse_file(bytes: &[u8], path: &Path, size: Option<ImageSize>) -> Result<Vec<Roi>> {
    let mut rois = Vec::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let refuse = |what| Error::Line { path: path.to_path_buf(), line: number + 1, what };
        let line = std::str::from_utf8(line).map_err(|_| refuse("not UTF-8 text".into()))?.trim();
        if !line.is_empty() {
            rois.push(parse(line, size).map_err(refuse)?);
        }
    }
    Ok(rois)
}

/// Parses one line.
fn parse(line: &str, size: Option<ImageSize>) -> Result<Roi, String> {
    let mut numbers = [0; 4];
    let mut count = 0;
    for field in line.split(',') {
        if let Some(number) = numbers.get_mut(count) {
            let field = field.trim();
            *number = field.parse::<u32>().map_err(|_| {
                let names = ["x", "y", "width", "height"];
                format!("expected an integer of at least 0 for {}, found `{field}`", names[count])
            })?;
        }
        count += 1;
    }
    if count != 4 {
        return Err(format!("expected 4 numbers `x,y,width,height`, found {count}"));
    }
    let [x, y, width, height] = numbers;
    if width == 0 || height == 0 {
        return Err(format!(
            "expected a width and a height of at least 1, found {width} and {height}"
        ));
    }
    let roi = Roi { x, y, width, height };
    match size {
        Some(size) if !roi.is_inside(size) => Err(format!(
            "expected a rectangle inside the image of {size} (height x width) pixels, found {line}"
        )),
        _ => Ok(roi),
    }
}

/// Writes a RoI file atomically.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, rois: &[Roi]) -> Result<()> {
    pad_ops::fs::write_atomic(path, |file| rois.iter().try_for_each(|roi| writeln!(file, "{roi}")))
        .map_err(|cause| Error::Io { path: path.to_path_buf(), cause })
}
