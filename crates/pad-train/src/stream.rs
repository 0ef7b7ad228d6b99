//! Batches out of the passes of a loader.
//!
//! A loader goes through its set in passes: pass `p` is a numbered list of batches. [`EpochStream`]
//! makes a source of batches of it. An epoch of the trainer is one pass, or a given number of
//! batches: then it is the time between two evaluations, and passes begin anywhere in it.
//!
//! ```
//! use pad_train::{Batches, EpochStream};
//!
//! // Batch 2 of pass 7 is 72; a pass has three batches.
//! let open = |pass: u64, first: usize, stride: usize| {
//!     let numbers = (first..3).step_by(stride);
//!     Ok::<_, std::io::Error>(numbers.map(move |number| Ok(10 * pass + number as u64)))
//! };
//! let mut batches = EpochStream::new(3, open).with_epoch_len(4);
//! let mut epoch = |epoch: usize, first: usize| -> Vec<u64> {
//!     batches.epoch(epoch, first).unwrap().map(Result::unwrap).collect()
//! };
//! assert_eq!(epoch(0, 0), [0, 1, 2, 10]);
//! assert_eq!(epoch(1, 0), [11, 12, 20, 21]);
//! assert_eq!(epoch(1, 2), [20, 21]); // resumed in the middle of an epoch
//! ```

use std::iter;

use crate::{BatchIter, Batches, BoxError, Share};

/// Opens a pass: its batches from a number on, at a stride.
type Open<'a, B> = dyn FnMut(u64, usize, usize) -> Result<BatchIter<'a, B>, BoxError> + 'a;

/// A source of batches over the passes of a loader.
///
/// ```
/// use pad_train::{Batches, BoxError, EpochStream};
/// // A loader of three batches a pass; a batch is a number here, 72 the last one of pass 7.
/// let mut batches = EpochStream::new(3, |pass, first, stride| {
///     let numbers = (first..3).step_by(stride);
///     Ok::<_, BoxError>(numbers.map(move |number| Ok::<_, BoxError>(10 * pass + number as u64)))
/// })
/// .with_epoch_len(4); // evaluated every four batches; without it an epoch is a pass
/// let second: Vec<u64> = batches.epoch(1, 0)?.map(Result::unwrap).collect();
/// assert_eq!(second, [11, 12, 20, 21]);
/// # Ok::<(), BoxError>(())
/// ```
pub struct EpochStream<'a, B> {
    per_pass: usize,
    per_epoch: usize,
    open: Box<Open<'a, B>>,
}

impl<'a, B> EpochStream<'a, B> {
    /// Creates a source whose epochs are passes of `batches_per_pass` batches.
    ///
    /// `open(pass, first, stride)` returns the batches `first`, `first + stride`, … of a pass (from
    /// 0). Every number must come, with an empty batch where no image could be read: see
    /// [`Task::images_in`](crate::Task::images_in).
    pub fn new<I, E>(
        batches_per_pass: usize,
        mut open: impl FnMut(u64, usize, usize) -> Result<I, E> + 'a,
    ) -> Self
    where
        I: Iterator<Item = Result<B, E>> + 'a,
        E: Into<BoxError>,
    {
        let open = move |pass, first, stride| -> Result<BatchIter<'a, B>, BoxError> {
            let batches = open(pass, first, stride).map_err(Into::into)?;
            Ok(Box::new(batches.map(|batch| batch.map_err(Into::into))))
        };
        Self { per_pass: batches_per_pass, per_epoch: batches_per_pass, open: Box::new(open) }
    }

    /// Makes an epoch of `batches` micro-batches, whatever the length of a pass: epoch `e` has the
    /// batches `e * batches` to `(e + 1) * batches - 1` of all passes in a row.
    #[must_use]
    pub fn with_epoch_len(self, batches: usize) -> Self {
        Self { per_epoch: batches, ..self }
    }
}

impl<B> Batches for EpochStream<'_, B> {
    type Batch = B;

    fn per_epoch(&self) -> usize {
        self.per_epoch
    }

    fn epoch(&mut self, epoch: usize, first: usize) -> Result<BatchIter<'_, B>, BoxError> {
        self.epoch_share(epoch, first, Share { rank: 0, of: 1 })
    }

    fn epoch_share(
        &mut self,
        epoch: usize,
        first: usize,
        share: Share,
    ) -> Result<BatchIter<'_, B>, BoxError> {
        let (per_pass, stride) = (self.per_pass, share.of.max(1));
        if per_pass == 0 {
            return Err("a pass has no batches, expected at least 1".into());
        }
        let range = || {
            let start = epoch.checked_mul(self.per_epoch)?;
            let from = start.checked_add(first)?.checked_add(share.rank)?;
            Some(from..start.checked_add(self.per_epoch)?)
        };
        let range = range().ok_or_else(|| format!("epoch {epoch} is too large"))?;
        let mut numbers = range.step_by(stride);
        let open = &mut self.open;
        // The pass that is open, and its batches that are left.
        let mut current: Option<(usize, BatchIter<'_, B>)> = None;
        Ok(Box::new(iter::from_fn(move || {
            let number = numbers.next()?;
            let (pass, place) = (number / per_pass, number % per_pass);
            if current.as_ref().is_none_or(|(opened, _)| *opened != pass) {
                // The passes before end first: they may hold threads.
                current = None;
                match open(pass as u64, place, stride) {
                    Ok(batches) => current = Some((pass, batches)),
                    Err(error) => return Some(Err(error)),
                }
            }
            current.as_mut()?.1.next()
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batch `n` of pass `p` is `(p, n)`; what was opened is recorded.
    fn stream(opened: &mut Vec<(u64, usize, usize)>) -> EpochStream<'_, (u64, usize)> {
        let open = |pass, first, stride| {
            opened.push((pass, first, stride));
            let numbers = (first..5).step_by(stride);
            Ok::<_, std::io::Error>(numbers.map(move |number| Ok((pass, number))))
        };
        EpochStream::new(5, open)
    }

    fn all<B>(batches: BatchIter<'_, B>) -> Vec<B> {
        batches.map(Result::unwrap).collect()
    }

    #[test]
    fn an_epoch_is_a_pass_unless_its_length_is_given() {
        let mut opened = Vec::new();
        let mut batches = stream(&mut opened);
        assert_eq!(batches.per_epoch(), 5);
        assert_eq!(all(batches.epoch(3, 3).unwrap()), [(3, 3), (3, 4)]);
        let share = Share { rank: 1, of: 2 };
        assert_eq!(all(batches.epoch_share(0, 0, share).unwrap()), [(0, 1), (0, 3)]);
        drop(batches);
        assert_eq!(opened, [(3, 3, 1), (0, 1, 2)]);
    }

    #[test]
    fn epochs_of_a_given_length_go_on_where_the_last_one_ended() {
        let mut opened = Vec::new();
        let mut batches = stream(&mut opened).with_epoch_len(8);
        let whole: Vec<_> =
            (0..3).flat_map(|epoch| all(batches.epoch(epoch, 0).unwrap())).collect();
        let expected: Vec<_> = (0..24).map(|number| (number / 5, number as usize % 5)).collect();
        assert_eq!(whole, expected);
        // Resumed anywhere, in one process or three.
        for (epoch, first) in [(0, 3), (1, 0), (1, 5), (2, 7)] {
            let rest = &expected[epoch * 8 + first..(epoch + 1) * 8];
            assert_eq!(all(batches.epoch(epoch, first).unwrap()), rest);
            let mut shares: Vec<_> = (0..3)
                .flat_map(|rank| {
                    let share =
                        all(batches.epoch_share(epoch, first, Share { rank, of: 3 }).unwrap());
                    share.into_iter().enumerate().map(move |(i, batch)| (3 * i + rank, batch))
                })
                .collect();
            shares.sort_unstable();
            let shares: Vec<_> = shares.into_iter().map(|(_, batch)| batch).collect();
            assert_eq!(shares, rest);
        }
        drop(batches);
        assert_eq!(opened[..3], [(0, 0, 1), (1, 0, 1), (1, 3, 1)]);
    }

    #[test]
    fn errors_come_in_their_place() {
        let open = |pass: u64, _: usize, _: usize| match pass {
            0 => Ok(vec![Ok(1), Err("broken".to_string())].into_iter()),
            _ => Err("no such folder".to_string()),
        };
        let mut batches = EpochStream::new(2, open).with_epoch_len(3);
        let texts: Vec<_> = batches
            .epoch(0, 0)
            .unwrap()
            .map(|batch| batch.map_err(|error| error.to_string()))
            .collect();
        let expected = [Ok(1), Err("broken".to_string()), Err("no such folder".to_string())];
        assert_eq!(texts, expected);
        let mut empty =
            EpochStream::new(0, |_, _, _| Ok::<_, String>(iter::empty::<Result<(), _>>()));
        let refused = empty.epoch(0, 0).err().unwrap().to_string();
        assert_eq!(refused, "a pass has no batches, expected at least 1");
    }
}
