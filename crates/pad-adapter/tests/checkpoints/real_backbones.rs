//! Real backbones, which are too large for the repository: set `PAD_DINOV2_DIR` to a folder with
//! `dinov2_vits14_f16.safetensors` (timm names) and `dinov2_vits14_reference_224.safetensors`
//! (`input`, `last_norm_output`).

use candle_core::Device;
use pad_adapter::{
    checkpoint::Checkpoint,
    params::ParamStore,
    vit::{ViT, ViTConfig},
};
use pad_ops::{Mode, rng::Key};
use pad_testkit::close;

#[test]
fn dinov2_small_agrees_with_its_reference() {
    let Some(folder) = std::env::var_os("PAD_DINOV2_DIR").map(std::path::PathBuf::from) else {
        pad_testkit::skipped("a real DINOv2", "PAD_DINOV2_DIR is not set");
        return;
    };
    let checkpoint = Checkpoint::open(folder.join("dinov2_vits14_f16.safetensors")).unwrap();
    let reference =
        Checkpoint::open(folder.join("dinov2_vits14_reference_224.safetensors")).unwrap();
    let store = ParamStore::from_checkpoint(checkpoint, &Device::Cpu, Key::new(0));
    let vit = store.build(|vb| ViT::new(&ViTConfig::dinov2_small(), vb)).unwrap();
    let tokens = vit.forward(reference.get("input").unwrap(), Mode::Eval).unwrap();
    let want = reference.get("last_norm_output").unwrap();
    eprintln!(
        "largest relative difference {:.2e}",
        pad_testkit::relative_difference(&tokens, want)
    );
    close("dinov2", &tokens, want, 2e-3); // the weights were rounded to f16
}
