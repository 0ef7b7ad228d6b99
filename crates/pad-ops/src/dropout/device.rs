//! Dropout by the kernel of `kernel.cu`.

use candle_core::{Result, Tensor};

use super::probability::{kept, threshold};
use crate::{
    gpu::{self, BLOCK, Backward, Launch, Number, Source, int},
    rng::Key,
};

const SOURCE: Source = Source { name: "dropout", text: include_str!("kernel.cu") };

/// Numbers of the stream that a thread draws.
const DRAWN: usize = 16;

/// What a kernel draws a mask from: the key's words, the threshold, and what kept values are
/// multiplied by.
pub(crate) fn mask_numbers(p: f64, key: Key) -> Vec<Number> {
    let words = key.words().map(|word| Number::Int(word.cast_signed()));
    let rest = [Number::Int(threshold(p).cast_signed()), Number::Float(kept(p))];
    words.into_iter().chain(rest).collect()
}

fn launch(x: &Tensor, p: f64, key: Key) -> Result<Launch> {
    let mut numbers = vec![int(x.elem_count())?];
    numbers.extend(mask_numbers(p, key));
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function: "dropout",
        values: x.dtype(),
        blocks: x.elem_count().div_ceil(DRAWN * BLOCK),
        numbers,
        output: (x.dtype(), x.shape().clone()),
    })
}

pub(super) fn apply(x: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    gpu::apply(launch(x, p, key)?, &[x], Dropout { p, key })
}

struct Dropout {
    p: f64,
    key: Key,
}

impl Backward for Dropout {
    fn backward(
        &self,
        _operands: &[&Tensor],
        _y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gpu::run(&launch(d_y, self.p, self.key)?, &[d_y])?)])
    }
}
