//! The `pad` command.
#![allow(unreachable_pub, missing_docs)] // a program, not a library

mod command;
mod detect;
mod downstream;
mod pretrain;
mod run;
mod segment;
mod settings;
mod tools;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use pad::ops::{check_cpu_level, text::shown_up_to};

use crate::{
    run::{Result, group, signals},
    tools::output::print,
};

/// The longest error that is printed, characters: names and values in it come from files.
const LONGEST: usize = 8000;

/// 25 to 40% on outputs of tens of megabytes: glibc maps and faults each of them anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Place in the help of what every command has: behind its own flags.
const LAST: usize = 900;

/// Infrared vision with patchwise-scale adapters: pre-training, fine-tuning, evaluation, pictures.
#[derive(Parser, Debug)]
#[command(name = "pad", version, propagate_version = true, arg_required_else_help = true)]
struct Program {
    /// Log only warnings and errors
    #[arg(short, long, global = true, display_order = LAST, conflicts_with = "verbose")]
    quiet: bool,
    /// Log details as well
    #[arg(short, long, global = true, display_order = LAST + 1)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Pretrain(Box<command::pretrain::Program>),
    Roi(command::roi::Program),
    Stats(command::stats::Program),
    Shards(command::shards::Program),
    Msip(command::msip::Program),
    Reconstruct(command::reconstruct::Program),
    Masks(command::masks::Program),
    Embed(Box<command::embed::Program>),
    Probe(Box<command::probe::Program>),
    Segment(Box<command::segment::Program>),
    Detect(Box<command::detect::Program>),
    Convert(command::convert::Program),
    /// Prints a shell completion script
    Completions {
        /// Shell: bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
}

fn run(program: Program) -> Result<()> {
    use command as c;
    match program.command {
        Command::Pretrain(arguments) => c::pretrain::run(&arguments),
        Command::Roi(arguments) => c::roi::run(&arguments),
        Command::Stats(arguments) => c::stats::run(&arguments),
        Command::Shards(arguments) => c::shards::run(&arguments),
        Command::Msip(arguments) => c::msip::run(&arguments),
        Command::Reconstruct(arguments) => c::reconstruct::run(&arguments),
        Command::Masks(arguments) => c::masks::run(&arguments),
        Command::Embed(arguments) => c::embed::run(&arguments),
        Command::Probe(arguments) => c::probe::run(&arguments),
        Command::Segment(arguments) => c::segment::run(&arguments),
        Command::Detect(arguments) => c::detect::run(&arguments),
        Command::Convert(arguments) => c::convert::run(&arguments),
        Command::Completions { shell } => {
            let mut command = Program::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "pad", &mut script);
            print(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

/// Prints what clap says: help as it is, an error in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        // A reader that has closed the pipe has read enough.
        let _ = error.print();
        return if is_help { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines =
        lines.take_while(|line| !["Usage:", "For more"].iter().any(|s| line.starts_with(s)));
    complain(format_args!("{}", lines.collect::<Vec<_>>().join(" ")));
    ExitCode::from(2)
}

/// Prints an error; where it cannot be printed, the exit code says enough.
fn complain(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Starts the logs, runs the program, prints an error in one line and sets the exit code.
fn main() -> ExitCode {
    use tracing_subscriber::EnvFilter;
    let program = match Program::try_parse() {
        Ok(program) => program,
        Err(refused) => return refuse(&refused),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // Of several processes the first one logs.
        let other = group::launched_rank().is_some_and(|rank| rank > 0);
        EnvFilter::new(match (program.quiet || other, program.verbose) {
            (true, _) => "warn",
            (false, true) => "debug",
            (false, false) => "info",
        })
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        // A log that cannot be written (closed terminal, full disk) must not end the training.
        .log_internal_errors(false)
        .init();
    match check_cpu_level().map_err(Into::into).and_then(|()| run(program)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<signals::Stopped>() {
            Some(stopped) => stopped.exit_code(),
            None => {
                let text = error.to_string().replace('\n', " ");
                complain(format_args!("error: {}", shown_up_to(&text, LONGEST)));
                ExitCode::FAILURE
            }
        },
    }
}
