//! Whole runs of the trainer on a small regression.

mod group;
mod regression;
mod resume;
mod training;
