//! Work on the next item of an iterator on a thread of its own: how a batch is copied to a GPU
//! while the one before it is used.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::{Builder, JoinHandle},
};

use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// An iterator whose next item is made while the one before it is used: see [`ahead`].
pub struct Ahead<T> {
    items: Option<Receiver<T>>,
    thread: Option<JoinHandle<()>>,
}

/// Applies `work` to every item of `items`, in order, one ahead of the caller. Dropping the result
/// ends the thread.
///
/// # Errors
/// [`Error::Worker`] if the thread cannot be started.
///
/// ```
/// let squares = pad_data::ahead::ahead(0..4, |n| n * n)?;
/// assert_eq!(squares.collect::<Vec<_>>(), [0, 1, 4, 9]);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub fn ahead<I, T>(
    items: I,
    mut work: impl FnMut(I::Item) -> T + Send + 'static,
) -> Result<Ahead<T>>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    T: Send + 'static,
{
    // A channel without capacity: the item that waits to be taken is the one ahead.
    let (give, take) = sync_channel(0);
    let items = items.into_iter();
    let run = move || {
        for item in items {
            if give.send(work(item)).is_err() {
                return; // the receiver was dropped
            }
        }
    };
    let thread = Builder::new().name("pad-ahead".into()).spawn(run).map_err(|source| {
        Error::Worker { what: format!("a thread could not be started: {source}") }
    })?;
    Ok(Ahead { items: Some(take), thread: Some(thread) })
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.items.as_ref()?.recv().ok()
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.items = None; // ends the thread at its next item
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was reported when it happened
        }
    }
}

/// What can be copied to a device whole.
pub trait ToDevice: Sized {
    /// Copies it to `device`.
    ///
    /// # Errors
    /// candle's.
    fn to_device(self, device: &Device) -> Result<Self>;
}

impl ToDevice for () {
    fn to_device(self, _: &Device) -> Result<Self> {
        Ok(())
    }
}

impl ToDevice for Vec<usize> {
    /// Unchanged: classes of whole images are used by the host.
    fn to_device(self, _: &Device) -> Result<Self> {
        Ok(self)
    }
}

impl ToDevice for Tensor {
    fn to_device(self, device: &Device) -> Result<Self> {
        Ok(Tensor::to_device(&self, device)?)
    }
}

/// A loader's batches on a device: see [`to_device`].
pub struct OnDevice<B>(Place<B>);

enum Place<B> {
    Here(Box<dyn Iterator<Item = Result<B>> + Send>),
    Ahead(Ahead<Result<B>>),
}

/// Copies batches to `device`; to a GPU each is handed over while the one before it is used.
///
/// The copy is enqueued by another thread, on the stream of the device: what the caller enqueues
/// with the batch comes behind it, as [`pad_ops::device::cuda`] promises. Devices that were opened
/// otherwise may keep a stream for each thread
/// ([`orders_threads`](pad_ops::device::orders_threads)); there the caller's thread copies.
///
/// # Errors
/// [`Error::Worker`] if the thread cannot be started.
pub fn to_device<B>(
    batches: impl Iterator<Item = Result<B>> + Send + 'static,
    device: &Device,
) -> Result<OnDevice<B>>
where
    B: ToDevice + Send + 'static,
{
    to_device_by(batches, device, |batch: B, device| batch.to_device(device))
}

/// [`to_device`] by a function.
pub(crate) fn to_device_by<B: Send + 'static>(
    batches: impl Iterator<Item = Result<B>> + Send + 'static,
    device: &Device,
    mut upload: impl FnMut(B, &Device) -> Result<B> + Send + 'static,
) -> Result<OnDevice<B>> {
    if device.is_cpu() {
        return Ok(OnDevice(Place::Here(Box::new(batches.fuse()))));
    }
    let ordered = pad_ops::device::orders_threads(device);
    let device = device.clone();
    let upload = move |batch: Result<B>| upload(batch?, &device);
    Ok(OnDevice(match ordered {
        true => Place::Ahead(ahead(batches, upload)?),
        false => Place::Here(Box::new(batches.fuse().map(upload))),
    }))
}

impl<B> Iterator for OnDevice<B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Result<B>> {
        match &mut self.0 {
            Place::Here(batches) => batches.next(),
            Place::Ahead(batches) => batches.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn one_ahead_and_no_more() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let mut items = ahead(0..100, move |item| {
            counter.fetch_add(1, Ordering::SeqCst);
            item
        })
        .unwrap();
        assert_eq!(items.next(), Some(0));
        // While item 0 is used, item 1 is made, and nothing behind it.
        for _ in 0..200 {
            if begun.load(Ordering::SeqCst) == 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        drop(items); // returns, although 98 items are left
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn errors_come_in_their_place() {
        let items = ahead(vec![Ok(1), Err("broken"), Ok(3)], |item| item.map(|n| 10 * n)).unwrap();
        assert_eq!(items.collect::<Vec<_>>(), [Ok(10), Err("broken"), Ok(30)]);
    }
}
