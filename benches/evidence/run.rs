//! The cells one after another. A signal ends the run of the moment in order; the next call goes on from there.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    Result,
    cell::{Cell, Work},
    flags::Flags,
    measure::{Times, duration},
    plan::Plan,
};

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// No cell is left.
    All,
    /// Some cells failed, or could not start.
    Some,
    /// By a signal.
    Stopped,
}

impl Ended {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::All => 0,
            Self::Some => 1,
            Self::Stopped => 130,
        })
    }
}

/// Ctrl-C and SIGTERM.
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn watch() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self(stop))
    }

    /// Whether a signal has come since the last call.
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Runs `pad`.
pub(crate) struct Program {
    path: PathBuf,
    machine: Vec<String>,
    stop: Stop,
}

impl Program {
    /// Finds the command, and builds it if it is not there.
    pub(crate) fn find(flags: &Flags) -> Result<Self> {
        let given = flags.pad.clone().or_else(|| std::env::var_os("PAD").map(PathBuf::from));
        let path = match given {
            Some(path) => path,
            None => built()?,
        };
        if !path.is_file() {
            bail!("{}: no such file, expected the command `pad` (--pad)", path.display());
        }
        let path = path.canonicalize().with_context(|| path.display().to_string())?;
        Ok(Self { path, machine: flags.machine(), stop: Stop::watch()? })
    }

    /// Runs it to its end, its output in `log`; `None` if a signal ended it.
    pub(crate) fn run(&self, arguments: &[String], log: &Path) -> Result<Option<ExitStatus>> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let named = || log.display().to_string();
        let file = File::options().create(true).append(true).open(log).with_context(named)?;
        let mut command = Command::new(&self.path);
        command.args(arguments);
        // `pad roi` knows no device.
        if arguments.first().is_some_and(|first| first != "roi") {
            command.args(&self.machine);
        }
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Ctrl-C comes here alone, and is passed on once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| self.path.display().to_string())?;
        let mut stopped = false;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((!stopped).then_some(status));
            }
            if self.stop.take() {
                if !stopped {
                    eprintln!(
                        "stopping: the run of the moment saves its work (once more: at once)"
                    );
                }
                interrupt(&mut child)?;
                stopped = true;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Sends a run the signal that makes it save its work.
fn interrupt(child: &mut Child) -> Result<()> {
    if cfg!(unix) {
        Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    } else {
        child.kill()?;
    }
    Ok(())
}

/// The release build of the command.
fn built() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let path = target.join("release/pad").with_extension(std::env::consts::EXE_EXTENSION);
    if !path.is_file() {
        eprintln!("building the command `pad`");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = ["build", "--release", "--quiet", "-p", "pad-ir-cli"];
        let status = Command::new(cargo).current_dir(&root).args(build).status()?;
        if !status.success() {
            bail!("cargo build --release -p pad-ir-cli failed");
        }
    }
    Ok(path)
}

/// Runs all cells that have not ended.
pub(crate) fn run(flags: &Flags, plan: &Plan) -> Result<Ended> {
    for cell in &plan.cells {
        cell.claim()?;
    }
    let open: Vec<&Cell> = plan.cells.iter().filter(|cell| !cell.has_ended()).collect();
    if open.is_empty() {
        return Ok(Ended::All);
    }
    let program = Program::find(flags)?;
    let mut times = Times::of_ended(plan)?;
    if !flags.no_estimate && !times.measure(&program, plan, &flags.out)? {
        return Ok(Ended::Stopped);
    }
    println!("{}", times.foretell(plan));
    let mut failed: BTreeSet<&str> = BTreeSet::new();
    for (number, cell) in open.iter().enumerate() {
        let place = format!("{} of {}: {}", number + 1, open.len(), cell.id);
        if let Some(needed) = cell.needs.as_deref()
            && failed.contains(needed)
        {
            eprintln!("{place}: left out, {needed} failed");
            failed.insert(&cell.id);
            continue;
        }
        let start = Instant::now();
        let log_before = fs::metadata(cell.log()).map_or(0, |log| log.len());
        let Some(status) = program.run(&cell.arguments(), &cell.log())? else {
            eprintln!("stopped at {place}; the same command goes on from there");
            return Ok(Ended::Stopped);
        };
        if !status.success() {
            eprintln!("{place}: {}", last_line(&cell.log(), log_before));
            failed.insert(&cell.id);
            continue;
        }
        if cell.work == Work::Regions {
            fs::write(&cell.result, "").with_context(|| cell.result.display().to_string())?;
        }
        if !cell.has_ended() {
            eprintln!(
                "{place}: {} is missing, see {}",
                cell.result.display(),
                cell.log().display()
            );
            failed.insert(&cell.id);
            continue;
        }
        // The results are what is left of it.
        if let Some(run) = &cell.run {
            let _ = fs::remove_dir_all(run.join("checkpoints"));
        }
        times.add(cell, start.elapsed().as_secs_f64());
        let numbers: Vec<String> = match cell.report() {
            Ok(Some(report)) if cell.work != Work::Regions => cell
                .numbers(&report)
                .into_iter()
                .map(|(metric, value)| format!("{} {value:.*}", metric.title(), metric.digits()))
                .collect(),
            _ => Vec::new(),
        };
        let took = duration(start.elapsed().as_secs_f64());
        println!("{place}: {} ({took}); {}", numbers.join(", "), times.foretell(plan));
    }
    Ok(if failed.is_empty() { Ended::All } else { Ended::Some })
}

/// The last line of what a run added to its log: its error.
fn last_line(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into())
    };
    let text = read().unwrap_or_default();
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map_or_else(|| format!("failed, see {}", log.display()), ToString::to_string)
}
