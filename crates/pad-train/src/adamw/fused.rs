//! The update in one pass over memory, for contiguous f32 on the CPU: it reads parameter, gradient
//! and both moments once and writes three of them, where a composition of operations would pass
//! over memory some twenty times.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use pad_ops::AdamWStep;

/// Numbers updated by one thread at a time: four times 64 KiB fit a core's second-level cache.
const CHUNK: usize = 1 << 14;

pub(super) fn update(
    var: &Var,
    gradient: &Tensor,
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
    step: &AdamWStep,
) -> Result<()> {
    let gradient = gradient.to_dtype(candle_core::DType::F32)?.contiguous()?;
    let pass = Pass { moments: RefCell::new((exp_avg, exp_avg_sq)), narrow: Narrow::from(step) };
    var.inplace_op2(&gradient, &pass)
}

/// candle gives access to the storage of one tensor for writing; the moments come along in the
/// operation.
struct Pass<'a> {
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
    narrow: Narrow,
}

/// [`AdamWStep`] as they meet f32 numbers.
#[derive(Clone, Copy)]
struct Narrow {
    keep: f32,
    toward: f32,
    beta2: f32,
    /// `1 − β2`, subtracted in f64.
    fresh: f32,
    step_size: f32,
    root_correction: f32,
    eps: f32,
    gradient_factor: f32,
}

impl From<&AdamWStep> for Narrow {
    fn from(c: &AdamWStep) -> Self {
        Self {
            keep: c.keep as f32,
            toward: c.toward as f32,
            beta2: c.beta2 as f32,
            fresh: (1.0 - c.beta2) as f32,
            step_size: c.step_size as f32,
            root_correction: c.root_correction as f32,
            eps: c.eps as f32,
            gradient_factor: c.gradient_factor as f32,
        }
    }
}

impl InplaceOp2 for Pass<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(parameter), CpuStorage::F32(gradient)) = (parameter, gradient) else {
            bail!("adamw: expected f32 parameter and gradient")
        };
        let (Some((p0, p1)), Some((g0, g1))) =
            (parameter_layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            bail!("adamw: expected contiguous parameter and gradient")
        };
        let (Some(p), Some(g)) = (parameter.get_mut(p0..p1), gradient.get(g0..g1)) else {
            bail!("adamw: a layout reaches beyond its storage")
        };
        let Ok(mut moments) = self.moments.try_borrow_mut() else {
            bail!("adamw: the moments are in use")
        };
        let (m, v) = &mut *moments;
        let narrow = self.narrow;
        if [g.len(), m.len(), v.len()] != [p.len(); 3] {
            bail!("adamw: expected {} numbers, found {:?}", p.len(), [g.len(), m.len(), v.len()])
        }
        if p.len() <= CHUNK {
            update_chunk(p, g, m, v, narrow);
            return Ok(());
        }
        p.par_chunks_mut(CHUNK)
            .zip(g.par_chunks(CHUNK))
            .zip(m.par_chunks_mut(CHUNK))
            .zip(v.par_chunks_mut(CHUNK))
            .for_each(|(((p, g), m), v)| update_chunk(p, g, m, v, narrow));
        Ok(())
    }
}

fn update_chunk(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: Narrow) {
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * c.gradient_factor;
        *p *= c.keep;
        *m += (g - *m) * c.toward;
        *v = *v * c.beta2 + c.fresh * g * g;
        let denominator = v.sqrt() / c.root_correction + c.eps;
        *p -= c.step_size * *m / denominator;
    }
}
