//! Keyed random numbers: every decision has a place, and its place fixes its value.
//!
//! A [`Key`] is *where* a random decision sits (run seed, epoch or step, sample, layer, purpose).
//! The same key draws the same numbers on any thread, in any order, before or after a resumed run.
//! Nothing here reads the clock, a thread id or a global state.
//!
//! The four words of a key are the 256-bit key of a ChaCha8 stream: different keys give independent
//! streams. A path of one layer number takes part with no hashing and so without collisions; deeper
//! paths ([`Key::layer`] of a layer, [`Key::scope`]) are hashed to 64 bits first.
//!
//! ```
//! use pad_ops::rng::{Key, Purpose};
//! let crop = Key::new(7).epoch(3).sample(41).purpose(Purpose::Crop);
//! assert_eq!(crop.stream().uniform_f64(), crop.stream().uniform_f64());
//! assert_ne!(crop.stream().next_u64(), crop.sample(42).stream().next_u64());
//! ```

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// What a random decision is for. Decisions of different purposes never share numbers.
///
/// ```
/// use pad_ops::rng::{Key, Purpose};
/// let key = Key::new(1);
/// let (crop, flip) = (key.purpose(Purpose::Crop), key.purpose(Purpose::Flip));
/// assert_ne!(crop.stream().next_u64(), flip.stream().next_u64());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Purpose {
    /// Anything that has no purpose of its own.
    Other = 0,
    /// Initial weights.
    Init = 1,
    /// Order of samples in an epoch.
    Shuffle = 2,
    /// Crop windows.
    Crop = 3,
    /// Mirroring.
    Flip = 4,
    /// Which patches are removed.
    Mask = 5,
    /// Dropout of activations.
    Dropout = 6,
    /// Dropout of whole residual branches.
    DropPath = 7,
    /// Rendered scenes.
    Scene = 8,
    /// Split of a set into training and held-out parts.
    Split = 9,
    /// Colour and intensity changes.
    Jitter = 10,
    /// Choice of samples for a loss.
    Sampler = 11,
}

/// Where a random decision sits. `Copy`; refine it with the methods and end with [`Key::stream`].
///
/// ```
/// use pad_ops::rng::Key;
/// let sample = Key::new(7).epoch(2).sample(5);
/// assert_eq!(sample, Key::new(7).sample(5).epoch(2)); // a place, however it is reached
/// assert_ne!(sample.stream().next_u64(), sample.epoch(3).stream().next_u64());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    seed: u64,
    epoch: u64,
    sample: u64,
    layer: u32,
    purpose: Purpose,
    /// The hash of all layers and scopes around the innermost layer; 0 without any.
    path: u64,
    /// Whether it is inside a layer or a scope.
    nested: bool,
}

/// What the paths of scopes and of draws at the root begin with, apart from those of layers.
const SCOPE: u64 = 0x5c0b_e5c0_b5c0_be5d;
const ROOT: u64 = 0x7007_f00d_0b17_5eed;

/// Mixes one step of a path into its hash (splitmix64's finisher).
fn mix(path: u64, step: u64) -> u64 {
    let mut z = path.rotate_left(23) ^ step.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The 64-bit FNV-1a hash of a name.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Key {
    /// Creates the root key of a run.
    pub fn new(seed: u64) -> Self {
        let (epoch, sample, layer, purpose) = (0, 0, 0, Purpose::Other);
        Self { seed, epoch, sample, layer, purpose, path: 0, nested: false }
    }

    /// Returns the same place in epoch (or optimisation step) `epoch`.
    #[must_use]
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// Returns the same place for sample `sample`.
    #[must_use]
    pub fn sample(self, sample: u64) -> Self {
        Self { sample, ..self }
    }

    /// Returns the place of layer `layer` inside this place: layers nest, so that block 3 of stage 1
    /// and block 3 of stage 2 draw different numbers.
    ///
    /// ```
    /// # use pad_ops::rng::Key;
    /// let stage = Key::new(7).layer(1);
    /// assert_ne!(stage.layer(3), Key::new(7).layer(2).layer(3));
    /// assert_ne!(stage.layer(3).stream().next_u64(), Key::new(7).layer(3).stream().next_u64());
    /// ```
    #[must_use]
    pub fn layer(self, layer: u32) -> Self {
        match self.nested {
            true => Self { layer, path: mix(self.path, u64::from(self.layer)), ..self },
            false => Self { layer, nested: true, ..self },
        }
    }

    /// Returns the place of the use `name` inside this place, such as one of the dropouts of a
    /// layer. Scopes and layers nest in any order.
    ///
    /// ```
    /// # use pad_ops::rng::Key;
    /// let block = Key::new(7).layer(2);
    /// let (attention, mlp) = (block.scope("attn_drop"), block.scope("mlp_drop"));
    /// assert_ne!(attention.stream().next_u64(), mlp.stream().next_u64());
    /// ```
    #[must_use]
    pub fn scope(self, name: &str) -> Self {
        let outer = if self.nested { mix(self.path, u64::from(self.layer)) } else { 0 };
        Self { layer: 0, path: mix(outer ^ SCOPE, hash(name)), nested: true, ..self }
    }

    /// Returns the same place for another purpose.
    #[must_use]
    pub fn purpose(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// Returns the same place for something known by its name (a parameter): the name's 64-bit
    /// FNV-1a hash is the sample.
    ///
    /// ```
    /// use pad_ops::rng::{Key, Purpose};
    /// // The first values of a parameter, whatever was built before it.
    /// let init = Key::new(7).purpose(Purpose::Init);
    /// let (weight, bias) = (init.named("fc1.weight"), init.named("fc1.bias"));
    /// assert_eq!(weight, Key::new(7).named("fc1.weight").purpose(Purpose::Init));
    /// assert_ne!(weight.stream().next_u64(), bias.stream().next_u64());
    /// ```
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        self.sample(hash(name))
    }

    /// Returns the stream of numbers that belongs to this place.
    pub fn stream(self) -> Stream {
        let mut seed = [0_u8; 32];
        for (bytes, word) in seed.chunks_exact_mut(4).zip(self.words()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Stream(ChaCha8Rng::from_seed(seed))
    }

    /// The stream's 256-bit key, for kernels that draw it on another device.
    pub(crate) fn words(self) -> [u32; 8] {
        let last = (u64::from(self.layer) << 32) | u64::from(self.purpose as u32);
        // What drops units outside any layer does not share a mask with layer 0. Other draws at the
        // root (masks, crops, shuffles) have the numbers that they always had.
        let drops = matches!(self.purpose, Purpose::Dropout | Purpose::DropPath);
        let path = if drops && !self.nested { ROOT } else { self.path };
        let [a, b, c, d] = [self.seed ^ path, self.epoch, self.sample, last];
        [a, a >> 32, b, b >> 32, c, c >> 32, d, d >> 32].map(|word| word as u32)
    }
}

/// A stream of random numbers. The conversions below are ours, so that they never change with a
/// library's version.
///
/// ```
/// use pad_ops::rng::Key;
/// let mut stream = Key::new(42).stream();
/// let drawn: Vec<f64> = (0..1000).map(|_| stream.uniform_f64()).collect();
/// assert!(drawn.iter().all(|value| (0.0..1.0).contains(value)));
/// assert!((drawn.iter().sum::<f64>() / 1000.0 - 0.5).abs() < 0.05);
/// ```
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Draws 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Draws 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Moves to the `draw`-th 32-bit number of the stream, so that many threads can share one.
    ///
    /// ```
    /// use pad_ops::rng::Key;
    /// let mut whole = Key::new(1).stream();
    /// let drawn: Vec<u32> = (0..8).map(|_| whole.next_u32()).collect();
    /// let mut half = Key::new(1).stream(); // in another thread, say
    /// half.seek(4);
    /// assert_eq!(half.next_u32(), drawn[4]);
    /// assert_eq!(half.next_u64() as u32, drawn[5]); // low word first
    /// ```
    pub fn seek(&mut self, draw: u64) {
        self.0.set_word_pos(u128::from(draw));
    }

    /// Draws a uniform number in `[0, 1)`, 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Draws a uniform number in `[0, 1)`, 24 bits.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1_u32 << 24) as f32)
    }

    /// Draws a uniform number in `[low, high)`; `low` if the interval is empty.
    pub fn range_f64(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform_f64()
    }

    /// Draws a uniform integer in `0..n` without bias (Lemire's method); 0 if `n` is 0.
    ///
    /// ```
    /// use pad_ops::rng::Key;
    /// let mut stream = Key::new(42).stream();
    /// assert!(stream.below(6) < 6 && stream.below(1) == 0); // a die; no choice
    /// assert!((0.0..1.0).contains(&stream.uniform_f32()));
    /// assert!((2.0..3.0).contains(&stream.range_f64(2.0, 3.0)));
    /// assert!(stream.bernoulli(1.0) && !stream.bernoulli(0.0));
    /// assert!(stream.normal().abs() < 10.0);
    /// let (mut values, mut bytes, mut order) = ([0_f32; 4], [0_u8; 4], [0, 1, 2, 3]);
    /// stream.fill_uniform(&mut values);
    /// stream.fill_bytes(&mut bytes);
    /// stream.shuffle(&mut order);
    /// order.sort_unstable();
    /// assert_eq!(order, [0, 1, 2, 3]); // nothing is lost
    /// ```
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let reject_under = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if wide as u64 >= reject_under {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Draws `true` with probability `p`.
    pub fn bernoulli(&mut self, p: f64) -> bool {
        self.uniform_f64() < p
    }

    /// Draws a standard normal number (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform_f64()).cos()
    }

    /// Fills `out` with uniform numbers in `[0, 1)`.
    pub fn fill_uniform(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|value| *value = self.uniform_f32());
    }

    /// Fills `out` with random bytes.
    pub fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_key_matters() {
        let key = Key::new(1).epoch(2).sample(3).layer(4).purpose(Purpose::Mask);
        let others = [
            Key::new(9).epoch(2).sample(3).layer(4).purpose(Purpose::Mask),
            key.epoch(9),
            key.sample(9),
            key.layer(9),
            key.scope("drop"),
            key.purpose(Purpose::Crop),
            key.named("blocks.0.norm1.weight"),
        ];
        for other in others {
            assert_ne!(key.stream().next_u64(), other.stream().next_u64(), "{other:?}");
        }
        assert_eq!(key.stream().next_u64(), key.stream().next_u64());
    }

    #[test]
    fn numbers_never_change() {
        // Pins the stream: files and resumed runs depend on it.
        let mut stream = Key::new(42).epoch(1).sample(2).purpose(Purpose::Crop).stream();
        let drawn: Vec<u64> = (0..3).map(|_| stream.below(1000)).collect();
        assert_eq!(drawn, PINNED);
        // One layer deep, the words are the parts of the key as they are.
        let key = Key::new(1 << 40 | 5).epoch(6).sample(7).layer(8).purpose(Purpose::Dropout);
        assert_eq!(key.words(), [5, 1 << 8, 6, 0, 7, 0, 6, 8]);
        // So are the numbers of deeper paths: a resumed run draws what it drew.
        let mut nested = Key::new(42).layer(1).layer(2).scope("drop").layer(0).stream();
        assert_eq!([nested.below(1000), nested.below(1000)], NESTED);
    }
    const PINNED: [u64; 3] = [368, 527, 665];
    const NESTED: [u64; 2] = [258, 279];

    #[test]
    fn paths_nest() {
        let root = Key::new(3);
        let mut places = Vec::new();
        for stage in 0..4 {
            places.push(root.layer(stage).purpose(Purpose::Dropout));
            for block in 0..4 {
                let block = root.layer(stage).layer(block);
                places.push(block.purpose(Purpose::Dropout));
                for name in ["attn", "mlp", ""] {
                    places.push(block.scope(name).purpose(Purpose::Dropout));
                    places.push(block.scope(name).layer(0).purpose(Purpose::Dropout));
                    places.push(block.scope(name).scope(name).purpose(Purpose::Dropout));
                }
            }
        }
        places.push(root.purpose(Purpose::Dropout));
        places.push(root.scope("").purpose(Purpose::Dropout));
        places.push(root.scope("attn").purpose(Purpose::Dropout));
        places.push(root.layer(0).scope("attn").purpose(Purpose::Dropout));
        let drawn: std::collections::BTreeSet<u64> =
            places.iter().map(|key| key.stream().next_u64()).collect();
        assert_eq!(drawn.len(), places.len());
        // Epoch, sample and purpose are those of the innermost place, in any order.
        assert_eq!(root.epoch(4).layer(1).layer(2), root.layer(1).layer(2).epoch(4));
    }

    #[test]
    fn seek_is_the_same_stream() {
        let mut whole = Key::new(1).stream();
        let drawn: Vec<u32> = (0..1000).map(|_| whole.next_u32()).collect();
        let mut part = Key::new(1).stream();
        part.seek(777);
        assert_eq!(part.next_u32(), drawn[777]);
    }

    #[test]
    fn moments() {
        let mut stream = Key::new(5).stream();
        let n = 100_000;
        let (mut uniform, mut normal, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            uniform += stream.uniform_f64();
            let z = stream.normal();
            normal += z;
            square += z * z;
        }
        let n = f64::from(n);
        assert!((uniform / n - 0.5).abs() < 5e-3);
        assert!((normal / n).abs() < 1.5e-2);
        assert!((square / n - 1.0).abs() < 2e-2);
    }

    #[test]
    fn shuffle_is_a_permutation_and_below_is_in_range() {
        let mut stream = Key::new(3).purpose(Purpose::Shuffle).stream();
        let mut items: Vec<u32> = (0..100).collect();
        stream.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        assert!((0..1000).all(|n| stream.below(n) < n.max(1)));
    }
}
