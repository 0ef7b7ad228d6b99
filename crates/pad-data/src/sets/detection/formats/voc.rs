//! Pascal VOC: one XML file for each image.

use std::{collections::BTreeSet, fs, path::Path};

use pad_ops::ImageSize;
use roxmltree::{Document, Node};

use super::super::{
    BoxClasses, LeftOut, Object, Others,
    bounds::bounded,
    entry::{DetectionOptions, Entry, Opened, first_folder},
};
use crate::{
    Error, Result,
    sets::{ImageFolder, format::Format},
};

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "voc",
    looks_for: Some("Annotations"),
    matches: |root, _| root.join("Annotations").is_dir(),
    open: |root, split, options| {
        let (below, above) = (Path::new(split).join("images"), Path::new("images").join(split));
        let images = first_folder(root, &[below, above, split.into()]);
        read(&images, &root.join("Annotations"), options, None)
    },
};

/// An object of a file.
struct Labelled {
    name: String,
    /// Left, top, right, bottom edge, continuous.
    bbox: [f64; 4],
}

/// The content of one XML file.
struct Page {
    size: ImageSize,
    objects: Vec<Labelled>,
}

/// Reads the images of a folder and their XML files; `preset` are the classes of the format.
pub(in super::super) fn read(
    images: &Path,
    annotations: &Path,
    options: &DetectionOptions,
    preset: Option<&BoxClasses>,
) -> Result<Opened> {
    options.without_masks("VOC")?;
    let folder = ImageFolder::open(images)?;
    let mut pages = Vec::with_capacity(folder.files().len());
    for (path, name) in folder.files() {
        let xml = annotations.join(Path::new(name).with_extension("xml"));
        pages.push((path.to_path_buf(), name.to_string(), page(&xml)?, xml));
    }
    let classes = options.classes_of(preset, || {
        let objects = pages.iter().flat_map(|(_, _, page, _)| &page.objects);
        let names: BTreeSet<&str> = objects.map(|object| object.name.as_str()).collect();
        BoxClasses::named(names)
    })?;
    let (mut entries, mut left_out) = (Vec::with_capacity(pages.len()), LeftOut::default());
    let mut objects_so_far = 0;
    for ((path, name, page, xml), id) in pages.into_iter().zip(1..) {
        let Page { size, objects: labelled } = page;
        let mut objects = Vec::with_capacity(labelled.len());
        for (Labelled { name, bbox }, place) in labelled.into_iter().zip(1..) {
            objects_so_far += 1;
            let fault = |what: String| Error::Entry {
                path: xml.clone(),
                what: format!("object {place}: {what}"),
            };
            let Some(class) = classes.by_name(&name) else {
                if classes.others == Others::Refuse {
                    let list = classes.list();
                    let what = format!("expected one of the classes {list}, found `{name}`");
                    return Err(fault(what));
                }
                *left_out.categories.entry(name).or_default() += 1;
                continue;
            };
            let bounded = bounded(bbox, size, options.bad_boxes, &mut left_out);
            let Some(bbox) = bounded.map_err(|what| fault(format!("box {bbox:?}: {what}")))? else {
                continue;
            };
            let area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
            objects.push(Object {
                bbox,
                class,
                area,
                crowd: false,
                id: objects_so_far,
                mask: None,
            });
        }
        entries.push(Entry::new(path, id, name, size, objects));
    }
    Ok(Opened { entries, classes, left_out })
}

/// Reads one XML file.
fn page(path: &Path) -> Result<Page> {
    let text = fs::read_to_string(path).map_err(|cause| Error::Io { path: path.into(), cause })?;
    let fault = |what: String| Error::Entry { path: path.into(), what };
    let document = Document::parse(&text)
        .map_err(|error| fault(format!("expected a Pascal VOC file: {error}")))?;
    let root = document.root_element();
    let size = child(root, "size").map_err(fault)?;
    let side = |name| {
        let side = number(size, name).map_err(|what| fault(format!("`size`: {what}")))?;
        if side >= 1.0 && side <= f64::from(u32::MAX) && side.fract() == 0.0 {
            return Ok(side as usize);
        }
        Err(fault(format!("`size`: `{name}`: expected a whole number above 0, found {side}")))
    };
    let size = ImageSize::new(side("height")?, side("width")?);
    let objects = root.children().filter(|node| node.has_tag_name("object"));
    let labelled = objects.zip(1..).map(|(object, place)| {
        labelled(object).map_err(|what| fault(format!("object {place}: {what}")))
    });
    Ok(Page { size, objects: labelled.collect::<Result<_>>()? })
}

/// One object. Rows and columns count from 1, and the last ones belong to it.
fn labelled(object: Node<'_, '_>) -> Result<Labelled, String> {
    let name = child(object, "name")?.text().unwrap_or_default().trim();
    if name.is_empty() {
        return Err("`name`: expected a name, found none".into());
    }
    let bounds = child(object, "bndbox")?;
    let number = |name| number(bounds, name);
    let bbox = [number("xmin")? - 1.0, number("ymin")? - 1.0, number("xmax")?, number("ymax")?];
    Ok(Labelled { name: name.into(), bbox })
}

/// The first element of this name directly inside `node`.
fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Result<Node<'a, 'input>, String> {
    let mut children = node.children().filter(|child| child.has_tag_name(name));
    children.next().ok_or_else(|| format!("expected an element `{name}`, found none"))
}

/// The number in an element.
fn number(node: Node<'_, '_>, name: &str) -> Result<f64, String> {
    let text = child(node, name)?.text().unwrap_or_default().trim();
    text.parse().map_err(|_| format!("`{name}`: expected a number, found `{text}`"))
}
