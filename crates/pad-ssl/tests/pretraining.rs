//! An objective as a task: batches, keys, held-out losses, a whole small run of every paradigm.

use std::{sync::Arc, thread};

use candle_core::{Device, Tensor};
use pad_adapter::{
    AdapterConfig,
    checkpoint::Checkpoint,
    params::{ParamStore, Role},
    vit::ViTConfig,
};
use pad_data::{
    Dataset, Error as DataError, Loader, LoaderConfig, Sample, Transform, image::DecodeOptions,
    transform::SampleShape,
};
use pad_ops::{ImageSize, MatmulPrecision, Mode, rng::Key};
use pad_ssl::{HeldOutLoss, Mae, MaeConfig, Mask, Objective, Paradigm, Pretraining, parameters};
use pad_train::{
    AdamW, AdamWConfig, Collective, EpochStream, LocalGroup, Schedule, SingleProcess, Task,
    Trainer, TrainerConfig,
};

const SIDE: usize = 16;
const SEED: u64 = 3;
/// Epochs of a plan where no gate depends on them.
const EPOCHS: usize = 5;

/// Blobs; some indices cannot be read.
struct Blobs {
    count: usize,
    unreadable: std::ops::Range<usize>,
}

#[derive(Clone)]
struct Blob;

impl Sample for Blob {
    type Classes = ();
    type Info = ();

    fn bytes(&self) -> u64 {
        0
    }
}

impl Dataset for Blobs {
    type Sample = Blob;

    fn len(&self) -> usize {
        self.count
    }
    fn name(&self, index: usize) -> String {
        format!("blob {index}")
    }
    fn classes(&self) -> &() {
        &()
    }
    fn info(&self, _: usize) -> pad_data::Result<()> {
        Ok(())
    }
    fn get(&self, index: usize, _: &DecodeOptions) -> pad_data::Result<Blob> {
        if self.unreadable.contains(&index) {
            let found = ImageSize::square(1);
            return Err(DataError::TooSmall { path: self.name(index).into(), found, min: 2 });
        }
        Ok(Blob)
    }
}

/// Draws a blob's place from its key.
struct Draw;

impl Transform<Blob> for Draw {
    type Label = ();
    type Labels = ();

    fn shape(&self) -> SampleShape {
        SampleShape { channels: 1, size: ImageSize::square(SIDE) }
    }
    fn write(&self, _: Blob, key: Key, out: &mut [f32]) -> pad_data::Result<()> {
        let mut stream = key.stream();
        let (x0, y0) = (stream.range_f64(4.0, 12.0) as f32, stream.range_f64(4.0, 12.0) as f32);
        for (i, out) in out.iter_mut().enumerate() {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            *out = 2.0 * (-((x - x0).powi(2) + (y - y0).powi(2)) / 12.0).exp() - 0.5;
        }
        Ok(())
    }
    fn collate(&self, images: Tensor, _: Vec<()>) -> pad_data::Result<(Tensor, ())> {
        Ok((images, ()))
    }
}

fn loader_of(config: LoaderConfig, count: usize, unreadable: std::ops::Range<usize>) -> Loader {
    Loader::new(Blobs { count, unreadable }, Draw, config).unwrap()
}

fn loader(count: usize, unreadable: std::ops::Range<usize>, batch_size: usize) -> Loader {
    let config = LoaderConfig {
        batch_size,
        workers: 1,
        shuffle: false,
        max_unreadable: 1.0,
        drop_last: false,
        seed: SEED,
        ..Default::default()
    };
    loader_of(config, count, unreadable)
}

/// The batches of a loader for the trainer.
fn batches(loader: &Loader) -> EpochStream<'_, pad_data::Batch> {
    EpochStream::new(loader.batches_per_epoch(), |epoch, first, stride| {
        loader.epoch_strided(epoch, first, stride)
    })
}

fn config(adapter: bool) -> MaeConfig {
    let adapter = adapter.then(|| AdapterConfig { bottleneck: 4, ..Default::default() });
    MaeConfig {
        encoder: ViTConfig {
            image_size: ImageSize::square(SIDE),
            in_channels: 1,
            adapter,
            ..ViTConfig::new(4, 16, 2, 2)
        },
        decoder_embed_dim: 16,
        decoder_depth: 1,
        decoder_num_heads: 2,
        ..Default::default()
    }
}

/// A model, from scratch or on given weights.
fn model(paradigm: Paradigm, weights: Option<Checkpoint>, epochs: usize) -> (Mae, ParamStore) {
    let config = config(paradigm.has_adapters());
    let store = match weights {
        Some(weights) => ParamStore::from_checkpoint(weights, &Device::Cpu, Key::new(SEED))
            .with_fresh(Role::is_adapter),
        None => ParamStore::scratch(&Device::Cpu, Key::new(SEED)),
    };
    let mut store = store.with_plan(paradigm.plan(2, epochs));
    for (name, table) in Mae::tables(&config, &Device::Cpu).unwrap() {
        store = store.with_value(name, table);
    }
    (store.build(|vb| Mae::new(&config, vb)).unwrap(), store)
}

/// Trains for some epochs; held-out loss before and after.
fn train(mae: &Mae, store: &ParamStore, epochs: usize) -> (f64, f64) {
    train_by(Schedule::Constant { lr: 5e-3 }, mae, store, epochs)
}

fn train_by(schedule: Schedule, mae: &Mae, store: &ParamStore, epochs: usize) -> (f64, f64) {
    let (training, held_out) = (loader(48, 0..0, 8), loader(16, 0..0, 8));
    let task = Pretraining::new(mae, Key::new(SEED), &Device::Cpu);
    let mut evaluation = HeldOutLoss::new(&task, &held_out).with_every(None);
    let parameters = parameters(store, 0.05);
    let optimizer = AdamW::new(parameters, AdamWConfig::default()).unwrap();
    let config = TrainerConfig { epochs, seed: SEED, ..Default::default() };
    Trainer::new(config, schedule, optimizer)
        .unwrap()
        .with_hook(&mut evaluation)
        .run(&task, &mut batches(&training))
        .unwrap();
    (evaluation.before().unwrap(), evaluation.after().unwrap())
}

/// Trains scratch for two epochs of shuffled samples; names and values afterwards, and the held-out
/// losses.
fn train_in(
    group: Arc<dyn Collective>,
    batch_size: usize,
    accumulate: usize,
) -> (Vec<(String, Vec<f32>)>, [f64; 2]) {
    let (mae, store) = model(Paradigm::Scratch, None, EPOCHS);
    let shuffled = LoaderConfig { batch_size, workers: 1, seed: SEED, ..Default::default() };
    let (training, held_out) = (loader_of(shuffled, 48, 0..0), loader(14, 3..4, 4));
    let task = Pretraining::new(&mae, Key::new(SEED), &Device::Cpu);
    let mut evaluation = HeldOutLoss::new(&task, &held_out).with_every(None);
    let parameters = parameters(&store, 0.05);
    let optimizer = AdamW::new(parameters, AdamWConfig::default()).unwrap();
    let config = TrainerConfig {
        epochs: 2,
        accumulate,
        clip_norm: Some(0.5),
        seed: SEED,
        ..Default::default()
    };
    let mut trainer = Trainer::new(config, Schedule::Constant { lr: 1e-3 }, optimizer)
        .unwrap()
        .with_group(group)
        .with_hook(&mut evaluation);
    trainer.run(&task, &mut batches(&training)).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let parameters = trainer.optimizer().parameters().iter();
    let parameters = parameters.map(|p| (p.name.clone(), values(&p.var))).collect();
    drop(trainer);
    (parameters, [evaluation.before().unwrap(), evaluation.after().unwrap()])
}

/// Two processes with batches of 4 train what one with batches of 8 trains: crops and masks belong
/// to samples, not to places in a batch.
#[test]
fn two_processes_equal_one_with_the_joined_batch() {
    let (expected, losses) = train_in(Arc::new(SingleProcess), 8, 1);
    assert!(losses[1] < losses[0], "{losses:?}");
    let found = thread::scope(|scope| {
        let run = |group| scope.spawn(move || train_in(Arc::new(group), 4, 2));
        let threads: Vec<_> = LocalGroup::members(2).into_iter().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (found, found_losses) in &found {
        for (found, expected) in found_losses.iter().zip(&losses) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                // The gradient of the keys' biases is zero but for rounding, which AdamW makes
                // steps of full length of.
                let noise = is_key_bias(name, i);
                assert!(
                    noise || (found - expected).abs() < 1e-5,
                    "{name}[{i}]: {found} {expected}"
                );
            }
        }
    }
}

/// Whether value `i` of a parameter is a key's bias, (queries, keys, values) of 16 each.
fn is_key_bias(name: &str, i: usize) -> bool {
    name.ends_with("attn.qkv.bias") && (16..32).contains(&i)
}

#[test]
fn recomputed_activations_give_the_same_bits() {
    let paradigm = Paradigm::Scratch;
    let losses = [false, true].map(|checkpointing| {
        let (mae, store) = model(paradigm, None, EPOCHS);
        let (_, after) = train(&mae.with_checkpointing(checkpointing), &store, 2);
        after.to_bits()
    });
    assert_eq!(losses[0], losses[1]);
}

#[test]
fn two_hundred_steps_in_bf16_end_where_f32_ends() {
    let paradigm = Paradigm::Scratch;
    let [f32, bf16] = [MatmulPrecision::F32, MatmulPrecision::Bf16].map(|precision| {
        let (mae, store) = model(paradigm, None, EPOCHS);
        // 6 steps an epoch. The rate falls to zero: at a constant one the last step's noise would
        // decide.
        let schedule = Schedule::warmup_cosine(2e-3, 0.0, 2.0, 34.0);
        train_by(schedule, &mae.with_matmul_precision(precision), &store, 34).1
    });
    assert!(f32 != bf16, "bf16 must round");
    assert!((f32 - bf16).abs() < 0.01 * f32, "{f32} {bf16}");
}

/// The loss decodes removed patches alone after the last attention; `forward_decoder` decodes all.
#[test]
fn the_loss_is_that_of_all_predictions_where_patches_were_removed() {
    let (mae, _) = model(Paradigm::Scratch, None, EPOCHS);
    let batch = loader(4, 0..0, 4).epoch(0, 0).unwrap().next().unwrap().unwrap();
    let keys: Vec<Key> = (0..4).map(|i| Key::new(9).sample(i)).collect();
    let mask = mae.draw(&batch.images, &keys).unwrap();
    let loss = mae.loss(&batch.images, &mask, Mode::Eval).unwrap().total;
    let latent = mae.forward_encoder(&batch.images, &mask, Mode::Eval).unwrap();
    let pred = mae.forward_decoder(&latent, &mask, Mode::Eval).unwrap();
    let target = mae.target(&batch.images).unwrap();
    let all = pad_ops::masked_mse(&pred, &target, &mask.removed).unwrap();
    let (loss, all) = (loss.to_scalar::<f32>().unwrap(), all.to_scalar::<f32>().unwrap());
    assert!((loss - all).abs() < 1e-6 * all, "{loss} {all}");
}

#[test]
fn every_paradigm_learns_and_moves_only_what_it_may() {
    let scratch = Paradigm::Scratch;
    let (mae, store) = model(scratch, None, EPOCHS);
    let (before, after) = train(&mae, &store, 6);
    assert!(after < 0.8 * before, "scratch: {before} {after}");
    let weights = Checkpoint::from_tensors("weights", store.tensors(|_| true));
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();

    for paradigm in [
        Paradigm::Pad { gate_frozen: 0.6, decoder_embed: false },
        Paradigm::Full { layer_decay: Some(0.7) },
        Paradigm::DecoderOnly,
    ] {
        let (mae, store) = model(paradigm, Some(weights.clone()), EPOCHS);
        let start: Vec<Vec<f32>> = store.params().iter().map(|p| values(&p.tensor)).collect();
        let (before, after) = train(&mae, &store, 5);
        assert!(after < before, "{paradigm:?}: {before} {after}");
        for (param, start) in store.params().iter().zip(&start) {
            let moved = values(&param.tensor) != *start;
            assert_eq!(moved, paradigm.trains(param.role), "{paradigm:?}: {}", param.name);
        }
    }
}

#[test]
fn gates_wait_for_their_epoch() {
    let (_, store) = model(Paradigm::Scratch, None, EPOCHS);
    let weights = Checkpoint::from_tensors("weights", store.tensors(|_| true));
    // round(0.6 * 5) = 3: the gates move in epoch 4 alone. A short run trains them in its last one.
    for (gate_frozen, epochs, moves) in
        [(0.6, 5, true), (0.6, 3, true), (0.6, 1, true), (1.0, 3, false)]
    {
        let paradigm = Paradigm::Pad { gate_frozen, decoder_embed: false };
        let (mae, store) = model(paradigm, Some(weights.clone()), epochs);
        train(&mae, &store, epochs);
        for (name, gate) in store.tensors(|role| matches!(role, Role::Gate(_))) {
            assert_eq!(pad_testkit::largest(&gate) > 0.0, moves, "{name} after {epochs} epochs");
        }
    }
}

#[test]
fn held_out_losses_repeat() {
    let (mae, _) = model(Paradigm::Scratch, None, EPOCHS);
    let task = Pretraining::new(&mae, Key::new(SEED), &Device::Cpu);
    let first = task.held_out_loss(&loader(10, 0..0, 4)).unwrap();
    assert_eq!(first, task.held_out_loss(&loader(10, 0..0, 4)).unwrap());
    // The mean is over images, for any batches.
    assert!((first - task.held_out_loss(&loader(10, 0..0, 3)).unwrap()).abs() < 1e-5);
}

#[test]
fn unreadable_images_shrink_batches_and_keep_their_numbers() {
    let loader = loader(12, 3..9, 3); // batches 1 and 2 hold not one readable image
    let (mae, _) = model(Paradigm::Scratch, None, EPOCHS);
    let task = Pretraining::new(&mae, Key::new(SEED), &Device::Cpu);
    let sizes = |first: usize| -> Vec<usize> {
        let epoch = loader.epoch(0, first).unwrap();
        epoch.map(|batch| task.images_in(&batch.unwrap())).collect()
    };
    assert_eq!(sizes(0), [3, 0, 0, 3]);
    assert_eq!(sizes(2), [0, 3]);
}

#[test]
fn a_mask_of_other_images_is_refused() {
    let (mae, _) = model(Paradigm::Scratch, None, EPOCHS);
    let images = Tensor::zeros((2, 1, SIDE, SIDE), candle_core::DType::F32, &Device::Cpu).unwrap();
    let keys = [Key::new(1), Key::new(2)];
    let mask = Mask::random(&keys, 9, 0.5, &Device::Cpu).unwrap();
    let text = mae.loss(&images, &mask, Mode::Eval).unwrap_err().to_string();
    assert_eq!(text, "mask for 9 patches, expected 16");
    let wide = Tensor::zeros((2, 1, SIDE, 18), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(mae.draw(&wide, &keys).unwrap_err().to_string().contains("sides divisible by 4"));
}

#[test]
fn configurations_that_cannot_be() {
    let text = |config: MaeConfig| config.validate().unwrap_err().to_string();
    let all = MaeConfig { mask_ratio: 1.0, ..config(false) };
    assert!(text(all).starts_with("mae: `mask_ratio` is 1, which keeps 0 of 16 patches"));
    let heads = MaeConfig { decoder_num_heads: 3, ..config(false) };
    assert!(text(heads).contains("`num_heads` is 3, expected a divisor of `embed_dim` 16"));
}
