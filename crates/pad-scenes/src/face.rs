//! The temperatures of a face: warm eyes, cool nose, hair, glasses.

use crate::{
    noise::fractal3,
    spot::{Spot, bump},
    vector::{V3, mix, smooth_step},
};

/// The features of a face.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaceLook {
    /// Half axes of the head.
    pub(crate) radii: V3,
    /// Temperature of hair relative to skin, kelvin (negative).
    pub(crate) hair: f32,
    /// Height of the hairline on the head, -1 to 1.
    pub(crate) hairline: f32,
    pub(crate) beard: f32,
    /// Temperature of glasses relative to skin, kelvin (negative); 0 without glasses.
    pub(crate) glasses: f32,
}

impl FaceLook {
    /// Returns the temperature at a spot of the head relative to the skin, kelvin.
    pub(crate) fn kelvin(&self, spot: &Spot) -> f32 {
        let p = spot.local;
        let (x, y, z) = (p.x / self.radii.x, p.y / self.radii.y, p.z / self.radii.z);
        let side = x.abs();
        let front = smooth_step(0.0, 0.35, z);
        let eyes = bump(side - 0.36, 0.15) * bump(y - 0.12, 0.1) * front;
        let canthi = bump(side - 0.2, 0.09) * bump(y - 0.14, 0.08) * front;
        let brows = bump(side - 0.36, 0.2) * bump(y - 0.3, 0.05) * front;
        let nose = bump(x, 0.13 + 0.06 * smooth_step(0.0, -0.25, y)) * bump(y + 0.2, 0.14) * front;
        let nostrils = bump(side - 0.08, 0.05) * bump(y + 0.3, 0.04) * front;
        let cheeks = bump(side - 0.55, 0.22) * bump(y + 0.2, 0.25) * front;
        let lips = bump(x, 0.25) * bump(y + 0.5, 0.05) * front;
        let veins = fractal3(p, 0.07, 3, 0.6, spot.footprint, spot.seed);
        let mut kelvin = 0.7 * eyes + 1.5 * canthi - 0.9 * brows - 1.7 * nose + 1.0 * nostrils
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
