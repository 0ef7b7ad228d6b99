//! The configuration of scenes.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result, SettingFault},
    size::Size,
};

/// Smallest side of a scene, pixels.
pub const MIN_SIDE: usize = 32;
/// Largest side of a scene, pixels. Rendering takes about 80 bytes of memory per pixel.
pub const MAX_SIDE: usize = 4096;
/// Maximum of [`SceneConfig::max_objects`].
pub const MAX_OBJECTS: usize = 200;

/// Part of the year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Season {
    /// Short cold days, bare trees, sometimes snow.
    Winter,
    /// Mild, young leaves.
    Spring,
    /// Long hot days.
    Summer,
    /// Mild, thinning leaves.
    Autumn,
}

/// The kind of a scene: viewpoint and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Eye height in a street.
    Street,
    /// A mast or roof above a car park, a square, a crossing.
    Mast,
    /// A drone, straight down or oblique.
    Aerial,
    /// Fields, woods, a shore: animals and hikers.
    Field,
    /// A room with people.
    Room,
    /// One person or animal that fills the frame.
    CloseUp,
    /// Pipes, tanks, motors, switchgear.
    Plant,
}

/// Relative weights of the scene families. A family of weight 0 is never drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FamilyWeights {
    /// Weight of [`Family::Street`].
    pub street: f32,
    /// Weight of [`Family::Mast`].
    pub mast: f32,
    /// Weight of [`Family::Aerial`].
    pub aerial: f32,
    /// Weight of [`Family::Field`].
    pub field: f32,
    /// Weight of [`Family::Room`].
    pub room: f32,
    /// Weight of [`Family::CloseUp`].
    pub close_up: f32,
    /// Weight of [`Family::Plant`].
    pub plant: f32,
}

impl Default for FamilyWeights {
    fn default() -> Self {
        Self {
            street: 0.30,
            mast: 0.16,
            aerial: 0.20,
            field: 0.13,
            room: 0.08,
            close_up: 0.08,
            plant: 0.05,
        }
    }
}

impl FamilyWeights {
    /// Returns weights that draw scenes of one family only.
    pub fn only(family: Family) -> Self {
        let mut weights = Self {
            street: 0.0,
            mast: 0.0,
            aerial: 0.0,
            field: 0.0,
            room: 0.0,
            close_up: 0.0,
            plant: 0.0,
        };
        match family {
            Family::Street => weights.street = 1.0,
            Family::Mast => weights.mast = 1.0,
            Family::Aerial => weights.aerial = 1.0,
            Family::Field => weights.field = 1.0,
            Family::Room => weights.room = 1.0,
            Family::CloseUp => weights.close_up = 1.0,
            Family::Plant => weights.plant = 1.0,
        }
        weights
    }

    pub(crate) fn table(&self) -> [(Family, f32); 7] {
        [
            (Family::Street, self.street),
            (Family::Mast, self.mast),
            (Family::Aerial, self.aerial),
            (Family::Field, self.field),
            (Family::Room, self.room),
            (Family::CloseUp, self.close_up),
            (Family::Plant, self.plant),
        ]
    }
}

/// The faults of the camera. Every scene has its own camera, drawn uniformly from these
/// `[low, high]` ranges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorConfig {
    /// Standard deviation of the optics' Gaussian blur, pixels.
    pub blur_sigma_px: [f32; 2],
    /// Temporal noise (NETD), kelvin.
    pub netd_kelvin: [f32; 2],
    /// Fixed column pattern, standard deviation, kelvin.
    pub column_stripes_kelvin: [f32; 2],
    /// Row pattern, standard deviation, kelvin.
    pub row_stripes_kelvin: [f32; 2],
    /// Offset of the corners relative to the centre (vignetting, narcissus), kelvin; its sign is
    /// random.
    pub vignetting_kelvin: [f32; 2],
    /// Share of dead or stuck pixels, 0 to 1.
    pub dead_pixel_share: [f32; 2],
}

impl Default for SensorConfig {
    fn default() -> Self {
        Self {
            blur_sigma_px: [0.45, 1.1],
            netd_kelvin: [0.03, 0.08],
            column_stripes_kelvin: [0.005, 0.045],
            row_stripes_kelvin: [0.0, 0.015],
            vignetting_kelvin: [0.0, 0.5],
            dead_pixel_share: [0.0, 2e-4],
        }
    }
}

impl SensorConfig {
    /// Returns a camera without faults.
    pub fn perfect() -> Self {
        let zero = [0.0, 0.0];
        Self {
            blur_sigma_px: zero,
            netd_kelvin: zero,
            column_stripes_kelvin: zero,
            row_stripes_kelvin: zero,
            vignetting_kelvin: zero,
            dead_pixel_share: zero,
        }
    }
}

/// The gain control from 16-bit counts to 8 bits, drawn per scene from these `[low, high]` ranges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GainConfig {
    /// Share of pixels saturated at each end of the window.
    pub tail_share: [f32; 2],
    /// Blend between a linear window (0) and plateau equalisation (1).
    pub equalisation: [f32; 2],
    /// Strength of the local detail enhancement; 0 disables it.
    pub detail: [f32; 2],
}

impl Default for GainConfig {
    fn default() -> Self {
        Self { tail_share: [0.001, 0.01], equalisation: [0.2, 0.95], detail: [0.0, 0.6] }
    }
}

/// The configuration of rendered scenes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SceneConfig {
    /// Size of the images; sides from [`MIN_SIDE`] to [`MAX_SIDE`].
    pub size: Size,
    /// Seed of all random decisions. Equal seeds and indices give equal scenes.
    pub seed: u64,
    /// Weights of the scene families.
    pub families: FamilyWeights,
    /// Seasons to draw from.
    pub seasons: Vec<Season>,
    /// Hours of the day to draw from, `[from, to]` within 0 to 24. A range with `from > to` spans
    /// midnight.
    pub hours: [f32; 2],
    /// Minimum number of people, cars, bicycles and animals placed in a scene (some of them may be
    /// hidden).
    pub min_objects: usize,
    /// Maximum number of people, cars, bicycles and animals, up to [`MAX_OBJECTS`].
    pub max_objects: usize,
    /// Minimum number of visible pixels of a labelled object. The pixels of other objects are
    /// [`IGNORE`](crate::IGNORE) in the class map.
    pub min_visible_pixels: usize,
    /// Minimum visible share of a labelled object, 0 to 1.
    pub min_visible_share: f32,
    /// The faults of the camera.
    pub sensor: SensorConfig,
    /// The gain control.
    pub gain: GainConfig,
}

impl Default for SceneConfig {
    fn default() -> Self {
        Self {
            size: Size::new(512, 640),
            seed: 0,
            families: FamilyWeights::default(),
            seasons: vec![Season::Winter, Season::Spring, Season::Summer, Season::Autumn],
            hours: [0.0, 24.0],
            min_objects: 2,
            max_objects: 14,
            min_visible_pixels: 12,
            min_visible_share: 0.15,
            sensor: SensorConfig::default(),
            gain: GainConfig::default(),
        }
    }
}

impl SceneConfig {
    /// Returns the default configuration with another size and seed.
    pub fn new(size: Size, seed: u64) -> Self {
        Self { size, seed, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Settings`] with all settings that are outside their ranges.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut fault = |name, expected: String, found: String| {
            faults.push(SettingFault { name, expected, found });
        };
        let sides = MIN_SIDE..=MAX_SIDE;
        if !sides.contains(&self.size.height) || !sides.contains(&self.size.width) {
            let expected = format!("sides from {MIN_SIDE} to {MAX_SIDE} pixels");
            fault("size", expected, self.size.to_string());
        }
        let weights = self.families.table().map(|(_, weight)| weight);
        let total: f32 = weights.iter().sum();
        if weights.iter().any(|&weight| !(weight >= 0.0 && weight.is_finite())) || total <= 0.0 {
            let found = format!("{weights:?}");
            fault("families", "weights of at least 0, not all 0".into(), found);
        }
        if self.seasons.is_empty() {
            fault("seasons", "at least one season".into(), "empty".into());
        }
        if !self.hours.iter().all(|hour| (0.0..=24.0).contains(hour)) {
            fault("hours", "two hours from 0 to 24".into(), format!("{:?}", self.hours));
        }
        if self.min_objects > self.max_objects || self.max_objects > MAX_OBJECTS {
            fault(
                "min_objects, max_objects",
                format!("min at most max, max at most {MAX_OBJECTS}"),
                format!("{}, {}", self.min_objects, self.max_objects),
            );
        }
        if !(0.0..=1.0).contains(&self.min_visible_share) {
            fault("min_visible_share", "0 to 1".into(), self.min_visible_share.to_string());
        }
        for (name, range, limit) in [
            ("sensor.blur_sigma_px", self.sensor.blur_sigma_px, 10.0),
            ("sensor.netd_kelvin", self.sensor.netd_kelvin, 10.0),
            ("sensor.column_stripes_kelvin", self.sensor.column_stripes_kelvin, 10.0),
            ("sensor.row_stripes_kelvin", self.sensor.row_stripes_kelvin, 10.0),
            ("sensor.vignetting_kelvin", self.sensor.vignetting_kelvin, 10.0),
            ("sensor.dead_pixel_share", self.sensor.dead_pixel_share, 0.1),
            ("gain.tail_share", self.gain.tail_share, 0.2),
            ("gain.equalisation", self.gain.equalisation, 1.0),
            ("gain.detail", self.gain.detail, 3.0),
        ] {
            let [low, high] = range;
            if !(0.0 <= low && low <= high && high <= limit) {
                fault(name, format!("0 <= low <= high <= {limit}"), format!("{range:?}"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings { faults }) }
    }
}
