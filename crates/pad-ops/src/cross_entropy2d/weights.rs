//! Which pixels count, and how much: a function of labels and losses without gradient.

use super::options::{CrossEntropy, HardPixels, PixelMean};

/// Weights of all pixels, already divided by what the sum is divided by. `losses` are those of each
/// pixel, unweighted (ignored pixels: anything).
pub(super) fn pixel_weights(
    labels: &[u32],
    losses: &[f32],
    images: usize,
    options: &CrossEntropy,
) -> Vec<f32> {
    let of_class = |label: u32| match &options.class_weights {
        Some(weights) => weights.get(label as usize).copied().unwrap_or(0.0),
        None => 1.0,
    };
    let weight =
        |label: u32| if Some(label) == options.ignore_index { 0.0 } else { of_class(label) };
    let mut weights: Vec<f32> = labels.iter().map(|&label| weight(label)).collect();
    if let Some(hard) = options.hard {
        let valid: Vec<usize> = (0..labels.len())
            .filter(|&pixel| Some(labels[pixel]) != options.ignore_index)
            .collect();
        keep_hard(&mut weights, &valid, losses, images, hard);
    }
    let divisor = match options.mean {
        PixelMean::All => labels.len() as f64,
        PixelMean::Valid => weights.iter().map(|&weight| f64::from(weight)).sum(),
    };
    // No pixel counts: all weights are zero, and so they stay.
    if divisor > 0.0 {
        let factor = 1.0 / divisor;
        weights.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * factor) as f32);
    }
    weights
}

/// Zeroes the weights of easy pixels.
fn keep_hard(
    weights: &mut [f32],
    valid: &[usize],
    losses: &[f32],
    images: usize,
    hard: HardPixels,
) {
    let kept = hard.min_kept.saturating_mul(images);
    match hard.threshold {
        Some(threshold) => {
            let mut probabilities: Vec<f32> = valid.iter().map(|&p| (-losses[p]).exp()).collect();
            let Some(last) = probabilities.len().checked_sub(1) else { return };
            let (_, nth, _) = probabilities.select_nth_unstable_by(kept.min(last), f32::total_cmp);
            let threshold = f64::from(*nth).max(threshold);
            for &pixel in valid {
                // A NaN is not an easy pixel: it stays, and shows in the loss.
                if f64::from((-losses[pixel]).exp()) >= threshold {
                    weights[pixel] = 0.0;
                }
            }
        }
        None => {
            let mut order: Vec<(f32, usize)> =
                valid.iter().map(|&pixel| (losses[pixel] * weights[pixel], pixel)).collect();
            if kept >= order.len() {
                return;
            }
            let by_loss =
                |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            order.select_nth_unstable_by(kept, by_loss);
            order[kept..].iter().for_each(|&(_, pixel)| weights[pixel] = 0.0);
        }
    }
}
