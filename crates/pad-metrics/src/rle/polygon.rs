//! Polygons rasterised as pycocotools does, pixel for pixel, so that areas and overlaps equal those
//! of its metrics.
//!
//! The outline is followed on a grid five times as fine as the pixels. Where it steps from one fine
//! column to the next at the centre of a pixel column, the mask changes from that row downwards.

use super::{Rle, Runs};
use crate::{ImageSize, MaskError};

type Result<T> = std::result::Result<T, MaskError>;

/// Number of fine grid points per pixel and axis.
const FINE: f64 = 5.0;

/// Number of crossings that are tolerated in the smallest image.
const MIN_CROSSINGS: usize = 4096;

impl Rle {
    /// Returns the union of the polygons `x, y, x, y, ...` (pixels, the upper left corner of the
    /// image at 0) as a mask.
    ///
    /// # Errors
    /// [`MaskError`] for a polygon with fewer than three corners or an odd number of
    /// coordinates, coordinates that are NaN or outside the image by more than three times its size,
    /// and an outline that crosses the columns of pixels more often than an image of this size has pixels.
    ///
    /// ```
    /// use pad_metrics::{ImageSize, rle::Rle};
    /// let triangle = vec![0.0, 0.0, 4.0, 0.0, 0.0, 4.0]; // x, y of each corner
    /// let square = vec![4.0, 4.0, 6.0, 4.0, 6.0, 6.0, 4.0, 6.0];
    /// let size = ImageSize::square(8);
    /// let area = Rle::of_polygons(size, &[square.clone()])?.area();
    /// assert_eq!(area, 4);
    /// let both = Rle::of_polygons(size, &[square, triangle])?;
    /// assert!((4 + 6..=4 + 10).contains(&both.area()));
    /// assert!(Rle::of_polygons(size, &[vec![0.0, 0.0, 1.0, 1.0]]).is_err()); // two corners
    /// # Ok::<(), pad_metrics::MaskError>(())
    /// ```
    pub fn of_polygons(size: ImageSize, polygons: &[Vec<f64>]) -> Result<Self> {
        let masks =
            polygons.iter().map(|polygon| filled(size, polygon)).collect::<Result<Vec<_>>>()?;
        match <[Self; 1]>::try_from(masks) {
            Ok([mask]) => Ok(mask),
            Err(masks) => Self::union(size, &masks),
        }
    }
}

fn filled(size: ImageSize, polygon: &[f64]) -> Result<Rle> {
    let whole = Rle::empty(size)?;
    let refuse = |expected: &str, found: String| {
        Err(MaskError { what: "polygon", expected: expected.into(), found })
    };
    let (corners, rest) = polygon.as_chunks::<2>();
    if corners.len() < 3 || !rest.is_empty() {
        let found = format!("{} coordinates", polygon.len());
        return refuse("an even number of at least 6", found);
    }
    // Coordinates far outside belong to no outline of this image and only cost time.
    let sides = [size.width as f64, size.height as f64];
    for (corner, (&at, side)) in polygon.iter().zip(sides.iter().cycle()).enumerate() {
        if !(-3.0 * side..=4.0 * side).contains(&at) {
            let expected = format!("coordinates of {} to {}", -3.0 * side, 4.0 * side);
            return refuse(&expected, format!("{at} at index {corner}"));
        }
    }
    let fine = |at: f64| (FINE * at + 0.5) as i64;
    let corners: Vec<[i64; 2]> = corners.iter().map(|&[x, y]| [fine(x), fine(y)]).collect();
    let next = corners.iter().cycle().skip(1);
    let mut changes = Vec::new();
    let mut before = corners[0];
    for (&from, &to) in corners.iter().zip(next) {
        for point in walk(from, to) {
            changes.extend(change(before, point, size));
            before = point;
        }
        // A line that goes to and fro takes memory for each crossing.
        if changes.len() > size.area().max(MIN_CROSSINGS) {
            let found = format!("more than {} crossings", size.area().max(MIN_CROSSINGS));
            return refuse("an outline that crosses few columns twice", found);
        }
    }
    changes.extend(whole.counts.iter().map(|&pixels| pixels as usize));
    changes.sort_unstable();
    let mut runs = Runs::default();
    let (mut at, mut object) = (0, false);
    for change in changes {
        runs.push(object, change - at);
        (at, object) = (change, !object);
    }
    Rle::new(size, runs.counts)
}

/// Returns where the mask changes, if it does, as the outline steps from one fine grid point to the
/// next.
fn change([before, above]: [i64; 2], [x, y]: [i64; 2], size: ImageSize) -> Option<usize> {
    if x == before {
        return None;
    }
    let column = ((if x < before { x } else { x - 1 }) as f64 + 0.5) / FINE - 0.5;
    if column.fract() != 0.0 || !(0.0..size.width as f64).contains(&column) {
        return None;
    }
    let row = (y.min(above) as f64 + 0.5) / FINE - 0.5;
    let row = row.clamp(0.0, size.height as f64).ceil();
    Some(column as usize * size.height + row as usize)
}

/// Returns the fine grid points from one corner to the next, both included.
fn walk(from: [i64; 2], to: [i64; 2]) -> impl Iterator<Item = [i64; 2]> {
    let steps = [(to[0] - from[0]).abs(), (to[1] - from[1]).abs()];
    let along = usize::from(steps[0] < steps[1]);
    // The other coordinate is rounded from the smaller end, whatever the direction of the outline.
    let (low, high) = if from[along] > to[along] { (to, from) } else { (from, to) };
    let length = steps[along];
    let across = 1 - along;
    let slope = match length {
        0 => 0.0,
        length => (high[across] - low[across]) as f64 / length as f64,
    };
    let forward = low == from;
    (0..=length).map(move |step| {
        let step = if forward { step } else { length - step };
        let mut point = [0; 2];
        point[along] = low[along] + step;
        point[across] = (low[across] as f64 + slope * step as f64 + 0.5) as i64;
        point
    })
}
