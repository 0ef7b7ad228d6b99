//! TIFF files made here: what other readers fill, turn round or refuse.

mod damage;
mod files;
mod nodata;
mod pages;
mod samples;
