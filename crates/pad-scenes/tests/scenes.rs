//! What every scene must hold.

use std::collections::BTreeSet;

use pad_scenes::{
    CLASSES, Class, Family, FamilyWeights, GainConfig, IGNORE, Scene, SceneConfig, Season,
    SensorConfig, Size, render, render_many,
};

fn small(seed: u64) -> SceneConfig {
    SceneConfig::new(Size::new(64, 80), seed)
}

const FAMILIES: [Family; 7] = [
    Family::Street,
    Family::Mast,
    Family::Aerial,
    Family::Field,
    Family::Room,
    Family::CloseUp,
    Family::Plant,
];

#[test]
fn equal_places_give_equal_scenes_on_any_number_of_threads() {
    let config = small(11);
    let alone: Vec<Scene> = (0..10).map(|index| render(&config, index).unwrap()).collect();
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let together = pool.install(|| render_many(&config, 0..10)).unwrap();
        assert_eq!(together, alone, "{threads} threads");
    }
    // Neither the order nor the neighbours matter; index and seed do.
    assert_eq!(render(&config, 7).unwrap(), alone[7]);
    assert_ne!(render(&small(12), 7).unwrap().gray, alone[7].gray);
    assert_ne!(alone[7].gray, alone[8].gray);
}

#[test]
fn sensor_and_gain_leave_the_world_alone() {
    let config = small(3);
    let clean = SceneConfig { sensor: SensorConfig::perfect(), ..config.clone() };
    let (noisy, clean) = (render(&config, 5).unwrap(), render(&clean, 5).unwrap());
    assert_eq!(noisy.temperature_kelvin, clean.temperature_kelvin);
    assert_eq!(noisy.boxes, clean.boxes);
    assert_ne!(noisy.counts, clean.counts);
    // A perfect camera's counts are the temperatures, to half a count.
    for (&count, &kelvin) in clean.counts.iter().zip(&clean.temperature_kelvin) {
        assert!((f64::from(count) - clean.radiometry.counts(kelvin)).abs() <= 0.5 + 1e-6);
    }
}

#[test]
fn class_maps_and_boxes_agree() {
    let mut boxes = 0;
    for index in 0..60 {
        let scene = render(&small(4), index).unwrap();
        let (height, width) = (scene.size.height, scene.size.width);
        for found in &scene.boxes {
            let class = Class::ALL[usize::from(found.class)];
            assert!(class.is_thing(), "{found:?}");
            assert!(
                found.x1 >= 0.0 && found.y1 >= 0.0 && found.x1 < found.x2 && found.y1 < found.y2
            );
            assert!(found.x2 <= width as f32 && found.y2 <= height as f32, "{found:?}");
            assert!((0.15..=1.0).contains(&found.visible_share), "{found:?}");
            let inside =
                |column: usize, row: usize| scene.classes[row * width + column] == found.class;
            let (x1, y1) = (found.x1 as usize, found.y1 as usize);
            let (x2, y2) = (found.x2 as usize, found.y2 as usize);
            // Tight: each edge touches a pixel of the class, and enough of them lie inside.
            assert!((y1..y2).any(|row| inside(x1, row)) && (y1..y2).any(|row| inside(x2 - 1, row)));
            assert!((x1..x2).any(|column| inside(column, y1)));
            assert!((x1..x2).any(|column| inside(column, y2 - 1)));
            let count = (y1..y2).flat_map(|row| (x1..x2).map(move |column| (column, row)));
            assert!(count.filter(|&(column, row)| inside(column, row)).count() >= 12);
            boxes += 1;
        }
        // And back: a pixel of a thing class lies in some box of that class.
        for (at, &class) in scene.classes.iter().enumerate() {
            assert!(usize::from(class) < CLASSES.len() || class == IGNORE, "{class}");
            if (Class::Person.index()..=Class::Animal.index()).contains(&class) {
                let (x, y) = ((at % width) as f32, (at / width) as f32);
                assert!(
                    scene.boxes.iter().any(|b| b.class == class
                        && (b.x1..b.x2).contains(&x)
                        && (b.y1..b.y2).contains(&y)),
                    "scene {index}: no box of {class} at ({x}, {y})"
                );
            }
        }
    }
    assert!(boxes > 100, "{boxes} boxes in 60 scenes");
}

#[test]
fn hidden_and_tiny_objects_are_ignored_not_mislabelled() {
    let strict = SceneConfig { min_visible_pixels: 400, ..small(4) };
    let (mut ignored, mut kept) = (0, 0);
    for index in 0..20 {
        let (all, few) = (render(&small(4), index).unwrap(), render(&strict, index).unwrap());
        assert!(few.boxes.iter().all(|found| all.boxes.contains(found)));
        for (&before, &after) in all.classes.iter().zip(&few.classes) {
            assert!(before == after || after == IGNORE, "{before} became {after}");
            ignored += usize::from(after == IGNORE && before != IGNORE);
        }
        kept += few.boxes.len();
    }
    assert!(ignored > 500 && kept > 5, "{ignored} {kept}");
}

#[test]
fn every_class_appears_in_a_hundred_scenes() {
    let mut seen = BTreeSet::new();
    let mut boxed = BTreeSet::new();
    for index in 0..100 {
        let scene = render(&small(1), index).unwrap();
        seen.extend(scene.classes.iter().copied());
        boxed.extend(scene.boxes.iter().map(|found| found.class));
    }
    for class in Class::ALL {
        assert!(seen.contains(&class.index()), "no {}", class.name());
        assert!(!class.is_thing() || boxed.contains(&class.index()), "no box of {}", class.name());
    }
}

#[test]
fn temperatures_are_of_this_world_and_counts_of_a_narrow_band() {
    for index in 0..70 {
        let scene = render(&small(2), index).unwrap();
        for &kelvin in &scene.temperature_kelvin {
            assert!((195.0..460.0).contains(&kelvin), "scene {index}: {kelvin} K");
        }
        let low = scene.counts.iter().min().unwrap();
        let high = scene.counts.iter().max().unwrap();
        assert!(high - low < 16_000, "scene {index}: {low}..{high}");
        assert!(*low > 0 && *high < u16::MAX, "scene {index}: {low}..{high}");
        assert!(high - low > 20, "scene {index}: {low}..{high}");
    }
}

#[test]
fn people_are_warmer_than_winter_and_skies_colder_than_everything() {
    let config = SceneConfig {
        seasons: vec![Season::Winter],
        families: FamilyWeights {
            room: 0.0,
            close_up: 0.0,
            plant: 0.0,
            ..FamilyWeights::default()
        },
        ..small(6)
    };
    let (mut people, mut ground, mut skies) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..40 {
        let scene = render(&config, index).unwrap();
        for (&class, &kelvin) in scene.classes.iter().zip(&scene.temperature_kelvin) {
            match Class::ALL.get(usize::from(class)) {
                Some(Class::Person) => people.push(kelvin),
                Some(Class::Ground) => ground.push(kelvin),
                Some(Class::Sky) => skies.push(kelvin),
                _ => {}
            }
        }
    }
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let (people, ground, skies) = (mean(&people), mean(&ground), mean(&skies));
    assert!(people > ground + 2.0, "{people} {ground}");
    assert!(skies < ground - 3.0, "{skies} {ground}");
}

#[test]
fn grey_levels_look_like_a_camera() {
    let (mut means, mut deviations) = (Vec::new(), Vec::new());
    for index in 0..120 {
        let scene = render(&small(8), index).unwrap();
        let n = scene.gray.len() as f64;
        let mean = scene.gray.iter().map(|&g| f64::from(g) / 255.0).sum::<f64>() / n;
        let variance =
            scene.gray.iter().map(|&g| (f64::from(g) / 255.0 - mean).powi(2)).sum::<f64>() / n;
        let ends = scene.gray.iter().filter(|&&g| g <= 2 || g >= 253).count() as f64 / n;
        assert!(ends < 0.05, "scene {index}: {ends} of the pixels saturate");
        assert!((0.15..0.75).contains(&mean), "scene {index}: mean {mean}");
        assert!(variance.sqrt() > 0.03, "scene {index}: deviation {}", variance.sqrt());
        means.push(mean);
        deviations.push(variance.sqrt());
    }
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean, deviation) = (average(&means), average(&deviations));
    assert!((0.3..=0.5).contains(&mean), "{mean}");
    assert!((0.12..=0.25).contains(&deviation), "{deviation}");
}

#[test]
fn each_family_renders_at_odd_and_small_sizes() {
    for (number, family) in FAMILIES.into_iter().enumerate() {
        for size in [Size::square(32), Size::new(37, 101), Size::new(131, 33)] {
            let config = SceneConfig {
                families: FamilyWeights::only(family),
                ..SceneConfig::new(size, number as u64)
            };
            for index in 0..4 {
                let scene = render(&config, index).unwrap();
                assert_eq!(scene.family, family);
                assert_eq!(scene.size, size);
                assert_eq!(scene.temperature_kelvin.len(), size.area());
                assert_eq!(scene.counts.len(), size.area());
                assert_eq!(scene.gray.len(), size.area());
                assert_eq!(scene.classes.len(), size.area());
                assert!(scene.temperature_kelvin.iter().all(|kelvin| kelvin.is_finite()));
            }
        }
    }
}

#[test]
fn settings_are_obeyed() {
    let config = SceneConfig {
        seasons: vec![Season::Autumn],
        hours: [12.0, 13.0],
        min_objects: 0,
        max_objects: 0,
        families: FamilyWeights::only(Family::Street),
        ..small(5)
    };
    for index in 0..5 {
        let scene = render(&config, index).unwrap();
        assert_eq!(scene.season, Season::Autumn);
        assert!((12.0..13.0).contains(&scene.hour));
        assert!(scene.boxes.is_empty());
    }
    let crowd = SceneConfig { min_objects: 40, max_objects: 40, ..config.clone() };
    let boxes: usize = (0..5).map(|index| render(&crowd, index).unwrap().boxes.len()).sum();
    assert!(boxes > 20, "{boxes}");
}

#[test]
fn bad_settings_are_named() {
    let wrong = |config: SceneConfig| match render(&config, 0) {
        Err(error) => error.to_string(),
        Ok(scene) => panic!("{scene:?}"),
    };
    let base = SceneConfig::default();
    assert_eq!(
        wrong(SceneConfig { size: Size::new(31, 640), ..base.clone() }),
        "`size` is 31x640, expected sides from 32 to 4096 pixels"
    );
    assert_eq!(
        wrong(SceneConfig { seasons: Vec::new(), ..base.clone() }),
        "`seasons` is empty, expected at least one season"
    );
    assert_eq!(
        wrong(SceneConfig { hours: [3.0, 25.0], ..base.clone() }),
        "`hours` is [3.0, 25.0], expected two hours from 0 to 24"
    );
    assert_eq!(
        wrong(SceneConfig { min_objects: 9, max_objects: 3, ..base.clone() }),
        "`min_objects, max_objects` is 9, 3, expected min at most max, max at most 200"
    );
    assert_eq!(
        wrong(SceneConfig { min_visible_share: f32::NAN, ..base.clone() }),
        "`min_visible_share` is NaN, expected 0 to 1"
    );
    let sensor = SensorConfig { netd_kelvin: [0.2, 0.1], ..SensorConfig::default() };
    assert_eq!(
        wrong(SceneConfig { sensor, ..base.clone() }),
        "`sensor.netd_kelvin` is [0.2, 0.1], expected 0 <= low <= high <= 10"
    );
    let families = FamilyWeights { street: f32::NAN, ..FamilyWeights::default() };
    let text = wrong(SceneConfig { families, ..base.clone() });
    assert!(text.starts_with("`families` is [NaN, "), "{text}");
    let none = FamilyWeights { street: 0.0, ..FamilyWeights::only(Family::Street) };
    let text = wrong(SceneConfig { families: none, ..base.clone() });
    assert!(text.ends_with("expected weights of at least 0, not all 0"), "{text}");
    // All faults at once.
    let gain = GainConfig { detail: [0.0, 4.0], ..GainConfig::default() };
    let text = wrong(SceneConfig { size: Size::new(8, 8), gain, ..base });
    assert!(
        text.contains("`size` is 8x8") && text.contains("; `gain.detail` is [0.0, 4.0]"),
        "{text}"
    );
    assert!(
        render_many(&SceneConfig { seasons: Vec::new(), ..SceneConfig::default() }, 0..2).is_err()
    );
}

#[test]
fn configurations_survive_a_file_and_refuse_unknown_keys() {
    let config =
        SceneConfig { seed: 99, families: FamilyWeights::only(Family::Aerial), ..small(0) };
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<SceneConfig>(&text).unwrap(), config);
    let partial: SceneConfig =
        serde_json::from_str(r#"{"seed": 5, "hours": [20.0, 4.0]}"#).unwrap();
    assert_eq!(partial, SceneConfig { seed: 5, hours: [20.0, 4.0], ..SceneConfig::default() });
    let error = serde_json::from_str::<SceneConfig>(r#"{"sedd": 5}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `sedd`"), "{error}");
}
