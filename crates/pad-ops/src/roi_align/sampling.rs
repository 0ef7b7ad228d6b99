//! Where the samples of a box fall, as weights of a map's rows and columns.

use candle_core::Tensor;

use super::boxes::{ImageBox, RoiAlign, value};
use crate::Result;

/// Maximum number of samples of a bin along an axis.
const MAX_SAMPLES: f32 = 65_536.0;

/// What one bin takes along an axis: `weights` of the pixels from `first` on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bin {
    pub(super) first: usize,
    pub(super) weights: Vec<f32>,
}

impl Bin {
    /// The pixel behind the last.
    pub(super) fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

/// A box on its map.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) map: usize,
    pub(super) image: usize,
    /// Of the map's rows, one for each row of bins.
    pub(super) rows: Vec<Bin>,
    /// Of the map's columns, one for each column of bins.
    pub(super) columns: Vec<Bin>,
}

impl Region {
    /// The map's rows that any bin takes something of, and behind them.
    pub(super) fn touched_rows(&self) -> (usize, usize) {
        let taking = || self.rows.iter().filter(|bin| !bin.weights.is_empty());
        let first = taking().map(|bin| bin.first).min().unwrap_or(0);
        (first, taking().map(Bin::end).max().unwrap_or(first))
    }
}

/// The regions of boxes that were checked against `maps`.
pub(super) fn regions(
    maps: &[Tensor],
    scales: &[f32],
    rois: &[ImageBox],
    options: RoiAlign,
) -> Result<Vec<Region>> {
    let region = |roi: &ImageBox| {
        let (_, _, height, width) = maps[roi.map].dims4()?;
        let scale = scales[roi.map];
        let [x1, y1, x2, y2] = roi.bbox;
        let refuse = || {
            let expected = format!("finite edges, at most {MAX_SAMPLES} samples of a bin");
            value("rois", expected, format!("{:?}", roi.bbox))
        };
        let axis = |from, to, bins, side| {
            bins_of(from, to, scale, bins, options.sampling_ratio, side).ok_or_else(refuse)
        };
        let rows = axis(y1, y2, options.height, height)?;
        let columns = axis(x1, x2, options.width, width)?;
        Ok(Region { map: roi.map, image: roi.image, rows, columns })
    };
    rois.iter().map(region).collect()
}

/// The bins of the stretch `from..to` along an axis of `side` pixels. `None` if it cannot be
/// sampled.
fn bins_of(
    from: f32,
    to: f32,
    scale: f32,
    bins: usize,
    samples: Option<usize>,
    side: usize,
) -> Option<Vec<Bin>> {
    // In f32, in this order: how many samples there are hangs on the last bit.
    let start = from * scale - 0.5;
    let length = (to * scale - 0.5) - start;
    let bin = length / bins as f32;
    let count = samples.map_or(bin.ceil(), |samples| samples as f32);
    if !start.is_finite() || !length.is_finite() || count > MAX_SAMPLES {
        return None;
    }
    let count = count.max(0.0) as usize;
    let taps_of = |index: usize| {
        let mut taps: Vec<(usize, f32)> = Vec::with_capacity(2 * count);
        for sample in 0..count {
            let place = start + index as f32 * bin + (sample as f32 + 0.5) * bin / count as f32;
            if place < -1.0 || place > side as f32 || side == 0 {
                continue;
            }
            let place = place.max(0.0);
            let low = place as usize;
            if low + 1 >= side {
                taps.push((side - 1, 1.0));
            } else {
                let share = place - low as f32;
                taps.push((low, 1.0 - share));
                taps.push((low + 1, share));
            }
        }
        let Some(first) = taps.iter().map(|tap| tap.0).min() else { return Bin::default() };
        let last = taps.iter().map(|tap| tap.0).max().unwrap_or(first);
        let mut weights = vec![0.0; last - first + 1];
        for (place, weight) in taps {
            weights[place - first] += weight / count as f32;
        }
        Bin { first, weights }
    };
    Some((0..bins).map(taps_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_of_a_short_axis() {
        // Two bins over pixels 0.5..4.5 of the axis, shifted by half a pixel: two samples each.
        let bins = bins_of(1.0, 5.0, 1.0, 2, None, 8).unwrap();
        assert_eq!(bins[0], Bin { first: 1, weights: vec![0.5, 0.5, 0.0] });
        assert_eq!(bins[1].first, 3);
        // Outside by more than a pixel: nothing. At the edge: the edge's pixel.
        assert_eq!(bins_of(-20.0, -10.0, 1.0, 1, Some(1), 8).unwrap(), [Bin::default()]);
        assert_eq!(
            bins_of(7.8, 8.4, 1.0, 1, Some(1), 8).unwrap(),
            [Bin { first: 7, weights: vec![1.0] }]
        );
        // A negative length has no sample.
        assert_eq!(bins_of(5.0, 2.0, 1.0, 1, None, 8).unwrap(), [Bin::default()]);
        assert_eq!(bins_of(0.0, f32::NAN, 1.0, 1, None, 8), None);
        assert_eq!(bins_of(0.0, 1e9, 1.0, 1, None, 8), None);
    }
}
