//! An update of real size is the same at every level of instructions: kernels are chosen by the size
//! of their operands, and those of operator tests are small.

mod programs;

use programs::{log_lines, pretrain, success, write_images};

/// Loss and gradient norm of the first update of 32 images of 197 tokens.
fn first_update(folder: &std::path::Path, level: Option<&str>) -> [f64; 2] {
    let out = folder.join(level.unwrap_or("own"));
    let flags = ["--image-size=224", "--batch-size=32", "--max-steps=1"];
    let mut command = pretrain(&folder.join("data"), &out, &flags);
    command.env_remove("PAD_CPU").envs(level.map(|level| ("PAD_CPU", level)));
    success(command);
    let update = &log_lines(&out).0[0];
    ["train/loss", "train/grad_norm"].map(|name| update[name].as_f64().unwrap())
}

#[test]
fn levels_agree_on_an_update_of_real_size() {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("data"), 40);
    let want = first_update(folder.path(), Some("portable"));
    assert!(want.iter().all(|value| *value > 1e-3), "{want:?}");
    // A level that the processor lacks is its own.
    for level in [None, Some("avx2"), Some("avx512")] {
        let found = first_update(folder.path(), level);
        for (found, want) in found.into_iter().zip(want) {
            assert!((found - want).abs() <= 1e-4 * want, "{level:?}: {found}, want {want}");
        }
    }
}
