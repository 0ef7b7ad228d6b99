//! Batch norm over several processes equals batch norm of the joined batch: outputs, running
//! statistics, gradients.

use std::{sync::Arc, thread};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use pad_heads::layers::{BatchNorm, sum_over};
use pad_ops::{Mode, rng::Key};
use pad_train::{Collective, LocalGroup};

const SHAPE: (usize, usize, usize, usize) = (4, 3, 5, 7);

fn random(name: &str, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(5).named(name).stream();
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| 3.0 + stream.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// What one process finds for its rows.
struct Found {
    y: Tensor,
    d_x: Tensor,
    d_weight: Tensor,
    d_bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

fn layer() -> (BatchNorm, [Var; 4]) {
    let zeros = || Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let tensors = [
        random("weight", &[3]),
        random("bias", &[3]),
        zeros(),
        Tensor::ones(3, DType::F32, &Device::Cpu).unwrap(),
    ];
    let vars = tensors.map(|tensor| Var::from_tensor(&tensor).unwrap());
    let names = ["weight", "bias", "running_mean", "running_var"];
    let named = names.into_iter().zip(&vars);
    let map = named.map(|(name, var)| (name.to_string(), var.as_tensor().clone())).collect();
    let norm = BatchNorm::new(3, VarBuilder::from_tensors(map, DType::F32, &Device::Cpu)).unwrap();
    (norm, vars)
}

/// Twice through the layer, so that gradients of the second pass reach the first one's statistics.
/// The loss is a mean over `rows` rows, as that of one process.
fn pass(norm: &BatchNorm, vars: &[Var; 4], from: usize, rows: usize) -> Found {
    let (_, c, h, w) = SHAPE;
    let all = [SHAPE.0, c, h, w];
    let x = Var::from_tensor(&random("x", &all).narrow(0, from, rows).unwrap()).unwrap();
    let slope = random("slope", &all).narrow(0, from, rows).unwrap();
    let mode = Mode::Train(Key::new(0));
    let once = norm.forward(&x, mode).unwrap();
    let y = norm.forward(&(&once + x.sqr().unwrap()).unwrap(), mode).unwrap();
    let loss = (&y * slope).unwrap().sqr().unwrap().mean_all().unwrap();
    let store = loss.backward().unwrap();
    let of = |tensor: &Tensor| store.get(tensor).unwrap().clone();
    Found {
        d_x: of(&x),
        d_weight: of(&vars[0]),
        d_bias: of(&vars[1]),
        y: y.detach(),
        mean: vars[2].as_detached_tensor(),
        variance: vars[3].as_detached_tensor(),
    }
}

fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    let scale = expected.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let scale = f64::from(scale.to_scalar::<f32>().unwrap()).max(1e-3);
    let far = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let far = f64::from(far.to_scalar::<f32>().unwrap());
    assert!(far <= tolerance * scale, "{what}: off by {far}, largest {scale}");
}

#[test]
fn statistics_over_processes_equal_those_of_the_joined_batch() {
    let (norm, vars) = layer();
    let joined = pass(&norm, &vars, 0, 4);
    let found = on_two(true);
    // Losses are means over two rows each, the joined one over four.
    let halves =
        |pick: fn(&Found) -> &Tensor| Tensor::cat(&[pick(&found[0]), pick(&found[1])], 0).unwrap();
    let mean =
        |pick: fn(&Found) -> &Tensor| ((pick(&found[0]) + pick(&found[1])).unwrap() / 2.0).unwrap();
    assert_close(&halves(|f| &f.y), &joined.y, 1e-5, "y");
    assert_close(&(halves(|f| &f.d_x) / 2.0).unwrap(), &joined.d_x, 1e-4, "d_x");
    assert_close(&mean(|f| &f.d_weight), &joined.d_weight, 1e-4, "d_weight");
    assert_close(&mean(|f| &f.d_bias), &joined.d_bias, 1e-4, "d_bias");
    for found in &found {
        assert_close(&found.mean, &joined.mean, 1e-5, "running mean");
        assert_close(&found.variance, &joined.variance, 1e-5, "running variance");
    }
    // Without the exchange it would be something else: the test can fail.
    let alone = on_two(false);
    let far = (&alone[0].mean - &joined.mean).unwrap().abs().unwrap().max(0).unwrap();
    assert!(far.to_scalar::<f32>().unwrap() > 1e-3);
}

fn on_two(synchronized: bool) -> Vec<Found> {
    thread::scope(|scope| {
        let member = |group: LocalGroup| {
            scope.spawn(move || {
                let (mut norm, vars) = layer();
                let rank = group.rank();
                let group: Arc<dyn Collective> = Arc::new(group);
                if synchronized {
                    norm.synchronize(&sum_over(&group));
                }
                pass(&norm, &vars, 2 * rank, 2)
            })
        };
        let threads: Vec<_> = LocalGroup::members(2).into_iter().map(member).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A process that is gone is an error of the layer, not a hang; one value a process is enough, one
/// in all is not.
#[test]
fn what_it_refuses() {
    let mut members = LocalGroup::members(2);
    drop(members.pop());
    let group: Arc<dyn Collective> = Arc::new(members.remove(0));
    let (mut norm, _) = layer();
    norm.synchronize(&sum_over(&group));
    let dot = random("dot", &[1, 3, 1, 1]);
    let error = norm.forward(&dot, Mode::Train(Key::new(0))).unwrap_err().to_string();
    assert!(error.contains("rank 1 is gone: it left the group"), "{error}");

    let group: Arc<dyn Collective> = Arc::new(pad_train::SingleProcess);
    let (mut norm, _) = layer();
    norm.synchronize(&sum_over(&group));
    let error = norm.forward(&dot, Mode::Train(Key::new(0))).unwrap_err().to_string();
    assert!(error.contains("more than one value per channel, over all processes"), "{error}");
}
