//! Reports of conversions.

use std::fmt;

use pad_ops::text::{SHOWN, shown};

/// The change to one tensor, or to several that were joined.
///
/// ```
/// use pad_adapter::checkpoint::{Change, Checkpoint, Format};
/// use candle_core::{DType, Device, Tensor};
/// let tensor = Tensor::zeros((1, 1, 4), DType::F32, &Device::Cpu)?;
/// let file = Checkpoint::from_tensors("file", [("gate".to_string(), tensor)].into());
/// // A name that no table knows is kept, so that strict loading can name it.
/// let (_, report) = file.to_original("")?;
/// assert_eq!(report.changes, [Change::Kept("gate".into())]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It keeps its name.
    Kept(String),
    /// It gets another name, and for some tensors leading axes of length one or exchanged rows and
    /// columns.
    Renamed {
        /// Name in the file.
        from: String,
        /// New name.
        to: String,
    },
    /// They are joined along the first axis.
    Joined {
        /// Names in the file.
        from: Vec<String>,
        /// New name.
        to: String,
    },
    /// It is left out.
    Dropped {
        /// Name in the file.
        name: String,
        /// Why it is not needed.
        why: &'static str,
    },
    /// The format's table does not know it: it keeps its name, and a model without such a tensor
    /// does not load the file.
    Unknown(String),
    /// Its values cannot be read here, and it is left out.
    Unread {
        /// Name in the file.
        name: String,
        /// Why it cannot be read.
        why: String,
    },
}

impl Change {
    /// The (first) name in the file.
    pub(super) fn source(&self) -> &str {
        match self {
            Self::Kept(name)
            | Self::Unknown(name)
            | Self::Dropped { name, .. }
            | Self::Unread { name, .. } => name,
            Self::Renamed { from, .. } => from,
            Self::Joined { from, .. } => &from[0],
        }
    }

    /// The change with other names in the file; a name that was kept only there is renamed.
    pub(super) fn with_sources(self, source: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Kept(to) => match source(&to) {
                from if from == to => Self::Kept(to),
                from => Self::Renamed { from, to },
            },
            Self::Renamed { from, to } => match source(&from) {
                from if from == to => Self::Kept(to),
                from => Self::Renamed { from, to },
            },
            Self::Joined { from, to } => {
                Self::Joined { from: from.iter().map(|name| source(name)).collect(), to }
            }
            Self::Dropped { name, why } => Self::Dropped { name: source(&name), why },
            Self::Unknown(name) => Self::Unknown(source(&name)),
            Self::Unread { name, why } => Self::Unread { name, why },
        }
    }
}

/// The result of a conversion, tensor by tensor; its `Display` is a table.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{checkpoint::{Change, Checkpoint}, params::ParamStore, vit::{ViT, ViTConfig}};
/// use pad_ops::rng::Key;
///
/// let config = ViTConfig { layer_scale: Some(0.1), ..ViTConfig::new(8, 64, 1, 1) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// store.build(|vb| ViT::new(&config, vb))?;
/// let ours = Checkpoint::from_tensors("mine", store.tensors(|_| true));
/// let (_, report) = ours.to_original("")?;
/// // 12 tensors of the block, 2 + 1 + 2 around it; the layer scale has other names there.
/// assert_eq!(report.counts(), [17, 2, 0, 0, 0]); // kept, renamed, joined, dropped, unknown
/// assert_eq!(
///     report.summary(),
///     "ours -> original: 19 tensors: 17 kept, 2 renamed, 0 joined, 0 dropped, 0 unknown"
/// );
/// assert!(!report.is_unchanged() && report.unknown().is_empty());
/// let (from, to) = ("blocks.0.ls1.gamma".into(), "blocks.0.gamma_1".into());
/// let renamed = Change::Renamed { from, to };
/// assert!(report.changes.contains(&renamed));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConversionReport {
    /// The names before and after: `timm -> ours`.
    pub title: String,
    /// Every tensor of the file, sorted by its name there.
    pub changes: Vec<Change>,
    /// Why the model could not be inferred from the file, if it could not.
    pub unresolved: Option<String>,
}

impl ConversionReport {
    /// The number of tensors that were kept, renamed, joined (each part counts), dropped, and that
    /// are unknown.
    pub fn counts(&self) -> [usize; 5] {
        let mut counts = [0; 5];
        for change in &self.changes {
            match change {
                Change::Kept(_) => counts[0] += 1,
                Change::Renamed { .. } => counts[1] += 1,
                Change::Joined { from, .. } => counts[2] += from.len(),
                Change::Dropped { .. } => counts[3] += 1,
                Change::Unknown(_) => counts[4] += 1,
                Change::Unread { .. } => {}
            }
        }
        counts
    }

    /// Whether every tensor keeps its name.
    pub fn is_unchanged(&self) -> bool {
        self.changes.iter().all(|change| matches!(change, Change::Kept(_) | Change::Unknown(_)))
    }

    /// Names that the format's table does not know.
    pub fn unknown(&self) -> Vec<&str> {
        let names = self.changes.iter().filter_map(|change| match change {
            Change::Unknown(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// The counts in one line.
    pub fn summary(&self) -> String {
        let [kept, renamed, joined, dropped, unknown] = self.counts();
        let unread = self.changes.iter().filter(|change| matches!(change, Change::Unread { .. }));
        let unread = match unread.count() {
            0 => String::new(),
            count => format!(", {count} unread"),
        };
        format!(
            "{}: {} tensors: {kept} kept, {renamed} renamed, {joined} joined, {dropped} dropped, {unknown} \
             unknown{unread}",
            self.title,
            self.counts().iter().sum::<usize>()
        )
    }
}

/// The summary, then one line a tensor that was not kept.
impl fmt::Display for ConversionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary())?;
        let names = self.changes.iter().map(|change| match change {
            Change::Renamed { from, .. } | Change::Dropped { name: from, .. } => from.len(),
            Change::Joined { from, .. } => from.iter().map(String::len).max().unwrap_or(0),
            _ => 0,
        });
        let width = names.max().unwrap_or(0).min(SHOWN);
        let name = |name: &str| shown(name).to_string();
        for change in &self.changes {
            match change {
                Change::Kept(_) => {}
                Change::Renamed { from, to } => {
                    write!(f, "\nrenamed  {:<width$}  {}", name(from), name(to))?;
                }
                Change::Joined { from, to } => {
                    for (place, from) in from.iter().enumerate() {
                        let what = if place == 0 { "joined" } else { "" };
                        write!(f, "\n{what:<8} {:<width$}  {}", name(from), name(to))?;
                    }
                }
                Change::Dropped { name: from, why } => {
                    write!(f, "\ndropped  {:<width$}  ({why})", name(from))?;
                }
                Change::Unknown(from) => write!(f, "\nunknown  {}", name(from))?,
                Change::Unread { name: from, why } => {
                    write!(f, "\nunread   {:<width$}  ({why})", name(from))?;
                }
            }
        }
        if let Some(why) = &self.unresolved {
            write!(f, "\nthe model cannot be inferred: {why}")?;
        }
        Ok(())
    }
}
