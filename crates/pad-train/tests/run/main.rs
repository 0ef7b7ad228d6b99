//! Whole runs of the trainer on a small regression.

mod any_task;
mod best;
mod ema;
mod group;
mod late;
mod regression;
mod resume;
mod stopping;
mod stream;
mod training;
mod unused;
