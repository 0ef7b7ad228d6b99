//! Tokens of a grid into square windows and back (ViTDet, Li et al., 2022): grids that windows do
//! not fill are padded with zeros at the bottom and the right. Each is the other's gradient.

mod reference;

use candle_core::{Result as CandleResult, Shape, Tensor};
use rayon::prelude::*;

use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
};
pub use reference::{window_partition_reference, window_unpartition_reference};

/// A grid of tokens cut into windows.
///
/// ```
/// use pad_ops::Windows;
/// let windows = Windows { height: 5, width: 7, side: 3 };
/// assert_eq!((windows.rows(), windows.columns()), (2, 3));
/// assert_eq!((windows.count(), windows.tokens()), (6, 9));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Rows of tokens.
    pub height: usize,
    /// Columns of tokens.
    pub width: usize,
    /// Rows and columns of a window.
    pub side: usize,
}

impl Windows {
    /// Rows of windows.
    pub fn rows(self) -> usize {
        self.height.div_ceil(self.side.max(1))
    }

    /// Columns of windows.
    pub fn columns(self) -> usize {
        self.width.div_ceil(self.side.max(1))
    }

    /// Windows of a grid.
    pub fn count(self) -> usize {
        self.rows() * self.columns()
    }

    /// Tokens of a window.
    pub fn tokens(self) -> usize {
        self.side * self.side
    }

    /// Where row `row` of window `window` lies in the grid's tokens, and how many of its tokens do.
    fn place(self, window: usize, row: usize) -> Option<(usize, usize)> {
        let y = window / self.columns() * self.side + row;
        let x = window % self.columns() * self.side;
        (y < self.height).then(|| (y * self.width + x, self.side.min(self.width - x)))
    }

    fn expect(self, op: &'static str) -> Result<()> {
        let tokens = self.side.checked_mul(self.side);
        let padded = tokens.and_then(|n| n.checked_mul(self.rows())?.checked_mul(self.columns()));
        let expected = match padded {
            _ if self.height == 0 || self.width == 0 || self.side == 0 => {
                "a grid and windows of at least 1 x 1"
            }
            None => "windows whose tokens can be counted",
            Some(_) => return Ok(()),
        };
        let expected = expected.to_string();
        Err(Error::Value { op, arg: "windows", expected, found: format!("{self:?}") })
    }

    /// Tokens of images -> tokens of windows.
    fn gather(self, x: &[f32], dim: usize) -> Vec<f32> {
        let (window, image) = (self.tokens() * dim, self.height * self.width * dim);
        let mut y = vec![0.0; x.len() / image.max(1) * self.count() * window];
        y.par_chunks_mut(window).enumerate().for_each(|(index, y)| {
            let x = &x[index / self.count() * image..];
            for (row, y) in y.chunks_exact_mut(self.side * dim).enumerate() {
                if let Some((from, count)) = self.place(index % self.count(), row) {
                    y[..count * dim].copy_from_slice(&x[from * dim..(from + count) * dim]);
                }
            }
        });
        y
    }

    /// Tokens of windows -> tokens of images.
    fn scatter(self, y: &[f32], dim: usize) -> Vec<f32> {
        let (window, image) = (self.tokens() * dim, self.height * self.width * dim);
        let mut x = vec![0.0; y.len() / (self.count() * window).max(1) * image];
        x.par_chunks_mut(image).enumerate().for_each(|(index, x)| {
            let y = &y[index * self.count() * window..];
            for (number, y) in y.chunks_exact(window).take(self.count()).enumerate() {
                for (row, y) in y.chunks_exact(self.side * dim).enumerate() {
                    if let Some((from, count)) = self.place(number, row) {
                        x[from * dim..(from + count) * dim].copy_from_slice(&y[..count * dim]);
                    }
                }
            }
        });
        x
    }
}

/// Cuts the tokens of each image into windows, row by row of them.
///
/// # Shapes
/// `x` (B, `height` * `width`, D) -> (B * `count`, `side`^2, D).
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`]; [`Error::Value`] for an empty grid or window.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{Windows, window_partition, window_unpartition};
/// let windows = Windows { height: 1, width: 3, side: 2 };
/// let x = Tensor::new(&[[[1_f32], [2.0], [3.0]]], &Device::Cpu)?; // one row of three tokens
/// let y = window_partition(&x, windows)?;
/// // Two windows of 2 x 2, padded with zeros at the bottom and the right.
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
/// assert_eq!(window_unpartition(&y, windows)?.to_vec3::<f32>()?, x.to_vec3::<f32>()?);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn window_partition(x: &Tensor, windows: Windows) -> Result<Tensor> {
    const OP: &str = "window_partition";
    windows.expect(OP)?;
    check::expect_rank(OP, "x", x, 3, "(B, N, D)")?;
    check::expect_float(OP, "x", x)?;
    let (batch, _, dim) = x.dims3()?;
    check::expect_shape(OP, "x", x, &[batch, windows.height * windows.width, dim])?;
    let shape = Shape::from((batch * windows.count(), windows.tokens(), dim));
    if x.elem_count() == 0 {
        return Ok(empty::result(shape, &[x])?);
    }
    if !has_kernel(x) {
        return window_partition_reference(x, windows);
    }
    let x = x.contiguous()?;
    let y = windows.gather(&slices::borrow(&x)?, dim);
    Ok(nary::apply(OP, &x, &[], y, shape, Partition { windows, dim })?)
}

/// Puts windows back together and drops what was padded.
///
/// # Shapes
/// `y` (B * `count`, `side`^2, D) -> (B, `height` * `width`, D).
///
/// # Errors
/// As [`window_partition`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{Windows, window_unpartition};
/// let windows = Windows { height: 1, width: 1, side: 2 };
/// let y = Tensor::new(&[[[5_f32], [6.0], [7.0], [8.0]]], &Device::Cpu)?;
/// assert_eq!(window_unpartition(&y, windows)?.to_vec3::<f32>()?, [[[5.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn window_unpartition(y: &Tensor, windows: Windows) -> Result<Tensor> {
    const OP: &str = "window_unpartition";
    windows.expect(OP)?;
    check::expect_rank(OP, "y", y, 3, "(B * count, side^2, D)")?;
    check::expect_float(OP, "y", y)?;
    let (all, _, dim) = y.dims3()?;
    check::expect_shape(OP, "y", y, &[all, windows.tokens(), dim])?;
    if !all.is_multiple_of(windows.count()) {
        let expected = format!("a multiple of {} windows", windows.count());
        return Err(check::shape_error(OP, "y", y, expected));
    }
    let shape = Shape::from((all / windows.count(), windows.height * windows.width, dim));
    if y.elem_count() == 0 {
        return Ok(empty::result(shape, &[y])?);
    }
    if !has_kernel(y) {
        return window_unpartition_reference(y, windows);
    }
    let y = y.contiguous()?;
    let x = windows.scatter(&slices::borrow(&y)?, dim);
    Ok(nary::apply(OP, &y, &[], x, shape, Unpartition { windows, dim })?)
}

struct Partition {
    windows: Windows,
    dim: usize,
}

impl Backward for Partition {
    fn backward(&self, d_y: &[f32], d_x: bool, _wanted: &[bool]) -> CandleResult<Gradients> {
        let d_x = d_x.then(|| self.windows.scatter(d_y, self.dim));
        Ok(Gradients { d_x, d_params: Vec::new() })
    }
}

struct Unpartition {
    windows: Windows,
    dim: usize,
}

impl Backward for Unpartition {
    fn backward(&self, d_x: &[f32], d_y: bool, _wanted: &[bool]) -> CandleResult<Gradients> {
        let d_y = d_y.then(|| self.windows.gather(d_x, self.dim));
        Ok(Gradients { d_x: d_y, d_params: Vec::new() })
    }
}
