//! Pictures of regions of interest.

use std::path::Path;

use pad::data::{
    Dataset,
    draw::Canvas,
    image::{DecodeOptions, decode},
    roi,
    sets::ImageFolder,
    window::Window,
};

use crate::{
    run::Result,
    tools::output::{make_folder, print},
};

/// Draws the regions, as their files hold them, of `count` images spread over the set.
pub fn preview(
    images: &ImageFolder,
    count: usize,
    folder: &Path,
    decode_options: &DecodeOptions,
    levels: &Window,
) -> Result<()> {
    make_folder(folder)?;
    let count = count.min(images.len());
    let mut drawn = 0;
    for i in 0..count {
        let index = i * images.len() / count;
        let (Some(path), Some(roi)) = (images.path(index), images.roi_path(index)) else {
            continue;
        };
        if !roi.exists() {
            continue; // of another part, or unreadable
        }
        let image = match decode(path, decode_options) {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!("not drawn: {error}");
                continue;
            }
        };
        let rois = roi::read(&roi, image.size())?;
        let mut canvas = Canvas::from_image(&image, Some(levels))?;
        canvas.outline_rois(&rois);
        let stem = roi.file_stem().unwrap_or_default().to_string_lossy();
        canvas.save_png(folder.join(format!("{index:06}-{stem}.png")))?;
        drawn += 1;
    }
    print(format_args!("drew {drawn} images in {}", folder.display()))
}
