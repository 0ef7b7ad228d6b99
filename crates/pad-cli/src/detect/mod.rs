//! What the subcommands of `detect` are made of.
#![allow(unreachable_pub, missing_docs)] // a program, not a library

pub mod data;
pub mod evaluation;
pub mod model;
pub mod predict;
pub mod report;
pub mod settings;
pub mod train;
pub mod work;
