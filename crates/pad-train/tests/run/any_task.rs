//! Tasks that are not images: a classifier of texts, whose batches are plain strings, with every
//! optimiser, composed schedules, checkpoints.

use std::path::Path;

use pad_train::{
    AdamW, AdamWConfig, BatchIter, Batches, BoxError, CheckpointConfig, Checkpoints, Every, Key,
    Lion, LionConfig, Losses, LrFn, LrSchedule, Mode, MultiStep, OneCycle, Optimizer, Parameter,
    RmsProp, RmsPropConfig, Schedule, Sequential, Sgd, SgdConfig, Task, Trainer, TrainerConfig,
    WarmUp,
    candle_core::{DType, Device, Result, Tensor, Var},
    checkpoint::latest,
};

const DIM: usize = 8;
/// Buckets that words fall into.
const WORDS: usize = 64;

/// Says whether a sentence praises (1) or blames (0): the mean of its words' vectors, and a layer.
struct Classifier {
    words: Var,
    weight: Var,
    bias: Var,
}

/// A sentence and its class.
type Labelled = (String, u32);

fn bucket(word: &str) -> u32 {
    word.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte)) % WORDS as u32
}

impl Classifier {
    fn new() -> Self {
        let normal = |name: &str, shape: &[usize]| {
            let mut stream = Key::new(4).named(name).stream();
            let values = (0..shape.iter().product()).map(|_| 0.1 * stream.normal() as f32);
            let tensor = Tensor::from_vec(values.collect(), shape, &Device::Cpu).unwrap();
            Var::from_tensor(&tensor).unwrap()
        };
        let bias = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
        Self { words: normal("words", &[WORDS, DIM]), weight: normal("weight", &[DIM, 2]), bias }
    }

    fn parameters(&self) -> Vec<Parameter> {
        [("words", &self.words), ("weight", &self.weight), ("bias", &self.bias)]
            .map(|(name, var)| Parameter::new(name, var.clone()).with_weight_decay(1e-4))
            .into()
    }

    fn logits(&self, text: &str) -> Result<Tensor> {
        let ids: Vec<u32> = text.split_whitespace().map(bucket).collect();
        let vectors = self.words.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        vectors.mean_keepdim(0)?.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl Task for Classifier {
    type Batch = Vec<Labelled>;

    fn losses(&self, batch: &Vec<Labelled>, _: Mode) -> std::result::Result<Losses, BoxError> {
        let logits = batch.iter().map(|(text, _)| self.logits(text)).collect::<Result<Vec<_>>>()?;
        let labels: Vec<u32> = batch.iter().map(|(_, label)| *label).collect();
        let labels = Tensor::new(labels, &Device::Cpu)?;
        Ok(Losses::new(candle_nn::loss::cross_entropy(&Tensor::cat(&logits, 0)?, &labels)?))
    }

    fn images_in(&self, batch: &Vec<Labelled>) -> usize {
        batch.len()
    }
}

/// A sentence of an epoch, by its number.
fn sentence(epoch: usize, number: usize) -> Labelled {
    let mut stream = Key::new(1).epoch(epoch as u64).sample(number as u64).stream();
    let mut pick = |words: &[&'static str]| words[stream.below(words.len() as u64) as usize];
    let label = (number % 2) as u32;
    let judgement = match label {
        1 => pick(&["splendid", "lovely", "sharp", "quick"]),
        _ => pick(&["awful", "dull", "blurred", "slow"]),
    };
    let subject = pick(&["the film", "this camera", "their soup", "a lens"]);
    (format!("{subject} was {judgement}"), label)
}

struct Sentences;

impl Batches for Sentences {
    type Batch = Vec<Labelled>;

    fn per_epoch(&self) -> usize {
        10
    }

    fn epoch(
        &mut self,
        epoch: usize,
        first: usize,
    ) -> std::result::Result<BatchIter<'_, Vec<Labelled>>, BoxError> {
        let batch = move |batch: usize| (batch * 8..batch * 8 + 8).map(move |n| sentence(epoch, n));
        Ok(Box::new((first..10).map(move |number| Ok(batch(number).collect()))))
    }
}

fn accuracy(task: &Classifier) -> f64 {
    let right = (0..200).filter(|&number| {
        let (text, label) = sentence(1000, number);
        let logits = task.logits(&text).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        u32::from(logits[1] > logits[0]) == label
    });
    right.count() as f64 / 200.0
}

type Make = fn(Vec<Parameter>) -> pad_train::Result<Box<dyn Optimizer>>;

const OPTIMIZERS: [(&str, f64, Make); 5] = [
    ("adamw", 0.02, |p| Ok(Box::new(AdamW::new(p, AdamWConfig::default())?))),
    ("sgd", 1.0, |p| Ok(Box::new(Sgd::new(p, SgdConfig::default())?))),
    ("nesterov", 1.0, |p| {
        Ok(Box::new(Sgd::new(p, SgdConfig { nesterov: true, ..Default::default() })?))
    }),
    ("lion", 0.01, |p| Ok(Box::new(Lion::new(p, LionConfig::default())?))),
    ("rmsprop", 0.01, |p| {
        let config = RmsPropConfig { momentum: 0.5, centered: true, ..Default::default() };
        Ok(Box::new(RmsProp::new(p, config)?))
    }),
];

/// Trains to `max_steps`, from the newest checkpoint of `folder`.
fn go_on(
    folder: &Path,
    make: Make,
    schedule: &dyn LrSchedule,
    max_steps: Option<usize>,
) -> (f64, Vec<(String, Vec<u32>)>) {
    let task = Classifier::new();
    let config = TrainerConfig { epochs: 8, max_steps, ..Default::default() };
    let every = CheckpointConfig { every: Every::Steps(7), keep: 2 };
    let mut trainer = Trainer::new(config, schedule, make(task.parameters()).unwrap())
        .unwrap()
        .with_checkpoints(Checkpoints::new(folder, every).unwrap());
    if let Some(checkpoint) = latest(folder).unwrap() {
        trainer.resume(&checkpoint).unwrap();
    }
    let outcome = trainer.run(&task, &mut Sentences).unwrap();
    assert!(outcome.is_finished() && outcome.unused_parameters.is_empty());
    let values = |tensor: &Tensor| -> Vec<u32> {
        let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        tensor.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    let variables = task.parameters().into_iter().map(|p| (p.name, values(&p.var)));
    let state = trainer.optimizer().state().unwrap();
    let state = state.iter().map(|(name, tensor)| (name.clone(), values(tensor)));
    (accuracy(&task), variables.chain(state).collect())
}

#[test]
fn a_text_classifier_learns_with_every_optimiser_and_resumes_bit_for_bit() {
    for (name, lr, make) in OPTIMIZERS {
        let schedule = Schedule::constant(lr);
        let folder = tempfile::tempdir().unwrap();
        let (right, whole) = go_on(folder.path(), make, &schedule, None);
        assert!(right > 0.95, "{name}: {right} of the sentences");
        for stop in [1, 7, 33] {
            let folder = tempfile::tempdir().unwrap();
            go_on(folder.path(), make, &schedule, Some(stop));
            assert_eq!(go_on(folder.path(), make, &schedule, None).1, whole, "{name}, {stop}");
        }
    }
}

#[test]
fn composed_schedules_are_resumed_too() {
    let steps = MultiStep { peak_lr: 1.0, gamma: 0.5, at_epochs: vec![2.0, 3.5, 6.0] };
    let schedules: [Box<dyn LrSchedule>; 4] = [
        Box::new(WarmUp::new(1.0, steps.clone())),
        Box::new(OneCycle::new(1.0, 8.0)),
        Box::new(
            Sequential::new(Schedule::constant(0.1)).then(2.0, Schedule::cosine(1.0, 0.0, 6.0)),
        ),
        Box::new(LrFn(|epoch: f64| 1.0 / (1.0 + epoch))),
    ];
    let (_, _, make) = OPTIMIZERS[1];
    for schedule in &schedules {
        let folder = tempfile::tempdir().unwrap();
        let (right, whole) = go_on(folder.path(), make, schedule, None);
        assert!(right > 0.95, "{right} of the sentences");
        let folder = tempfile::tempdir().unwrap();
        go_on(folder.path(), make, schedule, Some(26));
        assert_eq!(go_on(folder.path(), make, schedule, None).1, whole);
    }
}

#[test]
fn a_schedule_that_gives_no_rate_ends_the_run() {
    for rate in [f64::NAN, -1.0, f64::INFINITY] {
        let task = Classifier::new();
        let optimizer = Sgd::new(task.parameters(), SgdConfig::default()).unwrap();
        let schedule = LrFn(move |epoch| if epoch < 0.25 { 0.1 } else { rate });
        let config = TrainerConfig { epochs: 1, ..Default::default() };
        let mut trainer = Trainer::new(config, schedule, optimizer).unwrap();
        assert_eq!(
            trainer.run(&task, &mut Sentences).unwrap_err().to_string(),
            format!(
                "settings: the schedule gives the rate {rate} at epoch 0.3, expected a finite number >= 0"
            )
        );
        assert_eq!(trainer.state().step, 3);
    }
    let task = Classifier::new();
    let optimizer = Sgd::new(task.parameters(), SgdConfig::default()).unwrap();
    let schedule = WarmUp::new(-1.0, Schedule::constant(0.1));
    let refused = Trainer::new(TrainerConfig::default(), schedule, optimizer).map(|_| ());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "settings: `warmup_epochs` is -1, expected a finite number >= 0"
    );
}

/// The checkpoint of one optimiser does not go on with another.
#[test]
fn another_optimiser_is_no_continuation() {
    let folder = tempfile::tempdir().unwrap();
    let schedule = Schedule::constant(0.01);
    go_on(folder.path(), OPTIMIZERS[3].2, &schedule, Some(5));
    let task = Classifier::new();
    let optimizer = Sgd::new(task.parameters(), SgdConfig::default()).unwrap();
    let config = TrainerConfig { epochs: 8, ..Default::default() };
    let mut trainer = Trainer::new(config, schedule, optimizer).unwrap();
    let text = trainer.resume(&latest(folder.path()).unwrap().unwrap()).unwrap_err().to_string();
    assert!(
        text.ends_with(
            "optimizer.safetensors: 3 tensors missing (bias.momentum_buffer, weight.momentum_buffer, \
             words.momentum_buffer); 3 tensors unexpected (bias.exp_avg, weight.exp_avg, words.exp_avg)"
        ),
        "{text}"
    );
}
