//! TensorBoard event files, written by hand: TFRecord frames around a few protobuf fields.
//!
//! A frame is the length (u64), the masked CRC-32C of these eight bytes, the message, and its masked CRC-32C. The
//! messages are `tensorflow.Event`s with `wall_time` (1), `step` (2), `file_version` (3) or `summary` (5); a summary
//! holds values (1) with `tag` (1) and `simple_value` (2) or `image` (4: height 1, width 2, colour space 3, PNG 4).

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Error, Hook, Result, StepInfo};

/// Writes one event file per run (and per resume: TensorBoard is told to forget steps that are trained again).
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    path: PathBuf,
    file: Option<File>,
}

impl TensorBoard {
    /// Event files in `folder`, which is made when the run begins.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref().to_path_buf();
        Self { path: folder.clone(), folder, file: None }
    }

    /// Adds a picture, encoded as PNG.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn image(&mut self, tag: &str, step: usize, size: (u32, u32), png: &[u8]) -> Result<()> {
        let mut image = Vec::new();
        varint_field(&mut image, 1, size.0.into());
        varint_field(&mut image, 2, size.1.into());
        varint_field(&mut image, 3, 3); // RGB
        bytes_field(&mut image, 4, png);
        let mut value = Vec::new();
        bytes_field(&mut value, 1, tag.as_bytes());
        bytes_field(&mut value, 4, &image);
        let mut summary = Vec::new();
        bytes_field(&mut summary, 1, &value);
        self.event(step, 5, &summary)
    }

    /// Adds numbers of one step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, step: usize, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, number) in values {
            let mut value = Vec::new();
            bytes_field(&mut value, 1, tag.as_bytes());
            value.push((2 << 3) | 5);
            value.extend((*number as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &value);
        }
        self.event(step, 5, &summary)
    }

    fn event(&mut self, step: usize, field: u64, payload: &[u8]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut event = vec![(1 << 3) | 1];
        event.extend(now.as_secs_f64().to_le_bytes());
        varint_field(&mut event, 2, step as u64);
        bytes_field(&mut event, field, payload);
        let failed = match &mut self.file {
            Some(file) => file.write_all(&frame(&event)).err(),
            None => None,
        };
        failed.map_or(Ok(()), |source| Err(Error::Io { path: self.path.clone(), source }))
    }

    fn open(&mut self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        // Readers find the files by "tfevents" and sort them by name: a count keeps several runs in order.
        let mut count = 0;
        self.file = Some(loop {
            self.path = self.folder.join(format!("events.out.tfevents.{count:010}.pad"));
            match File::create_new(&self.path) {
                Ok(file) => break file,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => count += 1,
                Err(error) => return Err(error),
            }
        });
        Ok(())
    }
}

impl Hook for TensorBoard {
    fn name(&self) -> &'static str {
        "tensorboard"
    }

    fn before_run(&mut self, done: usize, _steps: usize) -> Result<()> {
        self.open().map_err(|source| Error::Io { path: self.path.clone(), source })?;
        self.event(0, 3, b"brain.Event:2")?;
        if done > 0 {
            // SessionLog (field 7) with status START = 1: later steps of older files are purged.
            self.event(done + 1, 7, &[1 << 3, 1])?;
        }
        Ok(())
    }

    fn after_step(&mut self, info: &mut StepInfo) -> Result<()> {
        let rate = info.images as f64 / info.seconds.max(1e-9);
        let mut values = vec![
            ("loss", info.loss),
            ("lr", info.lr),
            ("gradient_norm", info.gradient_norm),
            ("images_per_s", rate),
            ("epoch", info.progress),
        ];
        values.extend(info.metrics.iter().map(|(name, value)| (name.as_str(), *value)));
        self.scalars(info.step, &values)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, (field << 3) | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// TFRecord's checksum: CRC-32C, rotated and shifted so that checksums of checksums stay safe.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(message.len() + 16);
    frame.extend(length);
    frame.extend(masked_crc(&length).to_le_bytes());
    frame.extend(message);
    frame.extend(masked_crc(message).to_le_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a file into messages, checking every checksum.
    fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (length_crc, rest) = rest.split_at(4);
            assert_eq!(masked_crc(length).to_le_bytes(), length_crc);
            let n = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (message, rest) = rest.split_at(n);
            let (crc, rest) = rest.split_at(4);
            assert_eq!(masked_crc(message).to_le_bytes(), crc);
            messages.push(message.to_vec());
            bytes = rest;
        }
        messages
    }

    #[test]
    fn checksum_of_a_known_string() {
        // CRC-32C's check value, and the mask of the TFRecord format on it.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), masked);
    }

    #[test]
    fn a_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::new(folder.path());
        board.before_run(0, 10).unwrap();
        board.scalars(300, &[("loss", 0.5), ("lr", 1e-3)]).unwrap();
        board.image("picture", 300, (2, 2), b"png").unwrap();
        let messages = messages(&std::fs::read(&board.path).unwrap());
        assert_eq!(messages.len(), 3);
        assert!(messages[0].ends_with(b"brain.Event:2"));
        let scalars = &messages[1];
        assert_eq!(&scalars[9..12], [2 << 3, 0xac, 0x02], "step 300 as a varint");
        let tag = b"\x0a\x04loss\x15";
        let place = scalars.windows(tag.len()).position(|w| w == tag).unwrap() + tag.len();
        assert_eq!(scalars[place..place + 4], 0.5_f32.to_le_bytes());
        assert!(messages[2].ends_with(b"\x22\x03png"));
        // A second run gets a file of its own.
        let mut again = TensorBoard::new(folder.path());
        again.before_run(5, 10).unwrap();
        assert_ne!(again.path, board.path);
    }
}
