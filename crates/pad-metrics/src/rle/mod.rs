//! Run-length encoded masks in COCO's order: columns from left to right, each from top to bottom,
//! alternating lengths of background and object, background first.

mod polygon;
mod text;

use serde::{Deserialize, Serialize};

use crate::{ImageSize, MaskError, rect::Rect};

type Result<T> = std::result::Result<T, MaskError>;

/// The mask of one object.
///
/// ```
/// use pad_metrics::{ImageSize, rect::Rect, rle::Rle};
/// let size = ImageSize::new(3, 4);
/// let mask = Rle::within(size, Rect::from_xywh(1, 0, 2, 2), |_, _| true)?;
/// assert_eq!(mask.counts(), [3, 2, 1, 2, 4]); // down the columns, background first
/// assert_eq!((mask.area(), mask.to_text()), (4, Rle::parse(size, &mask.to_text())?.to_text()));
/// # Ok::<(), pad_metrics::MaskError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Rle {
    size: ImageSize,
    /// Background, object, background, ...; the sum is the area of `size`.
    counts: Vec<u32>,
}

/// A `segmentation` of a COCO file.
///
/// ```
/// use pad_metrics::{ImageSize, rle::Segmentation};
/// let square = Segmentation::Polygons(vec![vec![1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]]);
/// assert_eq!(square.rle(ImageSize::square(4))?.area(), 4);
/// # Ok::<(), pad_metrics::MaskError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segmentation {
    /// Polygons `x, y, x, y, ...` in pixels; the object is their union.
    Polygons(Vec<Vec<f64>>),
    /// Runs, compressed or not.
    Runs(Rle),
}

impl Segmentation {
    /// Returns the mask in an image of `size`.
    ///
    /// # Errors
    /// [`MaskError`] for runs of another size, and as [`Rle::of_polygons`].
    pub fn rle(&self, size: ImageSize) -> Result<Rle> {
        match self {
            Self::Polygons(polygons) => Rle::of_polygons(size, polygons),
            Self::Runs(rle) if rle.size == size => Ok(rle.clone()),
            Self::Runs(rle) => Err(fault("a mask of the image's", size, rle.size)),
        }
    }
}

/// The two forms of runs in a file.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Height, width.
    size: [usize; 2],
    counts: Counts,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Counts {
    Text(String),
    Numbers(Vec<u32>),
}

impl TryFrom<Stored> for Rle {
    type Error = MaskError;

    fn try_from(stored: Stored) -> Result<Self> {
        let [height, width] = stored.size;
        let size = ImageSize::new(height, width);
        match stored.counts {
            Counts::Text(text) => Self::parse(size, &text),
            Counts::Numbers(counts) => Self::new(size, counts),
        }
    }
}

impl From<Rle> for Stored {
    fn from(rle: Rle) -> Self {
        let size = [rle.size.height, rle.size.width];
        Self { size, counts: Counts::Text(rle.to_text()) }
    }
}

/// Maximum number of pixels of a mask: four times that of the largest image that is read.
const MAX_PIXELS: usize = 1 << 30;

fn fault(expected: &str, size: ImageSize, found: impl ToString) -> MaskError {
    let expected = format!("{expected} {size}");
    MaskError { what: "mask", expected, found: found.to_string() }
}

impl Rle {
    /// Returns a mask of `size` from the lengths of its runs, background first.
    ///
    /// # Errors
    /// [`MaskError`] if they do not add up to the area of `size`, or the area is above 2^30.
    pub fn new(size: ImageSize, counts: Vec<u32>) -> Result<Self> {
        let area = size.height.checked_mul(size.width).filter(|&area| area <= MAX_PIXELS);
        let sum: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        match area {
            Some(area) if sum == area as u64 => Ok(Self { size, counts }),
            Some(_) => {
                Err(fault("runs that add up to the pixels of", size, format!("a sum of {sum}")))
            }
            None => Err(MaskError {
                what: "mask",
                expected: format!("at most {MAX_PIXELS} pixels"),
                found: size.to_string(),
            }),
        }
    }

    /// Returns a mask of `size` that is `inside(row, column)` within `window` and background
    /// elsewhere.
    ///
    /// # Errors
    /// [`MaskError`] if the window reaches beyond `size`, or as [`Rle::new`].
    pub fn within(
        size: ImageSize,
        window: Rect,
        mut inside: impl FnMut(usize, usize) -> bool,
    ) -> Result<Self> {
        if window.bottom() > size.height || window.right() > size.width {
            return Err(fault("a window inside", size, format!("{window:?}")));
        }
        Self::empty(size)?; // whether its pixels can be counted
        let mut runs = Runs::default();
        runs.push(false, window.left * size.height);
        for column in window.left..window.right() {
            runs.push(false, window.top);
            for row in window.top..window.bottom() {
                runs.push(inside(row, column), 1);
            }
            runs.push(false, size.height - window.bottom());
        }
        runs.push(false, (size.width - window.right()) * size.height);
        Self::new(size, runs.counts)
    }

    /// Returns a mask without object pixels.
    ///
    /// # Errors
    /// As [`Rle::new`].
    pub fn empty(size: ImageSize) -> Result<Self> {
        let area = size.height.saturating_mul(size.width);
        Self::new(size, vec![u32::try_from(area).unwrap_or(u32::MAX)])
    }

    /// Returns the union of `masks`.
    ///
    /// # Errors
    /// [`MaskError`] for masks of another size than `size`.
    ///
    /// ```
    /// use pad_metrics::{ImageSize, rect::Rect, rle::Rle};
    /// let size = ImageSize::new(3, 4);
    /// let left = Rle::within(size, Rect::from_xywh(0, 0, 2, 2), |_, _| true)?;
    /// let right = Rle::within(size, Rect::from_xywh(1, 1, 2, 2), |_, _| true)?;
    /// let both = Rle::union(size, &[left.clone(), right.clone()])?;
    /// assert_eq!((both.area(), left.intersection(&right)?), (4 + 4 - 1, 1));
    /// assert_eq!(both.bounds(), Some(Rect::from_xywh(0, 0, 3, 3)));
    /// assert_eq!(both.window(Rect::from_xywh(1, 0, 2, 1)), [true, false]); // of the first row
    /// // Another size, and no object at all.
    /// assert_eq!(left.resized(ImageSize::new(6, 8))?.area(), 16);
    /// let empty = Rle::empty(size)?;
    /// assert_eq!((empty.size(), empty.bounds()), (size, None));
    /// # Ok::<(), pad_metrics::MaskError>(())
    /// ```
    pub fn union(size: ImageSize, masks: &[Self]) -> Result<Self> {
        let mut all = Self::empty(size)?;
        for mask in masks {
            let mut runs = Runs::default();
            all.beside(mask, |a, b, length| runs.push(a || b, length as usize))?;
            all.counts = runs.counts;
        }
        Ok(all)
    }

    /// Returns height and width of the image.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// Returns the lengths of the runs, background first.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Returns the number of pixels of the object.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&count| u64::from(count)).sum()
    }

    /// Returns the mask in an image of another size: each pixel is that of the nearest place.
    ///
    /// # Errors
    /// As [`Rle::new`].
    pub fn resized(&self, size: ImageSize) -> Result<Self> {
        if size == self.size {
            return Ok(self.clone());
        }
        Self::empty(size)?;
        let Some(Rect { top, left, height, width }) = self.bounds() else {
            return Self::empty(size);
        };
        // The part of the other image that shows the object's window, and a pixel more each way.
        let part = |start: usize, length: usize, from: usize, to: usize| {
            let low = (start * to / from.max(1)).saturating_sub(1);
            let high = ((start + length) * to).div_ceil(from.max(1)).saturating_add(1).min(to);
            (low.min(high), high - low.min(high))
        };
        let (new_top, new_height) = part(top, height, self.size.height, size.height);
        let (new_left, new_width) = part(left, width, self.size.width, size.width);
        let pixels = self.window(Rect { top, left, height, width });
        let nearest = |at: usize, from: usize, to: usize| (2 * at + 1) * from / (2 * to);
        let window = Rect { top: new_top, left: new_left, height: new_height, width: new_width };
        Self::within(size, window, |row, column| {
            let row = nearest(row, self.size.height, size.height).checked_sub(top);
            let column = nearest(column, self.size.width, size.width).checked_sub(left);
            match (row, column) {
                (Some(row), Some(column)) if row < height && column < width => {
                    pixels[row * width + column]
                }
                _ => false,
            }
        })
    }

    /// Returns the number of pixels in both masks.
    ///
    /// # Errors
    /// [`MaskError`] for masks of different sizes.
    pub fn intersection(&self, other: &Self) -> Result<u64> {
        let mut both = 0;
        self.beside(other, |a, b, length| both += if a && b { u64::from(length) } else { 0 })?;
        Ok(both)
    }

    /// Returns the smallest window that contains the object; `None` for an empty mask.
    pub fn bounds(&self) -> Option<Rect> {
        let height = self.size.height;
        let mut bounds: Option<[usize; 4]> = None;
        for (start, end) in self.objects() {
            let (left, right) = (start / height, (end - 1) / height + 1);
            // A run that continues in the next column touches both edges.
            let (top, bottom) = match right - left {
                1 => (start % height, (end - 1) % height + 1),
                _ => (0, height),
            };
            let [t, l, b, r] = bounds.unwrap_or([top, left, bottom, right]);
            bounds = Some([t.min(top), l.min(left), b.max(bottom), r.max(right)]);
        }
        bounds.map(|[top, left, bottom, right]| Rect {
            top,
            left,
            height: bottom - top,
            width: right - left,
        })
    }

    /// Returns the mask inside `window`, row by row; pixels outside the image are background.
    pub fn window(&self, window: Rect) -> Vec<bool> {
        let mut pixels = vec![false; window.height * window.width];
        let height = self.size.height;
        for (start, end) in self.objects() {
            let columns = (start / height).max(window.left)
                ..((end - 1) / height + 1).min(window.left + window.width);
            for column in columns {
                let first = start.saturating_sub(column * height).max(window.top);
                let last = (end - column * height).min(height).min(window.top + window.height);
                for row in first..last {
                    pixels[(row - window.top) * window.width + column - window.left] = true;
                }
            }
        }
        pixels
    }

    /// Returns start and end of each run of the object.
    fn objects(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut at = 0;
        let runs = self.counts.iter().enumerate().map(move |(place, &count)| {
            let start = at;
            at += count as usize;
            (place % 2 == 1 && count > 0, start, at)
        });
        runs.filter(|&(object, ..)| object).map(|(_, start, end)| (start, end))
    }

    /// Iterates over two masks at once, in pieces in which neither changes.
    fn beside(&self, other: &Self, mut piece: impl FnMut(bool, bool, u32)) -> Result<()> {
        if self.size != other.size {
            return Err(fault("a mask of", self.size, other.size));
        }
        let (mut runs, mut others) = (self.counts.iter(), other.counts.iter());
        let (mut left, mut right) = (0, 0);
        // The first run is background.
        let (mut a, mut b) = (true, true);
        loop {
            while left == 0 {
                let Some(&next) = runs.next() else { return Ok(()) };
                (left, a) = (next, !a);
            }
            while right == 0 {
                let Some(&next) = others.next() else { return Ok(()) };
                (right, b) = (next, !b);
            }
            let length = left.min(right);
            piece(a, b, length);
            left -= length;
            right -= length;
        }
    }
}

/// Builds runs; adjacent runs of one kind are joined.
#[derive(Default)]
struct Runs {
    counts: Vec<u32>,
}

impl Runs {
    fn push(&mut self, object: bool, length: usize) {
        if length == 0 {
            return;
        }
        // With an even number of runs, the last one belongs to the object.
        let last = self.counts.len().is_multiple_of(2);
        match self.counts.last_mut() {
            Some(count) if last == object => *count += length as u32,
            None if object => self.counts.extend([0, length as u32]),
            _ => self.counts.push(length as u32),
        }
    }
}

#[cfg(test)]
mod tests;
