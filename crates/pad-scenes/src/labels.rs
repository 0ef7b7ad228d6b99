//! Labels: class map, boxes and instance map, from the surfaces that the samples see.

use crate::{
    class::IGNORE,
    config::SceneConfig,
    raster::{SAMPLES, Samples},
    scene::SceneBox,
    world::World,
};

/// The visible pixels of an instance.
#[derive(Clone, Copy)]
struct Visible {
    samples: u32,
    pixels: usize,
    x0: usize,
    y0: usize,
    x1: usize,
    y1: usize,
}

/// Returns the class map (the majority of a pixel's samples; instances win ties), the boxes of the
/// labelled instances, and the instance map.
pub(crate) fn label(
    world: &World,
    samples: &Samples,
    config: &SceneConfig,
) -> (Vec<u8>, Vec<SceneBox>, Vec<u16>) {
    let size = world.camera.size;
    let none = Visible { samples: 0, pixels: 0, x0: usize::MAX, y0: usize::MAX, x1: 0, y1: 0 };
    let mut seen = vec![none; world.things.len()];
    let mut classes = vec![0_u8; size.area()];
    let mut owners = vec![0_u16; size.area()];
    for (pixel, keys) in samples.key.chunks_exact(SAMPLES).enumerate() {
        let meanings: [_; SAMPLES] =
            std::array::from_fn(|sample| world.meaning((keys[sample] >> 4) as usize));
        let mut best = (0, 0);
        for (sample, &(_, thing)) in meanings.iter().enumerate() {
            if thing > 0 {
                seen[usize::from(thing) - 1].samples += 1;
            }
            let votes = meanings.iter().filter(|&other| *other == meanings[sample]).count();
            let weight = 2 * votes + usize::from(thing > 0);
            if weight > best.0 {
                best = (weight, sample);
            }
        }
        let (class, thing) = meanings[best.1];
        classes[pixel] = class.index();
        owners[pixel] = thing;
        if thing > 0 {
            let (x, y) = (pixel % size.width, pixel / size.width);
            let own = &mut seen[usize::from(thing) - 1];
            own.pixels += 1;
            own.x0 = own.x0.min(x);
            own.y0 = own.y0.min(y);
            own.x1 = own.x1.max(x + 1);
            own.y1 = own.y1.max(y + 1);
        }
    }
    let mut boxes = Vec::new();
    // The number of each instance's box.
    let mut numbers = vec![0_u16; seen.len()];
    for (index, own) in seen.iter().enumerate() {
        let whole = samples.covered[index].max(1) as f32;
        let visible_share = (own.samples as f32 / whole).min(1.0);
        let enough = own.pixels > 0
            && own.pixels >= config.min_visible_pixels
            && visible_share >= config.min_visible_share;
        if enough {
            boxes.push(SceneBox {
                x1: own.x0 as f32,
                y1: own.y0 as f32,
                x2: own.x1 as f32,
                y2: own.y1 as f32,
                class: world.things[index].index(),
                visible_share,
            });
            // Instances are numbered by `u16` (`World::of_class`), so the number fits.
            numbers[index] = boxes.len() as u16;
        }
    }
    for (class, owner) in classes.iter_mut().zip(&mut owners) {
        if *owner > 0 {
            *owner = numbers[usize::from(*owner) - 1];
            if *owner == 0 {
                *class = IGNORE;
            }
        }
    }
    (classes, boxes, owners)
}
