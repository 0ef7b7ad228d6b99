//! An adapter in a vision transformer of one's own, and one step of training.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, linear};
use pad::{
    Adapter, AdapterConfig, Mode,
    params::{ParamStore, Role},
    rng::Key,
};

const DIM: usize = 48;
const HEADS: usize = 3;

struct Block {
    norms: [(Tensor, Tensor); 2],
    qkv: Linear,
    proj: Linear,
    mlp: [Linear; 2],
    adapter: Adapter,
}

impl Block {
    fn new(vb: VarBuilder) -> Result<Self> {
        let norm = |name: &str| -> Result<_> {
            let one = candle_nn::Init::Const(1.0);
            let vb = vb.pp(name);
            Ok((vb.get_with_hints(DIM, "weight", one)?, vb.get(DIM, "bias")?))
        };
        Ok(Self {
            norms: [norm("norm1")?, norm("norm2")?],
            qkv: linear(DIM, 3 * DIM, vb.pp("qkv"))?,
            proj: linear(DIM, DIM, vb.pp("proj"))?,
            mlp: [linear(DIM, 4 * DIM, vb.pp("fc1"))?, linear(4 * DIM, DIM, vb.pp("fc2"))?],
            adapter: Adapter::new(DIM, &AdapterConfig { bottleneck: 8, ..Default::default() }, vb)?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let norm = |x: &Tensor, i: usize| {
            pad::ops::layer_norm(x, &self.norms[i].0, &self.norms[i].1, 1e-6)
        };
        let attention = pad::ops::attention_packed(&self.qkv.forward(&norm(x, 0)?)?, HEADS)?;
        let x = (x + self.proj.forward(&attention)?)?;
        let mlp = self.mlp[1].forward(&self.mlp[0].forward(&norm(&x, 1)?)?.gelu_erf()?)?;
        Ok(self.adapter.forward(&x, &mlp, mode)?)
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(Role::is_adapter);
    let blocks = store.build(|vb| -> Result<Vec<Block>> {
        (0..2).map(|i| Block::new(vb.pp("block").pp(i))).collect()
    })?;
    println!("{}", store.summary());

    let tokens = Tensor::randn(0_f32, 1.0, (4, 16, DIM), &Device::Cpu)?;
    let wanted = Tensor::zeros((4, 16, DIM), DType::F32, &Device::Cpu)?;
    let loss = |mode: Mode| -> Result<Tensor> {
        let mut x = tokens.clone();
        for (i, block) in blocks.iter().enumerate() {
            x = block.forward(&x, mode.layer(i as u32))?;
        }
        candle_nn::loss::mse(&x, &wanted)
    };
    let before = loss(Mode::Eval)?.to_scalar::<f32>()?;
    let vars = store.planned().into_iter().map(|p| p.var).collect();
    let mut optimizer = AdamW::new(vars, ParamsAdamW { lr: 1e-2, ..Default::default() })?;
    optimizer.backward_step(&loss(Mode::Train(Key::new(1)))?)?;
    let after = loss(Mode::Eval)?.to_scalar::<f32>()?;
    println!("loss {before:.4} before the step, {after:.4} after it");
    if after >= before {
        return Err("a step of the adapters did not lower the loss".into());
    }
    Ok(())
}
