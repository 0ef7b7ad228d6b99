//! Non-maximum suppression: each box against those kept so far, a lane of them at a time.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::area;
use crate::BoxesError as Error;

type Result<T> = std::result::Result<T, Error>;

/// Kept boxes that are looked at together.
const LANES: usize = 16;

/// Boxes kept so far, coordinate by coordinate, padded with boxes that meet nothing.
#[derive(Default)]
struct Kept {
    lanes: Vec<Lane>,
    count: usize,
}

/// Left, top, right, bottom, area.
type Lane = [[f32; LANES]; 5];

impl Kept {
    fn push(&mut self, bbox: [f32; 4]) {
        let at = self.count % LANES;
        if at == 0 {
            // No area is shared with these, so they suppress nothing: 0 / area.
            const FAR: f32 = f32::MAX;
            self.lanes.push([
                [FAR; LANES],
                [FAR; LANES],
                [-FAR; LANES],
                [-FAR; LANES],
                [1.0; LANES],
            ]);
        }
        if let Some(lane) = self.lanes.last_mut() {
            for (values, value) in lane.iter_mut().zip(bbox.into_iter().chain([area(bbox)])) {
                values[at] = value;
            }
        }
        self.count += 1;
    }
}

/// Whether a kept box overlaps `bbox` by more than `threshold`.
#[inline(always)]
fn suppressed(lanes: &[Lane], bbox: [f32; 4], threshold: f32) -> bool {
    let own = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
    for [x1, y1, x2, y2, areas] in lanes {
        let mut over = [0_u32; LANES];
        for i in 0..LANES {
            let width = x2[i].min(bbox[2]) - x1[i].max(bbox[0]);
            let height = y2[i].min(bbox[3]) - y1[i].max(bbox[1]);
            let shared = width.max(0.0) * height.max(0.0);
            // Two boxes without an area: 0 / 0, which is above nothing.
            over[i] = u32::from(shared / (areas[i] + own - shared) > threshold);
        }
        let mut any = 0;
        for flag in over {
            any |= flag;
        }
        if any != 0 {
            return true;
        }
    }
    false
}

/// [`suppressed`] with the widest vector instructions of the processor.
struct Suppressed<'a> {
    lanes: &'a [Lane],
    bbox: [f32; 4],
    threshold: f32,
}

impl NullaryFnOnce for Suppressed<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        suppressed(self.lanes, self.bbox, self.threshold)
    }
}

/// Returns the indices of the boxes that are kept, best score first, equal scores in their order: a
/// box is suppressed if its intersection over union with a kept one is above `threshold`. One with an
/// edge that is not finite overlaps none.
///
/// # Errors
/// [`Error::Value`] unless there is a score for each box, for a score that is NaN, and for a
/// threshold that is not between 0 and 1.
///
/// ```
/// let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]];
/// // The first two share 9 of 11 columns; the better of them stays.
/// assert_eq!(pad_metrics::boxes::nms(&boxes, &[0.6, 0.9, 0.3], 0.5)?, [1, 2]);
/// assert_eq!(pad_metrics::boxes::nms(&boxes, &[0.6, 0.9, 0.3], 0.9)?, [1, 0, 2]);
/// # Ok::<(), pad_metrics::BoxesError>(())
/// ```
pub fn nms(boxes: &[[f32; 4]], scores: &[f32], threshold: f32) -> Result<Vec<usize>> {
    expect("nms", boxes, scores, threshold)?;
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    sort(&mut order, scores);
    Ok(kept(&order, boxes, threshold))
}

/// Runs [`nms`] within each group (a class, a level of a pyramid): boxes of different groups do not
/// suppress each other. Groups run in parallel.
///
/// # Errors
/// As [`nms`]; [`Error::Value`] unless there is a group for each box.
///
/// ```
/// let boxes = [[0.0, 0.0, 10.0, 10.0]; 2];
/// assert_eq!(pad_metrics::boxes::batched_nms(&boxes, &[0.6, 0.9], &[0, 1], 0.5)?, [1, 0]);
/// assert_eq!(pad_metrics::boxes::batched_nms(&boxes, &[0.6, 0.9], &[1, 1], 0.5)?, [1]);
/// # Ok::<(), pad_metrics::BoxesError>(())
/// ```
pub fn batched_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    groups: &[u32],
    threshold: f32,
) -> Result<Vec<usize>> {
    const OP: &str = "batched_nms";
    expect(OP, boxes, scores, threshold)?;
    if groups.len() != boxes.len() {
        return Err(length(OP, "groups", boxes.len(), groups.len()));
    }
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    sort(&mut order, scores);
    order.sort_by_key(|&at| groups[at]);
    let groups: Vec<&[usize]> = order.chunk_by(|&a, &b| groups[a] == groups[b]).collect();
    let stay: Vec<Vec<usize>> =
        groups.into_par_iter().map(|group| kept(group, boxes, threshold)).collect();
    let mut stay = stay.concat();
    stay.sort_unstable();
    sort(&mut stay, scores);
    Ok(stay)
}

/// Best first; the sort is stable.
fn sort(order: &mut [usize], scores: &[f32]) {
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(std::cmp::Ordering::Equal));
}

/// Those of `order`, from its front, that no box before them suppresses.
fn kept(order: &[usize], boxes: &[[f32; 4]], threshold: f32) -> Vec<usize> {
    let arch = Arch::new();
    let mut kept = Kept::default();
    let mut stay = Vec::new();
    for &at in order {
        let (lanes, bbox) = (&kept.lanes[..], boxes[at]);
        if !arch.dispatch(Suppressed { lanes, bbox, threshold }) {
            kept.push(boxes[at]);
            stay.push(at);
        }
    }
    stay
}

fn expect(op: &'static str, boxes: &[[f32; 4]], scores: &[f32], threshold: f32) -> Result<()> {
    if !(0.0..=1.0).contains(&threshold) {
        let expected = "an intersection over union between 0 and 1".to_string();
        return Err(Error::Value { op, arg: "threshold", expected, found: threshold.to_string() });
    }
    if scores.len() != boxes.len() {
        return Err(length(op, "scores", boxes.len(), scores.len()));
    }
    if let Some(at) = scores.iter().position(|score| score.is_nan()) {
        let expected = "numbers".to_string();
        return Err(Error::Value { op, arg: "scores", expected, found: format!("NaN at {at}") });
    }
    Ok(())
}

fn length(op: &'static str, arg: &'static str, expected: usize, found: usize) -> Error {
    let expected = format!("one for each of the {expected} boxes");
    Error::Value { op, arg, expected, found: found.to_string() }
}
