//! Anchors, the boxes that proposals start from.

/// Returns the anchors of one level around the origin: for each ratio of height to width a box of
/// area `size` squared.
pub(super) fn cell(size: f64, ratios: &[f64]) -> Vec<[f32; 4]> {
    let of_ratio = |&ratio: &f64| {
        let width = (size * size / ratio).sqrt();
        let height = ratio * width;
        [-width / 2.0, -height / 2.0, width / 2.0, height / 2.0].map(|edge| edge as f32)
    };
    ratios.iter().map(of_ratio).collect()
}

/// Returns `cell` at every place of a map: rows, columns, then ratios. Centres are multiples of
/// `stride`.
pub(super) fn spread(cell: &[[f32; 4]], height: usize, width: usize, stride: f32) -> Vec<[f32; 4]> {
    let mut anchors = Vec::with_capacity(height * width * cell.len());
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (x as f32 * stride, y as f32 * stride);
            anchors.extend(cell.iter().map(|b| [b[0] + x, b[1] + y, b[2] + x, b[3] + y]));
        }
    }
    anchors
}
