//! A set in tar files is the set of the folder.

use std::{fs, path::Path, sync::Arc};

use pad_data::{
    dataset::{Dataset, SharedDataset, Subset},
    draw::Canvas,
    fingerprint::Fingerprint,
    image::{DecodeOptions, Image},
    roi::Roi,
    sets::{ImageFolder, WithRois, open_images, read_rois},
    shards::{ShardSet, write},
    transform::{ImagePipeline, Transform},
};
use pad_ops::{ImageSize, rng::Key};

fn set(root: &Path) -> ImageFolder {
    for index in 0..11_u32 {
        let name = if index % 3 == 0 { "one" } else { "two" };
        let thermal = root.join(name).join("thermal");
        fs::create_dir_all(&thermal).unwrap();
        fs::create_dir_all(root.join(name).join("roi")).unwrap();
        let path = thermal.join(format!("{index}.png"));
        image::GrayImage::from_fn(50, 40, |x, y| image::Luma([(x * y + index * 20) as u8]))
            .save(path)
            .unwrap();
        if index % 2 == 0 {
            let roi = format!("{index},2,20,20\n");
            fs::write(root.join(name).join("roi").join(format!("{index}.txt")), roi).unwrap();
        }
    }
    ImageFolder::open(root).unwrap()
}

#[test]
fn samples_are_those_of_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = set(&root.path().join("set"));
    let rois: Vec<_> = read_rois(&folder).unwrap();
    assert_eq!(rois.iter().flatten().count(), 6);
    for shards in [1, 4] {
        let out = root.path().join(format!("shards{shards}"));
        let mut seen = 0;
        let paths = write(&folder, &out, shards, &mut |done| seen = done).unwrap();
        assert_eq!((paths.len(), seen), (shards, 11));
        let sharded = ShardSet::open(&out).unwrap();
        assert_eq!(sharded.len(), folder.len());
        for (index, rois) in rois.iter().enumerate() {
            assert_eq!(sharded.name(index), folder.name(index));
            assert_eq!(sharded.info(index).unwrap().roi_file.is_some(), rois.is_some());
        }
        assert_eq!(read_rois(&sharded).unwrap(), rois);
        let pipeline = ImagePipeline { size: ImageSize::square(32), ..Default::default() };
        let lists: Vec<_> = rois.iter().cloned().map(Option::unwrap_or_default).collect();
        let of = |set: SharedDataset<Image>| WithRois::new(set, lists.clone()).unwrap();
        let (a, b) = (of(Arc::new(folder.clone())), of(open_images(&out).unwrap()));
        for index in 0..folder.len() {
            let key = Key::new(7).sample(index as u64);
            let sample = |set: &WithRois<_>| {
                let image = set.get(index, &DecodeOptions::default()).unwrap();
                let (sample, ()) = pipeline.apply(image, key).unwrap();
                sample.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            assert_eq!(sample(&a), sample(&b), "{index}");
        }
    }
    // Written again, the bytes are the same.
    let again = root.path().join("again");
    write(&folder, &again, 4, &mut |_| {}).unwrap();
    for name in ["0.tar", "3.tar"] {
        let bytes = |folder: &str| fs::read(root.path().join(folder).join(name)).unwrap();
        assert_eq!(bytes("again"), bytes("shards4"));
    }
}

#[test]
fn refusals() {
    let root = tempfile::tempdir().unwrap();
    let folder = set(&root.path().join("set"));
    let out = root.path().join("out");
    let said = |shards| write(&folder, &out, shards, &mut |_| {}).unwrap_err().to_string();
    assert_eq!(said(0), "`shards` is 0, expected 1 to 11, the number of images");
    assert_eq!(said(12), "`shards` is 12, expected 1 to 11, the number of images");
    write(&folder, &out, 2, &mut |_| {}).unwrap();
    assert_eq!(
        said(1),
        format!(
            "{}: expected files of this set alone, found 1 others, the first is 1.tar",
            out.display()
        )
    );
    // The same images twice.
    fs::copy(out.join("0.tar"), out.join("2.tar")).unwrap();
    assert_eq!(
        ShardSet::open(&out).unwrap_err().to_string(),
        format!(
            "{}: expected one file of the stem `one/thermal/0.png`, found also {}",
            out.join("0.tar").display(),
            out.join("2.tar").display()
        )
    );
    fs::remove_file(out.join("2.tar")).unwrap();
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(
        ShardSet::open(&empty).unwrap_err().to_string(),
        format!("{}: no image found (looked for images in *.tar)", empty.display())
    );
    // A shard that shrinks while it is in use.
    let sharded = ShardSet::open(&out).unwrap();
    fs::OpenOptions::new().write(true).open(out.join("0.tar")).unwrap().set_len(100).unwrap();
    let error = sharded.get(0, &DecodeOptions::default()).unwrap_err().to_string();
    let place = out.join("0.tar/one/thermal/0.png");
    assert!(error.starts_with(&format!("{}: failed to fill", place.display())), "{error}");
    let limits = DecodeOptions { max_alloc_bytes: 10, ..Default::default() };
    assert!(sharded.get(0, &limits).unwrap_err().to_string().contains("the limit is 10"));
    assert_eq!(sharded.info(11).unwrap_err().to_string(), "`index` is 11, expected below 11");
    let error = write(&folder, &out.join("0.tar"), 1, &mut |_| {}).unwrap_err();
    assert!(matches!(error, pad_data::Error::Io { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn archives_of_the_system_are_read() {
    let root = tempfile::tempdir().unwrap();
    let folder = set(&root.path().join("set"));
    let out = root.path().join("a.tar");
    let status = std::process::Command::new("tar")
        .args(["--format=ustar", "-cf"])
        .arg(&out)
        .arg("-C")
        .arg(folder.root())
        .arg(".")
        .status();
    // Systems without tar have nothing to show here.
    let Ok(status) = status else { return };
    assert!(status.success());
    let sharded = ShardSet::open(&out).unwrap();
    assert_eq!(sharded.len(), 11);
    assert_eq!(sharded.name(4), folder.name(4));
    assert_eq!(read_rois(&sharded).unwrap()[0].as_ref().unwrap().len(), 1);
    let options = DecodeOptions::default();
    assert_eq!(sharded.get(5, &options).unwrap(), folder.get(5, &options).unwrap());
}

#[test]
fn shards_give_the_parts_and_the_fingerprint_of_their_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("set");
    for (source, count) in [("a", 13), ("b", 20)] {
        for index in 0..count {
            let image = Canvas::new(ImageSize::new(70, 80), [index as u8 * 9; 3]);
            let path = folder.join(source).join("thermal").join(format!("{index}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image.save_png(path).unwrap();
        }
    }
    std::fs::create_dir_all(folder.join("a/roi")).unwrap();
    std::fs::write(folder.join("a/roi/3.txt"), "1,2,60,50\n").unwrap();
    let files = ImageFolder::open(&folder).unwrap();
    let out = root.path().join("shards");
    write(&files, &out, 3, &mut |_| {}).unwrap();
    let shards = ShardSet::open(&out).unwrap();

    assert_eq!(files.sources(), shards.sources());
    let names = |list: &dyn Dataset<Sample = Image>| {
        (0..list.len()).map(|i| list.name(i)).collect::<Vec<_>>()
    };
    let (files, shards) = (Subset::all(files), Subset::all(shards));
    let (of_files, of_shards) =
        (files.split(0.3, None, 5).unwrap(), shards.split(0.3, None, 5).unwrap());
    assert!(!of_files.1.is_empty());
    assert_eq!(names(&of_files.0), names(&of_shards.0));
    assert_eq!(names(&of_files.1), names(&of_shards.1));
    let few = of_shards.0.share(0.4, 1).unwrap();
    assert_eq!(names(&of_files.0.share(0.4, 1).unwrap()), names(&few));
    assert_eq!(names(&files.only(&["b"]).unwrap()), names(&shards.only(&["b"]).unwrap()));
    assert!(shards.only(&["c"]).unwrap_err().to_string().contains("one of a, b"));
    let last = few.len() - 1;
    let (image, options) = (few.name(last), Default::default());
    let index = (0..files.len()).find(|&i| files.name(i) == image).unwrap();
    let (one, other) = (few.get(last, &options).unwrap(), files.get(index, &options).unwrap());
    assert_eq!(one.pixels(), other.pixels(), "a part reads its own images");

    let rois = |set: &dyn Dataset<Sample = Image>| -> Vec<Vec<Roi>> {
        read_rois(set).unwrap().into_iter().map(Option::unwrap_or_default).collect()
    };
    let found = rois(&files);
    assert_eq!(found, rois(&shards));
    assert_eq!(found.iter().map(Vec::len).sum::<usize>(), 1);
    let print =
        |set: &dyn Dataset<Sample = Image>| Fingerprint::of_images(set).unwrap().to_string();
    assert_eq!(print(&files), print(&shards));
    let regions = Fingerprint::of_rois(&files, &found).to_string();
    assert_eq!(regions, Fingerprint::of_rois(&shards, &found).to_string());
    // What a run depends on changes them.
    let mut moved = found.clone();
    moved.iter_mut().flatten().for_each(|roi| roi.width += 1);
    assert_ne!(regions, Fingerprint::of_rois(&files, &moved).to_string());
    fs::copy(folder.join("b/thermal/1.png"), folder.join("b/thermal/1b.png")).unwrap();
    assert_ne!(print(&files), print(&ImageFolder::open(&folder).unwrap()));
}
