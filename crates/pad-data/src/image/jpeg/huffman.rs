//! Huffman codes: bits to coefficients.

/// Bits that one look-up takes. Most coefficients, code and value together, are shorter.
const LOOK: u32 = 11;

/// A reader of bits, highest first. Behind the end it reads zeros.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest down. Below the `count` valid ones there may be more, which
    /// are right too.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// Look-ups that need no filling in between: [`Bits::fill`] makes 56 bits valid.
    pub(super) const LOOKS: usize = (56 / LOOK) as usize;
    /// Zeros that must stand behind the bytes to be read.
    pub(super) const PADDING: usize = 16;

    /// `bytes` end with [`Bits::PADDING`] zeros.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, count: 0 }
    }

    /// Makes at least 56 bits valid: more than a code of 16 and a value of 15.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        let next = match self.bytes.get(self.at..self.at + 8) {
            Some(&[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => 0,
        };
        self.buffer |= next >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    /// The next `n` bits, 1 to 16.
    #[inline(always)]
    fn peek(&self, n: u32) -> u32 {
        (self.buffer >> (64 - n)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, n: u32) {
        self.buffer <<= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// The value of `size` bits (0 to 15): negative ones are coded from below.
    #[inline(always)]
    fn value(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.peek(size);
        self.skip(size);
        extended(value, size)
    }

    /// Whether more was read than there was. (The bits still in the buffer were not.)
    pub(super) fn overrun(&self) -> bool {
        let read = self.at * 8 - self.count.min(64) as usize;
        read > self.bytes.len().saturating_sub(Self::PADDING) * 8
    }
}

#[inline(always)]
fn extended(value: u32, size: u32) -> i32 {
    let value = value as i32;
    if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
}

/// What follows in a block.
pub(super) enum Next {
    /// `run` zeros and a value.
    Coefficient {
        /// Zeros, 0 to 15.
        run: usize,
        /// The value.
        value: i32,
    },
    /// Sixteen zeros.
    Zeros,
    /// Nothing but zeros.
    End,
}

/// A Huffman code.
#[derive(Clone)]
pub(super) struct Table {
    /// By the next [`LOOK`] bits, from the lowest byte: length, then run and in the upper half the
    /// value of a coefficient that fits in; or length, symbol and no value; or nothing, for longer
    /// codes.
    fast: Box<[u32; 1 << LOOK]>,
    /// For every length, the first 16-bit string beyond its codes.
    ends: [u32; 17],
    /// For every length, index of the first symbol less its code.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// The code whose `counts[n]` codes of `n + 1` bits stand for `symbols`, in order. `None` if
    /// there are more than can be told apart.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut fast = Box::new([0_u32; 1 << LOOK]);
        let (mut ends, mut offsets) = ([0_u32; 17], [0_i32; 17]);
        let (mut code, mut index) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            offsets[length as usize] = index as i32 - code as i32;
            for &symbol in symbols.get(index..index + usize::from(count))? {
                if length <= LOOK {
                    let free = LOOK - length;
                    let first = (code << free) as usize;
                    for (rest, entry) in
                        fast.get_mut(first..first + (1 << free))?.iter_mut().enumerate()
                    {
                        *entry = fast_entry(symbol, length, rest as u32, free);
                    }
                }
                code += 1;
                index += 1;
            }
            (code <= 1 << length).then_some(())?;
            ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(Self { fast, ends, offsets, symbols: symbols.to_vec() })
    }

    #[inline(always)]
    fn look(&self, bits: &Bits<'_>) -> u32 {
        self.fast[bits.peek(LOOK) as usize]
    }

    /// The next difference of means.
    #[inline(always)]
    pub(super) fn direct(&self, bits: &mut Bits<'_>) -> Option<i32> {
        bits.fill();
        let entry = self.look(bits);
        let value = entry as i32 >> 16;
        if value != 0 && entry & 0xFF00 == 0 {
            bits.skip(entry & 0xFF);
            return Some(value);
        }
        let size = u32::from(self.symbol(bits)?);
        (size <= 15).then(|| bits.value(size))
    }

    /// The next run and value of a block, if they are short. Needs [`LOOK`] valid bits.
    #[inline(always)]
    pub(super) fn short(&self, bits: &mut Bits<'_>) -> Option<(usize, i32)> {
        let entry = self.look(bits);
        let value = entry as i32 >> 16;
        if value == 0 {
            return None;
        }
        bits.skip(entry & 0xFF);
        Some(((entry >> 8 & 0xFF) as usize, value))
    }

    /// What follows in a block, of any length.
    #[inline(always)]
    pub(super) fn long(&self, bits: &mut Bits<'_>) -> Option<Next> {
        bits.fill();
        match self.symbol(bits)? {
            0x00 => Some(Next::End),
            0xF0 => Some(Next::Zeros),
            symbol => {
                let size = u32::from(symbol & 15);
                if size == 0 {
                    return None; // a progressive end of band
                }
                let value = bits.value(size);
                Some(Next::Coefficient { run: usize::from(symbol >> 4), value })
            }
        }
    }

    /// The symbol of the next code.
    #[inline(always)]
    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let entry = self.look(bits);
        if entry != 0 && entry >> 16 == 0 {
            bits.skip(entry & 0xFF);
            return Some((entry >> 8) as u8);
        }
        let next = bits.peek(16);
        let length = (1..=16_u32).find(|&length| next < self.ends[length as usize])?;
        bits.skip(length);
        let index = (next >> (16 - length)) as i32 + self.offsets[length as usize];
        self.symbols.get(index as usize).copied()
    }
}

/// An entry of the look-up: a code of `length` bits, behind it the `free` bits `rest`.
fn fast_entry(symbol: u8, length: u32, rest: u32, free: u32) -> u32 {
    let size = u32::from(symbol & 15);
    if size == 0 || size > free {
        return u32::from(symbol) << 8 | length;
    }
    let value = extended(rest >> (free - size), size);
    (value as u32) << 16 | u32::from(symbol >> 4) << 8 | (length + size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes 00, 01, 100, 1010, and one of 13 bits.
    fn table() -> Table {
        let mut counts = [0; 16];
        (counts[1], counts[2], counts[3], counts[12]) = (2, 1, 1, 1);
        Table::new(&counts, &[0x03, 0x00, 0xF0, 0x2F, 0x11]).unwrap()
    }

    fn read(bits: &str) -> (Vec<Option<(usize, i32)>>, bool) {
        let mut bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().enumerate().map(|(at, bit)| (bit - b'0') << (7 - at)).sum())
            .collect();
        bytes.extend([0; Bits::PADDING]);
        let (mut bits, table) = (Bits::new(&bytes), table());
        let mut found = Vec::new();
        for _ in 0..9 {
            bits.fill();
            if let Some(coefficient) = table.short(&mut bits) {
                found.push(Some(coefficient));
                continue;
            }
            match table.long(&mut bits) {
                Some(Next::Coefficient { run, value }) => found.push(Some((run, value))),
                Some(Next::Zeros) => found.push(None),
                Some(Next::End) => return (found, bits.overrun()),
                None => panic!("no code"),
            }
        }
        (found, bits.overrun())
    }

    #[test]
    fn codes_and_values_of_every_length() {
        // Value 5 of 3 bits, sixteen zeros, a value of 15 bits, a code of 13 bits, a negative
        // value, the end.
        let text =
            ["00", "101", "100", "1010", "100000000000001", "1011000000000", "1", "00010", "01"];
        let (found, overrun) = read(&text.concat());
        assert_eq!(found, [Some((0, 5)), None, Some((2, 16385)), Some((1, 1)), Some((0, -5))]);
        assert!(!overrun);
        assert!(read("100").1, "the end is behind the bytes");
    }

    #[test]
    fn impossible_codes_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_none());
        counts[0] = 1;
        assert!(Table::new(&counts, &[]).is_none());
    }
}
