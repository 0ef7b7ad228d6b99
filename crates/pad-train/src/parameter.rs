//! A trained variable: its learning rate, weight decay and first epoch.

use std::fmt;

use candle_core::{Shape, Var};

/// A variable that an optimiser moves, or that is saved with those it moves.
///
/// ```
/// use pad_train::{Parameter, candle_core::{DType, Device, Var}};
/// let weight = Var::zeros((3, 4), DType::F32, &Device::Cpu)?;
/// let slow = Parameter::new("weight", weight).with_weight_decay(0.05).with_lr_factor(0.1);
/// assert_eq!((slow.weight_decay, slow.lr_factor, slow.trainable), (0.05, 0.1, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name in checkpoints, e.g. `blocks.3.adaptmlp.down_proj.weight`.
    pub name: String,
    /// Its values, any float dtype.
    pub var: Var,
    /// Multiplies the run's learning rate (layer decay).
    pub lr_factor: f64,
    /// Weight decay. AdamW and Lion shrink the values by `lr · weight_decay` (decoupled), SGD and
    /// RMSprop add `weight_decay · values` to the gradient, as in PyTorch.
    pub weight_decay: f64,
    /// No update at all while `epoch <= frozen_through` (epochs from 0), as for a parameter without
    /// gradient: no weight decay, no step counted. PAD's gate thaws late.
    pub frozen_through: Option<usize>,
    /// False for a buffer ([`Parameter::buffer`]), which no update ever moves.
    pub trainable: bool,
}

impl Parameter {
    /// Creates a parameter that trains from the first step, at the run's rate, without weight
    /// decay.
    ///
    /// ```
    /// use pad_train::{Parameter, candle_core::{Device, Var}};
    /// let bias = Parameter::new("bias", Var::new(&[0_f32], &Device::Cpu)?);
    /// assert_eq!((bias.lr_factor, bias.weight_decay, bias.frozen_through), (1.0, 0.0, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(name: impl Into<String>, var: Var) -> Self {
        let (name, lr_factor, weight_decay) = (name.into(), 1.0, 0.0);
        Self { name, var, lr_factor, weight_decay, frozen_through: None, trainable: true }
    }

    /// Creates a buffer: a variable that checkpoints save and load with the parameters and that the
    /// model itself changes, such as the running statistics of a batch norm.
    ///
    /// ```
    /// use pad_train::{Parameter, candle_core::{Device, Var}};
    /// let mean = Parameter::buffer("norm.running_mean", Var::new(&[0_f32], &Device::Cpu)?);
    /// assert!(!mean.trains_in(1_000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn buffer(name: impl Into<String>, var: Var) -> Self {
        Self { trainable: false, ..Self::new(name, var) }
    }

    /// Multiplies the run's learning rate by `factor`.
    ///
    /// ```
    /// use pad_train::{Parameter, candle_core::{Device, Var}};
    /// let parameter = Parameter::new("x", Var::new(&[0_f32], &Device::Cpu)?);
    /// assert_eq!(parameter.with_lr_factor(0.5).lr_factor, 0.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_lr_factor(self, factor: f64) -> Self {
        Self { lr_factor: factor, ..self }
    }

    /// Freezes it through an epoch (from 0); `None` trains it from the first step.
    ///
    /// ```
    /// use pad_train::{Parameter, candle_core::{Device, Var}};
    /// let gate = Parameter::new("gate", Var::new(&[0_f32], &Device::Cpu)?).with_frozen_through(Some(5));
    /// assert!(!gate.trains_in(5) && gate.trains_in(6));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_frozen_through(self, epoch: Option<usize>) -> Self {
        Self { frozen_through: epoch, ..self }
    }

    /// Sets the weight decay to what [`weight_decay_for`] gives for its shape.
    ///
    /// ```
    /// use pad_train::{Parameter, candle_core::{DType, Device, Var}};
    /// let zeros = |shape: &[usize]| Var::zeros(shape, DType::F32, &Device::Cpu);
    /// assert_eq!(Parameter::new("weight", zeros(&[3, 4])?).with_weight_decay(0.05).weight_decay, 0.05);
    /// assert_eq!(Parameter::new("bias", zeros(&[3])?).with_weight_decay(0.05).weight_decay, 0.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_weight_decay(mut self, decay: f64) -> Self {
        self.weight_decay = weight_decay_for(self.var.shape(), decay);
        self
    }

    /// Returns whether updates move it in `epoch` (from 0).
    ///
    /// ```
    /// use pad_train::{Parameter, candle_core::{Device, Var}};
    /// assert!(Parameter::new("x", Var::new(&[0_f32], &Device::Cpu)?).trains_in(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trains_in(&self, epoch: usize) -> bool {
        self.trainable && self.frozen_through.is_none_or(|last| epoch > last)
    }
}

/// Returns `decay` for matrices and tensors of higher rank, 0 for vectors and scalars (biases,
/// norms): the rule of MAE.
///
/// ```
/// use pad_train::{candle_core::Shape, weight_decay_for};
/// assert_eq!(weight_decay_for(&Shape::from((3, 4)), 0.05), 0.05);
/// assert_eq!(weight_decay_for(&Shape::from(3), 0.05), 0.0);
/// ```
pub fn weight_decay_for(shape: &Shape, decay: f64) -> f64 {
    if shape.rank() >= 2 { decay } else { 0.0 }
}

/// Counts of a list of parameters, printable as a table at the start of a run.
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use pad_train::{Parameter, ParameterSummary};
/// # fn main() -> candle_core::Result<()> {
/// let zeros = |shape: &[usize]| Var::zeros(shape, DType::F32, &Device::Cpu);
/// let parameters = [
///     Parameter::new("weight", zeros(&[8, 4])?).with_weight_decay(0.05),
///     Parameter::new("bias", zeros(&[8])?).with_weight_decay(0.05),
/// ];
/// let summary = ParameterSummary::new(&parameters);
/// assert_eq!(summary.values(), 40);
/// assert_eq!(summary.groups.len(), 2);
/// println!("{summary}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParameterSummary {
    /// Groups, sorted by learning-rate factor, weight decay and thaw, ascending.
    pub groups: Vec<ParameterGroup>,
    /// Number of frozen values of the network, if known.
    pub frozen: Option<usize>,
}

/// Parameters with the same settings.
///
/// ```
/// use pad_train::{Parameter, ParameterSummary, candle_core::{DType, Device, Var}};
/// let weight = Var::zeros((3, 4), DType::F32, &Device::Cpu)?;
/// let summary = ParameterSummary::new(&[Parameter::new("weight", weight).with_lr_factor(0.1)]);
/// let group = &summary.groups[0];
/// assert_eq!((group.lr_factor, group.tensors, group.values), (0.1, 1, 12));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParameterGroup {
    /// See [`Parameter::lr_factor`].
    pub lr_factor: f64,
    /// See [`Parameter::weight_decay`].
    pub weight_decay: f64,
    /// See [`Parameter::frozen_through`].
    pub frozen_through: Option<usize>,
    /// See [`Parameter::trainable`].
    pub trainable: bool,
    /// Number of parameters.
    pub tensors: usize,
    /// Number of values in them.
    pub values: usize,
}

impl ParameterSummary {
    /// Counts `parameters`.
    ///
    /// ```
    /// assert_eq!(pad_train::ParameterSummary::new(&[]).groups.len(), 0);
    /// ```
    pub fn new(parameters: &[Parameter]) -> Self {
        let mut groups: Vec<ParameterGroup> = Vec::new();
        for parameter in parameters {
            let values = parameter.var.elem_count();
            let alike = groups.iter_mut().find(|group| {
                group.lr_factor == parameter.lr_factor
                    && group.weight_decay == parameter.weight_decay
                    && group.frozen_through == parameter.frozen_through
                    && group.trainable == parameter.trainable
            });
            match alike {
                Some(group) => {
                    group.tensors += 1;
                    group.values += values;
                }
                None => groups.push(ParameterGroup {
                    lr_factor: parameter.lr_factor,
                    weight_decay: parameter.weight_decay,
                    frozen_through: parameter.frozen_through,
                    trainable: parameter.trainable,
                    tensors: 1,
                    values,
                }),
            }
        }
        groups.sort_by(|a, b| {
            (a.lr_factor.total_cmp(&b.lr_factor))
                .then(a.weight_decay.total_cmp(&b.weight_decay))
                .then(b.trainable.cmp(&a.trainable))
                .then(a.frozen_through.cmp(&b.frozen_through))
        });
        Self { groups, frozen: None }
    }

    /// Sets the number of frozen values.
    ///
    /// ```
    /// let summary = pad_train::ParameterSummary::new(&[]).with_frozen(85_798_656);
    /// assert!(summary.to_string().contains("85,798,656"));
    /// ```
    #[must_use]
    pub fn with_frozen(self, values: usize) -> Self {
        Self { frozen: Some(values), ..self }
    }

    /// Returns the number of parameters in all groups.
    ///
    /// ```
    /// use pad_train::{Parameter, ParameterSummary, candle_core::{DType, Device, Var}};
    /// let weight = Var::zeros((3, 4), DType::F32, &Device::Cpu)?;
    /// assert_eq!(ParameterSummary::new(&[Parameter::new("weight", weight)]).tensors(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tensors(&self) -> usize {
        self.groups.iter().map(|group| group.tensors).sum()
    }

    /// Returns the number of values in all groups.
    ///
    /// ```
    /// use pad_train::{Parameter, ParameterSummary, candle_core::{DType, Device, Var}};
    /// let weight = Var::zeros((3, 4), DType::F32, &Device::Cpu)?;
    /// assert_eq!(ParameterSummary::new(&[Parameter::new("weight", weight)]).values(), 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn values(&self) -> usize {
        self.groups.iter().map(|group| group.values).sum()
    }
}

/// A table, one row a group, and a last row with the totals.
impl fmt::Display for ParameterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |cells: [&str; 5]| {
            writeln!(
                f,
                "{:>10}  {:>12}  {:>14}  {:>8}  {:>14}",
                cells[0], cells[1], cells[2], cells[3], cells[4]
            )
        };
        row(["lr factor", "weight decay", "frozen through", "tensors", "values"])?;
        for group in &self.groups {
            row([
                &format!("{:.5}", group.lr_factor),
                &group.weight_decay.to_string(),
                &match (group.trainable, group.frozen_through) {
                    (false, _) => "the end".into(),
                    (true, None) => "-".into(),
                    (true, Some(epoch)) => format!("epoch {epoch}"),
                },
                &group.tensors.to_string(),
                &thousands(group.values),
            ])?;
        }
        row(["trained", "", "", &self.tensors().to_string(), &thousands(self.values())])?;
        if let Some(frozen) = self.frozen {
            row(["frozen", "", "", "", &thousands(frozen)])?;
        }
        Ok(())
    }
}

/// `1226496` as `1,226,496`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn parameter(name: &str, shape: &[usize]) -> Parameter {
        Parameter::new(name, Var::zeros(shape, DType::F32, &Device::Cpu).unwrap())
            .with_weight_decay(0.05)
    }

    #[test]
    fn matrices_decay_and_vectors_do_not() {
        assert_eq!(parameter("weight", &[2, 3]).weight_decay, 0.05);
        assert_eq!(parameter("kernel", &[2, 3, 4, 4]).weight_decay, 0.05);
        assert_eq!(parameter("bias", &[3]).weight_decay, 0.0);
        assert_eq!(parameter("scale", &[]).weight_decay, 0.0);
    }

    #[test]
    fn thaws_after_the_named_epoch() {
        let gate = Parameter { frozen_through: Some(2), ..parameter("gate", &[1, 4]) };
        assert_eq!([0, 1, 2, 3].map(|epoch| gate.trains_in(epoch)), [false, false, false, true]);
        assert!(parameter("other", &[1]).trains_in(0));
    }

    #[test]
    fn table() {
        let gate = Parameter { frozen_through: Some(60), ..parameter("gate", &[1, 1000]) };
        let parameters = [parameter("a", &[1000, 1000]), gate, parameter("b", &[12])];
        let summary = ParameterSummary::new(&parameters).with_frozen(7);
        assert_eq!((summary.tensors(), summary.values()), (3, 1_001_012));
        let expected = " lr factor  weight decay  frozen through   tensors          values
   1.00000             0               -         1              12
   1.00000          0.05               -         1       1,000,000
   1.00000          0.05        epoch 60         1           1,000
   trained                                       3       1,001,012
    frozen                                                       7
";
        assert_eq!(summary.to_string(), expected);
    }
}
