//! Builds the set from the downloads: files are placed, hashed and compared; resumable.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use pad_ops::{ImageSize, fs::write_atomic_bytes};
use rayon::prelude::*;

use super::{
    likeness::{Likeness, near_duplicates},
    manifest::{Entry, MANIFEST, Manifest, by_path, foreign, sha256},
    plan::{PlacedImage, SourcePlan},
    source::SourceSpec,
};
use crate::{
    Error, Result,
    image::{DecodeOptions, Image, Pixels, decode_bytes, read},
};

/// Number of images between two writes of the manifest: the most that a stopped run must repeat.
const CHUNK: usize = 512;

/// How files are placed in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// As hard links, which take no space; as copies where links are impossible (another disk).
    /// Writing to a linked file in place changes the download too.
    Link,
    /// As copies.
    Copy,
}

/// The configuration of a build.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildConfig {
    /// How files are placed in the set. Default: as links.
    pub placing: Placing,
    /// Maximum number of differing bits of [`Likeness`] (of 128) between near duplicates. Default
    /// 2.
    pub near: u32,
    /// Whether near duplicates are removed. Default false, as in the paper: frames of a video
    /// resemble each other.
    pub dedup: bool,
    /// Limits of decoding.
    pub decode: DecodeOptions,
}

impl Default for BuildConfig {
    fn default() -> Self {
        Self { placing: Placing::Link, near: 2, dedup: false, decode: DecodeOptions::default() }
    }
}

/// The progress of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The source.
    pub source: &'a str,
    /// The number of its finished images.
    pub done: usize,
    /// The number of its images.
    pub total: usize,
}

/// The result of building one source.
#[derive(Debug)]
pub struct Built {
    /// The source.
    pub source: SourceSpec,
    /// The number of images that belong to the set by the source's rules; compare it with
    /// [`SourceSpec::expected`].
    pub found: usize,
    /// The number of images left out because they are dark.
    pub dark: usize,
    /// The number of images kept from an earlier run.
    pub reused: usize,
    /// The number of images that resemble an earlier one.
    pub near: usize,
    /// The number of images removed because of that.
    pub removed: usize,
    /// The errors of files that cannot be images of the set.
    pub unreadable: Vec<Error>,
}

impl Built {
    /// Returns whether every image was readable and their number is as expected.
    pub fn is_as_expected(&self) -> bool {
        self.unreadable.is_empty() && self.found == self.source.expected
    }
}

/// Places the planned images in `set`, in the layout `NAME/thermal/*`, with a manifest per source.
/// Runs on all threads; the result does not depend on their number. Results of an earlier run are
/// kept. Files are written atomically.
///
/// # Errors
/// [`Error::Foreign`] if a source's folder holds other files; [`Error::Io`] if the set cannot be
/// written; [`Error::Line`] for a damaged manifest. Downloaded files that cannot be read are listed
/// in [`Built::unreadable`].
pub fn build(
    plans: &[SourcePlan],
    set: &Path,
    config: &BuildConfig,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<Built>> {
    for plan in plans {
        let paths: BTreeSet<&str> = plan.images.iter().map(|image| image.to.as_str()).collect();
        let thermal = set.join(plan.source.name).join("thermal");
        foreign(&thermal, plan.source.name, |path| paths.contains(path))?;
    }
    let mut built = Vec::with_capacity(plans.len());
    let mut manifests = Vec::with_capacity(plans.len());
    for plan in plans {
        let (report, manifest) = build_one(plan, set, config, progress)?;
        built.push(report);
        manifests.push(manifest);
    }
    let all: Vec<&Entry> = manifests.iter().flat_map(|manifest| &manifest.entries).collect();
    let hashes: Vec<Likeness> = all.iter().map(|entry| entry.likeness).collect();
    let paths: Vec<String> = all.iter().map(|entry| entry.path.clone()).collect();
    let mut nearest = near_duplicates(&hashes, config.near).into_iter();
    for ((plan, report), manifest) in plans.iter().zip(&mut built).zip(&mut manifests) {
        for (entry, near) in manifest.entries.iter_mut().zip(&mut nearest) {
            entry.near = near.and_then(|first| paths.get(first).cloned());
            report.near += usize::from(entry.near.is_some());
            entry.removed = config.dedup && entry.near.is_some();
            report.removed += usize::from(entry.removed);
        }
        // The manifest first: a stopped run then knows which files are to be removed.
        manifest.write(&set.join(plan.source.name).join(MANIFEST))?;
        for (entry, image) in manifest.entries.iter().zip(planned(plan, manifest)) {
            let path = set.join(&entry.path);
            if entry.removed {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::Io { path, cause: source });
                    }
                    _ => {}
                }
            } else if !path.exists() {
                // An earlier run removed more.
                let link = config.placing == Placing::Link && plan.source.border == 0;
                if let Some((bytes, _)) = content(image, &plan.source, config)? {
                    place(image, &path, &bytes, link)?;
                }
            }
        }
    }
    Ok(built)
}

/// Returns the planned image of each entry: the entries are a subsequence of the plan.
fn planned<'a>(
    plan: &'a SourcePlan,
    manifest: &'a Manifest,
) -> impl Iterator<Item = &'a PlacedImage> {
    let mut images = plan.images.iter();
    manifest.entries.iter().filter_map(move |entry| images.find(|image| image.to == entry.path))
}

/// The result of placing one file.
enum Outcome {
    Placed { entry: Entry, reused: bool },
    Dark,
    Unreadable(Error),
}

fn build_one(
    plan: &SourcePlan,
    set: &Path,
    config: &BuildConfig,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Built, Manifest)> {
    let name = plan.source.name;
    let thermal = set.join(name).join("thermal");
    fs::create_dir_all(&thermal).map_err(|cause| Error::Io { path: thermal.clone(), cause })?;
    let path = set.join(name).join(MANIFEST);
    let earlier = if path.exists() { Manifest::read(&path)? } else { Manifest::default() };
    let earlier = by_path(earlier);
    let mut manifest = Manifest::default();
    let mut built = Built {
        source: plan.source.clone(),
        found: 0,
        dark: 0,
        reused: 0,
        near: 0,
        removed: 0,
        unreadable: Vec::new(),
    };
    for (chunk, images) in plan.images.chunks(CHUNK).enumerate() {
        progress(Progress { source: name, done: chunk * CHUNK, total: plan.images.len() });
        let outcomes: Vec<Result<Outcome>> = images
            .par_iter()
            .map(|image| bring(image, &plan.source, set, earlier.get(&image.to), config))
            .collect();
        let mut is_new = false;
        for outcome in outcomes {
            match outcome? {
                Outcome::Placed { entry, reused } => {
                    manifest.entries.push(entry);
                    built.reused += usize::from(reused);
                    is_new |= !reused;
                }
                Outcome::Dark => built.dark += 1,
                Outcome::Unreadable(error) => built.unreadable.push(error),
            }
        }
        let last = (chunk + 1) * CHUNK >= plan.images.len();
        if is_new && !last {
            let mut so_far = manifest.clone();
            // Keep the later entries of an earlier, longer run.
            let done: BTreeSet<&str> =
                manifest.entries.iter().map(|one| one.path.as_str()).collect();
            let further = earlier.values().filter(|one| !done.contains(one.path.as_str()));
            so_far.entries.extend(further.cloned());
            so_far.write(&path)?;
        }
    }
    progress(Progress { source: name, done: plan.images.len(), total: plan.images.len() });
    built.found = manifest.entries.len();
    Ok((built, manifest))
}

/// Places one file, if it belongs to the set.
fn bring(
    image: &PlacedImage,
    source: &SourceSpec,
    set: &Path,
    earlier: Option<&Entry>,
    config: &BuildConfig,
) -> Result<Outcome> {
    let to = set.join(&image.to);
    if let Some(earlier) = earlier.filter(|earlier| earlier.original == image.original) {
        let there = fs::metadata(&to).is_ok_and(|found| found.len() == earlier.bytes);
        let same_download = source.border > 0
            || fs::metadata(&image.from).is_ok_and(|found| found.len() == earlier.bytes);
        if same_download && (there || earlier.removed && config.dedup) {
            return Ok(Outcome::Placed { entry: earlier.clone(), reused: true });
        }
    }
    let (bytes, likeness) = match content(image, source, config) {
        Ok(Some(content)) => content,
        Ok(None) => return Ok(Outcome::Dark),
        Err(error) if error.is_of_one_file() => return Ok(Outcome::Unreadable(error)),
        Err(error) => return Err(error),
    };
    place(image, &to, &bytes, config.placing == Placing::Link && source.border == 0)?;
    let entry = Entry {
        path: image.to.clone(),
        original: image.original.clone(),
        bytes: bytes.len() as u64,
        sha256: sha256(&bytes),
        likeness,
        near: None,
        removed: false,
    };
    Ok(Outcome::Placed { entry, reused: false })
}

/// Returns the bytes of the file in the set and its likeness; `None` for an image that is too dark.
fn content(
    planned: &PlacedImage,
    source: &SourceSpec,
    config: &BuildConfig,
) -> Result<Option<(Vec<u8>, Likeness)>> {
    let bytes = read(&planned.from, &config.decode)?;
    let image = decode_bytes(&bytes, &planned.from, &config.decode)?.to_gray();
    if source.brighter_than.is_some_and(|limit| !is_brighter(image.pixels(), limit)) {
        return Ok(None);
    }
    if source.border == 0 {
        let likeness = Likeness::of(&image);
        return Ok(Some((bytes, likeness)));
    }
    let inner = without_border(image, source.border, &planned.from, &config.decode)?;
    let likeness = Likeness::of(&inner);
    Ok(Some((encode(&inner, &planned.from)?, likeness)))
}

fn is_brighter(pixels: &Pixels, limit: u8) -> bool {
    match pixels {
        Pixels::U8(values) => values.iter().any(|&value| value > limit),
        Pixels::U16(values) => values.iter().any(|&value| value > u16::from(limit)),
        Pixels::F32(values) => values.iter().any(|&value| value > f32::from(limit)),
    }
}

/// Returns the 8-bit image without its border, which must be white: an image without a border would
/// lose content.
fn without_border(
    image: Image,
    border: usize,
    path: &Path,
    options: &DecodeOptions,
) -> Result<Image> {
    let size = image.size();
    let min = border.saturating_mul(2).saturating_add(options.min_side.max(1));
    if size.height.min(size.width) < min {
        return Err(Error::TooSmall { path: path.into(), found: size, min });
    }
    let Pixels::U8(levels) = image.pixels() else {
        let what = "a border in an image of more than 8 bits".into();
        return Err(Error::Unsupported { path: path.into(), what });
    };
    let inner = ImageSize::new(size.height - 2 * border, size.width - 2 * border);
    let rows = levels.chunks_exact(size.width).enumerate();
    let is_inside = |place: usize, extent: usize| (border..extent - border).contains(&place);
    let (mut kept, mut white) = (Vec::with_capacity(inner.area()), 0);
    for (row, line) in rows {
        let count = |part: &[u8]| part.iter().filter(|&&level| level >= 200).count();
        if is_inside(row, size.height) {
            kept.extend_from_slice(&line[border..size.width - border]);
            white += count(&line[..border]) + count(&line[size.width - border..]);
        } else {
            white += count(line);
        }
    }
    let frame = size.area() - inner.area();
    if white * 10 < frame * 9 {
        let what = format!(
            "an image whose {border}-pixel border is not white (expected 90%, found {}%)",
            white * 100 / frame.max(1)
        );
        return Err(Error::Unsupported { path: path.into(), what });
    }
    Image::new(inner, 1, Pixels::U8(kept))
}

/// Encodes the image as PNG: another JPEG would lose more.
fn encode(image: &Image, path: &Path) -> Result<Vec<u8>> {
    let Pixels::U8(levels) = image.pixels() else {
        let what = "writing an image of more than 8 bits".into();
        return Err(Error::Unsupported { path: path.into(), what });
    };
    let mut bytes = Vec::new();
    let (width, height) = (image.size().width as u32, image.size().height as u32);
    PngEncoder::new(&mut bytes)
        .write_image(levels, width, height, ExtendedColorType::L8)
        .map_err(|cause| Error::Decode { path: path.into(), cause })?;
    Ok(bytes)
}

/// Writes the file atomically.
fn place(image: &PlacedImage, to: &Path, bytes: &[u8], link: bool) -> Result<()> {
    let io = |cause| Error::Io { path: to.into(), cause };
    if to.exists() && pad_ops::fs::read(to).map_err(io)? == bytes {
        return Ok(());
    }
    if link && !to.exists() {
        // A hard link to a symbolic link would refer to a name, not to a file.
        let from: PathBuf = image
            .from
            .canonicalize()
            .map_err(|cause| Error::Io { path: image.from.clone(), cause })?;
        if fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
    }
    write_atomic_bytes(to, bytes).map_err(io)
}
