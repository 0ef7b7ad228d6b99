//! The predicted memory of a training run beside what the system counts.

use std::process::Command;

use candle_core::Device;
use pad_adapter::{AdapterConfig, AdapterKind, Scale, params::ParamStore, vit::ViTConfig};
use pad_data::{
    Dataset, Loader, LoaderConfig,
    image::{DecodeOptions, Image, Pixels},
    sets::ImageInfo,
    transform::ImagePipeline,
};
use pad_ops::{ImageSize, MatmulPrecision, rng::Key};
use pad_ssl::{HeldOutLoss, Mae, MaeConfig, MemorySettings, Paradigm, Pretraining, parameters};
use pad_train::{AdamW, AdamWConfig, EpochStream, Schedule, Trainer, TrainerConfig};

/// As in the programs: the allocator decides how much freed memory stays.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// In the environment of a process that measures: which case.
const CASE: &str = "PAD_MEMORY_CASE";

const PAD: Paradigm = Paradigm::Pad { gate_frozen: 0.0, decoder_embed: false };
const FULL: Paradigm = Paradigm::Full { layer_decay: None };

#[derive(Clone, Copy)]
struct Case {
    paradigm: Paradigm,
    adapter: AdapterKind,
    batch: usize,
    layer_scale: bool,
    checkpointing: bool,
    precision: MatmulPrecision,
    /// Smallest and largest quotient of what is predicted and what is measured.
    corridor: [f64; 2],
}

const PLAIN: Case = Case {
    paradigm: PAD,
    adapter: AdapterKind::Pad,
    batch: 16,
    layer_scale: false,
    checkpointing: false,
    precision: MatmulPrecision::F32,
    corridor: [0.85, 1.15],
};

/// What allocators keep weighs more in the small ones and in those that keep little.
const CASES: [Case; 8] = [
    PLAIN,
    Case { batch: 8, layer_scale: true, ..PLAIN },
    Case { paradigm: FULL, batch: 8, ..PLAIN },
    Case { batch: 4, corridor: [0.8, 1.25], ..PLAIN },
    Case { checkpointing: true, corridor: [0.8, 1.25], ..PLAIN },
    Case { precision: MatmulPrecision::Bf16, corridor: [0.8, 1.25], ..PLAIN },
    Case { adapter: AdapterKind::Lora, ..PLAIN },
    Case { adapter: AdapterKind::Houlsby, corridor: [0.8, 1.25], ..PLAIN },
];

fn settings(case: Case) -> MemorySettings {
    MemorySettings {
        from_checkpoint: false,
        checkpointing: case.checkpointing,
        matmul_precision: case.precision,
        ..MemorySettings::new(case.paradigm, case.batch)
    }
}

fn config(Case { paradigm, adapter, layer_scale, .. }: Case) -> MaeConfig {
    let kind = paradigm.has_adapters().then_some(adapter);
    let (adapter, lora) = (kind.and_then(AdapterKind::adapter), kind.and_then(AdapterKind::lora));
    let layer_scale = layer_scale.then_some(1e-5);
    let encoder = ViTConfig { adapter, lora, layer_scale, ..ViTConfig::small(16) };
    MaeConfig { encoder, decoder_embed_dim: 256, decoder_num_heads: 8, ..Default::default() }
}

fn store(paradigm: Paradigm, config: &MaeConfig) -> ParamStore {
    let mut store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    for (name, table) in Mae::tables(config, &Device::Cpu).unwrap() {
        store = store.with_value(name, table);
    }
    store.with_plan(paradigm.plan(config.encoder.depth, 1))
}

#[test]
fn weights_are_counted() {
    let learnable = AdapterConfig { scale: Scale::Learnable { init: 0.1 }, ..Default::default() };
    let encoders = [
        ViTConfig::small(16),
        ViTConfig { adapter: Some(AdapterConfig::default()), ..ViTConfig::small(16) },
        ViTConfig { adapter: Some(learnable), layer_scale: Some(1.0), ..ViTConfig::tiny(8) },
        ViTConfig::tiny(16).clip(),
        ViTConfig { adapter: AdapterKind::Houlsby.adapter(), ..ViTConfig::tiny(16) },
        ViTConfig { lora: AdapterKind::Dora.lora(), ..ViTConfig::tiny(16) },
    ];
    for encoder in encoders {
        let config = MaeConfig { encoder, decoder_depth: 2, ..Default::default() };
        for paradigm in [PAD, FULL, Paradigm::DecoderOnly] {
            let adapted = encoder.adapter.is_some() || encoder.lora.is_some();
            if paradigm.has_adapters() != adapted {
                continue;
            }
            let store = store(paradigm, &config);
            store.build(|vb| Mae::new(&config, vb)).unwrap();
            let all: usize = store.tensors(|_| true).values().map(|t| t.elem_count()).sum();
            let trained: usize = store.planned().iter().map(|p| p.var.elem_count()).sum();
            let settings =
                MemorySettings { from_checkpoint: false, ..MemorySettings::new(paradigm, 1) };
            let memory = config.step_memory(&settings).unwrap();
            assert_eq!(memory.weights, 4 * all, "{encoder:?} {paradigm:?}");
            assert_eq!(memory.training, 4 * 4 * trained, "{encoder:?} {paradigm:?}");
        }
    }
}

/// Every case in a process of its own: what one leaves behind would hide what the next takes.
#[test]
#[cfg(target_os = "linux")]
fn runs_take_what_was_predicted() {
    for (index, case) in CASES.into_iter().enumerate() {
        let predicted = config(case).step_memory(&settings(case)).unwrap().total();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_case", "--ignored", "--nocapture", "--test-threads=1"])
            .env(CASE, index.to_string())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let measured = printed.lines().find_map(|line| line.split("measured ").nth(1));
        let measured: f64 = measured.unwrap_or_else(|| panic!("{printed}")).parse().unwrap();
        let ratio = predicted as f64 / 1024.0 / measured;
        println!("case {index}: {} KiB predicted, {measured} measured", predicted / 1024);
        assert!(
            (case.corridor[0]..case.corridor[1]).contains(&ratio),
            "case {index}: {} KiB predicted, {measured} KiB measured",
            predicted / 1024
        );
    }
}

/// Grey images of one size.
struct Grey(usize);

impl Dataset for Grey {
    type Sample = Image;

    fn len(&self) -> usize {
        self.0
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn classes(&self) -> &() {
        &()
    }
    fn info(&self, _: usize) -> pad_data::Result<ImageInfo> {
        Ok(ImageInfo::default())
    }
    fn get(&self, index: usize, _: &DecodeOptions) -> pad_data::Result<Image> {
        let size = ImageSize::square(256);
        let levels = (0..size.area()).map(|i| (i * (index + 3) % 251) as u8);
        Image::new(size, 1, Pixels::U8(levels.collect()))
    }
}

/// A run with evaluation and a loader: two updates.
#[test]
#[ignore = "a part of runs_take_what_was_predicted"]
fn one_case() {
    let Some(index) = std::env::var(CASE).ok().and_then(|case| case.parse::<usize>().ok()) else {
        return;
    };
    let Case { paradigm, batch, checkpointing, precision, .. } = CASES[index];
    let config = config(CASES[index]);
    let store = store(paradigm, &config);
    let mae = store.build(|vb| Mae::new(&config, vb)).unwrap();
    let mae = mae.with_checkpointing(checkpointing).with_matmul_precision(precision);
    let optimizer = AdamW::new(parameters(&store, 0.05), AdamWConfig::default()).unwrap();
    let task = Pretraining::new(&mae, Key::new(1), &Device::Cpu);
    let loader = |batches: usize| -> Loader {
        let config = LoaderConfig { batch_size: batch, ..Default::default() };
        Loader::new(Grey(batches * batch), ImagePipeline::default(), config).unwrap()
    };
    let (training, held_out) = (loader(4), loader(1));
    let mut evaluation = HeldOutLoss::new(&task, &held_out);
    let trainer = TrainerConfig { epochs: 1, max_steps: Some(2), ..Default::default() };
    let mut batches = EpochStream::new(training.batches_per_epoch(), |epoch, first, stride| {
        training.epoch_strided(epoch, first, stride)
    });
    Trainer::new(trainer, Schedule::Constant { lr: 1e-4 }, optimizer)
        .unwrap()
        .with_hook(&mut evaluation)
        .run(&task, &mut batches)
        .unwrap();
    println!("measured {}", kib("VmHWM:"));
}

/// A line of what the system knows of this process, in KiB.
fn kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
