//! Gradients that pass from one operator of [`nary`](super::nary) to the one before it, past candle.
//!
//! candle adds every gradient onto fresh zeros of its size: three passes over a residual stream at
//! every half block. So an operator stands in the graph as a *stand-in* of one value, on which the
//! result that others see is computed by an operation without content. An operator whose first
//! operand is such a result takes its stand-in instead, and in the backward puts the gradient into
//! its [`Slot`]; whatever else uses the result puts its gradient there through candle. candle visits
//! a stand-in after all that use it: then its slot holds all of them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use candle_core::{Result, Shape, Tensor, TensorId, bail};

thread_local! {
    /// The results of this thread that are still there.
    static RESULTS: RefCell<HashMap<TensorId, Weak<StandIn>>> = RefCell::default();
    /// Backward passes of this thread that failed so far.
    static FAILED: Cell<u64> = const { Cell::new(0) };
}

/// What stands in the graph for an operator's result.
pub(super) struct StandIn {
    /// Of one value, which nothing reads.
    pub(super) token: Tensor,
    pub(super) slot: Slot,
}

/// The stand-in of `x`, if it is the result of an operator of this thread.
pub(super) fn stand_in(x: &Tensor) -> Option<Arc<StandIn>> {
    RESULTS.with_borrow(|results| results.get(&x.id())?.upgrade())
}

/// Remembers the stand-in of `y`, which holds it, as long as `y` is there.
pub(super) fn remember(y: &Tensor, stand_in: &Arc<StandIn>) {
    RESULTS.with_borrow_mut(|results| {
        results.retain(|_, stand_in| stand_in.strong_count() > 0);
        results.insert(y.id(), Arc::downgrade(stand_in));
    });
}

/// Notes that a backward of this thread failed: gradients that it left in slots do not count.
pub(crate) fn backward_failed() {
    FAILED.set(FAILED.get() + 1);
}

/// The gradients that have arrived for a result.
#[derive(Clone)]
pub(super) struct Slot {
    shape: Shape,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

struct Arrived {
    /// Which of those that use the result it comes from.
    from: usize,
    failed: u64,
    gradient: Tensor,
}

impl Slot {
    /// For a result of `shape`.
    pub(super) fn new(shape: &Shape) -> Self {
        Self { shape: shape.clone(), arrived: Arc::default() }
    }

    /// A number that no other operator has at the same time.
    pub(super) fn number(&self) -> usize {
        Arc::as_ptr(&self.arrived).addr()
    }

    /// Puts the gradient of the user `from` in place of an earlier one, which a failed backward
    /// left.
    pub(super) fn put(&self, from: usize, gradient: Tensor) -> Result<()> {
        if *gradient.shape() != self.shape {
            bail!("a gradient of {:?}, expected {:?}", gradient.shape(), self.shape)
        }
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.retain(|earlier| earlier.from != from);
        arrived.push(Arrived { from, failed: FAILED.get(), gradient });
        Ok(())
    }

    /// The sum of all, in the order in which they arrived, and leaves nothing.
    pub(super) fn take(&self) -> Result<Option<Tensor>> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum: Option<Tensor> = None;
        for Arrived { failed, gradient, .. } in arrived.drain(..) {
            if failed != FAILED.get() {
                continue;
            }
            sum = Some(match sum {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            });
        }
        Ok(sum)
    }
}
