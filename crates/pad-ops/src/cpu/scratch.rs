//! Memory that kernels reuse: a training step needs the same sizes every time, and fresh memory
//! costs a page fault per page.

#![allow(unsafe_code)]

use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::real::Real;

/// Idle buffers.
static IDLE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<Vec<f32>>> {
    // A panic while the list was locked leaves a list all the same.
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers of any value, to be overwritten; its memory goes back to the others when it is dropped.
pub(crate) struct Scratch<T = f32> {
    /// At least the bytes of `len` values.
    values: Vec<f32>,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Real> Scratch<T> {
    /// `count` uninitialised numbers.
    ///
    /// The smallest idle buffer that fits without wasting half of itself is taken. If none fits,
    /// idle ones of the same total size are freed first, so that the memory held follows the memory
    /// needed.
    pub(crate) fn new(count: usize) -> Self {
        const { assert!(size_of::<T>() <= size_of::<f32>() && align_of::<T>() <= align_of::<f32>()) };
        // A count whose bytes overflow is a count that no memory holds: the allocation below fails
        // as any other that is too large.
        let len = match count.checked_mul(size_of::<T>()) {
            Some(bytes) => bytes.div_ceil(size_of::<f32>()),
            None => usize::MAX / size_of::<f32>(),
        };
        let of = |values| Self { values, len: count, kind: PhantomData };
        let mut idle = idle();
        let fits = |buffer: &Vec<f32>| {
            (len..=len.saturating_mul(2).saturating_add(4096)).contains(&buffer.len())
        };
        let best = idle.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        if let Some((index, _)) = best.min_by_key(|(_, buffer)| buffer.len()) {
            return of(idle.swap_remove(index));
        }
        let mut freed = 0;
        while freed < len {
            let largest = idle.iter().enumerate().max_by_key(|(_, buffer)| buffer.len());
            let Some((index, _)) = largest else { break };
            freed += idle.swap_remove(index).len();
        }
        drop(idle);
        of(vec![0.0; len])
    }
}

impl<T: Real> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `values` is long and aligned enough for `len` values of `T` (`new`), for which
        // any bits will do.
        unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), self.len) }
    }
}

impl<T: Real> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.values.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        if !self.values.is_empty() {
            idle().push(std::mem::take(&mut self.values));
        }
    }
}

/// Frees the memory that kernels keep between calls.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1_f32, 1.0]], &Device::Cpu)?;
/// let before = pad_ops::softmax(&x)?.to_vec2::<f32>()?;
/// pad_ops::release_buffers(); // no result depends on them
/// assert_eq!(pad_ops::softmax(&x)?.to_vec2::<f32>()?, before);
/// assert_eq!(before, [[0.5, 0.5]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn release_buffers() {
    idle().clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_what_does_not_fit_is_freed() {
        let mut first = Scratch::<f32>::new(100_000);
        first[99_999] = 7.0;
        let place = first.as_ptr();
        drop(first);
        let second = Scratch::<half::bf16>::new(198_000);
        assert_eq!((second.len(), second.as_ptr().cast()), (198_000, place));
        drop(second);
        assert_eq!(Scratch::<f32>::new(0).len(), 0);
        let large = Scratch::<f32>::new(1_000_000);
        assert!(idle().iter().all(|buffer| buffer.as_ptr() != place), "freed for the larger one");
        drop(large);
        release_buffers();
        assert!(idle().is_empty());
    }
}
