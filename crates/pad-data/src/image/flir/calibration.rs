//! From counts to temperatures.

use super::super::{Image, Pixels};
use crate::{Error, Result};

/// What turns counts into temperatures. Temperatures are in kelvin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Planck's constants of the camera.
    pub planck: Planck,
    /// Share of the object's radiation that is its own, above 0 to 1.
    pub emissivity: f64,
    /// Temperature of what the object reflects.
    pub reflected: f64,
    /// What lies between object and camera; `None` for nothing that counts.
    pub atmosphere: Option<Atmosphere>,
}

/// Constants of `raw(T) = R1 / (R2 (exp(B / T) - F)) - O`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planck {
    /// R1, counts.
    pub r1: f64,
    /// R2, dimensionless.
    pub r2: f64,
    /// B, kelvin.
    pub b: f64,
    /// F, dimensionless.
    pub f: f64,
    /// O, counts.
    pub o: f64,
}

/// The air between object and camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Atmosphere {
    /// Distance, metres.
    pub distance: f64,
    /// Temperature, kelvin.
    pub temperature: f64,
    /// Relative humidity, 0 to 1.
    pub humidity: f64,
    /// Attenuation without water vapour, of both terms.
    pub alpha: [f64; 2],
    /// Attenuation by water vapour, of both terms.
    pub beta: [f64; 2],
    /// Weight of the first term.
    pub weight: f64,
}

impl Planck {
    /// The counts that a black body of `kelvin` gives.
    pub fn raw(&self, kelvin: f64) -> f64 {
        self.r1 / (self.r2 * ((self.b / kelvin).exp() - self.f)) - self.o
    }

    /// The temperature of the black body that gives `raw` counts, kelvin; NaN or infinite if no
    /// temperature does.
    pub fn kelvin(&self, raw: f64) -> f64 {
        self.b / (self.r1 / (self.r2 * (raw + self.o)) + self.f).ln()
    }
}

impl Atmosphere {
    /// Share of the radiation that comes through, 0 to 1.
    pub fn transmission(&self) -> f64 {
        let celsius = self.temperature - 273.15;
        // Water vapour by a cubic of the temperature, as FLIR publishes it.
        let exponent = 1.5587 + 0.06939 * celsius - 0.000_278_16 * celsius.powi(2)
            + 0.000_000_684_55 * celsius.powi(3);
        let water = (self.humidity * exponent.exp()).sqrt();
        let way = self.distance.sqrt();
        let term = |index: usize| (-way * (self.alpha[index] + self.beta[index] * water)).exp();
        self.weight * term(0) + (1.0 - self.weight) * term(1)
    }
}

impl Calibration {
    /// Checks that the constants give temperatures.
    pub(super) fn validate(&self) -> Result<()> {
        let Planck { r1, r2, b, f, o } = self.planck;
        let finite =
            [r1, r2, b, f, o, self.emissivity, self.reflected].iter().all(|x| x.is_finite());
        let sound = r1 > 0.0 && r2 > 0.0 && b > 0.0 && self.reflected > 0.0;
        if finite && sound && self.emissivity > 0.0 && self.emissivity <= 1.0 {
            return Ok(());
        }
        Err(Error::Setting {
            name: "calibration",
            expected: "R1, R2, B and the reflected temperature above 0, an emissivity above 0 to 1"
                .into(),
            found: format!(
                "R1 {r1}, R2 {r2}, B {b}, F {f}, O {o}, reflected {} K, emissivity {}",
                self.reflected, self.emissivity
            ),
        })
    }

    /// The object's temperature for `count`, kelvin; NaN or infinite if no temperature gives it.
    fn kelvin(&self, count: f64, transmission: f64, air: f64) -> f64 {
        let mirrored = self.planck.raw(self.reflected);
        let foreign =
            (1.0 - transmission) * air + (1.0 - self.emissivity) * transmission * mirrored;
        self.planck.kelvin((count - foreign) / (self.emissivity * transmission))
    }

    /// Temperatures of all counts, kelvin; NaN if no temperature gives a count.
    ///
    /// # Errors
    /// [`Error::Setting`] for constants that give no temperatures.
    pub fn table(&self) -> Result<Vec<f32>> {
        self.validate()?;
        // A transmission outside of 0 to 1 was not measured.
        let (transmission, air) = match self.atmosphere {
            Some(air) if air.transmission() > 0.0 && air.transmission() <= 1.0 => {
                (air.transmission(), self.planck.raw(air.temperature))
            }
            _ => (1.0, 0.0),
        };
        let kelvin = |count: u16| self.kelvin(f64::from(count), transmission, air) as f32;
        let physical = |kelvin: f32| if kelvin > 0.0 { kelvin } else { f32::NAN };
        Ok((0..=u16::MAX).map(|count| physical(kelvin(count))).collect())
    }

    /// Temperatures of an image of counts, `offset` added to kelvin, and the number of pixels whose
    /// count no temperature gives (dead pixels): these are masked.
    ///
    /// # Errors
    /// [`Error::Setting`] for constants that give no temperatures, for none of the counts of the
    /// image, and for samples other than one channel of 16 bits.
    pub(in crate::image) fn apply(&self, counts: &Image, offset: f32) -> Result<(Image, usize)> {
        let fault = |name, expected: &str, found: &str| {
            Err(Error::Setting { name, expected: expected.into(), found: found.into() })
        };
        let (Pixels::U16(values), 1) = (counts.pixels(), counts.channels()) else {
            return fault("counts", "one channel of 16 bits", "other samples");
        };
        let table = self.table()?;
        let kelvin: Vec<f32> =
            values.iter().map(|&count| table[usize::from(count)] + offset).collect();
        let masked: Vec<bool> = kelvin.iter().map(|value| !value.is_finite()).collect();
        let dead = masked.iter().filter(|&&masked| masked).count();
        if dead == masked.len() {
            return fault("calibration", "a temperature for some count of the image", "none");
        }
        let image = Image::new(counts.size(), 1, Pixels::F32(kelvin))?.with_mask(masked)?;
        Ok((image, dead))
    }
}
