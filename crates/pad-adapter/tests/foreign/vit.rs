//! A ViT as transformers and candle-transformers name it.

use candle_core::{Result, Tensor};
use candle_nn::{Conv2dConfig, Linear, Module, VarBuilder, conv2d, linear};
use pad_adapter::{Adapter, AdapterConfig, params::Role, vit::layers::LayerNorm};

use crate::harness::{Foreign, Network, attend, images};

const DIM: usize = 8;

struct Layer {
    norms: [LayerNorm; 2],
    qkv: [Linear; 3],
    out: Linear,
    mlp: [Linear; 2],
    adapter: Option<Adapter>, // glue 1
}

impl Layer {
    fn new(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        let square = |name: &str| linear(DIM, DIM, vb.pp(name));
        let norm = |name: &str| LayerNorm::new(DIM, 1e-6, vb.pp(name));
        Ok(Self {
            norms: [norm("layernorm_before")?, norm("layernorm_after")?],
            qkv: [
                square("attention.attention.query")?,
                square("attention.attention.key")?,
                square("attention.attention.value")?,
            ],
            out: square("attention.output.dense")?,
            mlp: [
                linear(DIM, 2 * DIM, vb.pp("intermediate.dense"))?,
                linear(2 * DIM, DIM, vb.pp("output.dense"))?,
            ],
            adapter: adapter.map(|config| Adapter::new(DIM, config, vb)).transpose()?, // glue 2
        })
    }

    fn forward(&self, x: &Tensor, mode: pad_ops::Mode) -> Result<Tensor> {
        let normed = self.norms[0].forward(x)?;
        let [q, k, v] = &self.qkv;
        let (q, k, v) = (q.forward(&normed)?, k.forward(&normed)?, v.forward(&normed)?);
        let x = (x + self.out.forward(&attend([&q, &k, &v], 2, None)?)?)?;
        let hidden = self.mlp[0].forward(&self.norms[1].forward(&x)?)?.gelu_erf()?;
        let mlp = self.mlp[1].forward(&hidden)?;
        match &self.adapter {
            Some(adapter) => Ok(adapter.forward(&x, &mlp, mode)?), // glue 3
            None => x + mlp,
        }
    }
}

fn build(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Network> {
    let stride = Conv2dConfig { stride: 4, ..Default::default() };
    let embeddings = vb.pp("vit.embeddings");
    let patches = conv2d(3, DIM, 4, stride, embeddings.pp("patch_embeddings.projection"))?;
    let token = embeddings.get((1, 1, DIM), "cls_token")?;
    let positions = embeddings.get((1, 5, DIM), "position_embeddings")?;
    let layers = (0..2)
        .map(|i| Layer::new(adapter, vb.pp("vit.encoder.layer").pp(i)))
        .collect::<Result<Vec<_>>>()?;
    let norm = LayerNorm::new(DIM, 1e-6, vb.pp("vit.layernorm"))?;
    let classifier = linear(DIM, 3, vb.pp("classifier"))?;
    Ok(Box::new(move |images, mode| {
        let x = patches.forward(images)?.flatten_from(2)?.transpose(1, 2)?;
        let token = token.broadcast_as((x.dim(0)?, 1, DIM))?;
        let mut x = Tensor::cat(&[&token, &x], 1)?.broadcast_add(&positions)?;
        for (i, layer) in layers.iter().enumerate() {
            x = layer.forward(&x, mode.layer(i as u32))?;
        }
        classifier.forward(&norm.forward(&x)?.narrow(1, 0, 1)?.squeeze(1)?)
    }))
}

fn role_of(name: &str) -> Role {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["vit", "encoder", "layer", i, ..] => i.parse().map_or(Role::Other, Role::Block),
        ["vit", "embeddings", ..] => Role::PatchEmbed,
        ["vit", "layernorm", ..] => Role::FinalNorm,
        ["classifier", ..] => Role::Head,
        _ => Role::Other,
    }
}

pub(crate) const VIT: Foreign = Foreign {
    name: "vit",
    build,
    input: images,
    role_of,
    places: &[("vit.encoder.layer.0", DIM), ("vit.encoder.layer.1", DIM)],
};

#[test]
fn adapters_in_a_vit() {
    VIT.check();
}
