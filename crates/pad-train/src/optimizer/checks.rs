//! What every optimiser checks before it moves anything.

use std::collections::BTreeMap;

use candle_core::DType;

use crate::{Error, Gradients, Parameter, Result};

/// Checks names, variables, dtypes and numbers of parameters.
pub(crate) fn check_parameters(parameters: &[Parameter]) -> Result<()> {
    let mut names = BTreeMap::new();
    let mut variables = BTreeMap::new();
    let mut faults = Vec::new();
    for parameter in parameters {
        let name = parameter.name.as_str();
        let numbers =
            [("lr_factor", parameter.lr_factor), ("weight_decay", parameter.weight_decay)];
        for (what, number) in numbers {
            if !(number.is_finite() && number >= 0.0) {
                faults.push(format!(
                    "`{what}` of `{name}` is {number}, expected a finite number >= 0"
                ));
            }
        }
        let id = format!("{:?}", parameter.var.id());
        let twice = names.insert(name, name).or(variables.insert(id, name));
        if let Some(first) = twice {
            return Err(Error::DuplicateParameter { name: name.into(), first: first.into() });
        }
        let dtype = parameter.var.dtype();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Error::ParameterDType { name: name.into(), found: dtype });
        }
    }
    Error::settings(faults)
}

/// Checks a learning rate.
pub(crate) fn check_lr(lr: f64) -> Result<()> {
    if lr.is_finite() && lr >= 0.0 { Ok(()) } else { Err(Error::LearningRate { found: lr }) }
}

/// Checks number and shapes of the gradients that will be used.
pub(crate) fn check_shapes(
    parameters: &[Parameter],
    gradients: &Gradients,
    epoch: usize,
) -> Result<()> {
    if gradients.len() != parameters.len() {
        return Err(Error::GradientCount { expected: parameters.len(), found: gradients.len() });
    }
    for (parameter, gradient) in parameters.iter().zip(gradients.raw()) {
        let Some(gradient) = gradient else { continue };
        if parameter.trains_in(epoch) && gradient.shape() != parameter.var.shape() {
            return Err(Error::GradientShape {
                name: parameter.name.clone(),
                expected: parameter.var.shape().clone(),
                found: gradient.shape().clone(),
            });
        }
    }
    Ok(())
}

/// The norm over gradients that will be used, after checking each of them.
pub(crate) fn check_gradients(
    parameters: &[Parameter],
    gradients: &Gradients,
    epoch: usize,
) -> Result<f64> {
    check_shapes(parameters, gradients, epoch)?;
    let squares = gradients.squares()?;
    let mut total = 0.0;
    for ((parameter, gradient), &square) in parameters.iter().zip(gradients.raw()).zip(squares) {
        if gradient.is_none() || !parameter.trains_in(epoch) {
            continue;
        }
        check_finite(parameter, gradients.factor(), square)?;
        total += square;
    }
    Ok(gradients.factor().abs() * total.sqrt())
}

/// Checks the norm of one gradient, `square` without the factor.
pub(crate) fn check_finite(parameter: &Parameter, factor: f64, square: f64) -> Result<()> {
    let norm = factor.abs() * square.sqrt();
    if norm.is_finite() {
        return Ok(());
    }
    Err(Error::NonFiniteGradient { name: parameter.name.clone(), norm })
}
