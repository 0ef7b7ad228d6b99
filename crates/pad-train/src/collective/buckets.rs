//! Gradients on their way: trained parameters only, joined to pieces that are worth a message.

use candle_core::{DType, Tensor};

use super::Collective;
use crate::{Error, Gradients, Parameter, Result};

/// Size from which a bucket is sent, as PyTorch's `DistributedDataParallel`.
pub const BUCKET_BYTES: usize = 25 << 20;

/// Parameters whose gradients travel together.
struct Bucket {
    members: Vec<usize>,
    dtype: DType,
    /// Values, without the flags of which parameters have a gradient.
    values: usize,
}

/// Buckets in the order of the parameters; a function of the parameters and the epoch alone, so
/// equal on all members.
fn plan(parameters: &[Parameter], epoch: usize, bucket_bytes: usize) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut open = false;
    for (index, parameter) in parameters.iter().enumerate() {
        if !parameter.trains_in(epoch) {
            continue;
        }
        let dtype = if parameter.var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        open &= buckets.last().is_some_and(|bucket| bucket.dtype == dtype);
        if !open {
            buckets.push(Bucket { members: Vec::new(), dtype, values: 0 });
        }
        if let Some(bucket) = buckets.last_mut() {
            bucket.members.push(index);
            bucket.values += parameter.var.elem_count();
            open = bucket.values * dtype.size_in_bytes() < bucket_bytes;
        }
    }
    buckets
}

impl Bucket {
    /// Gradients end to end, zeros for a missing one, then a flag each: 1 for a present one.
    fn pack(&self, parameters: &[Parameter], gradients: &Gradients) -> candle_core::Result<Tensor> {
        let mut pieces = Vec::with_capacity(self.members.len() + 1);
        let mut flags = Vec::with_capacity(self.members.len());
        for (parameter, gradient) in self.of(parameters).zip(self.of(gradients.raw())) {
            flags.push(f32::from(gradient.is_some()));
            pieces.push(match gradient {
                Some(gradient) => gradient.flatten_all()?.to_dtype(self.dtype)?.contiguous()?,
                None => {
                    let var = &parameter.var;
                    Tensor::zeros(var.elem_count(), self.dtype, var.device())?
                }
            });
        }
        if let Some(device) = pieces.first().map(|piece| piece.device().clone()) {
            pieces.push(Tensor::new(flags, &device)?.to_dtype(self.dtype)?);
        }
        Tensor::cat(&pieces, 0)?.contiguous()
    }

    /// The members' entries of a list.
    fn of<'a, T>(&'a self, all: &'a [T]) -> impl Iterator<Item = &'a T> {
        self.members.iter().filter_map(|&index| all.get(index))
    }

    /// Views of a sum, as gradients of the parameters.
    fn unpack(
        &self,
        parameters: &[Parameter],
        sum: &Tensor,
        out: &mut [Option<Tensor>],
    ) -> candle_core::Result<()> {
        let flags = sum.narrow(0, self.values, self.members.len())?;
        let flags = flags.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let mut offset = 0;
        for (&index, flag) in self.members.iter().zip(flags) {
            let var = &parameters[index].var;
            let values = var.elem_count();
            if flag > 0.0 {
                let gradient = sum.narrow(0, offset, values)?.reshape(var.shape())?;
                out[index] = Some(gradient.to_dtype(var.dtype())?);
            }
            offset += values;
        }
        Ok(())
    }
}

/// The sum of all members' gradients. A gradient that only some have is kept.
pub(crate) fn sum_gradients(
    group: &dyn Collective,
    parameters: &[Parameter],
    gradients: Gradients,
    epoch: usize,
) -> Result<Gradients> {
    sum_in_buckets(group, parameters, gradients, epoch, BUCKET_BYTES)
}

fn sum_in_buckets(
    group: &dyn Collective,
    parameters: &[Parameter],
    gradients: Gradients,
    epoch: usize,
    bucket_bytes: usize,
) -> Result<Gradients> {
    if group.world_size() == 1 {
        return Ok(gradients);
    }
    if gradients.len() != parameters.len() && !gradients.is_empty() {
        return Err(Error::GradientCount { expected: parameters.len(), found: gradients.len() });
    }
    let buckets = plan(parameters, epoch, bucket_bytes);
    let wrap = |cause| Error::Candle { doing: "joining gradients".into(), cause };
    let mut packed = buckets.iter().map(|bucket| bucket.pack(parameters, &gradients).map_err(wrap));
    let sums = group.sum_buckets(&mut packed)?;
    let mut out = vec![None; parameters.len()];
    for (bucket, sum) in buckets.iter().zip(&sums) {
        bucket.unpack(parameters, sum, &mut out).map_err(wrap)?;
    }
    Ok(Gradients::new(out).scale(gradients.factor()))
}

/// Compares all parameters with those of member 0, bit for bit, name for name.
///
/// # Errors
/// [`Error::Group`] that names the first parameter that differs.
pub(crate) fn check_parameters(group: &dyn Collective, parameters: &[Parameter]) -> Result<()> {
    if group.world_size() == 1 {
        return Ok(());
    }
    let differs = |what: String| Error::Group {
        rank: group.rank(),
        world_size: group.world_size(),
        what: format!("{what}: every process must start from the same weights, settings and seed"),
    };
    let names: Vec<String> = parameters
        .iter()
        .map(|p| format!("{} {:?} {}", p.name, p.var.dims(), p.var.dtype().as_str()))
        .collect();
    let all = super::agree(group, Ok(names.clone()))?;
    // Every member compares all with the first, so that all come to the same conclusion.
    for (rank, theirs) in all.iter().enumerate() {
        let unequal = names_differ(&all[0], theirs);
        if let Some((first, here)) = unequal {
            return Err(differs(format!(
                "rank {rank} trains `{here}` where rank 0 trains `{first}`"
            )));
        }
    }
    let mut fault = None;
    for parameter in parameters {
        let mine = bytes_of(parameter).map_err(Error::candle("reading", &parameter.name))?;
        let mut first = mine.clone();
        group.broadcast(&mut first, 0)?;
        if fault.is_none() && first != mine {
            fault = Some(parameter.name.clone());
        }
    }
    let faults = super::agree(group, Ok(fault))?;
    let first = faults.into_iter().enumerate().find_map(|(rank, fault)| Some((rank, fault?)));
    match first {
        Some((rank, name)) => {
            Err(differs(format!("`{name}` of rank {rank} has other values than rank 0's")))
        }
        None => Ok(()),
    }
}

fn names_differ<'a>(first: &'a [String], theirs: &'a [String]) -> Option<(&'a str, &'a str)> {
    let longest = first.len().max(theirs.len());
    let entry =
        |list: &'a [String], index: usize| list.get(index).map_or("nothing", String::as_str);
    (0..longest).map(|i| (entry(first, i), entry(theirs, i))).find(|(a, b)| a != b)
}

fn bytes_of(parameter: &Parameter) -> candle_core::Result<Vec<u8>> {
    let flat = parameter.var.flatten_all()?.to_dtype(match parameter.var.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    })?;
    Ok(match flat.dtype() {
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect(),
        _ => flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect(),
    })
}
