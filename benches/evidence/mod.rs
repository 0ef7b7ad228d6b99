//! Rows, what they are judged on, the cells of the comparison, their runs, tables and plots. `tests/evidence.rs` has
//! these modules too: it plans, and writes tables and plots of stored results, without running anything.

pub(crate) mod backbone;
pub(crate) mod budget;
pub(crate) mod cell;
pub(crate) mod data;
pub(crate) mod flags;
pub(crate) mod images;
pub(crate) mod judge;
pub(crate) mod line;
pub(crate) mod machine;
pub(crate) mod made;
pub(crate) mod measure;
pub(crate) mod paths;
pub(crate) mod plan;
pub(crate) mod program;
pub(crate) mod report;
pub(crate) mod results;
pub(crate) mod row;
pub(crate) mod run;
pub(crate) mod solar;
pub(crate) mod stats;
pub(crate) mod svg;
pub(crate) mod words;

use std::process::ExitCode;

use clap::Parser;

use flags::Flags;

pub(crate) type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// Plans, runs what has not ended yet, and writes tables and plots of all that has. Without flags it says how it is
/// called.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> Result<ExitCode> {
    let arguments: Vec<String> = arguments.collect();
    // `cargo bench` and `cargo test --benches` start every bench, with the name of one at most.
    if arguments.iter().skip(1).all(|argument| !argument.starts_with('-')) {
        println!("{}", flags::HOW);
        return Ok(ExitCode::SUCCESS);
    }
    let flags = Flags::parse_from(arguments);
    let plan = plan::Plan::new(&flags)?;
    println!("{plan}");
    if flags.plan {
        plan.cells
            .iter()
            .for_each(|cell| println!("{}\n    pad {}", cell.id, cell.command.join(" ")));
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything is made, and before numbers get into the wrong table.
    plan.cells.iter().try_for_each(cell::Cell::check)?;
    let mut ended = run::Ended::All;
    if flags.tables {
        data::check(&plan.sets)?;
    } else {
        data::prepare(&plan.sets)?;
        plan.backbones.iter().try_for_each(backbone::Backbone::prepare)?;
        ended = run::run(&flags, &plan)?;
    }
    let results = results::Results::read(&plan)?;
    for path in report::write(&flags, &plan, &results)? {
        println!("wrote {}", path.display());
    }
    Ok(ended.code())
}
