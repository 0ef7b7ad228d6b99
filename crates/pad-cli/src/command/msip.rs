//! Builds MSIP, the infrared pre-training set of the paper, from the eight public sources as they
//! are downloaded.
//!
//!     pad msip --list
//!     pad msip MSIP --downloads downloads
//!     pad msip MSIP --verify
//!
//! `docs/msip.md` says where the sources are and what of each is taken. A run can be stopped and
//! started again.

use std::{path::PathBuf, str::FromStr};

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use indicatif::{ProgressBar, ProgressStyle};
use pad::data::msip::{
    BuildConfig, Built, EXPECTED, Placing, SOURCES, SourcePlan, SourceSpec, build, verify,
};

use crate::{run::Result, tools::output::print};

/// How images come into the set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Place {
    /// As hard links to the downloads, as copies where a link is impossible
    #[default]
    Link,
    /// As copies
    Copy,
}

/// Where downloads are: of all sources, or of one.
#[derive(Clone, Debug, PartialEq)]
struct Download {
    /// Name of the source; `None` for a folder with all of them.
    source: Option<&'static str>,
    folder: PathBuf,
}

impl FromStr for Download {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A path may have a `=` in it; the name of a source has no `/`.
        match text.split_once('=') {
            Some((name, folder)) if !name.contains(['/', '\\']) => {
                let source = SourceSpec::named(name)
                    .ok_or_else(|| pad::ops::text::unknown_name("source", name, names()))?;
                Ok(Self { source: Some(source.name), folder: folder.into() })
            }
            _ => Ok(Self { source: None, folder: text.into() }),
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|source| source.name)
}

fn source() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(names())
}

/// Builds the MSIP pre-training set from its eight public sources
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of the set
    #[arg(required_unless_present = "list", value_name = "DIR")]
    set: Option<PathBuf>,
    /// Folder of the unpacked downloads, or NAME=DIR for one source; may be repeated
    #[arg(long, value_name = "DIR|NAME=DIR")]
    downloads: Vec<Download>,
    /// Sources to build, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = source())]
    sources: Vec<String>,
    /// How to place images in the set
    #[arg(long, value_enum, default_value_t)]
    place: Place,
    /// Remove near duplicates: images that resemble an earlier one
    #[arg(long)]
    dedup: bool,
    /// Maximum number of bits (of 128) in which the hashes of near duplicates differ
    #[arg(long, value_name = "BITS", default_value_t = BuildConfig::default().near,
        value_parser = clap::value_parser!(u32).range(0..=32))]
    near: u32,
    /// Accept image counts other than the paper's
    #[arg(long)]
    allow_counts: bool,
    /// Compare the set with its manifests; build nothing
    #[arg(long, conflicts_with = "downloads")]
    verify: bool,
    /// Print the sources and where to download them; build nothing
    #[arg(long, conflicts_with_all = ["downloads", "verify"])]
    list: bool,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    if program.list {
        for source in &SOURCES {
            print(format_args!(
                "{:<20} {:>7}  {}  ({})",
                source.name, source.expected, source.page, source.terms
            ))?;
        }
        return print(format_args!("{:<20} {EXPECTED:>7}", "in all"));
    }
    let Some(set) = &program.set else { return Err("expected DIR, the folder of the set".into()) };
    if program.verify {
        let (images, faults) = verify(set)?;
        faults.iter().for_each(|fault| tracing::error!("{fault}"));
        if let Some(first) = faults.first() {
            return Err(
                format!("{} faults in {images} images; first: {first}", faults.len()).into()
            );
        }
        return print(format_args!(
            "{}: {images} images are as their manifests say",
            set.display()
        ));
    }
    let plans = plans(program)?;
    let config = BuildConfig {
        placing: match program.place {
            Place::Link => Placing::Link,
            Place::Copy => Placing::Copy,
        },
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
    report(&built)?;
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

/// Plans all sources before any is touched.
fn plans(program: &Program) -> Result<Vec<SourcePlan>> {
    let below = |name: Option<&str>| {
        program.downloads.iter().find(|download| download.source == name).map(|found| &found.folder)
    };
    let mut plans = Vec::new();
    for source in &SOURCES {
        let name = source.name;
        if !program.sources.is_empty() && !program.sources.iter().any(|wanted| wanted == name) {
            continue;
        }
        let folder = match (below(Some(name)), below(None)) {
            (Some(folder), _) => folder.clone(),
            (None, Some(downloads)) => SourcePlan::locate(source, downloads)?,
            (None, None) => {
                return Err(
                    format!("{name}: expected --downloads DIR or --downloads {name}=DIR").into()
                );
            }
        };
        let plan = SourcePlan::new(source, &folder)?;
        tracing::info!("{name}: {} files of {}", plan.images.len(), folder.display());
        plans.push(plan);
    }
    Ok(plans)
}

/// Prints what became of each source.
fn report(built: &[Built]) -> Result<()> {
    for error in built.iter().flat_map(|one| &one.unreadable) {
        tracing::error!("left out: {error}");
    }
    let head = ["found", "expected", "difference", "dark", "unreadable", "near", "removed"];
    let cells: String = head.iter().map(|name| format!(" {name:>10}")).collect();
    print(format_args!("{:<20}{cells}", "source"))?;
    let mut sums = [0_i64; 7];
    for one in built {
        let (found, expected) = (one.found as i64, one.source.expected as i64);
        let rest =
            [one.dark, one.unreadable.len(), one.near, one.removed].map(|count| count as i64);
        let numbers = [found, expected, found - expected, rest[0], rest[1], rest[2], rest[3]];
        print(row(one.source.name, &numbers))?;
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    print(row("in all", &sums))
}

fn row(name: &str, numbers: &[i64; 7]) -> String {
    let cell = |(column, number): (usize, &i64)| match column {
        2 => format!(" {number:>+10}"), // the difference has its sign
        _ => format!(" {number:>10}"),
    };
    format!("{name:<20}{}", numbers.iter().enumerate().map(cell).collect::<String>())
}
