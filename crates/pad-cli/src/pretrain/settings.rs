//! The settings that pre-training alone has.

use pad::ssl::{FeatureLoss, Masking, ObjectiveKind, Paradigm, ParadigmKind};

use crate::{
    run::Result,
    settings::{
        RunSettings, Trainer,
        list::settings,
        merge::rename,
        names::{ScheduleKind, names},
        paths::Paths,
        recipes::recipes,
        trainer::Recipe,
        values::{Auto, EvalEvery, List, Pixels, Text},
    },
    tools::values,
};

settings! {
    /// The settings that pre-training alone has.
    Pretrain, PretrainFlags;
    "Data" {
        /// Sources (folders of DATA) to use, separated by commas [default: all]
        sources: Option<List<String>> = None, value_name = "NAMES";
        /// Share of each source's training images to use, above 0, up to 1
        ratio: f64 = 1.0, value_name = "SHARE";
        /// Number of rendered scenes, without DATA
        scenes: usize = 600, value_name = "N";
        /// Share of the images held out for evaluation, 0 to 1
        held_out: f64 = 0.1, value_name = "SHARE", value_parser = values::share;
        /// Maximum number of held-out images
        held_out_max: usize = 2000, value_name = "N";
        /// Number of crops of each image in an epoch: for few, large images
        repeat: usize = 1, value_name = "N", value_parser = values::count;
        /// Height,width of the input, or one number for both, pixels
        image_size: Pixels = Pixels::square(224), value_name = "PIXELS";
        /// Training crops: roi (around regions of interest, where the data have them) or random
        crop: CropKind = CropKind::Roi, value_name = "NAME";
        /// Probability that a crop around a region may have any size; otherwise it must also cover
        /// 15% of the image
        roi_p: f64 = 0.85, value_name = "SHARE";
        /// Minimum share of the image's area that a random crop covers
        min_scale: f64 = 0.2, value_name = "SHARE", value_parser = values::share;
    }
    "Objective" {
        /// Pre-training objective: mae (pixels), milan (CLIP's features; needs --teacher), simmim
        /// (pixels, masked inside the encoder) or features (a frozen encoder's features; needs
        /// --teacher)
        objective: Text<ObjectiveKind> = Text(ObjectiveKind::Mae), value_name = "NAME";
        /// Masking strategy: random, block, cells, attention (needs a CLIP teacher),
        /// intensity, or auto (the objective's own)
        masking: Auto<Masking> = Auto::Auto, value_name = "NAME";
        /// Share of masked patches [default: the objective's]
        mask_ratio: Option<f64> = None, value_name = "SHARE", value_parser = values::inner_share;
        /// Whether target patches are normalised to mean 0 and variance 1, each by itself
        norm_pix_loss: bool = true, value_name = "BOOL";
        /// Weights of the teacher, for milan, features and attention masking
        teacher: Option<String> = None, value_name = "WEIGHTS";
        /// Architecture of the teacher, if it cannot be inferred from its weights
        teacher_model: Auto<String> = Auto::Auto, value_name = "NAME";
        /// How predicted features are compared with the teacher's (features): cosine or smooth-l1
        feature_loss: Text<FeatureLoss> = Text(FeatureLoss::Cosine), value_name = "NAME";
        /// Learn the teacher's features of all patches, not of the masked ones alone (features):
        /// distillation
        all_patches: bool = false;
        /// Width of the decoder [default: that of the weights, else 512; 128 for pico]
        decoder_dim: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Number of decoder blocks [default: that of the weights, else 8; 2 for pico]
        decoder_depth: Option<usize> = None, value_name = "N";
        /// Number of decoder heads [default: that of the weights, else 16; 4 for pico]
        decoder_heads: Option<usize> = None, value_name = "N", value_parser = values::count;
    }
    "Paradigm" {
        /// What trains: pad (adapters and decoder), full (all weights, from a checkpoint), scratch
        /// (all weights, from random ones) or decoder-only
        paradigm: Text<ParadigmKind> = Text(ParadigmKind::Pad), value_name = "NAME";
        /// Fraction of the epochs during which the gates of the adapters stay frozen (pad)
        gate_frozen: f64 = 0.6, value_name = "SHARE", value_parser = values::share;
        /// Whether the decoder's first layer trains (pad) [default: only if the weights have no
        /// decoder]
        train_decoder_embed: Option<bool> = None, value_name = "BOOL";
        /// Save the whole model (paradigms other than pad) in 16-bit floats
        half: bool = false;
    }
}

names! {
    /// Where training crops are taken.
    CropKind, "crop";
    /// Around regions of interest.
    Roi = "roi",
    /// Anywhere.
    Random = "random",
}

impl Pretrain {
    /// The paradigm; `has_decoder`: whether the weights hold a decoder that trains further.
    pub fn paradigm(&self, run: &RunSettings, has_decoder: bool) -> Paradigm {
        match self.paradigm.0 {
            ParadigmKind::Pad => Paradigm::Pad {
                gate_frozen: self.gate_frozen,
                decoder_embed: self.train_decoder_embed.unwrap_or(!has_decoder),
            },
            ParadigmKind::Full => Paradigm::Full { layer_decay: run.layer_decay },
            kind => kind.into(),
        }
    }

    /// Share of removed patches.
    pub fn mask_ratio(&self) -> f64 {
        self.mask_ratio.unwrap_or(self.objective.mask_ratio())
    }

    /// Micro-batches per update for an epoch of `batches` micro-batches, over all of `processes`:
    /// what makes 4096 images, but at least 8 updates an epoch.
    pub fn accumulation(&self, run: &RunSettings, batches: usize, processes: usize) -> usize {
        const PAPER: usize = 4096;
        const UPDATES: usize = 8;
        run.accumulate.unwrap_or_else(|| {
            let some = (PAPER / run.batch_size.max(1)).min(batches / UPDATES).max(1);
            some.next_multiple_of(processes.max(1))
        })
    }
}

impl Trainer for Pretrain {
    const NAME: &'static str = "pretrain";

    const RECIPES: &'static [Recipe] = recipes! {
        "demo": "demo",
        "small": "pretrain_small",
        "scratch": "pretrain_scratch",
        "rgb-only": "pretrain_rgb_only",
        "full": "pretrain_full",
        "full-layer-decay": "pretrain_full_layer_decay",
        "fixed-scale": "pretrain_fixed_scale",
        "per-layer-scale": "pretrain_per_layer_scale",
        "learnable-scale": "pretrain_learnable_scale",
        "pad": "pretrain_pad",
        "asset": "asset",
    };

    const WITHOUT_EFFECT: &'static [&'static str] = &["half"];

    fn run_defaults() -> RunSettings {
        RunSettings {
            normalize: Auto::Given(pad::data::transform::Normalize::msip()),
            epochs: Some(100),
            batch_size: 64,
            blr: Some(1e-4),
            schedule: ScheduleKind::Cosine,
            warmup_epochs: Some(30.0),
            weight_decay: 0.05,
            beta2: 0.95,
            eval_every: EvalEvery::Epochs(1),
            ..Default::default()
        }
    }

    fn upgrade(table: &mut toml::Table) {
        rename(table, "channels", "in_channels");
        if let Some(toml::Value::Boolean(no_roi)) = table.remove("no_roi") {
            let crop = if no_roi { CropKind::Random } else { CropKind::Roi };
            table.entry("crop").or_insert(crop.to_string().into());
        }
        if table.get("sources").and_then(toml::Value::as_array).is_some_and(Vec::is_empty) {
            table.remove("sources");
        }
    }

    fn paths(&mut self) -> Paths<'_> {
        let teacher = self.teacher.iter_mut().map(|teacher| ("teacher", teacher));
        Paths { weights: teacher.collect(), ..Default::default() }
    }

    fn validate(&self, run: &RunSettings) -> Result<()> {
        let mut faults = Vec::new();
        if run.layer_decay.is_some() && self.paradigm.0 != ParadigmKind::Full {
            faults.push(format!("`layer_decay` with paradigm {}, expected full", self.paradigm));
        }
        if run.adapter.is_some() && self.paradigm.0 != ParadigmKind::Pad {
            faults.push(format!("`adapter` with paradigm {}, expected pad", self.paradigm));
        }
        faults.extend(run.adapters_fault(self.paradigm.0 == ParadigmKind::Pad, &self.paradigm));
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            faults.push(format!("`ratio` is {}, expected above 0, up to 1", self.ratio));
        }
        for (name, share) in [("roi_p", self.roi_p), ("held_out", self.held_out)] {
            if !(0.0..=1.0).contains(&share) {
                faults.push(format!("`{name}` is {share}, expected 0 to 1"));
            }
        }
        if self.objective.needs_teacher() && self.teacher.is_none() {
            faults.push(format!(
                "objective {} needs a teacher, expected --teacher FILE",
                self.objective
            ));
        }
        if self.masking == Auto::Given(Masking::Attention) && self.teacher.is_none() {
            faults
                .push("masking attention needs a teacher, expected --teacher FILE of CLIP".into());
        }
        let is_other = [
            ("feature_loss", self.feature_loss != Text(FeatureLoss::Cosine)),
            ("all_patches", self.all_patches),
        ];
        for (name, _) in is_other.into_iter().filter(|(_, is_other)| *is_other) {
            if self.objective.0 != ObjectiveKind::Features {
                faults.push(format!(
                    "`{name}` with objective {}, expected with objective features",
                    self.objective
                ));
            }
        }
        if let Auto::Given(name) = &self.teacher_model {
            faults.extend(pad::vit::ViTConfig::preset(name, 16).err().map(|e| e.to_string()));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
    }
}
