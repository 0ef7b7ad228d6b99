//! What the cells that have ended say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Result, backbone::Backbone, cell::Cell, judge::Metric, plan::Plan, row::Row, stats::Spread,
};

/// What a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// Values that trained.
    pub(crate) trained: Option<f64>,
    pub(crate) seconds: Option<f64>,
    pub(crate) peak_mib: Option<f64>,
}

impl Cost {
    fn of(cell: &Cell, report: &Value) -> Self {
        // Probes have it one level below.
        let trained = report["trained"].as_f64().or(report["finetune"]["trained"].as_f64());
        Self { trained, seconds: cell.seconds(report), peak_mib: cell.peak_mib(report) }
    }
}

/// A backbone and a row.
type Place = (&'static str, &'static str);

/// The numbers of all rows by seed, and what they took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    values: BTreeMap<(Place, Metric), BTreeMap<u64, f64>>,
    costs: BTreeMap<(Place, &'static str), Vec<Cost>>,
    /// Cells that have ended.
    pub(crate) ended: usize,
}

impl Results {
    /// Reads the results of all cells that have ended.
    pub(crate) fn read(plan: &Plan) -> Result<Self> {
        let mut results = Self::default();
        for cell in &plan.cells {
            results.ended += usize::from(cell.has_ended());
        }
        for backbone in &plan.backbones {
            for row in &plan.rows {
                for &seed in &plan.seeds {
                    results.add_row(plan, backbone, row, seed)?;
                }
            }
        }
        Ok(results)
    }

    fn add_row(&mut self, plan: &Plan, backbone: &Backbone, row: &Row, seed: u64) -> Result<()> {
        let place = (backbone.id, row.id);
        let mut add = |cell: &Cell, work: &'static str| -> Result<()> {
            let Some(report) = cell.report()? else { return Ok(()) };
            for (metric, value) in cell.numbers(&report) {
                self.values.entry((place, metric)).or_default().insert(seed, value);
            }
            self.costs.entry((place, work)).or_default().push(Cost::of(cell, &report));
            Ok(())
        };
        if let Some(cell) = plan.pretrain(backbone, row, seed) {
            add(&cell, "pretrain")?;
        }
        for &judge in &plan.judges {
            add(&plan.judge(backbone, row, seed, judge), judge.name())?;
        }
        Ok(())
    }

    /// The numbers of a row by seed.
    pub(crate) fn by_seed(&self, place: Place, metric: Metric) -> Option<&BTreeMap<u64, f64>> {
        self.values.get(&(place, metric))
    }

    /// Mean and interval of a row.
    pub(crate) fn spread(&self, place: Place, metric: Metric) -> Option<Spread> {
        let values: Vec<f64> = self.by_seed(place, metric)?.values().copied().collect();
        Spread::of(&values)
    }

    /// Mean and interval of the difference of two rows by seed, positive where the first one is better; `None` for the
    /// held-out loss, which compares their decoders too.
    pub(crate) fn gain(
        &self,
        backbone: &'static str,
        [row, other]: [&'static str; 2],
        metric: Metric,
    ) -> Option<Spread> {
        if metric.is_loss() {
            return None;
        }
        let of = |row| self.by_seed((backbone, row), metric);
        Spread::of_differences(of(row)?, of(other)?)
    }

    /// What a kind of run of a row took: means over seeds, the highest memory.
    pub(crate) fn cost(&self, place: Place, work: &'static str) -> Option<Cost> {
        let costs = self.costs.get(&(place, work))?;
        let mean = |of: fn(&Cost) -> Option<f64>| {
            let values: Vec<f64> = costs.iter().filter_map(of).collect();
            Spread::of(&values).map(|spread| spread.mean)
        };
        Some(Cost {
            trained: mean(|cost| cost.trained),
            seconds: mean(|cost| cost.seconds),
            peak_mib: costs.iter().filter_map(|cost| cost.peak_mib).reduce(f64::max),
        })
    }
}
