//! What is launched, as data.

use std::fmt::Write as _;

use candle_core::{DType, Result, Shape, bail};

/// Threads of a block; a warp is 32 of them, everywhere.
pub(crate) const BLOCK: usize = 256;
/// Warps of a block: rows that a block works on, where a warp takes a row.
pub(crate) const WARPS: usize = BLOCK / 32;
/// What every kernel begins with.
const PRELUDE: &str = include_str!("prelude.cuh");

/// A file of kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// Of the module.
    pub(crate) name: &'static str,
    /// CUDA C, without the prelude.
    pub(crate) text: &'static str,
}

/// A number that a kernel takes behind its arrays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// `int`.
    Int(i32),
    /// `float`.
    Float(f32),
    /// `double`.
    Double(f64),
}

/// A constant that a source is compiled with (`#define NAME value`).
pub(crate) type Constant = (&'static str, usize);

/// What a compiled source is known by.
pub(super) type Key = (&'static str, DType, Vec<Constant>);

/// A launch: `function(inputs.., outputs.., numbers..)`.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) source: Source,
    pub(crate) constants: Vec<Constant>,
    pub(crate) function: &'static str,
    /// What `T` is: f32 or bf16.
    pub(crate) values: DType,
    pub(crate) blocks: usize,
    pub(crate) numbers: Vec<Number>,
    pub(crate) output: (DType, Shape),
    /// Outputs behind the first.
    pub(crate) more: Vec<(DType, Shape)>,
}

impl Launch {
    /// The whole source, with `T`.
    pub(super) fn text(&self) -> Result<String> {
        let values = match self.values {
            DType::F32 => "float",
            DType::BF16 => "bf16",
            other => bail!("{}: a kernel for f32 and bf16, found {other:?}", self.function),
        };
        let mut text = format!("{PRELUDE}\ntypedef {values} T;\n");
        for (name, value) in &self.constants {
            // Writing to a string does not fail.
            let _ = writeln!(text, "#define {name} {value}");
        }
        text.push_str(self.source.text);
        Ok(text)
    }

    pub(super) fn key(&self) -> Key {
        (self.source.name, self.values, self.constants.clone())
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = &(DType, Shape)> {
        std::iter::once(&self.output).chain(&self.more)
    }
}

/// A size as a kernel's `int`.
pub(crate) fn int(size: usize) -> Result<Number> {
    match i32::try_from(size) {
        Ok(size) => Ok(Number::Int(size)),
        Err(_) => bail!("a kernel takes sizes up to {}, found {size}", i32::MAX),
    }
}
