//! Detections of a folder's images: pictures with boxes, and one COCO results file.

use std::path::PathBuf;

use clap::Args;
use pad::{
    data::{
        Dataset,
        draw::{Canvas, DrawnBox},
        image::DecodeOptions,
        sets::open_images,
        transform::Normalize,
    },
    heads::detection::{PredictedObject, coco::write_results},
};

use super::{Detect, data::file_name, model, thresholds::ThresholdFlags};
use crate::{
    run::{Result, signals::Signals, source::ModelSource, write_text},
    settings::Trainer,
    tools::{
        device::Compute,
        output::{Replace, make_folder, print},
        reading::{Files, read_as},
        values,
    },
};

/// Flags of `pad detect predict`.
#[derive(Args, Debug)]
pub struct Predict {
    #[command(flatten)]
    source: ModelSource,
    /// Folder of infrared images (8 or 16 bits; PNG, JPEG, BMP, TIFF), in any depth
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder for pictures, `results.json` and `images.json`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// Width of lines and of the dots of letters, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 1, value_parser = values::count)]
    line_width: usize,
    #[command(flatten)]
    thresholds: ThresholdFlags,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    compute: Compute,
}

/// Writes `OUT/NAME.png` for every image, `OUT/results.json` (COCO) and `OUT/images.json`, which
/// lists the numbers of images and categories. Images that cannot be read are reported and left
/// out.
pub fn run(predict: &Predict) -> Result<()> {
    /// Evaluation counts weak detections too; in pictures they hide the others.
    const SHOWN: f64 = 0.3;
    let out = &predict.out;
    predict.replace.check(&out.join("results.json"))?;
    let images = open_images(&predict.images)?;
    let found = predict.source.find(Detect::NAME, model::FILE)?;
    let settings = predict.thresholds.over(predict.source.settings()?, Some(SHOWN));
    let images = read_as(images, predict.files.over(&settings.run.choice()));
    let device = predict.compute.start()?;
    let model = model::open(&settings, &found, predict.source.run(), &device)?;
    let normalize = model.normalize.clone().unwrap_or_else(Normalize::downstream);
    let pipeline = settings.own.pipeline(&settings.run, &normalize)?;
    let signals = Signals::watch()?;
    make_folder(out)?;

    let (mut results, mut listed, mut failed) = (Vec::new(), Vec::new(), 0);
    for (index, image_id) in (0..images.len()).zip(1_i64..) {
        if signals.is_raised() {
            return signals.stopped();
        }
        let image = match images.get(index, &DecodeOptions::default()) {
            Ok(image) => image,
            Err(error) => {
                failed += 1;
                tracing::warn!("left out: {error}");
                continue;
            }
        };
        let size = image.size();
        let mut canvas = Canvas::from_image(&image, Some(&pipeline.window))?;
        let objects = model.predict(image, &pipeline)?.objects;
        for object in &objects {
            object.paint(&mut canvas)?;
        }
        let boxes: Vec<DrawnBox> = objects.iter().map(PredictedObject::drawn).collect();
        canvas.boxes(&boxes, &model.classes, predict.line_width);
        let name = images.name(index);
        canvas.save_png(out.join(format!("{}.png", file_name(&name))))?;
        results
            .extend(objects.iter().filter_map(|object| object.to_coco(image_id, &model.classes)));
        listed.push(serde_json::json!({
            "id": image_id,
            "file_name": name,
            "width": size.width,
            "height": size.height,
        }));
    }
    if listed.is_empty() {
        let folder = predict.images.display();
        return Err(format!("{folder}: none of {failed} images could be read").into());
    }
    let categories = model.classes.classes().iter();
    let categories: Vec<serde_json::Value> =
        categories.map(|class| serde_json::json!({ "id": class.id, "name": class.name })).collect();
    let path = out.join("results.json");
    write_results(&path, &results)?;
    let list = serde_json::json!({ "images": listed, "categories": categories });
    write_text(&out.join("images.json"), &format!("{list:#}\n"))?;
    print(format_args!("{} objects in {} images", results.len(), listed.len()))?;
    print(format_args!("wrote {}", path.display()))?;
    print(format_args!("wrote {} pictures to {}", listed.len(), out.display()))
}
