//! Parts of a list of images: some sources, a share, training and held out. What an image is called decides, not where it
//! lies, so that a folder and the shards made of it give the same parts.

use std::collections::{BTreeMap, BTreeSet};

use pad_ops::rng::{Key, Purpose};

use super::ImageSource;
use crate::{Error, Result, fingerprint::Fingerprint, roi::Roi};

/// A named part of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of its folder; `.` for images directly in the listed folder.
    pub name: String,
    /// Images in it.
    pub images: usize,
}

/// A list of images that can be cut into parts: a folder's, or that of shards.
pub trait ImageList: ImageSource + Sized {
    /// Path of image `index` below the root of the list, with `/` on every system; empty beyond the end.
    fn relative(&self, index: usize) -> &str;

    /// Name of the source of image `index`; empty beyond the end.
    fn source_of(&self, index: usize) -> &str;

    /// The images of these numbers, in this order; numbers beyond the end are left out.
    #[must_use]
    fn kept(&self, indices: &[usize]) -> Self;

    /// Size of the file of image `index`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Setting`] if there is no such image.
    fn bytes(&self, index: usize) -> Result<u64>;

    /// The regions of interest of every image, in order; `None` where there is no file. That they lie inside their images
    /// is seen when an image is decoded: [`ImageDataset::with_rois`](super::ImageDataset::with_rois).
    ///
    /// # Errors
    /// [`Error::Line`] for the first file (in the order of images) with a malformed line, [`Error::Io`] for one that exists and
    /// cannot be read, [`Error::SharedRoiFile`] if two images share one that exists.
    fn read_rois(&self) -> Result<Vec<Option<Vec<Roi>>>>;

    /// The sources that have images, in order.
    fn sources(&self) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for index in 0..self.len() {
            let name = self.source_of(index);
            match sources.iter_mut().find(|source| source.name == name) {
                Some(source) => source.images += 1,
                None => sources.push(Source { name: name.into(), images: 1 }),
            }
        }
        sources
    }

    /// The images of the named sources alone.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is no source.
    fn only(&self, names: &[&str]) -> Result<Self> {
        let sources = self.sources();
        if let Some(unknown) = names.iter().find(|&&name| sources.iter().all(|s| s.name != name)) {
            let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            return Err(Error::Setting {
                name: "source",
                expected: format!("one of {}", known.join(", ")),
                found: (*unknown).to_string(),
            });
        }
        Ok(chosen(self, |index| names.contains(&self.source_of(index))))
    }

    /// Every `n`-th image, from the first (all for 0).
    #[must_use]
    fn every(&self, n: usize) -> Self {
        chosen(self, |index| index % n.max(1) == 0)
    }

    /// About `ratio` (above 0, up to 1) of each source: `ratio` times its images, rounded, but at least one. Which
    /// images are kept depends on `seed`, the path below the root and the other images of the source; a smaller ratio
    /// keeps a subset of what a larger one keeps. The order stays.
    ///
    /// # Errors
    /// [`Error::Setting`] if the ratio is out of range.
    fn share(&self, ratio: f64, seed: u64) -> Result<Self> {
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(Error::Setting {
                name: "ratio",
                expected: "above 0, up to 1".into(),
                found: ratio.to_string(),
            });
        }
        // Not the purpose of `split`: a subset must not consist of those that are nearly held out.
        let key = Key::new(seed).purpose(Purpose::Sampler);
        let mut ranked: BTreeMap<&str, Vec<(u64, usize)>> = BTreeMap::new();
        for index in 0..self.len() {
            let rank = key.named(self.relative(index)).stream().next_u64();
            ranked.entry(self.source_of(index)).or_default().push((rank, index));
        }
        let mut kept = BTreeSet::new();
        for mut images in ranked.into_values() {
            images.sort_unstable();
            let count = ((images.len() as f64 * ratio).round() as usize).max(1);
            kept.extend(images.into_iter().take(count).map(|(_, index)| index));
        }
        Ok(self.kept(&kept.into_iter().collect::<Vec<_>>()))
    }

    /// Splits into a training part and a held-out part of about `held_out_share` (0 to 1) of the images. Where an
    /// image goes depends on `seed` and its path below the root alone: images that are added later change nothing for
    /// those that were there. Either part may be empty.
    ///
    /// # Errors
    /// [`Error::Setting`] if the share is outside 0 to 1.
    fn split(&self, held_out_share: f64, seed: u64) -> Result<(Self, Self)> {
        if !(0.0..=1.0).contains(&held_out_share) {
            return Err(Error::Setting {
                name: "held_out_share",
                expected: "0 to 1".into(),
                found: held_out_share.to_string(),
            });
        }
        let key = Key::new(seed).purpose(Purpose::Split);
        let held_out =
            |index: usize| key.named(self.relative(index)).stream().bernoulli(held_out_share);
        Ok((chosen(self, |index| !held_out(index)), chosen(self, held_out)))
    }

    /// Names and sizes of all files: whether two lists are the same, without reading the images.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is gone.
    fn fingerprint(&self) -> Result<Fingerprint> {
        let mut all = Fingerprint::new();
        for index in 0..self.len() {
            all.add(self.relative(index), self.bytes(index)?);
        }
        Ok(all)
    }

    /// Regions of interest of all images, in order, as a run uses them.
    fn rois_fingerprint(&self, rois: &[Vec<Roi>]) -> Fingerprint {
        let mut all = Fingerprint::new();
        for (index, rois) in rois.iter().enumerate() {
            let line = |roi: &Roi| format!("{},{},{},{}\n", roi.x, roi.y, roi.width, roi.height);
            let text: String = rois.iter().map(line).collect();
            all.add_contents(self.relative(index), text.as_bytes());
        }
        all
    }
}

fn chosen<L: ImageList>(list: &L, keep: impl Fn(usize) -> bool) -> L {
    list.kept(&(0..list.len()).filter(|&index| keep(index)).collect::<Vec<_>>())
}
