//! Local binary patterns: which of the eight points at distance 1 are at least as bright as the
//! pixel.
//!
//! As scikit-image computes them for `P = 8`, `R = 1` on numbers 0..255: points run
//! counter-clockwise from the right, their offsets rounded to five decimals; points between pixels
//! are interpolated in `f64`, and so may differ from the pixel by a rounding error even where the
//! image is flat: the order of operations matters. Outside is 0.

use pad_ops::ImageSize;

/// `sin 45°` to five decimals.
#[expect(clippy::approx_constant, reason = "five decimals, as the reference rounds it")]
const DIAGONAL: f64 = 0.70711;

/// An image whose patterns are computed.
#[derive(Clone, Copy)]
pub(super) struct Texture<'a> {
    pub(super) gray: &'a [u8],
    pub(super) size: ImageSize,
}

impl Texture<'_> {
    /// The pixel, 0 outside.
    #[inline]
    fn at(self, y: isize, x: isize) -> f64 {
        let inside = (0..self.size.height as isize).contains(&y)
            && (0..self.size.width as isize).contains(&x);
        if inside { f64::from(self.gray[y as usize * self.size.width + x as usize]) } else { 0.0 }
    }

    /// Whether the diagonal point of that direction (-1 or 1 each) is at least as bright as the
    /// pixel.
    #[inline]
    fn diagonal(self, y: usize, x: usize, (down, right): (isize, isize)) -> bool {
        let (top, left) = (y as isize + down.min(0), x as isize + right.min(0));
        let row_share = y as f64 + DIAGONAL * down as f64 - top as f64;
        let column_share = x as f64 + DIAGONAL * right as f64 - left as f64;
        let across =
            |y| (1.0 - column_share) * self.at(y, left) + column_share * self.at(y, left + 1);
        let value = (1.0 - row_share) * across(top) + row_share * across(top + 1);
        value - self.at(y as isize, x as isize) >= 0.0
    }

    /// Whether a direct neighbour is at least as bright as the pixel.
    #[inline]
    fn direct(self, y: usize, x: usize, (down, right): (isize, isize)) -> bool {
        let (y, x) = (y as isize, x as isize);
        self.at(y + down, x + right) >= self.at(y, x)
    }

    /// The pattern of one pixel.
    pub(super) fn code(self, y: usize, x: usize) -> u8 {
        let bits = [
            self.direct(y, x, (0, 1)),
            self.diagonal(y, x, (-1, 1)),
            self.direct(y, x, (-1, 0)),
            self.diagonal(y, x, (-1, -1)),
            self.direct(y, x, (0, -1)),
            self.diagonal(y, x, (1, -1)),
            self.direct(y, x, (1, 0)),
            self.diagonal(y, x, (1, 1)),
        ];
        bits.iter().rev().fold(0, |code, &bit| code << 1 | u8::from(bit))
    }

    /// Calls `found(pixel, code)` where the pattern is 0 or 1, row by row: the pixel is brighter
    /// than all points, but for the right one in pattern 1. Rare, and most pixels are refused by
    /// three comparisons of bytes.
    pub(super) fn darker_around(self, bright: &mut Vec<u8>, mut found: impl FnMut(usize, u8)) {
        let ImageSize { height, width } = self.size;
        let outside = &vec![0; width][..];
        for y in 0..height {
            let row = &self.gray[y * width..][..width];
            let above = if y > 0 { &self.gray[(y - 1) * width..][..width] } else { outside };
            let below =
                if y + 1 < height { &self.gray[(y + 1) * width..][..width] } else { outside };
            bright.clear();
            bright.extend(
                row.iter().zip(above).zip(below).map(|((&v, &a), &b)| u8::from(v > a.max(b))),
            );
            bright[0] &= u8::from(row[0] > 0);
            for (bright, pair) in bright[1..].iter_mut().zip(row.windows(2)) {
                *bright &= u8::from(pair[1] > pair[0]);
            }
            for x in bright.iter().enumerate().filter(|&(_, &b)| b != 0).map(|(x, _)| x) {
                let diagonals = [(-1, 1), (-1, -1), (1, -1), (1, 1)];
                if !diagonals.iter().any(|&direction| self.diagonal(y, x, direction)) {
                    found(y * width + x, u8::from(self.direct(y, x, (0, 1))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short cut finds the patterns 0 and 1 and nothing else, borders and flat areas included.
    #[test]
    fn rare_patterns_equal_full_patterns() {
        for (size, step) in
            [(ImageSize::new(1, 1), 1), (ImageSize::new(23, 17), 7), (ImageSize::new(40, 64), 1)]
        {
            let gray: Vec<u8> =
                (0..size.area()).map(|i| ((i * i * step) % 251 / 40 * 40) as u8).collect();
            let texture = Texture { gray: &gray, size };
            let mut found = Vec::new();
            texture.darker_around(&mut Vec::new(), |pixel, code| found.push((pixel, code)));
            let expected: Vec<_> = (0..size.area())
                .map(|i| (i, texture.code(i / size.width, i % size.width)))
                .filter(|&(_, code)| code < 2)
                .collect();
            assert_eq!(found, expected, "{size}");
        }
    }
}
