//! The inverse cosine transform of an 8x8 block, in integers.
//!
//! Loeffler, Ligtenberg and Moschytz (1989), with the constants, the order and the roundings of
//! libjpeg's accurate method (`islow`): 13 bits behind the point of a constant, 2 bits kept between
//! the passes. So samples are those of every program that uses libjpeg.

const CONSTANT_BITS: u32 = 13;
const KEPT_BITS: u32 = 2;

/// Blocks that are transformed side by side.
pub(super) const LANES: usize = 16;

/// The same number of each block.
type Lanes = [i32; LANES];

// Plain loops: the closures of `map` and `from_fn` are not inlined everywhere, and then nothing
// vectorises.

#[inline(always)]
fn add(mut a: Lanes, b: Lanes) -> Lanes {
    for lane in 0..LANES {
        a[lane] = a[lane].wrapping_add(b[lane]);
    }
    a
}

#[inline(always)]
fn subtract(mut a: Lanes, b: Lanes) -> Lanes {
    for lane in 0..LANES {
        a[lane] = a[lane].wrapping_sub(b[lane]);
    }
    a
}

/// Times a constant of [`CONSTANT_BITS`].
#[inline(always)]
fn times(mut a: Lanes, constant: i32) -> Lanes {
    for value in &mut a {
        *value = value.wrapping_mul(constant);
    }
    a
}

/// Rounded down by `shift` bits.
#[inline(always)]
fn round(mut a: Lanes, shift: u32) -> Lanes {
    for value in &mut a {
        *value = value.wrapping_add(1 << (shift - 1)) >> shift;
    }
    a
}

/// The one-dimensional transform of `rows`, scaled up by [`CONSTANT_BITS`]; rounded down by `shift`
/// bits.
#[inline(always)]
fn transform(rows: [Lanes; 8], shift: u32) -> [Lanes; 8] {
    let [x0, x1, x2, x3, x4, x5, x6, x7] = rows;

    // Even part: sqrt(2) times cosines and sines of 3 pi / 8.
    let shared = times(add(x2, x6), 4433);
    let even2 = add(shared, times(x6, -15137));
    let even3 = add(shared, times(x2, 6270));
    let even0 = times(add(x0, x4), 1 << CONSTANT_BITS);
    let even1 = times(subtract(x0, x4), 1 << CONSTANT_BITS);
    let (sum0, sum3) = (add(even0, even3), subtract(even0, even3));
    let (sum1, sum2) = (add(even1, even2), subtract(even1, even2));

    // Odd part.
    let (z1, z2) = (add(x7, x1), add(x5, x3));
    let (z3, z4) = (add(x7, x3), add(x5, x1));
    let z5 = times(add(z3, z4), 9633);
    let (z1, z2) = (times(z1, -7373), times(z2, -20995));
    let (z3, z4) = (add(times(z3, -16069), z5), add(times(z4, -3196), z5));
    let odd0 = add(times(x7, 2446), add(z1, z3));
    let odd1 = add(times(x5, 16819), add(z2, z4));
    let odd2 = add(times(x3, 25172), add(z2, z3));
    let odd3 = add(times(x1, 12299), add(z1, z4));

    [
        round(add(sum0, odd3), shift),
        round(add(sum1, odd2), shift),
        round(add(sum2, odd1), shift),
        round(add(sum3, odd0), shift),
        round(subtract(sum3, odd0), shift),
        round(subtract(sum2, odd1), shift),
        round(subtract(sum1, odd2), shift),
        round(subtract(sum0, odd3), shift),
    ]
}

/// A value of the transform to a sample.
#[inline(always)]
fn sample(value: i32) -> u8 {
    value.wrapping_add(128).clamp(0, 255) as u8
}

/// Transforms the first `count` of [`LANES`] neighbouring blocks (`group`: for each place in a
/// block, row-major, one coefficient of every block) to samples: 8 rows of `8 * count`, at the
/// front of `out`.
#[inline(always)]
pub(super) fn blocks(
    group: &[i16; 64 * LANES],
    quantization: &[i16; 64],
    count: usize,
    out: &mut [u8],
    stride: usize,
) {
    let mut values = [[0; LANES]; 64];
    for column in 0..8 {
        let mut rows = [[0; LANES]; 8];
        for (row, lanes) in rows.iter_mut().enumerate() {
            let place = 8 * row + column;
            let factor = i32::from(quantization[place]);
            for (lane, value) in lanes.iter_mut().enumerate() {
                *value = i32::from(group[place * LANES + lane]) * factor;
            }
        }
        let rows = transform(rows, CONSTANT_BITS - KEPT_BITS);
        for (row, lanes) in rows.iter().enumerate() {
            values[8 * row + column] = *lanes;
        }
    }
    for (row, columns) in values.as_chunks::<8>().0.iter().enumerate() {
        let columns = transform(*columns, CONSTANT_BITS + KEPT_BITS + 3);
        let mut samples = [[0_u8; 8]; LANES];
        for (column, lanes) in columns.iter().enumerate() {
            for (samples, &value) in samples.iter_mut().zip(lanes) {
                samples[column] = sample(value);
            }
        }
        if let Some(out) = out.get_mut(row * stride..row * stride + 8 * count) {
            out.copy_from_slice(&samples.as_flattened()[..8 * count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_inverse_cosine_transform() {
        let mut group = [0_i16; 64 * LANES];
        let mut set = |lane: usize, place: usize, value| group[place * LANES + lane] = value;
        for (place, value) in [(0, 150), (1, -60), (8, 77), (9, 45), (18, -60), (63, 31), (7, 12)] {
            set(2, place, value);
        }
        set(1, 0, -700);
        let mut quantization = [1; 64];
        (quantization[0], quantization[1]) = (2, 2);
        let mut out = [9; 7 * 30 + 24];
        blocks(&group, &quantization, 3, &mut out, 30);
        for (y, x) in (0..8).flat_map(|y| (0..24).map(move |x| (y, x))) {
            let mut value = 128.0;
            for place in 0..64 {
                let (v, u) = (place / 8, place % 8);
                let scale = |n: usize| if n == 0 { (0.125_f64).sqrt() } else { 0.5 };
                let wave = |at: usize, n: usize| {
                    ((2 * at + 1) as f64 * n as f64 * std::f64::consts::PI / 16.0).cos()
                };
                let coefficient = group[place * LANES + x / 8] * quantization[place];
                let amplitude = f64::from(coefficient) * scale(u) * scale(v);
                value += amplitude * wave(x % 8, u) * wave(y, v);
            }
            let found = f64::from(out[y * 30 + x]);
            assert!((found - value.clamp(0.0, 255.0)).abs() < 0.51, "({y}, {x}): {found} {value}");
        }
        assert_eq!(out[24..30], [9; 6], "nothing else is written");
    }
}
