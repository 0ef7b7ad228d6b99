//! From a pre-trained ViT to a segmentor, and a run that is stopped and resumed.

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig,
    checkpoint::Checkpoint,
    params::{ParamStore, Role},
    vit::{PatchGrid, ViT, ViTConfig},
};
use pad_heads::{
    Trained,
    backbone::DownstreamConfig,
    parameters,
    segmentation::{
        BackboneKind, FcnConfig, HeadKind, LAYER_DECAY, SegmentationBatch, SegmentationTask,
        Segmentor, SegmentorConfig, UperConfig, WEIGHT_DECAY, pretrained, role_of,
    },
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::{close, numbers};
use pad_train::{
    AdamW, AdamWConfig, BatchIter, Batches, BoxError, CheckpointConfig, Checkpoints, Schedule,
    Trainer, TrainerConfig,
};

fn vit() -> ViTConfig {
    ViTConfig {
        image_size: ImageSize::square(64),
        adapter: Some(AdapterConfig { bottleneck: 4, ..AdapterConfig::default() }),
        ..ViTConfig::new(16, 16, 4, 2)
    }
}

fn config() -> SegmentorConfig {
    let vit = ViTConfig { layer_scale: Some(1.0), drop_path: 0.1, ..vit() };
    SegmentorConfig {
        backbone: BackboneKind::Downstream(DownstreamConfig { vit, relative_positions: true }),
        blocks: vec![0, 1, 2, 3],
        head: HeadKind::Uper(UperConfig { channels: 8, ..UperConfig::default() }),
        auxiliary: Some(FcnConfig { channels: 8, ..FcnConfig::default() }),
        ..SegmentorConfig::original(3)
    }
}

/// A ViT that nobody trained, with a file of it (a decoder's tensor and a foreign head among it).
fn file(config: &ViTConfig) -> (ViT, Checkpoint) {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(8));
    let vit = store.build(|vb| ViT::new(config, vb)).unwrap();
    let mut tensors = store.tensors(|_| true);
    let table = pad_adapter::vit::sin_cos_table(16, config.grid().unwrap(), &Device::Cpu).unwrap();
    tensors.insert("pos_embed".into(), table);
    for name in ["mask_token", "decoder_pred.bias", "fc_norm.weight"] {
        tensors.insert(name.into(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap());
    }
    (vit, Checkpoint::from_tensors("vit.safetensors", tensors))
}

fn store(checkpoint: Checkpoint, trained: Trained) -> ParamStore {
    ParamStore::from_checkpoint(checkpoint, &Device::Cpu, Key::new(9))
        .with_roles(role_of)
        .with_fresh(|role| role == Role::Head)
        .with_plan(trained.plan(LAYER_DECAY, 4))
}

#[test]
fn the_downstream_form_starts_as_the_pretrained_network() {
    let (vit, checkpoint) = file(&vit());
    let (fitted, changes) = pretrained(checkpoint, &config().backbone).unwrap();
    assert_eq!(changes, ["12 layer scales and relative position tables added"]);
    let segmentor =
        store(fitted, Trained::Everything).build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let images = numbers(&[2, 3, 64, 64], DType::F32, 1);
    let got = segmentor.backbone().maps(&images, &[1, 3], Mode::Eval).unwrap();
    let want = vit.features(&images, &[1, 3], Mode::Eval).unwrap();
    for (got, want) in got.iter().zip(&want) {
        close("map", got, &want.data, 1e-5);
    }
}

#[test]
fn other_grids_and_other_kinds() {
    // A file for 32 x 32 images in a network for 64 x 64 ones.
    let small = ViTConfig { image_size: ImageSize::square(32), ..vit() };
    let (fitted, changes) = pretrained(file(&small).1, &config().backbone).unwrap();
    assert_eq!(changes[0], "pos_embed interpolated from 2x2 to 4x4");
    store(fitted, Trained::Everything).build(|vb| Segmentor::new(&config(), vb)).unwrap();
    // As it was pre-trained: the final norm stays in the file's place.
    let probe = SegmentorConfig::probe(vit(), 3);
    let (fitted, changes) = pretrained(file(&vit()).1, &probe.backbone).unwrap();
    assert_eq!(changes, [""; 0]);
    let store_of = store(fitted, Trained::Heads);
    store_of.build(|vb| Segmentor::new(&probe, vb)).unwrap();
    // A segmentor's own file comes back as it is.
    let own = Checkpoint::from_tensors("own.safetensors", store_of.tensors(|_| true));
    let (again, changes) = pretrained(own.clone(), &probe.backbone).unwrap();
    assert!(changes.is_empty() && again.names().eq(own.names()));
    ParamStore::from_checkpoint(again, &Device::Cpu, Key::new(0))
        .with_roles(role_of)
        .build(|vb| Segmentor::new(&probe, vb))
        .unwrap();
}

#[test]
fn a_segmentors_own_file_fits_other_grids() {
    let store_of = ParamStore::scratch(&Device::Cpu, Key::new(8)).with_roles(role_of);
    store_of.build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let name = "backbone.blocks.2.attn.relative_position_bias_table";
    let mut own = Checkpoint::from_tensors("own.safetensors", store_of.tensors(|_| true));
    own.insert(name, numbers(&[7 * 7 + 3, 2], DType::F32, 2)); // fresh ones are zero
    let BackboneKind::Downstream(small) = config().backbone else { panic!("downstream") };
    let vit = ViTConfig { image_size: ImageSize::square(96), ..small.vit };
    let backbone = BackboneKind::Downstream(DownstreamConfig { vit, ..small });
    let larger = SegmentorConfig { backbone, ..config() };
    let (fitted, changes) = pretrained(own.clone(), &larger.backbone).unwrap();
    assert_eq!(
        changes,
        [
            "pos_embed interpolated from 4x4 to 6x6",
            "4 relative position tables interpolated from 4x4 to 6x6"
        ]
    );
    let (table, was) = (fitted.get(name).unwrap(), own.get(name).unwrap());
    let (from, to) = (PatchGrid::new(4, 4), PatchGrid::new(6, 6));
    let want = pad_adapter::vit::interpolate_relative_table(was, from, to).unwrap();
    close("table", table, &want, 1e-6);
    // Nothing but the tables changes, and the larger network takes the file strictly.
    assert!(fitted.names().eq(own.names()));
    ParamStore::from_checkpoint(fitted, &Device::Cpu, Key::new(0))
        .with_roles(role_of)
        .build(|vb| Segmentor::new(&larger, vb))
        .unwrap();
}

/// Two images whose halves have two classes; the second batch is mirrored.
struct Halves;

impl Batches for Halves {
    type Batch = SegmentationBatch;

    fn per_epoch(&self) -> usize {
        2
    }

    fn epoch(&mut self, _: usize, first: usize) -> Result<BatchIter<'_, Self::Batch>, BoxError> {
        Ok(Box::new((first..2).map(|number| {
            let left = |i: usize| (i % 64 < 32) == (number == 0);
            let pixels = 2 * 3 * 64 * 64;
            let images: Vec<f32> = (0..pixels).map(|i| if left(i) { 1.0 } else { -1.0 }).collect();
            let labels: Vec<u8> = (0..2 * 64 * 64).map(|i| u8::from(left(i)) * 2).collect();
            Ok(SegmentationBatch::new(
                Tensor::from_vec(images, (2, 3, 64, 64), &Device::Cpu)?,
                Tensor::from_vec(labels, (2, 64, 64), &Device::Cpu)?,
            ))
        })))
    }
}

/// Every number of a network after `steps` steps, from a checkpoint in `folder` if there is one.
fn train(folder: &std::path::Path, steps: usize) -> Vec<(String, Vec<u32>)> {
    let (fitted, _) = pretrained(file(&vit()).1, &config().backbone).unwrap();
    let store = store(fitted, Trained::AdaptersAndHeads);
    let segmentor = store.build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let parameters = parameters(&store, WEIGHT_DECAY);
    let optimizer = AdamW::new(parameters, AdamWConfig::default()).unwrap();
    let settings = TrainerConfig {
        epochs: 3,
        max_steps: Some(steps),
        accumulate: 1,
        clip_norm: Some(5.0),
        seed: 3,
    };
    let checkpoints = Checkpoints::new(folder, CheckpointConfig::default()).unwrap();
    let latest = checkpoints.latest().unwrap();
    let mut trainer = Trainer::new(settings, Schedule::poly(1e-2, 0.5, 3.0), optimizer)
        .unwrap()
        .with_checkpoints(checkpoints);
    if let Some(checkpoint) = &latest {
        trainer.resume(checkpoint).unwrap();
    }
    trainer.run(&SegmentationTask::new(&segmentor), &mut Halves).unwrap();
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    store.tensors(|_| true).iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

#[test]
fn a_resumed_run_has_the_same_weights_and_running_statistics() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let want = train(whole.path(), 6);
    let halfway = train(parts.path(), 3);
    let got = train(parts.path(), 6);
    let name = "decode_head.bottleneck.bn.running_var";
    let find = |of: &[(String, Vec<u32>)]| of.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_ne!(find(&halfway), find(&want), "running statistics move");
    assert_eq!(got, want);
}
