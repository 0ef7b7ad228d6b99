//! The images of a loader one by one, for what says something about each of them.

use candle_core::{DType, Device, Tensor};
use pad_data::loader::{Batch, Loader};

use crate::{Error, Result};

/// Calls `each` with every batch that has a readable image, its images on `device`, until it returns
/// false; returns what it returned last.
///
/// # Errors
/// [`Error::Probe`] for a loader that drops its last images, and if no image is readable; more
/// unreadable images than the loader tolerates; what `each` returns.
pub(crate) fn for_each_batch<L: Send + 'static>(
    loader: &Loader<L>,
    device: &Device,
    mut each: impl FnMut(&Tensor, Batch<L>) -> Result<bool>,
) -> Result<bool> {
    let fault = |what: &str| Err(Error::Probe { what: what.into() });
    if loader.config().drop_last {
        return fault("`drop_last` of the loader is true, expected false: every image counts");
    }
    let mut any = false;
    for batch in loader.epoch(0, 0)? {
        let batch = batch?;
        if batch.is_empty() {
            continue;
        }
        any = true;
        let images = batch.images.to_device(device)?;
        if !each(&images, batch)? {
            return Ok(false);
        }
    }
    if !any {
        return fault("no readable image, expected at least 1");
    }
    Ok(true)
}

/// Returns the values of `rows`, a row for each image of `names`, in `f32`; `what` names one of them
/// in the error.
///
/// # Errors
/// [`Error::Probe`] with the image's name for a value that is not finite.
pub(crate) fn finite_values(rows: &Tensor, names: &[String], what: &str) -> Result<Vec<f32>> {
    let values = rows.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let Some(at) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(values);
    };
    let image = at / (values.len() / names.len().max(1)).max(1);
    let name = names.get(image).map_or("", String::as_str);
    let value = values[at];
    let what = format!(
        "{name}: a {what} is {value}, expected finite numbers: the weights or the image are too large"
    );
    Err(Error::Probe { what })
}
