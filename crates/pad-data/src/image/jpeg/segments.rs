//! The segments of a JPEG file before its picture, and what they say of it.

use std::borrow::Cow;

use pad_ops::ImageSize;

use super::super::exif::Exif;

/// The segments before the picture: marker, offset and body of each.
pub(in crate::image) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize, &[u8])> {
    let mut at = if bytes.starts_with(&[0xFF, 0xD8]) { 2 } else { bytes.len() };
    std::iter::from_fn(move || {
        while bytes.get(at..at + 2)? == [0xFF, 0xFF] {
            at += 1;
        }
        let &[0xFF, marker, high, low] = bytes.get(at..at + 4)? else { return None };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        // The picture begins: no segments follow.
        if marker == 0xDA || marker == 0xD9 {
            return None;
        }
        let body_at = at + 4;
        let body = bytes.get(body_at..end)?;
        at = end;
        Some((marker, body_at, body))
    })
}

/// What the segments say of the picture.
#[derive(Clone, Debug, Default)]
pub(in crate::image) struct Facts {
    /// As stored; `None` without a frame header.
    size: Option<ImageSize>,
    components: usize,
    /// Marker of the frame header, and bits of a sample.
    coding: (u8, u8),
    jfif: bool,
    /// Offset of the name of an Adobe marker.
    adobe_at: Option<usize>,
    pub(in crate::image) exif: Exif,
}

impl Facts {
    pub(in crate::image) fn of(bytes: &[u8]) -> Self {
        let mut facts = Self::default();
        let mut exif = None;
        for (marker, at, body) in segments(bytes) {
            match marker {
                0xE0 => facts.jfif |= body.starts_with(b"JFIF\0"),
                0xE1 if exif.is_none() => {
                    exif = body.strip_prefix(b"Exif\0\0").map(Exif::parse);
                }
                0xEE if body.starts_with(b"Adobe") => facts.adobe_at = Some(at),
                // Frame headers of all kinds of coding; C4, C8 and CC are tables.
                0xC0..=0xCF if facts.size.is_none() && !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                    if let &[bits, h1, h0, w1, w0, components, ..] = body {
                        let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
                        facts.size = Some(ImageSize::new(side(h1, h0), side(w1, w0)));
                        facts.components = usize::from(components);
                        facts.coding = (marker, bits);
                    }
                }
                _ => {}
            }
        }
        facts.exif = exif.unwrap_or_default();
        facts
    }

    /// Height and width of the upright picture; `None` without a frame header.
    pub(in crate::image) fn upright_size(&self) -> Option<ImageSize> {
        self.size.map(|size| self.exif.orientation.size(size))
    }

    /// The kind of a picture that no decoder here reads; `None` for one that is read.
    pub(in crate::image) fn unknown_kind(&self) -> Option<&'static str> {
        match self.coding {
            (0xC3 | 0xC7 | 0xCB | 0xCF, _) => Some("a lossless JPEG"),
            (0xC5 | 0xC6 | 0xCD | 0xCE, _) => Some("a hierarchical JPEG"),
            (0xC9 | 0xCA, _) => Some("an arithmetic-coded JPEG"),
            (_, 12) => Some("a JPEG of 12 bits"),
            _ => None,
        }
    }

    /// Height and width of the picture as stored; `None` without a frame header.
    pub(in crate::image) fn stored_size(&self) -> Option<ImageSize> {
        self.size
    }
}

/// The file as the general decoder has to see it to take the colours as libjpeg does: a JFIF
/// marker says that three components are YCbCr, whatever an Adobe marker says.
pub(in crate::image) fn as_libjpeg(bytes: &[u8]) -> Cow<'_, [u8]> {
    let facts = Facts::of(bytes);
    match facts.adobe_at {
        Some(at) if facts.jfif && facts.components == 3 => {
            let mut bytes = bytes.to_vec();
            bytes[at] = b'-'; // no longer the name of an Adobe marker
            bytes.into()
        }
        _ => bytes.into(),
    }
}
