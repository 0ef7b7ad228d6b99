//! The sets: folders of links in the layouts that `pad` reads, or rendered scenes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use pad::rng::{Key, Purpose};
use serde_json::Value;

use super::{
    Result,
    budget::Budget,
    cell::{Cell, Work, text},
    flags::Flags,
    images::{expect_different, training_images},
    line::Line,
};

/// The share of the solar modules that are tested on.
const TESTED: f64 = 0.25;

/// Where the sets are, or will be.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    budget: Budget,
    /// Folders of unlabelled images by their names in the mix.
    sources: Vec<(String, PathBuf)>,
    mix_scenes: usize,
    /// The folder of the mix; `None`: rendered scenes alone.
    mix: Option<PathBuf>,
    hit_uav: Option<PathBuf>,
    udder: Option<PathBuf>,
    /// The folder of classes, and the folder that it is made of.
    classes: Option<(PathBuf, PathBuf)>,
}

impl Sets {
    /// Finds the folders that the flags name.
    pub(crate) fn new(flags: &Flags, budget: &Budget, out: &Path) -> Result<Self> {
        let folder = |path: &Option<PathBuf>, flag: &str| -> Result<Option<PathBuf>> {
            let Some(path) = path else { return Ok(None) };
            ensure!(path.is_dir(), "{}: no such folder ({flag})", path.display());
            Ok(Some(path.canonicalize().with_context(|| path.display().to_string())?))
        };
        let mut sources = Vec::new();
        for path in &flags.mix {
            let Some(path) = folder(&Some(path.clone()), "--mix")? else { continue };
            let name =
                path.file_name().map_or("images".into(), |n| n.to_string_lossy().to_string());
            ensure!(
                sources.iter().all(|(known, _)| *known != name),
                "{name}: two folders of the mix have this name"
            );
            sources.push((name, path));
        }
        let hit_uav = folder(&flags.hit_uav, "--hit-uav")?;
        let classes = folder(&flags.solar, "--solar")?.map(|from| {
            let size = match budget.class_images {
                Some([train, val]) => format!("classes-{train}-{val}"),
                None => "classes".to_string(),
            };
            // A folder per class is taken as it is.
            let made = from.join("module_metadata.json").is_file();
            (if made { out.join("data").join(size) } else { from.clone() }, from)
        });
        Ok(Self {
            budget: *budget,
            mix: (!sources.is_empty()).then(|| out.join("data/mix")),
            mix_scenes: flags.mix_scenes.unwrap_or(budget.mix_scenes),
            sources,
            hit_uav,
            udder: folder(&flags.udder, "--udder")?,
            classes,
        })
    }

    /// The search of regions of interest, around which crops are taken.
    pub(crate) fn regions(&self) -> Option<Cell> {
        let mix = self.mix.as_deref()?;
        Some(Cell {
            id: "mix/regions".into(),
            work: Work::Regions,
            needs: None,
            command: vec!["roi".into(), text(mix)],
            run: None,
            result: mix.with_file_name("mix.regions"),
            shape: "regions".into(),
            steps: 0,
        })
    }

    /// Images for pre-training.
    pub(crate) fn pretraining(&self, line: &mut Line) {
        match &self.mix {
            Some(mix) => line.flag("--data", text(mix)),
            None => line.flag("--scenes", self.mix_scenes),
        }
    }

    /// A labelled set with boxes.
    pub(crate) fn detection(&self, line: &mut Line) {
        match &self.hit_uav {
            Some(folder) => {
                line.flag("--data", text(folder));
                line.flag("--format", "hit-uav");
                line.flag("--classes", "person,car,bicycle");
                if let Some(images) = self.budget.detect_val {
                    line.flag("--val-images", images);
                }
            }
            None => self.scenes(line),
        }
    }

    /// A labelled set with class maps.
    pub(crate) fn segmentation(&self, line: &mut Line) {
        match &self.udder {
            Some(folder) => {
                line.flag("--data", text(folder));
                // The udder is a small part of an image.
                line.flag("--class-weights", "1,4");
            }
            None => self.scenes(line),
        }
    }

    fn scenes(&self, line: &mut Line) {
        line.flag("--scenes", self.budget.scenes);
        line.flag("--val-scenes", self.budget.val_scenes);
    }

    /// A labelled set of images with a class.
    pub(crate) fn classes(&self, line: &mut Line) {
        match &self.classes {
            Some((folder, _)) => line.0.push(text(folder)),
            None => line.flag("--scenes", self.budget.scenes.max(56)),
        }
    }

    /// What the numbers of tables were measured on.
    pub(crate) fn describe(&self) -> Vec<String> {
        let name =
            |path: &Path| path.file_name().map_or(String::new(), |n| n.to_string_lossy().into());
        let scenes = || "rendered scenes".to_string();
        let mix = match self.sources.as_slice() {
            [] => scenes(),
            some => {
                let names: Vec<&str> = some.iter().map(|(name, _)| name.as_str()).collect();
                format!("{}, and {} rendered scenes", names.join(", "), self.mix_scenes)
            }
        };
        let set = |path: &Option<PathBuf>| path.as_deref().map_or_else(scenes, name);
        let classes = self.classes.as_ref().map(|(_, from)| from.clone());
        vec![
            format!("pre-training: {mix}"),
            format!("detection: {}", set(&self.hit_uav)),
            format!("segmentation: {}", set(&self.udder)),
            format!("classification: {}", set(&classes)),
        ]
    }
}

/// Makes the folders of links, with `class_images` of each class for training and for testing.
pub(crate) fn prepare(sets: &Sets, class_images: Option<[usize; 2]>) -> Result<()> {
    if let Some(mix) = &sets.mix {
        let mut listed = Vec::new();
        for (name, from) in &sets.sources {
            listed.push((name, training_images(from).context("--mix")?));
        }
        expect_different(listed.iter().flat_map(|(_, images)| images))?;
        for (name, images) in &listed {
            let links =
                images.iter().enumerate().map(|(index, path)| (link_name(index, path), path));
            link_all(&mix.join(name).join("thermal"), links)?;
        }
        render(&mix.join("scenes/thermal"), sets.mix_scenes)?;
    }
    if let Some((folder, from)) = &sets.classes
        && folder != from
    {
        solar(from, folder, class_images)?;
    }
    Ok(())
}

/// Images of two folders may have one name.
fn link_name(index: usize, path: &Path) -> String {
    let name = path.file_name().map_or(String::new(), |name| name.to_string_lossy().into());
    format!("{index:06}_{name}")
}

/// Makes a folder of links; one with as many files is taken as it is.
fn link_all<'a>(
    folder: &Path,
    links: impl ExactSizeIterator<Item = (String, &'a PathBuf)>,
) -> Result<()> {
    let there = fs::read_dir(folder).map_or(0, Iterator::count);
    if there == links.len() {
        return Ok(());
    }
    let made = || folder.display().to_string();
    if there > 0 {
        bail!("{}: {there} files, expected {}: choose another --out", made(), links.len());
    }
    // Whole or absent.
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(made)?;
    }
    fs::create_dir_all(&part).with_context(made)?;
    for (name, path) in links {
        link(path, &part.join(name)).with_context(|| path.display().to_string())?;
    }
    fs::rename(&part, folder).with_context(made)
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Writes rendered scenes as files.
fn render(folder: &Path, count: usize) -> Result<()> {
    use pad::data::scenes::{SceneConfig, Size, render};
    if fs::read_dir(folder).map_or(0, Iterator::count) == count {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let config = SceneConfig::new(Size::new(512, 640), 0);
    for index in 0..count {
        let path = folder.join(format!("{index:05}.png"));
        if path.is_file() {
            continue;
        }
        let scene = render(&config, index as u64)?;
        let (width, height) = (scene.size.width as u32, scene.size.height as u32);
        let picture = image::GrayImage::from_raw(width, height, scene.gray);
        let picture = picture.context("a scene of another size than it says")?;
        let part = path.with_extension("part.png");
        picture.save(&part)?;
        fs::rename(&part, &path)?;
    }
    Ok(())
}

/// Makes a folder per class of the solar modules, split by class: the same images at every call.
fn solar(from: &Path, folder: &Path, most: Option<[usize; 2]>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let path = from.join("module_metadata.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let modules: BTreeMap<String, Value> =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let parts = split_classes(&modules, most).with_context(|| path.display().to_string())?;
    let mut missing = 0;
    let part_folder = folder.with_extension("part");
    if part_folder.exists() {
        fs::remove_dir_all(&part_folder)?;
    }
    for (name, file) in parts {
        let file = from.join(file);
        if !file.is_file() {
            missing += 1;
            continue;
        }
        let place = part_folder.join(name);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        link(&file, &place).with_context(|| place.display().to_string())?;
    }
    if missing > 0 {
        eprintln!("warning: {missing} images of {} are missing", path.display());
    }
    fs::rename(&part_folder, folder).with_context(|| folder.display().to_string())
}

/// Splits modules into `train/CLASS/FILE` and `val/CLASS/FILE`, at most `most` of a class; returns the name in the new
/// folder and the path in the old one.
pub(crate) fn split_classes(
    modules: &BTreeMap<String, Value>,
    most: Option<[usize; 2]>,
) -> Result<Vec<(String, String)>> {
    let mut classes: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    let key = Key::new(0).purpose(Purpose::Split);
    for (number, module) in modules {
        let fields = (module["anomaly_class"].as_str(), module["image_filepath"].as_str());
        let (Some(class), Some(file)) = fields else {
            bail!("module {number}: expected `anomaly_class` and `image_filepath`");
        };
        classes.entry(class).or_default().push((key.named(file).stream().next_u64(), file));
    }
    let mut parts = Vec::new();
    for (class, mut files) in classes {
        files.sort_unstable();
        let tested = ((files.len() as f64 * TESTED).round() as usize).clamp(1, files.len());
        let (val, train) = files.split_at(tested);
        for (part, files, at) in [("train", train, 0), ("val", val, 1)] {
            let most = most.map_or(files.len(), |most| most[at].min(files.len()));
            for (_, file) in &files[..most] {
                let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
                parts.push((format!("{part}/{class}/{name}"), file.to_string()));
            }
        }
    }
    Ok(parts)
}
