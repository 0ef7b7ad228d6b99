//! How fast a model is.

use std::fmt;

use serde::Serialize;

/// Time and work per image.
///
/// ```
/// use pad_heads::Speed;
/// let speed = Speed::new(&[0.010, 0.030, 0.020], 6e9).unwrap();
/// assert_eq!((speed.images, speed.median_ms, speed.gmacs), (3, 20.0, 2.0));
/// assert!(Speed::new(&[], 0.0).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Speed {
    /// Number of images timed.
    pub images: usize,
    /// Median time of an image through the network, without decoding and resizing it, ms.
    pub median_ms: f64,
    /// 95th percentile of this time, ms.
    pub p95_ms: f64,
    /// Multiply-adds of a mean image, billions.
    pub gmacs: f64,
}

impl Speed {
    /// Computes the speed from the time of each image, seconds, in any order, and the multiply-adds
    /// of all. Returns `None` without images.
    pub fn new(seconds: &[f64], macs: f64) -> Option<Self> {
        let images = seconds.len();
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((images as f64 * share) as usize).min(images - 1));
        if images == 0 {
            return None;
        }
        let gmacs = macs / 1e9 / images as f64;
        Some(Self { images, median_ms: 1e3 * at(0.5)?, p95_ms: 1e3 * at(0.95)?, gmacs })
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} ms per image (median of {}; 95th percentile {:.1} ms), {:.2} billion multiply-adds",
            self.median_ms, self.images, self.p95_ms, self.gmacs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_percentile() {
        let seconds: Vec<f64> = (1..=100).rev().map(|ms| f64::from(ms) / 1e3).collect();
        let speed = Speed::new(&seconds, 5e11).unwrap();
        assert_eq!((speed.images, speed.gmacs), (100, 5.0));
        assert!((speed.median_ms - 51.0).abs() < 1e-9 && (speed.p95_ms - 96.0).abs() < 1e-9);
        assert_eq!(
            speed.to_string(),
            "51.0 ms per image (median of 100; 95th percentile 96.0 ms), 5.00 billion multiply-adds"
        );
        assert!(Speed::new(&[], 0.0).is_none());
    }
}
