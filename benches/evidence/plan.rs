//! The cells: every row of every backbone with every seed, pre-trained and judged.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use anyhow::{Context, ensure};

use super::{
    Result,
    backbone::Backbone,
    budget::Budget,
    cell::{Cell, Work, text},
    data::Sets,
    flags::Flags,
    judge::Judge,
    line::Line,
    row::Row,
    words::counted,
};

/// Evaluations of a pre-training run.
pub(crate) const EVALUATIONS: usize = 10;

/// What is run, in order: with the first seed everything, then with the next one.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) backbones: Vec<Backbone>,
    pub(crate) rows: Vec<Row>,
    pub(crate) judges: Vec<Judge>,
    pub(crate) seeds: Vec<u64>,
    pub(crate) budget: Budget,
    pub(crate) sets: Sets,
    pub(crate) cells: Vec<Cell>,
    /// Where runs are.
    root: PathBuf,
}

impl Plan {
    /// Plans what the flags say. Nothing is written.
    pub(crate) fn new(flags: &Flags) -> Result<Self> {
        let out = std::path::absolute(&flags.out)
            .with_context(|| format!("{}: not a path", flags.out.display()))?;
        ensure!(!flags.seeds.is_empty(), "no seed, expected at least one");
        let unique: BTreeSet<u64> = flags.seeds.iter().copied().collect();
        ensure!(unique.len() == flags.seeds.len(), "a seed is given twice");
        let budget = Budget::from(flags.budget);
        let mut plan = Self {
            backbones: Backbone::all(flags, &out)?,
            rows: Row::named(&flags.only)?,
            judges: flags.judges(),
            seeds: flags.seeds.clone(),
            budget,
            sets: Sets::new(flags, &budget, &out)?,
            cells: Vec::new(),
            root: out.join("runs"),
        };
        plan.fill();
        Ok(plan)
    }

    fn fill(&mut self) {
        let mut cells: Vec<Cell> = self.sets.regions().into_iter().collect();
        for &seed in &self.seeds {
            for backbone in &self.backbones {
                for row in &self.rows {
                    cells.extend(self.pretrain(backbone, row, seed));
                    cells.extend(
                        self.judges.iter().map(|&judge| self.judge(backbone, row, seed, judge)),
                    );
                }
            }
        }
        // Rows with the same weights share what does not depend on what trains afterwards.
        let mut known = BTreeSet::new();
        cells.retain(|cell| known.insert(cell.id.clone()));
        self.cells = cells;
    }

    /// The cell of a pre-training; `None` for a row without.
    pub(crate) fn pretrain(&self, backbone: &Backbone, row: &Row, seed: u64) -> Option<Cell> {
        let run = row.pretraining?;
        let budget = &self.budget;
        let id = format!("{}/{}/{seed}/pretrain", backbone.id, row.id);
        let folder = self.root.join(&id);
        let steps = if run.is_random { 1 } else { budget.pretrain_steps };
        let mut line = Line::new(&["pretrain"]);
        line.recipe("pretrain");
        self.sets.pretraining(&mut line);
        line.weights(backbone, &run);
        line.flag("--paradigm", run.paradigm);
        line.flag("--blr", run.blr);
        line.0.extend(run.flags.iter().map(ToString::to_string));
        line.flag("--image-size", backbone.fit(budget.pretrain_size));
        line.flag("--batch-size", budget.pretrain_batch);
        line.flag("--max-steps", steps);
        line.flag("--warmup-steps", steps / 10);
        // Gates thaw after an epoch of the trainer, which is the time between two evaluations.
        line.flag("--eval-steps", (steps / EVALUATIONS).max(1));
        line.flag("--seed", seed);
        line.flag("--out", text(&folder));
        let kind = if run.is_random { "random" } else { run.paradigm };
        Some(Cell {
            needs: self.sets.regions().map(|cell| cell.id),
            work: Work::Pretrain,
            command: line.0,
            result: folder.join("summary.json"),
            run: Some(folder),
            shape: format!("{}/pretrain/{kind}", backbone.id),
            steps,
            id,
        })
    }

    /// The cell of a judge.
    pub(crate) fn judge(&self, backbone: &Backbone, row: &Row, seed: u64, judge: Judge) -> Cell {
        // Frozen features are those of the weights; whatever trains is the row's.
        let owner = if judge == Judge::Probe { row.weights_of() } else { row.id };
        let id = format!("{}/{owner}/{seed}/{}", backbone.id, judge.name());
        let place = self.root.join(&id);
        let pretrained = self.pretrain(backbone, row, seed);
        let source = pretrained.as_ref().and_then(|cell| cell.run.as_deref());
        let (mut line, steps) = match judge {
            Judge::Detect => (self.detect(backbone, row), self.budget.detect_steps),
            Judge::Segment => (self.segment(backbone, row), self.budget.segment_steps),
            Judge::Probe => (self.probe(backbone, "both"), 0),
            Judge::Finetune1 => self.finetune(backbone, row, judge, 0),
            Judge::Finetune10 => self.finetune(backbone, row, judge, 1),
            Judge::Finetune100 => self.finetune(backbone, row, judge, 2),
        };
        line.start(backbone, source);
        line.flag("--seed", seed);
        let (run, result) = match judge.is_run() {
            true => (Some(place.clone()), place.join("summary.json")),
            false => (None, place.with_extension("json")),
        };
        match &run {
            Some(run) => line.flag("--out", text(run)),
            None => line.flag("--json", text(&result)),
        }
        Cell {
            needs: pretrained.map(|cell| cell.id),
            work: Work::Judge(judge),
            command: line.0,
            run,
            result,
            shape: format!("{}/{}/{}", backbone.id, judge.name(), row.trained),
            steps,
            id,
        }
    }

    fn detect(&self, backbone: &Backbone, row: &Row) -> Line {
        let budget = &self.budget;
        let mut line = Line::new(&["detect", "train"]);
        line.recipe("detect");
        self.sets.detection(&mut line);
        line.flag("--size", backbone.fit(budget.detect_size));
        line.flag("--test-size", backbone.fit(budget.detect_test_size));
        line.flag("--max-steps", budget.detect_steps);
        line.flag("--adapters", "auto");
        line.flag("--trained", row.trained);
        line
    }

    fn segment(&self, backbone: &Backbone, row: &Row) -> Line {
        let budget = &self.budget;
        let mut line = Line::new(&["segment", "train"]);
        line.recipe("segment");
        self.sets.segmentation(&mut line);
        let [long, short] = budget.segment_scale;
        line.flag("--base-scale", format!("{long},{short}"));
        line.flag("--crop-size", backbone.fit(budget.segment_crop));
        line.flag("--max-steps", budget.segment_steps);
        line.flag("--paradigm", row.segment_paradigm());
        line.flag("--trained", row.trained);
        line
    }

    fn probe(&self, backbone: &Backbone, method: &str) -> Line {
        let [rows, columns] = self.budget.class_grid.map(|patches| patches * backbone.patch);
        let mut line = Line::new(&["probe"]);
        self.sets.classes(&mut line);
        line.flag("--method", method);
        line.flag("--image-size", format!("{rows},{columns}"));
        line.flag("--fit", "whole");
        line.flag("--normalize", "imagenet");
        line
    }

    fn finetune(&self, backbone: &Backbone, row: &Row, judge: Judge, at: usize) -> (Line, usize) {
        let steps = self.budget.finetune_steps[at];
        let mut line = self.probe(backbone, "finetune");
        line.flag("--label-share", judge.label_share().unwrap_or(1.0));
        line.flag("--trained", row.trained);
        line.flag("--max-steps", steps);
        line.flag("--batch-size", self.budget.finetune_batch);
        (line, steps)
    }

    /// A cell by its name.
    pub(crate) fn cell(&self, id: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.id == id)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.cells.iter().filter(|cell| cell.has_ended()).count();
        let parts = [
            counted(self.backbones.len(), "backbone"),
            counted(self.rows.len(), "row"),
            counted(self.judges.len(), "judge"),
            counted(self.seeds.len(), "seed"),
        ];
        let cells = counted(self.cells.len(), "cell");
        write!(f, "{cells} of {}; {ended} of them ended before", parts.join(", "))
    }
}
