//! What the settings in a run's folder say of its images.

use std::path::{Path, PathBuf};

use pad::{
    ImageSize,
    data::{image::DecodeOptions, transform::Normalize, window::Window},
};

use super::shipped;
use crate::run::{Result, read_text};

/// The settings of a run that a program using its weights needs. Each is `None` where the run does
/// not say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFacts {
    /// Folder of its images.
    pub data: Option<PathBuf>,
    /// Size of its input.
    pub image_size: Option<ImageSize>,
    /// How 16-bit values became levels.
    pub levels: Option<Window>,
    /// Normalisation of its input.
    pub normalize: Option<Normalize>,
    /// What it reads of a file.
    pub choice: DecodeOptions,
}

impl RunFacts {
    /// Reads `config.toml` in the folder `source`, or beside the file `source`. Weights without
    /// such a file say nothing, nor do those inside this program.
    pub fn of(source: &str) -> Result<Self> {
        if shipped::find(source).is_some() {
            return Ok(Self::default());
        }
        let source = Path::new(source);
        let folder = if source.is_dir() { Some(source) } else { source.parent() };
        let Some(path) = folder.map(|folder| folder.join("config.toml")) else {
            return Ok(Self::default());
        };
        if !source.exists() || !path.is_file() {
            return Ok(Self::default());
        }
        let text = read_text(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| format!("{}: {}", path.display(), error.message()))?;
        let mut facts = Self::read(&table);
        let data = facts.data.as_deref().filter(|data| !data.exists());
        let found =
            data.zip(folder).and_then(|(data, folder)| pad::ops::fs::find_from(folder, data));
        facts.data = found.or(facts.data);
        Ok(facts)
    }

    /// Settings of all trainers and of all versions; an entry of another form is left out.
    fn read(table: &toml::Table) -> Self {
        let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
        let pair = |key: &str| match numbers(table.get(key)?)?[..] {
            [low, high] => Some((low, high)),
            _ => None,
        };
        // The first versions had two entries in place of `levels`.
        let fixed = || pair("fixed_window").map(|(low, high)| Window::Fixed { low, high });
        let percentiles =
            || pair("percentiles").map(|(low, high)| Window::Percentile { low, high });
        let choice = DecodeOptions {
            radiometric: text("radiometric").and_then(|text| text.parse().ok()).unwrap_or_default(),
            page: table.get("page").and_then(|page| usize::try_from(page.as_integer()?).ok()),
            alpha_is_band: table.get("alpha_is_band").and_then(toml::Value::as_bool) == Some(true),
            ..Default::default()
        };
        Self {
            choice,
            data: text("data").map(PathBuf::from),
            image_size: table.get("image_size").and_then(size),
            levels: text("levels")
                .and_then(|text| text.parse().ok())
                .or_else(fixed)
                .or_else(percentiles),
            normalize: text("normalize").and_then(|text| text.parse().ok()),
        }
    }
}

fn numbers(value: &toml::Value) -> Option<Vec<f64>> {
    let number = |value: &toml::Value| value.as_float().or(value.as_integer().map(|n| n as f64));
    value.as_array()?.iter().map(number).collect()
}

/// One number, `[side]`, `[height, width]` or the text of `--image-size`.
fn size(value: &toml::Value) -> Option<ImageSize> {
    let side = |value: &toml::Value| usize::try_from(value.as_integer()?).ok();
    match value {
        toml::Value::Integer(_) => side(value).map(ImageSize::square),
        toml::Value::String(text) => super::values::image_size(text).ok(),
        toml::Value::Array(sides) => match &sides[..] {
            [both] => side(both).map(ImageSize::square),
            [height, width] => Some(ImageSize { height: side(height)?, width: side(width)? }),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &str) -> RunFacts {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), b"").unwrap();
        let of = |path: &Path| RunFacts::of(path.to_str().unwrap()).unwrap();
        let found = of(folder.path());
        assert_eq!(of(&folder.path().join("model.safetensors")), found);
        found
    }

    #[test]
    fn settings_of_old_and_new_runs() {
        let old = facts(
            "image_size = [96, 128]\nno_roi = false\npercentiles = [2, 98.0]\nnormalize = \"msip\"\n",
        );
        assert_eq!(old.image_size, Some(ImageSize::new(96, 128)));
        assert_eq!(old.levels, Some(Window::Percentile { low: 2.0, high: 98.0 }));
        assert_eq!(old.normalize, Some(Normalize::msip()));
        let fixed = facts(
            "percentiles = [1.0, 99.0]\nfixed_window = [28000.0, 31000.0]\nimage_size = [64]\n",
        );
        assert_eq!(fixed.levels, Some(Window::Fixed { low: 28000.0, high: 31000.0 }));
        assert_eq!(fixed.image_size, Some(ImageSize::square(64)));
        let new = facts(
            "data = \"images\"\nlevels = \"1%,99%\"\nimage_size = \"64,80\"\nnormalize = \"0.5,0.25\"\n",
        );
        assert_eq!(new.levels, Some(Window::default()));
        assert_eq!(new.data.as_deref(), Some(Path::new("images")));
        assert_eq!(new.image_size, Some(ImageSize::new(64, 80)));
        assert_eq!(new.normalize, Some(Normalize { mean: [0.5; 3], std: [0.25; 3] }));
        assert_eq!(facts(""), RunFacts::default());
        assert_eq!(RunFacts::of("asset").unwrap(), RunFacts::default());
        assert_eq!(RunFacts::of("hf://owner/model").unwrap(), RunFacts::default());
    }
}
