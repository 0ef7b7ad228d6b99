//! Real backbones, which are too large for the repository: set `PAD_DINOV2_DIR` to a folder with
//! `dinov2_vits14_f16.safetensors` (timm names) and `dinov2_vits14_reference_224.safetensors` (`input`,
//! `last_norm_output`). Without it only the interpolation is checked.

use candle_core::{DType, Device};
use pad::{
    Mode,
    checkpoint::Checkpoint,
    params::ParamStore,
    rng::Key,
    vit::{PatchGrid, ViT, ViTConfig, interpolate_table, sin_cos_table},
};
use pad_testkit::{close, numbers};

#[test]
fn dinov2_small_agrees_with_its_reference() {
    let Some(folder) = std::env::var_os("PAD_DINOV2_DIR").map(std::path::PathBuf::from) else {
        eprintln!("PAD_DINOV2_DIR is not set: the real backbone is not compared");
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

#[test]
fn tables_on_other_grids() {
    let table = numbers(&[1, 1 + 5 * 7, 8], DType::F32, 1);
    let (from, to) = (PatchGrid::new(5, 7), PatchGrid::new(9, 4));
    let other = interpolate_table(&table, from, to).unwrap();
    assert_eq!(other.dims(), [1, 1 + 36, 8]);
    close("same grid", &interpolate_table(&table, from, from).unwrap(), &table, 0.0);
    // A table that is constant along columns stays so, and keeps its rows under a change of width alone.
    let rows = numbers(&[5, 1, 8], DType::F32, 2).broadcast_as((5, 7, 8)).unwrap();
    let rows = rows.contiguous().unwrap().reshape((1, 35, 8)).unwrap();
    let class = numbers(&[1, 1, 8], DType::F32, 3);
    let flat = candle_core::Tensor::cat(&[&class, &rows], 1).unwrap();
    let wide = interpolate_table(&flat, from, PatchGrid::new(5, 11)).unwrap();
    for row in 0..5 {
        for column in 0..11 {
            let got = wide.get(0).unwrap().get(1 + row * 11 + column).unwrap();
            close("row kept", &got, &rows.get(0).unwrap().get(row * 7).unwrap(), 1e-5);
        }
    }
    let text = interpolate_table(&table, PatchGrid::new(6, 6), to).unwrap_err().to_string();
    assert_eq!(text, "position table: the table has 36 rows, expected 1 + 6x6");
    assert!(sin_cos_table(6, from, &Device::Cpu).is_err());
}
