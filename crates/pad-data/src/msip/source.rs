//! The rules of the eight sources: which images of each download belong to MSIP.

/// The sequences within which every `step`-th frame is selected. Frames are in natural order: 2
/// before 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each folder is a sequence.
    EachFolder,
    /// All files are one sequence.
    Whole,
}

/// One source of MSIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// Name of its folder in the set.
    pub name: &'static str,
    /// Possible names of the unpacked download below the folder of all downloads, in any case.
    pub downloads: &'static [&'static str],
    /// Folders of images below the download, as patterns: names in any case, `*` one folder of any
    /// name, `**` folders of any depth, the empty pattern the download itself. The first pattern
    /// that finds images is the one used.
    pub folders: &'static [&'static str],
    /// Frame stride: the first frame and every `step`-th after it are selected.
    pub step: usize,
    /// The sequences within which `step` counts.
    pub order: Order,
    /// Minimum brightest level (of 255), exclusive: darker images are left out.
    pub brighter_than: Option<u8>,
    /// Width of the white border to be cut off, pixels.
    pub border: usize,
    /// The number of its images in MSIP.
    pub expected: usize,
    /// The web page of the source.
    pub page: &'static str,
    /// A summary of its terms of use; the page is authoritative.
    pub terms: &'static str,
}

/// The number of images of MSIP.
pub const EXPECTED: usize = 178_756;

const PLAIN: SourceSpec = SourceSpec {
    name: "",
    downloads: &[],
    folders: &[""],
    step: 1,
    order: Order::Whole,
    brighter_than: None,
    border: 0,
    expected: 0,
    page: "",
    terms: "",
};

const IMAGES_SOMEWHERE: &[&str] = &["images", "JPEGImages", "**/JPEGImages", "", "**"];
const TERMS: &str = "research; terms on the page";
const RAYTRON: &str = "research; on application at the page";

/// The eight sources, in the paper's order. Counts and rules: table I of the paper and
/// `docs/DATASET.md` with the scripts in `pre-training/dataset/extract` of the original.
pub const SOURCES: [SourceSpec; 8] = [
    // 840x712 pixels, of which 640x512 are the image. MSIP uses the training part of three.
    SourceSpec {
        name: "dronevehicle",
        downloads: &["DroneVehicle", "VisDrone-DroneVehicle"],
        folders: &["train/trainimgr", "train/train/trainimgr", "trainimgr"],
        border: 100,
        expected: 17_990,
        page: "https://github.com/VisDrone/DroneVehicle",
        terms: TERMS,
        ..PLAIN
    },
    // Night drives: some frames of the recorder are black.
    SourceSpec {
        name: "scut_fir_pedestrian",
        downloads: &[
            "SCUT FIR Pedestrian Dataset",
            "SCUT_FIR_Pedestrian_Dataset",
            "SCUT_FIR_101",
            "SCUT",
        ],
        folders: &["videos/*/*", "datasets/videos/*/*", "*/*"],
        step: 10,
        order: Order::EachFolder,
        brighter_than: Some(20),
        expected: 21_049,
        page: "https://github.com/SCUT-CV/SCUT_FIR_Pedestrian_Dataset",
        terms: TERMS,
        ..PLAIN
    },
    SourceSpec {
        name: "llvip",
        downloads: &["LLVIP"],
        folders: &["infrared/train", "LLVIP/infrared/train"],
        expected: 12_025,
        page: "https://bupt-ai-cz.github.io/LLVIP/",
        terms: TERMS,
        ..PLAIN
    },
    SourceSpec {
        name: "infrared_aerial",
        downloads: &[
            "infrared_aerial",
            "Infrared Aerial Photography",
            "infrared_aerial_photography",
            "Aerial_mancar",
        ],
        folders: IMAGES_SOMEWHERE,
        step: 2,
        expected: 5_523,
        page: "http://openai.raytrontek.com/apply/Aerial_mancar.html/",
        terms: RAYTRON,
        ..PLAIN
    },
    SourceSpec {
        name: "infrared_ship",
        downloads: &["infrared_ship", "Infrared Ship", "Sea_shipping"],
        folders: IMAGES_SOMEWHERE,
        expected: 8_402,
        page: "http://openai.raytrontek.com/apply/Sea_shipping.html/",
        terms: RAYTRON,
        ..PLAIN
    },
    SourceSpec {
        name: "infrared_security",
        downloads: &["infrared_security", "Infrared Security"],
        folders: IMAGES_SOMEWHERE,
        expected: 8_999,
        page: "http://openai.raytrontek.com/apply/Infrared_security.html/",
        terms: RAYTRON,
        ..PLAIN
    },
    SourceSpec {
        name: "lsotb_tir",
        downloads: &["LSOTB-TIR_TrainingData", "LSOTB-TIR"],
        folders: &["TrainingData/*/*", "LSOTB-TIR_TrainingData/TrainingData/*/*"],
        step: 10,
        order: Order::EachFolder,
        expected: 52_925,
        page: "https://github.com/QiaoLiuHit/LSOTB-TIR",
        terms: TERMS,
        ..PLAIN
    },
    SourceSpec {
        name: "lasher",
        downloads: &["LasHeR"],
        folders: &["TrainingSet/trainingset/*/infrared", "trainingset/*/infrared", "*/infrared"],
        step: 10,
        order: Order::EachFolder,
        expected: 51_843,
        page: "https://github.com/BUGPLEASEOUT/LasHeR",
        terms: TERMS,
        ..PLAIN
    },
];

impl SourceSpec {
    /// Returns the source of this name.
    pub fn named(name: &str) -> Option<&'static SourceSpec> {
        SOURCES.iter().find(|source| source.name == name)
    }
}
