//! Detections of a folder's images: pictures with boxes, and one COCO results file.

use std::path::{Path, PathBuf};

use clap::Args;
use pad::{
    data::{
        draw::{Canvas, DrawnBox},
        image::Image,
        transform::detection::DetectionPipeline,
    },
    heads::detection::{
        DetectionModel, PredictedObject,
        coco::{CocoResult, write_results},
    },
};

use super::{settings::Detect, thresholds::ThresholdFlags};
use crate::{
    downstream::Predictions,
    run::{Result, write_text},
    tools::{
        output::{make_folder, picture_path, print},
        values,
    },
};

/// Score of detections in pictures: evaluation counts weak ones too, which would hide the others.
pub const SHOWN: f64 = 0.3;

/// Flags of `pad detect predict`, beside those of all tasks.
#[derive(Args, Debug)]
pub struct PredictFlags {
    /// Width of lines and of the dots of letters, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 1, value_parser = values::count)]
    line_width: usize,
    #[command(flatten)]
    pub(super) thresholds: ThresholdFlags,
}

/// Writes a picture of every image, `results.json` (COCO) and `images.json`, which lists the
/// numbers of images and categories.
pub struct Pictures {
    out: PathBuf,
    names: Vec<String>,
    line_width: usize,
    results: Vec<CocoResult>,
    listed: Vec<serde_json::Value>,
}

impl Predictions<Detect> for Pictures {
    const MARK: &'static str = "results.json";

    fn begin(flags: &PredictFlags, out: &Path, names: Vec<String>) -> Result<Self> {
        make_folder(out)?;
        let (out, line_width) = (out.to_path_buf(), flags.line_width);
        Ok(Self { out, names, line_width, results: Vec::new(), listed: Vec::new() })
    }

    fn add(
        &mut self,
        index: usize,
        image: Image,
        model: &DetectionModel,
        pipeline: &DetectionPipeline,
    ) -> Result<()> {
        let (name, image_id) = (&self.names[index], index as i64 + 1);
        let size = image.size();
        let mut canvas = Canvas::from_image(&image, Some(&pipeline.window))?;
        let objects = model.predict(image, pipeline)?.objects;
        for object in &objects {
            object.paint(&mut canvas)?;
        }
        let boxes: Vec<DrawnBox> = objects.iter().map(PredictedObject::drawn).collect();
        canvas.boxes(&boxes, &model.classes, self.line_width);
        canvas.save_png(picture_path(&self.out, name)?)?;
        let results = objects.iter().filter_map(|object| object.to_coco(image_id, &model.classes));
        self.results.extend(results);
        self.listed.push(serde_json::json!({
            "id": image_id,
            "file_name": name,
            "width": size.width,
            "height": size.height,
        }));
        Ok(())
    }

    fn finish(self, model: &DetectionModel, _: usize) -> Result<()> {
        let Self { out, results, listed, .. } = self;
        let categories = model.classes.classes().iter();
        let categories: Vec<serde_json::Value> = categories
            .map(|class| serde_json::json!({ "id": class.id, "name": class.name }))
            .collect();
        let (path, images) = (out.join("results.json"), listed.len());
        write_results(&path, &results)?;
        let list = serde_json::json!({ "images": listed, "categories": categories });
        write_text(&out.join("images.json"), &format!("{list:#}\n"))?;
        print(format_args!("{} objects in {images} images", results.len()))?;
        print(format_args!("wrote {}", path.display()))?;
        print(format_args!("wrote {images} pictures to {}", out.display()))
    }
}
