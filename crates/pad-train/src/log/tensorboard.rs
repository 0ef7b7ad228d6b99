//! TensorBoard event files, written by hand.
//!
//! A file is a sequence of records (TFRecord): `u64` length, masked CRC-32C of these eight bytes,
//! the bytes, masked CRC-32C of the bytes; all little-endian,
//! `mask(c) = rotate_right(c, 15) + 0xa282ead8`. Each record is a protocol buffer `Event`
//! (`tensorflow/core/util/event.proto`), of which these fields are used:
//! ```text
//! Event    1: double wall_time   2: int64 step   3: string file_version   5: Summary   7: SessionLog
//! Summary  1: repeated Value       Value  1: string tag   2: float simple_value   4: Image
//! Image    1: height   2: width   3: colorspace   4: bytes encoded_image_string
//! SessionLog  1: status (1 = start: readers forget events of this step and later ones)
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{BoxError, EpochInfo, Error, Flow, Hook, Result, StepInfo, TrainerView};

/// Writes [`StepInfo::scalars`] after each step, and the metrics and pictures of each [`EpochInfo`]
/// under their own names: before training (step 0), after epochs, after the last step. Each process
/// begins a new file in the same folder, whose first record makes TensorBoard drop what earlier
/// files hold beyond the step from which the run is resumed. Files that can no longer be written (a
/// full disk) end with a warning; the run goes on.
///
/// ```
/// use pad_train::{
///     BoxError, EpochStream, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, Task, Trainer,
///     TrainerConfig, candle_core::{Device, Var}, log::TensorBoard,
/// };
/// # struct Square(Var); // the loss is the square of one number
/// # impl Task for Square {
/// #     type Batch = ();
/// #     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
/// #         Ok(Losses::new(self.0.sqr()?.sum_all()?))
/// #     }
/// #     fn images_in(&self, (): &()) -> usize { 4 }
/// # }
/// # let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
/// # let config = SgdConfig { momentum: 0.0, ..Default::default() };
/// # let sgd = Sgd::new(vec![Parameter::new("x", task.0.clone())], config)?;
/// # let mut batches = EpochStream::new(2, |_, first, stride| {
/// #     Ok::<_, BoxError>((first..2).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// # });
/// # let config = TrainerConfig { epochs: 1, ..Default::default() };
/// let folder = tempfile::tempdir()?;
/// Trainer::new(config, Schedule::constant(0.25), sgd)?
///     .with_hook(TensorBoard::new(folder.path())) // tensorboard --logdir FOLDER
///     .run(&task, &mut batches)?;
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    events: Option<EventFile>,
}

impl TensorBoard {
    /// Writes event files in `folder`, which is created when the run starts.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), events: None }
    }
}

impl Hook for TensorBoard {
    fn name(&self) -> &str {
        "tensorboard"
    }

    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        self.events = Some(EventFile::create(&self.folder, view.state.step)?);
        Ok(())
    }

    fn before_training(
        &mut self,
        info: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<(), BoxError> {
        Ok(self.write(info)?)
    }

    fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        let scalars = step.scalars();
        let scalars: Vec<_> = scalars.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.log(|events| events.scalars(step.step, &scalars))?;
        Ok(Flow::Continue)
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        if !epoch.is_interrupted {
            self.write(epoch)?;
        }
        Ok(Flow::Continue)
    }
}

impl TensorBoard {
    fn write(&mut self, info: &EpochInfo) -> Result<()> {
        let metrics: Vec<_> = info.metrics.iter().map(|(tag, value)| (&**tag, *value)).collect();
        self.log(|events| {
            if !metrics.is_empty() {
                events.scalars(info.step, &metrics)?;
            }
            info.images.iter().try_for_each(|(tag, png)| events.png(info.step, tag, png))
        })
    }

    /// Writes, until the file cannot be written any more.
    fn log(&mut self, write: impl FnOnce(&mut EventFile) -> Result<()>) -> Result<()> {
        match self.events.as_mut().map_or(Ok(()), write) {
            Err(error @ Error::Io { .. }) => {
                tracing::warn!("{error}; the run goes on without these logs");
                self.events = None;
                Ok(())
            }
            written => written,
        }
    }
}

/// One event file.
///
/// ```
/// use pad_train::log::EventFile;
/// let folder = tempfile::tempdir()?;
/// let mut events = EventFile::create(folder.path(), 0)?;
/// events.scalars(1, &[("train/loss", 0.5)])?;
/// assert!(events.path().starts_with(folder.path()));
/// assert!(events.png(1, "crop", b"not a picture").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    out: BufWriter<File>,
}

impl EventFile {
    /// Creates a file in `folder` for a run that has done `step` steps.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path, step: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        // TensorBoard reads the files of a folder in the order of their names.
        let second = now() as u64;
        let (pid, mut number) = (std::process::id(), 0);
        let (path, file) = loop {
            let path =
                folder.join(format!("events.out.tfevents.{second:010}.pad.{pid}.{number:03}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io(&path)(error)),
            }
        };
        let mut events = Self { path, out: BufWriter::new(file) };
        let mut version = Message::event(0);
        version.bytes(3, b"brain.Event:2");
        events.write(&version)?;
        let mut session = Message::default();
        session.varint(1, 1);
        let mut start = Message::event(step + 1);
        start.bytes(7, &session.0);
        events.write(&start)?;
        Ok(events)
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes numbers (as f32) of a step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, step: usize, scalars: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, number) in scalars {
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes());
            value.float(2, *number as f32);
            summary.bytes(1, &value.0);
        }
        self.write_summary(step, &summary)
    }

    /// Writes a picture of a step: the bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::NotPng`] or [`Error::Io`].
    pub fn png(&mut self, step: usize, tag: &str, png: &[u8]) -> Result<()> {
        let not_png = |what| Error::NotPng { tag: tag.into(), what };
        let header = PngHeader::read(png).map_err(not_png)?;
        let mut image = Message::default();
        image.varint(1, header.height.into());
        image.varint(2, header.width.into());
        image.varint(3, header.channels);
        image.bytes(4, png);
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes());
        value.bytes(4, &image.0);
        let mut summary = Message::default();
        summary.bytes(1, &value.0);
        self.write_summary(step, &summary)
    }

    fn write_summary(&mut self, step: usize, summary: &Message) -> Result<()> {
        let mut event = Message::event(step);
        event.bytes(5, &summary.0);
        self.write(&event)
    }

    fn write(&mut self, message: &Message) -> Result<()> {
        let length = (message.0.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] =
            [&length, &masked_crc(&length), &message.0, &masked_crc(&message.0)];
        let written = parts.into_iter().try_for_each(|part| self.out.write_all(part));
        written.and_then(|()| self.out.flush()).map_err(Error::io(&self.path))
    }
}

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Seconds since 1970, for the log only.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A protocol buffer under construction: fields one after another, each behind
/// `number << 3 | wire type`.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn event(step: usize) -> Self {
        let mut event = Self::default();
        event.key(1, 1);
        event.0.extend(now().to_le_bytes());
        event.varint(2, step as u64);
        event
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.number(u64::from(field << 3 | wire_type));
    }

    /// Seven bits a byte, the lowest first; the top bit is set if more follow.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn varint(&mut self, field: u32, number: u64) {
        self.key(field, 0);
        self.number(number);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn float(&mut self, field: u32, number: f32) {
        self.key(field, 5);
        self.0.extend(number.to_le_bytes());
    }
}

/// The first chunk of a PNG file.
struct PngHeader {
    width: u32,
    height: u32,
    /// TensorBoard's `colorspace`: grey, grey with alpha, RGB, RGBA are 1 to 4.
    channels: u64,
}

impl PngHeader {
    fn read(png: &[u8]) -> Result<Self, &'static str> {
        let Some((start, _)) = png.split_first_chunk::<26>() else {
            return Err("it is shorter than a header");
        };
        if start[..8] != *b"\x89PNG\r\n\x1a\n" || start[12..16] != *b"IHDR" {
            return Err("it does not begin with a PNG header");
        }
        let number = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| start[at + i]));
        let channels = match start[25] {
            0 => 1,
            4 => 2,
            2 | 3 => 3,
            6 => 4,
            _ => return Err("its colour type is unknown"),
        };
        Ok(Self { width: number(16), height: number(20), channels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader of its own: fields of a protocol buffer as (number, wire type, payload).
    fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut number = 0;
            for shift in (0..).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                number |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    return number;
                }
            }
            unreachable!()
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let payload = match key & 7 {
                0 => varint(&mut bytes).to_le_bytes().to_vec(),
                wire => {
                    let length = match wire {
                        1 => 8,
                        5 => 4,
                        2 => varint(&mut bytes) as usize,
                        _ => panic!("wire type {wire}"),
                    };
                    let (payload, rest) = bytes.split_at(length);
                    bytes = rest;
                    payload.to_vec()
                }
            };
            fields.push((key >> 3, key & 7, payload));
        }
        fields
    }

    fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
        fields(message).into_iter().find(|(found, ..)| *found == number).map(|(.., bytes)| bytes)
    }

    fn number(message: &[u8], number: u64) -> u64 {
        u64::from_le_bytes(field(message, number).unwrap().try_into().unwrap())
    }

    /// Records with verified checksums. The bitwise CRC here is not the crate that writes them.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        fn crc(bytes: &[u8]) -> u32 {
            let mut crc = !0_u32;
            for &byte in bytes {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
                }
            }
            (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
        }
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(word(&bytes[8..]), crc(&bytes[..8]));
            let data = &bytes[12..12 + length];
            assert_eq!(word(&bytes[12 + length..]), crc(data));
            records.push(data.to_vec());
            bytes = &bytes[16 + length..];
        }
        records
    }

    /// The first bytes of a PNG file of 300 x 2 RGBA pixels.
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\x2c\0\0\0\x02\x08\x06\0\0\0";

    #[test]
    fn written_events_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 0).unwrap();
        events.scalars(300, &[("train/loss", 0.25), ("train/lr", 1e-3)]).unwrap();
        events.png(301, "reconstruction", PNG).unwrap();
        let records = records(&fs::read(events.path()).unwrap());
        assert_eq!(records.len(), 4);
        assert_eq!(field(&records[0], 3).unwrap(), b"brain.Event:2");
        let time = f64::from_le_bytes(field(&records[0], 1).unwrap().try_into().unwrap());
        assert!(time > 1.6e9, "{time}");

        assert_eq!(number(&records[2], 2), 300);
        let values = fields(&field(&records[2], 5).unwrap());
        let scalars: Vec<_> = values
            .iter()
            .map(|(_, _, value)| {
                let tag = String::from_utf8(field(value, 1).unwrap()).unwrap();
                (tag, f32::from_le_bytes(field(value, 2).unwrap().try_into().unwrap()))
            })
            .collect();
        assert_eq!(scalars, [("train/loss".into(), 0.25), ("train/lr".into(), 1e-3)]);

        let value = field(&field(&records[3], 5).unwrap(), 1).unwrap();
        assert_eq!(field(&value, 1).unwrap(), b"reconstruction");
        let image = field(&value, 4).unwrap();
        assert_eq!((number(&image, 1), number(&image, 2), number(&image, 3)), (2, 300, 4));
        assert_eq!(field(&image, 4).unwrap(), PNG);
    }

    #[test]
    fn a_resumed_run_purges_and_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventFile::create(folder.path(), 0).unwrap();
        let second = EventFile::create(folder.path(), 12).unwrap();
        assert!(first.path() < second.path(), "TensorBoard reads in the order of names");
        let records = records(&fs::read(second.path()).unwrap());
        assert_eq!(number(&records[1], 2), 13, "the first step to forget");
        assert_eq!(number(&field(&records[1], 7).unwrap(), 1), 1, "a start");
    }

    #[test]
    fn what_is_no_png_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 0).unwrap();
        let mut refused = |bytes: &[u8]| events.png(1, "x", bytes).unwrap_err().to_string();
        assert_eq!(refused(&PNG[..25]), "image `x` is not a PNG file: it is shorter than a header");
        let jpeg = [b"\xff\xd8\xff", PNG].concat();
        assert_eq!(
            refused(&jpeg),
            "image `x` is not a PNG file: it does not begin with a PNG header"
        );
        let mut odd = PNG.to_vec();
        odd[25] = 9;
        assert_eq!(refused(&odd), "image `x` is not a PNG file: its colour type is unknown");
    }
}
