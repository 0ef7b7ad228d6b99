//! Pre-trains adapters (or a whole ViT) on infrared images by masked autoencoding, or by another
//! objective.
//!
//!     pad pretrain                                        # two minutes, needs nothing
//!     pad pretrain --data DIR                             # your images, small backbone
//!     pad pretrain --data DIR --recipe pad --weights mae_pretrain_vit_base.pth
//!     pad pretrain --data DIR --objective milan --teacher clip_vit_b16.safetensors
//!     pad pretrain --resume runs/pretrain-1 --epochs 40
//!     mpirun -n 2 pad pretrain --data DIR                 # built with --features mpi
//!
//! Writes a run folder: `config.toml`, `log.jsonl`, `tensorboard/`, `checkpoints/`,
//! `adapter.safetensors` and `decoder.safetensors` (or `model.safetensors`), `reconstruction.png`,
//! `scales.png`, `crops.png`, `summary.json`.

use clap::Args;

use crate::{
    pretrain::{Pretrain, train},
    run::Result,
    settings::{Flags, Start},
};

/// Pre-trains adapters (or a whole ViT) on infrared images
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(flatten)]
    start: Start,
    #[command(flatten)]
    flags: Flags<Pretrain>,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    train::run(&program.start, &program.flags)
}
