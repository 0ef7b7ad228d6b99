//! Titles above pictures.

use pad_data::draw::Canvas;
use pad_ops::ImageSize;

/// A picture with a title above it.
pub(crate) fn titled(picture: &Canvas, title: &str) -> Canvas {
    const MARGIN: usize = 3;
    let width = picture.size().width;
    // Large letters where there is space for them.
    let dot = if Canvas::text_size(title, 2).width + 2 * MARGIN <= width { 2 } else { 1 };
    let height = Canvas::text_size(title, dot).height + 2 * MARGIN;
    let mut bar = Canvas::new(ImageSize::new(height, width), [255; 3]);
    bar.text(title, MARGIN, MARGIN, dot, [0; 3]);
    Canvas::tiled(&[vec![bar], vec![picture.clone()]], 0, [255; 3])
}
