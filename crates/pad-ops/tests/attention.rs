//! Attention of given queries, keys and values: causal, with shared heads of keys, with a bias
//! broadcast along any axes.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_ops::{AttentionOptions, attention_with, reference};
use pad_testkit::{Precision, close, gradcheck, largest, numbers};

const F32: DType = DType::F32;
const F64: DType = DType::F64;

#[derive(Clone, Copy, Debug)]
struct Case {
    b: usize,
    heads: usize,
    shared: usize,
    n: usize,
    m: usize,
    e: usize,
    f: usize,
    causal: bool,
    bias: Option<&'static [usize]>,
}

impl Case {
    fn options(self) -> AttentionOptions {
        AttentionOptions { causal: self.causal, ..AttentionOptions::of_head_dim(self.e) }
    }

    fn operands(self, dtype: DType) -> Vec<Tensor> {
        let Self { b, heads, shared, n, m, e, f, .. } = self;
        let mut shapes = vec![vec![b, heads, n, e], vec![b, shared, m, e], vec![b, shared, m, f]];
        shapes.extend(self.bias.map(<[usize]>::to_vec));
        shapes.iter().enumerate().map(|(i, shape)| numbers(shape, dtype, i as u64)).collect()
    }
}

const CASES: [Case; 9] = [
    Case { b: 2, heads: 3, shared: 3, n: 5, m: 7, e: 4, f: 6, causal: false, bias: None },
    Case { b: 2, heads: 3, shared: 3, n: 6, m: 6, e: 4, f: 4, causal: true, bias: None },
    Case { b: 2, heads: 6, shared: 2, n: 3, m: 8, e: 4, f: 5, causal: true, bias: None },
    Case { b: 2, heads: 4, shared: 1, n: 5, m: 7, e: 4, f: 4, causal: false, bias: Some(&[5, 7]) },
    Case {
        b: 2,
        heads: 4,
        shared: 2,
        n: 5,
        m: 7,
        e: 4,
        f: 4,
        causal: true,
        bias: Some(&[4, 1, 7]),
    },
    Case {
        b: 2,
        heads: 2,
        shared: 2,
        n: 5,
        m: 7,
        e: 4,
        f: 4,
        causal: false,
        bias: Some(&[2, 1, 1, 7]),
    },
    Case {
        b: 2,
        heads: 2,
        shared: 2,
        n: 5,
        m: 7,
        e: 4,
        f: 4,
        causal: false,
        bias: Some(&[2, 2, 5, 7]),
    },
    Case {
        b: 2,
        heads: 2,
        shared: 2,
        n: 5,
        m: 5,
        e: 4,
        f: 4,
        causal: true,
        bias: Some(&[1, 2, 5, 5]),
    },
    // Several blocks of rows.
    Case { b: 1, heads: 2, shared: 1, n: 700, m: 901, e: 8, f: 8, causal: true, bias: None },
];

type Op =
    fn(&Tensor, &Tensor, &Tensor, Option<&Tensor>, &AttentionOptions) -> pad_ops::Result<Tensor>;

fn apply(op: Op, t: &[Tensor], case: Case) -> Result<Tensor> {
    Ok(op(&t[0], &t[1], &t[2], t.get(3), &case.options())?)
}

fn run(op: Op, operands: &[Tensor], case: Case) -> Vec<Tensor> {
    let vars: Vec<Var> = operands.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = apply(op, &tracked, case).unwrap();
    let probe = numbers(y.dims(), F64, 77).to_dtype(y.dtype()).unwrap();
    let grads = (&y * probe).unwrap().sum_all().unwrap().backward().unwrap();
    let wide = |tensor: &Tensor| tensor.to_dtype(F64).unwrap();
    let mut found = vec![wide(&y.detach())];
    found.extend(vars.iter().map(|var| wide(grads.get(var).unwrap())));
    found
}

#[test]
fn fast_equals_reference() {
    for case in CASES {
        let want = run(reference::attention_with, &case.operands(F64), case);
        for (dtype, tolerance) in [(F32, 3e-5), (DType::BF16, 4e-2), (DType::F16, 1e-2)] {
            let got = run(attention_with, &case.operands(dtype), case);
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                close(&format!("{case:?} {dtype:?}, {i}"), got, want, tolerance);
            }
        }
    }
}

#[test]
fn finite_differences() {
    for case in &CASES[..8] {
        let op = |t: &[Tensor]| apply(attention_with, t, *case);
        gradcheck(&format!("{case:?}"), &case.operands(F32), Precision::F32, op);
        gradcheck(&format!("{case:?} f64"), &case.operands(F64), Precision::F64, op);
    }
}

/// The last query sees all keys, each before it one less; written out.
#[test]
fn a_causal_mask_by_hand() {
    let q = Tensor::zeros((1, 1, 2, 1), F32, &Device::Cpu).unwrap();
    let k = Tensor::zeros((1, 1, 3, 1), F32, &Device::Cpu).unwrap();
    let v = Tensor::new(&[[[[1_f32], [2.0], [9.0]]]], &Device::Cpu).unwrap();
    let options = AttentionOptions { causal: true, scale: 1.0 };
    let y = attention_with(&q, &k, &v, None, &options).unwrap();
    assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.5, 4.0]);
    let few = attention_with(&k, &q, &q, None, &options).unwrap_err().to_string();
    assert_eq!(
        few,
        "attention: `causal` is 2 keys and 3 queries, expected at least as many keys as queries"
    );
}

/// What is added to all logits of a query alike changes nothing, and its gradient is zero.
#[test]
fn a_bias_without_keys_changes_nothing() {
    let case = CASES[0];
    let t = case.operands(F32);
    let bias = Var::from_tensor(&numbers(&[3, 5, 1], F32, 9)).unwrap();
    let y = attention_with(&t[0], &t[1], &t[2], Some(&bias), &case.options()).unwrap();
    let plain = attention_with(&t[0], &t[1], &t[2], None, &case.options()).unwrap();
    close("the same", &y, &plain, 1e-6);
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(largest(grads.get(&bias).unwrap()) < 1e-6);
}

/// A change of a later token leaves what came before as it was, to the bit.
#[test]
fn nothing_flows_back_in_time() {
    let case = CASES[1];
    let operands = case.operands(F32);
    let mut later = operands.clone();
    for at in [1, 2] {
        let first = operands[at].narrow(2, 0, 5).unwrap();
        let other = (operands[at].narrow(2, 5, 1).unwrap() * 3.0).unwrap();
        later[at] = Tensor::cat(&[first, other], 2).unwrap();
    }
    let y = |t: &[Tensor]| {
        let y = apply(attention_with, t, case).unwrap().narrow(2, 0, 5).unwrap();
        y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(y(&operands), y(&later));
}

#[test]
fn minus_infinity_hides_a_key() {
    let case = CASES[0];
    let t = case.operands(F32);
    let mut bias = vec![0_f32; 7];
    bias[2] = f32::NEG_INFINITY;
    let bias = Var::from_tensor(&Tensor::from_vec(bias, 7, &Device::Cpu).unwrap()).unwrap();
    let y = attention_with(&t[0], &t[1], &t[2], Some(&bias), &case.options()).unwrap();
    let without = |t: &Tensor| {
        Tensor::cat(&[t.narrow(2, 0, 2).unwrap(), t.narrow(2, 3, 4).unwrap()], 2).unwrap()
    };
    let want = attention_with(&t[0], &without(&t[1]), &without(&t[2]), None, &case.options());
    close("hidden", &y, &want.unwrap(), 1e-6);
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let d_bias = grads.get(&bias).unwrap().to_vec1::<f32>().unwrap();
    assert!(d_bias.iter().all(|d| d.is_finite()) && d_bias[2] == 0.0, "{d_bias:?}");
}

#[test]
fn frozen_operands_get_no_gradient() {
    let case = CASES[3];
    let operands = case.operands(F32);
    for trained in 0..operands.len() {
        let var = Var::from_tensor(&operands[trained]).unwrap();
        let mut mixed = operands.clone();
        mixed[trained] = var.as_tensor().clone();
        let y = apply(attention_with, &mixed, case).unwrap();
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for (i, operand) in mixed.iter().enumerate() {
            assert_eq!(grads.get(operand).is_some(), i == trained, "{trained}: {i}");
        }
    }
    assert!(!apply(attention_with, &operands, case).unwrap().track_op());
}

#[test]
fn same_bits_for_any_number_of_threads() {
    for case in [CASES[8], CASES[3]] {
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let found = run(attention_with, &case.operands(F32), case);
                let values =
                    found.iter().map(|t| t.flatten_all().unwrap().to_vec1::<f64>().unwrap());
                values.flatten().map(f64::to_bits).collect::<Vec<_>>()
            })
        };
        let one = bits(1);
        assert_eq!(one, bits(2));
        assert_eq!(one, bits(3));
    }
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let t = |shape: &[usize]| numbers(shape, F32, 1);
    let options = AttentionOptions::of_head_dim(4);
    let text = |q: &[usize], k: &[usize], v: &[usize], bias: Option<&[usize]>| {
        let bias = bias.map(t);
        let found = attention_with(&t(q), &t(k), &t(v), bias.as_ref(), &options);
        found.unwrap_err().to_string()
    };
    let (q, k) = (&[1, 4, 3, 4], &[1, 2, 5, 4]);
    assert_eq!(
        text(q, &[1, 3, 5, 4], &[1, 3, 5, 4], None),
        "attention: `k` has shape [1, 3, 5, 4], expected heads that divide the 4 of `q`"
    );
    assert_eq!(
        text(q, k, &[1, 2, 6, 4], None),
        "attention: `v` has shape [1, 2, 6, 4], expected [1, 2, 5, 4]"
    );
    assert_eq!(
        text(q, &[1, 2, 0, 4], &[1, 2, 0, 4], None),
        "attention: `k` has shape [1, 2, 0, 4], expected at least one key of one value"
    );
    assert_eq!(
        text(q, k, k, Some(&[2, 3, 5])),
        "attention: `bias` has shape [2, 3, 5], expected a shape that broadcasts to [1, 4, 3, 5]"
    );
}
