//! What the subcommands beside the trainers share: flags and their values, how weights are opened,
//! how images become input, how results are written.

pub mod data;
pub mod device;
pub mod images;
pub mod output;
pub mod reading;
pub mod run_facts;
pub mod scene_classes;
pub mod shipped;
pub mod values;
pub mod view;
pub mod weights;
