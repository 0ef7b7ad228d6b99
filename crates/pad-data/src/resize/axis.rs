//! Filter weights of one axis.

use std::{collections::BTreeMap, rc::Rc};

use super::{Filter, Resampling};

/// Fractional bits of a fixed-point weight: 32, minus 8 of the sample, minus 2 of headroom for
/// negative lobes.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The type of a weight.
pub(super) trait Weight: Copy {
    fn from_f64(weight: f64) -> Self;
}

impl Weight for i32 {
    fn from_f64(weight: f64) -> Self {
        // Rounds half away from zero, by truncation as in C.
        let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
        (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
    }
}

impl Weight for f32 {
    fn from_f64(weight: f64) -> Self {
        weight as f32
    }
}

/// The first input position and the weights of every output position.
pub(super) struct Axis<W> {
    starts: Vec<usize>,
    ends: Vec<usize>, // into `weights`
    weights: Vec<W>,
}

impl<W: Weight> Axis<W> {
    pub(super) fn new(input: usize, output: usize, filter: Filter) -> Self {
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let mut axis = Self {
            starts: Vec::with_capacity(output),
            ends: Vec::with_capacity(output),
            weights: Vec::new(),
        };
        let mut row = Vec::new();
        for position in 0..output {
            let center = (position as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            row.clear();
            row.extend((start..end).map(|sample| {
                filter.weight((sample as f64 - center + 0.5) * (1.0 / filter_scale))
            }));
            let sum: f64 = row.iter().sum();
            let norm = if sum == 0.0 { 1.0 } else { sum };
            axis.starts.push(start);
            axis.weights.extend(row.iter().map(|weight| W::from_f64(weight / norm)));
            axis.ends.push(axis.weights.len());
        }
        axis
    }

    /// Returns the first input position and the weights of output `position`.
    #[inline(always)]
    pub(super) fn at(&self, position: usize) -> (usize, &[W]) {
        let begin = if position == 0 { 0 } else { self.ends[position - 1] };
        (self.starts[position], &self.weights[begin..self.ends[position]])
    }
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Filter::Bilinear if x < 1.0 => 1.0 - x,
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// The weights of rows and columns; `None` for an axis that is not scaled.
pub(super) struct Axes<W> {
    pub(super) rows: Option<Rc<Axis<W>>>,
    pub(super) columns: Option<Rc<Axis<W>>>,
}

/// A cache of weights by (input, output, filter). Random crops have a few hundred different sides.
pub(super) struct AxisCache<W> {
    known: BTreeMap<(usize, usize, Filter), Rc<Axis<W>>>,
    held: usize,
}

impl<W> Default for AxisCache<W> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), held: 0 }
    }
}

impl<W: Weight> AxisCache<W> {
    /// Maximum number of cached weights, 8 MiB.
    const CAPACITY: usize = 2 << 20;

    pub(super) fn both(&mut self, resampling: &Resampling, filter: Filter) -> Axes<W> {
        let (source, scaled) = (resampling.source, resampling.scaled);
        Axes {
            rows: self.one(source.height, scaled.height, filter),
            columns: self.one(source.width, scaled.width, filter),
        }
    }

    fn one(&mut self, input: usize, output: usize, filter: Filter) -> Option<Rc<Axis<W>>> {
        if input == output {
            return None; // both filters are 1 at 0 and 0 at the other integers
        }
        if let Some(axis) = self.known.get(&(input, output, filter)) {
            return Some(Rc::clone(axis));
        }
        let axis = Rc::new(Axis::new(input, output, filter));
        self.held += axis.weights.len();
        if self.held > Self::CAPACITY {
            self.known.clear();
            self.held = axis.weights.len();
        }
        self.known.insert((input, output, filter), Rc::clone(&axis));
        Some(axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for (input, output) in [(1, 7), (3, 224), (640, 224), (225, 224), (1000, 1)] {
                let axis = Axis::<f32>::new(input, output, filter);
                for position in 0..output {
                    let (start, weights) = axis.at(position);
                    assert!(start + weights.len() <= input && !weights.is_empty());
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn the_cache_forgets_before_it_grows_too_large() {
        let mut cache = AxisCache::<i32>::default();
        for input in 1..40 {
            cache.one(input * 1000, 100, Filter::Bicubic);
            assert!(cache.held <= AxisCache::<i32>::CAPACITY);
        }
        assert!(cache.one(5, 5, Filter::Bicubic).is_none());
    }
}
