//! A picture of the masking strategies.
//!
//!     pad masks                                        # rendered scenes, needs nothing
//!     pad masks DIR --teacher clip_vit_b16.safetensors
//!
//! Without a teacher, attention is replaced by local contrast, which a class token tends to look
//! at.

use std::path::PathBuf;

use candle_core::Device;
use clap::Args;
use pad::{
    ImageSize,
    checkpoint::Checkpoint,
    data::{
        sets::open_images,
        transform::{ImagePipeline, Normalize},
        window::Window,
    },
    ssl::{
        TeacherModel, TeacherOptions,
        pictures::{MaskPicture, masks},
    },
    vit::ViTConfig,
};

use crate::{
    run::Result,
    tools::{
        data::Data,
        images::{scenes, spread},
        output::{Replace, make_parent, print},
        reading::{Files, read_as},
        values::{count, image_size, inner_share},
    },
};

/// Draws the masking strategies of pre-training on a few images
#[derive(Args, Debug)]
#[command(
    after_help = "Without DIR scenes are rendered. Without --teacher, attention is replaced by local contrast."
)]
pub(crate) struct Program {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    data: Data,
    /// PNG file to write
    #[arg(long, value_name = "FILE", default_value = "masks.png")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// Weights of CLIP's image tower, for attention masking: a file, a folder, or
    /// hf://OWNER/REPO[/FILE]
    #[arg(long, value_name = "WEIGHTS")]
    teacher: Option<String>,
    /// Number of images, a row each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count)]
    count: usize,
    /// Share of masked patches, above 0 and below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.6, value_parser = inner_share)]
    mask_ratio: f64,
    /// Patch size, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 16, value_parser = count)]
    patch_size: usize,
    /// Height,width of the images, or one number for both, pixels
    #[arg(long, value_name = "PIXELS", default_value = "224", value_parser = image_size)]
    image_size: ImageSize,
    /// Range of 16-bit and float images that is mapped to black and white: percentiles of each
    /// image (1%,99%) or values of the file (28000,31000); or a gain control of each image:
    /// plateau, plateau:LIMIT%, clahe, clahe:TILES,LIMIT
    #[arg(long, value_name = "LOW,HIGH", default_value_t, allow_hyphen_values = true)]
    levels: Window,
    /// Seed of scenes and masks
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    program.replace.check(&program.out)?;
    let images = program.data.folder().map(open_images).transpose()?;
    let normalize = Normalize::msip();
    let student =
        ViTConfig { image_size: program.image_size, ..ViTConfig::pico(program.patch_size) };
    // Patches that do not fill the image are an error before anything is read.
    student.grid()?;
    let teacher = match &program.teacher {
        Some(source) => {
            let options = TeacherOptions { input_stats: normalize.clone(), ..Default::default() };
            let opened =
                TeacherModel::open(Checkpoint::open(source)?, &student, &options, &Device::Cpu)?;
            Some(opened.teacher)
        }
        None => None,
    };
    let pipeline = ImagePipeline {
        normalize: normalize.clone(),
        window: program.levels,
        ..ImagePipeline::evaluation(program.image_size)
    };
    let images = match images {
        Some(images) => {
            let images = read_as(images, program.files.over(&Default::default()));
            spread(&images, &pipeline, program.count)?
        }
        None => spread(&scenes(program.count, program.seed)?, &pipeline, program.count)?,
    };
    let picture = MaskPicture {
        patch_size: program.patch_size,
        mask_ratio: program.mask_ratio,
        seed: program.seed,
        ..Default::default()
    };
    make_parent(&program.out)?;
    masks(&images, &normalize, teacher.as_deref(), &picture)?.save_png(&program.out)?;
    let names: Vec<String> = picture.maskings.iter().map(ToString::to_string).collect();
    print(format_args!("wrote {}: input, {}", program.out.display(), names.join(", ")))
}
