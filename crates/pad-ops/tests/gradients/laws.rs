//! What holds for every operator.

use candle_core::Var;
use pad_testkit::{Precision, close, gradcheck, largest, numbers};
use proptest::prelude::*;

use crate::{
    cases::{CASES, Case, F32, F64, Sizes},
    run::{operands, run},
};

fn fast_equals_reference(case: &Case, sizes: Sizes) {
    let operands = operands(case, &sizes, F32);
    let (fast, fast_grads) = run(case.fast, &operands).unwrap();
    let (want, want_grads) = run(case.reference, &operands).unwrap();
    let name = format!("{} {sizes:?}", case.name);
    if largest(&want) == 0.0 {
        assert_eq!(largest(&fast), 0.0, "{name}: dropout may drop everything there is");
    } else {
        close(&name, &fast, &want, 2e-5);
    }
    for (i, (got, want)) in fast_grads.iter().zip(&want_grads).enumerate() {
        let (got, want) = (got.as_ref().expect("gradient"), want.as_ref().expect("gradient"));
        let name = format!("{name}, gradient {i}");
        if want.elem_count() == 1 {
            // A sum over every token and channel, which may cancel out: rounding goes with its
            // terms, about as large as the gradient's other values, and not with what is left of
            // them.
            let difference = largest(&(got - want).unwrap());
            let terms = want_grads.iter().flatten().map(largest).fold(0.0, f64::max);
            assert!(difference <= 5e-5 * terms, "{name}: got {got} but want {want}");
        } else {
            close(&name, got, want, 5e-5);
        }
    }
}

#[test]
fn corner_sizes() {
    let table = [
        Sizes { b: 1, n: 1, d: 1, o: 1 },
        Sizes { b: 1, n: 1, d: 33, o: 2 },
        Sizes { b: 2, n: 5, d: 31, o: 17 },
        Sizes { b: 1, n: 197, d: 32, o: 8 },
        Sizes { b: 3, n: 7, d: 3072, o: 5 },
        Sizes { b: 1, n: 1100, d: 8, o: 4 }, // attention in several blocks of rows
    ];
    for case in &CASES {
        for sizes in table {
            fast_equals_reference(case, sizes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]
    #[test]
    fn random_sizes(b in 1_usize..4, n in 1_usize..70, d in 1_usize..130, o in 1_usize..70) {
        for case in &CASES {
            fast_equals_reference(case, Sizes { b, n, d, o });
        }
    }
}

#[test]
fn finite_differences() {
    let sizes = Sizes { b: 2, n: 4, d: 9, o: 5 };
    for case in &CASES {
        // A chain of operators curves more than one: central differences are off by more.
        let chain = case.name.contains("branch");
        let f64_precision =
            if chain { Precision { tolerance: 1e-6, ..Precision::F64 } } else { Precision::F64 };
        gradcheck(case.name, &operands(case, &sizes, F32), Precision::F32, case.fast);
        // dropout and masks are fixed by the key, so f64 runs see the same function.
        let name = format!("{} (reference)", case.name);
        gradcheck(&name, &operands(case, &sizes, F64), f64_precision, case.reference);
        gradcheck(case.name, &operands(case, &sizes, F64), f64_precision, case.fast);
    }
}

#[test]
fn a_cut_graph_is_caught() {
    // The check itself must be able to fail: this operator hides half of its dependence on x.
    let x = numbers(&[3, 4], F64, 1);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        gradcheck("cut", &[x], Precision::F64, |t| &t[0] * t[0].detach());
    }));
    let message = *failed.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("finite differences"), "{message}");
}

#[test]
fn frozen_operands_get_no_gradient() {
    for case in &CASES {
        let operands = operands(case, &Sizes { b: 2, n: 3, d: 6, o: 4 }, F32);
        for trained in 0..operands.len() {
            let var = Var::from_tensor(&operands[trained]).unwrap();
            let mut mixed = operands.clone();
            mixed[trained] = var.as_tensor().clone();
            let out = (case.fast)(&mixed).unwrap();
            let grads = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            // The side fusion does not look at the MLP's output.
            let want = !(case.name.ends_with(" side") && trained == 1);
            assert_eq!(grads.get(var.as_tensor()).is_some(), want, "{} {trained}", case.name);
            for (i, operand) in mixed.iter().enumerate() {
                if i != trained {
                    assert!(grads.get(operand).is_none(), "{}: frozen operand {i}", case.name);
                }
            }
        }
        assert!(!(case.fast)(&operands).unwrap().track_op(), "{}: nothing to train", case.name);
    }
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let sizes = Sizes { b: 4, n: 150, d: 200, o: 64 };
    for case in &CASES {
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (out, grads) = run(case.fast, &operands(case, &sizes, F32)).unwrap();
                let mut bits: Vec<Vec<u32>> = Vec::new();
                for tensor in std::iter::once(&out).chain(grads.iter().flatten()) {
                    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    bits.push(values.iter().map(|v| v.to_bits()).collect());
                }
                bits
            })
        };
        let one = bits(1);
        assert_eq!(one, bits(2), "{}", case.name);
        assert_eq!(one, bits(3), "{}", case.name);
    }
}
