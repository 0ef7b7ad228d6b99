//! Checkpoints of other programs into this project's names, and ours into theirs.
//!
//!     pad convert mae_pretrain_vit_base.pth vit.safetensors
//!     pad convert hf://facebook/dinov2-base dinov2.safetensors
//!     pad convert runs/pretrain-1 pad.safetensors --to original --prefix backbone.
//!     pad convert vit.safetensors pad.safetensors --adapter runs/pretrain-1/adapter.safetensors
//!
//! Formats, names and what is read: docs/checkpoints.md.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pad::{
    Scale,
    checkpoint::{Backbone, BackboneOptions, FloatType, Format, save},
};

use crate::{
    run::Result,
    tools::{
        output::{Replace, print},
        weights::{ASSET, SCALE_OPTION, in_flags},
    },
};

/// Whose names the output gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Names {
    /// This project's
    Ours,
    /// The original PAD repository's
    Original,
    /// timm's: the encoder alone
    Timm,
}

/// Converts a checkpoint and reports what became of every tensor
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// A safetensors file, a PyTorch file (.pth, .bin, .ckpt, .pth.tar, ..), .index.json, a folder
    /// with one of them, the folder of a run, or hf://OWNER/REPO[/FILE][@REVISION]
    input: String,
    /// .safetensors file to write; not needed with --list
    #[arg(required_unless_present = "list")]
    output: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    /// Format of the input's names [default: detected]
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Naming scheme of the output
    #[arg(long, value_enum, default_value = "ours")]
    to: Names,
    /// Prefix of the tensor names in the input, e.g. `encoder.` [default: detected]. With `--to
    /// original`, prefix of encoder and adapters in the output: `backbone.` for its segmentation,
    /// `backbone.net.` for its detection
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Prefix of the tensor names in the input, where `--prefix` is that of the output
    #[arg(long, value_name = "PREFIX")]
    from_prefix: Option<String>,
    /// Key of the state dict in a PyTorch file that has several, e.g. `model_ema`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Add the adapters of this file to the input
    #[arg(long, value_name = "FILE")]
    adapter: Option<String>,
    /// Allow adapters on a backbone that they were not trained on
    #[arg(long)]
    any_backbone: bool,
    /// Scale of adapters, if the input does not store it: concat, sum, side, gside, fixed=S,
    /// fixed-decay=S, fixed-linear=S or learnable=S
    #[arg(long, value_name = "SCALE")]
    adapter_scale: Option<Scale>,
    /// Print the tensors that would be written; write nothing
    #[arg(long)]
    list: bool,
    /// Save 16-bit floats
    #[arg(long)]
    half: bool,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    if program.prefix.is_some() && program.from_prefix.is_some() && program.to != Names::Original {
        return Err("--prefix and --from-prefix are both the input's without --to original".into());
    }
    let output = program.output.as_ref().filter(|_| !program.list);
    if let Some(output) = &program.output
        && output.extension().is_none_or(|extension| extension != "safetensors")
    {
        return Err(
            format!("{}: expected a name that ends with .safetensors", output.display()).into()
        );
    }
    program.replace.check_some(output)?;
    let (opened, mut said) = open(program)?;
    let mut checkpoint = opened.into_checkpoint();
    if program.to != Names::Ours {
        let (converted, report) = match program.to {
            Names::Original => checkpoint.to_original(program.prefix.as_deref().unwrap_or(""))?,
            _ => checkpoint.to_timm()?,
        };
        said.push(report.to_string());
        checkpoint = converted;
    }
    if program.list {
        for (name, tensor) in checkpoint.tensors() {
            said.push(format!("{name} {:?} {:?}", tensor.dims(), tensor.dtype()));
        }
    }
    if let Some(output) = output {
        let float_type = if program.half { FloatType::F16 } else { FloatType::AsIs };
        save(output, checkpoint.tensors(), checkpoint.metadata(), float_type)?;
        said.push(format!("wrote {}: {} tensors", output.display(), checkpoint.tensors().len()));
    }
    print(said.join("\n"))
}

/// The input, with the adapters laid on it, and what there is to say of them.
fn open(program: &Program) -> Result<(Backbone, Vec<String>)> {
    // Heads of downstream models are kept: no readers of their files, which take them away.
    let of_output = program.to == Names::Original;
    let prefix = program.from_prefix.as_ref().or(program.prefix.as_ref().filter(|_| !of_output));
    let options = BackboneOptions::default()
        .with_prefix(prefix.cloned())
        .with_key(program.key.clone())
        .with_named(ASSET, pad::assets::VIT_PICO_RGB)
        .with_reader(pad::ssl::read_backbone)
        .with_any_backbone(program.any_backbone)
        .with_scale(program.adapter_scale);
    let (source, input) = match &program.adapter {
        Some(adapter) => (adapter, Some(program.input.clone())),
        None => (&program.input, None),
    };
    let options = options.with_format(program.from).with_backbone(input);
    let opened = Backbone::open(source, &options).map_err(in_flags)?;
    let report = opened.report();
    // Any scale gives a model, and no tensor tells the right one.
    if let Some(why) = report.unresolved.as_ref().filter(|why| why.contains(SCALE_OPTION)) {
        return Err(in_flags(format_args!("{}: {why}", program.input)).into());
    }
    let mut said = vec![report.to_string()];
    if let Some(adapter) = opened.adapter_file() {
        said.push(format!("adapters of {}", adapter.path().display()));
    }
    Ok((opened, said))
}
