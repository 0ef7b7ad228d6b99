//! The angles of a grid of tokens, in the conventions that are in use.

use std::f64::consts::TAU;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::tables::{RopePairs, RopeTables};
use crate::{Error, Result};

/// The axis whose angles come first.
///
/// ```
/// # use candle_core::Device;
/// use pad_ops::{AxialRope, RopeAxes, RopeCoordinates, RopePairs};
/// let coordinates = RopeCoordinates::Index { offset: 0.0, reference: None };
/// let sines = |axes| -> pad_ops::Result<Vec<f32>> {
///     let rope = AxialRope { base: 100.0, coordinates, pairs: RopePairs::Halves, axes };
///     let tables = rope.tables([1, 2], 4, &Device::Cpu)?; // heads of four: an angle an axis
///     Ok(tables.sin.get(1)?.to_vec1()?) // row 0, column 1
/// };
/// assert_eq!(sines(RopeAxes::RowsFirst)?, [0.0, 1_f32.sin()]);
/// assert_eq!(sines(RopeAxes::ColumnsFirst)?, [1_f32.sin(), 0.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeAxes {
    /// Rows, then columns.
    RowsFirst,
    /// Columns, then rows.
    ColumnsFirst,
}

/// The side of the grid that centred coordinates are divided by.
///
/// ```
/// # use candle_core::Device;
/// use pad_ops::{AxialRope, RopeCoordinates, RopeSpan};
/// // The angle of the only row of 1 x 2 patches: 2 (0.5) / 1 - 1 = 0 by its own side,
/// // 2 (0.5) / 2 - 1 = -1/2 by the longer one, which is half a turn.
/// let cosine = |span| -> pad_ops::Result<f32> {
///     let coordinates = RopeCoordinates::Centred(span);
///     let rope = AxialRope { coordinates, ..AxialRope::dinov3() };
///     Ok(rope.tables([1, 2], 4, &Device::Cpu)?.cos.to_vec2::<f32>()?[0][0])
/// };
/// assert!((cosine(RopeSpan::Separate)? - 1.0).abs() < 1e-6);
/// assert!((cosine(RopeSpan::Longer)? + 1.0).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeSpan {
    /// Each axis by its own.
    Separate,
    /// Both by the longer one.
    Longer,
    /// Both by the shorter one.
    Shorter,
}

/// What a place's coordinates are.
///
/// ```
/// # use candle_core::Device;
/// use pad_ops::{AxialRope, RopeCoordinates};
/// // Pre-trained on four columns: the second of two lies where the third of four lay.
/// let reference = Some([1, 4]);
/// let coordinates = RopeCoordinates::Index { offset: 0.0, reference };
/// let rope = AxialRope { coordinates, ..AxialRope::eva02([1, 4]) };
/// let sines = rope.tables([1, 2], 4, &Device::Cpu)?.sin.to_vec2::<f32>()?;
/// assert!((sines[1][1] - 2_f32.sin()).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeCoordinates {
    /// `2 (i + 0.5) / n - 1`, times a full turn (DINOv3): nothing depends on the grid's size.
    Centred(RopeSpan),
    /// `i + offset`, and with a reference grid `(i + offset) / n * reference`, so that a larger
    /// grid gets fractions (EVA-02; PE as timm runs it).
    Index {
        /// Added to the index of a row or column.
        offset: f64,
        /// Rows and columns of the grid of pre-training.
        reference: Option<[usize; 2]>,
    },
}

/// Axial rotary positions: `E / 4` frequencies an axis, `base^(-j / (E / 4))`.
///
/// ```
/// # use candle_core::Device;
/// use pad_ops::{AxialRope, RopeAxes, RopeCoordinates, RopePairs};
/// let rope = AxialRope {
///     base: 10_000.0,
///     coordinates: RopeCoordinates::Index { offset: 0.0, reference: None },
///     pairs: RopePairs::Neighbours,
///     axes: RopeAxes::RowsFirst,
/// };
/// // One row of two places, heads of four values: an angle for the row, one for the column.
/// let tables = rope.tables([1, 2], 4, &Device::Cpu)?;
/// assert_eq!(tables.sin.to_vec2::<f32>()?, [[0.0, 0.0], [0.0, 1_f32.sin()]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxialRope {
    /// Base of the frequencies.
    pub base: f64,
    /// Coordinates of a place.
    pub coordinates: RopeCoordinates,
    /// The channels that are rotated together.
    pub pairs: RopePairs,
    /// The order of the axes.
    pub axes: RopeAxes,
}

impl AxialRope {
    /// DINOv3's.
    pub const fn dinov3() -> Self {
        Self {
            base: 100.0,
            coordinates: RopeCoordinates::Centred(RopeSpan::Separate),
            pairs: RopePairs::Halves,
            axes: RopeAxes::RowsFirst,
        }
    }

    /// EVA-02's, pre-trained on a grid of `reference` rows and columns.
    pub const fn eva02(reference: [usize; 2]) -> Self {
        Self {
            base: 10_000.0,
            coordinates: RopeCoordinates::Index { offset: 0.0, reference: Some(reference) },
            pairs: RopePairs::Neighbours,
            axes: RopeAxes::RowsFirst,
        }
    }

    /// PE's: places count from 1 where there is a class token. With a reference grid as timm runs
    /// it, without one as its authors do.
    pub const fn pe(class_token: bool, reference: Option<[usize; 2]>) -> Self {
        Self {
            base: 10_000.0,
            coordinates: RopeCoordinates::Index {
                offset: if class_token { 1.0 } else { 0.0 },
                reference,
            },
            pairs: RopePairs::Neighbours,
            axes: RopeAxes::ColumnsFirst,
        }
    }

    /// Returns what is wrong with it for heads of `head_dim` values.
    ///
    /// ```
    /// use pad_ops::AxialRope;
    /// assert_eq!(AxialRope::dinov3().fault(64), None);
    /// let fault = AxialRope::eva02([16, 16]).fault(6);
    /// assert_eq!(fault.as_deref(), Some("heads of 6 values, expected a multiple of 4"));
    /// assert_eq!(AxialRope::pe(true, None).base, 10_000.0);
    /// ```
    pub fn fault(&self, head_dim: usize) -> Option<String> {
        if !self.base.is_finite() || self.base <= 0.0 {
            return Some(format!("`base` is {}, expected a positive number", self.base));
        }
        if head_dim == 0 || !head_dim.is_multiple_of(4) {
            return Some(format!("heads of {head_dim} values, expected a multiple of 4"));
        }
        match self.coordinates {
            RopeCoordinates::Index { offset, .. } if !offset.is_finite() => {
                Some(format!("`offset` is {offset}, expected a finite number"))
            }
            RopeCoordinates::Index { reference: Some([0, _] | [_, 0]), .. } => {
                Some("`reference` has no places, expected at least 1x1".into())
            }
            _ => None,
        }
    }

    /// Sines and cosines of every place of a grid of rows and columns, row major.
    ///
    /// # Shapes
    /// (rows * columns, E / 2), `E` = `head_dim`.
    ///
    /// # Errors
    /// [`Error::Value`] for a head width that 4 does not divide or a base that is not positive.
    pub fn tables(&self, grid: [usize; 2], head_dim: usize, device: &Device) -> Result<RopeTables> {
        if let Some(found) = self.fault(head_dim) {
            let expected = "axial rotary positions".into();
            return Err(Error::Value { op: "rope", arg: "configuration", expected, found });
        }
        let bands = head_dim / 4;
        let frequency = |j: usize| self.base.powf(-(j as f64) / bands as f64);
        let frequencies: Vec<f64> = (0..bands).map(frequency).collect();
        let sides = grid.map(|side| side as f64);
        let place = |axis: usize, i: usize| match self.coordinates {
            RopeCoordinates::Centred(span) => {
                let side = match span {
                    RopeSpan::Separate => sides[axis],
                    RopeSpan::Longer => sides[0].max(sides[1]),
                    RopeSpan::Shorter => sides[0].min(sides[1]),
                };
                (2.0 * (i as f64 + 0.5) / side - 1.0) * TAU
            }
            RopeCoordinates::Index { offset, reference } => {
                let scale = reference.map_or(1.0, |grid| grid[axis] as f64 / sides[axis]);
                (i as f64 + offset) * scale
            }
        };
        let count = grid[0] * grid[1] * 2 * bands;
        let (mut sin, mut cos) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for row in 0..grid[0] {
            for column in 0..grid[1] {
                let (row, column) = (place(0, row), place(1, column));
                let order = match self.axes {
                    RopeAxes::RowsFirst => [row, column],
                    RopeAxes::ColumnsFirst => [column, row],
                };
                for place in order {
                    for frequency in &frequencies {
                        let (s, c) = (place * frequency).sin_cos();
                        sin.push(s as f32);
                        cos.push(c as f32);
                    }
                }
            }
        }
        let shape = (grid[0] * grid[1], 2 * bands);
        Ok(RopeTables {
            sin: Tensor::from_vec(sin, shape, device)?,
            cos: Tensor::from_vec(cos, shape, device)?,
            pairs: self.pairs,
        })
    }
}
