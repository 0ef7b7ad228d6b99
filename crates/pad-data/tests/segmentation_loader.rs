//! Samples for segmentation: the same bits for any number of workers, labels that stay with their
//! pixels.

use candle_core::Tensor;
use pad_data::{
    Error, Result,
    dataset::Dataset,
    image::{DecodeOptions, Image, Pixels},
    loader::{Loader, LoaderConfig},
    sets::segmentation::{ClassMap, Classes, SegmentationImage},
    transform::{
        HorizontalFlip, Normalize,
        segmentation::{LimitedCrop, PhotometricDistortion, Rescale, SegmentationPipeline},
    },
};
use pad_ops::{ImageSize, rng::Key};

/// Images whose level is ten times the class, of two halves.
struct Halves {
    count: usize,
    classes: Classes,
    /// Image that cannot be read, and image whose labels are wrong.
    faults: (Option<usize>, Option<usize>),
}

impl Halves {
    fn new(count: usize) -> Self {
        let classes = Classes::new((0..20).map(|class| class.to_string())).unwrap();
        Self { count, classes, faults: (None, None) }
    }
}

impl Dataset for Halves {
    type Sample = SegmentationImage;

    fn len(&self) -> usize {
        self.count
    }

    fn name(&self, index: usize) -> String {
        format!("half_{index}")
    }

    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn info(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn get(&self, index: usize, _: &DecodeOptions) -> Result<SegmentationImage> {
        let path = self.name(index).into();
        if self.faults.0 == Some(index) {
            return Err(Error::Unsupported { path, what: "a painting".into() });
        }
        if self.faults.1 == Some(index) {
            return Err(Error::Entry { path, what: "wrong labels".into() });
        }
        let size = ImageSize::new(24 + index, 40);
        let class = |pixel: usize| if pixel % 40 < 20 { 1 + index as u8 } else { 0 };
        let labels: Vec<u8> = (0..size.area()).map(class).collect();
        let pixels = labels.iter().map(|class| class * 10).collect();
        let image = Image::new(size, 1, Pixels::U8(pixels))?;
        Ok(SegmentationImage { image, labels: ClassMap::new(size, labels)? })
    }
}

fn pipeline() -> SegmentationPipeline {
    SegmentationPipeline {
        rescale: Rescale { scale: None, ratio: [0.5, 2.0] },
        crop: LimitedCrop { size: ImageSize::new(32, 36), max_class_share: 0.75 },
        ..Default::default()
    }
}

/// Images, labels and names of a batch.
type Read = (Vec<f32>, Vec<u8>, Vec<String>);

fn read(workers: usize, source: Halves, epoch: u64, first: usize) -> Result<Vec<Read>> {
    let config = LoaderConfig { batch_size: 3, workers, max_unreadable: 0.2, ..Default::default() };
    let loader: Loader<Tensor> = Loader::new(source, pipeline(), config)?;
    loader
        .epoch(epoch, first)?
        .map(|batch| {
            let batch = batch?;
            assert_eq!(batch.images.dims(), [batch.names.len(), 3, 32, 36]);
            assert_eq!(batch.labels.dims(), [batch.names.len(), 32, 36]);
            let images = batch.images.flatten_all()?.to_vec1()?;
            Ok((images, batch.labels.flatten_all()?.to_vec1()?, batch.names))
        })
        .collect()
}

#[test]
fn batches_do_not_depend_on_workers() {
    let whole = read(0, Halves::new(10), 2, 0).unwrap();
    assert_eq!(whole.len(), 3);
    for workers in [1, 2, 5] {
        assert_eq!(read(workers, Halves::new(10), 2, 0).unwrap(), whole);
    }
    assert_eq!(read(2, Halves::new(10), 2, 1).unwrap(), whole[1..]);
    assert_ne!(read(2, Halves::new(10), 3, 0).unwrap(), whole);
}

#[test]
fn labels_stay_with_their_pixels() {
    let pipeline = SegmentationPipeline {
        distortion: PhotometricDistortion::NEVER,
        flip: HorizontalFlip { probability: 0.5 },
        ..pipeline()
    };
    let source = Halves::new(20);
    let (mut padded, mut mirrored) = (0, 0);
    for index in 0..20 {
        let SegmentationImage { image, labels } =
            source.get(index, &DecodeOptions::default()).unwrap();
        let sample = pipeline.train(image, &labels, Key::new(1).sample(index as u64)).unwrap();
        let mut wrong = 0;
        for (pixel, &label) in sample.labels.iter().enumerate() {
            if label == 255 {
                assert_eq!(sample.pixels[pixel], 0.0, "padding is 0 after normalising");
                padded += 1;
                continue;
            }
            let level = Normalize::downstream().invert(sample.pixels[pixel], 0);
            wrong += usize::from((level - f32::from(label) * 10.0).abs() > 0.01);
        }
        // Between the halves levels are mixed; nearest and bilinear may differ by a column or two
        // there.
        assert!(wrong <= 3 * 32, "image {index}: {wrong} of {} pixels", sample.labels.len());
        mirrored += usize::from(sample.labels[0] == 0);
        let area = 32 * 36;
        assert_eq!(sample.pixels[..area], sample.pixels[2 * area..]);
    }
    assert!(padded > 0 && mirrored > 0 && mirrored < 20);
}

#[test]
fn unreadable_images_are_left_out_and_wrong_labels_are_not() {
    let source = Halves { faults: (Some(4), None), ..Halves::new(10) };
    let names: Vec<String> =
        read(2, source, 0, 0).unwrap().into_iter().flat_map(|batch| batch.2).collect();
    assert!(!names.contains(&"half_4".to_string()));
    assert!(names.len() >= 8);
    let source = Halves { faults: (None, Some(4)), ..Halves::new(9) };
    assert_eq!(read(2, source, 0, 0).unwrap_err().to_string(), "half_4: wrong labels");
}

#[test]
fn impossible_settings_are_refused() {
    let refused = |pipeline: SegmentationPipeline| {
        let config = LoaderConfig { batch_size: 1, ..Default::default() };
        match Loader::new(Halves::new(3), pipeline, config) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(
        refused(SegmentationPipeline { ignore: 254, ..pipeline() }),
        "`ignore` is 254, expected 255, the label that the set ignores"
    );
    assert_eq!(
        refused(SegmentationPipeline { channels: 2, ..pipeline() }),
        "`channels` is 2, expected 1 or 3"
    );
    let rescale = Rescale { ratio: [2.0, 0.5], ..Default::default() };
    assert_eq!(
        refused(SegmentationPipeline { rescale, ..pipeline() }),
        "`ratio` is [2.0, 0.5], expected 0.01 <= low <= high <= 100"
    );
    let crop = LimitedCrop { max_class_share: 0.0, ..Default::default() };
    assert_eq!(
        refused(SegmentationPipeline { crop, ..pipeline() }),
        "`max_class_share` is 0, expected above 0, at most 1"
    );
    let labels = ClassMap::new(ImageSize::new(20, 20), vec![0; 400]).unwrap();
    let image = Image::new(ImageSize::new(20, 21), 1, Pixels::U8(vec![0; 420])).unwrap();
    assert_eq!(
        pipeline().train(image, &labels, Key::new(0)).unwrap_err().to_string(),
        "`labels` is 20x20, expected the image's size, 20x21"
    );
}

#[test]
fn evaluation_sees_the_whole_image() {
    let pipeline = SegmentationPipeline {
        rescale: Rescale { scale: None, ratio: [1.0, 1.0] },
        channels: 1,
        ..pipeline()
    };
    let size = ImageSize::new(20, 21);
    let image =
        Image::new(size, 1, Pixels::U8((0..420).map(|pixel| pixel as u8).collect())).unwrap();
    let (values, found) = pipeline.test(image).unwrap();
    assert_eq!((found, values.len()), (size, 420));
    for (pixel, &value) in values.iter().enumerate() {
        let level = Normalize::downstream().apply(f32::from(pixel as u8), 0);
        assert_eq!(value, level);
    }
}
