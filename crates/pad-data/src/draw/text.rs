//! A built-in font.

use pad_ops::ImageSize;

use super::{Canvas, Color};

/// Letters, digits and punctuation: five rows of three dots each, the left one in the highest bit.
const GLYPHS: [(char, [u8; 5]); 42] = [
    ('a', [2, 5, 7, 5, 5]),
    ('b', [6, 5, 6, 5, 6]),
    ('c', [3, 4, 4, 4, 3]),
    ('d', [6, 5, 5, 5, 6]),
    ('e', [7, 4, 6, 4, 7]),
    ('f', [7, 4, 6, 4, 4]),
    ('g', [3, 4, 5, 5, 3]),
    ('h', [5, 5, 7, 5, 5]),
    ('i', [7, 2, 2, 2, 7]),
    ('j', [1, 1, 1, 5, 2]),
    ('k', [5, 5, 6, 5, 5]),
    ('l', [4, 4, 4, 4, 7]),
    ('m', [5, 7, 7, 5, 5]),
    ('n', [6, 5, 5, 5, 5]),
    ('o', [2, 5, 5, 5, 2]),
    ('p', [6, 5, 6, 4, 4]),
    ('q', [2, 5, 5, 6, 3]),
    ('r', [6, 5, 6, 5, 5]),
    ('s', [3, 4, 2, 1, 6]),
    ('t', [7, 2, 2, 2, 2]),
    ('u', [5, 5, 5, 5, 7]),
    ('v', [5, 5, 5, 5, 2]),
    ('w', [5, 5, 7, 7, 5]),
    ('x', [5, 5, 2, 5, 5]),
    ('y', [5, 5, 2, 2, 2]),
    ('z', [7, 1, 2, 4, 7]),
    ('0', [7, 5, 5, 5, 7]),
    ('1', [2, 6, 2, 2, 7]),
    ('2', [7, 1, 7, 4, 7]),
    ('3', [7, 1, 3, 1, 7]),
    ('4', [5, 5, 7, 1, 1]),
    ('5', [7, 4, 7, 1, 7]),
    ('6', [7, 4, 7, 5, 7]),
    ('7', [7, 1, 1, 2, 2]),
    ('8', [7, 5, 7, 5, 7]),
    ('9', [7, 5, 7, 1, 7]),
    ('.', [0, 0, 0, 0, 2]),
    (':', [0, 2, 0, 2, 0]),
    ('-', [0, 0, 7, 0, 0]),
    ('_', [0, 0, 0, 0, 7]),
    ('/', [1, 1, 2, 4, 4]),
    ('%', [5, 1, 2, 4, 5]),
];

/// Height of a letter and distance between letters, dots.
const HEIGHT: usize = 5;
const STEP: usize = 4;

impl Canvas {
    /// Writes a line whose upper left corner is at row `top`, column `left`. A letter is three dots
    /// wide and five high, a dot `dot` pixels (0 counts as 1) wide and high. Lower and upper case
    /// look alike; unknown characters are blank.
    pub fn text(&mut self, text: &str, top: usize, left: usize, dot: usize, color: Color) {
        let dot = dot.max(1);
        let mark = Self::new(ImageSize::square(dot), color);
        for (place, letter) in text.chars().enumerate() {
            let lower = letter.to_ascii_lowercase();
            let Some((_, rows)) = GLYPHS.iter().find(|(known, _)| *known == lower) else {
                continue;
            };
            for (row, bits) in rows.iter().enumerate() {
                for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                    let (row, column) = (row * dot, (place * STEP + column) * dot);
                    self.paste(&mark, top.saturating_add(row), left.saturating_add(column));
                }
            }
        }
    }

    /// Returns height and width of a line that [`Canvas::text`] writes.
    pub fn text_size(text: &str, dot: usize) -> ImageSize {
        let (dot, letters) = (dot.max(1), text.chars().count());
        ImageSize::new(HEIGHT * dot, (letters * STEP).saturating_sub(1) * dot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_dots() {
        assert_eq!(Canvas::text_size("ab", 2), ImageSize::new(10, 14));
        assert_eq!(Canvas::text_size("", 2), ImageSize::new(10, 0));
        let mut canvas = Canvas::new(ImageSize::new(12, 16), [0; 3]);
        canvas.text("I7", 1, 2, 1, [9; 3]);
        let row = |row: usize| -> Vec<u8> {
            (0..10).map(|column| canvas.pixel(row, column).map_or(0, |rgb| rgb[0])).collect()
        };
        assert_eq!(row(0), [0; 10]);
        assert_eq!(row(1), [0, 0, 9, 9, 9, 0, 9, 9, 9, 0]);
        assert_eq!(row(2), [0, 0, 0, 9, 0, 0, 0, 0, 9, 0]);
        // Everything outside is clipped.
        let before = canvas.clone();
        canvas.text("a", 100, 100, 3, [9; 3]);
        canvas.text("a", usize::MAX, usize::MAX, 3, [9; 3]);
        assert_eq!(canvas, before);
    }

    #[test]
    fn glyphs_differ() {
        let mut rows: Vec<[u8; 5]> = GLYPHS.iter().map(|(_, rows)| *rows).collect();
        rows.sort_unstable();
        rows.dedup();
        // `o` and `0` apart from `d` and `8`: no two are alike.
        assert_eq!(rows.len(), GLYPHS.len());
    }
}
