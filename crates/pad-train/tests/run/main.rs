//! Whole runs of the trainer on a small regression.

mod ema;
mod group;
mod regression;
mod resume;
mod stopping;
mod stream;
mod training;
