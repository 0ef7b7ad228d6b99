//! Percentiles of values, as numpy has them.

/// Two percentiles of values.
pub(super) type Percentiles<T> = fn(&mut dyn Iterator<Item = T>, (f64, f64)) -> (f64, f64);

/// Two percentiles of counts.
pub(super) fn counts_percentiles(
    values: &mut dyn Iterator<Item = u16>,
    (low, high): (f64, f64),
) -> (f64, f64) {
    let counts = Counts::of(values);
    (counts.percentile(low), counts.percentile(high))
}

/// Two percentiles of floats.
pub(super) fn floats_percentiles(
    values: &mut dyn Iterator<Item = f32>,
    (low, high): (f64, f64),
) -> (f64, f64) {
    let mut values: Vec<f32> = values.collect();
    (percentile(&mut values, low), percentile(&mut values, high))
}

/// The number of occurrences of each 16-bit value.
struct Counts {
    of_value: Vec<usize>,
    total: usize,
}

impl Counts {
    fn of(values: &mut dyn Iterator<Item = u16>) -> Self {
        let mut of_value = vec![0_usize; 1 << 16];
        let mut total = 0;
        for value in values {
            of_value[usize::from(value)] += 1;
            total += 1;
        }
        Self { of_value, total }
    }

    fn percentile(&self, percent: f64) -> f64 {
        let place = Place::of(percent, self.total);
        place.between(self.ranked(place.below), self.ranked(place.below + 1))
    }

    /// Returns the value at `rank` in sorted order (the largest beyond the end).
    fn ranked(&self, rank: usize) -> f64 {
        let mut seen = 0;
        let mut last = 0;
        for (value, &count) in self.of_value.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += count;
            last = value;
            if seen > rank {
                break;
            }
        }
        last as f64
    }
}

/// Returns the `percent`-th percentile (0 to 100) of finite values, interpolated linearly between
/// the two nearest ranks (numpy's default); 0 without values. `values` is reordered.
///
/// ```
/// use pad_data::window::percentile;
/// assert_eq!(percentile(&mut [4.0, 1.0, 2.0, 3.0], 50.0), 2.5);
/// ```
pub fn percentile(values: &mut [f32], percent: f64) -> f64 {
    let place = Place::of(percent, values.len());
    if values.is_empty() {
        return 0.0;
    }
    let (_, &mut below, rest) =
        values.select_nth_unstable_by(place.below.min(values.len() - 1), f32::total_cmp);
    let above = rest.iter().copied().min_by(f32::total_cmp).unwrap_or(below);
    place.between(f64::from(below), f64::from(above))
}

/// A position between two ranks of a sorted list.
struct Place {
    below: usize,
    share: f64,
}

impl Place {
    fn of(percent: f64, total: usize) -> Self {
        let place = (percent / 100.0).clamp(0.0, 1.0) * (total.max(1) - 1) as f64;
        Self { below: place.floor() as usize, share: place.fract() }
    }

    /// Interpolates as numpy does, from the nearer end, so that neither end is overshot.
    fn between(&self, low: f64, high: f64) -> f64 {
        let step = high - low;
        if self.share < 0.5 { low + step * self.share } else { high - step * (1.0 - self.share) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy 2.4: np.percentile([3, 1, 4, 1, 5, 9, 2, 6], [0, 1, 33, 50, 99, 100]).
        let expected = [1.0, 1.0, 2.31, 3.5, 8.79, 9.0];
        let values = [3_u16, 1, 4, 1, 5, 9, 2, 6];
        let counts = Counts::of(&mut values.into_iter());
        for (percent, expected) in [0.0, 1.0, 33.0, 50.0, 99.0, 100.0].into_iter().zip(expected) {
            assert!((counts.percentile(percent) - expected).abs() < 1e-12, "{percent}");
            let mut floats = values.map(f32::from);
            assert!((percentile(&mut floats, percent) - expected).abs() < 1e-12, "{percent}");
        }
        assert_eq!(percentile(&mut [], 50.0), 0.0);
    }
}
