//! `evidence.md` and its plots.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::Context;

use super::{
    Result,
    backbone::Backbone,
    flags::Flags,
    judge::{Judge, Metric},
    machine,
    plan::Plan,
    results::Results,
    row::{PAD, Row},
    stats::Spread,
    svg::{Curve, Entry, curves, forest},
    words::counted,
};

/// Writes the tables and plots of what has ended; returns their paths.
pub(crate) fn write(flags: &Flags, plan: &Plan, results: &Results) -> Result<Vec<PathBuf>> {
    let folder = flags.out.join("tables");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut files = BTreeMap::from([("evidence.md".to_string(), markdown(flags, plan, results))]);
    files.extend(pictures(plan, results));
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        pad::ops::fs::write_atomic_bytes(&path, text.as_bytes())
            .with_context(|| path.display().to_string())?;
        paths.push(path);
    }
    Ok(paths)
}

/// The numbers of a backbone's table: those that some row has.
fn metrics(plan: &Plan, results: &Results, backbone: &Backbone) -> Vec<Metric> {
    let has = |metric: &Metric| {
        plan.rows.iter().any(|row| results.by_seed((backbone.id, row.id), *metric).is_some())
    };
    Metric::ALL.into_iter().filter(has).collect()
}

/// The text with all tables.
pub(crate) fn markdown(flags: &Flags, plan: &Plan, results: &Results) -> String {
    let seeds: Vec<String> = plan.seeds.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "Made by `cargo bench --bench evidence`, budget `{}`, seeds {}; {} of {} cells have ended.\n\n",
        flags.budget.name(),
        seeds.join(", "),
        results.ended,
        plan.cells.len()
    );
    for line in plan.sets.describe() {
        text += &format!("- {line}\n");
    }
    for line in machine::noted(&flags.out) {
        text += &format!("- run on: {line}\n");
    }
    if flags.budget == super::budget::BudgetName::Tiny {
        text += "\n**Tiny runs: they show that everything runs, and nothing about any row.**\n";
    }
    text += "\nAP, AP50, mIoU and balanced accuracy in per cent. Mean ± standard deviation over seeds, and below it the \
             95% interval of the mean (Student's t), where seeds differ. The held-out loss is that of encoder and decoder, \
             whose rates differ from row to row: it says that a run has learnt, and is not compared.\n";
    for backbone in &plan.backbones {
        let columns = metrics(plan, results, backbone);
        if columns.is_empty() {
            continue;
        }
        text += &format!("\n## On {}\n", backbone.title);
        text += &main_table(plan, results, backbone, &columns, true);
        text += &gain_table(plan, results, backbone, &columns, true);
        if plan.rows.iter().any(|row| !row.is_main) {
            text += "\n### Variants of PAD\n";
            text += &main_table(plan, results, backbone, &columns, false);
            text += &gain_table(plan, results, backbone, &columns, false);
        }
        text += &verdicts(plan, results, backbone, &columns);
        text += &cost_table(plan, results, backbone);
    }
    text
}

/// The numbers by which rows are compared.
fn compared(columns: &[Metric]) -> Vec<Metric> {
    columns.iter().copied().filter(|metric| !metric.is_loss()).collect()
}

/// Whether a number of a row is its own: rows with the same weights share what is measured on frozen features.
fn is_own(plan: &Plan, row: &Row, metric: Metric) -> bool {
    let owner = row.weights_of();
    let is_shared = metric.judge() == Some(Judge::Probe) && owner != row.id;
    !(is_shared && plan.rows.iter().any(|other| other.id == owner))
}

/// The rows of a table: what is compared with PAD, or its variants beside it.
fn rows(plan: &Plan, main: bool) -> impl Iterator<Item = &Row> {
    plan.rows.iter().filter(move |row| row.is_main == main || (!main && row.id == PAD))
}

fn header(first: &str, columns: &[Metric]) -> String {
    let names: Vec<&str> = columns.iter().map(|metric| metric.title()).collect();
    format!("\n| {first} | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(columns.len()))
}

/// A line of a table; `-` where there is no number.
fn line(name: &str, columns: &[Metric], of: impl Fn(Metric) -> Option<String>) -> String {
    let cells: Vec<String> =
        columns.iter().map(|&metric| of(metric).unwrap_or_else(|| "-".into())).collect();
    format!("| {name} | {} |\n", cells.join(" | "))
}

fn main_table(
    plan: &Plan,
    results: &Results,
    backbone: &Backbone,
    columns: &[Metric],
    main: bool,
) -> String {
    let mut text = header("row", columns);
    for row in rows(plan, main) {
        let name = if row.id == PAD { format!("**{}**", row.title) } else { row.title.into() };
        text += &line(&name, columns, |metric| {
            results.spread((backbone.id, row.id), metric).map(|s| value(&s, metric))
        });
    }
    text
}

/// A mean with its spread and interval.
fn value(spread: &Spread, metric: Metric) -> String {
    let digits = metric.digits();
    let mut text = format!("{:.digits$}", spread.mean);
    if let Some(deviation) = spread.deviation {
        text += &format!(" ± {deviation:.digits$}");
    }
    if let Some((low, high)) = spread.interval() {
        text += &format!("<br>[{low:.digits$}, {high:.digits$}]");
    }
    text
}

/// PAD beside each other row, by seed; or each variant beside PAD.
fn gain_table(
    plan: &Plan,
    results: &Results,
    backbone: &Backbone,
    columns: &[Metric],
    main: bool,
) -> String {
    if !plan.rows.iter().any(|row| row.id == PAD) {
        return String::new();
    }
    let first = if main { "PAD minus" } else { "minus PAD" };
    let mut text = format!(
        "\nDifferences by seed, positive where {} is better; bold where the 95% interval is on one side of 0.\n",
        if main { "PAD" } else { "the variant" }
    );
    let columns = compared(columns);
    text += &header(first, &columns);
    for row in rows(plan, main).filter(|row| row.id != PAD) {
        let pair = if main { [PAD, row.id] } else { [row.id, PAD] };
        text += &line(row.title, &columns, |metric| match is_own(plan, row, metric) {
            true => results.gain(backbone.id, pair, metric).map(|s| difference(&s, metric)),
            false => Some("as above".into()),
        });
    }
    text
}

fn difference(spread: &Spread, metric: Metric) -> String {
    let digits = metric.digits();
    let mean = format!("{:+.digits$}", spread.mean);
    let mean = if spread.side() == 0 { mean } else { format!("**{mean}**") };
    match spread.interval() {
        Some((low, high)) => format!("{mean}<br>[{low:+.digits$}, {high:+.digits$}]"),
        None => mean,
    }
}

/// What the intervals allow to say, a sentence for each number.
fn verdicts(plan: &Plan, results: &Results, backbone: &Backbone, columns: &[Metric]) -> String {
    let mut text = String::from("\n### What the intervals say\n\n");
    if !plan.rows.iter().any(|row| row.id == PAD) {
        return text
            + "Nothing: the row `pad`, with which the others are compared, is not among them.\n";
    }
    let side = |row: &Row, metric: Metric| {
        let gain = results.gain(backbone.id, [PAD, row.id], metric)?;
        (gain.half.is_some() && is_own(plan, row, metric)).then(|| gain.side())
    };
    let (others, variants): (Vec<&Row>, Vec<&Row>) =
        plan.rows.iter().filter(|row| row.id != PAD).partition(|row| row.is_main);
    let (mut main, mut of_variants) = (0, 0);
    for metric in compared(columns) {
        of_variants += variants.iter().filter_map(|row| side(row, metric)).count();
        let mut names: [Vec<&str>; 3] = Default::default();
        for row in &others {
            let Some(side) = side(row, metric) else { continue };
            main += 1;
            names[usize::try_from(side + 1).unwrap_or(1)].push(row.title);
        }
        let [behind, undecided, ahead] = names.map(|list| list.join("; "));
        if behind.is_empty() && undecided.is_empty() && ahead.is_empty() {
            continue;
        }
        let or_none = |list: String| if list.is_empty() { "no row".to_string() } else { list };
        text += &format!(
            "- {}: PAD ahead of {}; behind {}; undecided: {}.\n",
            metric.title(),
            or_none(ahead),
            or_none(behind),
            or_none(undecided)
        );
    }
    let all = main + of_variants;
    if all == 0 {
        return text
            + "Nothing: an interval needs two seeds that have ended, and numbers that differ.\n";
    }
    let chance = all as f64 * 0.05;
    let digits = usize::from(chance < 10.0);
    text + &format!(
        "\n{} ({main} with other rows, {of_variants} with variants), of which about {chance:.digits$} would be on one \
         side of 0 by chance if no row differed.\n",
        counted(all, "comparison")
    )
}

fn cost_table(plan: &Plan, results: &Results, backbone: &Backbone) -> String {
    let mut text = String::from(
        "\n### Cost\n\nMeans over seeds, the highest memory of any.\n\n| row | values that train | seconds | peak MiB \
         | seconds of each judge |\n|---|---|---|---|---|\n",
    );
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}"));
    for row in &plan.rows {
        let place = (backbone.id, row.id);
        let run = results.cost(place, "pretrain").unwrap_or_default();
        let judges: Vec<String> = plan
            .judges
            .iter()
            .filter_map(|judge| {
                let cost = results.cost(place, judge.name())?;
                Some(format!("{} {}", judge.name(), number(cost.seconds)))
            })
            .collect();
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            row.title,
            number(run.trained),
            number(run.seconds),
            number(run.peak_mib),
            judges.join(", ")
        );
    }
    text
}

/// All plots by the names of their files.
pub(crate) fn pictures(plan: &Plan, results: &Results) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for backbone in &plan.backbones {
        for metric in metrics(plan, results, backbone) {
            let unit = if metric.is_loss() { "less is better" } else { "per cent" };
            let title = format!("{}, {}", metric.title(), backbone.title.replace('`', ""));
            let entries = means(plan, results, backbone, metric);
            let name = format!("{}_{}.svg", backbone.id, metric.name());
            files.insert(name, forest(&title, unit, &entries, false));
            let entries = gains(plan, results, backbone, metric);
            if !entries.is_empty() {
                let name = format!("{}_{}_gain.svg", backbone.id, metric.name());
                let unit = "PAD minus the row, by seed: right of 0 PAD is better";
                files.insert(name, forest(&title, unit, &entries, true));
            }
        }
        let lines = label_curves(plan, results, backbone);
        if lines.iter().any(|line| line.points.len() > 1) {
            let title = format!("fine-tuned, {}", backbone.title.replace('`', ""));
            let unit = "share of the labels; balanced accuracy, per cent";
            let svg = curves(&title, unit, &["1%", "10%", "100%"], &lines);
            files.insert(format!("{}_labels.svg", backbone.id), svg);
        }
    }
    files
}

fn means(plan: &Plan, results: &Results, backbone: &Backbone, metric: Metric) -> Vec<Entry> {
    let entry = |row: &Row| {
        let place = (backbone.id, row.id);
        let spread = results.spread(place, metric)?;
        Some(Entry {
            label: row.title.into(),
            mean: spread.mean,
            interval: spread.interval(),
            points: results.by_seed(place, metric)?.values().copied().collect(),
            class: if row.id == PAD { "main" } else { "mark" },
        })
    };
    plan.rows.iter().filter_map(entry).collect()
}

fn gains(plan: &Plan, results: &Results, backbone: &Backbone, metric: Metric) -> Vec<Entry> {
    let entry = |row: &Row| {
        let gain = results.gain(backbone.id, [PAD, row.id], metric)?;
        Some(Entry {
            label: row.title.into(),
            mean: gain.mean,
            interval: gain.interval(),
            points: Vec::new(),
            class: match gain.side() {
                1 => "better",
                -1 => "worse",
                _ => "mark",
            },
        })
    };
    let others = plan.rows.iter().filter(|row| row.id != PAD && is_own(plan, row, metric));
    others.filter_map(entry).collect()
}

fn label_curves(plan: &Plan, results: &Results, backbone: &Backbone) -> Vec<Curve> {
    let shares = [Metric::Finetune1, Metric::Finetune10, Metric::Finetune100];
    let curve = |row: &Row| {
        let points: Vec<_> = shares
            .iter()
            .enumerate()
            .filter_map(|(at, &metric)| {
                let spread = results.spread((backbone.id, row.id), metric)?;
                Some((at, spread.mean, spread.interval()))
            })
            .collect();
        (!points.is_empty()).then(|| Curve { label: row.title.into(), points })
    };
    rows(plan, true).filter_map(curve).collect()
}
