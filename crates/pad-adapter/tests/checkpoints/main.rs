//! Files: adapters, foreign formats, tables on other grids, backbones from anywhere.

mod adapter_files;
mod backbone;
mod formats;
mod real_backbones;
mod tables;
