//! Foreign checkpoints of masked autoencoders: latent tokens, prediction and loss equal to their own framework's.
//!
//! The fixtures and where they come from: `tests/golden/README.md`.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use pad::{
    ImageSize, Mode,
    checkpoint::{Change, Checkpoint, ConversionReport, Format},
    params::{ParamStore, Role},
    rng::Key,
    ssl::{Mae, MaeConfig, Mask, Objective},
    vit::{ViT, ViTConfig},
};
use pad_testkit::{close, golden, golden_folder, numbers};

/// Forward tolerance, relative to the tensor's largest value.
const FORWARD: f64 = 1e-4;
const CPU: Device = Device::Cpu;

fn at(name: &str) -> PathBuf {
    golden_folder().join("vit").join(name)
}

fn read(name: &str) -> Checkpoint {
    Checkpoint::open(at(name)).unwrap()
}

/// The file under our names; its format told from the names.
fn ours(name: &str, format: Format) -> (Checkpoint, ConversionReport) {
    let file = read(name);
    assert_eq!(Format::detect(&file).unwrap(), format, "{name}");
    let (file, report) = file.to_ours(None).unwrap();
    assert_eq!(report.unknown(), [""; 0], "{name}");
    (file, report)
}

/// Strictly: every tensor is asked for and every one is there.
fn vit(file: &Checkpoint, config: &ViTConfig) -> ViT {
    let store = ParamStore::from_checkpoint(file.clone(), &CPU, Key::new(0));
    store.build(|vb| ViT::new(config, vb)).unwrap()
}

/// The tiny model of the MAE fixtures.
fn mae_config() -> MaeConfig {
    MaeConfig {
        encoder: ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(8, 24, 3, 3) },
        decoder_embed_dim: 16,
        decoder_depth: 2,
        decoder_num_heads: 4,
        ..Default::default()
    }
}

/// Latent tokens, prediction and loss against `out.*`.
fn mae_agrees(name: &str, file: &Checkpoint, config: &MaeConfig, outs: [&str; 3]) {
    let want = golden("vit/vit_mae");
    let store = ParamStore::from_checkpoint(file.clone(), &CPU, Key::new(0));
    let mae = store.build(|vb| Mae::new(config, vb)).unwrap();
    let noise = want["input.noise"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mask = Mask::from_noise(&noise, 16, config.mask_ratio, &CPU).unwrap();
    let images = &want["input.pixel_values"];
    let latent = mae.forward_encoder(images, &mask, Mode::Eval).unwrap();
    close(&format!("{name}: latent"), &latent, &want[outs[0]], FORWARD);
    let pred = mae.forward_decoder(&latent, &mask, Mode::Eval).unwrap();
    close(&format!("{name}: prediction"), &pred, &want[outs[1]], FORWARD);
    let loss = mae.loss(images, &mask, Mode::Eval).unwrap().total.reshape(1).unwrap();
    close(&format!("{name}: loss"), &loss, &want[outs[2]], 1e-5);
}

const FAIR: [&str; 3] = ["out.fair_latent", "out.fair_pred", "out.fair_loss"];

#[test]
fn masked_autoencoders_of_facebookresearch_and_mmselfsup() {
    let (plain, _) = ours("mae_fair.pth", Format::Mae);
    mae_agrees("mae_fair", &plain, &mae_config(), FAIR);
    for (name, format) in
        [("mae_fair_train_checkpoint.pth", Format::Mae), ("mae_mmselfsup.pth", Format::MmSelfSup)]
    {
        let (file, report) = ours(name, format);
        mae_agrees(name, &file, &mae_config(), FAIR);
        // The same weights, so the same file.
        same_tensors(&file, &plain);
        if format == Format::MmSelfSup {
            let [kept, renamed, joined, dropped, unknown] = report.counts();
            assert_eq!((kept, renamed, joined, dropped, unknown), (0, 74, 0, 2, 0));
        }
    }
    // Its own text, not the model, is what a head count of 24 values cannot be told from.
    let unresolved = plain.vit_config().unwrap_err().to_string();
    assert_eq!(
        unresolved,
        "vit: `num_heads` cannot be inferred: no config.json, and `embed_dim` 24 is not a multiple of 64"
    );

    let (encoder, _) = ours("mae_fair_encoder_only.pth", Format::Timm);
    let (want, images) =
        (vit(&encoder, &mae_config().encoder), numbers(&[1, 3, 32, 32], DType::F32, 3));
    let store = ParamStore::from_checkpoint(plain, &CPU, Key::new(0)).with_unused(Role::is_decoder);
    let got = store.build(|vb| ViT::new(&mae_config().encoder, vb)).unwrap();
    let tokens = |vit: &ViT| vit.forward(&images, Mode::Eval).unwrap();
    close("encoder only", &tokens(&got), &tokens(&want), 0.0);
}

fn same_tensors(got: &Checkpoint, want: &Checkpoint) {
    assert_eq!(got.names().collect::<Vec<_>>(), want.names().collect::<Vec<_>>());
    for (name, tensor) in got.tensors() {
        let want = want.get(name).unwrap();
        assert_eq!(tensor.dims(), want.dims(), "{name}");
        assert_eq!(tensor.dtype(), want.dtype(), "{name}");
        let bytes = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(
            bytes(tensor).iter().map(|v| v.to_bits()).eq(bytes(want).iter().map(|v| v.to_bits())),
            "{name}"
        );
    }
}

#[test]
fn vit_mae_of_transformers() {
    let (file, report) = ours("vit_mae", Format::VitMae);
    let encoder = file.vit_config().unwrap();
    assert_eq!(encoder, ViTConfig { norm_eps: 1e-12, ..mae_config().encoder });
    assert_eq!(file.metadata()["decoder_num_heads"], "4");
    let config = MaeConfig { encoder, ..mae_config() };
    mae_agrees(
        "vit_mae",
        &file,
        &config,
        ["out.encoder_last_hidden_state", "out.logits", "out.loss"],
    );
    assert!(
        report.changes.contains(&Change::Joined {
            from: ["query", "key", "value"]
                .map(|part| format!("decoder.decoder_layers.1.attention.attention.{part}.bias"))
                .to_vec(),
            to: "decoder_blocks.1.attn.qkv.bias".into()
        })
    );
    // The weights are those of the other frameworks' files.
    same_tensors(&file, &ours("mae_fair.pth", Format::Mae).0);

    // As transformers 5 writes the decoder.
    let four = read("vit_mae");
    let renamed = four.tensors().iter().map(|(name, tensor)| {
        (name.replace("decoder.decoder_layers.", "decoder.decoder_encoder.layer."), tensor.clone())
    });
    let five = Checkpoint::from_tensors("five", renamed.collect());
    assert_eq!(Format::detect(&five).unwrap(), Format::VitMae);
    same_tensors(&five.to_ours(None).unwrap().0, &file);
}
