//! Overlap of boxes and their suppression, of `pad-metrics`, with this crate's errors.

pub use pad_metrics::boxes::box_iou;
use pad_metrics::{BoxesError, boxes};

use crate::{Error, Result};

impl From<BoxesError> for Error {
    fn from(error: BoxesError) -> Self {
        match error {
            BoxesError::Value { op, arg, expected, found } => {
                Self::Value { op, arg, expected, found }
            }
            other => Self::Value {
                op: "boxes",
                arg: "boxes",
                expected: "boxes that fit".into(),
                found: other.to_string(),
            },
        }
    }
}

/// Returns the indices of the boxes that are kept, best score first, equal scores in their order: a
/// box is suppressed if its intersection over union with a kept one is above `threshold`.
///
/// # Errors
/// [`Error::Value`] unless there is a score for each box, for a score that is NaN, and for a
/// threshold that is not between 0 and 1.
///
/// ```
/// let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]];
/// // The first two share 9 of 11 columns; the better of them stays.
/// assert_eq!(pad_ops::nms(&boxes, &[0.6, 0.9, 0.3], 0.5)?, [1, 2]);
/// assert_eq!(pad_ops::nms(&boxes, &[0.6, 0.9, 0.3], 0.9)?, [1, 0, 2]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn nms(boxes: &[[f32; 4]], scores: &[f32], threshold: f32) -> Result<Vec<usize>> {
    Ok(boxes::nms(boxes, scores, threshold)?)
}

/// Runs [`nms`] within each group (a class, a level of a pyramid): boxes of different groups do not
/// suppress each other. Groups run in parallel.
///
/// # Errors
/// As [`nms`]; [`Error::Value`] unless there is a group for each box.
///
/// ```
/// let boxes = [[0.0, 0.0, 10.0, 10.0]; 2];
/// assert_eq!(pad_ops::batched_nms(&boxes, &[0.6, 0.9], &[0, 1], 0.5)?, [1, 0]);
/// assert_eq!(pad_ops::batched_nms(&boxes, &[0.6, 0.9], &[1, 1], 0.5)?, [1]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn batched_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    groups: &[u32],
    threshold: f32,
) -> Result<Vec<usize>> {
    Ok(boxes::batched_nms(boxes, scores, groups, threshold)?)
}
