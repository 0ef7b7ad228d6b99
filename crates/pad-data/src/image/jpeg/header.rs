//! What stands before the entropy-coded bytes.

use pad_ops::ImageSize;

use super::{huffman::Table, order::ORDER, plane::Plane};

/// A baseline image with one scan.
pub(super) struct Header {
    pub(super) size: ImageSize,
    /// Grey, or luma, blue and red difference.
    pub(super) components: Vec<Component>,
    /// Minimum coded units (the blocks of all components of one spot), in rows and columns.
    pub(super) mcus: ImageSize,
    /// Such units between restarts; 0 for no restarts.
    pub(super) restart: usize,
    /// Where the entropy-coded bytes begin.
    pub(super) scan_at: usize,
}

/// One component, as it is coded.
pub(super) struct Component {
    /// Blocks of a unit, per row and per column.
    pub(super) horizontal: usize,
    pub(super) vertical: usize,
    /// Of each coefficient, row-major.
    pub(super) quantization: [i16; 64],
    pub(super) direct: Table,
    pub(super) alternating: Table,
}

/// A component as the frame header lists it.
#[derive(Clone, Copy)]
struct Listed {
    id: u8,
    horizontal: usize,
    vertical: usize,
    quantization: usize,
}

/// What is known while the markers are read.
#[derive(Default)]
struct Tables {
    quantization: [Option<[i16; 64]>; 4],
    direct: [Option<Table>; 4],
    alternating: [Option<Table>; 4],
    restart: usize,
    jfif: bool,
    /// Transform of an Adobe marker.
    adobe: Option<u8>,
    frame: Option<(ImageSize, Vec<Listed>)>,
}

impl Header {
    /// `None` for anything that is not plain baseline.
    pub(super) fn parse(file: &[u8]) -> Option<Self> {
        let mut tables = Tables::default();
        let mut at = 2;
        if !file.starts_with(&[0xFF, 0xD8]) {
            return None;
        }
        loop {
            if *file.get(at)? != 0xFF {
                return None;
            }
            at += file.get(at..)?.iter().position(|&byte| byte != 0xFF)?;
            let marker = file[at];
            let length = usize::from(word(file.get(at + 1..)?)?);
            let body = file.get(at + 3..at + 1 + length.max(2))?;
            at += 1 + length;
            match marker {
                0xC0 | 0xC1 => tables.read_frame(body)?,
                0xC4 => tables.read_huffman(body)?,
                0xDB => tables.read_quantization(body)?,
                0xDD => tables.restart = usize::from(word(body)?),
                0xE0 => tables.jfif |= body.starts_with(b"JFIF\0"),
                0xEE if body.starts_with(b"Adobe") => tables.adobe = body.get(11).copied(),
                0xE0..=0xEF | 0xFE => {}
                0xDA => return tables.begin_scan(body, at),
                _ => return None, // progressive, arithmetic, lossless, hierarchical, ...
            }
        }
    }

    /// Planes to be filled.
    pub(super) fn planes(&self) -> Vec<Plane> {
        let largest = |side: fn(&Component) -> usize| self.components.iter().map(side).max();
        let (across, down) = (
            largest(|component| component.horizontal).unwrap_or(1),
            largest(|component| component.vertical).unwrap_or(1),
        );
        let plane = |component: &Component| {
            let stride = self.mcus.width * component.horizontal * 8;
            let rows = self.mcus.height * component.vertical * 8;
            Plane {
                samples: vec![0; stride * rows],
                stride,
                size: ImageSize::new(
                    (self.size.height * component.vertical).div_ceil(down),
                    (self.size.width * component.horizontal).div_ceil(across),
                ),
                coloured: false,
            }
        };
        self.components.iter().map(plane).collect()
    }
}

impl Tables {
    fn read_frame(&mut self, body: &[u8]) -> Option<()> {
        let [8, height_high, height_low, width_high, width_low, count, listed @ ..] = body else {
            return None; // 12 bits
        };
        let side = |high: &u8, low: &u8| usize::from(u16::from_be_bytes([*high, *low]));
        let size = ImageSize::new(side(height_high, height_low), side(width_high, width_low));
        let listed = listed.as_chunks::<3>().0.get(..usize::from(*count))?;
        let components = listed.iter().map(|&[id, sampling, quantization]| Listed {
            id,
            horizontal: usize::from(sampling >> 4),
            vertical: usize::from(sampling & 15),
            quantization: usize::from(quantization),
        });
        // A height of zero is given after the scan.
        (size.area() > 0 && self.frame.is_none()).then_some(())?;
        self.frame = Some((size, components.collect()));
        Some(())
    }

    fn read_huffman(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let tables = match kind >> 4 {
                0 => &mut self.direct,
                1 => &mut self.alternating,
                _ => return None,
            };
            *tables.get_mut(usize::from(kind & 15))? =
                Some(Table::new(counts, rest.get(..symbols)?)?);
            body = &rest[symbols..];
        }
        Some(())
    }

    fn read_quantization(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = body.split_first() {
            let mut table = [0; 64];
            let length = match kind >> 4 {
                0 => 64,
                1 => 128,
                _ => return None,
            };
            let values = rest.get(..length)?;
            for (coded, &place) in ORDER[..64].iter().enumerate() {
                let value = match length {
                    64 => u16::from(values[coded]),
                    _ => word(&values[2 * coded..])?,
                };
                table[usize::from(place)] = i16::try_from(value).ok()?;
            }
            *self.quantization.get_mut(usize::from(kind & 15))? = Some(table);
            body = &rest[length..];
        }
        Some(())
    }

    fn begin_scan(self, body: &[u8], scan_at: usize) -> Option<Header> {
        let (size, listed) = self.frame?;
        let sampling: Vec<_> =
            listed.iter().map(|listed| (listed.horizontal, listed.vertical)).collect();
        match sampling.as_slice() {
            // The sampling of a single component means nothing.
            [_] => {}
            [(1, 1) | (2, 1) | (2, 2), (1, 1), (1, 1)] => {
                let ids: Vec<u8> = listed.iter().map(|listed| listed.id).collect();
                // As libjpeg decides: JFIF first, whatever an Adobe marker says.
                let is_ycc = match self.adobe {
                    _ if self.jfif => true,
                    Some(transform) => transform == 1,
                    None => ids == [1, 2, 3],
                };
                is_ycc.then_some(())?;
                // libjpeg interpolates chroma only where it is wider than two samples.
                (sampling[0].0 == 1 || size.width > 4).then_some(())?;
            }
            _ => return None,
        }
        let (&count, rest) = body.split_first()?;
        let (chosen, spectrum) = rest.split_at_checked(2 * listed.len())?;
        // All components in one scan, all coefficients at once.
        if usize::from(count) != listed.len() || spectrum != [0, 63, 0] {
            return None;
        }
        let mut components = Vec::with_capacity(listed.len());
        for (listed_one, &[id, chosen]) in listed.iter().zip(chosen.as_chunks::<2>().0) {
            let table = |tables: &[Option<Table>; 4], index: u8| {
                tables.get(usize::from(index)).cloned().flatten()
            };
            let alone = listed.len() == 1;
            components.push(Component {
                horizontal: if alone { 1 } else { listed_one.horizontal },
                vertical: if alone { 1 } else { listed_one.vertical },
                quantization: self.quantization.get(listed_one.quantization).copied().flatten()?,
                direct: table(&self.direct, chosen >> 4)?,
                alternating: table(&self.alternating, chosen & 15)?,
            });
            (id == listed_one.id).then_some(())?;
        }
        let largest = |side: fn(&Component) -> usize| components.iter().map(side).max();
        let down = 8 * largest(|component| component.vertical)?;
        let across = 8 * largest(|component| component.horizontal)?;
        let mcus = ImageSize::new(size.height.div_ceil(down), size.width.div_ceil(across));
        Some(Header { size, components, mcus, restart: self.restart, scan_at })
    }
}

fn word(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|&pair| u16::from_be_bytes(pair))
}
