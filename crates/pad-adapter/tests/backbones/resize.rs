//! Tables on other grids, in the way of each family.

use candle_core::Var;
use pad_adapter::vit::{PatchGrid, RelativeResize, TableResize};
use pad_testkit::close;

use super::{
    all_read,
    entry::{Entry, TOLERANCE},
};

/// `3x5` as a grid.
fn grid(text: &str) -> PatchGrid {
    let (height, width) = text.split_once('x').unwrap();
    PatchGrid::new(height.parse().unwrap(), width.parse().unwrap())
}

pub(super) fn check(entry: &Entry) {
    let sources = &entry.facts["grids"];
    let from = |name: &str| {
        let sides = sources[name].as_array().unwrap();
        let side = |i: usize| sides[i].as_u64().unwrap() as usize;
        PatchGrid::new(side(0), side(1))
    };
    let ways = [
        ("timm", TableResize::BicubicAntialias),
        ("bicubic", TableResize::Bicubic),
        ("bilinear", TableResize::Bilinear),
        ("bilinear_antialias", TableResize::BilinearAntialias),
        ("dinov2_offset", TableResize::Dinov2),
    ];
    let relative = [
        ("timm_relative", RelativeResize::Linear),
        ("cubic_relative", RelativeResize::Cubic),
        ("hf_relative", RelativeResize::Bilinear),
    ];
    let keys: Vec<String> = entry.keys().map(str::to_string).collect();
    for key in keys.iter().filter(|key| !key.starts_with("input.")) {
        let (way, rest) = key.split_once('.').unwrap();
        if let Some((_, resize)) = relative.iter().find(|(name, _)| *name == way) {
            let got =
                resize.table(entry.get("input.relative"), from("square"), grid(rest)).unwrap();
            close(key, &got, entry.get(key), TOLERANCE);
            continue;
        }
        let (_, resize) =
            ways.iter().find(|(name, _)| *name == way).unwrap_or_else(|| panic!("{key}"));
        let gradient = rest.strip_prefix("grad_");
        let (source, to) = gradient.unwrap_or(rest).split_once('_').unwrap();
        let table = Var::from_tensor(entry.get(&format!("input.{source}"))).unwrap();
        if *resize == TableResize::Dinov2 && grid(to) == from(source) {
            // Stored to show the formula: the table itself serves its own grid.
            entry.get(key);
            continue;
        }
        let out = resize.table(table.as_tensor(), 0, from(source), grid(to)).unwrap();
        match gradient {
            None => close(key, &out, entry.get(key), TOLERANCE),
            Some(to) => {
                let upstream = entry.get(&format!("input.grad_{to}"));
                let loss = (out * upstream).unwrap().sum_all().unwrap();
                let grads = loss.backward().unwrap();
                close(key, grads.get(table.as_tensor()).unwrap(), entry.get(key), TOLERANCE);
            }
        }
    }
    all_read(entry);
}
