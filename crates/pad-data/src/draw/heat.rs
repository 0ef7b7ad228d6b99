//! The colours of heat maps.

use std::sync::OnceLock;

use super::color::{Color, to_level};

/// Returns the position of `value` in the range, 0 to 1; `None` for NaN. An empty range gives 0.
pub(super) fn share(value: f32, (low, high): (f32, f32)) -> Option<f32> {
    if value.is_nan() {
        return None;
    }
    let share = (value - low) / (high - low);
    Some(if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) })
}

/// Returns the colour of a heat map at `share` (0 cold to 1 hot; clipped).
///
/// The path is built in Oklab (B. Ottosson, 2020), where equal steps look equal: lightness rises
/// linearly from 0.16 to 0.97, the hue turns from blue (270 degrees) over magenta and red to yellow
/// (105 degrees), and the chroma is a sine arch, largest in the middle and 0 at the ends, reduced
/// where the colour would leave sRGB. The map runs from near black to near white, and stays
/// monotonic when printed in grey.
pub fn heat(share: f32) -> Color {
    static COLORS: OnceLock<[Color; 256]> = OnceLock::new();
    let colors = COLORS
        .get_or_init(|| std::array::from_fn(|step| heat_color(f64::from(step as u32) / 255.0)));
    colors[usize::from(to_level(share * 255.0))]
}

fn heat_color(share: f64) -> Color {
    let lightness = 0.16 + 0.81 * share;
    let hue = (270.0 + 195.0 * share).to_radians(); // 465 degrees is 105
    let color = |chroma: f64| linear_rgb(lightness, chroma * hue.cos(), chroma * hue.sin());
    let shown = |chroma: f64| color(chroma).iter().all(|level| (0.0..=1.0).contains(level));
    let wanted = 0.24 * (std::f64::consts::PI * share).sin();
    let (mut low, mut high) = (0.0, wanted);
    if shown(wanted) {
        low = wanted;
    }
    for _ in 0..30 {
        let middle = (low + high) / 2.0;
        if shown(middle) { low = middle } else { high = middle }
    }
    color(low).map(|level| to_level((srgb(level.clamp(0.0, 1.0)) * 255.0) as f32))
}

/// Converts Oklab to linear sRGB, by the matrices that define Oklab.
fn linear_rgb(lightness: f64, a: f64, b: f64) -> [f64; 3] {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
}

/// The transfer function of sRGB.
fn srgb(linear: f64) -> f64 {
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Luminance of a colour, 0 to 1.
    fn luminance(color: Color) -> f64 {
        let [r, g, b] = color.map(|level| {
            let share = f64::from(level) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    #[test]
    fn heat_rises_in_lightness_from_near_black_to_near_white() {
        let colors: Vec<Color> = (0..256).map(|step| heat(step as f32 / 255.0)).collect();
        // Neighbours may differ by less than a level of 8 bits; four steps apart the order is
        // strict.
        assert!(colors.windows(5).all(|five| luminance(five[4]) > luminance(five[0])));
        assert!(luminance(colors[0]) < 0.01 && luminance(colors[255]) > 0.85);
        let [r, g, b] = colors[140];
        assert!(r > g.saturating_add(60) && r > b, "the middle is red: {:?}", colors[140]);
        assert_eq!((heat(-3.0), heat(7.0)), (colors[0], colors[255]));
    }
}
