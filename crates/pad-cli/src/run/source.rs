//! The trained model that a command uses: of a run, of one of its checkpoints, or a file.

use std::path::{Path, PathBuf};

use clap::Args;
use pad::{
    checkpoint::Checkpoint,
    train::{
        TrainingCheckpoint,
        checkpoint::{Which, best, latest, open},
    },
};

use super::{
    Result,
    folder::{CHECKPOINTS, CONFIG, expect_run, is_run_of, summary_steps},
};
use crate::{
    settings::{Settings, Trainer, merge::was_rendered},
    tools::shipped,
};

/// Flags of the model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelSource {
    /// Folder of a run of `train`, which need not have ended
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "weights",
        conflicts_with = "weights"
    )]
    run: Option<PathBuf>,
    /// Checkpoint of the run: latest, best, or its name [default: the run's result; before its end
    /// the best, or else the latest]
    #[arg(long, value_name = "NAME", requires = "run")]
    checkpoint: Option<Which>,
    /// File of a trained model, as a run leaves it, or the name of one in this program
    #[arg(long, value_name = "FILE|NAME")]
    weights: Option<PathBuf>,
}

/// Where the tensors of a trained model are.
pub enum Found {
    /// In a file of the whole model.
    File(Box<Checkpoint>),
    /// In a checkpoint of a run.
    Checkpoint(Box<TrainingCheckpoint>),
}

impl ModelSource {
    /// Finds the model, a network of the kind `kind`; `file` is the name of a run's result.
    pub fn find(&self, program: &str, file: &str, kind: &str) -> Result<Found> {
        let Some(run) = &self.run else {
            let weights = self.weights.as_ref().ok_or("expected --run or --weights")?;
            shipped::expect_kind(weights, kind)?;
            return Ok(Found::File(Box::new(shipped::open(weights)?)));
        };
        expect_run(run, program)?;
        let checkpoints = run.join(CHECKPOINTS);
        let result = run.join(file);
        if let Some(which) = self.checkpoint {
            return Ok(Found::Checkpoint(Box::new(open(&checkpoints, which)?)));
        }
        // A run that is being extended still has the result of the shorter one.
        let is_newer = |checkpoint: &TrainingCheckpoint| {
            summary_steps(run).is_some_and(|steps| checkpoint.trainer_state().step > steps)
        };
        if result.is_file() && !latest(&checkpoints)?.as_ref().is_some_and(is_newer) {
            return Ok(Found::File(Box::new(Checkpoint::open(result)?)));
        }
        let checkpoint = match best(&checkpoints)? {
            Some(best) => Some(best),
            None => latest(&checkpoints)?,
        };
        let checkpoint = checkpoint
            .ok_or_else(|| format!("{}: no {file} and no checkpoint yet", run.display()))?;
        tracing::info!(
            "{}: the run has not ended, using {}",
            run.display(),
            checkpoint.path().display()
        );
        Ok(Found::Checkpoint(Box::new(checkpoint)))
    }

    /// The settings of the run; for a file, those in it, those beside it, or else the paper's.
    pub fn settings<P: Trainer>(&self, found: &Found) -> Result<Settings<P>> {
        if let Some(run) = &self.run {
            return Settings::of_run(run);
        }
        let Found::File(file) = found else { return Ok(Settings::defaults()) };
        if let Some(settings) = Settings::of_model(file)? {
            return Ok(settings);
        }
        if let Some(folder) = self.folder_of(file) {
            return Settings::of_run(folder);
        }
        tracing::warn!(
            "{}: neither the file nor a {CONFIG} beside it has settings: sizes, levels and channels are the \
             paper's, unless flags say others",
            file.path().display()
        );
        Ok(Settings::defaults())
    }

    /// Finds the images of the run that left a file. The file does not name them: the settings
    /// beside it do, where it lies in the folder of its run.
    ///
    /// # Errors
    /// A file that was not trained on rendered scenes, or does not say it, without such settings.
    pub fn find_images<P: Trainer>(&self, found: &Found, settings: &mut Settings<P>) -> Result<()> {
        let Found::File(file) = found else { return Ok(()) };
        if self.run.is_some() || settings.run.data.is_some() {
            return Ok(());
        }
        let mut rendered = was_rendered(file);
        if rendered != Some(true)
            && let Some(folder) = self.folder_of(file).filter(|folder| is_run_of(folder, P::NAME))
        {
            settings.take_images_of(folder)?;
            rendered = rendered.or(Some(settings.run.data.is_none()));
        }
        if settings.run.data.is_some() || rendered == Some(true) {
            return Ok(());
        }
        let file = file.path().display();
        Err(format!("{file} does not say where its images are: expected --data").into())
    }

    /// The folder of a file if there are settings in it; `None` for a model inside this program.
    fn folder_of<'a>(&self, file: &'a Checkpoint) -> Option<&'a Path> {
        let name = self.weights.as_deref().and_then(Path::to_str);
        if name.is_some_and(|name| shipped::find(name).is_some()) {
            return None;
        }
        file.path().parent().filter(|folder| folder.join(CONFIG).is_file())
    }

    /// The folder of the run, if it is one.
    pub fn run(&self) -> Option<&Path> {
        self.run.as_deref()
    }
}
