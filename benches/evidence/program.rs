//! The command `pad`: found or built, run, and ended in order by a signal.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Result, flags::Flags};

/// Ctrl-C, SIGTERM and SIGHUP (a closed terminal). Runs are in process groups of their own, and hear none of them.
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn watch() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let hangup = (!ignores_hangup()).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Self(stop))
    }

    /// Whether a signal has come since the last call.
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Whether this process was started with SIGHUP ignored (`nohup`), and is to outlive its terminal. False where the system
/// does not say.
fn ignores_hangup() -> bool {
    ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default(), SIGHUP)
}

/// Whether a signal is ignored, by the status of a process as Linux gives it.
pub(crate) fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Runs `pad`.
pub(crate) struct Program {
    path: PathBuf,
    flags: Flags,
    stop: Stop,
}

impl Program {
    /// Finds the command: the one that is given, or else a build of this repository.
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
        Ok(Self { path, flags: flags.clone(), stop: Stop::watch()? })
    }

    /// Its name and version.
    pub(crate) fn version(&self) -> Result<String> {
        let named = || self.path.display().to_string();
        let output = Command::new(&self.path).arg("--version").output().with_context(named)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
        if !output.status.success() || text.is_empty() {
            bail!("{}: --version failed, expected the command `pad` (--pad)", named());
        }
        Ok(text)
    }

    /// Runs it to its end, its output in `log`; `None` if a signal ended it.
    pub(crate) fn run(&self, arguments: &[String], log: &Path) -> Result<Option<ExitStatus>> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let named = || log.display().to_string();
        let file = File::options().create(true).append(true).open(log).with_context(named)?;
        let mut command = Command::new(&self.path);
        command.args(arguments).args(self.flags.machine(arguments));
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

/// Builds the command and returns its path: one that lies there may be of other sources.
fn built() -> Result<PathBuf> {
    eprintln!("building the command `pad` (--pad FILE takes one that is there)");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--release", "--quiet", "-p", "pad-ir-cli", "--bin", "pad"];
    let output = Command::new(cargo)
        .current_dir(&root)
        .args(build)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cargo build")?;
    if !output.status.success() {
        bail!("cargo build --release -p pad-ir-cli failed");
    }
    let path = executable(&String::from_utf8_lossy(&output.stdout));
    path.context("cargo build --release -p pad-ir-cli named no executable `pad`")
}

/// The path of `pad` in the messages of cargo: wherever its settings put what is built.
pub(crate) fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = messages.filter(|message| message["target"]["name"] == "pad");
    built.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}
