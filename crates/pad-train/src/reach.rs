//! Which parameters the loss reaches.

use crate::{Error, Gradients, Parameter, Result, error::first_of};

/// What a run does about parameters that train and that the loss does not reach: usually a mistake,
/// such as an operation without a backward that cuts the graph.
///
/// ```
/// use pad_train::UnusedParameters;
/// assert_eq!(UnusedParameters::default(), UnusedParameters::Warn);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnusedParameters {
    /// Warns once of each, at the first update in which it trains without a gradient.
    #[default]
    Warn,
    /// Ends the run with [`Error::UnusedParameters`] before the update.
    Refuse,
    /// Says nothing: a model may use some of its parameters in some updates alone.
    Allow,
}

/// What is known of each parameter.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    trained: bool,
    reached: bool,
    warned: bool,
}

/// Which parameters got a gradient in this session of a run.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub(crate) policy: UnusedParameters,
    known: Vec<Known>,
}

impl Reach {
    /// Takes note of the gradients of an update in which the loss had something to reach.
    ///
    /// # Errors
    /// [`Error::UnusedParameters`] if the policy refuses.
    pub(crate) fn note(
        &mut self,
        parameters: &[Parameter],
        gradients: &Gradients,
        (step, epoch): (usize, usize),
    ) -> Result<()> {
        self.known.resize(parameters.len(), Known::default());
        let mut without = Vec::new();
        let mut trained = 0;
        for ((parameter, gradient), known) in
            parameters.iter().zip(gradients.raw()).zip(&mut self.known)
        {
            if !parameter.trains_in(epoch) {
                continue;
            }
            trained += 1;
            known.trained = true;
            known.reached |= gradient.is_some();
            let counts = match self.policy {
                UnusedParameters::Refuse => gradient.is_none(),
                UnusedParameters::Warn => !known.reached && !known.warned,
                UnusedParameters::Allow => false,
            };
            if counts {
                known.warned = true;
                without.push(parameter.name.clone());
            }
        }
        if without.is_empty() {
            return Ok(());
        }
        if self.policy == UnusedParameters::Refuse {
            return Err(Error::UnusedParameters { step, trained, names: without });
        }
        tracing::warn!(
            "the loss does not reach {} of {trained} parameters that train: {}",
            without.len(),
            first_of(&without)
        );
        Ok(())
    }

    /// Names of the parameters that trained and never got a gradient.
    pub(crate) fn unused(&self, parameters: &[Parameter]) -> Vec<String> {
        let known = parameters.iter().zip(&self.known);
        let unused = known.filter(|(_, known)| known.trained && !known.reached);
        unused.map(|(parameter, _)| parameter.name.clone()).collect()
    }
}
