//! Names, sizes and checksums of a checkpoint's files.

use std::{collections::BTreeMap, io::Read, path::Path};

use pad_ops::fs::read_small;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, TrainerState};

pub(super) const MODEL: &str = "model.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const AVERAGES: &str = "averages.safetensors";
pub(super) const STATE: &str = "state.json";
pub(super) const BEST: &str = "best";
/// Largest `state.json` that is read: hooks keep numbers in it, not tensors.
const STATE_BYTES: u64 = 64 << 20;
/// Version of the layout, raised when older programs could not read newer folders. Format 1 had
/// neither `best` nor `hooks_due` nor a checksum of the state itself; it is still read.
pub(super) const FORMAT: u32 = 2;

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedState {
    pub(super) format: u32,
    pub(super) trainer: TrainerState,
    pub(super) hooks: BTreeMap<String, Value>,
    pub(super) files: BTreeMap<String, FileFacts>,
    /// Step of the best checkpoint so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) best: Option<usize>,
    /// The epoch that has ended, if its hooks have not been called yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hooks_due: Option<usize>,
    /// Number of processes that trained together; `None` if it was not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) processes: Option<usize>,
}

/// How `state.json` ends: eight hexadecimal digits stand between the two parts.
const CHECKSUM: (&str, &str) = (",\n  \"checksum\": \"", "\"\n}\n");

impl SavedState {
    /// The text of `state.json`. It ends with the CRC-32C of itself, counted with zeros in the place
    /// of the digits.
    pub(super) fn to_text(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        if text.len() as u64 > STATE_BYTES - 64 {
            let what = format!("{} bytes, expected less than {STATE_BYTES}", text.len());
            return Err(serde::ser::Error::custom(what));
        }
        let body = text.strip_suffix("\n}").unwrap_or(&text);
        let (before, after) = CHECKSUM;
        let zeros = format!("{body}{before}00000000{after}");
        let crc32c = crc32c::crc32c(zeros.as_bytes());
        Ok(format!("{body}{before}{crc32c:08x}{after}"))
    }

    /// Parses the text of the file `path`.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NewerFormat`].
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let damaged = |what| Error::Damaged { path: path.to_path_buf(), what };
        let checked = match digits(text) {
            None => false,
            Some(digits) => {
                let mut zeros = text.to_vec();
                zeros[digits.clone()].fill(b'0');
                let expected = format!("{:08x}", crc32c::crc32c(&zeros));
                if expected.as_bytes() != &text[digits.clone()] {
                    let found = String::from_utf8_lossy(&text[digits]).into_owned();
                    return Err(damaged(format!("expected checksum {expected}, found {found}")));
                }
                true
            }
        };
        let mut value: Value = serde_json::from_slice(text)
            .map_err(|error| damaged(format!("expected JSON: {error}")))?;
        let format = value.get("format").and_then(Value::as_u64);
        match format {
            Some(found) if found > FORMAT.into() => {
                return Err(Error::NewerFormat { path: path.to_path_buf(), newest: FORMAT, found });
            }
            Some(1) => {}
            Some(_) if format == Some(FORMAT.into()) => {
                if !checked {
                    return Err(damaged("no checksum at its end".into()));
                }
            }
            _ => {
                let found = format.map_or("none".into(), |format| format.to_string());
                return Err(damaged(format!("expected format 1 or {FORMAT}, found {found}")));
            }
        }
        if let Some(entries) = value.as_object_mut() {
            entries.remove("checksum");
        }
        serde_json::from_value(value)
            .map_err(|error| damaged(format!("expected a trainer's state: {error}")))
    }

    /// Reads the state of the checkpoint `folder`, without its other files.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::NewerFormat`].
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let state = Self::parse(&path, &read_small(&path, STATE_BYTES).map_err(Error::io(&path))?)?;
        let named = folder.file_name().and_then(|name| step_of(name.to_str()?));
        match named.filter(|step| *step != state.trainer.step) {
            Some(step) => Err(Error::Damaged {
                path,
                what: format!(
                    "expected step {step} by the folder's name, found {}",
                    state.trainer.step
                ),
            }),
            None => Ok(state),
        }
    }
}

/// Where the digits of the checksum stand in a text that ends with one.
fn digits(text: &[u8]) -> Option<std::ops::Range<usize>> {
    let end = text.strip_suffix(CHECKSUM.1.as_bytes())?.len();
    let start = end.checked_sub(8)?;
    text[..start].ends_with(CHECKSUM.0.as_bytes()).then_some(start..end)
}

/// Size and checksum of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileFacts {
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
}

impl FileFacts {
    /// Checks size and checksum of the file `path`.
    pub(super) fn verify(self, path: &Path) -> Result<()> {
        let mut file = pad_ops::fs::open(path).map_err(Error::io(path))?;
        let damaged = |what| Err(Error::Damaged { path: path.to_path_buf(), what });
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        if bytes != self.bytes {
            return damaged(format!("expected {} bytes, found {bytes}", self.bytes));
        }
        let mut crc32c = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).map_err(Error::io(path))?;
            if read == 0 {
                break;
            }
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
        }
        if crc32c != self.crc32c {
            return damaged(format!("expected checksum {:08x}, found {crc32c:08x}", self.crc32c));
        }
        Ok(())
    }
}

/// `checkpoint-00000120`.
pub(super) fn folder_name(step: usize) -> String {
    format!("checkpoint-{step:08}")
}

/// Returns the step of a name that [`folder_name`] gives; `None` for any other name.
pub(super) fn step_of(name: &str) -> Option<usize> {
    let step = name.strip_prefix("checkpoint-")?.parse().ok()?;
    (folder_name(step) == name).then_some(step)
}
