//! What candle's issue tracker reports of its own norms and softmax, as tests of what stands in
//! their place here: the inputs are made anew, the values are worked out by hand or by differences.

use candle_core::{DType, Result, Tensor, Var};
use candle_nn::{Linear, Module, linear};
use pad_adapter::{
    Adapter,
    params::{ParamStore, Role},
    vit::layers::LayerNorm,
};
use pad_ops::{Mode, rng::Key};
use pad_testkit::numbers;

use crate::harness::{ADAPTER, CPU, attend};

/// Asserts that the gradient of `loss` to each variable is what differences give.
fn assert_gradients(vars: &[(String, Var)], loss: impl Fn() -> Result<Tensor>) {
    let gradients = loss().unwrap().backward().unwrap();
    for (name, var) in vars {
        let start = var.copy().unwrap().detach();
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("`{name}` has no gradient"));
        let direction = numbers(start.dims(), DType::F64, 60);
        let slope = (gradient * &direction).unwrap().sum_all().unwrap();
        let slope = slope.to_scalar::<f64>().unwrap();
        let at = |step: f64| {
            var.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
            loss().unwrap().to_scalar::<f64>().unwrap()
        };
        let differences = (at(1e-6) - at(-1e-6)) / 2e-6;
        var.set(&start).unwrap();
        let length = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        assert!((slope - differences).abs() < 1e-6 * length, "{name}: {slope}, {differences}");
    }
}

/// Every parameter of a store whose parameters all train, none of them zero.
fn trained(store: &ParamStore) -> Vec<(String, Var)> {
    let planned = store.planned().into_iter().enumerate().map(|(salt, one)| {
        let noise = numbers(one.var.dims(), DType::F64, salt as u64);
        one.var.set(&(one.var.as_tensor() + (noise * 0.3).unwrap()).unwrap().detach()).unwrap();
        (one.name, one.var)
    });
    planned.collect()
}

fn store() -> ParamStore {
    ParamStore::scratch(&CPU, Key::new(3)).with_trained(|_| true)
}

/// Issue 3011: of Linear, LayerNorm, Linear only the last layer, a third of the parameters, got
/// gradients.
#[test]
fn issue_3011_all_parameters_around_a_layer_norm() {
    let store = store();
    let (first, norm, last): (Linear, LayerNorm, Linear) = store
        .build(|vb| {
            let vb = vb.to_dtype(DType::F64);
            Ok::<_, pad_adapter::Error>((
                linear(8, 8, vb.pp("linear1"))?,
                LayerNorm::new(8, 1e-5, vb.pp("layer_norm"))?,
                linear(8, 8, vb.pp("linear2"))?,
            ))
        })
        .unwrap();
    let (input, target) = (numbers(&[4, 8], DType::F64, 1), numbers(&[4, 8], DType::F64, 2));
    let vars = trained(&store);
    assert_eq!(vars.len(), 6);
    assert_gradients(&vars, || {
        let out = last.forward(&norm.forward(&first.forward(&input)?)?)?;
        (out - &target)?.sqr()?.mean_all()
    });
}

/// Issue 2977: the gradient was missing for contiguous input alone. Of (a, b) with a > b and eps 0
/// the norm is (1, -1) whatever the values, so `sum(norm · (1, 3))` has the gradients 0 to x, (1, -3)
/// to the weight and (1, 3) to the bias.
#[test]
fn issue_2977_contiguous_or_not() {
    let one = |values: &[f64]| Var::new(values, &CPU).unwrap();
    let (weight, bias) = (one(&[1.0, 1.0]), one(&[0.0, 0.0]));
    let probe = Tensor::new(&[1.0, 3.0], &CPU).unwrap();
    let contiguous = Var::new(&[[5.0, 2.0]], &CPU).unwrap();
    let wide = Var::new(&[[5.0], [2.0]], &CPU).unwrap();
    let turned = wide.t().unwrap();
    assert!(contiguous.is_contiguous() && turned.dims() == [1, 2]);
    for (var, x) in [(&contiguous, contiguous.as_tensor().clone()), (&wide, turned)] {
        let out = pad_ops::layer_norm(&x, &weight, &bias, 1e-12).unwrap();
        let loss = out.broadcast_mul(&probe).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let of = |var: &Var| {
            gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        for (got, want) in
            [(of(var), [0.0, 0.0]), (of(&weight), [1.0, -3.0]), (of(&bias), [1.0, 3.0])]
        {
            let near = got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6);
            assert!(near, "{got:?} for {want:?}");
        }
    }
}

/// Issue 3752: with LayerNorm twice in every block of a GPT and once at its end, what was trained in
/// the blocks did not move, and nothing said so. Here adapters are what trains; each of their
/// tensors moves against its gradient.
#[test]
fn issue_3752_adapters_in_the_blocks_of_a_gpt_move() {
    const DIM: usize = 8;
    struct Block {
        norms: [LayerNorm; 2],
        attention: [Linear; 2],
        mlp: [Linear; 2],
        adapter: Adapter,
    }
    // Weights that are not zero, adapters among them.
    let build = |vb: candle_nn::VarBuilder| -> Result<(Vec<Block>, LayerNorm)> {
        let vb = vb.to_dtype(DType::F64);
        let block = |i: usize| {
            let vb = vb.pp("h").pp(i);
            Ok(Block {
                norms: [
                    LayerNorm::new(DIM, 1e-5, vb.pp("ln_1"))?,
                    LayerNorm::new(DIM, 1e-5, vb.pp("ln_2"))?,
                ],
                attention: [
                    linear(DIM, 3 * DIM, vb.pp("attn.c_attn"))?,
                    linear(DIM, DIM, vb.pp("attn.c_proj"))?,
                ],
                mlp: [linear(DIM, 16, vb.pp("mlp.c_fc"))?, linear(16, DIM, vb.pp("mlp.c_proj"))?],
                adapter: Adapter::new(DIM, &ADAPTER, vb)?,
            })
        };
        let blocks = (0..2).map(block).collect::<Result<_>>()?;
        Ok((blocks, LayerNorm::new(DIM, 1e-5, vb.pp("ln_f"))?))
    };
    let store = ParamStore::scratch(&CPU, Key::new(3)).with_trained(Role::is_adapter);
    let (blocks, last) = store.build(|vb| Ok::<_, pad_adapter::Error>(build(vb)?)).unwrap();
    let mask: Vec<f64> = (0..25).map(|at| if at % 5 > at / 5 { -1e9 } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (5, 5), &CPU).unwrap();
    let (input, target) =
        (numbers(&[2, 5, DIM], DType::F64, 1), numbers(&[2, 5, DIM], DType::F64, 2));
    let loss = || {
        let mut x = input.clone();
        for (i, block) in blocks.iter().enumerate() {
            let qkv = block.attention[0].forward(&block.norms[0].forward(&x)?)?;
            let part = |i: usize| qkv.narrow(2, i * DIM, DIM)?.contiguous();
            let mixed = attend([&part(0)?, &part(1)?, &part(2)?], 2, Some(&mask))?;
            x = (x + block.attention[1].forward(&mixed)?)?;
            let hidden = block.mlp[0].forward(&block.norms[1].forward(&x)?)?.gelu_erf()?;
            let mlp = block.mlp[1].forward(&hidden)?;
            x = block.adapter.forward(&x, &mlp, Mode::Eval.layer(i as u32))?;
        }
        (last.forward(&x)? - &target)?.sqr()?.mean_all()
    };
    let vars = trained(&store);
    assert_eq!(vars.len(), 14);
    assert_gradients(&vars, loss);

    let before = loss().unwrap().to_scalar::<f64>().unwrap();
    let start: Vec<Tensor> = vars.iter().map(|(_, var)| var.copy().unwrap().detach()).collect();
    for _ in 0..20 {
        let gradients = loss().unwrap().backward().unwrap();
        for (_, var) in &vars {
            let step = (gradients.get(var).unwrap() * 0.1).unwrap();
            var.set(&(var.as_tensor() - step).unwrap().detach()).unwrap();
        }
    }
    assert!(loss().unwrap().to_scalar::<f64>().unwrap() < before - 1e-3);
    for ((name, var), start) in vars.iter().zip(start) {
        assert!(pad_testkit::largest(&(var.as_tensor() - start).unwrap()) > 1e-6, "{name}");
    }
}

/// Issue 3569: no gradient passed softmax_last_dim. Of (0, ln 3) it is y = (1/4, 3/4), so the sum of
/// its squares, whose gradient is `y (2 y - sum(2 y y))`, has the gradient (-3/16, 3/16); the sum of
/// squares and of the input itself, as through a residual, adds 1 to each.
#[test]
fn issue_3569_softmax() {
    let x = Var::new(&[0.0, 3_f64.ln()], &CPU).unwrap();
    let squares = pad_ops::softmax(&x).unwrap().sqr().unwrap().sum_all().unwrap();
    for (loss, want) in [
        (squares.clone(), [-3.0 / 16.0, 3.0 / 16.0]),
        ((squares + x.sum_all().unwrap()).unwrap(), [13.0 / 16.0, 19.0 / 16.0]),
    ] {
        let got = loss.backward().unwrap().get(&x).unwrap().to_vec1::<f64>().unwrap();
        let near = got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12);
        assert!(near, "{got:?} for {want:?}");
    }
}
