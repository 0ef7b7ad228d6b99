//! Position tables on other grids.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    checkpoint::Checkpoint,
    vit::{
        PatchGrid, ViTConfig, interpolate_decomposed_table, interpolate_relative_table,
        interpolate_table, sin_cos_table,
    },
};
use pad_ops::ImageSize;
use pad_testkit::{close, golden, numbers};

#[test]
fn tables_on_other_grids() {
    let table = numbers(&[1, 1 + 5 * 7, 8], DType::F32, 1);
    let (from, to) = (PatchGrid::new(5, 7), PatchGrid::new(9, 4));
    let other = interpolate_table(&table, from, to).unwrap();
    assert_eq!(other.dims(), [1, 1 + 36, 8]);
    close("same grid", &interpolate_table(&table, from, from).unwrap(), &table, 0.0);
    // A table that is constant along columns stays so, and keeps its rows under a change of width
    // alone.
    let rows = numbers(&[5, 1, 8], DType::F32, 2).broadcast_as((5, 7, 8)).unwrap();
    let rows = rows.contiguous().unwrap().reshape((1, 35, 8)).unwrap();
    let class = numbers(&[1, 1, 8], DType::F32, 3);
    let flat = Tensor::cat(&[&class, &rows], 1).unwrap();
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

#[test]
fn tables_on_other_grids_as_the_reference_has_them() {
    let want = golden("pos_interp");
    let square = PatchGrid::new(14, 14);
    for (name, grid) in [("rect", (20, 32)), ("square", (32, 32)), ("down", (9, 7))] {
        let grid = PatchGrid::new(grid.0, grid.1);
        let table = interpolate_table(&want["input.pos_embed"], square, grid).unwrap();
        close(name, &table, &want[&format!("out.pos_embed_{name}")], 1e-5);
    }
    let (table, grid) = (&want["input.rel_table"], PatchGrid::new(32, 32));
    let larger = interpolate_relative_table(table, square, grid).unwrap();
    close("relative", &larger, &want["out.rel_table"], 1e-5);
    close(
        "class rows",
        &larger.narrow(0, 3969, 3).unwrap(),
        &table.narrow(0, 729, 3).unwrap(),
        0.0,
    );
    close("same grid", &interpolate_relative_table(table, square, square).unwrap(), table, 0.0);
    // Axis by axis: a rectangle's middle column of offsets is the square's.
    let rect = interpolate_relative_table(table, square, PatchGrid::new(32, 9)).unwrap();
    assert_eq!(rect.dims(), [63 * 17 + 3, 3]);
    let column = |table: &Tensor, width: usize| {
        let table = table.narrow(0, 0, 63 * width).unwrap().reshape((63, width, 3)).unwrap();
        table.narrow(1, width / 2, 1).unwrap()
    };
    close("middle column", &column(&rect, 17), &column(&larger, 63), 1e-6);

    let linear = golden("rel_pos_linear");
    for size in [3_usize, 5, 8, 13] {
        let got = interpolate_decomposed_table(&linear["input.rel_pos"], size).unwrap();
        close(&format!("decomposed {size}"), &got, &linear[&format!("out.{size}")], 1e-5);
    }
    let kept = interpolate_decomposed_table(&linear["input.rel_pos"], 7).unwrap();
    close("decomposed, same", &kept, &linear["input.rel_pos"], 0.0);

    let text = |result: pad_adapter::Result<Tensor>| result.unwrap_err().to_string();
    assert_eq!(
        text(interpolate_relative_table(table, PatchGrid::new(7, 7), grid)),
        "relative position table: 732 rows, expected 172 for the grid 7x7"
    );
    let small = numbers(&[12, 3], DType::F32, 1);
    assert_eq!(
        text(interpolate_relative_table(&small, PatchGrid::new(2, 2), grid)),
        "relative position table: from the grid 2x2 to 32x32, expected at least 3x3 to start from and 1x1 to end in"
    );
    assert_eq!(
        text(interpolate_decomposed_table(&small, 0)),
        "relative position table: 12 rows for 0 patches, expected at least 1 of both"
    );

    // Loading fits both kinds of tables.
    let config = ViTConfig { image_size: ImageSize::square(512), ..ViTConfig::base(16) };
    let name = "blocks.3.attn.relative_position_bias_table";
    let mut file = Checkpoint::from_tensors(
        "file",
        BTreeMap::from([
            (name.to_string(), table.clone()),
            ("pos_embed".to_string(), want["input.pos_embed"].clone()),
        ]),
    );
    assert_eq!(
        file.fit(&config).unwrap(),
        [
            "pos_embed interpolated from 14x14 to 32x32",
            "1 relative position tables interpolated from 14x14 to 32x32"
        ]
    );
    close("fitted", file.get(name).unwrap(), &larger, 0.0);
    assert_eq!(file.fit(&config).unwrap(), [""; 0]);
}
