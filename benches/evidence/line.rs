//! A command line of `pad`.

use std::{fmt, path::Path};

use super::{
    backbone::Backbone,
    cell::{RECIPE, text},
    row::Pretraining,
};

/// A command line that is put together.
pub(crate) struct Line(pub(crate) Vec<String>);

impl Line {
    pub(crate) fn new(words: &[&str]) -> Self {
        Self(words.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn flag(&mut self, name: &str, value: impl fmt::Display) {
        self.0.extend([name.to_string(), value.to_string()]);
    }

    pub(crate) fn recipe(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/evidence/recipes");
        let folder = folder.canonicalize().unwrap_or(folder);
        self.flag(RECIPE, text(&folder.join(name).with_extension("toml")));
    }

    /// What a pre-training starts from.
    pub(crate) fn weights(&mut self, backbone: &Backbone, run: &Pretraining) {
        if run.paradigm == "scratch" {
            self.flag("--weights", "none");
            self.0.extend(backbone.scratch.iter().map(ToString::to_string));
        } else {
            self.start(backbone, None);
        }
    }

    /// The weights of a run, or of the backbone.
    pub(crate) fn start(&mut self, backbone: &Backbone, run: Option<&Path>) {
        match run {
            Some(run) => self.flag("--weights", text(run)),
            None => {
                self.flag("--weights", &backbone.weights);
                if let Some(model) = backbone.model {
                    self.flag("--model", model);
                }
            }
        }
    }
}
