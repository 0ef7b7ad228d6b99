//! Turns a folder of infrared images into feature vectors and finds the most similar images.
//!
//!     cargo run --release --example embed                                        # rendered scenes
//!     cargo run --release --example embed -- --data DIR --weights FILE           # any ViT that `pad` opens
//!     cargo run --release --example embed -- --data DIR --weights runs/example-pretrain
//!
//! Writes `runs/example-embed/features.safetensors`: `features` (images, D), names in its metadata.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use candle_core::Device;
use clap::Parser;
use pad::{
    ImageSize,
    checkpoint::{BackboneOptions, FloatType},
    data::{
        Loader, LoaderConfig, SharedDataset,
        image::Image,
        scenes::{SceneConfig, SceneSet, Size},
        sets::open_images,
        transform::{ImagePipeline, Normalize},
    },
    ssl::{OpenOptions, Pool, embed::embed, open_encoder},
};

#[derive(Parser)]
struct Program {
    /// Folder of infrared images [default: rendered scenes]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Weights: a file of any known format, a run folder, or `asset`, the small backbone of this repository
    #[arg(long, default_value = "asset")]
    weights: String,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "runs/example-embed/features.safetensors")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Program { data, weights, out } = Program::parse();
    let device = Device::Cpu;
    pad::ops::join_workers(None)?;
    let images: SharedDataset<Image> = match data {
        Some(folder) => open_images(&folder)?,
        None => Arc::new(SceneSet::render(&SceneConfig::new(Size::new(256, 320), 0), 60)?),
    };
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let options = BackboneOptions::default().with_named("asset", pad::assets::VIT_PICO_RGB);
    let options = OpenOptions::default().with_backbone(options);
    let encoder = open_encoder(&weights, &options)?;
    // Features mean something only under the statistics that the weights were trained with.
    let normalize = encoder.input_stats.clone().unwrap_or_else(Normalize::msip);
    println!("{weights}: input statistics {normalize}");
    let pipeline = ImagePipeline {
        normalize: normalize.clone(),
        ..ImagePipeline::evaluation(ImageSize::square(224))
    };
    let config = LoaderConfig::default().in_order();
    let loader: Loader = Loader::new(images, pipeline, config)?;
    let found = embed(&encoder.vit, &loader, Pool::Mean, &device, |_| true)?;
    let found = found.context("stopped")?.with_input_stats(normalize);
    found.save(&out, FloatType::F32, &Default::default())?;
    println!("wrote {}: {:?}", out.display(), found.features.dims());

    // The nearest neighbour of a few images, by cosine.
    let lengths = found.features.sqr()?.sum_keepdim(1)?.sqrt()?;
    let unit = found.features.broadcast_div(&lengths)?;
    let similar = unit.matmul(&unit.t()?)?;
    let order: Vec<Vec<u32>> = similar.arg_sort_last_dim(false)?.to_vec2()?;
    for (index, order) in order.iter().enumerate().step_by(order.len().div_ceil(5)) {
        if let Some(&nearest) = order.iter().find(|&&other| other as usize != index) {
            let cosine: f32 = similar.get(index)?.get(nearest as usize)?.to_scalar()?;
            let names = &found.names;
            println!("{} is most like {} ({cosine:.3})", names[index], names[nearest as usize]);
        }
    }
    Ok(())
}
