//! Operators of many operands over candle's custom operations, for tensors of any device and dtype:
//! what `cpu/nary.rs` is for slices.
//!
//! The first operand `x`, or its stand-in ([`passed`]), and one or two *tokens*
//! are the operands of the operator proper. A token is
//! the end of a chain of links over the parameters that track something; a link's only content is
//! that its parameters have gradients. candle visits the operator before its token, and the token's links
//! after it: the operator's backward leaves each parameter's gradient for its link, which returns
//! it. A link takes as many parameters as a custom operation can, since on a GPU each costs two
//! launches.
#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, InplaceOp1, Layout,
    MetalStorage, Result, Shape, Tensor,
    backend::{BackendDevice, BackendStorage},
    bail,
};

use super::passed::{self, Slot, StandIn};
use crate::cpu::nary::put_aside;

/// Gradients to `x` and to the parameters, in their order; those not needed are absent.
pub(crate) struct Gradients {
    pub(crate) d_x: Option<Tensor>,
    pub(crate) d_params: Vec<Option<Tensor>>,
}

/// What an operator does with the gradient that arrives.
pub(crate) trait Backward: Send + Sync + 'static {
    /// `d_y` is contiguous and has the shape of the result; `wanted`: which parameters track a
    /// gradient; `d_x`: whether `x` does.
    fn backward(&self, d_y: &Tensor, d_x: bool, wanted: &[bool]) -> Result<Gradients>;
}

/// Whether any operand tracks a gradient.
pub(crate) fn tracks(x: &Tensor, params: &[&Tensor]) -> bool {
    x.track_op() || params.iter().any(|param| param.track_op())
}

/// `y`, a tensor that nothing else holds, as the result of an operator on `x` and `params`.
pub(crate) fn apply(
    name: &'static str,
    x: &Tensor,
    params: &[&Tensor],
    y: Tensor,
    backward: impl Backward,
) -> Result<Tensor> {
    let y = y.detach();
    if !tracks(x, params) {
        return Ok(y);
    }
    let shared = Shared::default();
    let tracked: Vec<usize> = (0..params.len()).filter(|&at| params[at].track_op()).collect();
    let (first, others) = tracked.split_at(tracked.len().min(3));
    let first = chain(params, first, &shared)?;
    let second = chain(params, others, &shared)?;
    let wanted = params.iter().map(|param| param.track_op()).collect();
    let before = passed::stand_in(x);
    let slot = Slot::new(y.shape());
    let operator = Operator {
        name,
        wanted,
        d_x: x.track_op(),
        before: before.as_ref().map(|before| before.slot.clone()),
        slot: slot.clone(),
        backward,
        shared,
    };
    let x = before.as_ref().map_or(x, |before| &before.token);
    let token = match (first, second) {
        (None, _) => x.apply_op1(operator)?,
        (Some(token), None) => x.apply_op2(&token, operator)?,
        (Some(first), Some(second)) => x.apply_op3(&first, &second, operator)?,
    };
    let shape = y.shape().clone();
    let stand_in = Arc::new(StandIn { token, slot });
    let y = Mutex::new(Some(taken(y)?));
    let seen = Seen { name, y, shape, stand_in: Arc::clone(&stand_in) };
    let y = stand_in.token.apply_op1(seen)?;
    passed::remember(&y, &stand_in);
    Ok(y)
}

/// The token at the end of a chain of links over the parameters `indices`.
fn chain(params: &[&Tensor], indices: &[usize], shared: &Shared) -> Result<Option<Tensor>> {
    let link = |indices: &[usize]| Link { indices: indices.to_vec(), shared: shared.clone() };
    let (first, others) = indices.split_at(indices.len().min(3));
    let mut token = match *first {
        [] => return Ok(None),
        [a] => params[a].apply_op1(link(first))?,
        [a, b] => params[a].apply_op2(params[b], link(first))?,
        [a, b, c, ..] => params[a].apply_op3(params[b], params[c], link(first))?,
    };
    for indices in others.chunks(2) {
        token = match *indices {
            [a, b] => token.apply_op3(params[a], params[b], Behind(link(indices)))?,
            [a, ..] => token.apply_op2(params[a], Behind(link(indices)))?,
            [] => token,
        };
    }
    Ok(Some(token))
}

/// The storage of a tensor, without a copy.
enum Taken {
    Cpu(CpuStorage),
    Cuda(CudaStorage),
    Metal(MetalStorage),
}

fn taken(y: Tensor) -> Result<Taken> {
    let whole = matches!(y.layout().contiguous_offsets(), Some((0, _)));
    let y = if whole { y } else { y.force_contiguous()? };
    let cell = Take(Mutex::new(None));
    y.inplace_op1(&cell)?;
    match cell.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(storage) => Ok(storage),
        None => bail!("an operator's result has no storage"),
    }
}

/// Takes a tensor's storage and leaves another, of no use, in its place.
struct Take(Mutex<Option<Taken>>);

impl Take {
    fn put(&self, taken: Taken) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }
}

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        self.put(Taken::Cpu(mem::replace(storage, CpuStorage::F32(Vec::new()))));
        Ok(())
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Result<()> {
        let left = unread(storage)?;
        self.put(Taken::Cuda(mem::replace(storage, left)));
        Ok(())
    }

    fn metal_fwd(&self, storage: &mut MetalStorage, layout: &Layout) -> Result<()> {
        self.put(Taken::Metal(storage.try_clone(layout)?));
        Ok(())
    }
}

/// One value, which nothing reads.
fn unread<S: BackendStorage>(like: &S) -> Result<S>
where
    S::Device: BackendDevice<Storage = S>,
{
    // SAFETY: neither what is left in a tensor that is dropped nor a token is ever read.
    unsafe { like.device().alloc_uninit(&Shape::from(1), DType::F32) }
}

/// Gradients of parameters on their way to their links.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<Option<Tensor>>>>);

thread_local! {
    /// The gradient of every token: zero. Made once for the device that this thread works on.
    static ZERO: RefCell<Option<Tensor>> = const { RefCell::new(None) };
}

/// The gradient of `token`.
fn zero(token: &Tensor) -> Result<Tensor> {
    ZERO.with_borrow_mut(|zero| {
        let here = |zero: &&Tensor| zero.device().same_device(token.device());
        if let Some(zero) = zero.as_ref().filter(here) {
            return Ok(zero.clone());
        }
        let made = token.zeros_like()?.detach();
        *zero = Some(made.clone());
        Ok(made)
    })
}

/// The operator proper, whose result is a stand-in.
struct Operator<B> {
    name: &'static str,
    wanted: Vec<bool>,
    d_x: bool,
    /// Where the gradient of `x` goes, if that is an operator's result.
    before: Option<Slot>,
    slot: Slot,
    backward: B,
    shared: Shared,
}

impl<B: Backward> Operator<B> {
    /// The gradient of the first operand.
    fn run(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let mut d_x = None;
        let mut d_params = Vec::new();
        if let Some(d_y) = self.slot.take()? {
            let d_y = d_y.detach().contiguous()?;
            let gradients = self.backward.backward(&d_y, self.d_x, &self.wanted)?;
            (d_x, d_params) = (gradients.d_x, gradients.d_params);
        }
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = d_params;
        let Some(before) = &self.before else { return Ok(d_x) };
        if let Some(d_x) = d_x {
            before.put(self.slot.number(), d_x)?;
        }
        Ok(Some(zero(x)?))
    }
}

/// What others see of an operator: its result, which was computed before. candle only learns of it.
struct Seen {
    name: &'static str,
    y: Mutex<Option<Taken>>,
    shape: Shape,
    stand_in: Arc<StandIn>,
}

impl Seen {
    fn forward<S>(&self, of: impl FnOnce(Taken) -> Option<S>) -> Result<(S, Shape)> {
        let y = self.y.lock().unwrap_or_else(PoisonError::into_inner).take();
        match y.and_then(of) {
            Some(y) => Ok((y, self.shape.clone())),
            None => bail!("{}: applied twice", self.name),
        }
    }
}

// The three kinds of storage differ in their names alone.
macro_rules! seen_forward {
    ($name:ident, $storage:ty, $variant:ident) => {
        fn $name(&self, _: &$storage, _: &Layout) -> Result<($storage, Shape)> {
            self.forward(|taken| match taken {
                Taken::$variant(y) => Some(y),
                _ => None,
            })
        }
    };
}
macro_rules! token_forward {
    ($name:ident, $storage:ty, ($first:ident $(, $operand:ident)*)) => {
        fn $name(
            &self,
            $first: &$storage,
            _: &Layout,
            $($operand: &$storage, _: &Layout),*
        ) -> Result<($storage, Shape)> {
            $(let _ = $operand;)*
            Ok((unread($first)?, Shape::from(1)))
        }
    };
}

impl CustomOp1 for Seen {
    fn name(&self) -> &'static str {
        self.name
    }

    seen_forward!(cpu_fwd, CpuStorage, Cpu);
    seen_forward!(cuda_fwd, CudaStorage, Cuda);
    seen_forward!(metal_fwd, MetalStorage, Metal);

    fn bwd(&self, token: &Tensor, _y: &Tensor, d_y: &Tensor) -> Result<Option<Tensor>> {
        self.stand_in.slot.put(0, d_y.detach())?;
        Ok(Some(zero(token)?))
    }
}

impl<B: Backward> CustomOp1 for Operator<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    token_forward!(cpu_fwd, CpuStorage, (x));
    token_forward!(cuda_fwd, CudaStorage, (x));
    token_forward!(metal_fwd, MetalStorage, (x));

    fn bwd(&self, x: &Tensor, _y: &Tensor, _d_y: &Tensor) -> Result<Option<Tensor>> {
        self.run(x)
    }
}

impl<B: Backward> CustomOp2 for Operator<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    token_forward!(cpu_fwd, CpuStorage, (x, token));
    token_forward!(cuda_fwd, CudaStorage, (x, token));
    token_forward!(metal_fwd, MetalStorage, (x, token));

    fn bwd(
        &self,
        x: &Tensor,
        token: &Tensor,
        _y: &Tensor,
        _d_y: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.run(x)?, Some(zero(token)?)))
    }
}

impl<B: Backward> CustomOp3 for Operator<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    token_forward!(cpu_fwd, CpuStorage, (x, first, second));
    token_forward!(cuda_fwd, CudaStorage, (x, first, second));
    token_forward!(metal_fwd, MetalStorage, (x, first, second));

    fn bwd(
        &self,
        x: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _y: &Tensor,
        _d_y: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.run(x)?, Some(zero(first)?), Some(zero(second)?)))
    }
}

/// Returns the gradients of the parameters `indices`, which are its operands.
struct Link {
    indices: Vec<usize>,
    shared: Shared,
}

impl Link {
    /// The gradient of operand `at`.
    fn gradient(&self, at: usize, param: &Tensor) -> Result<Option<Tensor>> {
        let mut shared = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.indices.get(at).copied().unwrap_or(usize::MAX);
        match shared.get_mut(index).and_then(Option::take) {
            Some(gradient) => put_aside(param, gradient),
            None => Ok(None),
        }
    }
}

impl CustomOp1 for Link {
    fn name(&self) -> &'static str {
        "parameter"
    }

    token_forward!(cpu_fwd, CpuStorage, (a));
    token_forward!(cuda_fwd, CudaStorage, (a));
    token_forward!(metal_fwd, MetalStorage, (a));

    fn bwd(&self, a: &Tensor, _token: &Tensor, _d: &Tensor) -> Result<Option<Tensor>> {
        self.gradient(0, a)
    }
}

impl CustomOp2 for Link {
    fn name(&self) -> &'static str {
        "parameters"
    }

    token_forward!(cpu_fwd, CpuStorage, (a, b));
    token_forward!(cuda_fwd, CudaStorage, (a, b));
    token_forward!(metal_fwd, MetalStorage, (a, b));

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _token: &Tensor,
        _d: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(0, a)?, self.gradient(1, b)?))
    }
}

impl CustomOp3 for Link {
    fn name(&self) -> &'static str {
        "parameters"
    }

    token_forward!(cpu_fwd, CpuStorage, (a, b, c));
    token_forward!(cuda_fwd, CudaStorage, (a, b, c));
    token_forward!(metal_fwd, MetalStorage, (a, b, c));

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _token: &Tensor,
        _d: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(0, a)?, self.gradient(1, b)?, self.gradient(2, c)?))
    }
}

/// A link behind another, whose token is the first operand.
struct Behind(Link);

impl CustomOp2 for Behind {
    fn name(&self) -> &'static str {
        "parameter"
    }

    token_forward!(cpu_fwd, CpuStorage, (before, a));
    token_forward!(cuda_fwd, CudaStorage, (before, a));
    token_forward!(metal_fwd, MetalStorage, (before, a));

    fn bwd(
        &self,
        before: &Tensor,
        a: &Tensor,
        _token: &Tensor,
        _d: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(zero(before)?), self.0.gradient(0, a)?))
    }
}

impl CustomOp3 for Behind {
    fn name(&self) -> &'static str {
        "parameters"
    }

    token_forward!(cpu_fwd, CpuStorage, (before, a, b));
    token_forward!(cuda_fwd, CudaStorage, (before, a, b));
    token_forward!(metal_fwd, MetalStorage, (before, a, b));

    fn bwd(
        &self,
        before: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _token: &Tensor,
        _d: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((Some(zero(before)?), self.0.gradient(0, a)?, self.0.gradient(1, b)?))
    }
}
