//! Gradients that candle's own layers lose in silence: the networks of its threads 3011 (linear,
//! layer norm, linear), 2977 (norms whose fast path depends on contiguity), 3752 (blocks of a
//! language model in which adapters train) and 3569 (attention weights by softmax), with numbers of
//! our own. Every gradient equals finite differences.

use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use pad_ops::{
    AttentionOptions, attention_with,
    nn::{LayerNorm, Linear, layer_norm, linear, linear_no_bias},
    softmax,
};
use pad_testkit::{Precision, close, gradcheck, numbers};

const F32: DType = DType::F32;
const F64: DType = DType::F64;

/// Sets every parameter to numbers that differ, so that no gradient vanishes by symmetry.
fn filled(vars: &VarMap) {
    let data = vars.data().lock().unwrap();
    let mut names: Vec<&String> = data.keys().collect();
    names.sort();
    for (salt, name) in names.into_iter().enumerate() {
        let var = &data[name];
        var.set(&(numbers(var.dims(), var.dtype(), salt as u64 + 1) * 0.5).unwrap()).unwrap();
    }
}

/// Directional derivatives of a loss in every parameter against central differences.
fn check(vars: &VarMap, loss: impl Fn() -> Result<Tensor>, expected: usize) {
    let grads = loss().unwrap().backward().unwrap();
    let data = vars.data().lock().unwrap();
    assert_eq!(data.len(), expected);
    for (name, var) in data.iter() {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name} gets no gradient"));
        let start = var.as_tensor().copy().unwrap();
        let u = numbers(var.dims(), var.dtype(), 99);
        let at = |step: f64| {
            var.set(&(&start + (&u * step).unwrap()).unwrap()).unwrap();
            loss().unwrap().to_scalar::<f64>().unwrap()
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        var.set(&start).unwrap();
        let own = (grad * &u).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let length = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        assert!(length > 1e-6, "{name}: a gradient of nothing");
        assert!((own - numeric).abs() < 1e-6 * length.max(1.0), "{name}: {own} but {numeric}");
    }
}

#[test]
fn linear_norm_linear() {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, F64, &Device::Cpu);
    let first = linear(6, 8, vb.pp("linear1")).unwrap();
    let norm = layer_norm(8, 1e-5, vb.pp("layer_norm")).unwrap();
    let second = linear(8, 3, vb.pp("linear2")).unwrap();
    filled(&vars);
    let (x, target) = (numbers(&[4, 6], F64, 50), numbers(&[4, 3], F64, 51));
    let loss = || {
        let hidden = Module::forward(&norm, &Module::forward(&first, &x)?)?;
        (Module::forward(&second, &hidden)? - &target)?.sqr()?.mean_all()
    };
    check(&vars, loss, 6);
}

/// One norm on a contiguous input and on a view of the same numbers: one result, one gradient.
#[test]
fn contiguity_makes_no_difference() {
    for dtype in [F32, F64] {
        let one = Tensor::ones(5, dtype, &Device::Cpu).unwrap();
        let norm = LayerNorm::new(one.clone(), one, 1e-5);
        let plain = numbers(&[3, 4, 5], dtype, 1);
        let view = plain.transpose(0, 1).unwrap().contiguous().unwrap();
        let tolerance = if dtype == F64 { Precision::F64 } else { Precision::F32 };
        gradcheck("contiguous", std::slice::from_ref(&plain), tolerance, |t| {
            Module::forward(&norm, &t[0])
        });
        gradcheck("a view", std::slice::from_ref(&view), tolerance, |t| {
            Module::forward(&norm, &t[0].transpose(0, 1)?)
        });
        let y = norm.forward(&plain).unwrap();
        close("one result", &norm.forward(&view.transpose(0, 1).unwrap()).unwrap(), &y, 0.0);
    }
}

struct Block {
    norms: [LayerNorm; 2],
    qkv: Linear,
    /// An adapter of low rank beside `qkv`.
    low: [Linear; 2],
    proj: Linear,
    mlp: [Linear; 2],
}

impl Block {
    const DIM: usize = 8;
    const HEADS: usize = 2;

    fn new(vb: VarBuilder) -> pad_ops::Result<Self> {
        let d = Self::DIM;
        Ok(Self {
            norms: [layer_norm(d, 1e-5, vb.pp("ln_1"))?, layer_norm(d, 1e-5, vb.pp("ln_2"))?],
            qkv: linear(d, 3 * d, vb.pp("c_attn"))?,
            low: [
                linear_no_bias(d, 2, vb.pp("lora_a"))?,
                linear_no_bias(2, 3 * d, vb.pp("lora_b"))?,
            ],
            proj: linear(d, d, vb.pp("c_proj"))?,
            mlp: [linear(d, 12, vb.pp("c_fc"))?, linear(12, d, vb.pp("mlp_proj"))?],
        })
    }

    fn forward(&self, x: &Tensor) -> pad_ops::Result<Tensor> {
        let (b, n, d) = x.dims3()?;
        let normed = self.norms[0].forward(x)?;
        let low = self.low[1].forward(&self.low[0].forward(&normed)?)?;
        let qkv = (self.qkv.forward(&normed)? + low)?;
        let heads = |at: usize| -> Result<Tensor> {
            let part = qkv.narrow(D::Minus1, at * d, d)?.contiguous()?;
            part.reshape((b, n, Self::HEADS, d / Self::HEADS))?.transpose(1, 2)
        };
        let causal =
            AttentionOptions { causal: true, ..AttentionOptions::of_head_dim(d / Self::HEADS) };
        let seen = attention_with(&heads(0)?, &heads(1)?, &heads(2)?, None, &causal)?;
        let seen = seen.transpose(1, 2)?.contiguous()?.reshape((b, n, d))?;
        let x = (x + self.proj.forward(&seen)?)?;
        let hidden = pad_ops::gelu(&self.mlp[0].forward(&self.norms[1].forward(&x)?)?)?;
        Ok((&x + self.mlp[1].forward(&hidden)?)?)
    }
}

#[test]
fn a_language_model_s_blocks() {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, F64, &Device::Cpu);
    let blocks = [Block::new(vb.pp("h.0")).unwrap(), Block::new(vb.pp("h.1")).unwrap()];
    let last = layer_norm(Block::DIM, 1e-5, vb.pp("ln_f")).unwrap();
    filled(&vars);
    let (x, target) = (numbers(&[2, 5, 8], F64, 50), numbers(&[2, 5, 8], F64, 51));
    let loss = || {
        let mut x = x.clone();
        for block in &blocks {
            x = block.forward(&x)?;
        }
        (last.forward(&x)? - &target)?.sqr()?.mean_all()
    };
    check(&vars, loss, 2 * 14 + 2);
}

/// The sum of squares of a softmax: its plain sum is a constant and would hide a lost gradient.
#[test]
fn attention_weights() {
    let square = |t: &[Tensor]| softmax(&t[0])?.sqr();
    gradcheck("softmax", &[numbers(&[3, 7], F64, 1)], Precision::F64, square);
    gradcheck("softmax", &[numbers(&[3, 7], F32, 1)], Precision::F32, square);
    // One row by hand: y = (1/4, 3/4), so d(y . y) / dx = 2 y (y - y . y).
    let x = candle_core::Var::new(&[[0_f64, 3_f64.ln()]], &Device::Cpu).unwrap();
    let y = softmax(&x).unwrap();
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let want = Tensor::new(&[[-0.1875_f64, 0.1875]], &Device::Cpu).unwrap();
    close("by hand", grads.get(&x).unwrap(), &want, 1e-12);
}
