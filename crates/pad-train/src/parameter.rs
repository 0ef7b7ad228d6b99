//! What trains, and how: one entry a parameter.

use std::{collections::BTreeMap, fmt};

use candle_core::{Tensor, Var};

/// A trained parameter with its own rates.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name in files.
    pub name: String,
    /// Its value.
    pub var: Var,
    /// Factor on the scheduled learning rate (layer-wise decay).
    pub lr_factor: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// While `epoch <= frozen_through` it is left alone altogether, as PyTorch does with a parameter that has no
    /// gradient: no decay, no moments, no step counted.
    pub frozen_through: Option<usize>,
}

impl Parameter {
    /// Whether it moves in `epoch`.
    pub fn moves_in(&self, epoch: usize) -> bool {
        self.frozen_through.is_none_or(|last| epoch > last)
    }
}

/// Weight decay as transformers are trained: `decay` on matrices and tensors of higher rank, 0 on vectors (biases,
/// norms, scales).
pub fn weight_decay_for(tensor: &Tensor, decay: f64) -> f64 {
    if tensor.rank() >= 2 { decay } else { 0.0 }
}

/// Parameters that share all their rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Factor on the learning rate.
    pub lr_factor: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Last epoch in which they are frozen.
    pub frozen_through: Option<usize>,
    /// Tensors.
    pub tensors: usize,
    /// Values.
    pub values: usize,
}

/// The groups of a list of parameters, in order of first appearance; printed as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups(pub Vec<Group>);

impl Groups {
    /// Groups parameters by equal rates.
    pub fn of(parameters: &[Parameter]) -> Self {
        let mut places = BTreeMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for parameter in parameters {
            let Parameter { lr_factor, weight_decay, frozen_through, .. } = *parameter;
            let rates = (lr_factor.to_bits(), weight_decay.to_bits(), frozen_through);
            let place = *places.entry(rates).or_insert_with(|| {
                groups.push(Group {
                    lr_factor,
                    weight_decay,
                    frozen_through,
                    tensors: 0,
                    values: 0,
                });
                groups.len() - 1
            });
            groups[place].tensors += 1;
            groups[place].values += parameter.var.elem_count();
        }
        Self(groups)
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, group) in self.0.iter().enumerate() {
            let line_end = if i > 0 { "\n" } else { "" };
            let Group { lr_factor, weight_decay, frozen_through, tensors, values } = group;
            write!(
                f,
                "{line_end}lr x {lr_factor:<8.4} weight decay {weight_decay:<6} {tensors:>4} tensors {values:>10} \
                 values"
            )?;
            if let Some(last) = frozen_through {
                write!(f, ", frozen through epoch {last}")?;
            }
        }
        Ok(())
    }
}
