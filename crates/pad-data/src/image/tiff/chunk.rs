//! The bytes of a strip or tile: unpacked, and without a predictor.

use std::io::Read;

use flate2::read::ZlibDecoder;
use ruzstd::decoding::StreamingDecoder;
use weezl::{BitOrder, LzwStatus, decode::Configuration};

use super::{super::endian::Order, page::Page};

/// Unpacks one chunk to at most `most` bytes; fewer where its data end earlier.
///
/// # Errors
/// What is wrong with the data.
pub(super) fn unpacked(page: &Page, packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let turned: Vec<u8>;
    let packed = if page.reversed {
        turned = packed.iter().map(|byte| byte.reverse_bits()).collect();
        &turned
    } else {
        packed
    };
    match page.compression {
        1 => Ok(packed[..packed.len().min(most)].to_vec()),
        5 => lzw(packed, most),
        8 | 32_946 => {
            let mut out = Vec::new();
            let mut bytes = ZlibDecoder::new(packed).take(most as u64);
            match bytes.read_to_end(&mut out) {
                Ok(_) => Ok(out),
                Err(error) => Err(format!("damaged deflate data: {error}")),
            }
        }
        32_773 => Ok(pack_bits(packed, most)),
        50_000 | 34_926 => zstd(packed, most),
        other => Err(format!("expected a known compression, found {other}")),
    }
}

/// Whether [`unpacked`] knows a compression.
pub(super) fn is_known(compression: u64) -> bool {
    matches!(compression, 1 | 5 | 8 | 32_773 | 32_946 | 34_926 | 50_000)
}

/// LZW. A stream without the code of its end is fine if it holds all bytes, as for libtiff.
fn lzw(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    // The first code clears the table; in the order of bits of before TIFF 5.0 it looks like this.
    if let [0, second, ..] = packed
        && second & 1 == 1
    {
        return Err("LZW data of before TIFF 5.0 are not read".into());
    }
    let mut decoder = Configuration::with_tiff_size_switch(BitOrder::Msb, 8)
        .with_yield_on_full_buffer(true)
        .build();
    let mut out = vec![0; most];
    let (mut read, mut written) = (0, 0);
    while written < most {
        let result = decoder.decode_bytes(&packed[read..], &mut out[written..]);
        read += result.consumed_in;
        written += result.consumed_out;
        match result.status {
            Ok(LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            Ok(_) => break,
            Err(error) => return Err(format!("damaged LZW data: {error}")),
        }
    }
    out.truncate(written);
    Ok(out)
}

/// Zstandard, one frame. Its window, which is memory, is 128 MiB at most.
fn zstd(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let fault = |error: &dyn std::fmt::Display| format!("damaged Zstandard data: {error}");
    let decoder = StreamingDecoder::new(packed).map_err(|error| fault(&error))?;
    let mut out = Vec::new();
    match decoder.take(most as u64).read_to_end(&mut out) {
        Ok(_) => Ok(out),
        Err(error) => Err(fault(&error)),
    }
}

/// Runs and literals of bytes.
fn pack_bits(mut packed: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, rest @ ..] = packed
        && out.len() < most
    {
        let kind = kind.cast_signed();
        packed = match kind {
            -128 => rest,
            0.. => {
                let length = (kind as usize + 1).min(rest.len());
                out.extend_from_slice(&rest[..length]);
                &rest[length..]
            }
            _ => {
                let [value, rest @ ..] = rest else { break };
                out.resize(out.len() + (1 - isize::from(kind)) as usize, *value);
                rest
            }
        };
    }
    out.truncate(most);
    out
}

/// Takes back the prediction of one row of `width` pixels, in place. Afterwards its numbers are in
/// the order of bytes that is returned.
pub(super) fn unpredicted(page: &Page, row: &mut [u8], width: usize) -> Order {
    let samples = page.planes().1;
    match page.predictor {
        2 => {
            match (page.bits, page.order) {
                (8, _) => {
                    for at in samples..row.len() {
                        row[at] = row[at].wrapping_add(row[at - samples]);
                    }
                }
                (16, Order::Little) => {
                    sums(row, samples, u16::from_le_bytes, u16::to_le_bytes, u16::wrapping_add)
                }
                (16, Order::Big) => {
                    sums(row, samples, u16::from_be_bytes, u16::to_be_bytes, u16::wrapping_add)
                }
                (32, Order::Little) => {
                    sums(row, samples, u32::from_le_bytes, u32::to_le_bytes, u32::wrapping_add)
                }
                (32, Order::Big) => {
                    sums(row, samples, u32::from_be_bytes, u32::to_be_bytes, u32::wrapping_add)
                }
                (_, Order::Little) => {
                    sums(row, samples, u64::from_le_bytes, u64::to_le_bytes, u64::wrapping_add)
                }
                (_, Order::Big) => {
                    sums(row, samples, u64::from_be_bytes, u64::to_be_bytes, u64::wrapping_add)
                }
            }
            page.order
        }
        3 => {
            for at in samples..row.len() {
                row[at] = row[at].wrapping_add(row[at - samples]);
            }
            // First all highest bytes, then all second ones, to the lowest.
            let (count, bytes) = (width * samples, page.bits / 8);
            let apart = row.to_vec();
            for (index, number) in row.chunks_exact_mut(bytes).enumerate().take(count) {
                for (place, byte) in number.iter_mut().enumerate() {
                    *byte = apart[place * count + index];
                }
            }
            Order::Big
        }
        _ => page.order,
    }
}

/// Running sums of the numbers of each sample.
fn sums<T: Copy, const N: usize>(
    row: &mut [u8],
    samples: usize,
    read: fn([u8; N]) -> T,
    write: fn(T) -> [u8; N],
    add: fn(T, T) -> T,
) {
    let numbers = row.as_chunks_mut::<N>().0;
    for at in samples..numbers.len() {
        numbers[at] = write(add(read(numbers[at]), read(numbers[at - samples])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_bits_is_that_of_its_inventor() {
        // The example of Apple's technical note 1023.
        let packed = [
            0xFE, 0xAA, 0x02, 0x80, 0x00, 0x2A, 0xFD, 0xAA, 0x03, 0x80, 0x00, 0x2A, 0x22, 0xF7,
            0xAA,
        ];
        let mut expected = vec![0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A];
        expected.extend([0xAA; 4]);
        expected.extend([0x80, 0x00, 0x2A, 0x22]);
        expected.extend([0xAA; 10]);
        assert_eq!(pack_bits(&packed, 100), expected);
        assert_eq!(pack_bits(&packed, 7), expected[..7]);
        assert_eq!(pack_bits(&[5, 1], 100), [1]);
        assert!(pack_bits(&[0x80, 0x81], 100).is_empty());
    }

    #[test]
    fn zstandard_data_are_limited() {
        // A frame of 1,000 zeros, by the format's description: magic, single segment with a content
        // of two bytes less 256, a last block of one byte that is repeated.
        let size = (1000_u16 - 256).to_le_bytes();
        let block = (1000_u32 << 3 | 1 << 1 | 1).to_le_bytes();
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x60];
        frame.extend(size);
        frame.extend(&block[..3]);
        frame.push(7);
        assert_eq!(zstd(&frame, 1 << 20).unwrap(), [7; 1000]);
        assert_eq!(zstd(&frame, 10).unwrap(), [7; 10]);
        assert!(zstd(&frame[..9], 1 << 20).unwrap_err().starts_with("damaged Zstandard data: "));
        assert!(zstd(b"", 10).is_err() && zstd(&[0; 64], 10).is_err());
    }

    #[test]
    fn lzw_of_the_old_order_is_refused() {
        let error = lzw(&[0, 1, 2, 3], 10).unwrap_err();
        assert_eq!(error, "LZW data of before TIFF 5.0 are not read");
    }

    #[test]
    fn lzw_needs_no_end_code() {
        // "-----A---B" with and without its end, 9 bits a code: 256 45 258 258 65 259 66 (257).
        let codes = [256_u16, 45, 258, 258, 65, 259, 66, 257];
        let packed = |codes: &[u16]| {
            let bits: String = codes.iter().map(|code| format!("{code:09b}")).collect();
            let bytes = bits.as_bytes().chunks(8);
            let byte = |bits: &[u8]| {
                bits.iter().enumerate().map(|(at, bit)| (bit - b'0') << (7 - at)).sum::<u8>()
            };
            bytes.map(byte).collect::<Vec<u8>>()
        };
        assert_eq!(lzw(&packed(&codes), 10).unwrap(), b"-----A---B");
        assert_eq!(lzw(&packed(&codes[..7]), 10).unwrap(), b"-----A---B");
        assert_eq!(lzw(&packed(&codes[..4]), 10).unwrap(), b"-----");
    }
}
