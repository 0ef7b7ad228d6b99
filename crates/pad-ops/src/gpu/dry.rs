//! A run in which launches and products are written down; kernels are not run, and their results
//! are zeros. What a step costs a GPU is counted by it: see [`super::count`].

use std::cell::RefCell;

use candle_core::{Device, Result, Tensor};

use super::launch::Launch;

/// A launch: its kernel, and the bytes of all arrays that it reads or writes, each once.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) name: &'static str,
    pub(super) bytes: usize,
}

thread_local! {
    static LOG: RefCell<Option<Vec<Recorded>>> = const { RefCell::new(None) };
}

/// Everything that `work` launches on this thread.
pub(super) fn recorded<R>(work: impl FnOnce() -> R) -> (R, Vec<Recorded>) {
    LOG.with_borrow_mut(|log| *log = Some(Vec::new()));
    let done = work();
    (done, LOG.with_borrow_mut(Option::take).unwrap_or_default())
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// Zeros in place of a launch's outputs, if a dry run is on.
pub(super) fn outputs(
    launch: &Launch,
    inputs: &[Option<&Tensor>],
    table: &[Option<&Tensor>],
) -> Result<Option<Vec<Tensor>>> {
    if LOG.with_borrow(Option::is_none) {
        return Ok(None);
    }
    let zeros =
        |(dtype, shape): &(_, candle_core::Shape)| Tensor::zeros(shape, *dtype, &Device::Cpu);
    let outputs: Vec<Tensor> = launch.outputs().map(zeros).collect::<Result<_>>()?;
    let read = inputs.iter().chain(table).flatten().map(|tensor| bytes(tensor));
    let bytes = read.sum::<usize>() + outputs.iter().map(bytes).sum::<usize>();
    LOG.with_borrow_mut(|log| {
        log.iter_mut().for_each(|log| log.push(Recorded { name: launch.function, bytes }));
    });
    Ok(Some(outputs))
}

/// Writes a product of matrices down.
pub(crate) fn product(a: &Tensor, b: &Tensor, y: &Tensor) {
    LOG.with_borrow_mut(|log| {
        let bytes = bytes(a) + bytes(b) + bytes(y);
        log.iter_mut().for_each(|log| log.push(Recorded { name: "product", bytes }));
    });
}
