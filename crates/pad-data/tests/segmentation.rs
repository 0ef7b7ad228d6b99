//! Labelled sets: what is read, and what is refused.

use std::{fs, io::BufWriter, path::Path};

use pad_data::{
    dataset::Dataset,
    image::{DecodeOptions, Pixels},
    scenes::{SceneConfig, Size},
    sets::segmentation::{
        Classes, SegmentationFormat, SegmentationOptions, SegmentationScenes, SegmentationSet,
    },
};
use png::{BitDepth, ColorType, Encoder};

fn write(path: &Path, (width, height): (u32, u32), color: ColorType, depth: BitDepth, data: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = Encoder::new(BufWriter::new(fs::File::create(path).unwrap()), width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ColorType::Indexed {
        // Colours that would be read as other numbers.
        encoder.set_palette((0..48).map(|value| 200 - value).collect::<Vec<u8>>());
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
}

fn gray(path: &Path, size: (u32, u32), data: &[u8]) {
    write(path, size, ColorType::Grayscale, BitDepth::Eight, data);
}

/// A folder set of three images: grey mask, palette mask, 4-bit palette mask; the second image has
/// 16 bits.
fn folder(root: &Path) {
    let size = (16, 16);
    fs::write(
        root.join("classes.toml"),
        "classes = [\"ground\", \"cow\", \"tree\"]\npalette = [[0, 0, 0], [9, 9, 9], [5, 5, 5]]\n[remap]\n7 = 1\n",
    )
    .unwrap();
    gray(&root.join("images/a.png"), size, &[10; 256]);
    let counts: Vec<u8> = (0..256_u16).flat_map(|count| (3000 + count).to_be_bytes()).collect();
    write(&root.join("images/b.png"), size, ColorType::Grayscale, BitDepth::Sixteen, &counts);
    gray(&root.join("images/c.d.png"), size, &[30; 256]);
    let mut labels = vec![2; 256];
    (labels[1], labels[2]) = (7, 255);
    gray(&root.join("masks/a.png"), size, &labels);
    write(&root.join("masks/b.png"), size, ColorType::Indexed, BitDepth::Eight, &[1; 256]);
    write(&root.join("masks/c.d.png"), size, ColorType::Indexed, BitDepth::Four, &[0x12; 128]);
    fs::write(root.join("train.txt"), "a\n\nb.png\r\nc.d.png\n").unwrap();
}

fn open(root: &Path, split: &str, format: &str) -> pad_data::Result<SegmentationSet> {
    let options = SegmentationOptions { max_faulty: 0.0, ..Default::default() };
    SegmentationSet::open(root, split, format.parse()?, &options)
}

fn load(set: &SegmentationSet, index: usize) -> Result<Vec<u8>, String> {
    set.get(index, &DecodeOptions::default())
        .map(|sample| sample.labels.into_classes())
        .map_err(|error| error.to_string())
}

#[test]
fn masks_are_numbers_whatever_their_colours() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    let set = open(root, "train", "folder").unwrap();
    assert_eq!((set.len(), set.name(1), set.name(2)), (3, "b".into(), "c.d".into()));
    assert_eq!(set.classes().palette[1], [9, 9, 9]);
    assert_eq!(load(&set, 0).unwrap()[..4], [2, 1, 255, 2]);
    assert_eq!(load(&set, 1).unwrap(), [1; 256]);
    assert_eq!(load(&set, 2).unwrap()[..4], [1, 2, 1, 2]);
    let image = set.get(1, &DecodeOptions::default()).unwrap().image;
    assert!(matches!(image.pixels(), Pixels::U16(counts) if counts[1] == 3001));
    assert_eq!(load(&set, 3).unwrap_err(), "`index` is 3, expected below 3");
}

#[test]
fn wrong_masks_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    let set = open(root, "train", "folder").unwrap();
    let path = root.join("masks/a.png");
    let refused = || {
        let text = load(&set, 0).unwrap_err();
        text.strip_prefix(&format!("{}: ", path.display())).unwrap().to_string()
    };
    gray(&path, (17, 16), &[0; 272]);
    assert_eq!(refused(), "expected a mask of 16x16, the size of its image, found 16x17");
    let mut labels = [0; 256];
    labels[35] = 3;
    gray(&path, (16, 16), &labels);
    assert_eq!(refused(), "pixel (row 2, column 3) is 3, expected a class below 3 or 255");
    write(&path, (16, 16), ColorType::Grayscale, BitDepth::Sixteen, &[1; 512]);
    assert_eq!(
        refused(),
        "expected a mask of 8 bits, found values above 255 in 16 bits, Grayscale"
    );
    let colors: Vec<u8> = [[0, 0, 0], [9, 9, 9], [5, 5, 5], [5, 5, 4]].concat().repeat(64);
    write(&path, (16, 16), ColorType::Rgb, BitDepth::Eight, &colors);
    assert_eq!(
        refused(),
        "pixel (row 0, column 3) is [5, 5, 4], expected a colour of the palette, or a number in grey"
    );
    fs::write(&path, b"no picture").unwrap();
    assert!(refused().starts_with("cannot decode: "), "{}", refused());
}

#[test]
fn masks_in_colours_and_16_bits_mean_the_same_numbers() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    let toml =
        "classes = [\"ground\", \"cow\", \"tree\"]\npalette = [[0, 0, 0], [9, 9, 8], [5, 5, 5]]";
    fs::write(root.join("classes.toml"), toml).unwrap();
    let set = open(root, "train", "folder").unwrap();
    let path = root.join("masks/a.png");
    let read = || load(&set, 0).unwrap()[..4].to_vec();
    let wide: Vec<u8> = [0_u8, 2, 0, 1, 0, 255, 0, 0].repeat(64);
    write(&path, (16, 16), ColorType::Grayscale, BitDepth::Sixteen, &wide);
    assert_eq!(read(), [2, 1, 255, 0]);
    let equal: Vec<u8> = [[2; 3], [1; 3], [255; 3], [0; 3]].concat().repeat(64);
    write(&path, (16, 16), ColorType::Rgb, BitDepth::Eight, &equal);
    assert_eq!(read(), [2, 1, 255, 0]);
    // The white between objects in VOC's colours is ignored.
    let colors: Vec<u8> = [[5, 5, 5], [9, 9, 8], [224, 224, 192], [0, 0, 0]].concat().repeat(64);
    write(&path, (16, 16), ColorType::Rgb, BitDepth::Eight, &colors);
    assert_eq!(read(), [2, 1, 255, 0]);
    let alpha: Vec<u8> =
        [[5, 5, 5, 9], [9, 9, 8, 0], [224, 224, 192, 1], [0; 4]].concat().repeat(64);
    write(&path, (16, 16), ColorType::Rgba, BitDepth::Eight, &alpha);
    assert_eq!(read(), [2, 1, 255, 0]);
}

/// A mask without one of the coloured classes is black and white: no numbers, where the set has
/// colours.
#[test]
fn black_and_white_of_a_set_in_colours_are_colours() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    let toml = "classes = [\"ground\", \"red\", \"white\", \"grey\"]\n\
                palette = [[0, 0, 0], [255, 0, 0], [255, 255, 255], [128, 128, 128]]";
    fs::write(root.join("classes.toml"), toml).unwrap();
    let set = open(root, "train", "folder").unwrap();
    let path = root.join("masks/a.png");
    let read = || load(&set, 0).unwrap()[..4].to_vec();
    for (colors, expected) in [
        ([[255; 3], [0; 3], [255; 3], [0; 3]], [2, 0, 2, 0]),
        ([[255; 3], [0; 3], [255, 0, 0], [0; 3]], [2, 0, 1, 0]),
        ([[128; 3], [0; 3], [128; 3], [255; 3]], [3, 0, 3, 2]),
        // Three equal channels of numbers.
        ([[1; 3], [2; 3], [255; 3], [0; 3]], [1, 2, 255, 0]),
    ] {
        let colors: Vec<u8> = colors.concat().repeat(64);
        write(&path, (16, 16), ColorType::Rgb, BitDepth::Eight, &colors);
        assert_eq!(read(), expected);
    }
    // Values that were given are numbers.
    let colors: Vec<u8> = [[255; 3], [0; 3], [255; 3], [0; 3]].concat().repeat(64);
    write(&path, (16, 16), ColorType::Rgb, BitDepth::Eight, &colors);
    let options = SegmentationOptions {
        mask_values: Some(vec![0, 255, 7, 8]),
        max_faulty: 0.0,
        ..Default::default()
    };
    let set = SegmentationSet::open(root, "train", "folder".parse().unwrap(), &options).unwrap();
    assert_eq!(load(&set, 0).unwrap()[..4], [1, 0, 1, 0]);
}

#[test]
fn masks_are_read_from_tiff_and_bmp_too() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    let png = root.join("masks/a.png");
    for name in ["a.tif", "a.bmp"] {
        let path = root.join("masks").join(name);
        let mut mask = image::GrayImage::from_pixel(16, 16, image::Luma([2]));
        mask.put_pixel(1, 0, image::Luma([1]));
        mask.save(&path).unwrap();
        let _ = fs::remove_file(&png);
        let set = open(root, "train", "folder").unwrap();
        assert_eq!(load(&set, 0).unwrap()[..3], [2, 1, 2], "{name}");
        fs::remove_file(path).unwrap();
    }
    image::GrayImage::from_pixel(16, 16, image::Luma([2])).save(root.join("masks/a.jpg")).unwrap();
    let set = open(root, "train", "folder").unwrap();
    let refused = load(&set, 0).unwrap_err();
    assert!(
        refused.ends_with("a JPEG, which changes numbers and colours, expected a PNG"),
        "{refused}"
    );
}

/// Numbers of a label file are not measurements: GDAL's nodata is a label, few bits are not stretched.
#[test]
fn labels_in_tiff_are_read_as_stored() {
    use tiff::{
        encoder::{TiffEncoder, colortype::Gray8},
        tags::Tag,
    };
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    fs::remove_file(root.join("masks/a.png")).unwrap();
    let path = root.join("masks/a.tif");
    for nodata in ["0", "1", "255"] {
        let labels: Vec<u8> = [1, 2, 255, 0].repeat(64);
        let mut file = fs::File::create(&path).unwrap();
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        let mut image = encoder.new_image::<Gray8>(16, 16).unwrap();
        image.encoder().write_tag(Tag::Unknown(42_113), nodata).unwrap();
        image.write_data(&labels).unwrap();
        let set = open(root, "train", "folder").unwrap();
        assert_eq!(load(&set, 0).unwrap(), labels, "{nodata}");
    }
}

#[test]
fn two_names_in_a_line_are_an_image_and_its_mask() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    // An image that bears the mask's name.
    fs::write(root.join("train.txt"), "images/a.png masks/b.png\nb.png\nc.d").unwrap();
    let set = open(root, "train", "folder").unwrap();
    assert_eq!((set.len(), set.name(0)), (3, "a".into()));
    assert_eq!(load(&set, 0).unwrap(), [1; 256]);
}

#[test]
fn two_images_of_one_name_are_not_mixed_up() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    image::GrayImage::from_pixel(16, 16, image::Luma([99]))
        .save(root.join("images/a.jpg"))
        .unwrap();
    let refused = open(root, "train", "folder").unwrap_err().to_string();
    assert!(
        refused.ends_with(
            "train.txt:1: `a` is a.jpg and a.png: expected one of them, or its name with the extension in a list"
        ),
        "{refused}"
    );
    for (list, level) in [("a.png\nb\nc.d", 10), ("images/a.JPG\nb\nc.d", 99)] {
        fs::write(root.join("train.txt"), list).unwrap();
        let set = open(root, "train", "folder").unwrap();
        let image = set.get(0, &DecodeOptions::default()).unwrap().image;
        let Pixels::U8(levels) = image.pixels() else { panic!("8 bits") };
        assert!(levels[0].abs_diff(level) < 3, "{list}: {}", levels[0]);
    }
    // A picture of a mask beside it is not the mask.
    image::GrayImage::from_pixel(16, 16, image::Luma([99])).save(root.join("masks/a.jpg")).unwrap();
    assert_eq!(load(&open(root, "train", "folder").unwrap(), 0).unwrap()[..2], [2, 1]);
}

#[test]
fn wrong_lists_and_classes_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    folder(root);
    let list = root.join("train.txt");
    let refused = || open(root, "train", "folder").unwrap_err().to_string();
    fs::write(&list, "a\nz\n").unwrap();
    let images = root.join("images");
    assert_eq!(
        refused(),
        format!("{}:2: expected an image `z` in {}, found none", list.display(), images.display())
    );
    fs::remove_file(root.join("masks/b.png")).unwrap();
    fs::write(&list, "a\nb\n").unwrap();
    let masks = root.join("masks");
    assert_eq!(
        refused(),
        format!("{}:2: expected a mask `b` in {}, found none", list.display(), masks.display())
    );
    fs::write(&list, "a\na.png\n").unwrap();
    assert_eq!(
        refused(),
        format!("{}:2: expected a new name, found `a` of line 1", list.display())
    );
    fs::write(&list, "\n").unwrap();
    assert_eq!(refused(), format!("{}: expected names of images, found none", list.display()));
    let toml = root.join("classes.toml");
    let text = |content: &str| {
        fs::write(&toml, content).unwrap();
        refused().strip_prefix(&format!("{}: ", toml.display())).unwrap().to_string()
    };
    assert_eq!(text("classes = []"), "`classes`: expected 1 to 255 names, found 0");
    let many = format!("classes = [{}]", "\"x\",".repeat(256));
    assert_eq!(text(&many), "`classes`: expected 1 to 255 names, found 256");
    assert_eq!(
        text("classes = [\"a\", \"b\"]\npalette = [[0, 0, 0]]"),
        "`palette`: expected 2 colours, one for each class, found 1"
    );
    assert_eq!(
        text("classes = [\"a\", \"b\"]\nignore_index = 1"),
        "`ignore_index`: expected a number above the classes (at least 2), found 1"
    );
    assert_eq!(
        text("classes = [\"a\"]\n[remap]\n300 = 0"),
        "`remap`: expected values of 0 to 255, found `300`"
    );
    assert_eq!(
        text("classes = [\"a\"]\n[remap]\n3 = 4"),
        "`remap`: 3 becomes 4, expected a class below 1 or 255"
    );
    fs::remove_file(&list).unwrap();
    fs::write(&toml, "classes = [\"a\"]").unwrap();
    assert!(refused().starts_with(&list.display().to_string()));
}

#[test]
fn soda_and_mfnet_have_their_layouts() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    gray(&root.join("JPEGImages/1.png"), (16, 16), &[1; 256]);
    gray(&root.join("SegmentationClass/1.png"), (16, 16), &[20; 256]);
    fs::create_dir_all(root.join("ImageSets/Segmentation")).unwrap();
    fs::write(root.join("ImageSets/Segmentation/val.txt"), "1\n").unwrap();
    let soda = open(root, "val", "soda").unwrap();
    assert_eq!((load(&soda, 0).unwrap()[0], soda.classes().len()), (20, 21));

    let pixels: Vec<u8> = (0..256).flat_map(|pixel| [1, 2, 3, pixel as u8]).collect();
    write(&root.join("images/n.png"), (16, 16), ColorType::Rgba, BitDepth::Eight, &pixels);
    gray(&root.join("labels/n.png"), (16, 16), &[8; 256]);
    fs::write(root.join("test.txt"), "n\n").unwrap();
    let mfnet = open(root, "test", "mfnet").unwrap();
    let image = mfnet.get(0, &DecodeOptions::default()).unwrap().image;
    assert_eq!(image.pixels(), &Pixels::U8((0..=255).collect()));
    gray(&root.join("images/n.png"), (16, 16), &[1; 256]);
    let text = load(&mfnet, 0).unwrap_err();
    assert!(
        text.ends_with("expected four channels of 8 bits, found Grayscale of 8 bits"),
        "{text}"
    );
    gray(&root.join("thermal/n.png"), (16, 16), &[77; 256]);
    let mfnet = open(root, "test", "mfnet").unwrap();
    let sample = mfnet.get(0, &DecodeOptions::default()).unwrap();
    assert_eq!(
        (sample.image.pixels(), sample.labels.classes()[0]),
        (&Pixels::U8(vec![77; 256]), 8)
    );
}

#[test]
fn formats_are_recognised_by_content() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    let unknown = open(root, "train", "auto").unwrap_err().to_string();
    assert!(
        unknown.ends_with(
            ": expected labelled images, found none of classes.toml (folder), ImageSets/Segmentation/train.txt (soda), \
             train.txt and labels (mfnet)"
        ),
        "{unknown}"
    );
    gray(&root.join("thermal/n.png"), (16, 16), &[1; 256]);
    gray(&root.join("labels/n.png"), (16, 16), &[8; 256]);
    fs::write(root.join("train.txt"), "n\n").unwrap();
    assert_eq!(open(root, "train", "auto").unwrap().classes(), &Classes::mfnet());
    folder(root);
    assert_eq!(open(root, "train", "auto").unwrap().classes().names[1], "cow");
    assert_eq!(
        "sodda".parse::<SegmentationFormat>().unwrap_err().to_string(),
        "format: expected auto, folder, soda or mfnet, found `sodda` (did you mean `soda`?)"
    );
}

#[test]
fn scenes_have_labels() {
    let config = SceneConfig::new(Size::new(64, 80), 3);
    let set = SegmentationScenes::render(&config, 5, 2).unwrap();
    assert_eq!((set.len(), set.name(1)), (2, "scene_00006".into()));
    let sample = set.get(1, &DecodeOptions::default()).unwrap();
    let labels = sample.labels;
    assert_eq!(sample.image.size(), labels.size());
    let scene = pad_data::scenes::render(&config, 6).unwrap();
    assert_eq!(labels.classes(), scene.classes);
    assert_eq!(set.classes(), &Classes::scenes());
}
