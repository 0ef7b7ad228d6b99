//! The subcommands, a file each.

pub mod convert;
pub mod detect;
pub mod embed;
pub mod masks;
pub mod msip;
pub mod pretrain;
pub mod probe;
pub mod reconstruct;
pub mod roi;
pub mod segment;
pub mod shards;
pub mod stats;
