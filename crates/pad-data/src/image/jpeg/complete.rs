//! Whether a JPEG file is whole.

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Whether the end-of-image marker of the image itself is there. (One inside a thumbnail of the
/// headers does not count.) Decoders fill what is missing with grey, so that a half-copied file
/// would train a network on half an image.
pub(in crate::image) fn is_complete(bytes: &[u8]) -> bool {
    // Nearly all files: nothing follows the marker. Inside a scan the two bytes cannot occur, and a
    // file cut within its headers has no scan, so the decoder refuses it.
    if bytes.ends_with(&[0xFF, END_OF_IMAGE]) {
        return true;
    }
    let mut at = 2; // after the start-of-image marker
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END_OF_IMAGE => return true,
            // Markers without a body: restarts, TEM, and a stuffed zero inside a scan.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            START_OF_SCAN => at += body_length(bytes, at), // then the scan, in which only markers are sought
            _ => at += body_length(bytes, at),
        }
    }
    false
}

/// The next byte after a run of `FF`; `at` moves behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xFF)?;
    *at += bytes.get(*at..)?.iter().position(|&byte| byte != 0xFF)?;
    *at += 1;
    bytes.get(*at - 1).copied()
}

/// Length of a segment, counted from its two length bytes.
fn body_length(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outer_end_marker_counts() {
        let headers = [
            0xFF, 0xD8, // start
            0xFF, 0xE1, 0, 8, 0xFF, 0xD8, 1, 2, 0xFF,
            0xD9, // a thumbnail with its own end marker
            0xFF, 0xDA, 0, 3, 0, // scan header
            7, 0xFF, 0x00, 9, 0xFF, 0xD3, 5, // scan with a stuffed zero and a restart
        ];
        let mut file = headers.to_vec();
        assert!(!is_complete(&file), "cut inside the scan");
        assert!(!is_complete(&file[..12 + 3]));
        file.extend([0xFF, 0xFF, 0xD9]);
        assert!(is_complete(&file));
        file.extend([0, 0, 0]);
        assert!(is_complete(&file), "padding behind the end is common");
        assert!(!is_complete(&[]));
    }
}
