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

use super::{Result, flags::Flags};

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
