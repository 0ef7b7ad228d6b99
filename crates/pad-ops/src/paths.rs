//! Which way operators take: a kernel of the CPU, one of the GPU, or the composition of candle's
//! operations.

use std::cell::Cell;

thread_local! {
    static REFERENCE_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// Whether every operator takes its composition on this thread.
pub(crate) fn reference_only() -> bool {
    REFERENCE_ONLY.get()
}

/// Runs `work` with every operator that it calls on this thread, and every backward, through the
/// operator's composition of candle's operations: the way that devices and dtypes without kernels
/// take, on a CPU where it can be looked at.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1_f32, 2.0]], &Device::Cpu)?;
/// let by_candle = pad_ops::reference::only(|| pad_ops::softmax(&x))?;
/// # assert!((by_candle - pad_ops::softmax(&x)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn only<R>(work: impl FnOnce() -> R) -> R {
    /// Also when `work` panics.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            REFERENCE_ONLY.set(self.0);
        }
    }
    let _before = Before(REFERENCE_ONLY.replace(true));
    work()
}
