//! Windows, floor slabs and heat leaks of a wall.

use crate::{
    material::{GLASS, Material},
    noise::{fractal2, hash_unit, split},
    spot::{Look, Spot, bump, cover_repeated},
    vector::{mix, smooth_step},
};

/// The windows and heat leaks of a facade.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facade {
    /// Height of the whole wall, metres; the body's centre is at half of it.
    pub(crate) height: f32,
    pub(crate) floor: f32,
    pub(crate) bay: f32,
    /// Share of a bay's width and of a floor's height that is window.
    pub(crate) window: (f32, f32),
    /// Share of windows that are warm, and their maximum warmth, kelvin.
    pub(crate) warm: (f32, f32),
    /// Heat lost through slabs, frames and niches, kelvin.
    pub(crate) leak: f32,
    /// Shop windows at street level.
    pub(crate) shops: bool,
    /// Material of the flat roof.
    pub(crate) roof: Material,
}

impl Facade {
    /// Returns the look of the wall at a spot; `plain` is the bare wall.
    pub(crate) fn look(&self, spot: &Spot, plain: Look) -> Look {
        let p = spot.local;
        match spot.face {
            3 => return Look { other: self.roof, share: 1.0, ..plain },
            2 => return plain,
            _ => {}
        }
        let along = if spot.face < 2 { p.z } else { p.x } + 500.0 * self.bay;
        let up = p.y + 0.5 * self.height;
        let seed = spot.seed.wrapping_add(u32::from(spot.face) * 77);
        let (storey, _) = split(up / self.floor);
        let shop = self.shops && storey == 0;
        let (wide, high) = if shop { (0.86, 0.74) } else { self.window };
        let sill = if shop { 0.08 } else { (0.92 - high).min(0.33) };
        let (bay, floor) = (self.bay, self.floor);
        let (u0, u1) = (0.5 * (1.0 - wide) * bay, 0.5 * (1.0 + wide) * bay);
        let (v0, v1) = (sill * floor, (sill + high) * floor);
        let size = spot.footprint;
        let (across, i) = cover_repeated(along, u0, u1, bay, size);
        let (rises, j) = cover_repeated(up, v0, v1, floor, size);
        let below_top = smooth_step(0.35, 0.6, self.height - up);
        let window = across * rises * below_top;
        let frame_u = cover_repeated(along, u0 - 0.12, u1 + 0.12, bay, size).0;
        let frame_v = cover_repeated(up, v0 - 0.12, v1 + 0.16, floor, size).0;
        let frame = (frame_u * frame_v * below_top - window).max(0.0);
        // Heat lost through the structure.
        let slab =
            cover_repeated(up + 0.5 * floor, 0.5 * floor - 0.12, 0.5 * floor + 0.14, floor, size).0;
        let niche = across * cover_repeated(up, v0 - 0.55, v0 - 0.1, floor, size).0;
        let warm_room = hash_unit(i, j, 3, seed);
        let foot = bump(up, 0.6);
        let top = bump(self.height - up, 0.35);
        let weathering = fractal2((along, up), 4.0, 3, 0.6, size, seed);
        let wall = self.leak
            * (0.35 * slab + 0.8 * niche * warm_room + 0.7 * frame + 0.4 * foot - 0.5 * top)
            + 0.35 * weathering;
        // Panes differ: cold reflection, heated room, a blind half way down, sometimes open.
        let lit = hash_unit(i, j, 1, seed) < self.warm.0;
        let open = hash_unit(i, j, 4, seed) < 0.03;
        let mullion = cover_repeated(along - 0.5 * bay, -0.04, 0.04, bay, size).0;
        let blind = smooth_step(
            0.0,
            0.05,
            (up / floor).fract() - mix(v0, v1, hash_unit(i, j, 5, seed)) / floor,
        );
        let mut pane = (hash_unit(i, j, 2, seed) - 0.5) * 2.0 + 0.8 * blind - 0.5 * mullion;
        if lit {
            pane += self.warm.1 * (0.5 + 0.5 * warm_room);
        }
        if open {
            pane += 2.0 + 1.5 * self.warm.1;
        }
        Look { kelvin: mix(wall, pane, window), other: GLASS, share: 0.75 * window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{material::BRICK, vector::v3};

    #[test]
    fn facades_have_windows_and_walls() {
        let facade = Facade {
            height: 12.0,
            floor: 3.0,
            bay: 3.0,
            window: (0.5, 0.5),
            warm: (0.5, 5.0),
            leak: 1.0,
            shops: false,
            roof: BRICK,
        };
        let plain = Look { kelvin: 0.0, other: BRICK, share: 0.0 };
        let looks: Vec<f32> = (0..600)
            .map(|i| {
                let local = v3((i % 30) as f32 * 0.31, (i / 30) as f32 * 0.5 - 5.0, 4.0);
                let spot = Spot { local, textured: local, face: 5, footprint: 0.01, seed: 3 };
                facade.look(&spot, plain).share
            })
            .collect();
        let glass = looks.iter().filter(|&&share| share > 0.7).count();
        let wall = looks.iter().filter(|&&share| share < 0.01).count();
        assert!(glass > 60 && wall > 200, "{glass} {wall}");
    }
}
