//! The reference's numbers: `data` in the golden folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;
use serde_json::Value;

use super::{
    FelzenszwalbConfig, Roi, RoiConfig, SelectiveSearchConfig, Workspace, felzenszwalb,
    regions::{BRIGHTNESS, Extractor, Histograms, TEXTURE},
    rois, selective_search,
    smooth::Smoother,
    texture::Texture,
};

/// An image with what the reference says about it.
struct Case {
    folder: PathBuf,
    facts: Value,
    gray: Vec<u8>,
    size: ImageSize,
}

impl Case {
    fn name(&self) -> &str {
        self.facts["image"].as_str().unwrap()
    }

    /// Tensors of the intermediate results, if the case has them.
    fn detail(&self) -> Option<Tensors> {
        Some(Tensors::read(&self.folder.join(self.facts["detail"].as_str()?)))
    }
}

fn cases() -> Vec<Case> {
    let folder = pad_testkit::golden_folder().join("data");
    let json = std::fs::read(folder.join("selective_search.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    let case = |facts: &mut Value| {
        let facts = facts.take();
        let image = image::open(folder.join(facts["image"].as_str().unwrap())).unwrap();
        let image = image.into_luma8();
        let size = ImageSize::new(image.height() as usize, image.width() as usize);
        assert_eq!(facts["size_wh"], serde_json::json!([size.width, size.height]));
        Case { folder: folder.clone(), facts, gray: image.into_raw(), size }
    };
    json["images"].as_array_mut().unwrap().iter_mut().map(case).collect()
}

/// A safetensors file.
struct Tensors {
    header: BTreeMap<String, Value>,
    data: Vec<u8>,
}

impl Tensors {
    fn read(path: &Path) -> Self {
        let mut bytes = std::fs::read(path).unwrap();
        let data = bytes.split_off(8);
        let header = u64::from_le_bytes(bytes.try_into().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&data[..header]).unwrap(),
            data: data[header..].to_vec(),
        }
    }

    /// A tensor's elements. All integers of the files are exact as `f64`.
    fn get(&self, name: &str) -> Vec<f64> {
        let entry = &self.header[name];
        let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        let bytes = &self.data[at(0)..at(1)];
        match entry["dtype"].as_str().unwrap() {
            "U8" => bytes.iter().map(|&b| f64::from(b)).collect(),
            "I16" => elements(bytes, |b| f64::from(i16::from_le_bytes(b))),
            "I32" => elements(bytes, |b| f64::from(i32::from_le_bytes(b))),
            "F64" => elements(bytes, f64::from_le_bytes),
            other => panic!("{name} is {other}"),
        }
    }
}

fn elements<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.chunks_exact(N).map(|b| read(b.try_into().unwrap())).collect()
}

/// Bits, not approximately.
#[track_caller]
fn assert_same(what: &str, found: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let found: Vec<f64> = found.into_iter().collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{what} [{i}]: {found} for {expected}");
    }
}

#[test]
fn rectangles_are_the_references() {
    let mut workspace = Workspace::new();
    for case in cases() {
        let expected: Vec<Roi> =
            serde_json::from_value::<Vec<[u32; 4]>>(case.facts["rects"].clone())
                .unwrap()
                .into_iter()
                .map(|[x, y, width, height]| Roi { x, y, width, height })
                .collect();
        let config = RoiConfig::default();
        assert_eq!(rois(&case.gray, case.size, &config).unwrap(), expected, "{}", case.name());
        // Buffers of other images, larger and smaller, change nothing.
        let again = workspace.rois(&case.gray, case.size, &config).unwrap();
        assert_eq!(again, expected, "{}", case.name());
    }
}

#[test]
fn counts_are_the_references() {
    for case in cases() {
        let regions =
            selective_search(&case.gray, case.size, &SelectiveSearchConfig::default()).unwrap();
        let merges = regions.iter().filter(|region| region.merged.is_some()).count();
        let mut rects: Vec<Roi> = regions.iter().map(|region| region.rect).collect();
        rects.sort_unstable();
        rects.dedup();
        let expected = ["initial_regions", "merges", "all_regions", "rects_unfiltered_unique"]
            .map(|fact| case.facts[fact].as_u64().unwrap() as usize);
        let found = [regions.len() - merges, merges, regions.len(), rects.len()];
        assert_eq!(found, expected, "{}", case.name());
    }
}

#[test]
fn intermediate_results_are_the_references() {
    let mut seen = 0;
    for case in cases() {
        let Some(detail) = case.detail() else { continue };
        seen += 1;
        let Case { gray, size, .. } = &case;
        let name = case.name();

        let config = FelzenszwalbConfig::default();
        let mut smooth = Vec::new();
        Smoother::default().run(gray, size.width, config.sigma, &mut smooth);
        let rows = detail.get("out.gauss_rows_0_7");
        assert_same(&format!("{name}: blur"), smooth[..rows.len()].iter().copied(), &rows);

        let labels = felzenszwalb(gray, *size, &config).unwrap();
        let expected = detail.get("out.labels");
        assert_same(
            &format!("{name}: labels"),
            labels.labels.iter().map(|&label| f64::from(label)),
            &expected,
        );

        let texture = Texture { gray, size: *size };
        assert_same(
            &format!("{name}: patterns"),
            (0..size.area()).map(|i| f64::from(texture.code(i / size.width, i % size.width))),
            &detail.get("out.lbp"),
        );

        let mut features = Vec::new();
        Extractor::default().run(
            gray,
            *size,
            &labels.labels,
            labels.count,
            Histograms::Exact,
            &mut features,
        );
        assert_same(
            &format!("{name}: boxes"),
            features.iter().flat_map(|region| {
                let bounds = region.bounds;
                [bounds.min_x, bounds.min_y, bounds.max_x, bounds.max_y, region.pixels]
                    .map(f64::from)
            }),
            &detail.get("out.region_box"),
        );
        // Hue and saturation are not kept: everything is in the first bin.
        let mut first = [0.0; BRIGHTNESS];
        first[0] = 1.0;
        assert_same(
            &format!("{name}: colour"),
            features.iter().flat_map(|region| [first, first, region.brightness].concat()),
            &detail.get("out.region_hist_c"),
        );
        assert_same(
            &format!("{name}: texture"),
            features.iter().flat_map(|region| [region.texture; 3].concat()),
            &detail.get("out.region_hist_t"),
        );
        assert_eq!(features.first().map(|f| f.texture.len()), Some(TEXTURE));

        let mut neighbours = Vec::new();
        for (i, a) in features.iter().enumerate() {
            for (j, b) in features.iter().enumerate().skip(i + 1) {
                if a.bounds.holds_a_corner_of(&b.bounds) {
                    neighbours.extend([i as f64, j as f64]);
                }
            }
        }
        assert_same(&format!("{name}: pairs"), neighbours, &detail.get("out.neighbours"));

        let regions = selective_search(gray, *size, &SelectiveSearchConfig::default()).unwrap();
        assert_same(
            &format!("{name}: merges"),
            regions.iter().filter_map(|region| region.merged).flat_map(|merge| {
                [f64::from(merge.first), f64::from(merge.second), merge.similarity]
            }),
            &detail.get("out.merges"),
        );
    }
    assert!(seen >= 2, "the repository holds two such cases, found {seen}");
}
