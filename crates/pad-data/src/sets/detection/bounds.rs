//! Checks of boxes.

use std::collections::BTreeMap;

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

/// What is done with boxes that reach beyond their image, or have no area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BadBoxes {
    /// They are faults, left out and counted up to the tolerated share
    /// ([`max_faulty`](super::DetectionOptions::max_faulty)). Boxes may reach one pixel beyond the
    /// image, because tools round and count from 0 or from 1; they are clipped.
    #[default]
    Refuse,
    /// They are clipped to the image, and left out where nothing remains. [`LeftOut`] counts them.
    Repair,
}

/// Boxes that were left out or clipped when a set was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Number of boxes of other categories than the classes, by the category's name.
    pub categories: BTreeMap<String, usize>,
    /// Number of boxes that were clipped by more than a pixel.
    pub cut: usize,
    /// Number of boxes without area inside their image.
    pub without_area: usize,
    /// Number of annotations that cannot be used.
    pub faulty: usize,
    /// Number of outlines that bound no area, of objects that have others.
    pub outlines: usize,
    /// Number of shapes that cover no area: points, lines, skeletons, cuboids.
    pub shapes: usize,
    /// Number of images that cannot be used: no such file, no size.
    pub images: usize,
    /// Number of images that have no file of labels, of formats with a file for each image.
    pub unlabelled: usize,
}

/// Pixels by which a box may reach beyond its image.
const SLACK: f64 = 1.0;

/// Checks and clips a box `[x1, y1, x2, y2]`; returns `None` if it is left out.
///
/// # Errors
/// A text: expected, then found.
pub(super) fn bounded(
    bbox: [f64; 4],
    size: ImageSize,
    bad: BadBoxes,
    left_out: &mut LeftOut,
) -> Result<Option<[f64; 4]>, String> {
    let [x1, y1, x2, y2] = bbox;
    if let Some(number) = bbox.iter().find(|number| !number.is_finite()) {
        return Err(format!("expected finite numbers, found {number}"));
    }
    let (height, width) = (size.height as f64, size.width as f64);
    if x2 <= x1 || y2 <= y1 {
        if bad == BadBoxes::Repair {
            left_out.without_area += 1;
            return Ok(None);
        }
        return Err(format!(
            "expected a width and height above 0, found {} x {}",
            x2 - x1,
            y2 - y1
        ));
    }
    let beyond = [
        ("left", x1, -x1),
        ("top", y1, -y1),
        ("right", x2, x2 - width),
        ("bottom", y2, y2 - height),
    ];
    let worst = beyond.into_iter().find(|(.., beyond)| *beyond > SLACK);
    if let Some((edge, at, _)) = worst {
        if bad == BadBoxes::Refuse {
            return Err(format!(
                "expected to be inside the image of {size}, found its {edge} edge at {at}"
            ));
        }
        left_out.cut += 1;
    }
    let cut =
        [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)];
    if cut[0] < cut[2] && cut[1] < cut[3] {
        return Ok(Some(cut));
    }
    // Wholly in the one pixel around the image, or anywhere outside it.
    if bad == BadBoxes::Repair {
        left_out.without_area += 1;
        return Ok(None);
    }
    Err(format!("expected to be inside the image of {size}, found it wholly outside"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ImageSize = ImageSize::new(50, 100);

    #[test]
    fn strict_boxes_lie_inside() {
        let mut left_out = LeftOut::default();
        let mut check = |bbox| bounded(bbox, SIZE, BadBoxes::Refuse, &mut left_out);
        assert_eq!(check([0.0, 0.0, 100.0, 50.0]), Ok(Some([0.0, 0.0, 100.0, 50.0])));
        assert_eq!(check([-1.0, 3.0, 100.5, 51.0]), Ok(Some([0.0, 3.0, 100.0, 50.0])));
        let refused = |found: Result<_, String>| found.unwrap_err();
        assert_eq!(
            refused(check([90.0, 0.0, 120.0, 50.0])),
            "expected to be inside the image of 50x100, found its right edge at 120"
        );
        assert_eq!(
            refused(check([9.0, -1.5, 12.0, 50.0])),
            "expected to be inside the image of 50x100, found its top edge at -1.5"
        );
        assert_eq!(
            refused(check([100.0, 0.0, 101.0, 50.0])),
            "expected to be inside the image of 50x100, found it wholly outside"
        );
        assert_eq!(
            refused(check([9.0, 5.0, 9.0, 50.0])),
            "expected a width and height above 0, found 0 x 45"
        );
        assert_eq!(
            refused(check([9.0, 5.0, 19.0, f64::NAN])),
            "expected finite numbers, found NaN"
        );
        assert_eq!(left_out, LeftOut::default());
    }

    #[test]
    fn repaired_boxes_are_counted() {
        let mut left_out = LeftOut::default();
        let mut check = |bbox| bounded(bbox, SIZE, BadBoxes::Repair, &mut left_out);
        assert_eq!(check([90.0, 0.0, 120.0, 50.0]), Ok(Some([90.0, 0.0, 100.0, 50.0])));
        assert_eq!(check([9.0, 5.0, 9.0, 50.0]), Ok(None));
        assert_eq!(check([100.5, 5.0, 101.0, 50.0]), Ok(None));
        assert!(check([0.0, 0.0, f64::INFINITY, 50.0]).is_err());
        assert_eq!(left_out, LeftOut { cut: 1, without_area: 2, ..Default::default() });
    }
}
