//! The comparison of docs/evidence.md, from one command: PAD, and what it is compared with, on real infrared images.
//!
//! `cargo bench --bench evidence -- --budget short --mix HIT_UAV STREET UDDER --hit-uav HIT_UAV --udder UDDER
//! --solar SOLAR --dino dinov2_vits14.safetensors --out runs/evidence`; `-- --help` lists the flags.

#[path = "mod.rs"]
mod evidence;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    // Warnings of the libraries, about images that are left out.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
    if let Err(error) = go_to_shell() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    // Cargo adds `--bench`.
    let arguments = std::env::args().filter(|argument| argument != "--bench");
    match evidence::main(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Goes where the command was typed.
fn go_to_shell() -> evidence::Result<()> {
    let (current, package) = (std::env::current_dir()?, Path::new(env!("CARGO_MANIFEST_DIR")));
    let pwd = std::env::var_os("PWD").map(PathBuf::from);
    if let Some(folder) = evidence::paths::folder_of_shell(&current, package, pwd) {
        std::env::set_current_dir(folder)?;
    }
    Ok(())
}
