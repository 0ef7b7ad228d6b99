//! The sets: folders of links in the layouts that `pad` reads, or rendered scenes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use pad::data::fingerprint::Fingerprint;

use super::{
    Result,
    budget::Budget,
    cell::{Cell, Work, text},
    flags::Flags,
    images::{evaluated_images, expect_different, training_images},
    judge::Judge,
    line::Line,
    made::{expect_made_of, link_all, link_name, make_of, render},
    solar::{self, link_classes},
    words::counted,
};

/// Where the rendered scenes of the mix are.
const SCENES: &str = "scenes";

/// Names that no other folder of the mix may have: a folder `thermal` would be taken for the whole mix.
const RESERVED: [&str; 2] = [SCENES, "thermal"];

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
        for given in &flags.mix {
            let Some(path) = folder(&Some(given.clone()), "--mix")? else { continue };
            // That of a link, where there is one: another name for the same folder.
            let name = given.file_name().or(path.file_name());
            let name = name.map_or("images".into(), |name| name.to_string_lossy().into_owned());
            ensure!(
                !(RESERVED.contains(&name.as_str()) || name.starts_with('.')),
                "{}: a folder of the mix cannot be called `{name}`, expected another name (a link has its own)",
                given.display()
            );
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
            let made = from.join(solar::LIST).is_file();
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

    /// The number of images that a judge's set has for evaluation; `None` where it cannot be told.
    pub(crate) fn evaluated(&self, judge: Judge) -> Option<usize> {
        let folder = match judge {
            Judge::Detect => self.hit_uav.as_deref(),
            Judge::Segment => self.udder.as_deref(),
            _ => None,
        };
        evaluated_images(folder?)
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
                format!("{}, and {}", names.join(", "), counted(self.mix_scenes, "rendered scene"))
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

    /// The training images of each source of the mix, by its name.
    fn listed(&self) -> Result<Vec<(&str, Vec<PathBuf>)>> {
        let mut listed = Vec::new();
        for (name, from) in &self.sources {
            listed.push((name.as_str(), training_images(from).context("--mix")?));
        }
        expect_different(listed.iter().flat_map(|(_, images)| images))?;
        Ok(listed)
    }

    /// What tells one mix from another: where its images are, their number, names and sizes.
    fn mix_record(&self, listed: &[(&str, Vec<PathBuf>)]) -> Result<String> {
        let mut text = format!("{SCENES}: {}\n", self.mix_scenes);
        for ((name, from), (_, images)) in self.sources.iter().zip(listed) {
            let mut print = Fingerprint::new();
            for path in images {
                let bytes = fs::metadata(path).with_context(|| path.display().to_string())?.len();
                let inside = path.strip_prefix(from).unwrap_or(path);
                print.add(&inside.to_string_lossy(), bytes);
            }
            text += &format!("{name}: {}, {print}\n", from.display());
        }
        Ok(text)
    }

    /// The folder of classes that is made, with what it is made of and what tells that from another.
    fn made_classes(&self) -> Result<Option<(&Path, &Path, String)>> {
        let made = self.classes.as_ref().filter(|(folder, from)| folder != from);
        let Some((folder, from)) = made else { return Ok(None) };
        let list = from.join(solar::LIST);
        let contents = fs::read(&list).with_context(|| list.display().to_string())?;
        let mut print = Fingerprint::new();
        print.add_contents(solar::LIST, &contents);
        let most = match self.budget.class_images {
            Some([train, val]) => format!("{train} and {val}"),
            None => "all".into(),
        };
        let text = format!("classes: {}, {print}\nimages of each: {most}\n", from.display());
        Ok(Some((folder.as_path(), from.as_path(), text)))
    }
}

/// Checks that folders that were made before are of the same images.
pub(crate) fn check(sets: &Sets) -> Result<()> {
    if let Some(mix) = &sets.mix {
        expect_made_of(mix, &sets.mix_record(&sets.listed()?)?)?;
    }
    if let Some((folder, _, text)) = sets.made_classes()? {
        expect_made_of(folder, &text)?;
    }
    Ok(())
}

/// Makes the folders of links and rendered scenes.
pub(crate) fn prepare(sets: &Sets) -> Result<()> {
    if let Some(mix) = &sets.mix {
        let listed = sets.listed()?;
        make_of(mix, &sets.mix_record(&listed)?)?;
        for (name, images) in &listed {
            let links =
                images.iter().enumerate().map(|(index, path)| (link_name(index, path), path));
            link_all(&mix.join(name).join("thermal"), links)?;
        }
        if sets.mix_scenes > 0 {
            render(&mix.join(SCENES).join("thermal"), sets.mix_scenes)?;
        }
    }
    if let Some((folder, from, text)) = sets.made_classes()? {
        make_of(folder, &text)?;
        link_classes(from, folder, sets.budget.class_images)?;
    }
    Ok(())
}
