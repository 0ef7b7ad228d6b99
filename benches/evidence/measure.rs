//! How long cells take: from those that have ended, and before the first one from the first updates of short runs.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use serde_json::Value;

use super::{
    Result,
    cell::{Cell, Work},
    data::Sets,
    judge::Judge,
    plan::{EVALUATIONS, Plan},
    program::Program,
    words::{counted, duration},
};

/// Updates of a run that is measured.
const UPDATES: usize = 3;

/// Time of cells by their kind, seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// Of cells that have ended: sum and number.
    whole: BTreeMap<String, (f64, usize)>,
    /// Foretold from first updates.
    foretold: BTreeMap<String, f64>,
}

impl Times {
    /// The times of the cells that have ended.
    pub(crate) fn of_ended(plan: &Plan) -> Result<Self> {
        let mut times = Self::default();
        for cell in plan.cells.iter().filter(|cell| cell.work != Work::Regions) {
            let Some(report) = cell.report()? else { continue };
            if let Some(seconds) = cell.elapsed().or(report["seconds"].as_f64()) {
                times.add(cell, seconds);
            }
        }
        Ok(times)
    }

    /// Takes note of a cell.
    pub(crate) fn add(&mut self, cell: &Cell, seconds: f64) {
        let (sum, count) = self.whole.entry(cell.shape.clone()).or_default();
        *sum += seconds;
        *count += 1;
    }

    /// The time of a cell, seconds.
    pub(crate) fn of(&self, cell: &Cell) -> Option<f64> {
        let whole = self.whole.get(&cell.shape).map(|&(sum, count)| sum / count.max(1) as f64);
        whole.or_else(|| self.foretold.get(&cell.shape).copied())
    }

    /// Measures a short run of each kind of training of which none has ended and that needs no pre-training; `false`
    /// if a signal came.
    pub(crate) fn measure(&mut self, program: &Program, plan: &Plan, out: &Path) -> Result<bool> {
        for cell in &plan.cells {
            let can = cell.needs.as_deref().is_none_or(|needed| {
                plan.cell(needed).is_none_or(Cell::has_ended) || cell.work == Work::Pretrain
            });
            if cell.has_ended() || !can || cell.steps <= 10 * UPDATES || self.of(cell).is_some() {
                continue;
            }
            let place = out.join("measured").join(cell.shape.replace('/', "_"));
            let _ = fs::remove_dir_all(&place);
            let Some(status) = program.run(&short(cell, &place), &place.with_extension("log"))?
            else {
                return Ok(false);
            };
            // What is wrong with it the cell itself will say.
            if status.success()
                && let Some(seconds) = foretold(cell, &place, &plan.sets)?
            {
                self.foretold.insert(cell.shape.clone(), seconds);
            }
            let _ = fs::remove_dir_all(&place);
        }
        Ok(true)
    }

    /// What is left, in words.
    pub(crate) fn foretell(&self, plan: &Plan) -> String {
        let open: Vec<&Cell> = plan.cells.iter().filter(|cell| !cell.has_ended()).collect();
        let known: Vec<f64> = open.iter().filter_map(|cell| self.of(cell)).collect();
        let unknown = open.len() - known.len();
        let mut text = counted(open.len(), "cell") + " left";
        if !known.is_empty() {
            text += &format!(", about {}", duration(known.iter().sum()));
        }
        if unknown > 0 && !known.is_empty() {
            text += &format!(" and {unknown} of unknown length");
        }
        text
    }
}

/// The arguments of a short run in place of a cell's: fewer updates, and little to evaluate.
pub(crate) fn short(cell: &Cell, place: &Path) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut words = cell.command.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--max-steps" | "--out" | "--json" | "--val-images" => {
                words.next();
            }
            _ => arguments.push(word.clone()),
        }
    }
    arguments.extend(["--max-steps".into(), UPDATES.to_string()]);
    let place = place.display().to_string();
    match cell.work {
        Work::Pretrain => arguments.extend(["--out".into(), place]),
        Work::Judge(judge) if judge.is_run() => {
            arguments.extend(["--val-images".into(), "4".into(), "--out".into(), place]);
        }
        _ => arguments.extend(["--json".into(), format!("{place}/report.json")]),
    }
    arguments
}

/// The time of a cell, given what its short run left; `None` where it cannot be told.
pub(crate) fn foretold(cell: &Cell, place: &Path, sets: &Sets) -> Result<Option<f64>> {
    let json = |name: &str| -> Result<Value> {
        let path = place.join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    let steps = cell.steps as f64;
    if matches!(cell.work, Work::Judge(judge) if !judge.is_run()) {
        // The updates, and what testing takes.
        let report = json("report.json")?;
        let (fit, all) = (report["finetune"]["seconds"].as_f64(), report["seconds"].as_f64());
        return Ok(fit.zip(all).map(|(fit, all)| fit / UPDATES as f64 * steps + (all - fit)));
    }
    let log = fs::read_to_string(place.join("log.jsonl")).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let each: Vec<f64> = lines.filter_map(|line| line["train/seconds"].as_f64()).collect();
    // The first update allocates what the others use.
    let Some(each) = each.iter().skip(1).copied().reduce(f64::min) else { return Ok(None) };
    let summary = json("summary.json")?;
    let evaluations = summary["seconds"].as_f64().unwrap_or_default() - UPDATES as f64 * each;
    let evaluation = match cell.work {
        // Once before, once behind the updates, and once more for the result.
        Work::Judge(judge) => {
            let Some(images) = evaluated(cell, judge, sets) else { return Ok(None) };
            let image = summary["val"]["speed"]["median_ms"].as_f64().unwrap_or_default() / 1000.0;
            3.0 * images * image
        }
        // The short run was evaluated before and behind its updates.
        _ => evaluations / 2.0 * (1 + EVALUATIONS) as f64,
    };
    Ok(Some(each * steps + evaluation.max(0.0)))
}

/// The number of images that a judge evaluates: all of the set, or the first ones.
fn evaluated(cell: &Cell, judge: Judge, sets: &Sets) -> Option<f64> {
    let most = flag(cell, "--val-images").or(flag(cell, "--val-scenes"));
    let all = sets.evaluated(judge).map(|images| images as f64);
    all.into_iter().chain(most).reduce(f64::min)
}

/// The number behind a flag of a cell.
fn flag(cell: &Cell, name: &str) -> Option<f64> {
    let at = cell.command.iter().position(|word| word == name)?;
    cell.command.get(at + 1)?.parse().ok()
}
