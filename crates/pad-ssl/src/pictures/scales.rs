//! Patchwise scales of every block as heat maps.

use candle_core::Tensor;
use pad_adapter::vit::ViT;
use pad_data::{
    draw::{Canvas, heat},
    transform::Normalize,
};
use pad_ops::ImageSize;

use super::sheet::{GAP, PAPER, label, line_height, titled};
use crate::Result;

/// Weight of the heat map over the image.
const ALPHA: f32 = 0.6;

/// A picture of patchwise scales.
#[derive(Clone, Debug)]
pub struct ScalePicture {
    /// The picture: a row per image, a column per block, and a colour bar.
    pub canvas: Canvas,
    /// The scales at the cold and at the hot end of the colour bar.
    pub range: (f32, f32),
}

/// Draws the patchwise scales of every block over each image, all on one colour range. Returns
/// `None` if the encoder has no patchwise scales.
///
/// # Shapes
/// `images` (B, C, H, W), normalised by `normalize`.
///
/// # Errors
/// Images that do not fit the encoder.
pub fn scales(
    encoder: &ViT,
    images: &Tensor,
    normalize: &Normalize,
) -> Result<Option<ScalePicture>> {
    let (blocks, grid) = encoder.scales(images)?;
    let front = encoder.config().prefix().len();
    let cells = ImageSize { height: grid.height, width: grid.width };
    let mut titles = vec!["input".to_string()];
    let mut maps: Vec<Vec<Vec<f32>>> = Vec::new();
    for (block, scales) in blocks.into_iter().enumerate() {
        let Some(scales) = scales else { continue };
        titles.push(format!("block {block}"));
        maps.push(scales.narrow(1, front, grid.len())?.to_vec2()?);
    }
    let all = || maps.iter().flatten().flatten().copied();
    let (low, high) =
        (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
    if low > high {
        return Ok(None);
    }
    // A fresh gate gives 0.5 everywhere.
    let range = if high > low { (low, high) } else { (0.0, 1.0) };
    let mut rows = Vec::new();
    for i in 0..images.dim(0)? {
        let image = Canvas::from_tensor(&images.get(i)?, normalize)?;
        let mut row = vec![image.clone()];
        for block in &maps {
            let mut map = image.clone();
            map.overlay_heat(cells, &block[i], range, ALPHA)?;
            row.push(map);
        }
        rows.push(row);
    }
    let sheet = titled(&titles, rows);
    let bar = color_bar(range, sheet.size().width)?;
    let canvas = Canvas::tiled(&[vec![sheet], vec![bar]], GAP, PAPER);
    Ok(Some(ScalePicture { canvas, range }))
}

/// Draws a bar of the colours between the ends of `range`, at most `width` pixels wide.
fn color_bar((low, high): (f32, f32), width: usize) -> Result<Canvas> {
    let (low, high) = (label(&format!("scale {low:.3}")), label(&format!("{high:.3}")));
    let length = width.saturating_sub(low.size().width + high.size().width + 2 * GAP);
    let height = line_height();
    let mut bar = Canvas::new(ImageSize::new(height, length.clamp(1, 256)), PAPER);
    let steps = bar.size().width;
    for step in 0..steps {
        let share = step as f32 / (steps - 1).max(1) as f32;
        bar.paste(&Canvas::new(ImageSize::new(height, 1), heat(share)), 0, step);
    }
    Ok(Canvas::tiled(&[vec![low, bar, high]], GAP, PAPER))
}
