//! Your own objective: the encoder sees an image with the noise of a cheap sensor and predicts the clean patches.
//! Everything else (crops, optimiser, loop, held-out loss, adapters) is the library's.
//!
//!     cargo run --release --example custom_objective         # about a minute

use candle_core::{D, Device, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear};
use pad::{
    AdapterConfig, ImageSize, Mode,
    checkpoint::{Backbone, BackboneOptions},
    data::{
        Loader, LoaderConfig,
        dataset::Subset,
        scenes::{SceneConfig, SceneSet, Size},
        transform::ImagePipeline,
    },
    params::{ParamStore, Role},
    rng::{Key, Purpose},
    ssl::{HeldOutLoss, Objective, Pretraining, read_backbone},
    train::{
        AdamW, AdamWConfig, EpochStream, Losses, Parameter, Schedule, Trainer, TrainerConfig,
        log::ProgressBar,
    },
    vit::{ViT, patches},
};

/// Removes the noise of an uncooled sensor: stripes along columns, and white noise.
struct Denoise {
    encoder: ViT,
    head: Linear,
}

impl Denoise {
    fn new(encoder: ViT, vb: VarBuilder) -> candle_core::Result<Self> {
        let config = encoder.config();
        let (dim, values) = (config.embed_dim, config.patch_values());
        Ok(Self { head: linear(dim, values, vb.pp("head"))?, encoder })
    }
}

impl Objective for Denoise {
    /// The noise (B, C, H, W): a value, so that a test can supply it, and a resumed run draws the same.
    type Draw = Tensor;

    fn draw(&self, images: &Tensor, keys: &[Key]) -> pad::ssl::Result<Tensor> {
        let (b, c, h, w) = images.dims4()?;
        let mut noise = Vec::with_capacity(b * c * h * w);
        for key in keys {
            let mut stream = key.purpose(Purpose::Mask).stream();
            let stripes: Vec<f32> = (0..w).map(|_| 0.5 * stream.normal() as f32).collect();
            let mut gray = || stripes.iter().map(|s| s + 0.3 * stream.normal() as f32).collect();
            let plane: Vec<f32> = (0..h).flat_map(|_| -> Vec<f32> { gray() }).collect();
            (0..c).for_each(|_| noise.extend_from_slice(&plane));
        }
        Ok(Tensor::from_vec(noise, (b, c, h, w), images.device())?)
    }

    fn loss(&self, images: &Tensor, noise: &Tensor, mode: Mode) -> pad::ssl::Result<Losses> {
        let tokens = self.encoder.forward(&(images + noise)?, mode)?;
        let of_patches = tokens.narrow(1, 1, tokens.dim(1)? - 1)?; // without the class token
        let predicted = self.head.forward(&of_patches)?;
        let target = patches(images, self.encoder.config().patch_size)?;
        Ok(Losses::new((predicted - target)?.sqr()?.mean(D::Minus1)?.mean_all()?))
    }
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_target(false).without_time().init(); // progress, where there is no terminal
    let device = Device::Cpu;
    pad::ops::join_workers(None)?;
    let size = ImageSize::square(112);
    let scenes = SceneSet::render(&SceneConfig::new(Size::new(192, 256), 0), 200)?;
    let (training, held_out) = Subset::all(scenes).split(0.1, None, 0)?;
    let config = LoaderConfig { batch_size: 16, ..Default::default() };
    let pipeline = ImagePipeline { size, ..Default::default() };
    let loader: Loader = Loader::new(training, pipeline, config.clone())?;
    let held_out: Loader =
        Loader::new(held_out, ImagePipeline::evaluation(size), config.in_order())?;

    // The frozen backbone of this repository; adapters and the new head train.
    let options = BackboneOptions::default()
        .with_named("asset", pad::assets::VIT_PICO_RGB)
        .with_reader(read_backbone);
    let backbone = Backbone::open("asset", &options)?;
    let mut vit = backbone.config()?;
    let mut weights = backbone.into_checkpoint();
    weights.retain(|name| !Role::of(name).is_decoder());
    vit.image_size = size;
    vit.adapter = Some(AdapterConfig { bottleneck: 16, ..Default::default() });
    weights.fit(&vit)?;
    let trains = |role: Role| role.is_adapter() || role == Role::Head;
    let store = ParamStore::from_checkpoint(weights, &device, Key::new(0))
        .with_fresh(trains)
        .with_trained(trains);
    let denoise =
        store.build(|vb| Ok::<_, pad::Error>(Denoise::new(ViT::new(&vit, vb.clone())?, vb)?))?;
    println!("{}", store.summary());

    let parameters = store.planned().into_iter().map(|one| Parameter::new(one.name, one.var));
    let optimizer = AdamW::new(parameters.collect(), AdamWConfig::default())?;
    let task = Pretraining::new(&denoise, Key::new(0), &device);
    let mut loss = HeldOutLoss::new(&task, &held_out);
    let config = TrainerConfig { epochs: 8, ..Default::default() };
    Trainer::new(config, Schedule::warmup_cosine(2e-3, 0.0, 1.0, 8.0), optimizer)?
        .with_hook(&mut loss)
        .with_hook(ProgressBar::new(10))
        .run(
            &task,
            &mut EpochStream::new(loader.batches_per_epoch(), |epoch, first, stride| {
                loader.epoch_on(&device, epoch, first, stride)
            }),
        )?;
    if let (Some(before), Some(after)) = (loss.before(), loss.after()) {
        println!("held-out error of clean patches: {before:.4} before, {after:.4} after");
    }
    Ok(())
}
