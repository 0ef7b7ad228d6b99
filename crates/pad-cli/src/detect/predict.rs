//! Detections of a folder's images: pictures with boxes, and one COCO results file.

use std::path::{Path, PathBuf};

use pad::{
    data::{
        draw::{Canvas, DrawnBox},
        image::{DecodeOptions, decode},
        sets::{ImageFolder, ImageSource},
        transform::detection::DetectionPipeline,
    },
    heads::detection::coco::write_results,
};

use super::{
    data::file_name,
    evaluation::{Found, detect, result},
    model::Network,
};
use crate::run::{Result, write_text};

/// Detections of one folder.
pub struct Predicted {
    pub images: usize,
    pub detections: usize,
    pub files: Vec<PathBuf>,
}

/// Writes `OUT/NAME.png` for every image below `folder`, `OUT/results.json` (COCO) and `OUT/images.json`, which tells
/// the numbers of images and categories. Images that cannot be read are reported and left out.
pub fn folder(
    network: &Network,
    pipeline: &DetectionPipeline,
    folder: &Path,
    out: &Path,
    scale: usize,
) -> Result<Predicted> {
    let images = ImageFolder::open(folder)?;
    let classes = network.classes();
    std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let (mut results, mut listed, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut failed = 0;
    for (index, image_id) in (0..images.len()).zip(1_i64..) {
        let Some(path) = images.path(index) else { continue };
        let image = match decode(path, &DecodeOptions::default()) {
            Ok(image) => image,
            Err(error) => {
                failed += 1;
                tracing::warn!("left out: {error}");
                continue;
            }
        };
        let size = image.size();
        let mut canvas = Canvas::from_image(&image, Some(&pipeline.window))?;
        let (found, ..) = detect(network, image, pipeline)?;
        for one in &found {
            one.paint(&mut canvas)?;
        }
        let boxes: Vec<DrawnBox> = found.iter().map(Found::drawn).collect();
        canvas.boxes(&boxes, classes, scale);
        let name = ImageSource::name(&images, index);
        let picture = out.join(format!("{}.png", file_name(&name)));
        canvas.save_png(&picture)?;
        files.push(picture);
        for one in &found {
            results.push(result(image_id, classes, one)?);
        }
        listed.push(serde_json::json!({
            "id": image_id,
            "file_name": name,
            "width": size.width,
            "height": size.height,
        }));
    }
    if listed.is_empty() {
        return Err(
            format!("{}: not one of {failed} images could be read", folder.display()).into()
        );
    }
    let path = out.join("results.json");
    write_results(&path, &results)?;
    files.push(path);
    let categories: Vec<serde_json::Value> = classes
        .classes()
        .iter()
        .map(|class| serde_json::json!({ "id": class.id, "name": class.name }))
        .collect();
    let path = out.join("images.json");
    let list = serde_json::json!({ "images": listed, "categories": categories });
    write_text(&path, &format!("{list:#}\n"))?;
    files.push(path);
    Ok(Predicted { images: listed.len(), detections: results.len(), files })
}
