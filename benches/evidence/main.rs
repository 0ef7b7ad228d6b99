//! The comparison of docs/evidence.md, from one command: PAD, and what it is compared with, on real infrared images.
//!
//! `cargo bench --bench evidence -- --budget short --mix HIT_UAV STREET UDDER --hit-uav HIT_UAV --udder UDDER
//! --solar SOLAR --dino dinov2_vits14.safetensors --out runs/evidence`; `-- --help` lists the flags.

#[path = "mod.rs"]
mod evidence;

use std::process::ExitCode;

fn main() -> ExitCode {
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
