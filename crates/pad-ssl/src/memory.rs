//! What a training step will take, before anything is built.

use pad_adapter::{
    params::Role,
    vit::{Activation, ViTConfig},
};
use pad_ops::{Keep, MatmulPrecision};

use crate::{MaeConfig, Mask, Paradigm, Result};

/// Bytes of a value of weights, gradients, moments and the residual stream.
const F32: usize = size_of::<f32>();

/// Main memory of one training step of a [`Mae`](crate::Mae) at its fullest, in bytes, on a CPU. The program itself, the data and what
/// the allocator keeps for later come on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepMemory {
    /// All weights, and in bf16 the frozen ones' copies in the order in which the forward reads them.
    pub weights: usize,
    /// Gradients and both moments of the weights that train.
    pub training: usize,
    /// What the forward keeps for the backward.
    pub kept: usize,
    /// The largest set of buffers that one operator of the backward works with.
    pub working: usize,
}

impl StepMemory {
    /// All of it.
    pub fn total(self) -> usize {
        self.weights + self.training + self.kept + self.working
    }
}

/// How a block's passes go through memory.
#[derive(Clone, Copy)]
struct Passes {
    keep: Keep,
    /// Bytes of a value of what linear layers pass to each other.
    value: usize,
}

impl MaeConfig {
    /// What a step on `batch` images will take.
    ///
    /// # Errors
    /// A configuration that does not hold together.
    pub fn step_memory(
        &self,
        paradigm: Paradigm,
        batch: usize,
        keep: Keep,
        precision: MatmulPrecision,
    ) -> Result<StepMemory> {
        self.validate()?;
        let encoder = ViTConfig {
            adapter: self.encoder.adapter.filter(|_| paradigm.has_adapters()),
            ..self.encoder
        };
        let decoder = self.decoder();
        let value = if precision == MatmulPrecision::Bf16 { 2 } else { F32 };
        let passes = Passes { keep, value };
        let (mut weights, mut trained) = (0, 0);
        for (role, values) in self.parameters(&encoder, &decoder)? {
            weights += F32 * values;
            trained += if paradigm.trains(role) { values } else { 0 };
        }

        let patches = self.encoder.grid()?.len();
        let seen = Mask::kept(patches, self.mask_ratio);
        let (tokens, all) = (batch * (1 + seen), batch * (1 + patches));
        let predicted = batch * (patches - seen);
        let whole = paradigm.trains(Role::Block(0));
        // Under PAD nothing flows below the first adapter, which is beside the first block's MLP.
        let tracked = whole || paradigm.has_adapters();
        if precision == MatmulPrecision::Bf16 && !whole {
            let (attention, mlp) = products(&encoder);
            weights += value * encoder.depth * (attention + mlp);
        }
        let mut kept = 0;
        if tracked {
            let attention = passes.attention(&encoder, tokens, whole);
            let mlp = passes.mlp(&encoder, tokens);
            kept += encoder.depth * (attention + mlp) - if whole { 0 } else { attention };
        }
        let attention = passes.attention(&decoder, all, true);
        let mlp = passes.mlp(&decoder, all);
        if decoder.depth > 0 {
            kept += (decoder.depth - 1) * (attention + mlp) + attention;
            kept += passes.mlp(&decoder, predicted);
        }
        // Tokens put back in order, with positions; the last tokens before and after the norm; prediction, target and
        // the images themselves.
        let stream = 3 * all * decoder.embed_dim + 2 * predicted * decoder.embed_dim;
        let pixels = self.encoder.patch_values();
        let compared = 2 * predicted * pixels + 2 * batch * patches * pixels;
        kept += F32 * (stream + compared + 2 * tokens * encoder.embed_dim);

        let largest = |config: &ViTConfig, rows: usize| {
            let (dim, hidden) = (config.embed_dim, widest(config));
            // GELU's result and the hidden layer's gradient, or that of queries, keys and values; the gradients of
            // the stream on both sides; operands packed for the product.
            value * rows * 2 * hidden.max(3 * dim) + F32 * rows * 4 * dim
        };
        let working =
            largest(&decoder, all).max(if tracked { largest(&encoder, tokens) } else { 0 });
        Ok(StepMemory { weights, training: 3 * F32 * trained, kept, working })
    }

    /// Values of every group of parameters.
    fn parameters(&self, encoder: &ViTConfig, decoder: &ViTConfig) -> Result<Vec<(Role, usize)>> {
        let (dim, inner) = (encoder.embed_dim, decoder.embed_dim);
        let pixels = encoder.patch_values();
        let norm = |on: bool| if on { 2 * dim } else { 0 };
        let patch_bias = if encoder.patch_bias { dim } else { 0 };
        let mut parameters = vec![
            (Role::PatchEmbed, pixels * dim + patch_bias + norm(encoder.pre_norm)),
            (Role::ClassToken, dim),
            (Role::PosTable, (1 + encoder.pos_table_grid()?.len()) * dim),
            (Role::FinalNorm, norm(true)),
            (Role::MaskToken, inner),
            (Role::DecoderEmbed, (dim + 1) * inner),
            (Role::DecoderPosTable, (1 + encoder.grid()?.len()) * inner),
            (Role::Decoder, decoder.depth * block(decoder) + 2 * inner + (inner + 1) * pixels),
        ];
        for i in 0..encoder.depth {
            parameters.push((Role::Block(i), block(encoder)));
            let Some(adapter) = &encoder.adapter else { continue };
            let gate = adapter.scale.gate_width(dim);
            let values = adapter.parameter_count(dim) - gate;
            parameters.extend([(Role::Adapter(i), values), (Role::Gate(i), gate)]);
        }
        Ok(parameters)
    }
}

/// Outputs of `fc1`.
fn widest(config: &ViTConfig) -> usize {
    let gated = config.activation == Activation::SwiGlu;
    if gated { 2 * config.hidden_dim() } else { config.hidden_dim() }
}

/// Values of the matrices of a block's attention and of its MLP.
fn products(config: &ViTConfig) -> (usize, usize) {
    let (dim, hidden) = (config.embed_dim, config.hidden_dim());
    (4 * dim * dim, (widest(config) + hidden) * dim)
}

/// Values of a block without its adapter.
fn block(config: &ViTConfig) -> usize {
    let (dim, hidden) = (config.embed_dim, config.hidden_dim());
    let scales = if config.layer_scale.is_some() { 2 * dim } else { 0 };
    let mlp = (dim + 1) * widest(config) + (hidden + 1) * dim;
    4 * (dim + 1) * dim + mlp + 4 * dim + scales
}

impl Passes {
    /// Bytes that the attention half of a block keeps for so many tokens: its input; queries, keys and values; the
    /// heads' output where the projection trains.
    fn attention(self, config: &ViTConfig, rows: usize, trains: bool) -> usize {
        let dim = config.embed_dim;
        let input = F32 * rows * dim;
        match self.keep {
            Keep::Nothing => input,
            Keep::Activations => {
                input + self.value * rows * 3 * dim + if trains { F32 * rows * dim } else { 0 }
            }
        }
    }

    /// The same of the MLP's half: its input, the hidden layer, and of an adapter the bottleneck and what its gate sees.
    fn mlp(self, config: &ViTConfig, rows: usize) -> usize {
        let dim = config.embed_dim;
        let input = F32 * rows * dim;
        if self.keep == Keep::Nothing {
            return input;
        }
        let adapter = config.adapter.map_or(0, |adapter| {
            let seen = if adapter.scale.gate_width(dim) > 0 { dim } else { 0 };
            F32 * rows * (adapter.bottleneck + seen)
        });
        input + self.value * rows * widest(config) + adapter
    }
}
