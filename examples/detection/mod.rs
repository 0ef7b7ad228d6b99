//! What the subcommands of `detect` are made of.
#![allow(unreachable_pub, missing_docs)] // a program, not a library

pub mod data;
pub mod report;
pub mod settings;
