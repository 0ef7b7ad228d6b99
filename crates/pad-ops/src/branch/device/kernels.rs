//! The launches of `kernel.cu`. `X` is the residual stream's type, `T` that of products.

use candle_core::{D, DType, Result, Shape, Tensor, bail};

use crate::{
    branch::layer_weights::NormWeights,
    branch::precision::MatmulPrecision,
    branch::weights::ResidualWeights,
    gpu::{self, BLOCK, Launch, Number, Source, WARPS, chunks, int},
};

/// Sums of a block of `branch_norm_backward_and_sum`, in shared memory.
const NORM_SUMS: usize = 6144;
/// Maximum number of chunks: several blocks for each multiprocessor of a large GPU.
const NORM_CHUNKS: usize = 512;

const F32: Source = Source {
    name: "branch_f32",
    text: concat!(
        "typedef float X;\n",
        include_str!("../../gelu/kernel.cu"),
        include_str!("../../dropout/kernel.cu"),
        include_str!("../kernel.cu")
    ),
};
const BF16: Source = Source {
    name: "branch_bf16",
    text: concat!(
        "typedef bf16 X;\n",
        include_str!("../../gelu/kernel.cu"),
        include_str!("../../dropout/kernel.cu"),
        include_str!("../kernel.cu")
    ),
};

/// An output.
pub(super) type Output = (DType, Shape);

pub(super) fn like(tensor: &Tensor) -> Output {
    (tensor.dtype(), tensor.shape().clone())
}

/// The types of a half block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Types {
    /// `X`.
    pub(super) stream: DType,
    /// `T`.
    pub(super) product: DType,
}

/// What [`Types::norm`] makes of `x`.
pub(super) struct Normed {
    /// In `T`, of `x`'s shape.
    pub(super) y: Tensor,
    /// The second norm's.
    pub(super) second: Option<Tensor>,
    /// f32 (rows, 3).
    pub(super) moments: Tensor,
}

/// A norm's gradient that arrives: its weights, and to its result.
pub(super) type Arriving<'a> = Option<(&'a NormWeights, &'a Tensor)>;

impl Types {
    pub(super) fn new(x: &Tensor, precision: MatmulPrecision) -> Self {
        let product = match precision {
            MatmulPrecision::F32 => x.dtype(),
            MatmulPrecision::Bf16 => DType::BF16,
        };
        Self { stream: x.dtype(), product }
    }

    pub(super) fn launch(
        self,
        function: &'static str,
        blocks: usize,
        numbers: Vec<Number>,
        output: Output,
    ) -> Result<Launch> {
        let source = match self.stream {
            DType::F32 => F32,
            DType::BF16 => BF16,
            other => bail!("{function}: a residual stream of f32 or bf16, found {other:?}"),
        };
        Ok(Launch {
            source,
            constants: vec![("NORM_SUMS", NORM_SUMS)],
            function,
            values: self.product,
            blocks,
            numbers,
            output,
            more: Vec::new(),
        })
    }

    /// One norm of `x`, or two.
    pub(super) fn norm(
        self,
        x: &Tensor,
        norm: &NormWeights,
        second: Option<&NormWeights>,
    ) -> Result<Normed> {
        let (rows, d) = rows_of(x)?;
        let eps2 = second.map_or(norm.eps, |second| second.eps);
        let float = |value: f64| Number::Float(value as f32);
        let numbers = vec![int(rows)?, int(d)?, float(norm.eps), float(eps2)];
        let y = (self.product, x.shape().clone());
        let mut launch = self.launch("branch_norm", rows.div_ceil(WARPS), numbers, y.clone())?;
        let none = (self.product, Shape::from(0));
        launch.more.push((DType::F32, Shape::from((rows, 3))));
        launch.more.push(if second.is_some() { y } else { none });
        let inputs = [
            Some(x),
            Some(&norm.weight),
            Some(&norm.bias),
            second.map(|second| &second.weight),
            second.map(|second| &second.bias),
        ];
        let [y, moments, other] = gpu::several(&launch, &inputs)?;
        Ok(Normed { y, moments, second: second.map(|_| other) })
    }

    /// `d_residual` and what comes through the norms of `x`.
    pub(super) fn norm_backward(
        self,
        x: &Tensor,
        moments: &Tensor,
        arriving: [Arriving<'_>; 2],
        d_residual: &Tensor,
    ) -> Result<Tensor> {
        let (rows, d) = rows_of(x)?;
        let numbers = vec![int(rows)?, int(d)?];
        let launch = self.launch("branch_norm_backward", rows.div_ceil(WARPS), numbers, like(x))?;
        let [d_x] = gpu::several(&launch, &norm_inputs(x, &arriving, d_residual, moments))?;
        Ok(d_x)
    }

    /// The same, and the sums over chunks of rows for the gradients of the weights and biases of the
    /// norms that `wanted` names: 2 D or 4 D numbers a chunk. `None` if that is not one launch.
    pub(super) fn norm_backward_and_sum(
        self,
        x: &Tensor,
        moments: &Tensor,
        arriving: [Arriving<'_>; 2],
        d_residual: &Tensor,
        wanted: [bool; 2],
    ) -> Result<Option<[Tensor; 2]>> {
        let (rows, d) = rows_of(x)?;
        let wanted: Vec<bool> =
            wanted.iter().zip(&arriving).map(|(w, a)| *w && a.is_some()).collect();
        let width = 2 * d * wanted.iter().filter(|wanted| **wanted).count();
        if width == 0 || width > NORM_SUMS {
            return Ok(None);
        }
        let chunks = rows.div_ceil(4 * WARPS).min(NORM_CHUNKS);
        let mut numbers = vec![int(rows)?, int(d)?, int(chunks)?];
        numbers.extend(wanted.iter().map(|&wanted| Number::Int(i32::from(wanted))));
        let mut launch = self.launch("branch_norm_backward_and_sum", chunks, numbers, like(x))?;
        launch.more.push((DType::F32, Shape::from((chunks, width))));
        let made = gpu::several(&launch, &norm_inputs(x, &arriving, d_residual, moments))?;
        Ok(Some(made))
    }

    /// `x + g (t + bias)`, `g` of `residual`.
    pub(super) fn joined(
        self,
        x: &Tensor,
        t: &Tensor,
        bias: Option<&Tensor>,
        residual: &ResidualWeights,
    ) -> Result<Tensor> {
        let inputs = [Some(x), Some(t), bias, residual.gamma.as_ref(), residual.factors.as_ref()];
        self.by_fours("branch_tail", &inputs, like(x), &[tokens(x)?])
    }

    /// Elementwise on (rows, columns), four values a thread: `inputs`, then rows, columns and
    /// `numbers`.
    pub(super) fn by_fours(
        self,
        function: &'static str,
        inputs: &[Option<&Tensor>],
        output: Output,
        numbers: &[Number],
    ) -> Result<Tensor> {
        let count = output.1.elem_count();
        let columns = output.1.dims().last().copied().unwrap_or(1);
        let numbers = [&[int(count / columns.max(1))?, int(columns)?], numbers].concat();
        let launch = self.launch(function, count.div_ceil(4 * BLOCK), numbers, output)?;
        let [made] = gpu::several(&launch, inputs)?;
        Ok(made)
    }

    /// One or two tensors in `T`.
    pub(super) fn narrow<const N: usize>(self, tensors: [&Tensor; N]) -> Result<[Tensor; N]> {
        const FUNCTION: &str = "branch_narrow";
        let to = self.product;
        if tensors.iter().all(|tensor| tensor.dtype() == to) {
            return Ok(tensors.map(Clone::clone));
        }
        let shapes: Vec<Shape> = tensors.iter().map(|tensor| tensor.shape().clone()).collect();
        let count = |at: usize| shapes.get(at).map_or(0, Shape::elem_count);
        let threads = count(0).div_ceil(4) + count(1).div_ceil(4);
        let numbers = vec![int(count(0))?, int(count(1))?];
        let shape = |at: usize| shapes.get(at).cloned().unwrap_or(Shape::from(0));
        let mut launch = self.launch(FUNCTION, threads.div_ceil(BLOCK), numbers, (to, shape(0)))?;
        launch.more.push((to, shape(1)));
        let mut inputs: Vec<Option<&Tensor>> = tensors.iter().copied().map(Some).collect();
        inputs.resize(2, None);
        let mut made = gpu::run_all(&launch, &inputs, &[])?;
        made.truncate(N);
        made.try_into().or_else(|_| bail!("{FUNCTION}: {N} outputs"))
    }

    /// An output of rows and columns, and sums of it over chunks of rows.
    pub(super) fn with_sums(
        self,
        function: &'static str,
        inputs: &[Option<&Tensor>],
        shape: &Shape,
        numbers: &[Number],
    ) -> Result<[Tensor; 2]> {
        let columns = shape.dims().last().copied().unwrap_or(1);
        let rows = shape.elem_count() / columns.max(1);
        let chunks = chunks(rows);
        let numbers = [&[int(rows)?, int(columns)?, int(chunks)?], numbers].concat();
        let blocks = columns.div_ceil(32) * chunks;
        let output = (self.product, shape.clone());
        let mut launch = self.launch(function, blocks, numbers, output)?;
        launch.more.push((DType::F32, Shape::from((chunks, columns))));
        gpu::several(&launch, inputs)
    }

    /// Sums over chunks of rows of `columns` columns, `width` numbers a chunk.
    pub(super) fn sums(
        self,
        function: &'static str,
        inputs: &[Option<&Tensor>],
        [rows, columns, width]: [usize; 3],
        numbers: &[Number],
    ) -> Result<Tensor> {
        let chunks = chunks(rows);
        let blocks = columns.div_ceil(32) * chunks;
        let output = (DType::F32, Shape::from((chunks, width)));
        let numbers = [&[int(rows)?, int(columns)?, int(chunks)?], numbers].concat();
        let launch = self.launch(function, blocks, numbers, output)?;
        let [partial] = gpu::several(&launch, inputs)?;
        Ok(partial)
    }

    /// Sums over the chunks of up to four `partials`, as vectors in `X`, and up to two products in
    /// `X`.
    pub(super) fn gradients(
        self,
        partials: &[&Tensor],
        products: &[&Tensor],
    ) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let widths: Vec<usize> =
            partials.iter().map(|partial| partial.dim(1)).collect::<Result<_>>()?;
        let all: usize = widths.iter().sum();
        // Nothing to convert where both types are one.
        let convert = self.product != self.stream;
        let converted = if convert { products } else { &[] };
        let count = |at: usize| converted.get(at).map_or(0, |product| product.elem_count());
        let mut numbers = Vec::new();
        for at in 0..4 {
            numbers.push(int(partials.get(at).map_or(Ok(0), |partial| partial.dim(0))?)?);
        }
        for at in 0..4 {
            numbers.push(int(widths.get(at).copied().unwrap_or(0))?);
        }
        numbers.extend([int(count(0))?, int(count(1))?]);
        let threads = count(0).div_ceil(4) + count(1).div_ceil(4);
        let blocks = all.div_ceil(32) + threads.div_ceil(BLOCK);
        let output = (self.stream, Shape::from(all));
        let mut launch = self.launch("branch_gradients", blocks, numbers, output)?;
        for at in 0..2 {
            let shape = converted.get(at).map_or(Shape::from(0), |product| product.shape().clone());
            launch.more.push((self.stream, shape));
        }
        if blocks == 0 {
            return Ok((Vec::new(), products.iter().map(|&product| product.clone()).collect()));
        }
        let operand = |tensors: &[&'_ Tensor], at: usize| tensors.get(at).copied().cloned();
        let operands: Vec<Option<Tensor>> = (0..4)
            .map(|at| operand(partials, at))
            .chain((0..2).map(|at| operand(converted, at)))
            .collect();
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        let [sums, a, b] = gpu::several(&launch, &operands)?;
        let mut from = 0;
        let mut finished = Vec::with_capacity(widths.len());
        for width in widths {
            finished.push(sums.narrow(0, from, width)?);
            from += width;
        }
        let made = match convert {
            true => [a, b].into_iter().take(products.len()).collect(),
            false => products.iter().map(|&product| product.clone()).collect(),
        };
        Ok((finished, made))
    }
}

/// `x`, weight and gradient of both norms, `d_residual`, `moments`.
fn norm_inputs<'a>(
    x: &'a Tensor,
    [first, second]: &[Arriving<'a>; 2],
    d_residual: &'a Tensor,
    moments: &'a Tensor,
) -> [Option<&'a Tensor>; 7] {
    let weight = |arriving: Arriving<'a>| arriving.map(|(norm, _)| &norm.weight);
    let gradient = |arriving: Arriving<'a>| arriving.map(|(_, d_y)| d_y);
    [
        Some(x),
        weight(*first),
        gradient(*first),
        weight(*second),
        gradient(*second),
        Some(d_residual),
        Some(moments),
    ]
}

/// Tokens of an image of `x` (B, N, D).
pub(super) fn tokens(x: &Tensor) -> Result<Number> {
    int(x.dim(1)?)
}

/// Rows and columns of a tensor as a matrix.
pub(super) fn rows_of(x: &Tensor) -> Result<(usize, usize)> {
    let d = x.dim(D::Minus1)?;
    Ok((x.elem_count() / d.max(1), d))
}
