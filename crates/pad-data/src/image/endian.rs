//! Numbers in either order of bytes.

/// The order of the bytes of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

/// A fixed number of bytes at an offset; `None` beyond the end.
fn at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl Order {
    pub(super) fn u16(self, bytes: &[u8], offset: usize) -> Option<u16> {
        let bytes = at(bytes, offset)?;
        Some(match self {
            Order::Big => u16::from_be_bytes(bytes),
            Order::Little => u16::from_le_bytes(bytes),
        })
    }

    pub(super) fn u32(self, bytes: &[u8], offset: usize) -> Option<u32> {
        let bytes = at(bytes, offset)?;
        Some(match self {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        })
    }

    pub(super) fn u64(self, bytes: &[u8], offset: usize) -> Option<u64> {
        let bytes = at(bytes, offset)?;
        Some(match self {
            Order::Big => u64::from_be_bytes(bytes),
            Order::Little => u64::from_le_bytes(bytes),
        })
    }

    pub(super) fn f32(self, bytes: &[u8], offset: usize) -> Option<f64> {
        self.u32(bytes, offset).map(|bits| f64::from(f32::from_bits(bits)))
    }

    /// All 16-bit numbers of a slice.
    pub(super) fn words(self, bytes: &[u8]) -> Vec<u16> {
        let word = |pair: &[u8; 2]| match self {
            Order::Big => u16::from_be_bytes(*pair),
            Order::Little => u16::from_le_bytes(*pair),
        };
        bytes.as_chunks().0.iter().map(word).collect()
    }
}
