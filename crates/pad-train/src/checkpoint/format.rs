//! Names, sizes and checksums of a checkpoint's files.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, TrainerState};

pub(super) const MODEL: &str = "model.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const AVERAGES: &str = "averages.safetensors";
pub(super) const STATE: &str = "state.json";
pub(super) const BEST: &str = "best";
/// Version of the layout, raised when older programs could not read newer folders.
pub(super) const FORMAT: u32 = 1;

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedState {
    pub(super) format: u32,
    pub(super) trainer: TrainerState,
    pub(super) hooks: BTreeMap<String, Value>,
    pub(super) files: BTreeMap<String, FileFacts>,
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
        let mut file = fs::File::open(path).map_err(Error::io(path))?;
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
