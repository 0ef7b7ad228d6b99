//! JPEG-LS (ITU-T T.87), lossless and of one component: how compressed sequences (`.csq`) store
//! their counts.
//!
//! Names are those of the standard: `A`, `B`, `C`, `N` of a context, `Ra` to `Rd` the neighbours
//! left, above, above left and above right, `k` the parameter of the Golomb code.

use pad_ops::ImageSize;

/// Bits of a run's length, by the run index.
const J: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];

/// Decodes an image of a known size to samples of at most 16 bits.
///
/// # Errors
/// What is wrong, expected before found.
pub(super) fn decode(bytes: &[u8], expected: ImageSize) -> Result<Vec<u16>, String> {
    let header = Header::parse(bytes)?;
    if header.size != expected {
        return Err(format!("expected a raw image of {expected}, found {}", header.size));
    }
    Scan::new(&header, &bytes[header.scan_at..]).run()
}

/// What stands before the coded bits.
struct Header {
    size: ImageSize,
    max: i32,
    /// Thresholds of the gradients.
    thresholds: [i32; 3],
    reset: i32,
    scan_at: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let word = |at: usize| {
            let pair = bytes.get(at..)?.first_chunk().copied()?;
            Some(usize::from(u16::from_be_bytes(pair)))
        };
        let cut = || "expected the headers of JPEG-LS, found the end".to_string();
        let (mut at, mut frame, mut given) = (2, None, None);
        loop {
            let (marker, length) = (word(at).ok_or_else(cut)?, word(at + 2).ok_or_else(cut)?);
            let body = at + 4;
            match marker {
                0xFFF7 => {
                    let bits = *bytes.get(body).ok_or_else(cut)?;
                    let (height, width) =
                        (word(body + 1).ok_or_else(cut)?, word(body + 3).ok_or_else(cut)?);
                    let components = *bytes.get(body + 5).ok_or_else(cut)?;
                    if !(2..=16).contains(&bits) || components != 1 || height * width == 0 {
                        return Err(format!(
                            "expected JPEG-LS of one component of 2 to 16 bits, found \
                             {components} of {bits} bits"
                        ));
                    }
                    frame = Some((ImageSize::new(height, width), (1_i32 << bits) - 1));
                }
                // Parameters of the coder.
                0xFFF8 if bytes.get(body) == Some(&1) => {
                    let value = |index: usize| {
                        word(body + 1 + 2 * index).map(|value| value as i32).ok_or_else(cut)
                    };
                    given = Some([value(0)?, value(1)?, value(2)?, value(3)?, value(4)?]);
                }
                0xFFDA => {
                    let (Some(&[near, interleaved, _]), Some((size, full))) =
                        (bytes.get(body + 3..body + 6).and_then(|rest| rest.first_chunk()), frame)
                    else {
                        return Err("expected a frame header before the scan".into());
                    };
                    if near != 0 || interleaved != 0 {
                        return Err(format!("expected lossless JPEG-LS, found an error of {near}"));
                    }
                    return Self::new(size, full, given, at + 2 + length, bytes.len());
                }
                0xFFC0..=0xFFCF => {
                    return Err("expected a raw image of PNG, JPEG-LS or plain samples, found \
                                another kind of JPEG"
                        .into());
                }
                0xFF01..=0xFFFE => {}
                _ => return Err(format!("expected a marker of JPEG-LS, found {marker:#06x}")),
            }
            at += 2 + length.max(2);
        }
    }

    fn new(
        size: ImageSize,
        full: i32,
        given: Option<[i32; 5]>,
        scan_at: usize,
        length: usize,
    ) -> Result<Self, String> {
        let given = given.unwrap_or_default();
        let or = |value: i32, default: i32| if value == 0 { default } else { value };
        let max = or(given[0], full);
        let [t1, t2, t3] = defaults(max);
        let thresholds = [or(given[1], t1), or(given[2], t2), or(given[3], t3)];
        let reset = or(given[4], 64);
        if max > full || !thresholds.is_sorted() || !(3..=4096).contains(&reset) || scan_at > length
        {
            return Err(format!(
                "expected parameters of JPEG-LS in order, found MAXVAL {max}, {thresholds:?}, \
                 RESET {reset}"
            ));
        }
        Ok(Self { size, max, thresholds, reset, scan_at })
    }
}

/// The thresholds that hold unless others are given (T.87, C.2.4.1.1.1).
fn defaults(max: i32) -> [i32; 3] {
    let clamp = |value: i32, low: i32| if value > max || value < low { low } else { value };
    let raw = if max >= 128 {
        let factor = (max.min(4095) + 128) / 256;
        [factor + 2, 4 * factor + 3, 17 * factor + 4]
    } else {
        let factor = 256 / (max + 1);
        [(3 / factor).max(2), (7 / factor).max(3), (21 / factor).max(4)]
    };
    let first = clamp(raw[0], 1);
    let second = clamp(raw[1], first);
    [first, second, clamp(raw[2], second)]
}

/// Coded bits: behind a byte 0xFF one bit is stuffed.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u32,
    count: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<u32, String> {
        if self.count == 0 {
            let after_ff = self.at > 0 && self.bytes[self.at - 1] == 0xFF;
            let end = || "expected more coded samples of JPEG-LS, found the end".to_string();
            let byte = *self.bytes.get(self.at).ok_or_else(end)?;
            if after_ff && byte >= 0x80 {
                return Err(end());
            }
            (self.buffer, self.count) = (u32::from(byte), if after_ff { 7 } else { 8 });
            self.at += 1;
        }
        self.count -= 1;
        Ok(self.buffer >> self.count & 1)
    }

    fn bits(&mut self, count: u32) -> Result<i32, String> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | self.bit()? as i32;
        }
        Ok(value)
    }

    /// A number in the limited Golomb code.
    fn golomb(&mut self, k: u32, limit: i32, qbpp: u32) -> Result<i32, String> {
        let escape = limit - qbpp as i32 - 1;
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > escape {
                return Err("expected a code of JPEG-LS, found zeros".into());
            }
        }
        if zeros >= escape {
            return Ok(self.bits(qbpp)? + 1);
        }
        Ok(zeros << k | self.bits(k)?)
    }
}

/// What is known of the errors in one context of regular samples.
#[derive(Clone, Copy)]
struct Context {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
}

/// The same for samples that end a run.
#[derive(Clone, Copy)]
struct RunContext {
    a: i32,
    n: i32,
    negative: i32,
}

struct Scan<'a> {
    size: ImageSize,
    max: i32,
    thresholds: [i32; 3],
    reset: i32,
    range: i32,
    qbpp: u32,
    limit: i32,
    bits: Bits<'a>,
    contexts: Vec<Context>,
    runs: [RunContext; 2],
    run_index: usize,
}

/// Smallest `k` with `n * 2^k >= a`.
fn golomb_parameter(n: i32, a: i32) -> u32 {
    let mut k = 0;
    while k < 24 && (n << k) < a {
        k += 1;
    }
    k
}

impl<'a> Scan<'a> {
    fn new(header: &Header, bytes: &'a [u8]) -> Self {
        let range = header.max + 1;
        let bits_of = |range: i32| 32 - (range as u32 - 1).leading_zeros();
        let qbpp = bits_of(range);
        let bpp = qbpp.max(2) as i32;
        let a = ((range + 32) / 64).max(2);
        Self {
            size: header.size,
            max: header.max,
            thresholds: header.thresholds,
            reset: header.reset,
            range,
            qbpp,
            limit: 2 * (bpp + bpp.max(8)),
            bits: Bits { bytes, at: 0, buffer: 0, count: 0 },
            contexts: vec![Context { a, b: 0, c: 0, n: 1 }; 365],
            runs: [RunContext { a, n: 1, negative: 0 }; 2],
            run_index: 0,
        }
    }

    fn run(mut self) -> Result<Vec<u16>, String> {
        let width = self.size.width;
        let mut out = Vec::new();
        // One place before the row and one behind it.
        let mut above = vec![0_i32; width + 2];
        let mut row = vec![0_i32; width + 2];
        for _ in 0..self.size.height {
            above[width + 1] = above[width];
            row[0] = above[1];
            let mut column = 1;
            while column <= width {
                let (ra, rb) = (row[column - 1], above[column]);
                let (rc, rd) = (above[column - 1], above[column + 1]);
                let gradients = [rd - rb, rb - rc, rc - ra];
                if gradients == [0; 3] {
                    column = self.run_of(&above, &mut row, column)?;
                } else {
                    row[column] = self.regular(gradients, [ra, rb, rc])?;
                    column += 1;
                }
            }
            out.extend(row[1..=width].iter().map(|&value| value as u16));
            std::mem::swap(&mut above, &mut row);
        }
        Ok(out)
    }

    fn quantised(&self, gradient: i32) -> i32 {
        let level = self.thresholds.iter().filter(|&&t| gradient.abs() >= t).count() as i32 + 1;
        if gradient == 0 { 0 } else { level * gradient.signum() }
    }

    fn regular(&mut self, gradients: [i32; 3], [ra, rb, rc]: [i32; 3]) -> Result<i32, String> {
        let [q1, q2, q3] = gradients.map(|gradient| self.quantised(gradient));
        let index = 81 * q1 + 9 * q2 + q3;
        let sign = index.signum();
        let mut context = self.contexts[(index * sign) as usize];
        let predicted = if rc >= ra.max(rb) {
            ra.min(rb)
        } else if rc <= ra.min(rb) {
            ra.max(rb)
        } else {
            ra + rb - rc
        };
        let predicted = (predicted + sign * context.c).clamp(0, self.max);
        let k = golomb_parameter(context.n, context.a);
        let mapped = self.mapped(k, self.limit)?;
        let turned = k == 0 && 2 * context.b <= -context.n;
        let error = match (mapped & 1 == 1, turned) {
            (false, false) => mapped / 2,
            (true, false) => -(mapped + 1) / 2,
            (false, true) => -(mapped / 2) - 1,
            (true, true) => (mapped - 1) / 2,
        };
        context.b += error;
        context.a += error.abs();
        if context.n == self.reset {
            context.a >>= 1;
            context.b >>= 1;
            context.n >>= 1;
        }
        context.n += 1;
        if context.b <= -context.n {
            context.b = (context.b + context.n).max(-context.n + 1);
            context.c = (context.c - 1).max(-128);
        } else if context.b > 0 {
            context.b = (context.b - context.n).min(0);
            context.c = (context.c + 1).min(127);
        }
        self.contexts[(index * sign) as usize] = context;
        Ok(self.wrapped(predicted + sign * error))
    }

    /// The coded error, which is below twice the range.
    fn mapped(&mut self, k: u32, limit: i32) -> Result<i32, String> {
        let mapped = self.bits.golomb(k, limit, self.qbpp)?;
        if mapped > 2 * self.range {
            return Err(format!(
                "expected an error of JPEG-LS below {}, found {mapped}",
                self.range
            ));
        }
        Ok(mapped)
    }

    fn wrapped(&self, value: i32) -> i32 {
        value.rem_euclid(self.range).clamp(0, self.max)
    }

    /// Reads a run and the sample that ends it; returns the next column.
    fn run_of(&mut self, above: &[i32], row: &mut [i32], start: usize) -> Result<usize, String> {
        let width = self.size.width;
        let ra = row[start - 1];
        let mut column = start;
        while column <= width && self.bits.bit()? == 1 {
            let whole = 1_usize << J[self.run_index];
            let length = whole.min(width + 1 - column);
            row[column..column + length].fill(ra);
            column += length;
            if length == whole {
                self.run_index = (self.run_index + 1).min(31);
            }
        }
        if column > width {
            return Ok(column);
        }
        let length = self.bits.bits(J[self.run_index])? as usize;
        if length > width - column {
            return Err("expected a run of JPEG-LS inside its row, found a longer one".into());
        }
        row[column..column + length].fill(ra);
        column += length;
        let rb = above[column];
        let kind = usize::from(ra == rb);
        let error = self.run_error(kind)?;
        row[column] = match kind {
            1 => self.wrapped(ra + error),
            _ => self.wrapped(rb + error * (rb - ra).signum()),
        };
        self.run_index = self.run_index.saturating_sub(1);
        Ok(column + 1)
    }

    fn run_error(&mut self, kind: usize) -> Result<i32, String> {
        let mut context = self.runs[kind];
        let equal = kind as i32;
        let k = golomb_parameter(context.n, context.a + (context.n >> 1) * equal);
        let limit = self.limit - J[self.run_index] as i32 - 1;
        let mapped = self.mapped(k, limit)?;
        let value = mapped + equal;
        let odd = value & 1;
        let size = (value + odd) / 2;
        let is_negative = (k != 0 || 2 * context.negative >= context.n) == (odd == 1);
        let error = if is_negative { -size } else { size };
        context.negative += i32::from(error < 0);
        context.a += (mapped + 1 - equal) >> 1;
        if context.n == self.reset {
            context.a >>= 1;
            context.n >>= 1;
            context.negative >>= 1;
        }
        context.n += 1;
        self.runs[kind] = context;
        Ok(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the standard (T.87, H.3).
    const EXAMPLE: [u8; 59] = [
        0xFF, 0xD8, 0xFF, 0xF7, 0, 11, 8, 0, 4, 0, 4, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0,
        0, 0, 0xC0, 0x00, 0x00, 0x6C, 0x80, 0x20, 0x8E, 0x01, 0xC0, 0x00, 0x00, 0x57, 0x40, 0x00,
        0x00, 0x6E, 0xE6, 0x00, 0x00, 0x01, 0xBC, 0x18, 0x00, 0x00, 0x05, 0xD8, 0x00, 0x00, 0x91,
        0x60, 0xFF, 0xD9, 0, 0,
    ];

    #[test]
    fn the_example_of_the_standard_is_decoded() {
        let expected = [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];
        assert_eq!(decode(&EXAMPLE, ImageSize::square(4)).unwrap(), expected);
    }

    #[test]
    fn damage_is_named_and_never_panics() {
        let size = ImageSize::square(4);
        assert_eq!(
            decode(&EXAMPLE, ImageSize::new(4, 5)).unwrap_err(),
            "expected a raw image of 4x5, found 4x4"
        );
        for end in 0..EXAMPLE.len() - 4 {
            assert!(decode(&EXAMPLE[..end], size).is_err(), "{end}");
        }
        for at in 2..EXAMPLE.len() {
            for flip in [0xFF, 0x80, 0x01] {
                let mut bytes = EXAMPLE;
                bytes[at] ^= flip;
                let _ = decode(&bytes, size);
            }
        }
    }

    #[test]
    fn thresholds_follow_the_standard() {
        // T.87, table C.3: those of 8 bits; of 12 and 16 bits by the formula.
        assert_eq!(defaults(255), [3, 7, 21]);
        assert_eq!(defaults(4095), [18, 67, 276]);
        assert_eq!(defaults(65_535), [18, 67, 276]);
    }
}
