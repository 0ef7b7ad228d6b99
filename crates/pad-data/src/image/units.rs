//! Counts of a thermal image in the unit that the options choose.

use std::path::Path;

use super::{Image, flir::Calibration, notice::warn_once, options::RadiometricMode};
use crate::{Error, Result};

/// Counts in the unit of `mode`, by the constants that the file states.
pub(super) fn convert(
    counts: &Image,
    calibration: Option<&Calibration>,
    mode: RadiometricMode,
    path: &Path,
) -> Result<Image> {
    let offset = match mode {
        RadiometricMode::Celsius => -273.15,
        _ => 0.0,
    };
    match (calibration, mode) {
        (_, RadiometricMode::Raw) => Ok(counts.clone()),
        (Some(calibration), _) => {
            let (image, dead) = calibration
                .apply(counts, offset)
                .map_err(|error| Error::Entry { path: path.into(), what: error.to_string() })?;
            if dead > 0 {
                warn_once(path, "dead pixels", || {
                    format!(
                        "{dead} of {} pixels have counts below the calibration (dead pixels?); \
                         they are masked",
                        image.size().area()
                    )
                });
            }
            Ok(image)
        }
        (None, RadiometricMode::Kelvin | RadiometricMode::Celsius) => Err(Error::Unsupported {
            path: path.into(),
            what: format!(
                "the radiometric mode {mode} for a camera whose conversion is not public (use raw \
                 or picture; auto gives counts)"
            ),
        }),
        (None, _) => {
            warn_once(path, "counts in place of temperatures", || {
                "the conversion of this camera is not public: counts are read, not kelvin".into()
            });
            Ok(counts.clone())
        }
    }
}
