//! The XML files of CVAT for a whole set: `CVAT for images 1.1`, and `CVAT for video 1.1`, whose
//! tracks go over the frames.

mod shapes;
mod tracks;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;
use roxmltree::Node;

use self::{
    shapes::{Shape, shape},
    tracks::{Tracks, tracks},
};
use super::super::{
    LeftOut,
    assembly::{Assembly, Labelled, classes_named},
    entry::{DetectionOptions, Entry, Numbers, Opened, header_size},
    pictures::Pictures,
    xml::{attribute, children, with_document},
};
use crate::{
    Error, Result,
    image::EXTENSIONS,
    sets::{
        faults::Faults,
        folder::list,
        format::Format,
        splits::{names_of, place_of},
    },
};

/// Maximum size of a file, bytes: its tree takes several times that.
const BYTES: u64 = 1 << 30;

/// The file of a whole project.
const ALL: &str = "annotations.xml";

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "cvat",
    looks_for: Some("annotations.xml"),
    matches: |root, split| file(root, split).is_some(),
    open: |root, split, options| {
        let (file, whole) = file(root, split).unwrap_or_else(|| (root.join(ALL), false));
        read(root, split, &file, whole, options)
    },
};

/// The file that holds a part, and whether all of it is this part.
fn file(root: &Path, split: &str) -> Option<(PathBuf, bool)> {
    let named = root.join(split);
    if named.extension().is_some_and(|kind| kind == "xml") && named.is_file() {
        return Some((named, true));
    }
    let places = |name: &str| vec![root.join(name).join(ALL), root.join(format!("{name}.xml"))];
    if let Some((_, file)) = place_of(split, places, Path::is_file) {
        return Some((file, true));
    }
    let all = root.join(ALL);
    all.is_file().then_some((all, false))
}

/// What is read of the file.
#[derive(Default)]
struct Content {
    images: Vec<Read>,
    /// The tasks of a video's tracks, by part.
    tasks: BTreeMap<Option<String>, BTreeSet<String>>,
    /// Numbers of shapes that cover no area, by part and kind.
    no_areas: BTreeMap<(Option<String>, String), usize>,
}

/// An image of the file.
struct Read {
    /// The part that it belongs to; `None` if the file does not say.
    part: Option<String>,
    name: Name,
    size: Option<ImageSize>,
    objects: Vec<Result<Labelled, String>>,
}

/// What the file calls an image.
enum Name {
    Of(String),
    /// The frame of a video, in files `frame_000000.png`; one without objects need not be there.
    Frame {
        number: u64,
        needed: bool,
    },
}

impl Name {
    /// The names that its file may have.
    fn spelt(&self) -> Vec<String> {
        match self {
            Self::Of(name) => vec![name.clone()],
            Self::Frame { number, .. } => {
                EXTENSIONS.iter().map(|kind| format!("frame_{number:06}.{kind}")).collect()
            }
        }
    }
}

impl Name {
    /// Whether its file must be there.
    fn is_needed(&self) -> bool {
        !matches!(self, Self::Frame { needed: false, .. })
    }

    /// Whether it is a frame of one of these numbers.
    fn is_among(&self, numbers: &BTreeSet<u64>) -> bool {
        matches!(self, Self::Frame { number, .. } if numbers.contains(number))
    }
}

/// The numbers of frames whose files lie directly in one of the folders.
fn frames_in(folders: &[PathBuf]) -> BTreeSet<u64> {
    let number = |name: &str| {
        let name = name.to_lowercase();
        let (stem, _) = name.strip_prefix("frame_")?.rsplit_once('.')?;
        stem.parse().ok()
    };
    let entries = folders.iter().flat_map(|folder| list(folder).unwrap_or_default());
    entries.filter_map(|entry| number(&entry.name)).collect()
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Of(name) => name.escape_debug().fmt(f),
            Self::Frame { number, .. } => write!(f, "frame_{number:06}.png"),
        }
    }
}

fn read(
    root: &Path,
    split: &str,
    path: &Path,
    whole: bool,
    options: &DetectionOptions,
) -> Result<Opened> {
    options.validate()?;
    options.without_masks("CVAT's XML")?;
    let fault = |what: String| Error::Entry { path: path.into(), what };
    let Content { images, tasks, no_areas } =
        with_document(path, BYTES, "annotations of CVAT", |document| {
            let root = document.root_element();
            if !root.has_tag_name("annotations") {
                let found = root.tag_name().name().escape_debug();
                return Err(fault(format!("expected an element `annotations`, found `{found}`")));
            }
            let mut content = Content::default();
            for node in children(root, "image") {
                let read = image(node, &mut content.no_areas);
                content.images.push(read);
            }
            Ok(if content.images.is_empty() { frames(root) } else { content })
        })?;
    let parts = names_of(split);
    let is_part = |image: &Read| {
        let part = image.part.as_ref().map(|part| part.to_lowercase());
        part.is_some_and(|part| parts.contains(&part) || part == split.to_lowercase())
    };
    let kept: Vec<Read> = match whole {
        true => images,
        false => {
            let known: BTreeSet<String> = images
                .iter()
                .map(|image| image.part.clone().unwrap_or_else(|| "none".into()))
                .collect();
            let kept: Vec<Read> = images.into_iter().filter(is_part).collect();
            if kept.is_empty() {
                let known: Vec<String> = known.into_iter().collect();
                let what = format!(
                    "expected images of the subset `{split}`, found subsets {} (name the part `{ALL}` for all)",
                    known.join(", ")
                );
                return Err(fault(what));
            }
            kept
        }
    };
    if kept.is_empty() {
        return Err(fault("expected images, found none".into()));
    }
    let kept_parts: BTreeSet<&Option<String>> = kept.iter().map(|image| &image.part).collect();
    let tasks: BTreeSet<&String> = tasks
        .iter()
        .filter(|(part, _)| kept_parts.contains(part))
        .flat_map(|(_, one)| one)
        .collect();
    if tasks.len() > 1 {
        // Each counts its frames from 0: the file of a frame is unknown.
        let found = tasks.len();
        let what =
            format!("tracks of {found} tasks in one file, expected one: export each task alone");
        return Err(fault(what));
    }
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for ((part, kind), count) in &no_areas {
        if kept_parts.contains(part) {
            *by_kind.entry(kind).or_default() += count;
        }
    }
    let shapes: usize = by_kind.values().sum();
    if shapes > 0 {
        let kinds = by_kind.iter().map(|(kind, count)| format!("{count} {kind}"));
        let (path, kinds) = (path.display(), kinds.collect::<Vec<_>>().join(", "));
        tracing::warn!("{path}: {shapes} shapes cover no area and are left out: {kinds}");
    }
    let names: BTreeSet<String> = kept
        .iter()
        .flat_map(|image| image.objects.iter().flatten().map(|object| object.name.clone()))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = || {
        kept.iter().find_map(|image| {
            let what = image.objects.iter().find_map(|object| object.as_ref().err())?;
            Some(fault(format!("{}: {what}", image.name)))
        })
    };
    let classes = options.classes_of(None, Numbers::Ours, || classes_named(&names, path, first))?;
    let folders = match &options.images {
        Some(folder) => vec![folder.clone()],
        None => {
            let below = |folder: PathBuf| parts.iter().map(move |part| folder.join(part));
            let mut folders: Vec<PathBuf> =
                below(root.join("images")).chain(below(root.into())).collect();
            folders.extend([root.join("images"), root.into()]);
            folders
        }
    };
    let mut kept = kept;
    if kept.iter().any(|image| !image.name.is_needed()) {
        // Frames without objects count where they are: a description may claim a million.
        let there = frames_in(&folders);
        kept.retain(|image| image.name.is_needed() || image.name.is_among(&there));
    }
    // The needed ones decide on the folder.
    let (needed, rest): (Vec<&Read>, Vec<&Read>) =
        kept.iter().partition(|image| image.name.is_needed());
    let spelt: Vec<String> =
        needed.iter().chain(&rest).flat_map(|image| image.name.spelt()).collect();
    let mut pictures = Pictures::best(&folders, spelt.iter().map(String::as_str));
    let (all, mut faults) = (kept.len(), Faults::new(options.max_faulty));
    let mut found = Vec::with_capacity(all);
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    for image in kept {
        let names = image.name.spelt();
        let exact = names.iter().find_map(|name| pictures.exact(name));
        let place = exact.or_else(|| names.iter().find_map(|name| pictures.alike(name)));
        if let (None, Name::Frame { needed: false, .. }) = (&place, &image.name) {
            continue;
        }
        let missing = || {
            let (name, folder) = (&image.name, pictures.folder().display());
            fault(format!("expected the file {folder}/{name}, found none"))
        };
        let size = |path: &Path| image.size.map_or_else(|| header_size(path), Ok);
        let checked = place.ok_or_else(missing).and_then(|path| {
            match taken.insert(path.clone(), image.name.to_string()) {
                Some(first) => Err(fault(format!("`{}` and `{first}` are one file", image.name))),
                None => Ok((size(&path)?, path)),
            }
        });
        match checked {
            Ok((size, path)) => found.push((path, size, image)),
            Err(error) => faults.add(error)?,
        }
    }
    let images = faults.close(path, "images", all)?;
    let left_out = LeftOut { images, shapes, ..LeftOut::default() };
    let mut assembly = Assembly::new(&classes, &names, options, left_out);
    let mut entries = Vec::with_capacity(found.len());
    for ((file, size, image), id) in found.into_iter().zip(1..) {
        let mut objects = Vec::with_capacity(image.objects.len());
        for labelled in image.objects {
            let name = &image.name;
            assembly.add(labelled, size, &mut objects, |what| fault(format!("{name}: {what}")))?;
        }
        let name = match image.name {
            Name::Of(name) => name,
            Name::Frame { .. } => {
                file.file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
        };
        entries.push(Entry::new(file, id, name, size, objects));
    }
    let left_out = assembly.close(path, "objects")?;
    Ok(Opened { entries, classes, left_out })
}

/// One image; `no_areas` counts its shapes that cover no area.
fn image(node: Node<'_, '_>, no_areas: &mut BTreeMap<(Option<String>, String), usize>) -> Read {
    let side = |name| {
        let side = attribute(node, name).ok()?;
        (side >= 1.0 && side <= f64::from(u32::MAX) && side.fract() == 0.0).then_some(side as usize)
    };
    let size = side("height").zip(side("width"));
    let part = node.attribute("subset").filter(|part| !part.is_empty()).map(String::from);
    let mut objects = Vec::new();
    for child in node.children().filter(|child| child.is_element()) {
        match shape(child, child.attribute("label").unwrap_or_default()) {
            Shape::Area(read) => objects.push(read),
            Shape::NoArea(kind) => *no_areas.entry((part.clone(), kind)).or_default() += 1,
            Shape::Other => {}
        }
    }
    Read {
        part,
        name: Name::Of(node.attribute("name").unwrap_or_default().into()),
        size: size.map(|(height, width)| ImageSize::new(height, width)),
        objects,
    }
}

/// The frames of a video: those with objects of its tracks, and those that its description counts.
fn frames(root: Node<'_, '_>) -> Content {
    let Tracks { count, objects, tasks, no_areas } = tracks(root);
    let named = objects.keys().map(|(part, _)| part);
    let named = named.chain(no_areas.keys().map(|(part, _)| part)).chain(tasks.keys());
    let mut parts: BTreeSet<Option<String>> = named.cloned().collect();
    if parts.is_empty() {
        parts.insert(None);
    }
    let mut images = Vec::new();
    let mut objects = objects;
    let is_only_part = parts.len() == 1;
    for part in parts {
        let own = objects.keys().filter(|(of, _)| *of == part).map(|(_, frame)| *frame);
        let mut numbers: BTreeSet<u64> = own.collect();
        if is_only_part {
            // Of several parts the description counts neither.
            numbers.extend(0..count);
        }
        for number in numbers {
            let objects = objects.remove(&(part.clone(), number));
            images.push(Read {
                part: part.clone(),
                name: Name::Frame { number, needed: objects.is_some() },
                size: None,
                objects: objects.unwrap_or_default(),
            });
        }
    }
    Content { images, tasks, no_areas }
}
