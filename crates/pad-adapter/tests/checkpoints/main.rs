//! Files: adapters, foreign formats, tables on other grids, backbones from anywhere; what people and
//! attackers put into files of weights.

mod adapter_files;
mod backbone;
mod cases;
mod configs;
mod formats;
mod hostile;
mod legacy;
mod real_backbones;
mod structure;
mod tables;
mod torch_file;
