//! Whole runs of the trainer on a small regression.

mod regression;
mod resume;
mod training;
