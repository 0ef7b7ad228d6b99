//! Matching of boxes to objects, and sampling of boxes for the losses.

use std::ops::Range;

use pad_ops::{box_iou, rng::Stream};
use rayon::prelude::*;

/// The label of a box for a loss.
///
/// ```
/// use pad_heads::detection::matching::{Label, Matcher};
/// let matcher =
///     Matcher { low_threshold: 0.3, high_threshold: 0.7, allow_low_quality_matches: false };
/// let object = [0.0, 0.0, 10.0, 10.0];
/// let boxes = [object, [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]]; // overlaps 1, 0.5 and 0
/// let matches = matcher.boxes(&[object], &boxes);
/// assert_eq!(matches.labels, [Label::Object, Label::Ignored, Label::Background]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Neither object nor background: ignored.
    Ignored,
    /// Background.
    Background,
    /// An object.
    Object,
}

/// The object that each box overlaps most (the first of equals; 0 without objects), and the box's
/// label.
///
/// ```
/// use pad_heads::detection::matching::{Label, Matcher};
/// let matcher =
///     Matcher { low_threshold: 0.3, high_threshold: 0.7, allow_low_quality_matches: false };
/// let object = [0.0, 0.0, 10.0, 10.0];
/// let boxes = [object, [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]]; // overlaps 1, 0.5 and 0
/// let matches = matcher.boxes(&[object], &boxes);
/// assert_eq!(matches.objects, [0, 0, 0]);
/// assert_eq!(matches.labels.len(), 3);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    /// Index of the object.
    pub objects: Vec<usize>,
    /// Label of the box.
    pub labels: Vec<Label>,
}

/// Labels boxes by their IoU with objects, as detectron2's `Matcher`.
///
/// ```
/// use pad_heads::detection::matching::{Label, Matcher};
/// let matcher =
///     Matcher { low_threshold: 0.3, high_threshold: 0.7, allow_low_quality_matches: false };
/// let object = [0.0, 0.0, 10.0, 10.0];
/// let boxes = [object, [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]]; // overlaps 1, 0.5 and 0
/// let matches = matcher.boxes(&[object], &boxes);
/// assert_eq!(matches.labels[1], Label::Ignored);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matcher {
    /// IoU below which a box is background.
    pub low_threshold: f32,
    /// IoU from which a box is an object; between the two it is ignored.
    pub high_threshold: f32,
    /// Whether the boxes of highest IoU with an object are objects at any IoU above 0.
    pub allow_low_quality_matches: bool,
}

/// An object and its IoU.
type Best = (usize, f32);

/// Number of boxes matched at once.
const CHUNK: usize = 4096;

impl Matcher {
    /// Matches boxes to objects by their IoU.
    pub fn boxes(&self, objects: &[[f32; 4]], boxes: &[[f32; 4]]) -> Matches {
        self.overlaps(objects.len(), boxes.len(), |range| box_iou(objects, &boxes[range]))
    }

    /// Matches `boxes` boxes to `objects` objects by their overlaps; `of` returns those of a range
    /// of boxes, one row per object.
    ///
    /// ```
    /// use pad_heads::detection::matching::{Label, Matcher};
    /// let matcher =
    ///     Matcher { low_threshold: 0.5, high_threshold: 0.5, allow_low_quality_matches: false };
    /// // Overlaps of one object with two boxes, from elsewhere.
    /// let table = [0.6, 0.2];
    /// let matches = matcher.overlaps(1, 2, |boxes| table[boxes].to_vec());
    /// assert_eq!(matches.labels, [Label::Object, Label::Background]);
    /// ```
    pub fn overlaps(
        &self,
        objects: usize,
        boxes: usize,
        of: impl Fn(Range<usize>) -> Vec<f32> + Send + Sync,
    ) -> Matches {
        if objects == 0 {
            return Matches { objects: vec![0; boxes], labels: vec![Label::Background; boxes] };
        }
        let ranges: Vec<Range<usize>> =
            (0..boxes).step_by(CHUNK).map(|from| from..boxes.min(from + CHUNK)).collect();
        // Of each chunk: the best object of every box, the best overlap of every object.
        let first: Vec<(Vec<Best>, Vec<f32>)> = ranges
            .par_iter()
            .map(|range| {
                let overlaps = of(range.clone());
                let count = range.len();
                let mut best = vec![(0, f32::NEG_INFINITY); count];
                let mut highest = vec![0.0_f32; objects];
                for (object, row) in overlaps.chunks_exact(count).take(objects).enumerate() {
                    for (best, &overlap) in best.iter_mut().zip(row) {
                        if overlap > best.1 {
                            *best = (object, overlap);
                        }
                        highest[object] = highest[object].max(overlap);
                    }
                }
                (best, highest)
            })
            .collect();
        let mut highest = vec![0.0_f32; objects];
        for (_, of_chunk) in &first {
            for (highest, value) in highest.iter_mut().zip(of_chunk) {
                *highest = highest.max(*value);
            }
        }
        let label = |overlap: f32| match overlap {
            overlap if overlap >= self.high_threshold => Label::Object,
            overlap if overlap < self.low_threshold => Label::Background,
            _ => Label::Ignored,
        };
        let best: Vec<Best> = first.into_iter().flat_map(|(best, _)| best).collect();
        let mut labels: Vec<Label> = best.iter().map(|best| label(best.1)).collect();
        if self.allow_low_quality_matches {
            labels.par_chunks_mut(CHUNK).zip(&ranges).for_each(|(labels, range)| {
                let overlaps = of(range.clone());
                for (row, &highest) in overlaps.chunks_exact(range.len()).zip(&highest) {
                    for (label, &overlap) in labels.iter_mut().zip(row) {
                        // An object that no box overlaps has no best boxes.
                        if overlap == highest && highest > 0.0 {
                            *label = Label::Object;
                        }
                    }
                }
            });
        }
        Matches { objects: best.into_iter().map(|best| best.0).collect(), labels }
    }
}

/// Share of a box inside an ignored region from which the box is not learnt as background.
const IGNORED_SHARE: f32 = 0.5;

/// Ignores the background of which half or more lies inside one of `regions`: what is there is not
/// labelled.
///
/// ```
/// use pad_heads::detection::matching::{Label, ignore_inside};
/// let boxes = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]];
/// let mut labels = [Label::Background; 2];
/// ignore_inside(&[[0.0, 0.0, 15.0, 10.0]], &boxes, &mut labels);
/// assert_eq!(labels, [Label::Ignored, Label::Background]);
/// ```
pub fn ignore_inside(regions: &[[f32; 4]], boxes: &[[f32; 4]], labels: &mut [Label]) {
    if regions.is_empty() {
        return;
    }
    for (label, bbox) in labels.iter_mut().zip(boxes) {
        if *label == Label::Background && regions.iter().any(|region| is_inside(bbox, region)) {
            *label = Label::Ignored;
        }
    }
}

/// Whether half or more of a box lies inside a region.
fn is_inside([x1, y1, x2, y2]: &[f32; 4], [left, top, right, bottom]: &[f32; 4]) -> bool {
    let width = (x2.min(*right) - x1.max(*left)).max(0.0);
    let height = (y2.min(*bottom) - y1.max(*top)).max(0.0);
    let area = (x2 - x1) * (y2 - y1);
    area > 0.0 && width * height >= IGNORED_SHARE * area
}

/// Samples at most `count` boxes, at most a share of `positive_fraction` of them objects; returns
/// the indices of objects and of background, each in rising order.
///
/// ```
/// use pad_heads::detection::matching::{Label, sample};
/// use pad_ops::rng::Key;
/// let labels = [Label::Object, Label::Background, Label::Object, Label::Background, Label::Ignored];
/// let (objects, background) = sample(&labels, 3, 0.34, &mut Key::new(1).stream());
/// assert_eq!((objects.len(), background.len()), (1, 2)); // a third of three, the rest
/// ```
pub fn sample(
    labels: &[Label],
    count: usize,
    positive_fraction: f64,
    stream: &mut Stream,
) -> (Vec<usize>, Vec<usize>) {
    let of = |wanted| (0..labels.len()).filter(|&i| labels[i] == wanted).collect::<Vec<_>>();
    let mut positives = of(Label::Object);
    choose(&mut positives, (count as f64 * positive_fraction) as usize, stream);
    let mut negatives = of(Label::Background);
    choose(&mut negatives, count.saturating_sub(positives.len()), stream);
    (positives, negatives)
}

/// Keeps `count` of `items`, each with the same probability, in rising order.
fn choose(items: &mut Vec<usize>, count: usize, stream: &mut Stream) {
    if items.len() > count {
        for i in 0..count {
            let other = i + stream.below((items.len() - i) as u64) as usize;
            items.swap(i, other);
        }
        items.truncate(count);
        items.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pad_ops::rng::Key;

    #[test]
    fn background_inside_ignored_regions_is_not_learnt() {
        let boxes =
            [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [6.0, 0.0, 16.0, 10.0], [8.0; 4]];
        let all = |label| vec![label; 4];
        let labels = |regions: &[[f32; 4]], label| {
            let mut labels = all(label);
            ignore_inside(regions, &boxes, &mut labels);
            labels
        };
        let region = [0.0, 0.0, 11.0, 40.0];
        let (background, ignored) = (Label::Background, Label::Ignored);
        assert_eq!(labels(&[], background), all(background));
        // Half of the third box lies inside; the last one has no area.
        let found = labels(&[region], background);
        assert_eq!(found, [ignored, background, ignored, background]);
        assert_eq!(labels(&[region], Label::Object), all(Label::Object));
    }

    #[test]
    fn samples_are_chosen_fairly_and_by_their_key() {
        let mut labels = vec![Label::Background; 100];
        labels[10..30].fill(Label::Object);
        labels[90..].fill(Label::Ignored);
        let draw = |seed, count, share| sample(&labels, count, share, &mut Key::new(seed).stream());
        let (positives, negatives) = draw(1, 32, 0.25);
        assert_eq!((positives.len(), negatives.len()), (8, 24));
        assert!(positives.iter().all(|&i| labels[i] == Label::Object));
        assert!(negatives.iter().all(|&i| labels[i] == Label::Background));
        assert_eq!(draw(1, 32, 0.25), (positives.clone(), negatives));
        assert_ne!(draw(2, 32, 0.25).0, positives);
        // Too few objects: background instead; too few of both: all there are.
        let (positives, negatives) = draw(1, 64, 0.5);
        assert_eq!((positives.len(), negatives.len()), (20, 44));
        assert_eq!(draw(1, 500, 0.5).1.len(), 70);
        let hits = (0..2000).filter(|&seed| draw(seed, 8, 0.5).0.contains(&10)).count();
        assert!((350..450).contains(&hits), "one of five: {hits}");
    }

    #[test]
    fn objects_keep_their_best_boxes() {
        let objects =
            [[0.0, 0.0, 10.0, 10.0], [100.0, 100.0, 104.0, 104.0], [50.0, 50.0, 51.0, 51.0]];
        let boxes = [
            [0.0, 0.0, 10.0, 9.0],
            [0.0, 0.0, 10.0, 5.0],
            [99.0, 99.0, 109.0, 109.0],
            [200.0, 0.0, 210.0, 9.0],
        ];
        let matcher =
            Matcher { low_threshold: 0.3, high_threshold: 0.7, allow_low_quality_matches: true };
        let matches = matcher.boxes(&objects, &boxes);
        assert_eq!(matches.objects, [0, 0, 1, 0]);
        use Label::{Background, Ignored, Object};
        // No box overlaps the third object, which therefore has no best boxes.
        assert_eq!(matches.labels, [Object, Ignored, Object, Background]);
        let strict = Matcher { allow_low_quality_matches: false, ..matcher };
        assert_eq!(
            strict.boxes(&objects, &boxes).labels,
            [Object, Ignored, Background, Background]
        );
        assert_eq!(matcher.boxes(&[], &boxes).labels, [Background; 4]);
        assert!(matcher.boxes(&objects, &[]).labels.is_empty());
    }
}
