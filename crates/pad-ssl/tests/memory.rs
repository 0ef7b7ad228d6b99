//! The predicted memory of a training step beside what the system counts.

use std::process::Command;

use candle_core::{DType, Device};
use pad_adapter::{AdapterConfig, Scale, params::ParamStore, vit::ViTConfig};
use pad_ops::{Keep, MatmulPrecision, Mode, rng::Key};
use pad_ssl::{Mae, MaeConfig, Objective, Paradigm};
use pad_testkit::numbers;
use pad_train::{AdamW, AdamWConfig, Gradients};

/// In the environment of a process that measures: which case.
const CASE: &str = "PAD_MEMORY_CASE";

const PAD: Paradigm = Paradigm::Pad { gate_frozen: 0.0, decoder_embed: false };
const FULL: Paradigm = Paradigm::Full { layer_decay: None };
const CASES: [(Paradigm, usize, Keep, MatmulPrecision); 5] = [
    (PAD, 4, Keep::Activations, MatmulPrecision::F32),
    (PAD, 16, Keep::Activations, MatmulPrecision::F32),
    (PAD, 16, Keep::Nothing, MatmulPrecision::F32),
    (PAD, 16, Keep::Activations, MatmulPrecision::Bf16),
    (FULL, 8, Keep::Activations, MatmulPrecision::F32),
];

fn config(paradigm: Paradigm) -> MaeConfig {
    let adapter = paradigm.has_adapters().then(AdapterConfig::default);
    let encoder = ViTConfig { adapter, ..ViTConfig::small(16) };
    MaeConfig { encoder, decoder_embed_dim: 256, decoder_num_heads: 8, ..Default::default() }
}

fn store(paradigm: Paradigm, config: &MaeConfig) -> ParamStore {
    let mut store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    for (name, table) in Mae::tables(config, &Device::Cpu).unwrap() {
        store = store.with_value(name, table);
    }
    store.with_trained(move |role| paradigm.trains(role))
}

#[test]
fn weights_are_counted() {
    let learnable = AdapterConfig { scale: Scale::Learnable { init: 0.1 }, ..Default::default() };
    let encoders = [
        ViTConfig::small(16),
        ViTConfig { adapter: Some(AdapterConfig::default()), ..ViTConfig::small(16) },
        ViTConfig { adapter: Some(learnable), layer_scale: Some(1.0), ..ViTConfig::tiny(8) },
        ViTConfig::tiny(16).clip(),
    ];
    for encoder in encoders {
        let config = MaeConfig { encoder, decoder_depth: 2, ..Default::default() };
        for paradigm in [PAD, FULL, Paradigm::DecoderOnly] {
            if paradigm.has_adapters() != encoder.adapter.is_some() {
                continue;
            }
            let store = store(paradigm, &config);
            store.build(|vb| Mae::new(&config, vb)).unwrap();
            let all: usize = store.tensors(|_| true).values().map(|t| t.elem_count()).sum();
            let trained: usize = store.planned().iter().map(|p| p.var.elem_count()).sum();
            let memory =
                config.step_memory(paradigm, 1, Keep::Nothing, MatmulPrecision::F32).unwrap();
            assert_eq!(memory.weights, 4 * all, "{encoder:?} {paradigm:?}");
            assert_eq!(memory.training, 3 * 4 * trained, "{encoder:?} {paradigm:?}");
        }
    }
}

/// Every case in a process of its own: what one leaves behind would hide what the next takes.
#[test]
#[cfg(target_os = "linux")]
fn steps_take_what_was_predicted() {
    for (index, (paradigm, batch, keep, precision)) in CASES.into_iter().enumerate() {
        let predicted =
            config(paradigm).step_memory(paradigm, batch, keep, precision).unwrap().total();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_case", "--ignored", "--nocapture", "--test-threads=1"])
            .env(CASE, index.to_string())
            // Freed memory goes back to the system at once.
            .env("MALLOC_TRIM_THRESHOLD_", "0")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let measured = printed.lines().find_map(|line| line.split("measured ").nth(1));
        let measured: f64 = measured.unwrap_or_else(|| panic!("{printed}")).parse().unwrap();
        let ratio = predicted as f64 / 1024.0 / measured;
        println!("case {index}: {} KiB predicted, {measured} measured", predicted / 1024);
        assert!(
            (0.8..1.25).contains(&ratio),
            "case {index}: {} KiB predicted, {measured} KiB measured",
            predicted / 1024
        );
    }
}

#[test]
#[ignore = "a part of steps_take_what_was_predicted"]
fn one_case() {
    let Some(index) = std::env::var(CASE).ok().and_then(|case| case.parse::<usize>().ok()) else {
        return;
    };
    let (paradigm, batch, keep, precision) = CASES[index];
    let before = kib("VmRSS:");
    let config = config(paradigm);
    let store = store(paradigm, &config);
    let mae = store.build(|vb| Mae::new(&config, vb)).unwrap();
    let mae = mae.keeping(keep).multiplying(precision);
    let parameters = paradigm.parameters(&store, config.encoder.depth, 1, 0.05);
    let mut optimizer = AdamW::new(parameters, AdamWConfig::default()).unwrap();
    let images = numbers(&[batch, 3, 224, 224], DType::F32, 1);
    for step in 0..2 {
        let keys: Vec<Key> = (0..batch as u64).map(|i| Key::new(step).sample(i)).collect();
        let draw = mae.draw(&images, &keys).unwrap();
        let losses = mae.loss(&images, &draw, Mode::Train(Key::new(1).epoch(step))).unwrap();
        let gradients = pad_ops::backward(&losses.total).unwrap();
        drop(losses);
        let gradients = Gradients::from_store(optimizer.parameters(), &gradients, 1);
        optimizer.step(&gradients, 1e-4, 1).unwrap();
    }
    println!("measured {}", kib("VmHWM:") - before);
}

/// A line of what the system knows of this process, in KiB.
fn kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
