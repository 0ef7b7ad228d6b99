//! What is painted on surfaces: windows, faces, grilles, cells. Patterns live in a body's own coordinates and are
//! filtered for the size of a pixel, so that distant facades do not flicker.

use super::{
    material::{GLASS, Material},
    noise::{fractal2, fractal3, hash_unit, split},
    vector::{V3, mix, smooth_step},
};

/// A point of a surface, as patterns see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// In the body's coordinates, metres.
    pub(crate) local: V3,
    pub(crate) face: u8,
    /// Size of a pixel there, metres.
    pub(crate) footprint: f32,
    pub(crate) seed: u32,
}

/// What a pattern does to a spot: kelvin on top, and a second material with its share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) kelvin: f32,
    pub(crate) other: Material,
    pub(crate) share: f32,
}

/// A facade's windows and leaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facade {
    /// Height of the whole wall, metres; the body's middle is half way up.
    pub(crate) height: f32,
    pub(crate) floor: f32,
    pub(crate) bay: f32,
    /// Share of a bay and of a floor that is window.
    pub(crate) window: (f32, f32),
    /// Share of windows that are warm, and how warm at most.
    pub(crate) warm: (f32, f32),
    /// Heat through slabs, frames and niches, kelvin.
    pub(crate) leak: f32,
    /// Shop windows at street level.
    pub(crate) shops: bool,
    /// What the flat roof is made of.
    pub(crate) roof: Material,
}

/// A face's features.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaceLook {
    /// Half axes of the head.
    pub(crate) radii: V3,
    /// Hair against skin, kelvin (negative).
    pub(crate) hair: f32,
    /// Where the hair begins: height on the forehead, -1 to 1.
    pub(crate) hairline: f32,
    pub(crate) beard: f32,
    /// Glasses against skin, kelvin (negative), 0 for none.
    pub(crate) glasses: f32,
}

/// A pattern.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    Plain,
    Facade(Facade),
    /// A car's cabin: everything but the roof is glass between pillars. Between heights `belt` and `top`.
    Cabin {
        belt: f32,
        top: f32,
        pillar: f32,
    },
    /// A car's lower body with its nose at +z: engine heat under the bonnet and behind the grille.
    CarBody {
        engine: f32,
        nose: f32,
        half_width: f32,
    },
    /// Tyre and rim on a cylinder's caps.
    Wheel {
        radius: f32,
        warmth: f32,
    },
    Face(FaceLook),
    /// Modules with cells on a panel's top (face 3), some of them hot.
    Cells {
        pitch: (f32, f32),
        hot: f32,
        faults: f32,
    },
    /// Stripes across an axis of the body (0 x, 1 y, 2 z): planks, fins, corrugation, blinds, furrows.
    Stripes {
        axis: u8,
        pitch: f32,
        duty: f32,
        kelvin: f32,
    },
    /// Warmer towards the top by `top` and in blotches by `stain`.
    Wall {
        half: f32,
        top: f32,
        stain: f32,
    },
    /// Below `level` (body's y) `kelvin` warmer: a filled tank.
    Level {
        level: f32,
        kelvin: f32,
    },
    /// A rectangle of the front (face 4 or 5) `kelvin` warmer, like a screen, an oven door, a window with a sill.
    Inset {
        half: (f32, f32),
        kelvin: f32,
        glass: f32,
    },
    /// Patches of fur or cloth, from one temperature to another over the body.
    Coat {
        patch: f32,
        kelvin: f32,
    },
    /// Courses of stones or tiles: `(width, height)` with joints.
    Courses {
        pitch: (f32, f32),
        joint: f32,
        spread: f32,
    },
}

/// Share of a pixel of size `size` about `at` that lies between `low` and `high`.
pub(crate) fn cover(at: f32, low: f32, high: f32, size: f32) -> f32 {
    let size = size.max(1e-4);
    ((high.min(at + 0.5 * size) - low.max(at - 0.5 * size)) / size).clamp(0.0, 1.0)
}

/// The same for an interval repeated every `pitch`; also the number of the repetition.
pub(crate) fn cover_repeated(at: f32, low: f32, high: f32, pitch: f32, size: f32) -> (f32, i32) {
    let (index, share) = split(at / pitch);
    let share =
        if size < pitch { cover(share * pitch, low, high, size) } else { (high - low) / pitch };
    // Between one and three pixels per repetition the pattern melts into its mean.
    let melt = smooth_step(0.4, 1.0, size / pitch);
    (mix(share, (high - low) / pitch, melt), index)
}

fn bump(at: f32, width: f32) -> f32 {
    (-(at / width) * (at / width)).exp()
}

impl Pattern {
    /// What the pattern does at a spot of `base` material.
    pub(crate) fn look(&self, spot: &Spot, base: &Material) -> Look {
        let plain = Look { kelvin: 0.0, other: *base, share: 0.0 };
        let p = spot.local;
        match self {
            Pattern::Plain => plain,
            Pattern::Facade(facade) => facade.look(spot, plain),
            Pattern::Cabin { belt, top, pillar } => {
                if matches!(spot.face, 3 | 5) {
                    return plain;
                }
                let high = cover(p.y, belt + 0.04, top - 0.07, spot.footprint);
                let across = if spot.face < 2 {
                    1.0 - cover(p.z, pillar - 0.06, pillar + 0.06, spot.footprint)
                } else {
                    1.0
                };
                Look {
                    share: high * across,
                    other: Material { heat: base.heat * 0.5, ..GLASS },
                    ..plain
                }
            }
            Pattern::CarBody { engine, nose, half_width } => {
                let back = nose - p.z;
                let bonnet = bump(p.x, 0.85 * half_width)
                    * bump(back - 0.6, 0.6)
                    * smooth_step(0.55, 0.8, p.y);
                let grille = cover(p.y, 0.38, 0.62, spot.footprint)
                    * smooth_step(0.25, 0.05, back)
                    * cover(p.x.abs(), -1.0, 0.62 * half_width, spot.footprint);
                let lamps = bump(p.x.abs() - 0.75 * half_width, 0.14)
                    * bump(p.y - 0.66, 0.09)
                    * smooth_step(0.3, 0.1, back);
                let sill = smooth_step(0.42, 0.3, p.y);
                let kelvin = engine * (0.38 * bonnet + 0.9 * grille + 0.35 * lamps) + 1.2 * sill;
                Look { kelvin, ..plain }
            }
            Pattern::Wheel { radius, warmth } => {
                if spot.face == 0 {
                    return Look { kelvin: *warmth, ..plain };
                }
                let rho = p.x.hypot(p.z) / radius;
                let angle = p.z.atan2(p.x);
                let rim = smooth_step(0.68, 0.62, rho);
                let gaps =
                    smooth_step(-0.1, 0.4, (angle * 5.0).cos()) * smooth_step(0.2, 0.35, rho);
                let kelvin = mix(0.75 * warmth, warmth * mix(0.5, 1.1, gaps) - 0.6, rim);
                Look { kelvin, ..plain }
            }
            Pattern::Face(face) => Look { kelvin: face.kelvin(spot), ..plain },
            Pattern::Cells { pitch, hot, faults } => {
                if spot.face != 3 {
                    return Look { kelvin: -1.0, ..plain };
                }
                let (frame_x, i) =
                    cover_repeated(p.x, 0.03, pitch.0 - 0.03, pitch.0, spot.footprint);
                let (frame_z, j) =
                    cover_repeated(p.z, 0.03, pitch.1 - 0.03, pitch.1, spot.footprint);
                let inside = frame_x * frame_z;
                let (cell_x, k) = cover_repeated(p.x, 0.008, 0.152, 0.16, spot.footprint);
                let (cell_z, l) = cover_repeated(p.z, 0.008, 0.152, 0.16, spot.footprint);
                let module = hash_unit(i, j, 0, spot.seed);
                let mut kelvin = 1.2 * (hash_unit(i, j, 1, spot.seed) - 0.5)
                    + 0.5 * (hash_unit(k, l, 2, spot.seed) - 0.5) * cell_x * cell_z;
                if module < *faults {
                    let whole = hash_unit(i, j, 3, spot.seed) < 0.4;
                    let cell = hash_unit(k, l, 4, spot.seed) < 0.04;
                    kelvin += if whole || cell { *hot } else { 0.25 * hot };
                }
                Look { kelvin: mix(-3.0, kelvin, inside), ..plain }
            }
            Pattern::Stripes { axis, pitch, duty, kelvin } => {
                let at = match axis {
                    0 => p.x,
                    1 => p.y,
                    _ => p.z,
                };
                let (on, index) = cover_repeated(at, 0.0, duty * pitch, *pitch, spot.footprint);
                let own = hash_unit(index, 0, 7, spot.seed) - 0.5;
                let fades = smooth_step(1.0, 0.4, spot.footprint / pitch);
                Look { kelvin: kelvin * (on + 0.5 * own * fades), ..plain }
            }
            Pattern::Wall { half, top, stain } => {
                let high = (p.y / half).clamp(-1.0, 1.0);
                let at = (p.x + p.z, p.y * 1.3);
                let blotch = fractal2(at, 1.8, 4, 0.6, spot.footprint, spot.seed);
                Look { kelvin: 0.5 * top * (high + 1.0) + stain * blotch, ..plain }
            }
            Pattern::Level { level, kelvin } => {
                let below = smooth_step(level + 0.1, level - 0.1, p.y);
                Look { kelvin: kelvin * below, ..plain }
            }
            Pattern::Inset { half, kelvin, glass } => {
                if spot.face < 4 {
                    return plain;
                }
                let inside = cover(p.x, -half.0, half.0, spot.footprint)
                    * cover(p.y, -half.1, half.1, spot.footprint);
                let glow = kelvin * (0.8 + 0.2 * bump(p.y + 0.5 * half.1, half.1));
                Look { kelvin: inside * glow, other: GLASS, share: inside * glass }
            }
            Pattern::Coat { patch, kelvin } => {
                let field = fractal3(p, *patch, 2, 0.5, spot.footprint, spot.seed ^ 0x51);
                Look { kelvin: kelvin * smooth_step(-0.1, 0.15, field), ..plain }
            }
            Pattern::Courses { pitch, joint, spread } => {
                let along = if spot.face < 2 { p.z } else { p.x };
                let height = if spot.face == 3 { p.z } else { p.y };
                let (row, j) =
                    cover_repeated(height, 0.08 * pitch.1, 0.92 * pitch.1, pitch.1, spot.footprint);
                let shifted = along + if j % 2 == 0 { 0.0 } else { 0.5 * pitch.0 };
                let (stone, i) = cover_repeated(
                    shifted,
                    0.04 * pitch.0,
                    0.96 * pitch.0,
                    pitch.0,
                    spot.footprint,
                );
                let own = hash_unit(i, j, 9, spot.seed) - 0.5;
                let fades = smooth_step(1.0, 0.4, spot.footprint / pitch.1);
                Look { kelvin: mix(*joint, spread * own * fades, row * stone), ..plain }
            }
        }
    }
}

impl Facade {
    fn look(&self, spot: &Spot, plain: Look) -> Look {
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
        // Heat that finds its way out.
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
        // Each pane its own: cold reflection, heated room, a curtain half way down, now and then open.
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

impl FaceLook {
    fn kelvin(&self, spot: &Spot) -> f32 {
        let p = spot.local;
        let (x, y, z) = (p.x / self.radii.x, p.y / self.radii.y, p.z / self.radii.z);
        let side = x.abs();
        let front = smooth_step(0.0, 0.35, z);
        let eyes = bump(side - 0.36, 0.15) * bump(y - 0.12, 0.1) * front;
        let canthi = bump(side - 0.2, 0.09) * bump(y - 0.14, 0.08) * front;
        let brows = bump(side - 0.36, 0.2) * bump(y - 0.3, 0.05) * front;
        let nose = bump(x, 0.15) * bump(y + 0.14, 0.2) * front;
        let nostrils = bump(side - 0.08, 0.05) * bump(y + 0.3, 0.04) * front;
        let cheeks = bump(side - 0.55, 0.22) * bump(y + 0.2, 0.25) * front;
        let lips = bump(x, 0.25) * bump(y + 0.5, 0.05) * front;
        let veins = fractal3(p, 0.07, 3, 0.6, spot.footprint, spot.seed);
        let mut kelvin = 0.7 * eyes + 1.5 * canthi - 1.1 * brows - 2.4 * nose + 1.0 * nostrils
            - 1.0 * cheeks
            + 0.6 * lips
            + 0.45 * veins;
        // Hair: the crown, the back, the temples; its edge is uneven.
        let edge = 0.12 * fractal3(p, 0.03, 3, 0.7, spot.footprint, spot.seed ^ 0x77);
        let crown = smooth_step(-0.06, 0.06, y + edge - self.hairline - 0.25 * (z - 0.8));
        let back = smooth_step(0.12, -0.05, z + edge - 0.1) * smooth_step(-0.75, -0.5, y);
        let hair = crown.max(back);
        let chin = smooth_step(-0.3, -0.42, y + edge)
            * smooth_step(0.0, 0.3, z + 0.2)
            * (1.0 - bump(x, 0.25) * bump(y + 0.5, 0.07));
        let strands = 1.0 + 0.35 * fractal3(p, 0.02, 2, 0.7, spot.footprint, spot.seed ^ 0x99);
        kelvin = mix(kelvin, self.hair * strands, hair);
        kelvin = mix(kelvin, 0.6 * self.hair * strands, chin * self.beard);
        if self.glasses < 0.0 {
            let lens =
                smooth_step(1.0, 0.85, ((side - 0.38) / 0.3).hypot((y - 0.12) / 0.2)) * front;
            let bridge = bump(y - 0.17, 0.04) * smooth_step(0.15, 0.1, side) * front;
            kelvin = mix(kelvin, self.glasses, lens.max(bridge));
        }
        kelvin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::{material::BRICK, vector::v3};

    #[test]
    fn covers_are_shares() {
        assert_eq!(cover(0.5, 0.0, 1.0, 0.1), 1.0);
        assert_eq!(cover(2.0, 0.0, 1.0, 0.1), 0.0);
        assert!((cover(1.0, 0.0, 1.0, 0.2) - 0.5).abs() < 1e-6);
        // Far away a repetition is its mean.
        let (share, _) = cover_repeated(7.3, 0.0, 0.25, 1.0, 50.0);
        assert!((share - 0.25).abs() < 1e-6);
        assert_eq!(cover_repeated(-0.9, 0.0, 0.25, 1.0, 1e-3).1, -1);
    }

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
        let looks: Vec<f32> = (0..600)
            .map(|i| {
                let local = v3((i % 30) as f32 * 0.31, (i / 30) as f32 * 0.5 - 5.0, 4.0);
                let spot = Spot { local, face: 5, footprint: 0.01, seed: 3 };
                Pattern::Facade(facade).look(&spot, &BRICK).share
            })
            .collect();
        let glass = looks.iter().filter(|&&share| share > 0.7).count();
        let wall = looks.iter().filter(|&&share| share < 0.01).count();
        assert!(glass > 60 && wall > 200, "{glass} {wall}");
    }
}
