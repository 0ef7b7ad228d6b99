//! Pictures in rows and columns with a title over each column.

use pad_data::draw::{Canvas, Color};
use pad_ops::ImageSize;

/// Background of a sheet.
pub(super) const PAPER: Color = [255; 3];
/// Letters on it.
pub(super) const INK: Color = [40; 3];
/// Pixels between pictures.
pub(super) const GAP: usize = 6;
/// Pixels of a letter's dot.
const DOT: usize = 2;

/// Returns `rows` of pictures under `titles`, one per column. A title that is wider than its column
/// is wrapped between words.
pub(super) fn titled(titles: &[String], rows: Vec<Vec<Canvas>>) -> Canvas {
    let width = |column: usize| {
        let pictures = rows.iter().filter_map(|row| row.get(column));
        pictures.map(|picture| picture.size().width).max().unwrap_or(0)
    };
    let lines: Vec<Vec<String>> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| wrapped(title, letters(width(column))))
        .collect();
    let height = lines.iter().map(Vec::len).max().unwrap_or(0) * line_height();
    let header = lines.iter().enumerate().map(|(column, lines)| {
        let mut canvas = Canvas::new(ImageSize::new(height.max(1), width(column)), PAPER);
        for (line, text) in lines.iter().enumerate() {
            canvas.text(text, line * line_height(), 0, DOT, INK);
        }
        canvas
    });
    let header: Vec<Canvas> = header.collect();
    let all: Vec<Vec<Canvas>> = std::iter::once(header).chain(rows).collect();
    Canvas::tiled(&all, GAP, PAPER)
}

/// Pixels from one line of text to the next.
pub(super) fn line_height() -> usize {
    Canvas::text_size("x", DOT).height + 2 * DOT
}

/// Letters that fit into `width` pixels.
fn letters(width: usize) -> usize {
    (width + DOT) / (Canvas::text_size("xx", DOT).width - Canvas::text_size("x", DOT).width)
}

/// Writes one line of text.
pub(super) fn label(text: &str) -> Canvas {
    let size = Canvas::text_size(text, DOT);
    let mut canvas = Canvas::new(ImageSize::new(size.height.max(1), size.width.max(1)), PAPER);
    canvas.text(text, 0, 0, DOT, INK);
    canvas
}

/// Splits `text` between words into lines of at most `letters`, as far as the words allow.
fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_wrapped_between_words() {
        assert_eq!(wrapped("true mean and variance", 9), ["true mean", "and", "variance"]);
        assert_eq!(wrapped("", 9), [""; 0]);
    }

    #[test]
    fn columns_stand_under_their_titles() {
        let tile = |color| Canvas::new(ImageSize::square(40), color);
        let rows = vec![vec![tile([1; 3]), tile([2; 3])]];
        let sheet = titled(&["input".into(), "a b c d e f g".into()], rows);
        let header = 3 * line_height();
        assert_eq!(sheet.size(), ImageSize::new(header + GAP + 40, 2 * 40 + GAP));
        assert_eq!(sheet.pixel(header + GAP, 0), Some([1; 3]));
        assert_eq!(sheet.pixel(header + GAP, 40 + GAP), Some([2; 3]));
        // Something is written above both.
        for column in [0, 40 + GAP] {
            let written = (0..line_height()).any(|row| {
                (column..column + 40).any(|column| sheet.pixel(row, column) == Some(INK))
            });
            assert!(written);
        }
    }
}
