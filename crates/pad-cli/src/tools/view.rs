//! How an image becomes the input of a network that only looks at it.

use std::{collections::BTreeMap, fmt};

use clap::{Args, ValueEnum};
use pad::{
    ImageSize,
    data::{
        transform::{Crop, ImagePipeline, Normalize},
        window::Window,
    },
    vit::ViTConfig,
};

use super::{run_facts::RunFacts, values::image_size};

/// Which part of an image is the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Fit {
    /// The centre: the short side is resized to 8/7 of the input's, and what exceeds the input is
    /// cut off
    #[default]
    Center,
    /// The whole image, resized to the input's height and width; its aspect changes
    Whole,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Center => "center",
            Self::Whole => "whole",
        })
    }
}

/// Flags of the input.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct View {
    /// Height,width of the input, or one number for both, pixels [default: the run's, else 224]
    #[arg(long, value_name = "PIXELS", value_parser = image_size)]
    image_size: Option<ImageSize>,
    /// Which part of an image is the input
    #[arg(long, value_enum, default_value_t)]
    fit: Fit,
    /// Range of 16-bit and float images that is mapped to black and white: percentiles of each
    /// image (1%,99%) or values of the file (28000,31000); or a gain control of each image:
    /// plateau, plateau:LIMIT%, clahe, clahe:TILES,LIMIT [default: the run's, else 1%,99%]
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    levels: Option<Window>,
    /// Normalisation: msip, downstream, imagenet, clip, or MEAN,STD of values in 0..1 [default:
    /// the run's, else that of the weights, else msip]
    #[arg(long, value_name = "NAME")]
    normalize: Option<Normalize>,
}

impl View {
    /// The size asked for, or the run's.
    pub fn known_size(&self, run: &RunFacts) -> Option<ImageSize> {
        self.image_size.or(run.image_size)
    }

    /// The size asked for, the run's, or 224x224.
    pub fn size(&self, run: &RunFacts) -> ImageSize {
        self.known_size(run).unwrap_or(ImageSize::square(224))
    }

    /// The input of `encoder`, whose file says that it was trained with `stats`.
    pub fn input(&self, run: &RunFacts, encoder: &ViTConfig, stats: Option<Normalize>) -> Input {
        let known = [
            (self.normalize.clone(), "--normalize"),
            (run.normalize.clone(), "the run's"),
            (stats, "that of the weights"),
        ];
        let known = known.into_iter().find_map(|(normalize, from)| Some((normalize?, from)));
        let (normalize, origin) = known.unwrap_or((
            Normalize::msip(),
            "the weights do not say theirs: infrared images of MSIP, see --normalize",
        ));
        let evaluation = ImagePipeline::evaluation(encoder.image_size);
        let pipeline = ImagePipeline {
            channels: encoder.in_channels,
            crop: match self.fit {
                Fit::Center => evaluation.crop,
                Fit::Whole => Crop::Whole,
            },
            normalize,
            window: self.levels.or(run.levels).unwrap_or_default(),
            ..evaluation
        };
        Input { pipeline, fit: self.fit, origin }
    }
}

/// How images become input. As text: what a user should know of it.
#[derive(Clone, Debug)]
pub struct Input {
    /// From an image to the input.
    pub pipeline: ImagePipeline,
    fit: Fit,
    /// Where the normalisation comes from.
    origin: &'static str,
}

impl Input {
    /// Entries for the metadata of a file of features.
    pub fn notes(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("image_size".into(), self.pipeline.size.to_string()),
            ("fit".into(), self.fit.to_string()),
            ("levels".into(), self.pipeline.window.to_string()),
        ])
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImagePipeline { size, crop, normalize, window, .. } = &self.pipeline;
        match crop {
            Crop::Center(crop) => writeln!(
                f,
                "input: {size}, the centre of each image after its short side is resized to {} (--fit whole uses all \
                 of it)",
                crop.short_side
            )?,
            _ => writeln!(f, "input: {size}, each image as a whole")?,
        }
        write!(f, "normalisation: {normalize} ({}); 16-bit levels: {window}", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        view: View,
    }

    fn input(flags: &[&str], run: &RunFacts, stats: Option<Normalize>) -> Input {
        let line = Line::parse_from(["pad"].iter().chain(flags));
        let size = line.view.size(run);
        let encoder = ViTConfig { image_size: size, ..ViTConfig::new(16, 16, 1, 2) };
        line.view.input(run, &encoder, stats)
    }

    #[test]
    fn flags_come_before_the_run_before_the_weights() {
        let run = RunFacts {
            normalize: Some(Normalize::msip()),
            image_size: Some(ImageSize::square(96)),
            levels: Some(Window::Fixed { low: 1.0, high: 9.0 }),
            ..Default::default()
        };
        let imagenet = Some(Normalize::imagenet());
        let given = input(&["--normalize=clip", "--image-size=64,80"], &run, imagenet.clone());
        assert_eq!(given.pipeline.normalize, "clip".parse().unwrap());
        assert_eq!(given.pipeline.size, ImageSize::new(64, 80));
        let of_run = input(&[], &run, imagenet.clone());
        assert_eq!(of_run.pipeline.normalize, Normalize::msip());
        assert_eq!(of_run.pipeline.window, Window::Fixed { low: 1.0, high: 9.0 });
        assert_eq!(of_run.pipeline.size, ImageSize::square(96));
        let of_weights = input(&[], &RunFacts::default(), imagenet);
        assert_eq!(of_weights.pipeline.normalize, Normalize::imagenet());
        let unknown = input(&["--levels=-5,9"], &RunFacts::default(), None);
        assert_eq!(unknown.pipeline.normalize, Normalize::msip());
        assert_eq!(unknown.pipeline.window, Window::Fixed { low: -5.0, high: 9.0 });
    }

    #[test]
    fn the_input_is_described() {
        let imagenet = Some(Normalize::imagenet());
        let center = input(&[], &RunFacts::default(), imagenet.clone());
        assert_eq!(
            center.to_string(),
            "input: 224x224, the centre of each image after its short side is resized to 256 (--fit whole uses all of \
             it)\nnormalisation: imagenet (that of the weights); 16-bit levels: 1%,99%"
        );
        let whole = input(&["--fit=whole"], &RunFacts::default(), imagenet);
        assert!(whole.to_string().starts_with("input: 224x224, each image as a whole\n"));
        assert_eq!(whole.notes()["fit"], "whole");
        assert_eq!(whole.notes()["image_size"], "224x224");
    }
}
