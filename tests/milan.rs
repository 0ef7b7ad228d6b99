//! MILAN and its CLIP teacher against the reference implementation, and the objectives that share their parts.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{D, DType, Device, Tensor};
use pad::{
    AdapterConfig, AdapterNorm, Fusion, ImageSize, MatmulPrecision, Mode, Scale,
    checkpoint::Checkpoint,
    data::transform::Normalize,
    params::{ParamStore, Planned, Role},
    rng::Key,
    ssl::{
        AnyObjective, ClipConfig, ClipTeacher, FeatureLoss, FeatureTarget, FeatureTargetConfig,
        Mae, MaeConfig, Mask, MaskedBy, Masking, Milan, MilanConfig, MilanDraw, Objective,
        Paradigm, SimMim, SimMimConfig, Teacher, TeacherFn,
    },
    vit::{PatchGrid, ViT, ViTConfig},
};
use pad_testkit::{close, golden, relative_difference};

const FORWARD: f64 = 1e-4;
const GRADIENT: f64 = 1e-3;

fn with_prefix(file: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    file.iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())))
        .collect()
}

/// The encoder of the golden files: 32 x 32 pixels, patches of 8, 48 x 3.
fn encoder(adapter: bool) -> ViTConfig {
    let adapter = adapter.then_some(AdapterConfig {
        bottleneck: 8,
        norm: AdapterNorm::In,
        dropout: 0.0,
        scale: Scale::Patchwise(Fusion::Concat),
        ..Default::default()
    });
    ViTConfig { image_size: ImageSize::square(32), adapter, ..ViTConfig::new(8, 48, 3, 4) }
}

fn milan_config() -> MilanConfig {
    MilanConfig {
        encoder: encoder(true),
        decoder_embed_dim: 32,
        decoder_depth: 2,
        decoder_num_heads: 4,
        mask_ratio: 0.75,
        target_dim: 512,
    }
}

/// A teacher that gives constant features.
fn constant(features: Tensor) -> Arc<dyn Teacher> {
    Arc::new(TeacherFn(move |_: &Tensor| Ok(features.clone())))
}

#[test]
fn milan_forward_loss_and_every_gradient() {
    let file = golden("milan_patchwise_concat");
    let checkpoint = Checkpoint::from_tensors("milan", with_prefix(&file, "param."));
    let paradigm = Paradigm::Pad { gate_frozen: 0.0, decoder_embed: false };
    let store = ParamStore::from_checkpoint(checkpoint, &Device::Cpu, Key::new(0))
        .with_trained(move |role| paradigm.trains(role));
    let features = file["input.teacher_features"].clone();
    let milan =
        store.build(|vb| Milan::new(&milan_config(), constant(features.clone()), vb)).unwrap();
    let order: Vec<u32> = file["input.ids_shuffle"]
        .flatten_all()
        .unwrap()
        .to_vec1::<i64>()
        .unwrap()
        .iter()
        .map(|&id| id as u32)
        .collect();
    let mask = Mask::from_order(&order, 16, 4, &Device::Cpu).unwrap();
    close("mask", &mask.removed, &file["out.mask"], 0.0);
    let images = &file["input.images"];
    let pred = milan.predict(images, &mask, Mode::Eval).unwrap();
    close("pred", &pred, &file["out.pred"], FORWARD);
    let draw = MilanDraw { mask, features };
    let loss = milan.loss(images, &draw, Mode::Eval).unwrap().total;
    close("loss", &loss.reshape(1).unwrap(), &file["out.loss"], 1e-5);
    let grads = loss.backward().unwrap();
    let mut compared = 0;
    for Planned { name, var, .. } in store.planned() {
        let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("no {name}"));
        close(&name, grad, &file[&format!("grad.{name}")], GRADIENT);
        compared += 1;
    }
    // Not compared: `decoder_pos_embed`, which the original lets have a gradient but never moves.
    assert_eq!(compared + 1, file.keys().filter(|name| name.starts_with("grad.")).count());
}

fn clip() -> (BTreeMap<String, Tensor>, Checkpoint) {
    let file = golden("clip_visual_teacher");
    let weights = Checkpoint::from_tensors("clip", with_prefix(&file, "param."));
    (file, weights)
}

fn heads(teacher: &ClipTeacher, heads: usize) -> ClipConfig {
    ClipConfig { heads, ..*teacher.config() }
}

#[test]
fn clip_teacher_features_and_attention() {
    let (file, weights) = clip();
    let loaded = ClipTeacher::load(&weights, &Device::Cpu).unwrap();
    let want = ClipConfig {
        grid: PatchGrid::new(4, 4),
        patch_size: 8,
        width: 64,
        layers: 3,
        heads: 1,
        projection: Some(24),
    };
    assert_eq!(*loaded.config(), want);
    let teacher = ClipTeacher::load_as(&heads(&loaded, HEADS), &weights, &Device::Cpu).unwrap();
    let tokens = teacher.tokens(&file["input.images"]).unwrap();
    close("features", &tokens.features, &file["out.features"], FORWARD);
    close("attention", tokens.attention.as_ref().unwrap(), &file["out.attention"], FORWARD);
    assert!(!tokens.features.track_op());
    let other = loaded.features(&file["input.images"]).unwrap();
    assert!(relative_difference(&other, &file["out.features"]) > 1e-2, "heads must matter");
    let rounded = teacher.with_matmul_precision(MatmulPrecision::Bf16);
    let rounded = rounded.features(&file["input.images"]).unwrap();
    let difference = relative_difference(&rounded, &file["out.features"]);
    assert!(difference > 0.0 && difference < 0.03, "{difference}");
}

/// Heads of the recorded teacher.
const HEADS: usize = 4;

#[test]
fn clip_by_hugging_face_s_names_is_the_same() {
    let (file, weights) = clip();
    let mut other = BTreeMap::new();
    for (name, tensor) in weights.tensors() {
        let block = name.strip_prefix("transformer.resblocks.").and_then(|n| n.split_once('.'));
        let mut put = |name: String, tensor: Tensor| {
            other.insert(format!("vision_model.{name}"), tensor);
        };
        match (name.as_str(), block) {
            ("class_embedding", _) => put("embeddings.class_embedding".into(), tensor.clone()),
            ("conv1.weight", _) => put("embeddings.patch_embedding.weight".into(), tensor.clone()),
            ("positional_embedding", _) => {
                put("embeddings.position_embedding.weight".into(), tensor.clone());
            }
            ("proj", _) => {
                other.insert("visual_projection.weight".into(), tensor.t().unwrap());
            }
            (_, Some((i, rest))) => {
                let rest = rest
                    .replace("ln_", "layer_norm")
                    .replace("c_fc", "fc1")
                    .replace("c_proj", "fc2")
                    .replace("attn.out_proj", "self_attn.out_proj");
                match rest.strip_prefix("attn.in_proj_") {
                    Some(kind) => {
                        for (j, part) in tensor.chunk(3, 0).unwrap().into_iter().enumerate() {
                            let name = ["q_proj", "k_proj", "v_proj"][j];
                            put(format!("encoder.layers.{i}.self_attn.{name}.{kind}"), part);
                        }
                    }
                    None => put(format!("encoder.layers.{i}.{rest}"), tensor.clone()),
                }
            }
            _ => {
                let name =
                    name.replace("ln_pre", "pre_layrnorm").replace("ln_post", "post_layernorm");
                put(name, tensor.clone());
            }
        }
    }
    // The text tower is passed over.
    other
        .insert("text_model.final_layer_norm.weight".into(), file["param.class_embedding"].clone());
    let other = Checkpoint::from_tensors("clip", other);
    let same = ClipTeacher::load(&other, &Device::Cpu).unwrap();
    let own = ClipTeacher::load(&weights, &Device::Cpu).unwrap();
    let features = |teacher: ClipTeacher| teacher.features(&file["input.images"]).unwrap();
    let own = features(own);
    assert_eq!(relative_difference(&features(same), &own), 0.0);
    // Without projection: the tower's own width. In half precision: the same up to its rounding.
    let mut bare = other.clone();
    bare.remove("visual_projection.weight");
    let bare = ClipTeacher::load(&bare, &Device::Cpu).unwrap();
    assert_eq!((bare.config().projection, bare.config().features()), (None, 64));
    assert_eq!(features(bare).dims(), [2, 17, 64]);
    let half = other
        .tensors()
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.to_dtype(candle_core::DType::F16).unwrap()));
    let half = ClipTeacher::load(&Checkpoint::from_tensors("clip", half.collect()), &Device::Cpu);
    let difference = relative_difference(&features(half.unwrap()), &own);
    assert!(difference > 0.0 && difference < 1e-2, "{difference}");
}

#[test]
fn clip_sees_its_own_statistics_three_channels_and_its_size() {
    let (file, weights) = clip();
    let teacher = || ClipTeacher::load(&weights, &Device::Cpu).unwrap();
    let images = &file["input.images"];
    // The same picture under other statistics gives the same features.
    let (from, own) = (Normalize::msip(), ClipTeacher::NORMALIZE);
    let column =
        |values: [f32; 3]| Tensor::from_vec(values.to_vec(), (1, 3, 1, 1), &Device::Cpu).unwrap();
    let level = images.broadcast_mul(&column(own.std)).unwrap();
    let level = level.broadcast_add(&column(own.mean)).unwrap();
    let other = level.broadcast_sub(&column(from.mean)).unwrap();
    let other = other.broadcast_div(&column(from.std)).unwrap();
    let want = teacher().features(images).unwrap();
    close("statistics", &teacher().with_input_stats(from).features(&other).unwrap(), &want, 1e-4);
    // Grey images are repeated.
    let grey = images.narrow(1, 0, 1).unwrap();
    let repeated = Tensor::cat(&[&grey, &grey, &grey], 1).unwrap();
    let want = teacher().features(&repeated).unwrap();
    assert_eq!(relative_difference(&teacher().features(&grey).unwrap(), &want), 0.0);
    // Resized images: another grid, the position table interpolated.
    let small = teacher().with_image_size(ImageSize::square(24)).features(images).unwrap();
    assert_eq!(small.dims(), [2, 10, 24]);
}

#[test]
fn milan_learns_from_its_teacher() {
    let (file, weights) = clip();
    let teacher = Arc::new(ClipTeacher::load(&weights, &Device::Cpu).unwrap());
    let config = MilanConfig { target_dim: 24, encoder: encoder(false), ..milan_config() };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(1)).with_trained(|_| true);
    let milan = store.build(|vb| Milan::new(&config, teacher.clone(), vb)).unwrap();
    let images = &file["input.images"];
    let keys: Vec<Key> = (0..2).map(|i| Key::new(2).sample(i)).collect();
    let draw = milan.draw(images, &keys).unwrap();
    close("targets", &draw.features, &teacher.features(images).unwrap(), 0.0);
    let loss = |milan: &Milan| milan.loss(images, &draw, Mode::Eval).unwrap().total;
    let before = loss(&milan).to_scalar::<f32>().unwrap();
    let grads = loss(&milan).backward().unwrap();
    for Planned { name, var, .. } in store.planned() {
        let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("no gradient of {name}"));
        var.set(&(var.as_tensor() - (grad * 0.1).unwrap()).unwrap()).unwrap();
    }
    assert!(loss(&milan).to_scalar::<f32>().unwrap() < before);
    // Erased, it is the same objective.
    let erased = AnyObjective::new(&milan);
    let keyed = erased.loss(images, &erased.draw(images, &keys).unwrap(), Mode::Eval).unwrap();
    assert_eq!(keyed.total.to_scalar::<f32>().unwrap(), loss(&milan).to_scalar::<f32>().unwrap());
}

#[test]
fn refusals_of_teachers() {
    let (file, weights) = clip();
    let images = &file["input.images"];
    let keys = [Key::new(0), Key::new(1)];
    let teacher = || ClipTeacher::load(&weights, &Device::Cpu).unwrap();
    let store = || ParamStore::scratch(&Device::Cpu, Key::new(1));
    let milan = |teacher: ClipTeacher, target_dim: usize| {
        let config = MilanConfig { target_dim, ..milan_config() };
        store().build(|vb| Milan::new(&config, Arc::new(teacher), vb)).unwrap()
    };
    let error = milan(teacher().with_image_size(ImageSize::square(24)), 24)
        .draw(images, &keys)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the teacher gives 10 tokens per image, expected 17 (a class token and the student's patch grid 4x4): choose \
         image size and patch size so that both grids are the same"
    );
    let student = milan(teacher(), 25);
    let draw = student.draw(images, &keys).unwrap();
    assert_eq!(
        student.loss(images, &draw, Mode::Eval).unwrap_err().to_string(),
        "the teacher's features are [2, 17, 24], expected [2, 17, 25] (see `target_dim`)"
    );
    // No attention: the paper's masking cannot be done, others can.
    let features = file["out.features"].clone();
    let config = MilanConfig { target_dim: 24, ..milan_config() };
    let student = store().build(|vb| Milan::new(&config, constant(features), vb)).unwrap();
    assert_eq!(
        student.draw(images, &keys).unwrap_err().to_string(),
        "mask: attention masking without a teacher's attention, expected one that gives it (CLIP)"
    );
    assert!(student.with_masking(Masking::Random).draw(images, &keys).is_ok());
    // Not CLIP at all; a tensor missing.
    let error = ClipTeacher::load(
        &Checkpoint::from_tensors(
            "mae.pth",
            BTreeMap::from([("cls_token".into(), images.clone())]),
        ),
        &Device::Cpu,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "clip: mae.pth: names of no known format, expected CLIP's image tower (`conv1.weight` or `vision_model.*`)"
    );
    let mut torn = weights.clone();
    torn.remove("transformer.resblocks.1.mlp.c_fc.bias");
    let error = ClipTeacher::load(&torn, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("missing 1: blocks.1.mlp.fc1.bias"), "{error}");
    let mut torn = weights.clone();
    torn.remove("positional_embedding");
    let error = ClipTeacher::load(&torn, &Device::Cpu).unwrap_err().to_string();
    assert_eq!(error, "clip: clip: no `pos_embed`, expected a table of positions");
    let config = MilanConfig { decoder_depth: 0, mask_ratio: 1.0, ..milan_config() };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "milan: `mask_ratio` is 1, which keeps 0 of 16 patches, expected at least one kept and one removed; \
         `decoder_depth` is 0, expected at least 1"
    );
}

/// Gradients of every trained parameter exist and a step along them lowers the loss.
fn descends<O: Objective>(objective: &O, store: &ParamStore, images: &Tensor) {
    let keys: Vec<Key> =
        (0..images.dim(0).unwrap() as u64).map(|i| Key::new(2).sample(i)).collect();
    let draw = objective.draw(images, &keys).unwrap();
    let loss = || objective.loss(images, &draw, Mode::Eval).unwrap().total;
    let before = loss().to_scalar::<f32>().unwrap();
    let grads = loss().backward().unwrap();
    for Planned { name, var, .. } in store.planned() {
        let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("no gradient of {name}"));
        var.set(&(var.as_tensor() - (grad * 0.02).unwrap()).unwrap()).unwrap();
    }
    let after = loss().to_scalar::<f32>().unwrap();
    assert!(after < before, "{before} -> {after}");
}

fn random_images() -> Tensor {
    golden("clip_visual_teacher")["input.images"].clone()
}

#[test]
fn simmim_counts_removed_pixels_alone() {
    let images = random_images();
    let masking = Masking::Cells { pixels: 16 };
    let config = SimMimConfig { encoder: encoder(false), masking, ..Default::default() };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(1)).with_trained(all_but_tables);
    let simmim = store.build(|vb| SimMim::new(&config, vb)).unwrap();
    let draw = simmim.draw(&images, &[Key::new(0).sample(0), Key::new(0).sample(1)]).unwrap();
    // 2 x 2 cells of 2 x 2 patches, 0.6 of 4 cells = 3 removed.
    assert_eq!(draw.ids_removed.dims(), [2, 12]);
    let loss = |images: &Tensor| {
        simmim.loss(images, &draw, Mode::Eval).unwrap().total.to_scalar::<f32>().unwrap()
    };
    // What the encoder is shown of removed patches makes no difference to the prediction, only to the target: the loss
    // of a picture with 100 added to the removed pixels is near 100.
    let cover = draw.removed.reshape((2, 1, 4, 1, 4, 1)).unwrap();
    let cover = cover.broadcast_as((2, 3, 4, 8, 4, 8)).unwrap().contiguous().unwrap();
    let cover = cover.reshape((2, 3, 32, 32)).unwrap();
    let bright = (&images + (&cover * 100.0).unwrap()).unwrap();
    let brighter = (&images + (&cover * 200.0).unwrap()).unwrap();
    assert!((loss(&brighter) - loss(&bright) - 100.0).abs() < 1e-2);
    descends(&simmim, &store, &images);
}

/// Everything trains but the fixed tables.
fn all_but_tables(role: Role) -> bool {
    Paradigm::Scratch.trains(role)
}

#[test]
fn features_of_a_vit_and_of_a_function() {
    let images = random_images();
    let dino = ViTConfig { layer_scale: Some(1e-1), ..encoder(false) };
    let vit =
        ParamStore::scratch(&Device::Cpu, Key::new(9)).build(|vb| ViT::new(&dino, vb)).unwrap();
    let inner = vit.clone();
    // What candle-transformers gives: the patches without the class token.
    let function = TeacherFn(move |images: &Tensor| {
        let tokens = inner.forward(images, Mode::Eval).map_err(candle_core::Error::wrap)?;
        tokens.narrow(1, 1, 16)
    });
    let mut losses = Vec::new();
    let teachers: [Arc<dyn Teacher>; 2] = [Arc::new(vit), Arc::new(function)];
    for teacher in teachers {
        for (loss, all_patches) in [(FeatureLoss::Cosine, false), (FeatureLoss::SmoothL1, true)] {
            let config = FeatureTargetConfig {
                encoder: encoder(false),
                target_dim: 48,
                loss,
                all_patches,
                ..Default::default()
            };
            let store = ParamStore::scratch(&Device::Cpu, Key::new(1)).with_trained(all_but_tables);
            let student =
                store.build(|vb| FeatureTarget::new(&config, teacher.clone(), vb)).unwrap();
            let keys = [Key::new(0).sample(0), Key::new(0).sample(1)];
            let draw = student.draw(&images, &keys).unwrap();
            assert_eq!(draw.features.dims(), [2, 16, 48]);
            assert!(!draw.features.track_op());
            let loss = student.loss(&images, &draw, Mode::Eval).unwrap().total;
            losses.push(loss.to_scalar::<f32>().unwrap());
            descends(&student, &store, &images);
        }
    }
    assert_eq!(losses[..2], losses[2..]);
}

#[test]
fn any_mask_for_mae_and_any_depth_of_its_decoder() {
    let (_, weights) = clip();
    let images = random_images();
    let teacher = Arc::new(ClipTeacher::load(&weights, &Device::Cpu).unwrap());
    let keys = [Key::new(0).sample(0), Key::new(0).sample(1)];
    for depth in 2..=8 {
        let config = MaeConfig {
            encoder: encoder(false),
            decoder_embed_dim: 32,
            decoder_depth: depth,
            decoder_num_heads: 4,
            ..Default::default()
        };
        let store = ParamStore::scratch(&Device::Cpu, Key::new(1)).with_trained(|_| true);
        let mae = store.build(|vb| Mae::new(&config, vb)).unwrap();
        let names: Vec<String> = store.planned().into_iter().map(|p| p.name).collect();
        let has = |i: usize| names.contains(&format!("decoder_blocks.{i}.mlp.fc2.weight"));
        assert!(has(depth - 1) && !has(depth));
        for masking in [Masking::Random, Masking::Block, Masking::Attention, Masking::Intensity] {
            let masked = MaskedBy::new(&mae, masking, 8, 0.75).with_teacher(teacher.clone());
            let mask = masked.draw(&images, &keys).unwrap();
            assert_eq!(mask.removed.sum(D::Minus1).unwrap().to_vec1::<f32>().unwrap(), [12.0; 2]);
            let loss = masked.loss(&images, &mask, Mode::Eval).unwrap().total;
            let same = mae.loss(&images, &mask, Mode::Eval).unwrap().total;
            let value = |t: &Tensor| t.to_dtype(DType::F32).unwrap().to_scalar::<f32>().unwrap();
            assert_eq!(value(&loss), value(&same));
            assert!(value(&loss).is_finite());
        }
    }
}
