//! The memory of a training run, before anything is built.

use pad_adapter::{
    AdapterActivation, AdapterConfig, AdapterPlacement, LoraTarget, Scale,
    params::Role,
    vit::{Activation, Positions, QkvBias, RelativeBias, ViTConfig, relative_table_rows},
};
use pad_ops::MatmulPrecision;

use crate::{Error, MaeConfig, Mask, Paradigm, Result};

/// Bytes of a value of weights, gradients, moments and the residual stream.
const F32: usize = size_of::<f32>();
/// Bytes of a program with its threads before a model is built (measured).
const PROGRAM: usize = 64 << 20;
/// What the allocator keeps of freed activations, as a fraction of those in use (measured with
/// mimalloc).
const RETAINED: f64 = 0.07;

/// What the memory of a run depends on beside the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemorySettings {
    /// Which parameters train.
    pub paradigm: Paradigm,
    /// Images per micro-batch.
    pub batch_size: usize,
    /// Whether blocks keep only their inputs for the backward. Default `false`.
    pub checkpointing: bool,
    /// What linear layers multiply in. Default `f32`.
    pub matmul_precision: MatmulPrecision,
    /// Whether the first values come from a checkpoint, which stays in memory beside what trains.
    /// Default: unless the paradigm is [`Paradigm::Scratch`].
    pub from_checkpoint: bool,
    /// Whether averages of the weights are kept. Default `false`.
    pub ema: bool,
    /// Batches that the loader holds beside the one in use: its workers' and those that are ready.
    /// Default 4.
    pub loaded_batches: usize,
}

impl MemorySettings {
    /// The settings of a run of `paradigm` with micro-batches of `batch_size` images, all else at
    /// its default.
    pub fn new(paradigm: Paradigm, batch_size: usize) -> Self {
        Self {
            paradigm,
            batch_size,
            checkpointing: false,
            matmul_precision: MatmulPrecision::F32,
            from_checkpoint: paradigm != Paradigm::Scratch,
            ema: false,
            loaded_batches: 4,
        }
    }
}

/// Maximum number of images of a batch, and of batches that are loaded ahead.
const MAX_BATCH: usize = 1 << 20;

/// Peak memory of a training run of a [`Mae`](crate::Mae) on a CPU, in bytes. Evaluation on
/// held-out images with the same batch size is included: it takes no more than a training step.
/// What the dataset itself keeps (decoded images, regions) is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepMemory {
    /// All weights; in bf16 also the frozen ones' packed copies, and the first values of a
    /// checkpoint.
    pub weights: usize,
    /// Gradients and both moments of the weights that train, the buffers of their update, and
    /// averages.
    pub training: usize,
    /// What the forward keeps for the backward.
    pub kept: usize,
    /// The largest set of buffers that one operator of the backward works with.
    pub working: usize,
    /// Batches that the loader holds.
    pub batches: usize,
    /// The program itself, and freed memory that the allocator keeps.
    pub overhead: usize,
}

impl StepMemory {
    /// Returns the sum of all parts.
    pub fn total(self) -> usize {
        self.weights + self.training + self.kept + self.working + self.batches + self.overhead
    }
}

/// How a block's passes go through memory.
#[derive(Clone, Copy)]
struct Passes {
    checkpointing: bool,
    /// Bytes of a value of what linear layers pass to each other.
    value: usize,
}

impl MaeConfig {
    /// Estimates the peak memory of a training run, within about 15% of what the system counts.
    ///
    /// # Errors
    /// An invalid configuration, or batches of more than 2^20 images.
    pub fn step_memory(&self, settings: &MemorySettings) -> Result<StepMemory> {
        self.validate()?;
        let sizes =
            [("batch_size", settings.batch_size), ("loaded_batches", settings.loaded_batches)];
        if let Some((name, found)) = sizes.into_iter().find(|(_, found)| *found > MAX_BATCH) {
            let fault = format!("`{name}` is {found}, expected at most {MAX_BATCH}");
            return Err(Error::Config { what: "memory", faults: vec![fault] });
        }
        let &MemorySettings { paradigm, batch_size: batch, matmul_precision: precision, .. } =
            settings;
        let encoder = ViTConfig {
            adapter: self.encoder.adapter.filter(|_| paradigm.has_adapters()),
            lora: self.encoder.lora.filter(|_| paradigm.has_adapters()),
            ..self.encoder
        };
        let decoder = self.decoder();
        let value = if precision == MatmulPrecision::Bf16 { 2 } else { F32 };
        let passes = Passes { checkpointing: settings.checkpointing, value };
        let (mut weights, mut trained) = (0, 0);
        for (role, values) in self.parameters(&encoder, &decoder)? {
            weights += F32 * values;
            trained += if paradigm.trains(role) { values } else { 0 };
        }
        if settings.from_checkpoint {
            weights += F32 * trained;
        }

        let patches = self.encoder.grid()?.len();
        let seen = Mask::kept(patches, self.mask_ratio);
        let class = usize::from(self.encoder.class_token);
        let tokens = batch * (self.encoder.prefix().len() + seen);
        let all = batch * (class + patches);
        let predicted = batch * (patches - seen);
        let whole = paradigm.trains(Role::Block(0));
        // With adapters nothing flows below the first one: PAD's is beside the first block's MLP.
        let tracked = whole || paradigm.has_adapters();
        let first = whole || adapts_attention(&encoder);
        if precision == MatmulPrecision::Bf16 && !whole {
            let (attention, mlp) = products(&encoder);
            weights += value * encoder.depth * (attention + mlp);
        }
        let mut kept = 0;
        if tracked {
            let attention = passes.attention(&encoder, tokens, whole || adapts_proj(&encoder));
            let mlp = passes.mlp(&encoder, tokens);
            kept += encoder.depth * (attention + mlp) - if first { 0 } else { attention };
        }
        let attention = passes.attention(&decoder, all, true);
        let mlp = passes.mlp(&decoder, all);
        if decoder.depth > 0 {
            kept += (decoder.depth - 1) * (attention + mlp) + attention;
            kept += passes.mlp(&decoder, predicted);
        }
        // Tokens put back in order, with positions; the last tokens before and after the norm;
        // prediction, target and the images themselves.
        let stream = 3 * all * decoder.embed_dim + 2 * predicted * decoder.embed_dim;
        let pixels = self.encoder.patch_values();
        let compared = 2 * predicted * pixels + 2 * batch * patches * pixels;
        kept += F32 * (stream + compared + 2 * tokens * encoder.embed_dim);

        let largest = |config: &ViTConfig, rows: usize| {
            let (dim, hidden) = (config.embed_dim, widest(config));
            // GELU's result and the hidden layer's gradient, or that of queries, keys and values;
            // the gradients of the stream on both sides; operands packed for the product.
            value * rows * 2 * hidden.max(3 * dim) + F32 * rows * 4 * dim
        };
        let working =
            largest(&decoder, all).max(if tracked { largest(&encoder, tokens) } else { 0 });
        // Gradient, two moments, and a gradient or value that is on its way.
        let sets = if settings.ema { 5 } else { 4 };
        Ok(StepMemory {
            weights,
            training: sets * F32 * trained,
            kept,
            working,
            batches: settings.loaded_batches * batch * patches * pixels * F32,
            overhead: PROGRAM + (RETAINED * kept as f64) as usize,
        })
    }

    /// Returns the number of values of every group of parameters.
    fn parameters(&self, encoder: &ViTConfig, decoder: &ViTConfig) -> Result<Vec<(Role, usize)>> {
        let (dim, inner) = (encoder.embed_dim, decoder.embed_dim);
        let pixels = encoder.patch_values();
        let norm = |on: bool| if on { 2 * dim } else { 0 };
        let patch_bias = if encoder.patch_bias { dim } else { 0 };
        let table = match encoder.positions {
            Positions::None => 0,
            _ => (encoder.table_prefix() + encoder.pos_table_grid()?.len()) * dim,
        };
        let relative = match encoder.relative_bias {
            RelativeBias::None => 0,
            _ => relative_table_rows(encoder.pos_table_grid()?) * encoder.num_heads,
        };
        let shared = if encoder.relative_bias == RelativeBias::Shared { relative } else { 0 };
        let class = usize::from(encoder.class_token);
        let mut parameters = vec![
            (Role::PatchEmbed, pixels * dim + patch_bias + norm(encoder.pre_norm)),
            (Role::ClassToken, encoder.prefix().len() * dim),
            (Role::PosTable, table + shared),
            (Role::FinalNorm, norm(encoder.final_norm) + norm(encoder.class_norm)),
            (Role::MaskToken, inner),
            (Role::DecoderEmbed, (dim + 1) * inner),
            (Role::DecoderPosTable, (class + encoder.grid()?.len()) * inner),
            (Role::Decoder, decoder.depth * block(decoder) + 2 * inner + (inner + 1) * pixels),
        ];
        for i in 0..encoder.depth {
            let own = if encoder.relative_bias == RelativeBias::PerBlock { relative } else { 0 };
            parameters.push((Role::Block(i), block(encoder) + own));
            if let Some(lora) = &encoder.lora {
                let (first, second) = (widest(encoder), encoder.hidden_dim());
                parameters.push((Role::Adapter(i), lora.parameter_count(dim, first, second)));
            }
            let Some(adapter) = &encoder.adapter else { continue };
            let gate = adapter.placement.adapters() * adapter.scale.gate_width(dim);
            let values = adapter.block_parameter_count(dim) - gate;
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
    let bias = match config.qkv_bias {
        QkvBias::None => 0,
        QkvBias::QueryValue => 2 * dim,
        _ => 3 * dim,
    };
    let inner = if config.mlp_norm { 2 * hidden } else { 0 }
        + if config.attention_norm { 2 * dim } else { 0 };
    4 * dim * dim + bias + dim + mlp + 4 * dim + scales + inner
}

/// Whether the projection behind the heads has a low-rank adapter, whose gradient reads the heads'
/// output.
fn adapts_proj(config: &ViTConfig) -> bool {
    config.lora.is_some_and(|lora| lora.targets.proj.is_some())
}

/// Whether the first attention has something that trains.
fn adapts_attention(config: &ViTConfig) -> bool {
    use LoraTarget::{Key, Proj, Qkv, Query, Value};
    let inside = [Qkv, Query, Key, Value, Proj];
    config.lora.is_some_and(|lora| inside.iter().any(|&part| lora.targets.get(part).is_some()))
        || config.adapter.is_some_and(|adapter| adapter.placement == AdapterPlacement::AfterBoth)
}

/// Values a token that single operators of adapters behind a branch keep: the branch, the norm,
/// the bottleneck before and behind its activation and dropout, its result, its sum.
fn behind(config: &ViTConfig, adapter: &AdapterConfig) -> usize {
    5 * config.embed_dim + 3 * adapter.bottleneck
}

/// Whether the attention runs without the fused operator, so that every intermediate result is
/// kept: a bias on its logits.
fn is_composed(config: &ViTConfig) -> bool {
    config.relative_bias != RelativeBias::None
}

impl Passes {
    /// Returns the bytes that the attention half of a block keeps for `rows` tokens: its input;
    /// queries, keys and values; the heads' output where the projection trains. Composed of single
    /// operators also norm, heads and projection.
    fn attention(self, config: &ViTConfig, rows: usize, trains: bool) -> usize {
        let dim = config.embed_dim;
        let behind = match &config.adapter {
            Some(adapter) if adapter.placement == AdapterPlacement::AfterBoth => {
                F32 * rows * behind(config, adapter)
            }
            _ => 0,
        };
        let input = F32 * rows * dim + behind;
        if is_composed(config) {
            return input + F32 * rows * (3 + 3) * dim;
        }
        if self.checkpointing {
            return input;
        }
        input + self.value * rows * 3 * dim + if trains { F32 * rows * dim } else { 0 }
    }

    /// Returns the bytes that the MLP's half keeps: its input, the hidden layer, and of an adapter
    /// the bottleneck and what its gate sees.
    fn mlp(self, config: &ViTConfig, rows: usize) -> usize {
        let dim = config.embed_dim;
        let input = F32 * rows * dim;
        let adapter = config.adapter.map_or(0, |adapter| {
            let seen = if matches!(adapter.scale, Scale::Patchwise(_)) { dim } else { 0 };
            let fused = adapter.placement == AdapterPlacement::Parallel
                && adapter.activation == AdapterActivation::Relu;
            F32 * rows * if fused { adapter.bottleneck + seen } else { behind(config, &adapter) }
        });
        if self.checkpointing {
            return input;
        }
        input + self.value * rows * widest(config) + adapter
    }
}
