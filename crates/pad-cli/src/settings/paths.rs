//! Files and folders that settings name.

use std::path::{Path, PathBuf};

use crate::tools::shipped;

/// Whether weights are given by a name: of weights inside this program, or `none`.
pub fn is_name(weights: &str) -> bool {
    weights == "none" || shipped::find(weights).is_some()
}

/// Files and folders that settings name, by setting, to be found from any working directory.
#[derive(Debug, Default)]
pub struct Paths<'a> {
    /// Weights. What is no path stays as it is: a name, `hf://..`, what does not exist.
    pub weights: Vec<(&'static str, &'a mut String)>,
    /// Folders.
    pub folders: Vec<(&'static str, &'a mut PathBuf)>,
}

impl<'a> Paths<'a> {
    /// These and others.
    pub fn and(mut self, others: Paths<'a>) -> Self {
        self.weights.extend(others.weights);
        self.folders.extend(others.folders);
        self
    }

    /// The settings that name them.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let weights = self.weights.iter().map(|(name, _)| *name);
        weights.chain(self.folders.iter().map(|(name, _)| *name))
    }

    /// Those of the settings for whose names `wanted` returns true.
    pub fn only(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        self.weights.retain(|(name, _)| wanted(name));
        self.folders.retain(|(name, _)| wanted(name));
        self
    }

    /// Makes paths independent of the working directory: the run's folder may be used from any.
    pub fn make_absolute(self) {
        let absolute = |path: &Path| {
            if path.exists() { std::path::absolute(path).ok() } else { None }
        };
        self.replace(absolute, |_, _| {});
    }

    /// Finds what is not where it was: paths of another working directory, or of a tree that was
    /// moved, with `folder` in it.
    pub fn find_from(self, folder: &Path) {
        let moved = |path: &Path| {
            if path.exists() { None } else { pad::ops::fs::find_from(folder, path) }
        };
        self.replace(moved, |before, now| {
            tracing::warn!("{} is not there: {} is used", before.display(), now.display());
        });
    }

    fn replace(self, with: impl Fn(&Path) -> Option<PathBuf>, say: impl Fn(&Path, &Path)) {
        // `asset` and `none` are names, whatever lies in the working directory.
        for (_, weights) in self.weights.into_iter().filter(|(_, weights)| !is_name(weights)) {
            let path = Path::new(weights.as_str());
            if let Some(found) = with(path)
                && let Some(text) = found.to_str()
            {
                say(path, &found);
                *weights = text.into();
            }
        }
        for (_, folder) in self.folders {
            if let Some(found) = with(folder) {
                say(folder, &found);
                *folder = found;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        detect::settings::Detect,
        pretrain::settings::Pretrain,
        settings::{RunSettings, Trainer},
    };

    #[test]
    fn every_path_of_a_run_is_found_again_after_its_tree_has_moved() {
        let tree = tempfile::tempdir().unwrap();
        let run = tree.path().join("runs/first");
        std::fs::create_dir_all(&run).unwrap();
        let teacher = tree.path().join("clip.safetensors");
        let images = tree.path().join("frames");
        std::fs::write(&teacher, "weights").unwrap();
        std::fs::create_dir(&images).unwrap();

        let mut pretrain =
            Pretrain { teacher: Some("/elsewhere/clip.safetensors".into()), ..Default::default() };
        pretrain.paths().find_from(&run);
        assert_eq!(pretrain.teacher.as_deref(), teacher.to_str());
        let mut detect =
            Detect { images_root: Some("/elsewhere/frames".into()), ..Default::default() };
        detect.paths().find_from(&run);
        assert_eq!(detect.images_root, Some(images.clone()));
        let weights = teacher.to_str().unwrap().to_string();
        let mut settings =
            RunSettings { data: Some("/elsewhere/frames".into()), weights, ..Default::default() };
        settings.paths().find_from(&run);
        assert_eq!(settings.data, Some(images));
        assert_eq!(settings.weights, teacher.to_str().unwrap());
    }

    #[test]
    fn paths_become_absolute_and_names_stay() {
        let mut run = RunSettings { data: Some("src".into()), ..Default::default() };
        run.weights = "asset".into();
        run.paths().make_absolute();
        assert!(run.data.unwrap().is_absolute());
        assert_eq!(run.weights, "asset");
        let mut pretrain = Pretrain { teacher: Some("Cargo.toml".into()), ..Default::default() };
        pretrain.paths().make_absolute();
        assert!(Path::new(pretrain.teacher.as_deref().unwrap()).is_absolute());
        let mut pretrain =
            Pretrain { teacher: Some("hf://openai/clip".into()), ..Default::default() };
        pretrain.paths().make_absolute();
        assert_eq!(pretrain.teacher.as_deref(), Some("hf://openai/clip"));
        // Those of some settings alone.
        let mut run = RunSettings { data: Some("src".into()), ..Default::default() };
        run.weights = "Cargo.toml".into();
        run.paths().only(|name| name == "weights").make_absolute();
        assert_eq!(run.data, Some("src".into()));
        assert!(Path::new(&run.weights).is_absolute());
    }
}
