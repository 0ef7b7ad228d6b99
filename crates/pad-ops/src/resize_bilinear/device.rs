//! Bilinear resizing by the kernels of `kernel.cu`.

use candle_core::{Result, Shape, Tensor, bail};

use super::cpu::{Tap, axis};
use crate::{
    ImageSize,
    gpu::{self, BLOCK, Backward, Launch, Source, int},
};

const SOURCE: Source = Source { name: "resize_bilinear", text: include_str!("kernel.cu") };

/// For each place of an axis of `from`, the first sample that reads it and the one behind the last.
fn readers(taps: &[Tap], from: usize) -> Vec<[usize; 2]> {
    let mut readers = vec![[usize::MAX, 0]; from];
    for (sample, tap) in taps.iter().enumerate() {
        for place in [tap.first, tap.second] {
            let [first, end] = &mut readers[place];
            *first = (*first).min(sample);
            *end = sample + 1;
        }
    }
    // A sample that is not read, in a smaller image.
    readers.iter_mut().filter(|[_, end]| *end == 0).for_each(|range| *range = [0, 0]);
    readers
}

fn launch(
    function: &'static str,
    x: &Tensor,
    shape: Shape,
    (from, to): (ImageSize, ImageSize),
) -> Result<Launch> {
    let count = shape.elem_count();
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function,
        values: x.dtype(),
        blocks: count.div_ceil(BLOCK),
        numbers: vec![
            int(count)?,
            int(from.height)?,
            int(from.width)?,
            int(to.height)?,
            int(to.width)?,
        ],
        output: (x.dtype(), shape),
    })
}

/// `x` (B, C, H, W) at the size `to`.
pub(super) fn apply(x: &Tensor, to: ImageSize, align_corners: bool) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let from = ImageSize { height, width };
    let rows = axis(height, to.height, align_corners);
    let columns = axis(width, to.width, align_corners);
    let read = rows.iter().chain(&columns).flat_map(|tap| [tap.first, tap.second]);
    let readers = [readers(&rows, height), readers(&columns, width)].concat();
    let places = read.chain(readers.into_iter().flatten());
    let places: Vec<u32> = places
        .map(|place| u32::try_from(place).map_err(candle_core::Error::wrap))
        .collect::<Result<_>>()?;
    let weights: Vec<f32> = rows.iter().chain(&columns).map(|tap| tap.weight).collect();
    let places = Tensor::new(places, x.device())?;
    let weights = Tensor::new(weights, x.device())?;
    let shape = Shape::from((batch, channels, to.height, to.width));
    let launch = launch("resize_forward", x, shape, (from, to))?;
    gpu::apply(launch, &[x, &places, &weights], Resize { from, to })
}

struct Resize {
    from: ImageSize,
    to: ImageSize,
}

impl Backward for Resize {
    fn backward(
        &self,
        operands: &[&Tensor],
        _y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let [x, places, weights] = operands else {
            bail!(
                "resize_bilinear: an image, places and weights, found {} operands",
                operands.len()
            )
        };
        let launch = launch("resize_backward", x, x.shape().clone(), (self.from, self.to))?;
        Ok(vec![Some(gpu::run(&launch, &[d_y, places, weights])?), None, None])
    }
}
