//! Means, spreads and intervals of a few numbers.

use std::collections::BTreeMap;

/// Two-sided 95% points of Student's t by degrees of freedom, from 1.
const T95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// Returns the two-sided 95% point of Student's t with `freedom` degrees of freedom; `None` for 0.
pub(crate) fn t95(freedom: usize) -> Option<f64> {
    match freedom {
        0 => None,
        1..=30 => T95.get(freedom - 1).copied(),
        // The first terms of its expansion around the normal distribution.
        _ => Some(1.95996 + 2.372 / freedom as f64 + 2.823 / (freedom as f64).powi(2)),
    }
}

/// Mean, standard deviation and the half width of the 95% interval of the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    /// Of the numbers, with `n - 1` in the divisor; `None` for one number.
    pub(crate) deviation: Option<f64>,
    /// `None` for one number, and for equal ones: what does not depend on the seed has no interval over seeds.
    pub(crate) half: Option<f64>,
    pub(crate) count: usize,
}

impl Spread {
    /// Returns `None` without numbers.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        let differs = values.iter().any(|value| *value != values[0]);
        let half = deviation.filter(|_| differs).zip(t95(count - 1));
        let half = half.map(|(deviation, t)| t * deviation / (count as f64).sqrt());
        Some(Self { mean, deviation, half, count })
    }

    /// The differences `a - b` of the seeds that both have.
    pub(crate) fn of_differences(a: &BTreeMap<u64, f64>, b: &BTreeMap<u64, f64>) -> Option<Self> {
        let both = a.iter().filter_map(|(seed, value)| Some(value - b.get(seed)?));
        Self::of(&both.collect::<Vec<f64>>())
    }

    /// The interval of the mean; `None` for one number, and for equal ones.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        self.half.map(|half| (self.mean - half, self.mean + half))
    }

    /// Whether the interval lies on one side of 0, and on which: 1 above, -1 below, 0 undecided.
    pub(crate) fn side(&self) -> i8 {
        match self.interval() {
            Some((low, _)) if low > 0.0 => 1,
            Some((_, high)) if high < 0.0 => -1,
            _ => 0,
        }
    }
}
