//! Gain control, from 16 bits to 8: a window between percentiles, plateau equalisation, local
//! detail.

use crate::{config::GainConfig, dice::Dice, sensor::blur, size::Size};

/// Grey levels reserved at each end, so that ordinary pixels do not saturate.
const MARGIN: f32 = 4.0;

/// Returns the 8-bit image of raw counts; `per_kelvin` counts are one kelvin.
pub(crate) fn control(
    counts: &[u16],
    size: Size,
    per_kelvin: f32,
    config: &GainConfig,
    dice: &mut Dice,
) -> Vec<u8> {
    let tail = dice.within(config.tail_share);
    let mut blend = dice.within(config.equalisation);
    let detail = dice.within(config.detail);
    let informed = if dice.chance(0.7) { dice.between(0.4, 0.95) } else { 0.0 };
    // Level and span, as an operator sets them.
    let (level, span) = (dice.between(-0.05, 0.04), dice.between(0.82, 1.0));
    let histogram = histogram(counts);
    let Some((low, high)) = window(&histogram, counts.len(), tail) else {
        // A constant image is mid-grey.
        return vec![128; counts.len()];
    };
    // Cameras limit their gain, so that a wall of one temperature is not amplified into noise.
    let least = (per_kelvin * dice.between(3.0, 7.0)) as usize;
    let missing = least.saturating_sub(high - low);
    let (low, high) =
        (low.saturating_sub(missing / 2), (high + missing / 2).min(histogram.len() - 1));
    let equal = plateau(&information(counts, size, informed), low, high);
    let linear = |count: u16| (f32::from(count) - low as f32) / (high - low) as f32;
    // A few very hot or cold objects leave the linear window nearly flat: equalise more.
    let spread = deviation(counts, linear);
    if spread < 0.13 {
        blend = blend.max(((0.13 - spread) * 9.0).min(0.85));
    }
    let tone = |count: u16| {
        let straight = linear(count).clamp(0.0, 1.0);
        let index = usize::from(count).saturating_sub(low).min(equal.len() - 1);
        straight + (equal[index] - straight) * blend
    };
    let mut image: Vec<f32> = counts.iter().map(|&count| tone(count)).collect();
    if detail > 0.0 {
        let base = blur(&image, size, 0.006 * size.width.max(size.height) as f32 + 0.6);
        image.iter_mut().zip(&base).for_each(|(value, base)| *value += detail * (*value - base));
    }
    // Shift towards the mean grey level of automatic exposure.
    let mean = image.iter().sum::<f32>() / image.len() as f32;
    let aim = (0.42 - mean) * 0.45 + level;
    let levels = 255.0 - 2.0 * MARGIN;
    image
        .iter()
        .map(|&value| {
            let value = (value + aim - 0.45) * span + 0.45;
            // A soft shoulder and toe instead of a hard clip.
            let bent = shoulder(value);
            (MARGIN + levels * bent).round().clamp(0.0, 255.0) as u8
        })
        .collect()
}

/// Identity in the middle, bending smoothly into `[0, 1]` at both ends.
fn shoulder(value: f32) -> f32 {
    const KNEE: f32 = 0.12;
    if value < KNEE {
        KNEE * ((value - KNEE) / KNEE).exp()
    } else if value > 1.0 - KNEE {
        1.0 - KNEE * ((1.0 - KNEE - value) / KNEE).exp()
    } else {
        value
    }
}

fn histogram(counts: &[u16]) -> Vec<u32> {
    let mut bins = vec![0_u32; 1 << 16];
    counts.iter().for_each(|&count| bins[usize::from(count)] += 1);
    bins
}

/// Returns the counts that cut the share `tail` off each end; `None` if they coincide.
fn window(histogram: &[u32], total: usize, tail: f32) -> Option<(usize, usize)> {
    let cut = (f64::from(tail) * total as f64) as u64;
    let passes = |sum: &mut u64, bin: u32| {
        *sum += u64::from(bin);
        *sum > cut
    };
    let (mut below, mut above) = (0, 0);
    let low = histogram.iter().position(|&bin| passes(&mut below, bin))?;
    let high = histogram.iter().rposition(|&bin| passes(&mut above, bin))?;
    (high > low).then_some((low, high))
}

/// Returns the cumulative histogram, clipped at a plateau so that large flat areas do not take all
/// grey levels; index 0 is `low`.
fn plateau(weights: &[f32], low: usize, high: usize) -> Vec<f32> {
    let bins = &weights[low..=high];
    let total: f64 = bins.iter().map(|&bin| f64::from(bin)).sum();
    let filled = bins.iter().filter(|&&bin| bin > 0.0).count().max(1);
    let limit = 2.5 * total / filled as f64;
    let clipped = bins.iter().map(|&bin| f64::from(bin).min(limit));
    let whole: f64 = clipped.clone().sum();
    let mut sum = 0.0;
    clipped
        .map(|bin| {
            sum += bin;
            ((sum - 0.5 * bin) / whole.max(1e-9)) as f32
        })
        .collect()
}

/// Returns the weight of each count: pixels that differ from their neighbours carry information, a
/// smooth sky does not.
fn information(counts: &[u16], size: Size, share: f32) -> Vec<f32> {
    let mut weights = vec![0.0; 1 << 16];
    let gradient = |at: usize, other: usize| match (counts.get(at), counts.get(other)) {
        (Some(&a), Some(&b)) => f32::from(a.abs_diff(b)),
        _ => 0.0,
    };
    let step: Vec<f32> = (0..counts.len())
        .map(|at| {
            gradient(at, at.saturating_sub(2)).max(gradient(at, at.saturating_sub(2 * size.width)))
        })
        .collect();
    let typical = step.iter().sum::<f32>() / step.len().max(1) as f32 + 1e-3;
    for (&count, step) in counts.iter().zip(step) {
        weights[usize::from(count)] += 1.0 - share + share * (step / typical).min(2.0);
    }
    weights
}

fn deviation(counts: &[u16], tone: impl Fn(u16) -> f32) -> f32 {
    let n = counts.len().max(1) as f64;
    let (sum, square) = counts.iter().fold((0.0, 0.0), |(sum, square), &count| {
        let value = f64::from(tone(count).clamp(0.0, 1.0));
        (sum + value, square + value * value)
    });
    ((square / n - (sum / n) * (sum / n)).max(0.0)).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Part;

    #[test]
    fn order_is_kept_without_detail() {
        let size = Size::new(32, 64);
        let counts: Vec<u16> = (0..size.area()).map(|i| 7000 + ((i * 37) % 611) as u16).collect();
        let config = GainConfig { detail: [0.0, 0.0], ..GainConfig::default() };
        for index in 0..10 {
            let gray = control(&counts, size, 30.0, &config, &mut Dice::new(index, 0, Part::Plan));
            let mut pairs: Vec<(u16, u8)> = counts.iter().copied().zip(gray).collect();
            pairs.sort_unstable();
            assert!(pairs.windows(2).all(|pair| pair[0].1 <= pair[1].1));
            assert!(pairs[0].1 < 60 && pairs[size.area() - 1].1 > 180, "{pairs:?}");
        }
    }

    #[test]
    fn one_hot_pixel_does_not_darken_the_rest_and_flat_is_grey() {
        let size = Size::new(40, 40);
        let mut counts: Vec<u16> = (0..size.area()).map(|i| 8000 + (i % 200) as u16).collect();
        counts[77] = 60_000;
        let gray =
            control(&counts, size, 30.0, &GainConfig::default(), &mut Dice::new(2, 0, Part::Plan));
        let mean = gray.iter().map(|&g| f64::from(g)).sum::<f64>() / gray.len() as f64;
        assert!((80.0..170.0).contains(&mean), "{mean}");
        let flat = vec![5000; size.area()];
        let gray =
            control(&flat, size, 30.0, &GainConfig::default(), &mut Dice::new(2, 0, Part::Plan));
        assert!(gray.iter().all(|&g| g == 128));
    }

    #[test]
    fn the_shoulder_is_smooth() {
        for step in -40..140 {
            let value = step as f32 / 100.0;
            let slope = (shoulder(value + 1e-3) - shoulder(value)) / 1e-3;
            assert!((0.0..1.01).contains(&slope) && (0.0..=1.0).contains(&shoulder(value)));
        }
        assert_eq!(shoulder(0.5), 0.5);
    }
}
