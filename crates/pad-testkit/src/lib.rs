//! Test support for the PAD crates: finite-difference checks, golden files, tolerances.
