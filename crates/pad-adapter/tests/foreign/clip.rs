//! CLIP's two towers as transformers and candle-transformers name them: images and text.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Conv2dConfig, Linear, Module, VarBuilder, conv2d_no_bias, linear, linear_no_bias};
use pad_adapter::{Adapter, AdapterConfig, params::Role, vit::layers::LayerNorm};
use pad_ops::Mode;

use crate::harness::{CPU, Foreign, Network, attend, images};

const DIM: usize = 8;
const LENGTH: usize = 6;
const WORDS: usize = 11;

struct Layer {
    norms: [LayerNorm; 2],
    attention: [Linear; 4],
    mlp: [Linear; 2],
    adapter: Option<Adapter>,
}

impl Layer {
    fn new(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        let square = |name: &str| linear(DIM, DIM, vb.pp("self_attn").pp(name));
        Ok(Self {
            norms: [
                LayerNorm::new(DIM, 1e-5, vb.pp("layer_norm1"))?,
                LayerNorm::new(DIM, 1e-5, vb.pp("layer_norm2"))?,
            ],
            attention: [
                square("q_proj")?,
                square("k_proj")?,
                square("v_proj")?,
                square("out_proj")?,
            ],
            mlp: [linear(DIM, 16, vb.pp("mlp.fc1"))?, linear(16, DIM, vb.pp("mlp.fc2"))?],
            adapter: adapter.map(|config| Adapter::new(DIM, config, vb)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, mask: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        let normed = self.norms[0].forward(x)?;
        let [q, k, v, out] = &self.attention;
        let (q, k, v) = (q.forward(&normed)?, k.forward(&normed)?, v.forward(&normed)?);
        let x = (x + out.forward(&attend([&q, &k, &v], 4, mask)?)?)?;
        let hidden = self.mlp[0].forward(&self.norms[1].forward(&x)?)?;
        let quick = (&hidden * candle_nn::ops::sigmoid(&(&hidden * 1.702)?)?)?;
        let mlp = self.mlp[1].forward(&quick)?;
        match &self.adapter {
            Some(adapter) => Ok(adapter.forward(&x, &mlp, mode)?),
            None => x + mlp,
        }
    }
}

fn layers(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Vec<Layer>> {
    (0..2).map(|i| Layer::new(adapter, vb.pp("encoder.layers").pp(i))).collect()
}

fn build_vision(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Network> {
    let tower = vb.pp("vision_model");
    let embeddings = tower.pp("embeddings");
    let stride = Conv2dConfig { stride: 4, ..Default::default() };
    let patches = conv2d_no_bias(3, DIM, 4, stride, embeddings.pp("patch_embedding"))?;
    let token = embeddings.get(DIM, "class_embedding")?;
    let positions = embeddings.get((5, DIM), "position_embedding.weight")?;
    let layers = layers(adapter, tower.clone())?;
    // The name has this spelling in the files.
    let norm = LayerNorm::new(DIM, 1e-5, tower.pp("pre_layrnorm"))?;
    let last = LayerNorm::new(DIM, 1e-5, tower.pp("post_layernorm"))?;
    let projection = linear_no_bias(DIM, 5, vb.pp("visual_projection"))?;
    Ok(Box::new(move |images, mode| {
        let x = patches.forward(images)?.flatten_from(2)?.transpose(1, 2)?;
        let token = token.broadcast_as((x.dim(0)?, 1, DIM))?;
        let x = Tensor::cat(&[&token, &x], 1)?.broadcast_add(&positions)?;
        let mut x = norm.forward(&x)?;
        for (i, layer) in layers.iter().enumerate() {
            x = layer.forward(&x, None, mode.layer(i as u32))?;
        }
        projection.forward(&last.forward(&x.narrow(1, 0, 1)?.squeeze(1)?)?)
    }))
}

fn build_text(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Network> {
    let tower = vb.pp("text_model");
    let words = tower.get((WORDS, DIM), "embeddings.token_embedding.weight")?;
    let positions = tower.get((LENGTH, DIM), "embeddings.position_embedding.weight")?;
    let layers = layers(adapter, tower.clone())?;
    let norm = LayerNorm::new(DIM, 1e-5, tower.pp("final_layer_norm"))?;
    let projection = linear_no_bias(DIM, 5, vb.pp("text_projection"))?;
    let hidden = (0..LENGTH * LENGTH).map(|at| match at % LENGTH > at / LENGTH {
        true => -1e9_f64, // a later word
        false => 0.0,
    });
    let mask = Tensor::from_vec(hidden.collect(), (LENGTH, LENGTH), &CPU)?;
    Ok(Box::new(move |ids, mode| {
        let (b, n) = ids.dims2()?;
        let x = words.index_select(&ids.flatten_all()?, 0)?.reshape((b, n, DIM))?;
        let mut x = x.broadcast_add(&positions)?;
        for (i, layer) in layers.iter().enumerate() {
            x = layer.forward(&x, Some(&mask), mode.layer(i as u32))?;
        }
        projection.forward(&norm.forward(&x)?.narrow(1, n - 1, 1)?.squeeze(1)?)
    }))
}

fn sentences() -> Tensor {
    let ids = (0..2 * LENGTH as u32).map(|i| (i * i + 3 * i) % WORDS as u32).collect();
    Tensor::from_vec(ids, (2, LENGTH), &CPU).unwrap()
}

fn role_of(name: &str) -> Role {
    match name.split('.').collect::<Vec<_>>()[..] {
        [_, "encoder", "layers", i, ..] => i.parse().map_or(Role::Other, Role::Block),
        [_, "embeddings" | "pre_layrnorm", ..] => Role::PatchEmbed,
        [_, "post_layernorm" | "final_layer_norm", ..] => Role::FinalNorm,
        ["visual_projection" | "text_projection", ..] => Role::Head,
        _ => Role::Other,
    }
}

pub(crate) const VISION: Foreign = Foreign {
    name: "clip vision",
    build: build_vision,
    input: images,
    role_of,
    places: &[("vision_model.encoder.layers.0", DIM), ("vision_model.encoder.layers.1", DIM)],
};

const TEXT: Foreign = Foreign {
    name: "clip text",
    build: build_text,
    input: sentences,
    role_of,
    places: &[("text_model.encoder.layers.0", DIM), ("text_model.encoder.layers.1", DIM)],
};

#[test]
fn adapters_in_clip_s_image_tower() {
    VISION.check();
}

#[test]
fn adapters_in_clip_s_text_tower() {
    TEXT.check();
    assert_eq!(sentences().dtype(), DType::U32);
}

/// A file with both towers is the backbone of an adapter that was trained on one of them.
#[test]
fn what_the_model_does_not_have_does_not_count() {
    use pad_adapter::{
        checkpoint::{AdapterFile, save_adapter},
        params::ParamStore,
    };
    let mut both = VISION.weights(1);
    both.merge(TEXT.weights(1));
    let store = ParamStore::from_checkpoint(both.clone(), &CPU, pad_ops::rng::Key::new(1))
        .with_roles(role_of)
        .with_fresh(Role::is_adapter)
        // Names, not roles, tell the other tower and a buffer that the model does not build.
        .with_optional(|name| name.starts_with("text_") || name.ends_with("position_ids"));
    let config = crate::harness::ADAPTER;
    let built = store
        .build(|vb| {
            Ok::<_, pad_adapter::Error>((VISION.build)(Some(&config), vb.to_dtype(DType::F64))?)
        })
        .unwrap();
    drop(built);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    save_adapter(&path, &store, config, &Default::default()).unwrap();
    let file = AdapterFile::open(&path).unwrap();
    file.check(&both).unwrap();
    file.check(&VISION.weights(1)).unwrap();
    let text = file.check(&TEXT.weights(1)).unwrap_err().to_string();
    assert!(
        text.contains(" without `vision_model.embeddings.class_embedding` and 38 other tensors"),
        "{text}"
    );
}
