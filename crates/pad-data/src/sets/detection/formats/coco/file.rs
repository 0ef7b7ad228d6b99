//! What is read of a COCO file, under the names that its writers have for it.

use std::path::Path;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess},
};
use serde_json::Value;

use super::values::{Element, List, Row, Scalar, element};
use crate::{
    Error, Result,
    sets::text::{SET_BYTES, read_text},
};

/// A COCO file.
#[derive(Default)]
pub(super) struct Coco<S = Value> {
    pub(super) images: Vec<Image>,
    pub(super) annotations: Vec<Annotation<S>>,
    pub(super) categories: Vec<Category>,
    /// Whether the file says anything of images.
    has_images: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) id: Scalar,
    /// By the first of these that it has: `file_name`, `filename`, `path`, the end of `coco_url`.
    names: [Scalar; 4],
    pub(super) width: Scalar,
    pub(super) height: Scalar,
}

#[derive(Default)]
pub(super) struct Annotation<S> {
    pub(super) id: Scalar,
    pub(super) image_id: Scalar,
    pub(super) category_id: Scalar,
    /// Left, top, width, height.
    pub(super) bbox: Row,
    pub(super) area: Scalar,
    pub(super) crowd: Scalar,
    pub(super) difficult: Scalar,
    pub(super) segmentation: Option<S>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Category {
    pub(super) id: Scalar,
    pub(super) name: Scalar,
    pub(super) supercategory: Scalar,
}

impl Image {
    /// Its file.
    pub(super) fn name(&self) -> Option<String> {
        let text = self.names.iter().find_map(Scalar::text)?;
        (!text.trim().is_empty()).then_some(text)
    }
}

/// Reads what takes the place of an `id` that is missing, before or behind it.
fn beside<'de, A: MapAccess<'de>>(id: &mut Scalar, fields: &mut A) -> Result<bool, A::Error> {
    let other = fields.next_value()?;
    if *id == Scalar::Absent {
        *id = other;
    }
    Ok(true)
}

impl<'de> Element<'de> for Image {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<bool, A::Error> {
        let field = match name {
            "id" => &mut self.id,
            "image_id" => return beside(&mut self.id, fields),
            "file_name" => &mut self.names[0],
            "filename" | "fileName" => &mut self.names[1],
            "path" | "file" | "image" => &mut self.names[2],
            "coco_url" => &mut self.names[3],
            "width" => &mut self.width,
            "height" => &mut self.height,
            _ => return Ok(false),
        };
        *field = fields.next_value()?;
        Ok(true)
    }
}

impl<'de, S: Deserialize<'de> + Default> Element<'de> for Annotation<S> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<bool, A::Error> {
        let field = match name {
            "id" => &mut self.id,
            "image_id" | "imageId" => &mut self.image_id,
            "category_id" | "categoryId" => &mut self.category_id,
            "area" => &mut self.area,
            "iscrowd" | "isCrowd" | "is_crowd" => &mut self.crowd,
            "ignore" | "difficult" => {
                let other: Scalar = fields.next_value()?;
                // Either says it.
                if self.difficult.flag() == Some(false) {
                    self.difficult = other;
                }
                return Ok(true);
            }
            "bbox" => {
                self.bbox = fields.next_value()?;
                return Ok(true);
            }
            "segmentation" => {
                self.segmentation = fields.next_value()?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *field = fields.next_value()?;
        Ok(true)
    }
}

impl<'de> Element<'de> for Category {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<bool, A::Error> {
        let field = match name {
            "id" => &mut self.id,
            "category_id" => return beside(&mut self.id, fields),
            "name" => &mut self.name,
            "supercategory" => &mut self.supercategory,
            _ => return Ok(false),
        };
        *field = fields.next_value()?;
        Ok(true)
    }
}

impl<'de, S: Deserialize<'de> + Default> Element<'de> for Coco<S> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<bool, A::Error> {
        match name {
            "images" | "image" => {
                self.has_images = true;
                self.images.append(&mut fields.next_value::<List<Image>>()?.0);
            }
            "annotations" | "annotation" => {
                self.annotations.append(&mut fields.next_value::<List<Annotation<S>>>()?.0);
            }
            "categories" | "category" => {
                self.categories.append(&mut fields.next_value::<List<Category>>()?.0);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        element(deserializer)
    }
}

impl<'de> Deserialize<'de> for Category {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        element(deserializer)
    }
}

impl<'de, S: Deserialize<'de> + Default> Deserialize<'de> for Annotation<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        element(deserializer)
    }
}

impl<'de, S: Deserialize<'de> + Default> Deserialize<'de> for Coco<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file: Self = element(deserializer)?;
        match file.has_images {
            true => Ok(file),
            false => Err(D::Error::custom("missing field `images`")),
        }
    }
}

/// Reads a COCO file. Segmentations are most of a file, and invalid in many: they are skipped unless
/// `masks` are requested, or are all that says where an object is.
pub(super) fn read(path: &Path, masks: bool) -> Result<Coco> {
    let text = read_text(path, SET_BYTES)?;
    let fault = |error: serde_json::Error| {
        let what = format!("expected COCO annotations: {error}");
        Error::Entry { path: path.into(), what }
    };
    if !masks {
        let file = parse::<IgnoredAny>(&text).map_err(fault)?;
        let has_box = |one: &Annotation<IgnoredAny>| !one.bbox.0.is_empty();
        if file.annotations.iter().all(|one| has_box(one) || one.segmentation.is_none()) {
            return Ok(file.without_masks());
        }
    }
    parse::<Value>(&text).map_err(fault)
}

fn parse<S: DeserializeOwned + Default>(text: &str) -> serde_json::Result<Coco<S>> {
    match serde_json::from_str(text) {
        Err(error) if error.is_syntax() && (text.contains("NaN") || text.contains("Infinity")) => {
            serde_json::from_str(&without_nan(text)).map_err(|_| error)
        }
        read => read,
    }
}

/// The text with null for the numbers that Python writes and JSON does not have.
fn without_nan(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if !quoted {
            let known = ["NaN", "-Infinity", "Infinity"];
            if let Some(word) = known.into_iter().find(|word| rest.starts_with(word)) {
                clean.push_str("null");
                rest = &rest[word.len()..];
                continue;
            }
        }
        quoted ^= letter == '"' && !escaped;
        escaped = quoted && letter == '\\' && !escaped;
        clean.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    clean
}

impl<S> Coco<S> {
    fn without_masks(self) -> Coco {
        let Self { images, annotations, categories, has_images } = self;
        let annotations = annotations.into_iter().map(|one| {
            let Annotation { id, image_id, category_id, bbox, area, crowd, difficult, .. } = one;
            let segmentation = None;
            Annotation { id, image_id, category_id, bbox, area, crowd, difficult, segmentation }
        });
        Coco { images, annotations: annotations.collect(), categories, has_images }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_python_are_no_value() {
        let text = r#"{"a": NaN, "b\"": [-Infinity, Infinity, "NaN \" Infinity"]}"#;
        let clean = r#"{"a": null, "b\"": [null, null, "NaN \" Infinity"]}"#;
        assert_eq!(without_nan(text), clean);
        let file: Coco = parse(
            r#"{"images": [], "annotations": [{"id": 3, "area": NaN, "bbox": [1, 2, 3, NaN]}]}"#,
        )
        .unwrap();
        let [one] = &file.annotations[..] else { panic!("one") };
        assert_eq!((one.area.number(), one.bbox.0.len()), (None, 4));
    }

    #[test]
    fn an_id_goes_before_what_stands_for_it() {
        for text in [
            r#"{"images": [{"id": 1, "image_id": 12}, {"image_id": 3}], "annotations": [
                {"ignore": 1, "difficult": 0}], "categories": [{"id": 4, "category_id": 5}]}"#,
            r#"{"images": [{"image_id": 12, "id": 1}, {"image_id": 3, "id": null}], "annotations": [
                {"difficult": 0, "ignore": 1}], "categories": [{"category_id": 5, "id": 4}]}"#,
        ] {
            let file: Coco = parse(text).unwrap();
            let ids: Vec<_> = file.images.iter().map(|image| image.id.whole()).collect();
            assert_eq!((ids[0], file.categories[0].id.whole()), (Some(1), Some(4)));
            assert_eq!(file.annotations[0].difficult.flag(), Some(true));
        }
        let file: Coco = parse(r#"{"images": [{"image_id": 3}], "annotations": []}"#).unwrap();
        assert_eq!(file.images[0].id.whole(), Some(3));
    }

    #[test]
    fn names_of_fields_vary() {
        let file: Coco = parse(
            r#"{"images": [{"id": "a", "filename": "b.png", "file_name": "a.png"}, 7, {"coco_url": "h/c.png"}],
                "annotation": {"x": {"image_id": "a", "category_id": 1.0, "bbox": ["1", 2, 3, 4.5]}},
                "category": [{"id": "1", "name": 5}]}"#,
        )
        .unwrap();
        let names: Vec<Option<String>> = file.images.iter().map(Image::name).collect();
        assert_eq!(names, [Some("a.png".into()), None, Some("h/c.png".into())]);
        let numbers: Vec<_> = file.annotations[0].bbox.0.iter().map(Scalar::number).collect();
        assert_eq!(numbers, [Some(1.0), Some(2.0), Some(3.0), Some(4.5)]);
        assert_eq!(file.categories[0].name.text(), Some("5".into()));
        let text = parse::<Value>("{}").err().unwrap().to_string();
        assert!(text.starts_with("missing field `images`"), "{text}");
        assert!(parse::<Value>("[1]").is_err());
    }
}
