//! Some samples of a set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pad_ops::rng::{Key, Purpose};

use super::{Dataset, Sample, no_such_sample};
use crate::{Error, Result, image::DecodeOptions};

/// Some samples of a set. Clones and further subsets share the set.
///
/// Names decide which samples [`Subset::share`] and [`Subset::split`] choose, not places on a disk,
/// so that a folder and the shards made of it give the same subsets.
///
/// ```
/// use pad_data::{Dataset, ImageSize, dataset::Subset, draw::Canvas, sets::ImageFolder};
/// let folder = tempfile::tempdir().unwrap();
/// for name in ["day/a.png", "day/b.png", "day/c.png", "night/d.png"] {
///     let path = folder.path().join(name);
///     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
///     Canvas::new(ImageSize::square(16), [7; 3]).save_png(path)?;
/// }
/// let all = Subset::all(ImageFolder::open(folder.path())?);
/// assert_eq!((all.first(3).len(), all.every(2).indices()), (3, &[0, 2][..]));
/// assert_eq!(all.only(&["night"])?.name(0), "night/d.png");
/// assert_eq!(all.share(0.5, 7)?.len(), 2 + 1); // about half of each source, at least one
/// let (training, held_out) = all.split(0.25, None, 7)?;
/// assert_eq!(training.len() + held_out.len(), all.dataset().len());
/// assert_eq!(Subset::new(ImageFolder::open(folder.path())?, vec![3, 0])?.name(0), "night/d.png");
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Debug)]
pub struct Subset<D> {
    dataset: Arc<D>,
    indices: Arc<[usize]>,
}

impl<D> Clone for Subset<D> {
    fn clone(&self) -> Self {
        Self { dataset: Arc::clone(&self.dataset), indices: Arc::clone(&self.indices) }
    }
}

impl<D: Dataset> Subset<D> {
    /// All samples of a set.
    pub fn all(dataset: D) -> Self {
        let indices = (0..dataset.len()).collect();
        Self { dataset: Arc::new(dataset), indices }
    }

    /// The samples of these indices, in this order.
    ///
    /// # Errors
    /// [`Error::Setting`] for an index beyond the end.
    pub fn new(dataset: D, indices: Vec<usize>) -> Result<Self> {
        let len = dataset.len();
        match indices.iter().find(|&&index| index >= len) {
            Some(&index) => Err(no_such_sample(index, len)),
            None => Ok(Self { dataset: Arc::new(dataset), indices: indices.into() }),
        }
    }

    /// The set that it is a part of.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// Index of each sample in [`Subset::dataset`].
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The samples at the places (of this subset) for which `keep` holds.
    fn chosen(&self, keep: impl Fn(usize) -> bool) -> Self {
        let places = (0..self.indices.len()).filter(|&place| keep(place));
        let indices = places.filter_map(|place| self.indices.get(place).copied()).collect();
        Self { dataset: Arc::clone(&self.dataset), indices }
    }

    /// The first `count` samples; all of them if there are fewer.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        self.chosen(|place| place < count)
    }

    /// Every `n`-th sample, from the first. An `n` of 0 is taken as 1.
    #[must_use]
    pub fn every(&self, n: usize) -> Self {
        self.chosen(|place| place.is_multiple_of(n.max(1)))
    }

    /// The samples of the named sources.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is not a source.
    pub fn only(&self, names: &[&str]) -> Result<Self> {
        let sources = self.sources();
        if let Some(unknown) = names.iter().find(|&&name| sources.iter().all(|s| s.name != name)) {
            let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            return Err(Error::Setting {
                name: "source",
                expected: format!("one of {}", known.join(", ")),
                found: (*unknown).to_string(),
            });
        }
        Ok(self.chosen(|place| names.contains(&self.source(place).as_str())))
    }

    /// About `ratio` (above 0, up to 1) of each source: `ratio` times the number of its samples,
    /// rounded, but at least one. The choice depends on `seed`, the name of the sample and the
    /// other samples of the source; a smaller ratio keeps a subset of what a larger one keeps. The
    /// order stays.
    ///
    /// # Errors
    /// [`Error::Setting`] for a ratio out of range.
    pub fn share(&self, ratio: f64, seed: u64) -> Result<Self> {
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(Error::Setting {
                name: "ratio",
                expected: "above 0, up to 1".into(),
                found: ratio.to_string(),
            });
        }
        // Not the purpose of `split`: a subset must not consist of samples that were nearly held
        // out.
        let key = Key::new(seed).purpose(Purpose::Sampler);
        let mut ranked: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
        for place in 0..self.len() {
            let rank = key.named(&self.name(place)).stream().next_u64();
            ranked.entry(self.source(place)).or_default().push((rank, place));
        }
        let mut kept = BTreeSet::new();
        for mut samples in ranked.into_values() {
            samples.sort_unstable();
            let count = ((samples.len() as f64 * ratio).round() as usize).max(1);
            kept.extend(samples.into_iter().take(count).map(|(_, place)| place));
        }
        Ok(self.chosen(|place| kept.contains(&place)))
    }

    /// Splits into a training part and a held-out part of about `held_out_share` (0 to 1) of the
    /// samples, at most `max` of them; the rest trains. Either part may be empty.
    ///
    /// Without `max` the part of a sample depends on `seed` and its name alone: samples that are
    /// added later do not move the others. With `max` the held-out part is a subset of the one
    /// without.
    ///
    /// # Errors
    /// [`Error::Setting`] for a share outside 0 to 1.
    pub fn split(
        &self,
        held_out_share: f64,
        max: Option<usize>,
        seed: u64,
    ) -> Result<(Self, Self)> {
        if !(0.0..=1.0).contains(&held_out_share) {
            return Err(Error::Setting {
                name: "held_out_share",
                expected: "0 to 1".into(),
                found: held_out_share.to_string(),
            });
        }
        let key = Key::new(seed).purpose(Purpose::Split);
        let stream = |place: usize| key.named(&self.name(place)).stream();
        let mut held_out: BTreeSet<usize> =
            (0..self.len()).filter(|&place| stream(place).bernoulli(held_out_share)).collect();
        if let Some(max) = max.filter(|max| *max < held_out.len()) {
            let mut ranked: Vec<(u64, usize)> =
                held_out.iter().map(|&place| (stream(place).next_u64(), place)).collect();
            ranked.sort_unstable();
            held_out = ranked.into_iter().take(max).map(|(_, place)| place).collect();
        }
        let part = |is_held_out| self.chosen(|place| held_out.contains(&place) == is_held_out);
        Ok((part(false), part(true)))
    }

    /// Index of a sample in the set.
    fn index(&self, place: usize) -> Result<usize> {
        let index = self.indices.get(place).copied();
        index.ok_or_else(|| no_such_sample(place, self.indices.len()))
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn name(&self, index: usize) -> String {
        self.index(index).map_or_else(|_| "(no such image)".into(), |at| self.dataset.name(at))
    }

    fn classes(&self) -> &<D::Sample as Sample>::Classes {
        self.dataset.classes()
    }

    fn info(&self, index: usize) -> Result<<D::Sample as Sample>::Info> {
        self.dataset.info(self.index(index)?)
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<D::Sample> {
        self.dataset.get(self.index(index)?, options)
    }

    fn source(&self, index: usize) -> String {
        self.index(index).map_or_else(|_| ".".into(), |at| self.dataset.source(at))
    }

    fn origin(&self, index: usize) -> usize {
        self.index(index).map_or(index, |at| self.dataset.origin(at))
    }
}
