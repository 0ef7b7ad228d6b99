//! Pascal VOC: one XML file for each image.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;
use roxmltree::Node;

use super::super::{
    BoxClasses, LeftOut,
    assembly::{Assembly, Labelled, classes_named},
    entry::{DetectionOptions, Entry, Numbers, Opened, first_folder, header_size},
    listed::{Listed, of_folder, of_list},
    xml::{child, children, content, flag, number, text, with_document},
};
use crate::{
    Error, Result,
    sets::{
        faults::Faults,
        format::Format,
        splits::{names_of, place_of},
        text::PAGE_BYTES,
    },
};

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "voc",
    looks_for: Some("Annotations or SPLIT/Annotations"),
    matches: |root, split| {
        root.join("Annotations").is_dir()
            || annotations(root, split).is_some_and(|folder| holds_xml(&folder))
    },
    open: |root, split, options| {
        let annotations = annotations(root, split).unwrap_or_else(|| root.join("Annotations"));
        read(images(root, split, options)?, &annotations, options, None)
    },
};

/// Names of folders of XML files.
const FOLDERS: [&str; 3] = ["Annotations", "annotations", "xmls"];

/// The folder of the XML files of a part: its own one, which may be inside that of all parts or beside
/// its images, before that of all parts.
fn annotations(root: &Path, split: &str) -> Option<PathBuf> {
    let own = |name: &str| {
        let inside = FOLDERS.map(|folder| root.join(folder).join(name));
        let beside = FOLDERS.map(|folder| root.join(name).join(folder));
        inside.into_iter().chain(beside).collect::<Vec<_>>()
    };
    let own = place_of(split, own, holds_xml).map(|(_, folder)| folder);
    let of_all = || FOLDERS.map(|folder| root.join(folder)).into_iter().find(|one| holds_xml(one));
    // Roboflow has them among the images.
    let among = || {
        let places = |name: &str| vec![root.join(name)];
        place_of(split, places, holds_xml).map(|(_, folder)| folder)
    };
    own.or_else(of_all).or_else(among)
}

/// Whether a folder holds XML files, or folders that do.
fn holds_xml(folder: &Path) -> bool {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let is_xml =
        |path: PathBuf| path.extension().is_some_and(|found| found.eq_ignore_ascii_case("xml"));
    entries(folder).any(|entry| {
        let path = entry.path();
        is_xml(path.clone()) || (path.is_dir() && entries(&path).any(|entry| is_xml(entry.path())))
    })
}

/// The images of a part: those of its list in `ImageSets/Main`, or of its folder.
fn images(root: &Path, split: &str, options: &DetectionOptions) -> Result<Vec<Listed>> {
    let lists = |name: &str| {
        let list = format!("{name}.txt");
        vec![root.join("ImageSets/Main").join(&list), root.join("ImageSets").join(&list)]
    };
    if let Some((_, list)) = place_of(split, lists, Path::is_file) {
        let folders = ["JPEGImages", "images", "Images", ""].map(|name| root.join(name));
        let given = options.images.as_ref().map(std::slice::from_ref);
        return of_list(&list, given.unwrap_or(&folders), options.max_faulty);
    }
    if let Some(folder) = &options.images {
        return of_folder(folder);
    }
    let mut places = Vec::new();
    for name in names_of(split) {
        places.extend([
            Path::new(&name).join("images"),
            Path::new("images").join(&name),
            Path::new(&name).join("JPEGImages"),
            Path::new("JPEGImages").join(&name),
            name.into(),
        ]);
    }
    // The name that was given is the one that is missed.
    places.push(split.into());
    of_folder(&first_folder(root, &places))
}

/// The content of one XML file.
struct Page {
    /// `None` if the file does not hold it.
    size: Option<ImageSize>,
    /// Objects, or what is wrong with them.
    objects: Vec<Result<Labelled, String>>,
}

/// An image and its XML file.
struct Read {
    image: Listed,
    xml: PathBuf,
    size: ImageSize,
    objects: Vec<Result<Labelled, String>>,
}

/// Reads images and their XML files; `preset` are the classes of the format.
pub(in super::super) fn read(
    images: Vec<Listed>,
    annotations: &Path,
    options: &DetectionOptions,
    preset: Option<&BoxClasses>,
) -> Result<Opened> {
    options.validate()?;
    options.without_masks("VOC")?;
    let (all, first) = (images.len(), images.first().map(|image| image.name.clone()));
    let mut left_out = LeftOut::default();
    let mut faults = Faults::new(options.max_faulty);
    let mut pages = Vec::with_capacity(all);
    // An XML file of the bare name is that of an image whose name no other has.
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for image in &images {
        *uses.entry(bare(image)).or_default() += 1;
    }
    for image in images {
        let Some(xml) = xml_of(annotations, &image, uses.get(&bare(&image)) == Some(&1)) else {
            left_out.unlabelled += 1;
            continue;
        };
        let size = |page: &Page| page.size.map_or_else(|| header_size(&image.path), Ok);
        match page(&xml).and_then(|page| Ok((size(&page)?, page))) {
            Ok((size, Page { objects, .. })) => pages.push(Read { image, xml, size, objects }),
            Err(error) => faults.add(error)?,
        }
    }
    if left_out.unlabelled == all {
        let looked_for = Path::new(&first.unwrap_or_default()).with_extension("xml");
        let what = format!(
            "expected an XML file for some of {all} images, found none (looked for {})",
            looked_for.display()
        );
        return Err(Error::Entry { path: annotations.into(), what });
    }
    if left_out.unlabelled > 0 {
        let (folder, unlabelled) = (annotations.display(), left_out.unlabelled);
        tracing::warn!("{folder}: {unlabelled} of {all} images have no XML file and are left out");
    }
    left_out.images += faults.close(annotations, "files", all)?;
    let labelled = pages.iter().flat_map(|page| page.objects.iter().flatten());
    let names: BTreeSet<&str> = labelled.map(|object| object.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let first = || {
        pages.iter().find_map(|Read { xml, objects, .. }| {
            let mut placed = objects.iter().zip(1_usize..);
            let (what, place) =
                placed.find_map(|(one, place)| Some((one.as_ref().err()?, place)))?;
            Some(Error::Entry { path: xml.clone(), what: format!("object {place}: {what}") })
        })
    };
    let classes =
        options.classes_of(preset, Numbers::Ours, || classes_named(&names, annotations, first))?;
    let names: Vec<String> = names.into_iter().map(String::from).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut assembly = Assembly::new(&classes, &names, options, left_out);
    let mut entries = Vec::with_capacity(pages.len());
    for (Read { image, xml, size, objects: labelled }, id) in pages.into_iter().zip(1..) {
        let mut objects = Vec::with_capacity(labelled.len());
        for (labelled, place) in labelled.into_iter().zip(1_usize..) {
            assembly.add(labelled, size, &mut objects, |what| Error::Entry {
                path: xml.clone(),
                what: format!("object {place}: {what}"),
            })?;
        }
        entries.push(Entry::new(image.path, id, image.name, size, objects));
    }
    let left_out = assembly.close(annotations, "objects")?;
    Ok(Opened { entries, classes, left_out })
}

/// The name of an image's file without its extension.
fn bare(image: &Listed) -> String {
    Path::new(&image.name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The XML file of an image: at the same place below the folder of annotations, or of its name
/// directly in it if that `is_unique`, or beside the image.
fn xml_of(annotations: &Path, image: &Listed, is_unique: bool) -> Option<PathBuf> {
    let below = Path::new(&image.name);
    let name = below.file_name().map(Path::new).filter(|_| is_unique);
    let direct = name.map(|name| annotations.join(name));
    let places = [Some(annotations.join(below)), direct, Some(image.path.clone())];
    let spelt = places
        .iter()
        .flatten()
        .flat_map(|place| ["xml", "XML"].map(|kind| place.with_extension(kind)));
    spelt.into_iter().find(|file| file.exists())
}

/// Reads one XML file.
fn page(path: &Path) -> Result<Page> {
    with_document(path, PAGE_BYTES, "a Pascal VOC file", |document| {
        let root = document.root_element();
        let side = |name| {
            let side = number(child(root, "size").ok()?, name).ok()?;
            let is_side = side >= 1.0 && side <= f64::from(u32::MAX) && side.fract() == 0.0;
            is_side.then_some(side as usize)
        };
        let size = side("height").zip(side("width"));
        let objects = children(root, "object").map(labelled).collect();
        Ok(Page { size: size.map(|(height, width)| ImageSize::new(height, width)), objects })
    })
}

/// One object. Rows and columns count from 1, and the last ones belong to it. Errors are texts.
fn labelled(object: Node<'_, '_>) -> Result<Labelled, String> {
    let name = content(child(object, "name")?);
    let name = name.trim();
    if name.is_empty() {
        return Err("`name`: expected a name, found none".into());
    }
    Ok(Labelled {
        name: name.into(),
        bbox: edges(object)?,
        difficult: flag("difficult", text(object, "difficult").as_deref())?,
    })
}

/// The box of an object, or that around its outline or turned box. Errors are texts.
fn edges(object: Node<'_, '_>) -> Result<[f64; 4], String> {
    if let Ok(turned) = child(object, "robndbox") {
        let number = |name| number(turned, name);
        let (angle, width, height) = (number("angle")?, number("w")?, number("h")?);
        let (sine, cosine) = (angle.sin().abs(), angle.cos().abs());
        let across = (width * cosine + height * sine) / 2.0;
        let down = (width * sine + height * cosine) / 2.0;
        let (x, y) = (number("cx")?, number("cy")?);
        return Ok([x - across, y - down, x + across, y + down]);
    }
    let bounds = match (child(object, "bndbox"), child(object, "polygon")) {
        (Err(_), Ok(polygon)) => return around(polygon),
        (bounds, _) => bounds?,
    };
    let number = |name| number(bounds, name);
    Ok([number("xmin")? - 1.0, number("ymin")? - 1.0, number("xmax")?, number("ymax")?])
}

/// The box around an outline `x1`, `y1`, `x2`, ..., or of points `pt` with `x` and `y`. Errors are
/// texts.
fn around(polygon: Node<'_, '_>) -> Result<[f64; 4], String> {
    let mut points = Vec::new();
    for point in children(polygon, "pt") {
        points.push([number(point, "x")?, number(point, "y")?]);
    }
    for place in 1_usize.. {
        let names = [format!("x{place}"), format!("y{place}")];
        let (Ok(x), Ok(y)) = (number(polygon, &names[0]), number(polygon, &names[1])) else {
            break;
        };
        points.push([x, y]);
    }
    if points.len() < 3 {
        return Err(format!("`polygon`: expected at least 3 points, found {}", points.len()));
    }
    let all = |axis: usize| points.iter().map(move |point| point[axis]);
    let low = |axis| all(axis).fold(f64::INFINITY, f64::min);
    let high = |axis| all(axis).fold(f64::NEG_INFINITY, f64::max);
    Ok([low(0) - 1.0, low(1) - 1.0, high(0), high(1)])
}
