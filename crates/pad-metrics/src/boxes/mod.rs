//! Overlap of boxes, and the suppression of those that overlap with better ones.
//!
//! Boxes are left, top, right and bottom edge. None of this has a gradient.

mod suppression;

pub use suppression::{batched_nms, nms};

/// Computes the intersection over union of every box of `a` with every box of `b`, row major; 0
/// where they do not intersect.
///
/// ```
/// let ious = pad_metrics::boxes::box_iou(&[[0.0, 0.0, 2.0, 2.0]], &[[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]]);
/// assert_eq!(ious, [2.0 / 6.0, 0.0]);
/// ```
pub fn box_iou(a: &[[f32; 4]], b: &[[f32; 4]]) -> Vec<f32> {
    let areas: Vec<f32> = b.iter().copied().map(area).collect();
    let mut out = Vec::with_capacity(a.len() * b.len());
    for &a in a {
        let of_a = area(a);
        out.extend(b.iter().zip(&areas).map(|(&b, &of_b)| {
            let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
            let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
            let shared = width * height;
            if shared > 0.0 { shared / (of_a + of_b - shared) } else { 0.0 }
        }));
    }
    out
}

fn area(bbox: [f32; 4]) -> f32 {
    (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])
}
