//! Builds MSIP, the infrared pre-training set of the paper, from the eight public sources as they are downloaded.
//!
//!     cargo run --release --example msip -- --sources
//!     cargo run --release --example msip -- MSIP --from downloads
//!     cargo run --release --example msip -- MSIP --verify
//!
//! `docs/msip.md` says where the sources are and what of each is taken. A run can be stopped and started again.

use std::{path::PathBuf, };

use clap::Args;
use crate::run::Result;
use indicatif::{ProgressBar, ProgressStyle};
use pad::data::msip::{
    BuildConfig, Built, EXPECTED, Placing, Plan, SOURCES, SourceSpec, build, verify,
};

/// Builds MSIP from its eight public sources.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of the set
    #[arg(required_unless_present = "sources", value_name = "MSIP")]
    set: Option<PathBuf>,
    /// Folder below which the downloads are unpacked
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// A source's download where it is not found below --from; may be repeated
    #[arg(long, value_name = "NAME=DIR")]
    download: Vec<String>,
    /// Build these sources alone
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Hard links to the downloads, copies where that is impossible (default)
    #[arg(long, conflicts_with = "copy")]
    link: bool,
    /// Copies of the downloads
    #[arg(long)]
    copy: bool,
    /// Take out images that look like an earlier one
    #[arg(long)]
    dedup: bool,
    /// Bits (of 128) by which images differ at most that look alike
    #[arg(long, value_name = "BITS", default_value_t = BuildConfig::default().near,
        value_parser = clap::value_parser!(u32).range(0..=32))]
    near: u32,
    /// Accept other numbers of images than the paper's
    #[arg(long)]
    allow_counts: bool,
    /// Compare the set with its manifests; build nothing
    #[arg(long, conflicts_with = "from")]
    verify: bool,
    /// Print the sources and where they are to be had
    #[arg(long)]
    sources: bool,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    if program.sources {
        for source in &SOURCES {
            println!(
                "{:<20} {:>7}  {}  ({})",
                source.name, source.expected, source.page, source.terms
            );
        }
        println!("{:<20} {EXPECTED:>7}", "together");
        return Ok(());
    }
    let Some(set) = &program.set else { return Err("no folder for the set".into()) };
    if program.verify {
        let (images, faults) = verify(set)?;
        faults.iter().for_each(|fault| tracing::error!("{fault}"));
        if let Some(first) = faults.first() {
            return Err(
                format!("{} faults in {images} images; first: {first}", faults.len()).into()
            );
        }
        println!("{}: {images} images are as their manifests say", set.display());
        return Ok(());
    }
    let plans = plans(program)?;
    let config = BuildConfig {
        placing: if program.copy { Placing::Copy } else { Placing::Link },
        near: program.near,
        dedup: program.dedup,
        ..Default::default()
    };
    let total = plans.iter().map(|plan| plan.images.len() as u64).sum();
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(
        "{prefix:20} {wide_bar} {pos}/{len} {per_sec} left {eta}",
    )?);
    let (mut before, mut source) = (0, String::new());
    let mut last = 0;
    let built = build(&plans, set, &config, &mut |progress| {
        if progress.source != source {
            before += last;
            source = progress.source.to_string();
            bar.set_prefix(source.clone());
        }
        last = progress.total as u64;
        bar.set_position(before + progress.done as u64);
    })?;
    bar.finish_and_clear();
    report(&built);
    let wrong: Vec<&str> =
        built.iter().filter(|one| !one.is_as_expected()).map(|one| one.source.name).collect();
    if !wrong.is_empty() && !program.allow_counts {
        return Err(format!(
            "expected the paper's number of images, found another for {} (see the table; --allow-counts accepts it)",
            wrong.join(", ")
        )
        .into());
    }
    Ok(())
}

/// What is to be done, for all sources before any is touched.
fn plans(program: &Program) -> Result<Vec<Plan>> {
    let named = |name: &str| {
        SourceSpec::named(name).ok_or_else(|| {
            let names: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
            format!("source `{name}`, expected one of {}", names.join(", "))
        })
    };
    for name in &program.only {
        named(name)?;
    }
    let mut given = Vec::new();
    for pair in &program.download {
        let Some((name, folder)) = pair.split_once('=') else {
            return Err(format!("--download `{pair}`, expected NAME=DIR").into());
        };
        given.push((named(name)?.name, PathBuf::from(folder)));
    }
    let mut plans = Vec::new();
    for source in &SOURCES {
        if !program.only.is_empty() && !program.only.iter().any(|name| name == source.name) {
            continue;
        }
        let folder = match (given.iter().find(|(name, _)| *name == source.name), &program.from) {
            (Some((_, folder)), _) => folder.clone(),
            (None, Some(downloads)) => Plan::locate(source, downloads)?,
            (None, None) => {
                return Err(
                    format!("{}: expected --from DIR or --download {0}=DIR", source.name).into()
                );
            }
        };
        let plan = Plan::new(source, &folder)?;
        tracing::info!("{}: {} files of {}", source.name, plan.images.len(), folder.display());
        plans.push(plan);
    }
    Ok(plans)
}

fn report(built: &[Built]) {
    for error in built.iter().flat_map(|one| &one.unreadable) {
        tracing::error!("left out: {error}");
    }
    let head = ["found", "expected", "difference", "dark", "unreadable", "near", "removed"];
    print!("{:<20}", "source");
    head.iter().for_each(|name| print!(" {name:>10}"));
    println!();
    let mut sums = [0_i64; 7];
    for one in built {
        let (found, expected) = (one.found as i64, one.source.expected as i64);
        let rest =
            [one.dark, one.unreadable.len(), one.near, one.removed].map(|count| count as i64);
        let numbers = [found, expected, found - expected, rest[0], rest[1], rest[2], rest[3]];
        print_row(one.source.name, &numbers);
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    print_row("together", &sums);
}

fn print_row(name: &str, numbers: &[i64; 7]) {
    print!("{name:<20}");
    for (column, number) in numbers.iter().enumerate() {
        // The difference has its sign.
        let text = if column == 2 { format!("{number:+}") } else { number.to_string() };
        print!(" {text:>10}");
    }
    println!();
}

