//! The optics and the sensor: blur, noise, stripes, dead pixels, raw counts.

use serde::{Deserialize, Serialize};

use crate::{config::SensorConfig, dice::Dice, size::Size};

/// The relation between temperature and raw counts of a radiometric camera:
/// `counts = offset + r / (exp(b / kelvin) - 1)`, Planck's law over the band, with the constants
/// that such cameras store in their files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Radiometry {
    /// Gain, counts.
    pub r: f64,
    /// Band constant, kelvin.
    pub b: f64,
    /// Counts of an empty scene.
    pub offset: f64,
}

impl Radiometry {
    /// Returns the raw counts of a temperature, before rounding.
    pub fn counts(&self, kelvin: f32) -> f64 {
        self.offset + self.r / ((self.b / f64::from(kelvin.max(1.0))).exp() - 1.0)
    }

    /// Returns the temperature of raw counts, kelvin; 0 for counts at or below the offset.
    pub fn kelvin(&self, counts: f64) -> f64 {
        let signal = counts - self.offset;
        if signal <= 0.0 { 0.0 } else { self.b / (self.r / signal + 1.0).ln() }
    }

    fn draw(dice: &mut Dice) -> Self {
        let b = f64::from(dice.between(1380.0, 1520.0));
        // Sensitivity at 300 K, counts per kelvin; from it the gain.
        let slope = f64::from(dice.log_between(18.0, 90.0));
        let grown = (b / 300.0).exp();
        let r = slope * (grown - 1.0) * (grown - 1.0) * 300.0 * 300.0 / (b * grown);
        Self { r, b, offset: f64::from(dice.between(500.0, 6000.0)) }
    }
}

/// Returns the raw counts of an image of apparent temperatures, and how they relate to kelvin.
pub(crate) fn expose(
    kelvin: &[f32],
    size: Size,
    config: &SensorConfig,
    dice: &mut Dice,
) -> (Vec<u16>, Radiometry) {
    let radiometry = Radiometry::draw(dice);
    let mut image = blur(kelvin, size, dice.within(config.blur_sigma_px));
    let netd = dice.within(config.netd_kelvin);
    let columns = stripes(size.width, dice.within(config.column_stripes_kelvin), dice);
    let rows = stripes(size.height, dice.within(config.row_stripes_kelvin), dice);
    let corner = dice.within(config.vignetting_kelvin) * dice.sign();
    let (cx, cy) = (0.5 * size.width as f32, 0.5 * size.height as f32);
    let (off_x, off_y) = (0.12 * cx * dice.normal(), 0.12 * cy * dice.normal());
    let per = 1.0 / (cx * cx + cy * cy);
    let mut spare = None;
    for (row, (line, row_shift)) in image.chunks_exact_mut(size.width).zip(&rows).enumerate() {
        let dy = row as f32 - cy - off_y;
        for (column, (value, column_shift)) in line.iter_mut().zip(&columns).enumerate() {
            let dx = column as f32 - cx - off_x;
            let noise = match spare.take() {
                Some(noise) => noise,
                None => {
                    let (now, next) = dice.normal_pair();
                    spare = Some(next);
                    now
                }
            };
            *value += corner * (dx * dx + dy * dy) * per + netd * noise + row_shift + column_shift;
        }
    }
    let mut counts: Vec<u16> = image
        .iter()
        .map(|&kelvin| radiometry.counts(kelvin).round().clamp(0.0, 65535.0) as u16)
        .collect();
    spoil(&mut counts, size, dice.within(config.dead_pixel_share), dice);
    (counts, radiometry)
}

/// Returns one offset per column or row, white noise with a slow part: amplifiers and readout lines
/// differ.
fn stripes(count: usize, strength: f32, dice: &mut Dice) -> Vec<f32> {
    let mut slow = 0.0;
    (0..count)
        .map(|_| {
            slow = 0.9 * slow + 0.3 * dice.normal();
            strength * (0.8 * dice.normal() + 0.6 * slow)
        })
        .collect()
}

/// Sets some pixels to a random value inside the image's own range: dead or stuck pixels.
fn spoil(counts: &mut [u16], size: Size, share: f32, dice: &mut Dice) {
    let low = counts.iter().min().copied().unwrap_or(0);
    let high = counts.iter().max().copied().unwrap_or(0);
    let dead = (f64::from(share) * size.area() as f64).round() as usize;
    for _ in 0..dead {
        let at = dice.below(counts.len());
        let stuck = low + (f32::from(high - low) * dice.unit()) as u16;
        if let Some(count) = counts.get_mut(at) {
            *count = stuck;
        }
    }
}

/// Returns the image after a Gaussian blur with repeated edges; unchanged for a sigma below a tenth
/// of a pixel.
pub(crate) fn blur(image: &[f32], size: Size, sigma: f32) -> Vec<f32> {
    if sigma < 0.1 {
        return image.to_vec();
    }
    let radius = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=2 * radius)
        .map(|i| (-0.5 * ((i as f32 - radius as f32) / sigma).powi(2)).exp())
        .collect();
    let total: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= total);
    let (width, height) = (size.width, size.height);
    let mut across = vec![0.0; image.len()];
    let mut padded = vec![0.0; width + 2 * radius];
    for (line, out) in image.chunks_exact(width).zip(across.chunks_exact_mut(width)) {
        for (at, value) in padded.iter_mut().enumerate() {
            *value = line[at.saturating_sub(radius).min(width - 1)];
        }
        for (tap, weight) in kernel.iter().enumerate() {
            for (sum, value) in out.iter_mut().zip(&padded[tap..tap + width]) {
                *sum += weight * value;
            }
        }
    }
    let mut down = vec![0.0; image.len()];
    for (row, out) in down.chunks_exact_mut(width).enumerate() {
        for (tap, weight) in kernel.iter().enumerate() {
            let from = (row + tap).saturating_sub(radius).min(height - 1);
            for (sum, value) in out.iter_mut().zip(&across[from * width..(from + 1) * width]) {
                *sum += weight * value;
            }
        }
    }
    down
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Part;

    #[test]
    fn counts_and_kelvin_are_inverse() {
        for index in 0..20 {
            let radiometry = Radiometry::draw(&mut Dice::new(index, 0, Part::Plan));
            for kelvin in [210.0, 273.15, 300.0, 450.0] {
                let back = radiometry.kelvin(radiometry.counts(kelvin));
                assert!((back - f64::from(kelvin)).abs() < 1e-3, "{back}");
            }
            let slope = radiometry.counts(300.5) - radiometry.counts(299.5);
            assert!((17.0..95.0).contains(&slope), "{slope}");
        }
        let radiometry = Radiometry { r: 1e6, b: 1400.0, offset: 100.0 };
        assert_eq!(radiometry.kelvin(99.0), 0.0);
    }

    #[test]
    fn noise_has_the_configured_strength() {
        let size = Size::new(64, 96);
        let config = SensorConfig { netd_kelvin: [0.5, 0.5], ..SensorConfig::perfect() };
        let flat = vec![300.0; size.area()];
        let (counts, radiometry) = expose(&flat, size, &config, &mut Dice::new(1, 0, Part::Plan));
        let values: Vec<f64> =
            counts.iter().map(|&count| radiometry.kelvin(f64::from(count))).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((mean - 300.0).abs() < 0.05, "{mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.03, "{}", variance.sqrt());
        let (counts, _) =
            expose(&flat, size, &SensorConfig::perfect(), &mut Dice::new(1, 0, Part::Plan));
        assert!(counts.iter().all(|&count| count == counts[0]));
    }

    #[test]
    fn stripes_are_constant_along_columns() {
        let size = Size::new(40, 50);
        let config = SensorConfig { column_stripes_kelvin: [0.5, 0.5], ..SensorConfig::perfect() };
        let (counts, _) =
            expose(&vec![300.0; size.area()], size, &config, &mut Dice::new(3, 0, Part::Plan));
        for row in counts.chunks_exact(50) {
            assert_eq!(row, &counts[..50]);
        }
        assert!(counts[..50].iter().any(|&count| count != counts[0]));
    }

    #[test]
    fn blur_keeps_the_mean_and_spreads_a_point() {
        let size = Size::new(33, 41);
        let mut image = vec![0.0; size.area()];
        image[16 * 41 + 20] = 1.0;
        let soft = blur(&image, size, 1.0);
        assert!((soft.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        assert!((soft[16 * 41 + 20] - 0.159).abs() < 2e-3, "{}", soft[16 * 41 + 20]);
        assert_eq!(blur(&image, size, 0.0), image);
    }
}
