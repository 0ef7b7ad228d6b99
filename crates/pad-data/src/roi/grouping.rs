//! Grouping: the two most similar neighbouring regions become one, until no neighbours are left.

use std::{cmp::Ordering, collections::BinaryHeap};

use pad_ops::ImageSize;

use super::{
    Histograms, Merge, Region,
    regions::{Extractor, Features},
};

/// Two neighbours. The greatest is the pair to merge next.
#[derive(Clone, Copy, Debug)]
struct Pair {
    similarity: f64,
    /// Number of pairs added before.
    known: u64,
    first: u32,
    second: u32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(self.known.cmp(&other.known))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// One region's half of a pair, in a chain per region.
#[derive(Clone, Copy, Debug)]
struct Link {
    known: u64,
    neighbour: u32,
    next: u32,
}

/// End of a chain.
const END: u32 = u32::MAX;

/// Buffers of the grouping.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    extractor: Extractor,
    features: Vec<Features>,
    /// Whether a region has not been merged yet. A pair with a merged region is void and skipped
    /// when it comes up.
    open: Vec<bool>,
    pairs: BinaryHeap<Pair>,
    links: Vec<Link>,
    /// The chain of each region.
    heads: Vec<u32>,
    /// For each region, the region that last inherited it as a neighbour.
    inherited_by: Vec<u32>,
    inherited: Vec<(u64, u32)>,
    known: u64,
}

impl Grouping {
    /// The regions over the segments `0..count` of `labels`.
    pub(super) fn run(
        &mut self,
        gray: &[u8],
        size: ImageSize,
        labels: &[u32],
        count: u32,
        histograms: Histograms,
    ) -> Vec<Region> {
        self.features.clear();
        self.extractor.run(gray, size, labels, count, histograms, &mut self.features);
        let segments = self.features.len();
        self.open.clear();
        self.open.resize(segments, true);
        self.pairs.clear();
        self.links.clear();
        self.heads.clear();
        self.heads.resize(segments, END);
        self.inherited_by.clear();
        self.inherited_by.resize(segments, END);
        self.known = 0;

        let pixels = size.area() as f64;
        for first in 0..segments {
            for second in first + 1..segments {
                let [a, b] = [first, second].map(|region| &self.features[region].bounds);
                if a.holds_a_corner_of(b) {
                    self.pair(first as u32, second as u32, pixels);
                }
            }
        }
        let mut regions: Vec<Region> = self
            .features
            .iter()
            .map(|region| Region { rect: region.bounds.roi(), pixels: region.pixels, merged: None })
            .collect();
        while let Some(pair) = self.pairs.pop() {
            let Pair { similarity, first, second, .. } = pair;
            if !(self.open[first as usize] && self.open[second as usize]) {
                continue;
            }
            let features = self.features[first as usize].union(&self.features[second as usize]);
            regions.push(Region {
                rect: features.bounds.roi(),
                pixels: features.pixels,
                merged: Some(Merge { first, second, similarity }),
            });
            self.merge(first, second, features, pixels);
        }
        regions
    }

    /// Closes two regions and pairs the new one with the neighbours of both, in the order in which
    /// those pairs were known.
    fn merge(&mut self, first: u32, second: u32, features: Features, pixels: f64) {
        let merged = self.features.len() as u32;
        self.features.push(features);
        self.open[first as usize] = false;
        self.open[second as usize] = false;
        self.open.push(true);
        self.heads.push(END);
        self.inherited_by.push(END);
        let mut inherited = std::mem::take(&mut self.inherited);
        inherited.clear();
        for region in [first, second] {
            let mut at = self.heads[region as usize];
            while let Some(link) = self.links.get(at as usize) {
                if self.open[link.neighbour as usize] {
                    inherited.push((link.known, link.neighbour));
                }
                at = link.next;
            }
        }
        inherited.sort_unstable();
        for &(_, neighbour) in &inherited {
            let by = &mut self.inherited_by[neighbour as usize];
            // A neighbour of both counts once.
            if *by != merged {
                *by = merged;
                self.pair(merged, neighbour, pixels);
            }
        }
        self.inherited = inherited;
    }

    /// Makes two regions known as neighbours.
    fn pair(&mut self, first: u32, second: u32, pixels: f64) {
        let similarity =
            similarity(&self.features[first as usize], &self.features[second as usize], pixels);
        let known = self.known;
        self.known += 1;
        self.pairs.push(Pair { similarity, known, first, second });
        for (region, neighbour) in [(first, second), (second, first)] {
            let head = &mut self.heads[region as usize];
            self.links.push(Link { known, neighbour, next: *head });
            *head = self.links.len() as u32 - 1;
        }
    }
}

/// Colour, texture, size and fill, added in this order.
fn similarity(a: &Features, b: &Features, pixels: f64) -> f64 {
    let common = |sum: f64, (&a, &b): (&f64, &f64)| sum + if b < a { b } else { a };
    // Hue and saturation of grey: everything is in their first bins, which so have 1 in common
    // each.
    let colour = a.brightness.iter().zip(&b.brightness).fold(2.0, common);
    let mut texture = 0.0;
    for _channel in 0..3 {
        texture = a.texture.iter().zip(&b.texture).fold(texture, common);
    }
    let both = u64::from(a.pixels) + u64::from(b.pixels);
    let size = 1.0 - both as f64 / pixels;
    let rect = a.bounds.union(b.bounds).roi();
    let box_area = u64::from(rect.width) * u64::from(rect.height);
    let fill = 1.0 - (box_area as i64 - both as i64) as f64 / pixels;
    // `+ 0.0` makes -0 a 0, so that the two tie as they should.
    colour + texture + size + fill + 0.0
}
