//! The types that activations are kept in: `f32`, or bf16 where linear layers multiply in bf16.

use half::bf16;

use super::bf16::{Element, Values, round};

/// A number that kernels read as `f32` and round back. No larger than `f32`, and every pattern of
/// bits is a value.
pub(crate) trait Real: Element + 'static {
    /// Its value.
    fn to_f32(self) -> f32;

    /// The nearest one to `x`, ties to even.
    fn from_f32(x: f32) -> Self;

    /// As an operand of a product in bf16.
    fn values(x: &[Self]) -> Values<'_>;

    /// The same slice, if the type is `f32`.
    fn as_f32_mut(x: &mut [Self]) -> Option<&mut [f32]>;
}

impl Real for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }

    fn values(x: &[f32]) -> Values<'_> {
        Values::F32(x)
    }

    fn as_f32_mut(x: &mut [f32]) -> Option<&mut [f32]> {
        Some(x)
    }
}

impl Real for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn from_f32(x: f32) -> bf16 {
        bf16::from_bits(round(x) as u16)
    }

    fn values(x: &[bf16]) -> Values<'_> {
        Values::Bf16(x)
    }

    fn as_f32_mut(_: &mut [bf16]) -> Option<&mut [f32]> {
        None
    }
}
