//! Writes the files that a new user brings: `own_files DIR` writes `DIR/frames`, a folder of 16-bit PNGs as an infrared
//! camera gives them, and `DIR/labelled`, images with masks.

use std::{error::Error, fs, path::PathBuf};

use image::{ImageBuffer, Luma};

const WIDTH: u32 = 160;
const HEIGHT: u32 = 128;

/// Where the warm disc of image `index` is: x, y, radius.
fn disc(index: u32) -> (u32, u32, u32) {
    (30 + index * 37 % 100, 30 + index * 23 % 70, 12 + index % 9)
}

fn is_warm(index: u32, x: u32, y: u32) -> bool {
    let (x0, y0, radius) = disc(index);
    x.abs_diff(x0).pow(2) + y.abs_diff(y0).pow(2) < radius * radius
}

/// Counts of 14 bits around 7400: a slope, a texture, a warm disc.
fn frame(index: u32) -> ImageBuffer<Luma<u16>, Vec<u16>> {
    ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| {
        let texture = (x * 7 + y * 13 + index * 5) % 17 + (x / 20 + y / 20) % 2 * 25;
        let warm = if is_warm(index, x, y) { 220 } else { 0 };
        Luma([(7400 + y / 2 + texture + warm) as u16])
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: own_files DIR")?);
    let frames = folder.join("frames");
    let labelled = folder.join("labelled");
    for folder in [&frames, &labelled.join("images"), &labelled.join("masks")] {
        fs::create_dir_all(folder)?;
    }
    for index in 0..32 {
        frame(index).save(frames.join(format!("{index:04}.png")))?;
    }
    let mut lists = [String::new(), String::new()];
    for index in 0..20 {
        let name = format!("{index:04}");
        frame(100 + index).save(labelled.join("images").join(format!("{name}.png")))?;
        let mask = ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| {
            Luma([u8::from(is_warm(100 + index, x, y))])
        });
        mask.save(labelled.join("masks").join(format!("{name}.png")))?;
        lists[usize::from(index >= 16)] += &format!("{name}\n");
    }
    fs::write(labelled.join("train.txt"), &lists[0])?;
    fs::write(labelled.join("val.txt"), &lists[1])?;
    fs::write(labelled.join("classes.toml"), "classes = [\"background\", \"warm\"]\n")?;
    Ok(())
}
