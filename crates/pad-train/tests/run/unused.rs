//! Parameters that the loss does not reach: in the outcome, and an error if asked. The usual cause
//! in candle is an operation without a backward, which cuts the graph in silence.

use pad_train::{
    BatchIter, Batches, BoxError, Key, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, Task,
    Trainer, TrainerConfig, UnusedParameters,
    candle_core::{Device, Tensor, Var},
};

const DIM: usize = 6;

/// Linear, layer norm, linear, as in candle's issue 3011.
struct Network {
    vars: Vec<(&'static str, Var)>,
    candles: bool,
}

impl Network {
    fn new(candles: bool) -> Self {
        let var = |name: &'static str, shape: &[usize], start: f32| {
            let mut stream = Key::new(2).named(name).stream();
            let n = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..n).map(|_| start + 0.4 * stream.normal() as f32).collect();
            (
                name,
                Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap(),
            )
        };
        let vars = vec![
            var("linear1.weight", &[DIM, DIM], 0.0),
            var("linear1.bias", &[DIM], 0.0),
            var("norm.weight", &[DIM], 1.0),
            var("norm.bias", &[DIM], 0.0),
            var("linear2.weight", &[DIM, DIM], 0.0),
            var("linear2.bias", &[DIM], 0.0),
        ];
        Self { vars, candles }
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.vars.iter().map(|(name, var)| Parameter::new(*name, var.clone())).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "shows what candle's layer norm does")]
    fn loss(&self, x: &Tensor) -> Result<Tensor, BoxError> {
        let [w1, b1, gamma, beta, w2, b2] = [0, 1, 2, 3, 4, 5].map(|i| self.vars[i].1.as_tensor());
        let hidden = x.matmul(w1)?.broadcast_add(b1)?;
        let normed = match self.candles {
            true => candle_nn::ops::layer_norm(&hidden, gamma, beta, 1e-5)?,
            false => pad_ops::layer_norm(&hidden, gamma, beta, 1e-5)?,
        };
        Ok(normed.matmul(w2)?.broadcast_add(b2)?.sqr()?.mean_all()?)
    }
}

impl Task for Network {
    type Batch = Tensor;

    fn losses(&self, batch: &Tensor, _: Mode) -> Result<Losses, BoxError> {
        Ok(Losses::new(self.loss(batch)?))
    }

    fn images_in(&self, batch: &Tensor) -> usize {
        batch.dims()[0]
    }
}

struct Noise;

impl Batches for Noise {
    type Batch = Tensor;

    fn per_epoch(&self) -> usize {
        4
    }

    fn epoch(&mut self, epoch: usize, first: usize) -> Result<BatchIter<'_, Tensor>, BoxError> {
        Ok(Box::new((first..4).map(move |batch| {
            let mut stream = Key::new(3).epoch(epoch as u64).sample(batch as u64).stream();
            let values: Vec<f32> = (0..5 * DIM).map(|_| stream.normal() as f32).collect();
            Ok(Tensor::from_vec(values, (5, DIM), &Device::Cpu)?)
        })))
    }
}

fn trainer(network: &Network) -> Trainer<'static, Sgd> {
    let optimizer = Sgd::new(network.parameters(), SgdConfig::default()).unwrap();
    let config = TrainerConfig { epochs: 2, ..Default::default() };
    Trainer::new(config, Schedule::constant(0.01), optimizer).unwrap()
}

fn values(network: &Network) -> Vec<Vec<f32>> {
    let all = network.vars.iter();
    all.map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
}

/// Issues 3011 and 2977: every parameter gets a gradient, and the right one.
#[test]
fn every_parameter_before_a_layer_norm_is_reached() {
    let network = Network::new(false);
    let start = values(&network);
    let outcome = trainer(&network)
        .with_unused_parameters(UnusedParameters::Refuse)
        .run(&network, &mut Noise)
        .unwrap();
    assert!(outcome.is_finished() && outcome.unused_parameters.is_empty());
    for ((name, _), (before, after)) in network.vars.iter().zip(start.iter().zip(values(&network)))
    {
        assert_ne!(*before, after, "{name} did not move");
    }

    // Slopes along a direction, against differences.
    let network = Network::new(false);
    let batch = Noise.epoch(0, 0).unwrap().next().unwrap().unwrap();
    let gradients = network.loss(&batch).unwrap().backward().unwrap();
    let loss = || f64::from(network.loss(&batch).unwrap().to_scalar::<f32>().unwrap());
    for (name, var) in &network.vars {
        let start = var.copy().unwrap().detach();
        let direction = (start.cos().unwrap() + 0.3).unwrap();
        let gradient = gradients.get(var).unwrap();
        let slope = (gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let at = |step: f64| {
            var.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
            loss()
        };
        let differences = (at(1e-2) - at(-1e-2)) / 2e-2;
        var.set(&start).unwrap();
        let off = (f64::from(slope) - differences).abs();
        assert!(off < 3e-3 * differences.abs().max(0.1), "{name}: {slope} for {differences}");
    }
}

/// Issue 3752: with candle's own layer norm the run ends and says nothing, and nothing upstream
/// moves. Here the outcome has the names, and a run that refuses does not take a step.
#[test]
fn what_a_cut_graph_leaves_behind_is_named() {
    let cut = ["linear1.weight", "linear1.bias", "norm.weight", "norm.bias"];
    let network = Network::new(true);
    let start = values(&network);
    let outcome = trainer(&network).run(&network, &mut Noise).unwrap();
    assert_eq!(outcome.unused_parameters, cut);
    let moved: Vec<bool> = start.iter().zip(values(&network)).map(|(a, b)| *a != b).collect();
    assert_eq!(moved, [false, false, false, false, true, true]);

    let network = Network::new(true);
    let mut refusing = trainer(&network).with_unused_parameters(UnusedParameters::Refuse);
    assert_eq!(
        refusing.run(&network, &mut Noise).unwrap_err().to_string(),
        format!("step 1: the loss does not reach 4 of 6 parameters that train: {}", cut.join(", "))
    );
    assert_eq!((refusing.state().step, values(&network)), (0, start));
    let mut silent = trainer(&network).with_unused_parameters(UnusedParameters::Allow);
    assert_eq!(silent.run(&network, &mut Noise).unwrap().unused_parameters, cut);
}

/// A parameter that thaws late, one that some updates use, a buffer, batches without images.
#[test]
fn what_counts_as_unused() {
    struct Sometimes {
        vars: Vec<Parameter>,
        empty: bool,
    }
    impl Task for Sometimes {
        type Batch = Tensor;
        fn losses(&self, _: &Tensor, mode: Mode) -> Result<Losses, BoxError> {
            // The number of the micro-batch is in the key; `odd` is used in every second one.
            let odd = match mode {
                Mode::Train(key) => key == Key::new(0).epoch(1),
                Mode::Eval => false,
            };
            let used = self.vars[usize::from(odd)].var.as_tensor();
            Ok(Losses::new(used.sqr()?.sum_all()?))
        }
        fn images_in(&self, batch: &Tensor) -> usize {
            if self.empty { 0 } else { batch.dims()[0] }
        }
    }
    let var = || Var::new(&[1_f32], &Device::Cpu).unwrap();
    let vars = vec![
        Parameter::new("even", var()),
        Parameter::new("odd", var()),
        Parameter::new("late", var()).with_frozen_through(Some(0)),
        Parameter::new("later", var()).with_frozen_through(Some(1)),
        Parameter::buffer("mean", var()),
    ];
    let run = |empty: bool, policy: UnusedParameters| {
        let task = Sometimes { vars: vars.clone(), empty };
        let optimizer = Sgd::new(vars.clone(), SgdConfig::default()).unwrap();
        let config = TrainerConfig { epochs: 2, ..Default::default() };
        let trainer = Trainer::new(config, Schedule::constant(0.01), optimizer).unwrap();
        trainer.with_unused_parameters(policy).run(&task, &mut Noise)
    };
    let outcome = run(false, UnusedParameters::Warn).unwrap();
    assert_eq!(outcome.unused_parameters, ["late"], "frozen to the end, used once, and buffers");
    let outcome = run(true, UnusedParameters::Refuse).unwrap();
    assert!(outcome.unused_parameters.is_empty(), "no batch had anything to reach with");
    assert_eq!(
        run(false, UnusedParameters::Refuse).unwrap_err().to_string(),
        "step 1: the loss does not reach 1 of 2 parameters that train: odd"
    );
}
