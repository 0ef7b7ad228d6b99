//! Smooths the temperatures inside people and animals, whose parts have no seams in reality.

use crate::{
    class::Class,
    raster::{SAMPLES, Samples},
    world::World,
};

/// Sigma of the blur, as a share of the body's size in the image.
const SHARE: f32 = 0.0065;

/// Bounding rectangle of a body's pixels.
#[derive(Clone, Copy)]
struct Extent {
    x0: usize,
    y0: usize,
    x1: usize,
    y1: usize,
}

/// Blurs temperatures within each person and animal that is large enough for its joints to show,
/// never across its outline.
pub(crate) fn soften(world: &World, samples: &Samples, kelvin: &mut [f32]) {
    let width = world.camera.size.width;
    let none = Extent { x0: usize::MAX, y0: usize::MAX, x1: 0, y1: 0 };
    let mut extents = vec![none; world.things.len()];
    let owners: Vec<u16> = samples
        .key
        .chunks_exact(SAMPLES)
        .enumerate()
        .map(|(pixel, keys)| {
            let owner = |key: u32| world.meaning((key >> 4) as usize).1;
            let first = owner(keys[0]);
            if first == 0 || keys[1..].iter().any(|&key| owner(key) != first) {
                return 0;
            }
            let own = &mut extents[usize::from(first) - 1];
            let (x, y) = (pixel % width, pixel / width);
            *own = Extent {
                x0: own.x0.min(x),
                y0: own.y0.min(y),
                x1: own.x1.max(x + 1),
                y1: own.y1.max(y + 1),
            };
            first
        })
        .collect();
    for (index, (extent, class)) in extents.iter().zip(&world.things).enumerate() {
        if extent.x1 == 0 || !matches!(class, Class::Person | Class::Animal) {
            continue;
        }
        let area = (extent.x1 - extent.x0) * (extent.y1 - extent.y0);
        let sigma = SHARE * (area as f32).sqrt();
        if sigma > 0.6 {
            blur_inside(kelvin, &owners, width, extent, (index + 1) as u16, sigma);
        }
    }
}

/// Blurs the pixels of one instance with a Gaussian. Both passes carry the sum of weights found
/// inside the instance.
fn blur_inside(
    kelvin: &mut [f32],
    owners: &[u16],
    width: usize,
    extent: &Extent,
    owner: u16,
    sigma: f32,
) {
    let (w, h) = (extent.x1 - extent.x0, extent.y1 - extent.y0);
    let radius = (2.5 * sigma).ceil() as usize;
    let kernel: Vec<f32> =
        (0..=radius).map(|step| (-0.5 * (step as f32 / sigma).powi(2)).exp()).collect();
    let mut now = vec![(0.0, 0.0); w * h];
    for (at, cell) in now.iter_mut().enumerate() {
        let pixel = (extent.y0 + at / w) * width + extent.x0 + at % w;
        if owners[pixel] == owner {
            *cell = (kelvin[pixel], 1.0);
        }
    }
    let pass =
        |from: &[(f32, f32)], stride: usize, count: usize, position: &dyn Fn(usize) -> usize| {
            let mut to = vec![(0.0, 0.0); from.len()];
            for (at, cell) in to.iter_mut().enumerate() {
                let here = position(at);
                for (step, weight) in kernel.iter().enumerate() {
                    let mut take = |other: usize| {
                        let (sum, share) = from[other];
                        cell.0 += weight * sum;
                        cell.1 += weight * share;
                    };
                    if here >= step {
                        take(at - step * stride);
                    }
                    if step > 0 && here + step < count {
                        take(at + step * stride);
                    }
                }
            }
            to
        };
    let across = pass(&now, 1, w, &|at| at % w);
    let both = pass(&across, w, h, &|at| at / w);
    for (at, (sum, share)) in both.into_iter().enumerate() {
        let pixel = (extent.y0 + at / w) * width + extent.x0 + at % w;
        if owners[pixel] == owner && share > 0.0 {
            kelvin[pixel] = sum / share;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_to_its_owner() {
        // Ten columns: five of owner 1 with a step, five of owner 2.
        let width = 10;
        let owners: Vec<u16> = (0..80).map(|at| if at % width < 5 { 1 } else { 2 }).collect();
        let mut kelvin: Vec<f32> = (0..80)
            .map(|at| {
                [300.0, 300.0, 310.0, 310.0, 310.0, 200.0, 200.0, 200.0, 200.0, 200.0][at % width]
            })
            .collect();
        let extent = Extent { x0: 0, y0: 0, x1: 7, y1: 8 };
        blur_inside(&mut kelvin, &owners, width, &extent, 1, 1.0);
        assert!(kelvin[1] > 301.0 && kelvin[2] < 309.0, "{kelvin:?}");
        assert!(kelvin[4] > 305.0, "the other owner's cold leaked in: {kelvin:?}");
        assert!(kelvin.iter().zip(&owners).all(|(&k, &o)| o == 1 || k == 200.0));
    }
}
