//! A picture of the masking strategies on rendered infrared scenes.
//!
//!     cargo run --release --example masks -- masks.png
//!     cargo run --release --example masks -- masks.png --teacher clip_vit_b16.safetensors
//!
//! Columns: scene, random, block, cells, attention, intensity. Without a teacher the attention is a stand-in: local
//! contrast, which a class token tends to look at.

use std::{path::PathBuf, };

use candle_core::{Device, Tensor};
use clap::Args;
use crate::run::Result;
use pad::{
    ImageSize,
    checkpoint::Checkpoint,
    data::{
        draw::Canvas,
        scenes::{SceneConfig, SceneSet, Size},
        sets::{ImageDataset, ImageDatasetConfig},
        transform::Normalize,
    },
    rng::Key,
    ssl::{ClipTeacher, Masking, Teacher},
    vit::{PatchGrid, patches},
};

/// Draws the masking strategies.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// PNG file to write
    output: PathBuf,
    /// Weights of CLIP's image tower, for attention masking
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// Scenes, a row each
    #[arg(long, default_value_t = 3)]
    count: usize,
    /// Share of patches that are removed
    #[arg(long, default_value_t = 0.6)]
    mask_ratio: f64,
    /// Seed of scenes and masks
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const SIDE: usize = 224;
const PATCH: usize = 16;
const GRID: PatchGrid = PatchGrid::new(SIDE / PATCH, SIDE / PATCH);
const REMOVED: [u8; 3] = [40, 60, 110];

/// The teacher's attention, or each patch's standard deviation.
fn importance(teacher: Option<&ClipTeacher>, images: &Tensor) -> Result<Tensor> {
    if let Some(teacher) = teacher {
        let tokens = teacher.tokens(images)?;
        tokens.expect_grid(GRID)?;
        return Ok(tokens.importance()?.ok_or("CLIP gives attention")?);
    }
    let patches = patches(images, PATCH)?;
    let centred = patches.broadcast_sub(&patches.mean_keepdim(2)?)?;
    Ok(centred.sqr()?.mean(2)?.sqrt()?)
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let device = Device::Cpu;
    let normalize = Normalize::msip();
    let teacher = match &program.teacher {
        Some(path) => {
            let clip = ClipTeacher::load(&Checkpoint::open(path)?, &device)?;
            let side = GRID.height * clip.config().patch_size;
            Some(clip.seeing(normalize.clone()).at(ImageSize::square(side)))
        }
        None => None,
    };
    let scenes =
        SceneSet::render(&SceneConfig::new(Size::new(256, 320), program.seed), program.count)?;
    let config = ImageDatasetConfig::evaluation(ImageSize::square(SIDE));
    let dataset = ImageDataset::from_source(std::sync::Arc::new(scenes), config)?;
    let images = run::images::spread(&dataset, program.count)?;
    let count = images.dim(0)?;
    let keys: Vec<Key> = (0..count as u64).map(|i| Key::new(program.seed).sample(i)).collect();
    let importance = importance(teacher.as_ref(), &images)?;
    let mut rows: Vec<Vec<Canvas>> = Vec::new();
    for i in 0..count {
        rows.push(vec![Canvas::from_tensor(&images.get(i)?, &normalize)?]);
    }
    let maskings = [
        Masking::Random,
        Masking::Block,
        Masking::Cells(2),
        Masking::Attention,
        Masking::Intensity,
    ];
    for masking in maskings {
        let mask = masking.draw(&images, GRID, program.mask_ratio, Some(&importance), &keys)?;
        for (row, removed) in rows.iter_mut().zip(mask.removed.to_vec2::<f32>()?) {
            let removed: Vec<bool> = removed.iter().map(|&value| value > 0.5).collect();
            let mut picture = row[0].clone();
            let cells = ImageSize { height: GRID.height, width: GRID.width };
            picture.cover_patches(cells, &removed, REMOVED)?;
            row.push(picture);
        }
    }
    let small = |picture: &Canvas| picture.stretched(ImageSize::square(SIDE * 5 / 14));
    let rows: Vec<Vec<Canvas>> = rows.iter().map(|row| row.iter().map(small).collect()).collect();
    Canvas::tiled(&rows, 4, [255; 3]).save_png(program.output)?;
    println!(
        "wrote {}: scene, random, block, cells, attention, intensity",
        program.output.display()
    );
    Ok(())
}

