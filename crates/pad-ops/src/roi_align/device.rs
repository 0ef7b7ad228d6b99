//! RoIAlign by the kernels of `kernel.cu`: a launch a map, whose regions are put back in their
//! order.

use candle_core::{Result, Shape, Tensor, bail};

use super::{
    boxes::RoiAlign,
    sampling::{Bin, Region},
};
use crate::gpu::{self, BLOCK, Backward, Launch, Source, int};

const SOURCE: Source = Source { name: "roi_align", text: include_str!("kernel.cu") };

/// The tables of some regions, as the kernels read them.
#[derive(Default)]
struct Tables {
    records: Vec<u32>,
    weights: Vec<f32>,
}

impl Tables {
    fn push(&mut self, region: &Region) -> Result<()> {
        let size = |size: usize| u32::try_from(size).map_err(candle_core::Error::wrap);
        self.records.push(size(region.image)?);
        for bins in [&region.rows, &region.columns] {
            let taking = || bins.iter().filter(|bin| !bin.weights.is_empty());
            let first = taking().map(|bin| bin.first).min().unwrap_or(0);
            let end = taking().map(Bin::end).max().unwrap_or(first);
            self.records.extend([size(first)?, size(end)?]);
        }
        for bin in region.rows.iter().chain(&region.columns) {
            let at = size(self.weights.len())?;
            self.records.extend([size(bin.first)?, size(bin.weights.len())?, at]);
            self.weights.extend(&bin.weights);
        }
        Ok(())
    }
}

/// The features of `regions` in `maps`, none of them empty.
pub(super) fn apply(maps: &[Tensor], regions: &[Region], options: RoiAlign) -> Result<Tensor> {
    let mut order = Vec::with_capacity(regions.len());
    let mut pooled = Vec::new();
    for (index, map) in maps.iter().enumerate() {
        let mut tables = Tables::default();
        let before = order.len();
        for (at, region) in regions.iter().enumerate().filter(|(_, region)| region.map == index) {
            tables.push(region)?;
            order.push(at);
        }
        if order.len() > before {
            pooled.push(of_map(map, tables, order.len() - before, options)?);
        }
    }
    // Where region `at` ended up.
    let mut places = vec![0_u32; order.len()];
    for (place, &at) in order.iter().enumerate() {
        places[at] = u32::try_from(place).map_err(candle_core::Error::wrap)?;
    }
    let pooled = Tensor::cat(&pooled, 0)?;
    if places.is_sorted() {
        return Ok(pooled);
    }
    pooled.index_select(&Tensor::from_vec(places, order.len(), pooled.device())?, 0)
}

fn of_map(map: &Tensor, tables: Tables, regions: usize, options: RoiAlign) -> Result<Tensor> {
    let (_, channels, height, width) = map.dims4()?;
    let RoiAlign { height: rows, width: columns, .. } = options;
    let Tables { records, mut weights } = tables;
    if weights.is_empty() {
        weights.push(0.0); // every box is outside: nothing reads it, but an array has a value
    }
    let records = Tensor::new(records, map.device())?;
    let weights = Tensor::new(weights, map.device())?;
    let shape = Shape::from((regions, channels, rows, columns));
    let launch = Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function: "roi_align_forward",
        values: map.dtype(),
        blocks: shape.elem_count().div_ceil(BLOCK),
        numbers: vec![
            int(shape.elem_count())?,
            int(channels)?,
            int(height)?,
            int(width)?,
            int(rows)?,
            int(columns)?,
        ],
        output: (map.dtype(), shape),
    };
    gpu::apply(launch, &[map, &records, &weights], Align)
}

struct Align;

impl Backward for Align {
    fn backward(
        &self,
        operands: &[&Tensor],
        _y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let [map, records, weights] = operands else {
            bail!("roi_align: a map, records and weights, found {} operands", operands.len())
        };
        let (_, channels, height, width) = map.dims4()?;
        let (regions, _, rows, columns) = d_y.dims4()?;
        let launch = Launch {
            source: SOURCE,
            constants: Vec::new(),
            more: Vec::new(),
            function: "roi_align_backward",
            values: map.dtype(),
            blocks: map.elem_count().div_ceil(BLOCK),
            numbers: vec![
                int(map.elem_count())?,
                int(channels)?,
                int(height)?,
                int(width)?,
                int(rows)?,
                int(columns)?,
                int(regions)?,
            ],
            output: (map.dtype(), map.shape().clone()),
        };
        Ok(vec![Some(gpu::run(&launch, &[d_y, records, weights])?), None, None])
    }
}
