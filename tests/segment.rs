//! Runs the example.
