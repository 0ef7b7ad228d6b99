//! The labels of any dataset as COCO's annotations.

use std::collections::BTreeSet;

use pad_data::{
    Dataset,
    rle::Segmentation,
    sets::detection::{BoxClass, DetectionImage, LabelledImage},
};

use super::{CocoAnnotation, CocoCategory, CocoError, CocoImage, CocoTruth};
use crate::error::Result;

impl CocoTruth {
    /// The same without these images and their objects; `None` without images to leave out.
    pub(in crate::detection) fn without(&self, images: &BTreeSet<i64>) -> Option<Self> {
        if images.is_empty() {
            return None;
        }
        let Self { images: all, annotations, categories } = self;
        let kept = |id: &i64| !images.contains(id);
        Some(Self {
            images: all.iter().filter(|image| kept(&image.id)).cloned().collect(),
            annotations: annotations.iter().filter(|one| kept(&one.image_id)).cloned().collect(),
            categories: categories.clone(),
        })
    }

    /// Converts the labels of a dataset, without decoding its images. Categories have
    /// the numbers of the dataset's classes, so that results fit the dataset's own file.
    ///
    /// # Errors
    /// Labels that cannot be read; [`CocoError::Unknown`] for an object of an unknown class.
    pub fn from_dataset(dataset: &dyn Dataset<Sample = DetectionImage>) -> Result<Self> {
        let classes = dataset.classes();
        let category = |class: &BoxClass| CocoCategory { id: class.id, name: class.name.clone() };
        let mut truth = CocoTruth {
            images: Vec::with_capacity(dataset.len()),
            annotations: Vec::new(),
            categories: classes.classes().iter().map(category).collect(),
        };
        for index in 0..dataset.len() {
            let labels = dataset.info(index)?;
            let LabelledImage { id, name, size, objects } = &*labels;
            let (width, height) = (size.width, size.height);
            truth.images.push(CocoImage { id: *id, file_name: name.clone(), width, height });
            for object in objects {
                let [x1, y1, x2, y2] = object.bbox;
                let unknown = CocoError::Unknown {
                    what: "annotation",
                    place: truth.annotations.len(),
                    of: "category",
                    id: i64::from(object.class),
                };
                truth.annotations.push(CocoAnnotation {
                    id: object.id,
                    image_id: *id,
                    category_id: classes.id(object.class).ok_or(unknown)?,
                    bbox: [x1, y1, x2 - x1, y2 - y1],
                    area: object.area,
                    iscrowd: u8::from(object.crowd),
                    difficult: object.difficult,
                    segmentation: object
                        .mask
                        .as_deref()
                        .map(|mask| Segmentation::Runs(mask.clone())),
                });
            }
        }
        Ok(truth)
    }
}
