//! The flags.

use std::path::PathBuf;

use clap::Parser;

use super::{budget::BudgetName, judge::Judge};

/// What is printed in place of hours of runs where all benches are run.
pub(crate) const HOW: &str = "evidence: nothing is run without --budget; cargo bench --bench evidence -- --budget \
                              tiny, short or full (--help lists the flags; docs/evidence.md)";

/// PAD and what it is compared with, pre-trained on the same infrared images and judged on the same tasks. Cells that
/// have ended are not repeated, and runs that were stopped go on: start the same command again.
#[derive(Parser, Clone, Debug)]
#[command(name = "evidence")]
pub(crate) struct Flags {
    /// Folder for runs, tables and plots
    #[arg(long, value_name = "DIR", default_value = "runs/evidence")]
    pub(crate) out: PathBuf,
    /// Length of all runs: tiny (minutes, a test of the plumbing), short or full. Required: nothing runs by accident
    #[arg(long, value_enum)]
    pub(crate) budget: BudgetName,
    /// Folders of unlabelled infrared images for pre-training. Of a labelled set only the training images are taken:
    /// those of `images` that `train.txt` lists, or the folder `train` or `images/train`; HIT-UAV may be as its authors
    /// publish it. A set with other parts or labels and without these is an error [default: rendered scenes]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub(crate) mix: Vec<PathBuf>,
    /// Number of rendered scenes in the mix [default: that of the budget]
    #[arg(long, value_name = "N")]
    pub(crate) mix_scenes: Option<usize>,
    /// HIT-UAV as its authors publish it, for detection; its test part is never read [default: rendered scenes]
    #[arg(long, value_name = "DIR")]
    pub(crate) hit_uav: Option<PathBuf>,
    /// A folder with images, masks and classes.toml, for segmentation [default: rendered scenes]
    #[arg(long, value_name = "DIR")]
    pub(crate) udder: Option<PathBuf>,
    /// Solar modules (`images` and `module_metadata.json`), or a folder per class, for classification [default:
    /// rendered scenes, whose class is the kind of scene]
    #[arg(long, value_name = "DIR")]
    pub(crate) solar: Option<PathBuf>,
    /// Weights of DINOv2 ViT-S/14; without them that backbone is left out
    #[arg(long, value_name = "FILE")]
    pub(crate) dino: Option<PathBuf>,
    /// The shipped backbone: its name in `pad`, or `none` to leave it out
    #[arg(long, value_name = "NAME", default_value = "asset")]
    pub(crate) shipped: String,
    /// Seeds
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0,1,2")]
    pub(crate) seeds: Vec<u64>,
    /// Rows to run [default: all; see docs/evidence.md]
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// What to judge by [default: all]
    #[arg(long, value_enum, value_name = "JUDGES", value_delimiter = ',')]
    pub(crate) judges: Vec<Judge>,
    /// Device: cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub(crate) device: String,
    /// Number of compute threads of a run [default: one per core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The command `pad` [default: that of the environment variable PAD, else a release build of this repository]
    #[arg(long, value_name = "FILE")]
    pub(crate) pad: Option<PathBuf>,
    /// Print the cells and their commands, run nothing
    #[arg(long)]
    pub(crate) plan: bool,
    /// Write tables and plots of what has ended, run nothing
    #[arg(long)]
    pub(crate) tables: bool,
    /// Do not measure first updates to foretell the time
    #[arg(long)]
    pub(crate) no_estimate: bool,
}

impl Flags {
    /// What is judged by.
    pub(crate) fn judges(&self) -> Vec<Judge> {
        if self.judges.is_empty() { Judge::ALL.to_vec() } else { self.judges.clone() }
    }

    /// Flags of `pad` that say where a command runs, and change no result beyond rounding.
    pub(crate) fn machine(&self, command: &[String]) -> Vec<String> {
        let mut flags = Vec::new();
        // The search of regions knows no device.
        if command.first().is_none_or(|first| first != "roi") {
            flags.extend(["--device".to_string(), self.device.clone()]);
        }
        if let Some(threads) = self.threads {
            flags.extend(["--threads".to_string(), threads.to_string()]);
        }
        flags
    }
}
