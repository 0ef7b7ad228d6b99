//! What is compared: how a backbone is pre-trained on infrared images, and what trains afterwards.

use anyhow::bail;

use super::Result;

/// A row of the tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    /// Its name in folders, and on the command line.
    pub(crate) id: &'static str,
    /// What tables call it.
    pub(crate) title: &'static str,
    /// Whether it is compared with PAD in the main table; otherwise it is a variant of PAD.
    pub(crate) is_main: bool,
    /// Its pre-training on infrared images; `None`: the weights as they are.
    pub(crate) pretraining: Option<Pretraining>,
    /// What trains on a labelled set.
    pub(crate) trained: &'static str,
}

/// A pre-training run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pretraining {
    /// What trains.
    pub(crate) paradigm: &'static str,
    /// Base learning rate, per 256 images.
    pub(crate) blr: &'static str,
    /// More flags of `pad pretrain`.
    pub(crate) flags: &'static [&'static str],
    /// Whether nothing is learnt: one update at a rate of 0 leaves the random values in a file.
    pub(crate) is_random: bool,
}

impl Pretraining {
    /// Whether the backbone gets adapters.
    pub(crate) fn has_adapters(&self) -> bool {
        self.paradigm == "pad"
    }
}

/// Adapters begin at zero and are small: they learn at a higher rate than weights that exist, that of
/// `benches/lora_table.sh` for PAD's and LoRA's.
const fn adapters(flags: &'static [&'static str]) -> Option<Pretraining> {
    Some(Pretraining { paradigm: "pad", blr: "3e-2", flags, is_random: false })
}

const fn whole(paradigm: &'static str, flags: &'static [&'static str]) -> Option<Pretraining> {
    Some(Pretraining { paradigm, blr: "1e-3", flags, is_random: false })
}

const fn row(id: &'static str, title: &'static str, pretraining: Option<Pretraining>) -> Row {
    Row { id, title, is_main: true, pretraining, trained: "everything" }
}

const fn variant(id: &'static str, title: &'static str, flags: &'static [&'static str]) -> Row {
    Row { is_main: false, ..row(id, title, adapters(flags)) }
}

/// The row that the others are compared with.
pub(crate) const PAD: &str = "pad";

/// The row whose weights are those of the file.
pub(crate) const RGB: &str = "rgb";

/// Gates are frozen for six of the ten epochs between evaluations: up to and with the epoch that `--gate-frozen` gives,
/// counted from 0.
const PATCHWISE: &[&str] = &["--adapter-scale=concat", "--bottleneck=64", "--gate-frozen=0.5"];

/// All rows. Rank 15 on query, value and fc1 has as many values as a bottleneck of 64: `9 * 15 * D` beside
/// `(2 * 64 + 5) * D + 64` in a block of width `D`.
pub(crate) const ROWS: [Row; 14] = [
    row(
        "random",
        "random values",
        Some(Pretraining { paradigm: "scratch", blr: "0", flags: &[], is_random: true }),
    ),
    row("scratch", "from scratch on infrared", whole("scratch", &[])),
    row(RGB, "RGB only, as is", None),
    Row { trained: "heads", ..row("frozen", "RGB only, frozen: heads alone", None) },
    row("full", "full continual", whole("full", &[])),
    row("full-decay", "full, layer decay 0.7", whole("full", &["--layer-decay=0.7"])),
    row(
        "pad-fixed",
        "adapters, fixed scale 0.5",
        adapters(&["--adapter-scale=fixed=0.5", "--bottleneck=64"]),
    ),
    row(
        "pad-learnable",
        "adapters, learnable scale",
        adapters(&["--adapter-scale=learnable=0.5", "--bottleneck=64"]),
    ),
    row(PAD, "PAD: adapters, patchwise scale", adapters(PATCHWISE)),
    row(
        "lora",
        "LoRA, as many values",
        adapters(&["--adapter=lora", "--lora-rank=15", "--lora-targets=query,value,fc1"]),
    ),
    variant(
        "pad-random-crop",
        "PAD, crops anywhere",
        &["--adapter-scale=concat", "--bottleneck=64", "--gate-frozen=0.5", "--crop=random"],
    ),
    variant(
        "pad-b16",
        "PAD, bottleneck 16",
        &["--adapter-scale=concat", "--bottleneck=16", "--gate-frozen=0.5"],
    ),
    variant(
        "pad-gate-early",
        "PAD, gates train from the start",
        &["--adapter-scale=concat", "--bottleneck=64", "--gate-frozen=0"],
    ),
    variant(
        "pad-gate-late",
        "PAD, gates frozen for 90%",
        &["--adapter-scale=concat", "--bottleneck=64", "--gate-frozen=0.9"],
    ),
];

impl Row {
    /// The rows of these names, in the order of [`ROWS`]; all without names.
    pub(crate) fn named(names: &[String]) -> Result<Vec<Self>> {
        if let Some(unknown) = names.iter().find(|name| ROWS.iter().all(|row| row.id != **name)) {
            let known: Vec<&str> = ROWS.iter().map(|row| row.id).collect();
            bail!("row: expected {}, found `{unknown}`", known.join(", "));
        }
        let wanted = |row: &&Row| names.is_empty() || names.iter().any(|name| name == row.id);
        Ok(ROWS.iter().filter(wanted).copied().collect())
    }

    /// The row whose weights it has: rows without pre-training of their own have the same.
    pub(crate) fn weights_of(&self) -> &'static str {
        if self.pretraining.is_none() { RGB } else { self.id }
    }

    /// The paradigm of `pad segment train`.
    pub(crate) fn segment_paradigm(&self) -> &'static str {
        match self.pretraining {
            None => "rgb-only",
            Some(run) if run.has_adapters() => "pad",
            Some(_) => "full",
        }
    }
}
