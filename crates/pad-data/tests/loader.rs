//! The loader: the same batches for any number of workers, and faults that never hang it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use candle_core::Tensor;
use pad_data::{
    Error, Result,
    dataset::{Dataset, Repeat, Sample},
    image::DecodeOptions,
    loader::{Batch, Loader, LoaderConfig},
    transform::{SampleShape, Transform},
};
use pad_ops::{ImageSize, rng::Key};

/// Samples of noise, some of them broken.
#[derive(Default)]
struct Noise {
    samples: usize,
    unreadable: Vec<usize>,
    panics: Option<usize>,
    refuses: Option<usize>,
    wait: Duration,
    read: AtomicUsize,
}

/// Number of a sample.
#[derive(Clone)]
struct Number(usize);

impl Sample for Number {
    type Classes = ();
    type Info = ();

    fn bytes(&self) -> u64 {
        10
    }
}

const SHAPE: SampleShape = SampleShape { channels: 2, size: ImageSize::new(3, 4) };

impl Dataset for Noise {
    type Sample = Number;

    fn len(&self) -> usize {
        self.samples
    }

    fn name(&self, index: usize) -> String {
        format!("{index}.png")
    }

    fn classes(&self) -> &() {
        &()
    }

    fn info(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn get(&self, index: usize, _: &DecodeOptions) -> Result<Number> {
        self.read.fetch_add(1, Ordering::Relaxed);
        // Later samples are faster, so that batches overtake each other.
        thread::sleep(self.wait * (self.samples - index) as u32 / self.samples as u32);
        if self.refuses == Some(index) {
            let expected = "something else".into();
            return Err(Error::Setting { name: "noise", expected, found: "this".into() });
        }
        assert!(self.panics != Some(index), "the disk is on fire");
        Ok(Number(index))
    }
}

/// Noise after the number of the sample; some samples are broken.
#[derive(Clone, Default)]
struct Pixels {
    unreadable: Vec<usize>,
}

impl Transform<Number> for Pixels {
    type Label = usize;
    type Labels = Vec<usize>;

    fn shape(&self) -> SampleShape {
        SHAPE
    }

    fn write(&self, Number(index): Number, key: Key, out: &mut [f32]) -> Result<usize> {
        if self.unreadable.contains(&index) {
            out.fill(f32::NAN);
            let path = format!("{index}.png").into();
            return Err(Error::Unsupported { path, what: "a broken thing".into() });
        }
        key.stream().fill_uniform(out);
        out[0] = index as f32;
        Ok(100 + index)
    }

    fn collate(&self, images: Tensor, labels: Vec<usize>) -> Result<(Tensor, Vec<usize>)> {
        Ok((images, labels))
    }
}

type Numbered = Loader<Vec<usize>>;

fn loader(set: Noise, config: LoaderConfig) -> Numbered {
    let pixels = Pixels { unreadable: set.unreadable.clone() };
    Loader::new(set, pixels, config).unwrap()
}

fn values(batch: &Batch<Vec<usize>>) -> Vec<u32> {
    let values = batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

type Seen = Vec<(usize, Vec<usize>, Vec<u32>)>;

fn epoch(loader: &Numbered, epoch: u64, first: usize) -> Seen {
    let batches = loader.epoch(epoch, first).unwrap().map(Result::unwrap);
    let batches = batches.inspect(|batch| {
        let labels: Vec<usize> = batch.indices.iter().map(|index| 100 + index).collect();
        assert_eq!((&batch.labels, batch.epoch), (&labels, epoch));
    });
    batches.map(|batch| (batch.number, batch.indices.clone(), values(&batch))).collect()
}

fn config(workers: usize) -> LoaderConfig {
    LoaderConfig { batch_size: 8, workers, drop_last: false, seed: 3, ..Default::default() }
}

/// Runs `work` and fails if it does not end.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(limit).expect("it hangs")
}

#[test]
fn batches_are_the_same_for_any_number_of_workers() {
    let set = || Noise {
        samples: 61,
        unreadable: vec![5, 40],
        wait: Duration::from_micros(600),
        ..Default::default()
    };
    let alone = loader(set(), config(0));
    let expected = [epoch(&alone, 0, 0), epoch(&alone, 1, 0)];
    assert_ne!(expected[0], expected[1], "epochs differ");
    assert_eq!(expected[0].len(), alone.batches_per_epoch());
    let mut indices: Vec<usize> =
        expected[0].iter().flat_map(|(_, indices, _)| indices.clone()).collect();
    indices.sort_unstable();
    let readable: Vec<usize> = (0..61).filter(|index| ![5, 40].contains(index)).collect();
    assert_eq!(indices, readable);
    for (workers, prefetch) in [(1, 0), (2, 2), (3, 1), (16, 4)] {
        let many = loader(set(), LoaderConfig { prefetch, ..config(workers) });
        assert_eq!([epoch(&many, 0, 0), epoch(&many, 1, 0)], expected, "{workers} workers");
        assert_eq!(many.unreadable(), alone.unreadable());
    }
}

#[test]
fn tensors_hold_the_samples_of_their_indices() {
    let loader = loader(
        Noise { samples: 10, unreadable: vec![2], ..Default::default() },
        LoaderConfig { max_unreadable: 0.5, ..config(2) },
    );
    let mut rows = 0;
    for batch in loader.epoch(4, 0).unwrap() {
        let batch = batch.unwrap();
        assert_eq!(batch.images.dims(), [batch.indices.len(), 2, 3, 4]);
        for (row, &index) in batch.indices.iter().enumerate() {
            let sample = batch.images.get(row).unwrap().flatten_all().unwrap();
            let key = Key::new(3).epoch(4).sample(index as u64);
            let (expected, _) = Pixels::default().apply(Number(index), key).unwrap();
            let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(sample.to_vec1::<f32>().unwrap(), expected);
            assert_eq!(batch.names[row], format!("{index}.png"));
            rows += 1;
        }
    }
    assert_eq!(rows, 9);
}

#[test]
fn an_epoch_can_be_resumed_at_any_batch() {
    let loader = loader(Noise { samples: 61, ..Default::default() }, config(2));
    let whole = epoch(&loader, 2, 0);
    assert_eq!(
        whole.iter().map(|(number, ..)| *number).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6, 7]
    );
    assert_eq!(epoch(&loader, 2, 3), whole[3..]);
    assert!(epoch(&loader, 2, 8).is_empty() && epoch(&loader, 2, 99).is_empty());
}

/// What processes that share an epoch read is together the whole epoch, bit for bit.
#[test]
fn shares_of_an_epoch_are_the_epoch() {
    for workers in [0, 2] {
        let loader = loader(Noise { samples: 61, ..Default::default() }, config(workers));
        let whole = epoch(&loader, 2, 0);
        for stride in [1, 2, 3, 11] {
            let mut shares = Seen::new();
            for rank in 0..stride {
                let batches = loader.epoch_strided(2, 1 + rank, stride).unwrap();
                let batches = batches.map(Result::unwrap);
                shares.extend(batches.map(|b| (b.number, b.indices.clone(), values(&b))));
            }
            shares.sort_by_key(|(number, ..)| *number);
            assert_eq!(shares, whole[1..], "{stride} processes, {workers} workers");
        }
    }
}

#[test]
fn order_and_rest_follow_the_configuration() {
    let set = || Noise { samples: 20, ..Default::default() };
    let plain = LoaderConfig { shuffle: false, ..config(2) };
    let orders: Vec<Vec<usize>> =
        epoch(&loader(set(), plain.clone()), 0, 0).into_iter().map(|(_, order, _)| order).collect();
    assert_eq!(orders, [(0..8).collect::<Vec<_>>(), (8..16).collect(), (16..20).collect()]);
    let dropping = loader(set(), LoaderConfig { drop_last: true, ..plain });
    assert_eq!(dropping.batches_per_epoch(), 2);
    assert_eq!(epoch(&dropping, 0, 0).len(), 2);
    let seeds: Vec<Seen> =
        [3, 4].map(|seed| epoch(&loader(set(), LoaderConfig { seed, ..config(1) }), 0, 0)).into();
    assert_ne!(seeds[0], seeds[1]);
}

#[test]
fn unreadable_images_are_counted_once_until_they_are_too_many() {
    let bad = vec![3, 11, 17];
    let set = || Noise { samples: 20, unreadable: vec![3, 11, 17], ..Default::default() };
    let allowing = loader(set(), LoaderConfig { max_unreadable: 0.15, ..config(2) });
    for epoch_number in 0..3 {
        let seen = epoch(&allowing, epoch_number, 0);
        assert_eq!(seen.iter().map(|(_, indices, _)| indices.len()).sum::<usize>(), 17);
    }
    let listed = allowing.unreadable();
    assert_eq!(listed.iter().map(|image| image.index).collect::<Vec<_>>(), bad);
    assert_eq!(listed[0].name, "3.png");
    assert_eq!(listed[0].reason, "3.png: a broken thing is not supported");

    for workers in [0, 1, 4] {
        let strict =
            loader(set(), LoaderConfig { max_unreadable: 0.1, shuffle: false, ..config(workers) });
        let mut batches = strict.epoch(0, 0).unwrap();
        assert_eq!(batches.next().unwrap().unwrap().indices.len(), 7);
        assert_eq!(batches.next().unwrap().unwrap().indices.len(), 7);
        let error = batches.next().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "3 of 20 images could not be read, more than the allowed share 0.1; first: 3.png: a \
             broken thing is not supported"
        );
        assert!(batches.next().is_none(), "nothing comes after an error");
    }
}

#[test]
fn a_batch_without_any_readable_image_is_empty() {
    for workers in [0, 2] {
        let set = Noise { samples: 24, unreadable: (8..16).collect(), ..Default::default() };
        let config = LoaderConfig { shuffle: false, max_unreadable: 0.5, ..config(workers) };
        let batches: Vec<_> =
            loader(set, config).epoch(0, 0).unwrap().map(Result::unwrap).collect();
        let sizes: Vec<_> = batches.iter().map(|batch| (batch.number, batch.len())).collect();
        assert_eq!(sizes, [(0, 8), (1, 0), (2, 8)]);
        assert!(batches[1].is_empty());
        assert_eq!(batches[1].images.dims(), [0, 2, 3, 4]);
    }
}

#[test]
fn a_cache_reads_every_sample_once_and_changes_nothing() {
    let set = || Repeat::new(Arc::new(Noise { samples: 12, ..Default::default() }), 3);
    let plain = Numbered::new(set(), Pixels::default(), config(0)).unwrap();
    let inner = Arc::new(Noise { samples: 12, ..Default::default() });
    let repeated = Repeat::new(Arc::clone(&inner), 3);
    // Seven of the twelve fit.
    let caching = LoaderConfig { cache_bytes: 75, ..config(0) };
    let cached = Numbered::new(repeated, Pixels::default(), caching).unwrap();
    for number in 0..2 {
        let images = |loader: &Numbered| {
            let batches = loader.epoch(number, 0).unwrap().map(Result::unwrap);
            batches.map(|batch| values(&batch)).collect::<Vec<_>>()
        };
        assert_eq!(images(&plain), images(&cached));
    }
    // 36 samples an epoch: seven are read once, the others each time.
    assert_eq!(inner.read.load(Ordering::Relaxed), 7 + 5 * 6);
}

#[test]
fn a_panic_and_a_refusal_are_errors_and_no_hang() {
    for workers in [0, 1, 3] {
        let (panicked, refused) = within(Duration::from_secs(20), move || {
            let last = |set| {
                let config = LoaderConfig { shuffle: false, ..config(workers) };
                let results: Vec<_> = loader(set, config).epoch(0, 0).unwrap().collect();
                assert_eq!(results.len(), 3, "two batches and the error");
                results.into_iter().next_back().unwrap().unwrap_err().to_string()
            };
            let base = || Noise { samples: 40, ..Default::default() };
            (
                last(Noise { panics: Some(18), ..base() }),
                last(Noise { refuses: Some(18), ..base() }),
            )
        });
        assert_eq!(panicked, "loader: reading image 18 (18.png) panicked: the disk is on fire");
        assert_eq!(refused, "`noise` is this, expected something else");
    }
}

#[test]
fn dropping_the_iterator_ends_its_threads_promptly() {
    let set =
        Arc::new(Noise { samples: 10_000, wait: Duration::from_millis(5), ..Default::default() });
    let held = Arc::clone(&set);
    let config = LoaderConfig { batch_size: 1000, ..config(4) };
    within(Duration::from_secs(4), move || {
        // A whole batch would take 5 s.
        let loader = Numbered::new(held, Pixels::default(), config).unwrap();
        let batches = loader.epoch(0, 0).unwrap();
        thread::sleep(Duration::from_millis(50));
        drop(batches);
    });
    let read = set.read.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(set.read.load(Ordering::Relaxed), read, "no thread reads on");
    assert_eq!(Arc::strong_count(&set), 1, "no thread holds the set");
}

#[test]
fn no_more_is_read_ahead_than_configured() {
    let set = Arc::new(Noise { samples: 400, ..Default::default() });
    let config = LoaderConfig { batch_size: 10, prefetch: 3, ..config(2) };
    let shared: Arc<dyn Dataset<Sample = Number>> = set.clone();
    let loader = Numbered::new(shared, Pixels::default(), config).unwrap();
    let mut batches = loader.epoch(0, 0).unwrap();
    batches.next().unwrap().unwrap();
    thread::sleep(Duration::from_millis(200));
    // The one that was taken, two in flight, three ahead.
    assert_eq!(set.read.load(Ordering::Relaxed), 60);
}

#[test]
fn configurations_that_give_no_batch_are_refused() {
    let text = |samples, config| {
        let set = Noise { samples, ..Default::default() };
        Numbered::new(set, Pixels::default(), config).err().unwrap().to_string()
    };
    let base = LoaderConfig::default();
    assert_eq!(
        text(5, LoaderConfig { batch_size: 0, ..base.clone() }),
        "`batch_size` is 0, expected at least 1"
    );
    assert_eq!(
        text(5, LoaderConfig { batch_size: 6, ..base.clone() }),
        "`batch_size` is 6, expected at most 5, the images of the set, with drop_last"
    );
    assert_eq!(
        text(5, LoaderConfig { max_unreadable: -0.5, batch_size: 1, ..base.clone() }),
        "`max_unreadable` is -0.5, expected 0 to 1"
    );
    for drop_last in [false, true] {
        assert_eq!(
            text(0, LoaderConfig { drop_last, ..base.clone() }),
            "`dataset` is empty, expected at least one image"
        );
    }
}
