//! One frozen backbone, two named adapters, switched from frame to frame without building again: a camera with a noisy
//! sensor and a black-hot one share the weights, and each has a few of its own.
//!
//!     cargo run --release --example switch_adapters    # some seconds, needs nothing: rendered scenes
//!
//! Each adapter learns to give, for the frames of its camera, the features that the bare backbone gives for the clean
//! ones. One is PAD's, the other LoRA: any kinds go together. Prints the error of every pair, and the memory beside that
//! of two whole models.

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use pad::{
    AdapterKind, BoxError, ImageSize, LoraConfig, LoraTarget, Mode,
    checkpoint::{AdapterContents, AdapterFile, Backbone, BackboneOptions, save_adapter},
    data::{
        Loader, LoaderConfig,
        dataset::Subset,
        scenes::{SceneConfig, SceneSet, Size},
        transform::ImagePipeline,
    },
    params::{ParamStore, Role, adapter_name},
    rng::{Key, Purpose},
    vit::{ViT, ViTConfig},
};

#[global_allocator] // candle allocates every result anew
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOISY: &str = "noisy";
const BLACK_HOT: &str = "black-hot";

/// What a camera makes of clean frames (B, 3, H, W).
fn seen_by(camera: &str, frames: &Tensor, key: Key) -> Result<Tensor, BoxError> {
    if camera == BLACK_HOT {
        return Ok(frames.neg()?);
    }
    let mut stream = key.purpose(Purpose::Scene).stream();
    let noise: Vec<f32> = (0..frames.elem_count()).map(|_| stream.normal() as f32).collect();
    Ok((frames + Tensor::from_vec(noise, frames.shape(), frames.device())?)?)
}

/// The mean square of the difference between features of a camera's frames and those of the clean ones.
fn error(vit: &ViT, frames: &Tensor, clean: &Tensor, mode: Mode) -> Result<Tensor, BoxError> {
    Ok((vit.forward(frames, mode)? - clean)?.sqr()?.mean_all()?)
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn main() -> Result<(), BoxError> {
    pad::ops::join_workers(None)?; // this thread works in the pool of the operators
    let size = ImageSize::square(96);
    let scenes = SceneSet::render(&SceneConfig::new(Size::new(128, 160), 0), 80)?;
    let (training, held_out) = Subset::all(scenes).split(0.2, None, 0)?;
    let batches = LoaderConfig { batch_size: 8, ..Default::default() };
    let pipeline = ImagePipeline { size, ..Default::default() };
    let training: Loader = Loader::new(training, pipeline, batches.clone())?;
    let held_out: Loader =
        Loader::new(held_out, ImagePipeline::evaluation(size), batches.in_order())?;

    // The small RGB backbone of this repository; a path or hf://owner/repo stands in its place.
    let options = BackboneOptions::default()
        .with_named("asset", pad::assets::VIT_PICO_RGB)
        .with_reader(pad::ssl::read_backbone);
    let backbone = Backbone::open("asset", &options)?;
    let plain = ViTConfig { image_size: size, ..backbone.config()? };
    let mut weights = backbone.into_checkpoint();
    weights.retain(|name| !Role::of(name).is_decoder());
    weights.fit(&plain)?;

    // One network a camera, built once. They share every tensor but the adapters'.
    let lora = LoraConfig::new(8, 16.0, &[LoraTarget::Qkv, LoraTarget::Fc1]);
    let configs = [
        (NOISY, ViTConfig { adapter: AdapterKind::Pad.adapter(), ..plain }),
        (BLACK_HOT, ViTConfig { lora: Some(lora), ..plain }),
    ];
    let store = ParamStore::from_checkpoint(weights.clone(), &Device::Cpu, Key::new(0))
        .with_fresh_adapters([NOISY, BLACK_HOT])
        .with_trained(Role::is_adapter);
    let (bare, adapted) = store.build(|vb| {
        let bare = ViT::new(&plain, vb.clone())?;
        let mut adapted = Vec::new();
        for (name, config) in &configs {
            adapted.push((*name, bare.with_adapters(name, config, vb.clone())?));
        }
        Ok::<_, pad::Error>((bare, adapted))
    })?;
    println!("{}\n", store.summary());

    for (camera, vit) in &adapted {
        let own = store.planned().into_iter().filter(|one| adapter_name(&one.name) == Some(camera));
        let vars: Vec<Var> = own.map(|one| one.var).collect();
        let mut optimizer = AdamW::new(vars, ParamsAdamW { lr: 2e-3, ..Default::default() })?;
        for epoch in 0..10_u64 {
            for batch in training.epoch(epoch, 0)? {
                let batch = batch?;
                let key = Key::new(1).epoch(epoch).sample(batch.number as u64);
                let clean = bare.forward(&batch.images, Mode::Eval)?.detach();
                let frames = seen_by(camera, &batch.images, key)?;
                let loss = error(vit, &frames, &clean, Mode::Train(key))?;
                optimizer.step(&pad::ops::backward(&loss)?)?;
            }
        }
    }

    // Every pair of camera and adapter: the network is chosen frame by frame, nothing is built again.
    println!("error of the features   bare   {NOISY:>9}   {BLACK_HOT:>9}");
    for camera in [NOISY, BLACK_HOT] {
        let mut sums = [0.0; 3];
        for batch in held_out.epoch(0, 0)? {
            let images = batch?.images;
            let clean = bare.forward(&images, Mode::Eval)?;
            let frames = seen_by(camera, &images, Key::new(2))?;
            for (sum, vit) in sums.iter_mut().zip([&bare, &adapted[0].1, &adapted[1].1]) {
                *sum += error(vit, &frames, &clean, Mode::Eval)?.to_scalar::<f32>()?;
            }
        }
        println!("{camera:>21} {:6.3} {:11.3} {:11.3}", sums[0], sums[1], sums[2]);
    }

    let bytes = |wanted: fn(Role) -> bool| -> usize {
        store.tensors(wanted).values().map(|tensor| 4 * tensor.elem_count()).sum()
    };
    let (adapters, shared) = (bytes(Role::is_adapter), bytes(|role| !role.is_adapter()));
    println!(
        "\nweights: {:.1} MiB for both, {:.1} MiB as two models",
        mib(shared + adapters),
        mib(2 * shared + adapters)
    );

    // Each adapter in a file of its own, which knows the backbone that it belongs to.
    for (name, config) in configs {
        let path = std::env::temp_dir().join(format!("{name}.safetensors"));
        save_adapter(
            &path,
            &store,
            AdapterContents::from(config).with_name(name),
            &Default::default(),
        )?;
        AdapterFile::open(&path)?.check(&weights)?; // an error for any other
    }
    Ok(())
}
