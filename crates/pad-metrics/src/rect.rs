//! A rectangle of whole pixels.

use crate::ImageSize;

/// A rectangle of whole pixels inside an image: rows `top..top + height`, columns
/// `left..left + width`.
///
/// ```
/// use pad_metrics::{ImageSize, rect::Rect};
/// let rect = Rect { top: 2, left: 5, height: 20, width: 30 };
/// assert!(rect.is_inside(ImageSize::new(22, 35)) && !rect.is_inside(ImageSize::new(22, 34)));
/// assert_eq!(rect.to_string(), "20x30 at (2, 5)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Rect {
    /// The rectangle whose upper left pixel is at column `x` and row `y`, in the order of COCO's
    /// boxes; width and height are numbers of pixels.
    ///
    /// ```
    /// use pad_metrics::rect::Rect;
    /// let rect = Rect::from_xywh(5, 2, 30, 20);
    /// assert_eq!((rect.left, rect.top, rect.right(), rect.bottom()), (5, 2, 35, 22));
    /// ```
    pub const fn from_xywh(x: usize, y: usize, width: usize, height: usize) -> Self {
        Self { top: y, left: x, height, width }
    }

    /// The whole of an image of this size.
    pub const fn whole(size: ImageSize) -> Self {
        Self { top: 0, left: 0, height: size.height, width: size.width }
    }

    /// The rectangle of size `inner` in the middle of `outer`; an odd rest is rounded half to even,
    /// as Python's `round` and so torchvision's `center_crop` do. Sides of `inner` beyond `outer`
    /// are cut.
    pub fn centred(outer: ImageSize, inner: ImageSize) -> Self {
        let height = inner.height.min(outer.height);
        let width = inner.width.min(outer.width);
        let middle =
            |outer: usize, inner: usize| ((outer - inner) as f64 / 2.0).round_ties_even() as usize;
        Self { top: middle(outer.height, height), left: middle(outer.width, width), height, width }
    }

    /// First row below it.
    pub const fn bottom(&self) -> usize {
        self.top.saturating_add(self.height)
    }

    /// First column right of it.
    pub const fn right(&self) -> usize {
        self.left.saturating_add(self.width)
    }

    /// Whether both have a pixel.
    ///
    /// ```
    /// use pad_metrics::{ImageSize, rect::Rect};
    /// let size = ImageSize::new(4, 7);
    /// let middle = Rect::centred(size, ImageSize::square(2));
    /// assert_eq!(middle, Rect { top: 1, left: 2, height: 2, width: 2 }); // 2.5, rounded to even
    /// assert!(Rect::whole(size).meets(&middle) && middle.size() == ImageSize::square(2));
    /// assert!(!middle.meets(&Rect::from_xywh(4, 0, 3, 4))); // it begins right of it
    /// ```
    pub const fn meets(&self, other: &Self) -> bool {
        self.top < other.bottom()
            && other.top < self.bottom()
            && self.left < other.right()
            && other.left < self.right()
    }

    /// Height and width.
    pub const fn size(&self) -> ImageSize {
        ImageSize::new(self.height, self.width)
    }

    /// Whether it holds at least one pixel and lies inside an image of size `size`.
    pub fn is_inside(&self, size: ImageSize) -> bool {
        let fits = |start: usize, length: usize, whole: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
        };
        fits(self.top, self.height, size.height) && fits(self.left, self.width, size.width)
    }
}

/// `height x width at (top, left)`.
impl std::fmt::Display for Rect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at ({}, {})", self.size(), self.top, self.left)
    }
}
