//! Temperature patterns on surfaces: windows, faces, grilles, cells. They are functions of the
//! body's own coordinates, filtered for the size of a pixel so that distant facades do not alias.

use crate::{
    facade::Facade,
    face::FaceLook,
    material::{GLASS, Material},
    noise::{fractal2, fractal3, hash_unit},
    spot::{Look, Spot, bump, cover, cover_repeated},
    vector::{mix, smooth_step, v3},
};

/// A temperature pattern on a surface.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    Plain,
    Facade(Facade),
    /// A car's cabin: everything but the roof is glass between pillars. Between heights `belt` and
    /// `top`.
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
    /// Stripes across an axis of the body (0 x, 1 y, 2 z): planks, fins, corrugation, blinds,
    /// furrows.
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
    /// A rectangle of the front (face 4 or 5) `kelvin` warmer, like a screen, an oven door, a
    /// window with a sill.
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
    /// Folds of cloth: bright where it lies on the skin, dark where it stands off.
    Cloth {
        fold: f32,
        kelvin: f32,
    },
    /// Courses of stones or tiles: `(width, height)` with joints.
    Courses {
        pitch: (f32, f32),
        joint: f32,
        spread: f32,
    },
}

impl Pattern {
    /// Returns the effect of the pattern at a spot of `base` material.
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
                let field =
                    fractal3(spot.textured, *patch, 3, 0.5, spot.footprint, spot.seed ^ 0x51);
                Look { kelvin: kelvin * smooth_step(-0.08, 0.12, field), ..plain }
            }
            Pattern::Cloth { fold, kelvin } => {
                // Ridges of stretched noise; they slant and branch.
                let q = v3(p.x + 0.35 * p.y, 0.55 * p.y - 0.2 * p.x, p.z);
                let large = fractal3(q, *fold, 2, 0.6, spot.footprint, spot.seed ^ 0x1d).abs();
                let small =
                    fractal3(q, 0.45 * fold, 2, 0.6, spot.footprint, spot.seed ^ 0x2e).abs();
                let loose = fractal3(p, 2.5 * fold, 1, 0.5, spot.footprint, spot.seed ^ 0x3f);
                Look { kelvin: kelvin * (0.75 - 1.2 * large - 0.7 * small + 0.5 * loose), ..plain }
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
