//! Checkpoints of other programs into this project's names, and ours into theirs.
//!
//!     pad convert mae_pretrain_vit_base.pth vit.safetensors
//!     pad convert hf://facebook/dinov2-base dinov2.safetensors
//!     pad convert runs/pretrain-1 pad.safetensors --to original --prefix backbone.
//!     pad convert vit.safetensors pad.safetensors --adapter runs/pretrain-1/adapter.safetensors
//!     pad convert runs/pretrain-1 dinov2.safetensors --merge --names hf
//!     pad convert runs/pretrain-1 lora --names peft
//!     pad convert dinov2.safetensors shallow.safetensors --keep-blocks 0,1,2
//!     pad convert lora adapted.safetensors --backbone dinov2.safetensors
//!
//! Formats, names and what is read: docs/checkpoints.md.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pad::{
    Scale,
    checkpoint::{Backbone, BackboneOptions, Checkpoint, FloatType, Format, save},
    params::Role,
};

use crate::{
    run::Result,
    settings::values::List,
    tools::{
        output::{Replace, make_parent, print},
        weights::{SCALE_OPTION, backbone_options, in_flags, with_shipped},
    },
};

/// Whose names the output gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Names {
    /// This project's
    Ours,
    /// The family's authors': the encoder alone. For plain models, adapters and decoders, and with a
    /// prefix, those of the original PAD repository, which are MAE's
    Original,
    /// timm's: the encoder alone
    Timm,
    /// Hugging Face transformers': the encoder, of a plain model the decoder, too
    Hf,
    /// peft's: a folder with the low-rank adapters alone
    Peft,
}

/// Converts a checkpoint and reports what became of every tensor
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// A safetensors file, a PyTorch file (.pth, .bin, .ckpt, .pth.tar, ..), .index.json, a folder
    /// with one of them, the folder of a run, or hf://OWNER/REPO[/FILE][@REVISION]
    input: String,
    /// .safetensors file to write, or a folder for the names peft; not needed with --list
    #[arg(required_unless_present = "list")]
    output: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    /// Format of the input's names [default: detected]
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Naming scheme of the output
    #[arg(long, visible_alias = "names", value_enum, default_value = "ours")]
    to: Names,
    /// Merge low-rank adapters into the weights that they adapt: the model then computes the same
    /// without them. Adapters beside or behind the MLP are not linear and cannot be merged
    #[arg(long)]
    merge: bool,
    /// Blocks to keep, from 0, ascending, separated by commas: a shallower model, for instance a
    /// student for `pad pretrain --objective features`; decoder and heads are left out [default: all]
    #[arg(long, value_name = "BLOCKS")]
    keep_blocks: Option<List<usize>>,
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
    /// Add the adapters of this file, or of this peft folder, to the input
    #[arg(long, value_name = "FILE")]
    adapter: Option<String>,
    /// Backbone for an input of adapters [default: the one named in the file]
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "adapter")]
    backbone: Option<String>,
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
        && program.to != Names::Peft
        && output.extension().is_none_or(|extension| extension != "safetensors")
    {
        return Err(
            format!("{}: expected a name that ends with .safetensors", output.display()).into()
        );
    }
    match (output, program.to) {
        (Some(folder), Names::Peft) => program.replace.check_folder(folder, "safetensors")?,
        (output, _) => program.replace.check_some(output)?,
    }
    if program.merge && program.to == Names::Peft {
        return Err("--merge leaves no adapters to write under the names peft".into());
    }
    if program.keep_blocks.is_some() && program.to == Names::Peft {
        return Err("--keep-blocks makes another backbone, which the names peft cannot hold".into());
    }
    let (opened, mut said) = open(program)?;
    let base = opened.backbone_source().to_string();
    let mut checkpoint = opened.into_checkpoint();
    if program.to != Names::Original {
        without_task(&mut checkpoint);
    }
    if let Some(List(kept)) = &program.keep_blocks {
        let before = checkpoint.vit_config()?.depth;
        checkpoint = checkpoint.keep_blocks(kept)?;
        said.push(format!("{} of {before} blocks kept", kept.len()));
    }
    if program.merge {
        checkpoint = checkpoint.merge_lora()?;
        said.push("low-rank adapters merged into the weights".into());
    }
    let named = |(checkpoint, report)| (checkpoint, Some(report));
    let (checkpoint, report) = match program.to {
        Names::Ours | Names::Peft => (checkpoint, None),
        Names::Original => {
            let prefix = program.prefix.as_deref().unwrap_or("");
            // A model that is unknown keeps its tensors; what is no encoder's is PAD's alone.
            let authors = prefix.is_empty()
                && checkpoint.names().all(is_encoder)
                && checkpoint.has_authors().unwrap_or(false);
            named(match authors {
                true => checkpoint.to_authors()?,
                false => checkpoint.to_original(prefix)?,
            })
        }
        Names::Timm => named(checkpoint.to_timm()?),
        Names::Hf => named(checkpoint.to_transformers()?),
    };
    said.extend(report.map(|report| report.to_string()));
    if program.list {
        for (name, tensor) in checkpoint.tensors() {
            said.push(format!("{name} {:?} {:?}", tensor.dims(), tensor.dtype()));
        }
    }
    if let (Some(output), Names::Peft) = (output, program.to) {
        checkpoint.save_peft(output, Some(&base))?;
        said.push(format!("wrote {}: an adapter of peft on {base}", output.display()));
    } else if let Some(output) = output {
        let float_type = if program.half { FloatType::F16 } else { FloatType::AsIs };
        make_parent(output)?;
        save(output, checkpoint.tensors(), checkpoint.metadata(), float_type)?;
        said.push(format!("wrote {}: {} tensors", output.display(), checkpoint.tensors().len()));
    }
    print(said.join("\n"))
}

/// Takes the description of a segmentor or detector away, whose heads are left out.
fn without_task(checkpoint: &mut Checkpoint) {
    let tasks = ["segmentor", "detector"];
    if tasks.iter().any(|task| checkpoint.remove_metadata(task).is_some()) {
        checkpoint.remove_metadata("format");
        checkpoint.remove_metadata("classes");
        let is_note = |name: &&String| name.starts_with("note.");
        let notes: Vec<String> = checkpoint.metadata().keys().filter(is_note).cloned().collect();
        for name in notes {
            checkpoint.remove_metadata(&name);
        }
    }
}

/// Whether a tensor is an encoder's, or CLIP's projection beside it.
fn is_encoder(name: &str) -> bool {
    Role::of(name).is_backbone() || name == "proj"
}

/// The input, with the adapters laid on it, and what there is to say of them.
fn open(program: &Program) -> Result<(Backbone, Vec<String>)> {
    let of_output = program.to == Names::Original;
    let prefix = program.from_prefix.as_ref().or(program.prefix.as_ref().filter(|_| !of_output));
    // The original's names hold heads of downstream models, too; others an encoder: the readers of
    // their files take heads away.
    let options = match of_output {
        true => with_shipped(BackboneOptions::default()),
        false => backbone_options(),
    };
    let options = options
        .with_prefix(prefix.cloned())
        .with_key(program.key.clone())
        .with_reader(pad::ssl::read_backbone)
        .with_any_backbone(program.any_backbone)
        .with_scale(program.adapter_scale);
    let (source, input) = match &program.adapter {
        Some(adapter) => (adapter, Some(program.input.clone())),
        None => (&program.input, program.backbone.clone()),
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
