//! Edges in visiting order: a radix sort by key, then exact costs where keys are too close.

use super::graph::{CLOSE, EdgeId, Graph, Key};

/// A value that represents an edge.
pub(super) trait Ranked: Copy {
    /// Returns the key above 32 bits that increase with the edge's number.
    fn rank(&self) -> u64;
}

impl Ranked for u64 {
    #[inline(always)]
    fn rank(&self) -> u64 {
        *self
    }
}

/// The key of a rank.
#[inline(always)]
pub(super) fn key_of(rank: u64) -> Key {
    (rank >> 32) as Key
}

/// Digits of a key: 5 bits of exponent and 17 of mantissa, in two halves.
const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Keys below 2^-31 share the lowest digits: blurred bytes differ by more, or by rounding errors.
const SMALLEST: Key = (127 - 31) << 23;
/// Bits of a key that the radix sort leaves to the insertion sort.
const REST: u32 = 23 + 5 - 2 * DIGIT_BITS;
/// Longest run of equal digits that is sorted by insertion.
const SHORT: usize = 24;

/// Both digits of a key below 2, the upper one in the upper bits.
#[inline(always)]
fn digits(rank: u64) -> usize {
    (key_of(rank).saturating_sub(SMALLEST) >> REST) as usize & (DIGITS * DIGITS - 1)
}

/// Buffers of the sort.
#[derive(Debug)]
pub(super) struct Sorter<T> {
    halfway: Vec<T>,
    counts: Box<[[u32; DIGITS]; 2]>,
}

impl<T> Default for Sorter<T> {
    fn default() -> Self {
        Self { halfway: Vec::new(), counts: Box::new([[0; DIGITS]; 2]) }
    }
}

impl<T: Ranked> Sorter<T> {
    /// Sorts the parts of `input`, joined, by rank.
    pub(super) fn run(&mut self, input: &[&[T]], sorted: &mut Vec<T>) {
        let [lower, upper] = &mut *self.counts;
        lower.fill(0);
        upper.fill(0);
        let all = || input.iter().flat_map(|part| part.iter());
        let mut total = 0;
        for part in input {
            total += part.len();
            for edge in *part {
                let digits = digits(edge.rank());
                lower[digits % DIGITS] += 1;
                upper[digits / DIGITS] += 1;
            }
        }
        sorted.clear();
        let Some(&filler) = all().next() else { return };
        for counts in [&mut *lower, &mut *upper] {
            let mut begin = 0;
            for count in counts {
                let size = *count;
                *count = begin;
                begin += size;
            }
        }
        if self.halfway.len() < total {
            self.halfway.resize(total, filler);
        }
        sorted.resize(total, filler);
        for part in input {
            for &edge in *part {
                let slot = &mut lower[digits(edge.rank()) % DIGITS];
                self.halfway[*slot as usize] = edge;
                *slot += 1;
            }
        }
        for &edge in &self.halfway[..total] {
            let slot = &mut upper[digits(edge.rank()) / DIGITS];
            sorted[*slot as usize] = edge;
            *slot += 1;
        }
        finish(sorted);
    }
}

/// Sorts by rank what is sorted by digits.
fn finish<T: Ranked>(edges: &mut [T]) {
    let mut i = 1;
    while i < edges.len() {
        if edges[i - 1].rank() <= edges[i].rank() {
            i += 1;
            continue;
        }
        let digit = digits(edges[i].rank());
        let begin = i - edges[..i].iter().rev().take_while(|e| digits(e.rank()) == digit).count();
        let end = i + edges[i..].iter().take_while(|e| digits(e.rank()) == digit).count();
        sort_run(&mut edges[begin..end]);
        i = end;
    }
}

fn sort_run<T: Ranked>(run: &mut [T]) {
    if run.len() > SHORT {
        return run.sort_unstable_by_key(Ranked::rank);
    }
    for i in 1..run.len() {
        let mut at = i;
        while at > 0 && run[at - 1].rank() > run[at].rank() {
            run.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// Puts edges that are sorted by rank into visiting order. `number` is the edge's number in the
/// graph.
pub(super) fn settle<T: Ranked>(edges: &mut [T], graph: Graph<'_>, number: impl Fn(&T) -> EdgeId) {
    let close = |a: &T, b: &T| key_of(b.rank()) - key_of(a.rank()) <= CLOSE;
    let mut i = 1;
    while i < edges.len() {
        if !close(&edges[i - 1], &edges[i]) {
            i += 1;
            continue;
        }
        let begin = i - 1;
        while i < edges.len() && close(&edges[i - 1], &edges[i]) {
            i += 1;
        }
        let order = |edge: &T| (graph.cost(number(edge)).to_bits(), number(edge));
        let run = &mut edges[begin..i];
        if !run.is_sorted_by_key(order) {
            run.sort_unstable_by_key(order);
        }
    }
}
