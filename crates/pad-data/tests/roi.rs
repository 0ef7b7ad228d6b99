//! Regions of interest through the public interface: limits, hostile input, files, settings.

use pad_data::{
    Error,
    roi::{
        FelzenszwalbConfig, Histograms, Region, Roi, RoiConfig, RoiFilter, SelectiveSearchConfig,
        Workspace, felzenszwalb, filter, read, rois, selective_search, write,
    },
};
use pad_ops::ImageSize;
use proptest::prelude::*;

fn roi(x: u32, y: u32, width: u32, height: u32) -> Roi {
    Roi { x, y, width, height }
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

/// A picture with structure at several scales: squares on a slope, and noise.
fn scene(size: ImageSize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    (0..size.area())
        .map(|i| (i / size.width, i % size.width))
        .map(|(y, x)| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let square = usize::from((x / 37 + y / 29 + seed as usize % 3).is_multiple_of(3)) * 70;
            (20 + x / 8 + y / 5 + square + (state >> 27) as usize).min(255) as u8
        })
        .collect()
}

#[test]
fn refuses_images_that_are_none() {
    let config = RoiConfig::default();
    for size in [ImageSize::new(0, 0), ImageSize::new(0, 7), ImageSize::new(7, 0)] {
        assert_eq!(
            message(rois(&[], size, &config)),
            format!("`size` is {size}, expected 1 to 1073741824 pixels")
        );
    }
    assert_eq!(
        message(rois(&[1, 2, 3], ImageSize::new(2, 2), &config)),
        "`gray` is 3 bytes, expected 4 bytes for 2x2 pixels"
    );
    assert_eq!(
        message(rois(&[], ImageSize::new(usize::MAX, 2), &config)),
        format!("`size` is {}x2, expected 1 to 1073741824 pixels", usize::MAX)
    );
    let large = ImageSize::new(1 << 16, 1 << 15);
    assert_eq!(
        message(felzenszwalb(&[], large, &config.search.felzenszwalb)),
        "`size` is 65536x32768, expected 1 to 1073741824 pixels"
    );
}

#[test]
fn refuses_settings_out_of_range() {
    let run = |felzenszwalb| {
        let search = SelectiveSearchConfig { felzenszwalb, ..Default::default() };
        message(selective_search(&[0], ImageSize::square(1), &search))
    };
    let base = FelzenszwalbConfig::default();
    for (config, expected) in [
        (
            FelzenszwalbConfig { scale: -1.0, ..base },
            "`scale` is -1, expected a finite number of at least 0",
        ),
        (
            FelzenszwalbConfig { scale: f64::INFINITY, ..base },
            "`scale` is inf, expected a finite number of at least 0",
        ),
        (FelzenszwalbConfig { sigma: f64::NAN, ..base }, "`sigma` is NaN, expected 0 to 64"),
        (FelzenszwalbConfig { sigma: 65.0, ..base }, "`sigma` is 65, expected 0 to 64"),
    ] {
        assert_eq!(run(config), expected);
    }
    let filter = RoiFilter { max_aspect: 0.5, ..Default::default() };
    let config = RoiConfig { filter, ..Default::default() };
    assert_eq!(
        message(rois(&[0], ImageSize::square(1), &config)),
        "`max_aspect` is 0.5, expected at least 1"
    );
}

#[test]
fn smallest_images_are_one_region() {
    for (height, width) in [(1, 1), (1, 9), (9, 1), (2, 2)] {
        let size = ImageSize::new(height, width);
        let gray: Vec<u8> = (0..size.area()).map(|i| (i * 25) as u8).collect();
        let labels = felzenszwalb(&gray, size, &FelzenszwalbConfig::default()).unwrap();
        assert_eq!((labels.count, labels.labels), (1, vec![0; size.area()]), "{size}");
        let regions = selective_search(&gray, size, &SelectiveSearchConfig::default()).unwrap();
        let rect = roi(0, 0, width as u32 - 1, height as u32 - 1);
        assert_eq!(regions, [Region { rect, pixels: size.area() as u32, merged: None }]);
        assert_eq!(rois(&gray, size, &RoiConfig::default()).unwrap(), []);
    }
}

/// One segment, nothing to group. It is the image itself, and as in the reference a RoI if it is
/// large enough.
#[test]
fn constant_image_is_one_region() {
    let search = SelectiveSearchConfig::default();
    for value in [0, 7, 255] {
        let size = ImageSize::new(60, 80);
        let gray = vec![value; size.area()];
        let regions = selective_search(&gray, size, &search).unwrap();
        assert_eq!(regions, [Region { rect: roi(0, 0, 79, 59), pixels: 4800, merged: None }]);
        assert_eq!(rois(&gray, size, &RoiConfig::default()).unwrap(), [roi(0, 0, 79, 59)]);
        let small = rois(&gray[..1600], ImageSize::square(40), &RoiConfig::default()).unwrap();
        assert_eq!(small, [], "40 pixels are a side of 39");
    }
}

#[test]
fn filter_keeps_what_the_paper_keeps() {
    let region = |rect, pixels| Region { rect, pixels, merged: None };
    let regions = [
        region(roi(5, 5, 40, 40), 599),
        region(roi(5, 5, 40, 40), 600),
        region(roi(5, 5, 40, 40), 700),
        region(roi(0, 9, 39, 90), 2000),
        region(roi(0, 9, 90, 39), 2000),
        region(roi(0, 8, 40, 120), 2000),
        region(roi(0, 7, 121, 40), 2000),
    ];
    let kept = filter(&regions, &RoiFilter::default());
    assert_eq!(kept, [roi(0, 8, 40, 120), roi(5, 5, 40, 40)]);
    let all = RoiFilter { min_pixels: 0, min_side: 0, max_aspect: 1e9 };
    assert_eq!(filter(&[region(roi(1, 1, 0, 5), 6)], &all), [], "a line has no aspect");
}

/// What every segmentation obeys, and the fast one against a plain reading of the definition.
fn check_segmentation(gray: &[u8], size: ImageSize, config: &FelzenszwalbConfig) {
    let labels = felzenszwalb(gray, size, config).unwrap();
    assert_eq!(labels.labels.len(), size.area());
    let mut next = 0;
    let mut pixels = vec![0u32; labels.count as usize];
    for &label in &labels.labels {
        assert!(label <= next, "labels appear in order");
        next = next.max(label + 1);
        pixels[label as usize] += 1;
    }
    assert_eq!(next, labels.count);
    if labels.count > 1 {
        assert!(pixels.iter().all(|&n| n >= config.min_size), "{pixels:?}");
    }
    assert_eq!(labels.labels, plain_felzenszwalb(gray, size, config), "{size} {config:?}");
}

/// The definition, edge by edge, without blur: all edges, one sort, two visits.
fn plain_felzenszwalb(gray: &[u8], size: ImageSize, config: &FelzenszwalbConfig) -> Vec<u32> {
    assert_eq!(config.sigma, 0.0);
    let ImageSize { height, width } = size;
    let mut edges = Vec::new();
    for (from, to) in [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 0), (1, 1)), ((0, 1), (1, 0))] {
        let (down, right): (usize, usize) = (from.0.max(to.0), from.1.max(to.1));
        for y in 0..height.saturating_sub(down) {
            for x in 0..width.saturating_sub(right) {
                let a = (y + from.0) * width + x + from.1;
                let b = (y + to.0) * width + x + to.1;
                let value = |i: usize| f64::from(gray[i]) * (1.0 / 255.0);
                let d = value(a) - value(b);
                edges.push(((d * d + d * d + d * d).sqrt(), a, b));
            }
        }
    }
    edges.sort_by(|a, b| a.0.total_cmp(&b.0));
    let scale = config.scale / 255.0;
    let mut segment: Vec<usize> = (0..size.area()).collect();
    let mut members: Vec<Vec<usize>> = segment.iter().map(|&i| vec![i]).collect();
    let mut inner = vec![0.0; size.area()];
    for second in [false, true] {
        for &(cost, a, b) in &edges {
            let (a, b) = (segment[a], segment[b]);
            if a == b {
                continue;
            }
            let limit = |s: usize| (inner[s] + scale / members[s].len() as f64) as f32;
            let small = members[a].len().min(members[b].len()) < config.min_size as usize;
            if if second { small } else { cost < f64::from(limit(a).min(limit(b))) } {
                let moved = std::mem::take(&mut members[b]);
                for &pixel in &moved {
                    segment[pixel] = a;
                }
                members[a].extend(moved);
                inner[a] = cost;
            }
        }
    }
    let mut number = vec![None; size.area()];
    let mut count = 0;
    segment
        .iter()
        .map(|&s| {
            *number[s].get_or_insert_with(|| {
                count += 1;
                count - 1
            })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Random pixels of few values: many ties, many refusals, many edges put back.
    #[test]
    fn segmentation_is_the_definitions(
        height in 1usize..24,
        width in 1usize..24,
        levels in 1u32..256,
        seed in any::<u32>(),
        scale in prop_oneof![Just(0.0), 0.1f64..20.0, 20.0f64..2000.0],
        min_size in 0u32..20,
    ) {
        let size = ImageSize::new(height, width);
        let mut state = seed | 1;
        let gray: Vec<u8> = (0..size.area())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) % levels) as u8
            })
            .collect();
        check_segmentation(&gray, size, &FelzenszwalbConfig { scale, sigma: 0.0, min_size });
    }

    /// The same on larger pictures, where segments have room to grow.
    #[test]
    fn segmentation_of_scenes_is_the_definitions(
        height in 30usize..150,
        width in 30usize..150,
        seed in any::<u32>(),
        scale in 10.0f64..900.0,
    ) {
        let size = ImageSize::new(height, width);
        let config = FelzenszwalbConfig { scale, sigma: 0.0, min_size: 10 };
        check_segmentation(&scene(size, seed), size, &config);
    }

    #[test]
    fn files_round_trip(
        boxes in prop::collection::vec((0u32..600, 0u32..500, 1u32..41, 1u32..13), 0..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let rois: Vec<Roi> = boxes.into_iter().map(|(x, y, w, h)| roi(x, y, w, h)).collect();
        write(&path, &rois).unwrap();
        prop_assert_eq!(read(&path, ImageSize::new(512, 640)).unwrap(), rois);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, &bytes).unwrap();
        match read(&path, ImageSize::new(512, 640)) {
            Ok(rois) => {
                prop_assert!(rois.iter().all(|r| r.x + r.width <= 640 && r.y + r.height <= 512));
            }
            Err(error) => prop_assert!(matches!(error, Error::Line { .. }), "{error}"),
        }
    }
}

#[test]
fn regions_are_laid_out_as_documented() {
    let size = ImageSize::new(120, 160);
    let gray = scene(size, 3);
    for histograms in [Histograms::Exact, Histograms::Corrected] {
        let search = SelectiveSearchConfig { histograms, ..Default::default() };
        let regions = selective_search(&gray, size, &search).unwrap();
        let segments = regions.iter().take_while(|region| region.merged.is_none()).count();
        assert!(segments > 3 && regions.len() > segments, "{segments} of {}", regions.len());
        let mut taken = vec![false; regions.len()];
        for (i, region) in regions.iter().enumerate().skip(segments) {
            let merge = region.merged.expect("segments come first");
            for part in [merge.first, merge.second] {
                assert!((part as usize) < i);
                assert!(!std::mem::replace(&mut taken[part as usize], true), "merged once");
            }
            let parts = [merge.first, merge.second].map(|part| regions[part as usize]);
            assert_eq!(region.pixels, parts[0].pixels + parts[1].pixels);
            assert_eq!(region.rect.x, parts[0].rect.x.min(parts[1].rect.x));
            assert!((0.0..=8.0).contains(&merge.similarity), "{}", merge.similarity);
        }
    }
    let exact = selective_search(&gray, size, &SelectiveSearchConfig::default()).unwrap();
    let corrected = SelectiveSearchConfig {
        histograms: Histograms::Corrected,
        ..SelectiveSearchConfig::default()
    };
    assert_ne!(exact, selective_search(&gray, size, &corrected).unwrap());
}

#[test]
fn workspaces_carry_nothing_over() {
    let mut workspace = Workspace::new();
    let config = RoiConfig::default();
    for (seed, height, width) in
        [(1, 90, 120), (2, 200, 150), (3, 1, 1), (4, 64, 300), (1, 90, 120)]
    {
        let size = ImageSize::new(height, width);
        let gray = scene(size, seed);
        let fresh = rois(&gray, size, &config).unwrap();
        assert_eq!(workspace.rois(&gray, size, &config).unwrap(), fresh, "{size}");
    }
}

#[test]
fn files_are_read_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frame.txt");
    let size = ImageSize::new(512, 640);
    for (text, expected) in [
        (&b"1,2,3,4\n5,6,7\n"[..], "2: expected 4 numbers `x,y,width,height`, found 3"),
        (b"1,2,3,4,5", "1: expected 4 numbers `x,y,width,height`, found 5"),
        (b"\n\n1,-2,3,4", "3: expected an integer of at least 0 for y, found `-2`"),
        (b"1,2,3.5,4", "1: expected an integer of at least 0 for width, found `3.5`"),
        (b"a,2,3,4", "1: expected an integer of at least 0 for x, found `a`"),
        (b"1,2,3,", "1: expected an integer of at least 0 for height, found ``"),
        (
            b"1,2,3,4294967296",
            "1: expected an integer of at least 0 for height, found `4294967296`",
        ),
        (b"1,2,0,4", "1: expected a width and a height of at least 1, found 0 and 4"),
        (
            b"600,2,41,4",
            "1: expected a rectangle inside the image of 512x640 (height x width) pixels, \
             found 600,2,41,4",
        ),
        (
            b"0,4294967295,1,4294967295",
            "1: expected a rectangle inside the image of 512x640 (height x width) pixels, \
             found 0,4294967295,1,4294967295",
        ),
        (b"1,2,3,4\n\xff", "2: not UTF-8 text"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(message(read(&path, size)), format!("{}:{expected}", path.display()));
    }
    std::fs::write(&path, b"").unwrap();
    assert_eq!(read(&path, size).unwrap(), []);
    std::fs::write(&path, b" 600 , 0,40,512 \r\n\n").unwrap();
    assert_eq!(read(&path, size).unwrap(), [roi(600, 0, 40, 512)]);
}

#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.txt");
    let size = ImageSize::square(9);
    assert!(message(read(&path, size)).starts_with(&path.display().to_string()));
    let nowhere = folder.path().join("no/such/folder.txt");
    assert!(message(write(&nowhere, &[])).starts_with(&nowhere.display().to_string()));
    write(&path, &[roi(1, 2, 3, 4)]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "1,2,3,4\n");
}
