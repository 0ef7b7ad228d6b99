//! How a CUDA device is opened.

/// How [`cuda_with`](crate::device::cuda_with) opens a device. The default is right for training; the others are for
/// measurements.
///
/// ```
/// use pad_ops::device::CudaOptions;
/// let CudaOptions { event_tracking, keep_memory, tf32 } = CudaOptions::default();
/// assert_eq!((event_tracking, keep_memory, tf32), (false, true, false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaOptions {
    /// Records events around every use of an array, as several streams would need: two events an
    /// allocation, waits at every launch. `false`: there is one stream.
    pub event_tracking: bool,
    /// Keeps freed memory for the next allocation instead of returning it to the driver at every
    /// synchronisation. `true`.
    pub keep_memory: bool,
    /// Multiplies f32 matrices with operands rounded to 10 bits of mantissa (TF32). `false`: results
    /// would differ from the CPU's by 1e-3. Holds for all devices of the process.
    pub tf32: bool,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self { event_tracking: false, keep_memory: true, tf32: false }
    }
}
