//! The pixels of a scene never change: runs, demonstrations and golden tests are made of them.

use pad_scenes::{Family, FamilyWeights, Scene, SceneConfig, Size, render};

/// 64-bit FNV-1a.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Everything that a scene holds.
fn add_scene(digest: &mut Digest, scene: &Scene) {
    digest.add(scene.temperature_kelvin.iter().flat_map(|kelvin| kelvin.to_le_bytes()));
    digest.add(scene.counts.iter().flat_map(|count| count.to_le_bytes()));
    digest.add(scene.gray.iter().copied());
    digest.add(scene.classes.iter().copied());
    digest.add(scene.instances.iter().flat_map(|number| number.to_le_bytes()));
    for found in &scene.boxes {
        let numbers = [found.x1, found.y1, found.x2, found.y2, found.visible_share];
        digest.add(numbers.iter().flat_map(|number| number.to_le_bytes()));
        digest.add([found.class]);
    }
    digest.add(scene.radiometry.counts(300.0).to_le_bytes());
    digest.add(format!("{:?} {:?} {}", scene.family, scene.season, scene.hour).into_bytes());
}

/// The values of the platform's mathematical functions. Their last bits are the library's and the
/// processor's own.
fn functions() -> u64 {
    let mut digest = Digest::new();
    for step in 0..20_000 {
        let x = step as f32 * 3.7e-3 + 1e-3;
        let values = [x.sin(), x.cos(), x.tan(), (-x).exp(), x.exp2(), x.ln(), x.powf(0.37)];
        digest.add(values.iter().flat_map(|value| value.to_le_bytes()));
        let values = [x.hypot(1.3), x.atan2(0.7), (x / 75.0).acos(), (x / 75.0).asin(), x.tanh()];
        digest.add(values.iter().flat_map(|value| value.to_le_bytes()));
        let x = f64::from(x);
        let values = [x.sin(), x.cos(), (-x).exp(), x.ln(), x.powf(0.37), x.hypot(1.3)];
        digest.add(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    digest.0
}

/// [`functions`] where the digests were taken: glibc on x86-64 with FMA.
const FUNCTIONS: u64 = 0xf050_f412_a35a_75ef;

/// Family, digest of its scenes, sum of their grey levels, number of their boxes.
const EXPECTED: [(Family, u64, u64, usize); 7] = [
    (Family::Street, 0x3bcc_1655_c3d5_d5b6, 10_884_371, 59),
    (Family::Mast, 0x06b5_982f_7ea3_48da, 9_355_819, 54),
    (Family::Aerial, 0x555b_ee19_2aa5_9b68, 10_814_119, 32),
    (Family::Field, 0x1d89_15d5_d021_8257, 10_208_292, 44),
    (Family::Room, 0x3629_9460_f95a_4e0d, 8_802_318, 63),
    (Family::CloseUp, 0xeeca_0f24_c2d6_df11, 8_782_494, 25),
    (Family::Plant, 0x8601_de1b_ecec_a92b, 8_376_709, 11),
];

/// Digest of the first four scenes of the default configuration.
const DEFAULT: u64 = 0x40ed_d742_e591_cd29;

#[test]
fn scenes_of_every_family_keep_their_bits() {
    for (family, digest, grey_levels, boxes) in EXPECTED {
        let (mut found, mut sum, mut found_boxes) = (Digest::new(), 0_u64, 0);
        for (number, size) in
            [Size::new(96, 128), Size::new(75, 61), Size::square(64)].into_iter().enumerate()
        {
            let families = FamilyWeights::only(family);
            let config = SceneConfig { families, ..SceneConfig::new(size, 40 + number as u64) };
            for index in [0, 1, 2, 1 << 40] {
                let scene = render(&config, index).unwrap();
                add_scene(&mut found, &scene);
                sum += scene.gray.iter().map(|&gray| u64::from(gray)).sum::<u64>();
                found_boxes += scene.boxes.len();
            }
        }
        if functions() == FUNCTIONS {
            assert_eq!(
                (found.0, sum, found_boxes),
                (digest, grey_levels, boxes),
                "{family:?}: digest {:#018x}",
                found.0
            );
        } else {
            // Other last bits of sine and exponential move single pixels, not scenes.
            assert!(sum.abs_diff(grey_levels) * 1000 < grey_levels, "{family:?}: {sum}");
            assert!(found_boxes.abs_diff(boxes) <= 2, "{family:?}: {found_boxes} boxes");
        }
    }
}

#[test]
fn default_scenes_keep_their_bits() {
    let mut found = Digest::new();
    for index in 0..4 {
        add_scene(&mut found, &render(&SceneConfig::default(), index).unwrap());
    }
    if functions() == FUNCTIONS {
        assert_eq!(found.0, DEFAULT, "digest {:#018x}", found.0);
    }
}
