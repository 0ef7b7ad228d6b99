//! The cells one after another. A signal ends the run of the moment in order; the next call goes on from there.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;

use super::{
    Result,
    cell::{Cell, Work},
    flags::Flags,
    machine,
    measure::Times,
    plan::Plan,
    program::Program,
    words::duration,
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

/// Runs all cells that have not ended.
pub(crate) fn run(flags: &Flags, plan: &Plan) -> Result<Ended> {
    let open: Vec<&Cell> = plan.cells.iter().filter(|cell| !cell.has_ended()).collect();
    if open.is_empty() {
        return Ok(Ended::All);
    }
    let program = Program::find(flags)?;
    machine::note(&flags.out, &machine::line(flags, &program.version()?))?;
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
        cell.claim()?;
        let start = Instant::now();
        let log_before = fs::metadata(cell.log()).map_or(0, |log| log.len());
        let status = program.run(&cell.arguments(), &cell.log())?;
        let session = start.elapsed().as_secs_f64();
        cell.add_session(session)?;
        let Some(status) = status else {
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
        cell.tidy();
        let took = cell.elapsed().unwrap_or(session);
        times.add(cell, took);
        let numbers: Vec<String> = match cell.report() {
            Ok(Some(report)) if cell.work != Work::Regions => cell
                .numbers(&report)
                .into_iter()
                .map(|(metric, value)| format!("{} {value:.*}", metric.title(), metric.digits()))
                .collect(),
            _ => Vec::new(),
        };
        let (numbers, took) = (numbers.join(", "), duration(took));
        println!("{place}: {numbers} ({took}); {}", times.foretell(plan));
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
