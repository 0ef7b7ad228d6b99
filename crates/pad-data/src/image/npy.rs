//! Arrays of NumPy (`.npy`): whole numbers of 8 to 64 bits and floats, in either order of bytes and
//! of axes.
//!
//! Two axes are rows and columns. Of three, the last are the channels if there are fewer than 16
//! (the side of the smallest image), else the first if there are fewer than 16, else the first are
//! frames. Four axes are frames, rows, columns and channels.

use std::path::Path;

use pad_ops::{ImageSize, text::shown};

use super::{
    Image, Pixels,
    endian::Order,
    limits::finished,
    notice::warn_once,
    options::{DecodeOptions, limit},
};
use crate::{Error, Result};

/// An axis below this is one of channels.
const FEWEST_PIXELS: usize = 16;
/// Beyond, floats of 32 bits do not hold every whole number.
const EXACT: u64 = 1 << 24;

/// The type of an array's numbers: kind (`u`, `i`, `f`), bytes and their order.
#[derive(Clone, Copy)]
struct Kind {
    letter: u8,
    width: usize,
    order: Order,
}

struct Header {
    kind: Kind,
    columns_first: bool,
    shape: Vec<usize>,
    data_at: usize,
}

/// How the axes of an array make images. Strides count numbers.
struct Layout {
    frames: usize,
    size: ImageSize,
    channels: usize,
    frame_stride: usize,
    row_stride: usize,
    column_stride: usize,
    channel_stride: usize,
}

impl Header {
    fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let refuse =
            |at: usize, what: String| Error::Structure { path: path.into(), at: at as u64, what };
        let cut = || refuse(bytes.len(), "expected the header of an array, found the end".into());
        let (length, start) = match bytes.get(6).ok_or_else(cut)? {
            1 => (Order::Little.u16(bytes, 8).map(usize::from), 10),
            2 | 3 => (Order::Little.u32(bytes, 8).map(|length| length as usize), 12),
            other => return Err(refuse(6, format!("expected version 1, 2 or 3, found {other}"))),
        };
        let end = length.and_then(|length| length.checked_add(start)).ok_or_else(cut)?;
        let text = bytes.get(start..end).ok_or_else(cut)?;
        let text = String::from_utf8_lossy(text);
        let field = |name: &str| {
            let at = text.find(&format!("'{name}'"))?;
            Some(text[at..].split_once(':')?.1.trim_start())
        };
        let missing = |name: &str| refuse(start, format!("expected `{name}` in the header"));
        let descr = field("descr").ok_or_else(|| missing("descr"))?;
        let descr = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
        let descr = descr.ok_or_else(|| Error::Unsupported {
            path: path.into(),
            what: "an array of records".into(),
        })?;
        let kind = Kind::of(descr).ok_or_else(|| Error::Unsupported {
            path: path.into(),
            what: format!("an array of the type `{}`", shown(descr)),
        })?;
        let order = field("fortran_order").ok_or_else(|| missing("fortran_order"))?;
        let shape = field("shape").ok_or_else(|| missing("shape"))?;
        let shape = shape.strip_prefix('(').and_then(|rest| rest.split(')').next());
        let axes = shape.ok_or_else(|| missing("shape"))?.split(',').map(str::trim);
        let axes: Result<Vec<usize>, _> =
            axes.filter(|axis| !axis.is_empty()).map(str::parse::<usize>).collect();
        let wrong = |_| refuse(start, "expected whole numbers for `shape`".into());
        Ok(Self {
            kind,
            columns_first: order.starts_with("True"),
            shape: axes.map_err(wrong)?,
            data_at: end,
        })
    }

    fn layout(&self, path: &Path) -> Result<Layout> {
        let text = || {
            let axes: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
            axes.join("x")
        };
        let unsupported = |what: String| Err(Error::Unsupported { path: path.into(), what });
        if self.shape.contains(&0) {
            return unsupported(format!("an array of {}, without an element,", text()));
        }
        let mut strides = vec![1_usize; self.shape.len()];
        let mut step = 1_usize;
        let axes: Vec<usize> = match self.columns_first {
            true => (0..self.shape.len()).collect(),
            false => (0..self.shape.len()).rev().collect(),
        };
        for axis in axes {
            strides[axis] = step;
            step = step.saturating_mul(self.shape[axis]);
        }
        // Axes of frames, rows, columns and channels.
        let [frames, rows, columns, channels] = match *self.shape.as_slice() {
            [_, _] => [None, Some(0), Some(1), None],
            [_, _, last] if last < FEWEST_PIXELS => [None, Some(0), Some(1), Some(2)],
            [first, _, _] if first < FEWEST_PIXELS => [None, Some(1), Some(2), Some(0)],
            [_, _, _] => [Some(0), Some(1), Some(2), None],
            // PyTorch's order.
            [_, second, third, last]
                if second < FEWEST_PIXELS && third >= FEWEST_PIXELS && last >= FEWEST_PIXELS =>
            {
                [Some(0), Some(2), Some(3), Some(1)]
            }
            [_, _, _, last] if last <= super::MAX_CHANNELS => [Some(0), Some(1), Some(2), Some(3)],
            _ => return unsupported(format!("an array of {}", text())),
        };
        let side = |axis: Option<usize>| axis.map_or(1, |axis| self.shape[axis]);
        let stride = |axis: Option<usize>| axis.map_or(0, |axis| strides[axis]);
        Ok(Layout {
            frames: side(frames),
            size: ImageSize::new(side(rows), side(columns)),
            channels: side(channels),
            frame_stride: stride(frames),
            row_stride: stride(rows),
            column_stride: stride(columns),
            channel_stride: stride(channels),
        })
    }
}

impl Kind {
    fn of(descr: &str) -> Option<Self> {
        let (order, rest) = match descr.as_bytes() {
            [b'<' | b'=', rest @ ..] => (Order::Little, rest),
            [b'>', rest @ ..] => (Order::Big, rest),
            [b'|', rest @ ..] => (Order::Little, rest),
            rest => (Order::Little, rest),
        };
        let (letter, width) = match rest {
            [b'u' | b'i', b'1' | b'2' | b'4' | b'8'] | [b'f', b'2' | b'4' | b'8'] => {
                (rest[0], usize::from(rest[1] - b'0'))
            }
            _ => return None,
        };
        Some(Self { letter, width, order })
    }

    /// The number that begins at byte `at`; NaN for a whole number that is not exact.
    fn float(self, bytes: &[u8], at: usize) -> Option<f32> {
        let exact = |number: i64| match number.unsigned_abs() <= EXACT {
            true => number as f32,
            false => f32::NAN,
        };
        let order = self.order;
        Some(match (self.letter, self.width) {
            (b'i', 1) => f32::from(bytes.get(at)?.cast_signed()),
            (b'i', 2) => f32::from(order.u16(bytes, at)?.cast_signed()),
            (b'u', 4) => order.u32(bytes, at)? as f32,
            (b'i', 4) => order.u32(bytes, at)?.cast_signed() as f32,
            (b'u', 8) => exact(i64::try_from(order.u64(bytes, at)?).unwrap_or(i64::MAX)),
            (b'i', 8) => exact(order.u64(bytes, at)?.cast_signed()),
            (b'f', 2) => half::f16::from_bits(order.u16(bytes, at)?).to_f32(),
            (b'f', 4) => order.f32(bytes, at)? as f32,
            (b'f', 8) => f64::from_bits(order.u64(bytes, at)?) as f32,
            _ => return None,
        })
    }
}

fn opened(bytes: &[u8], path: &Path) -> Result<(Header, Layout)> {
    let header = Header::parse(bytes, path)?;
    let layout = header.layout(path)?;
    Ok((header, layout))
}

/// Number of frames of an array.
pub(super) fn frames(bytes: &[u8], path: &Path) -> Result<usize> {
    Ok(opened(bytes, path)?.1.frames)
}

/// Height and width of the frames of an array.
pub(super) fn size(bytes: &[u8], path: &Path, _: &DecodeOptions) -> Result<ImageSize> {
    Ok(opened(bytes, path)?.1.size)
}

/// Reads the frame that the options choose.
pub(super) fn decode(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Image> {
    let (header, layout) = opened(bytes, path)?;
    let Header { kind, data_at, .. } = header;
    let area = (layout.size.height as u64).saturating_mul(layout.size.width as u64);
    let samples = area.saturating_mul(layout.channels as u64);
    options.check(path, layout.size, samples.saturating_mul(kind.width.min(4) as u64))?;
    let total = samples.saturating_mul(layout.frames as u64).saturating_mul(kind.width as u64);
    let found = bytes.len().saturating_sub(data_at) as u64;
    if found < total {
        let what = format!("expected {total} bytes of numbers, found {found}");
        return Err(Error::Structure { path: path.into(), at: data_at as u64, what });
    }
    limit(path, "channels", super::MAX_CHANNELS as u64, layout.channels as u64)?;
    let page = options.page_of(path, layout.frames)?;
    if options.page.is_none() && layout.frames > 1 {
        warn_once(path, "several frames", || {
            format!("the first of {} frames is read (see the page option)", layout.frames)
        });
    }
    // Offsets of all samples, in the order of an image.
    let Layout { size, channels, row_stride, column_stride, channel_stride, .. } = layout;
    let places = (0..size.height).flat_map(|row| {
        (0..size.width).flat_map(move |column| {
            (0..channels).map(move |channel| {
                row * row_stride + column * column_stride + channel * channel_stride
            })
        })
    });
    let first = page * layout.frame_stride;
    let places = places.map(|place| data_at + (first + place) * kind.width);
    let pixels = match (kind.letter, kind.width) {
        (b'u', 1) => Pixels::U8(places.map(|at| bytes[at]).collect()),
        (b'u', 2) => Pixels::U16(places.filter_map(|at| kind.order.u16(bytes, at)).collect()),
        _ => Pixels::F32(places.filter_map(|at| kind.float(bytes, at)).collect()),
    };
    if let (b'u' | b'i', Pixels::F32(values)) = (kind.letter, &pixels)
        && values.iter().any(|value| value.is_nan())
    {
        let what = format!("an array of whole numbers beyond {EXACT}");
        return Err(Error::Unsupported { path: path.into(), what });
    }
    finished(path, Image::new(size, channels, pixels)?, vec![false; size.area()])
}
