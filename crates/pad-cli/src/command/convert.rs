//! Checkpoints of other programs into this project's names, and ours into theirs.
//!
//!     cargo run --release --example convert -- mae_pretrain_vit_base.pth vit.safetensors
//!     cargo run --release --example convert -- hf://facebook/dinov2-base dinov2.safetensors
//!     cargo run --release --example convert -- vit.safetensors pad.safetensors --adapter runs/pretrain-1/adapter.safetensors --to original --prefix backbone.
//!
//! Formats, names and what is read: docs/checkpoints.md.

use std::{io::Write, path::PathBuf, };

use candle_core::Device;
use clap::{Args, ValueEnum};
use crate::run::Result;
use pad::{
    checkpoint::{AdapterFile, Checkpoint, FloatType, Format, save},
    params::{ParamStore, Role},
    rng::Key,
    vit::ViT,
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

/// Converts a checkpoint and says what became of every tensor.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// .safetensors, .pth, .bin, .index.json, a folder with one of them, or hf://owner/repo[/file][@revision]
    input: String,
    /// .safetensors file to write; not needed with --list
    #[arg(required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Whose names the input has; default: told from them
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Whose names the output gets
    #[arg(long, value_enum, default_value = "ours")]
    to: Names,
    /// In front of encoder and adapters, with `--to original`: `backbone.` for its segmentation, `backbone.net.` for
    /// its detection
    #[arg(long, default_value = "")]
    prefix: String,
    /// Lay the adapters of this file over the input
    #[arg(long, value_name = "FILE")]
    adapter: Option<PathBuf>,
    /// Use adapters of another backbone all the same
    #[arg(long)]
    force: bool,
    /// Print the tensors that would be written, and write nothing
    #[arg(long)]
    list: bool,
    /// Store 16-bit floats
    #[arg(long)]
    half: bool,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    if !program.prefix.is_empty() && program.to != Names::Original {
        return Err("--prefix goes with --to original".into());
    }
    if let Some(output) = &program.output
        && output.extension().is_none_or(|extension| extension != "safetensors")
    {
        return Err(
            format!("{}: expected a name that ends with .safetensors", output.display()).into()
        );
    }
    let (mut checkpoint, report) = Checkpoint::open(program.input)?.to_ours(program.from)?;
    let mut said = vec![report.to_string()];
    if let Some(path) = &program.adapter {
        let adapter = AdapterFile::open(path)?;
        let (whole, changes) = with_adapters(checkpoint, &adapter, program.force)?;
        checkpoint = whole;
        said.extend(changes);
        said.push(format!("adapters of {}", path.display()));
    }
    if program.to != Names::Ours {
        let (converted, report) = match program.to {
            Names::Original => checkpoint.to_original(program.prefix)?,
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
    if let (Some(output), false) = (program.output, program.list) {
        let float_type = if program.half { FloatType::F16 } else { FloatType::AsIs };
        save(output, checkpoint.tensors(), checkpoint.metadata(), float_type)?;
        said.push(format!("wrote {}: {} tensors", output.display(), checkpoint.tensors().len()));
    }
    print(&said)
}

/// Prints lines, the file being written already; a reader that has seen enough (`head`) is no error.
fn print(lines: &[String]) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", lines.join("\n")) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// The backbone with adapters, once it is certain that they belong to it.
fn with_adapters(
    mut backbone: Checkpoint,
    adapter: &AdapterFile,
    force: bool,
) -> Result<(Checkpoint, Vec<String>)> {
    let changes = backbone.fit(adapter.config())?;
    let mut whole = adapter.onto(backbone);
    let store = ParamStore::from_checkpoint(whole.clone(), &Device::Cpu, Key::new(0))
        .unused(Role::is_decoder);
    store.build(|vb| ViT::new(adapter.config(), vb))?;
    if !force {
        adapter.check(&store)?;
    }
    whole.remove_metadata("mae");
    whole.set_metadata("vit", serde_json::to_string(adapter.config())?);
    Ok((whole, changes))
}

