//! Sampling without replacement in proportion to weights (Efraimidis and Spirakis, 2006): patch `i`
//! gets the key `-ln(u) / w`, an exponential waiting time of rate `w`; the first to arrive are
//! kept.

use candle_core::{DType, Tensor};
use pad_ops::rng::Stream;

use crate::{Error, Result};

/// Returns the importance of the patches, one row per image, after checking it.
pub(super) fn rows(
    importance: Option<&Tensor>,
    images: usize,
    patches: usize,
) -> Result<Vec<Vec<f32>>> {
    let refuse = |fault: String| Error::Config { what: "mask", faults: vec![fault] };
    let importance = importance.ok_or_else(|| {
        refuse(
            "attention masking without a teacher's attention, expected one that gives it (CLIP)"
                .into(),
        )
    })?;
    if importance.dims() != [images, patches] {
        let found = importance.dims();
        return Err(refuse(format!(
            "importance of shape {found:?}, expected {:?}",
            [images, patches]
        )));
    }
    let rows: Vec<Vec<f32>> = importance.to_dtype(DType::F32)?.to_vec2()?;
    for (image, row) in rows.iter().enumerate() {
        if let Some(patch) = row.iter().position(|&weight| !(weight >= 0.0 && weight.is_finite())) {
            return Err(refuse(format!(
                "importance of patch {patch} of image {image} is {}, expected 0 or more",
                row[patch]
            )));
        }
    }
    Ok(rows)
}

/// Returns all patches in the order in which they are drawn; those of weight 0 come last.
pub(super) fn without_replacement(weights: &[f32], stream: &mut Stream) -> Vec<u32> {
    let mut drawn: Vec<(f64, f64, u32)> = Vec::with_capacity(weights.len());
    for (patch, &weight) in weights.iter().enumerate() {
        let wait = -(1.0 - stream.uniform_f64()).ln();
        let key = if weight > 0.0 { wait / f64::from(weight) } else { f64::INFINITY };
        drawn.push((key, wait, patch as u32));
    }
    drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    drawn.into_iter().map(|(_, _, patch)| patch).collect()
}
