//! Operators of many operands over candle's custom operations, which take at most three.
//!
//! The first operand `x` and a *token* are the operands of the operator proper. The token is the
//! end of a chain of links, one for each parameter that tracks something; a link's only content is
//! that its parameter has a gradient. candle visits the operator before its token, and the token's
//! links after it: the operator's backward leaves each parameter's gradient for its link, which
//! returns it. Nothing is copied or concatenated.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, TensorId,
    backprop::GradStore, bail,
};

use super::slices;

/// Gradients to `x` and to the parameters, in their order; those not needed are absent.
pub(crate) struct Gradients {
    pub(crate) d_x: Option<Vec<f32>>,
    pub(crate) d_params: Vec<Option<Vec<f32>>>,
}

/// What an operator does with the gradient that arrives.
pub(crate) trait Backward: Send + Sync + 'static {
    /// `d_y` has the shape of the result; `wanted`: which parameters track a gradient; `d_x`:
    /// whether `x` does.
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> Result<Gradients>;
}

/// Whether any operand tracks a gradient.
pub(crate) fn tracks(x: &Tensor, params: &[&Tensor]) -> bool {
    x.track_op() || params.iter().any(|param| param.track_op())
}

/// `y` as the result of an operator on `x` and `params`.
pub(crate) fn apply(
    name: &'static str,
    x: &Tensor,
    params: &[&Tensor],
    y: Vec<f32>,
    shape: Shape,
    backward: impl Backward,
) -> Result<Tensor> {
    if !tracks(x, params) {
        return slices::tensor(y, shape);
    }
    let gradients = Arc::new(Mutex::new(Vec::new()));
    let mut token: Option<Tensor> = None;
    for (index, param) in params.iter().enumerate().filter(|(_, param)| param.track_op()) {
        let link = Link { index, gradients: gradients.clone() };
        token = Some(match token {
            None => param.apply_op1(link)?,
            Some(token) => token.apply_op2(param, link)?,
        });
    }
    let wanted = params.iter().map(|param| param.track_op()).collect();
    let y = Mutex::new(Some((y, shape)));
    let operator = Operator { name, y, wanted, backward, gradients };
    match token {
        None => x.apply_op1(operator),
        Some(token) => x.apply_op2(&token, operator),
    }
}

type Shared = Arc<Mutex<Vec<Option<Vec<f32>>>>>;

struct Operator<B> {
    name: &'static str,
    y: Mutex<Option<(Vec<f32>, Shape)>>,
    wanted: Vec<bool>,
    backward: B,
    gradients: Shared,
}

impl<B: Backward> Operator<B> {
    /// The result was computed before: candle only learns of it.
    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        match self.y.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((y, shape)) => Ok(slices::output(y, shape)),
            None => bail!("{}: applied twice", self.name),
        }
    }

    fn run(&self, x: &Tensor, d_y: &Tensor) -> Result<Option<Tensor>> {
        let d_y = d_y.contiguous()?;
        let d_y = slices::borrow(&d_y)?;
        let Gradients { d_x, d_params } =
            self.backward.backward(&d_y, x.track_op(), &self.wanted)?;
        *self.gradients.lock().unwrap_or_else(PoisonError::into_inner) = d_params;
        d_x.map(|d_x| slices::tensor(d_x, x.shape())).transpose()
    }
}

impl<B: Backward> CustomOp1 for Operator<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _x: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> Result<Option<Tensor>> {
        self.run(x, d_y)
    }
}

impl<B: Backward> CustomOp2 for Operator<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _x: &CpuStorage,
        _x_layout: &Layout,
        _token: &CpuStorage,
        _token_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        x: &Tensor,
        token: &Tensor,
        _y: &Tensor,
        d_y: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let d_x = self.run(x, d_y)?;
        Ok((d_x, Some(token.zeros_like()?)))
    }
}

thread_local! {
    /// Gradients of variables during [`backward`], so that they need not pass through candle's
    /// sums.
    static ASIDE: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// Runs `loss.backward()`: the same gradients in less time and memory.
///
/// candle adds every gradient onto fresh zeros: for the weights of a network that is three passes
/// over as much memory as they have, each step. Here the gradients of variables that come from
/// [`attention_branch`](crate::attention_branch) and [`mlp_branch`](crate::mlp_branch) go to the
/// store directly.
///
/// # Errors
/// As candle's `backward`.
///
/// ```
/// use candle_core::{Device, Var};
/// let x = Var::new(&[3_f32], &Device::Cpu)?;
/// let gradients = pad_ops::backward(&x.sqr()?.sum_all()?)?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>()?, [6.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn backward(loss: &Tensor) -> crate::Result<GradStore> {
    ASIDE.with_borrow_mut(|aside| *aside = Some(HashMap::new()));
    let store = loss.backward();
    let aside = ASIDE.with_borrow_mut(Option::take).unwrap_or_default();
    if store.is_err() {
        crate::gpu::backward_failed();
    }
    let mut store = store?;
    for (id, gradient) in aside {
        // A variable may have been used by other operators too.
        let gradient = match store.get_id(id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        store.insert_id(id, gradient);
    }
    Ok(store)
}

/// Stores a variable's gradient for [`backward`] if it collects them; else returns it.
pub(crate) fn put_aside(param: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    if !param.is_variable() {
        return Ok(Some(gradient));
    }
    ASIDE.with_borrow_mut(|aside| {
        let Some(aside) = aside else { return Ok(Some(gradient)) };
        let gradient = match aside.get(&param.id()) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        aside.insert(param.id(), gradient);
        Ok(None)
    })
}

/// Returns the gradient of one parameter.
struct Link {
    index: usize,
    gradients: Shared,
}

impl Link {
    fn token() -> (CpuStorage, Shape) {
        slices::output(vec![0.0], 1)
    }

    fn gradient(&self, param: &Tensor) -> Result<Option<Tensor>> {
        let mut gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
        let gradient = gradients.get_mut(self.index).and_then(Option::take);
        match gradient {
            Some(gradient) => put_aside(param, slices::tensor(gradient, param.shape())?),
            None => Ok(None),
        }
    }
}

impl CustomOp1 for Link {
    fn name(&self) -> &'static str {
        "parameter"
    }

    fn cpu_fwd(&self, _param: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(Self::token())
    }

    fn bwd(&self, param: &Tensor, _token: &Tensor, _d: &Tensor) -> Result<Option<Tensor>> {
        self.gradient(param)
    }
}

impl CustomOp2 for Link {
    fn name(&self) -> &'static str {
        "parameter"
    }

    fn cpu_fwd(
        &self,
        _before: &CpuStorage,
        _before_layout: &Layout,
        _param: &CpuStorage,
        _param_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(Self::token())
    }

    fn bwd(
        &self,
        _before: &Tensor,
        param: &Tensor,
        _token: &Tensor,
        _d: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let zero = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
        Ok((Some(zero), self.gradient(param)?))
    }
}
