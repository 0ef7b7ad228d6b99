use half::bf16;

use super::*;
use crate::cpu::mat::Into;

/// Values between -1 and 1 from a fixed recurrence.
fn numbers(len: usize, salt: u32) -> Vec<f32> {
    let mut state = salt.wrapping_mul(2_654_435_769).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn halves(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&x| bf16::from_f32(x)).collect()
}

/// Odd sizes, whole tiles, more blocks of `k` than one, few rows, few columns, tasks that share
/// panels; `k` of the gradient of a weight from 32 images of 197 tokens.
const SHAPES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (1, 5, 3),
    (3, 2, 33),
    (6, 8, 16),
    (7, 9, 17),
    (13, 7, 31),
    (50, 65, 97),
    (25, 769, 40),
    (149, 1537, 17),
    (7, 3, 450),
    (450, 3, 7),
    (600, 1030, 24),
    (24, 515, 610),
    (400, 17, 300),
    (13, 6304, 20),
    (61, 6305, 35),
];

/// Every order of the operands and of the result, with gaps between rows.
fn mats(rows: usize, cols: usize) -> [Mat; 3] {
    [
        Mat::dense(rows, cols),
        Mat::strided(cols, rows, rows + 3).t(),
        Mat { rows, cols, row_stride: 2 * cols + 1, col_stride: 2 },
    ]
}

fn kinds() -> [EightKind; 2] {
    [EightKind::Plain, EightKind::best()]
}

fn run(
    kind: EightKind,
    out: (&mut [f32], Mat),
    finish: Finish,
    a: (Values<'_>, Mat),
    b: (Values<'_>, Mat),
    threads: usize,
) {
    assert!(out.0.len() >= out.1.span());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let out_mat = out.1;
    let out = out.0;
    // SAFETY: the slice holds the matrix (asserted) and is borrowed mutably.
    pool.install(move || unsafe {
        multiply(kind, (out.as_mut_ptr(), out_mat), finish, a, b, Threads::All);
    });
}

fn at(values: &[f32], mat: Mat, i: usize, j: usize) -> f32 {
    values[i * mat.row_stride + j * mat.col_stride]
}

#[test]
fn products_of_every_order_are_the_exact_sums() {
    // Each pair of orders once.
    let orders = (0..9).map(|i| (i % 3, i / 3, (i + i / 3) % 3));
    for ((m, k, n), (of_a, of_b, of_out)) in
        orders.flat_map(|orders| SHAPES.map(|shape| (shape, orders)))
    {
        let (a_mat, b_mat, out_mat) = (mats(m, k)[of_a], mats(k, n)[of_b], mats(m, n)[of_out]);
        let (a, b) = (numbers(a_mat.span(), 1), numbers(b_mat.span(), 2));
        let start = numbers(out_mat.span(), 3);
        // Exact sums, and those of absolute values, which rounding errors scale with.
        let sums: Vec<(f64, f64)> = (0..m * n)
            .map(|place| {
                let (i, j) = (place / n, place % n);
                (0..k).fold((0.0, 1.0), |(sum, scale), p| {
                    let term = f64::from(at(&a, a_mat, i, p)) * f64::from(at(&b, b_mat, p, j));
                    (sum + term, scale + term.abs())
                })
            })
            .collect();
        let finishes = [(Into::Replace, 1.0), (Into::Add, 0.5)];
        for (kind, (into, scale)) in kinds().into_iter().flat_map(|k| finishes.map(|f| (k, f))) {
            let mut out = start.clone();
            let (x, y) = ((Values::F32(&a), a_mat), (Values::F32(&b), b_mat));
            run(kind, (&mut out, out_mat), Finish { into, scale }, x, y, 2);
            let mut untouched = start.clone();
            for (place, (sum, terms)) in sums.iter().enumerate() {
                let (i, j) = (place / n, place % n);
                let before = if into == Into::Add { at(&start, out_mat, i, j) } else { 0.0 };
                let want = f64::from(before) + sum * f64::from(scale);
                let got = at(&out, out_mat, i, j);
                let unit = (k + 2) as f64 * f64::from(f32::EPSILON);
                assert!(
                    (f64::from(got) - want).abs() <= unit * terms,
                    "{kind:?} {m}x{k}x{n} {a_mat:?} {b_mat:?} {out_mat:?}: ({i}, {j}) is {got}, \
                     want {want}"
                );
                untouched[i * out_mat.row_stride + j * out_mat.col_stride] = got;
            }
            assert_eq!(out, untouched, "{kind:?} {m}x{k}x{n}: written beyond the result");
        }
    }
}

/// The bits are those of one chain of sums, for any number of threads, order of memory and company.
#[test]
fn every_sum_is_one_chain() {
    let (m, k, n) = (403, 1101, 203);
    let (a, b) = (numbers(m * k, 4), numbers(k * n, 5));
    let mut chains = vec![0.0_f32; m * n];
    for (i, row) in chains.chunks_exact_mut(n).enumerate() {
        for p in 0..k {
            for (sum, b) in row.iter_mut().zip(&b[p * n..]) {
                *sum = a[i * k + p].mul_add(*b, *sum);
            }
        }
    }
    let transposed: Vec<f32> = (0..k * n).map(|i| b[i % k * n + i / k]).collect();
    let finish = Finish { into: Into::Replace, scale: 1.0 };
    for kind in kinds() {
        let mut first: Option<Vec<f32>> = None;
        for threads in [1, 2, 3] {
            for (b, mat) in [(&b, Mat::dense(k, n)), (&transposed, Mat::dense(n, k).t())] {
                let mut out = vec![f32::NAN; m * n];
                let (x, y) = ((Values::F32(&a), Mat::dense(m, k)), (Values::F32(b), mat));
                run(kind, (&mut out, Mat::dense(m, n)), finish, x, y, threads);
                match &first {
                    None => first = Some(out),
                    Some(first) => assert_eq!(first, &out, "{kind:?}, {threads} threads"),
                }
            }
        }
        let first = first.unwrap();
        if kind == EightKind::Wide {
            assert_eq!(first, chains, "products are fused");
        }
        let mut alone = vec![f32::NAN; n];
        let row = &a[200 * k..201 * k];
        let (x, y) = ((Values::F32(row), Mat::dense(1, k)), (Values::F32(&b), Mat::dense(k, n)));
        run(kind, (&mut alone, Mat::dense(1, n)), finish, x, y, 1);
        assert_eq!(alone, first[200 * n..201 * n], "{kind:?}: a row alone");
    }
}

#[test]
fn bf16_operands_and_results_are_the_rounded_f32_ones() {
    for (m, k, n) in SHAPES {
        let (a, b) = (numbers(m * k, 6), numbers(k * n, 7));
        let (a16, b16) = (halves(&a), halves(&b));
        let (a_mat, b_mat) = (Mat::dense(m, k), Mat::dense(n, k).t());
        let finish = Finish { into: Into::Replace, scale: 1.0 };
        // AVX512-BF16's order: pairs of k, the odd one first.
        let mut want = vec![0.0_f32; m * n];
        for (i, want) in want.iter_mut().enumerate() {
            let (i, j) = (i / n, i % n);
            for p in 0..k.next_multiple_of(2) {
                if p ^ 1 < k {
                    let term = a16[i * k + (p ^ 1)].to_f32() * b16[j * k + (p ^ 1)].to_f32();
                    *want += term;
                }
            }
        }
        for kind in kinds() {
            for (a, b) in [
                (Values::Rounded(&a), Values::Rounded(&b)),
                (Values::Bf16(&a16), Values::Rounded(&b)),
                (Values::Bf16(&a16), Values::Bf16(&b16)),
            ] {
                let mut out = vec![f32::NAN; m * n];
                run(kind, (&mut out, Mat::dense(m, n)), finish, (a, a_mat), (b, b_mat), 2);
                assert_eq!(out, want, "{kind:?} {m}x{k}x{n}");
                let mut narrow = vec![bf16::NAN; m * n];
                // SAFETY: the array holds the matrix and is borrowed mutably.
                unsafe {
                    let to = (narrow.as_mut_ptr(), Mat::dense(m, n));
                    multiply(kind, to, finish, (a, a_mat), (b, b_mat), Threads::One);
                }
                assert_eq!(narrow, halves(&want), "{kind:?} {m}x{k}x{n}");
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row_and_empty_products_are_zero() {
    let (m, k, n) = (8, 6, 40);
    let (mut a, b) = (numbers(m * k, 8), numbers(k * n, 9));
    a[2 * k] = f32::NAN;
    let finish = Finish { into: Into::Replace, scale: 1.0 };
    for kind in kinds() {
        let mut out = vec![0.0; m * n];
        let (x, y) = ((Values::F32(&a), Mat::dense(m, k)), (Values::F32(&b), Mat::dense(k, n)));
        run(kind, (&mut out, Mat::dense(m, n)), finish, x, y, 1);
        for (i, row) in out.chunks_exact(n).enumerate() {
            assert!(row.iter().all(|x| x.is_nan() == (i == 2)), "{kind:?} row {i}");
        }
        let mut out = vec![f32::NAN; 6];
        let (x, y) = ((Values::F32(&[]), Mat::dense(2, 0)), (Values::F32(&[]), Mat::dense(0, 3)));
        run(kind, (&mut out, Mat::dense(2, 3)), finish, x, y, 1);
        assert_eq!(out, [0.0; 6]);
    }
}
