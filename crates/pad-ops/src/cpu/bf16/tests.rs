use super::*;
use crate::cpu::level::can_test;

/// Values between -1 and 1 from a fixed recurrence.
fn numbers(len: usize, salt: u32) -> Vec<f32> {
    let mut state = salt.wrapping_mul(2_654_435_769).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn rounded(x: f32) -> f64 {
    f64::from(bf16::from_f32(x).to_f32())
}

/// `a b + bias` in `f64` of rounded operands, and with it the sum of absolute terms: what rounding
/// errors scale with.
fn oracle(a: (&[f32], Mat), b: (&[f32], Mat), bias: Option<&[f32]>) -> Vec<(f64, f64)> {
    let at = |(values, mat): (&[f32], Mat), i: usize, j: usize| {
        rounded(values[i * mat.row_stride + j * mat.col_stride])
    };
    let mut out = Vec::new();
    for i in 0..a.1.rows {
        for j in 0..b.1.cols {
            let start = bias.map_or(0.0, |bias| f64::from(bias[j]));
            let terms = (0..a.1.cols).map(|p| at(a, i, p) * at(b, p, j));
            let sum = start + terms.clone().sum::<f64>();
            out.push((sum, start.abs() + terms.map(f64::abs).sum::<f64>()));
        }
    }
    out
}

fn at_level<T: Element>(
    level: Level,
    a: (Values, Mat),
    b: (Values, Mat),
    bias: Option<&[f32]>,
    threads: Threads,
) -> Vec<T> {
    let b = Packed::new(b, threads);
    let len = a.1.rows * b.n;
    let mut out: Vec<T> = Vec::with_capacity(len);
    let mat = Mat::dense(a.1.rows, b.n);
    let spare = &mut out.spare_capacity_mut()[..len];
    multiply(level, (spare, mat), Into::Replace, a, &b, bias, threads);
    // SAFETY: as in `product`.
    unsafe { out.set_len(len) };
    out
}

fn levels() -> Vec<Level> {
    [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16]
        .into_iter()
        .filter(|&wanted| can_test(wanted))
        .collect()
}

const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 5, 3),
    (3, 2, 33),
    (12, 8, 32),
    (13, 7, 31),
    (50, 65, 97),
    (25, 769, 40),
    (149, 1537, 17),
    (7, 3, 450),
];

/// All shapes; the small ones under Miri, which interprets.
fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    SHAPES.into_iter().take(if cfg!(miri) { 4 } else { SHAPES.len() })
}

#[test]
fn every_level_and_order_agrees_with_exact_sums() {
    for (m, k, n) in shapes() {
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
        let a_mats = [Mat::dense(m, k), Mat::dense(k, m).t()];
        let b_mats = [Mat::dense(k, n), Mat::dense(n, k).t()];
        for (a_mat, b_mat) in a_mats.into_iter().flat_map(|a| b_mats.map(|b| (a, b))) {
            let want = oracle((&a, a_mat), (&b, b_mat), Some(&bias));
            let mut first: Option<Vec<f32>> = None;
            for level in levels() {
                let got: Vec<f32> = at_level(
                    level,
                    (Values::F32(&a), a_mat),
                    (Values::F32(&b), b_mat),
                    Some(&bias),
                    Threads::All,
                );
                // Each of k + 1 additions rounds by at most half a unit in the last place of a
                // partial sum.
                let unit = (k + 2) as f64 * f64::from(f32::EPSILON);
                for (i, (&got, &(want, scale))) in got.iter().zip(&want).enumerate() {
                    let off = (f64::from(got) - want).abs();
                    assert!(off <= unit * scale, "{level:?} {m}x{k}x{n}: [{i}] {got} {want}");
                }
                match &first {
                    None => first = Some(got),
                    Some(first) => assert_eq!(first, &got, "{level:?} {m}x{k}x{n}"),
                }
            }
        }
    }
}

#[test]
fn bf16_operands_and_results_are_the_rounded_f32_ones() {
    for (m, k, n) in shapes() {
        let (a, b) = (numbers(m * k, 4), numbers(k * n, 5));
        let half = |x: &[f32]| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
        let (a16, b16) = (half(&a), half(&b));
        let (a_mat, b_mat) = (Mat::dense(m, k), Mat::dense(n, k).t());
        let packed = Packed::new((Values::F32(&b), b_mat), Threads::One);
        let want: Vec<f32> = product((Values::F32(&a), a_mat), &packed, None, Threads::One);
        let packed = Packed::new((Values::Bf16(&b16), b_mat), Threads::All);
        let got: Vec<f32> = product((Values::Bf16(&a16), a_mat), &packed, None, Threads::All);
        assert_eq!(got, want);
        let got: Vec<bf16> = product((Values::Bf16(&a16), a_mat), &packed, None, Threads::All);
        assert_eq!(got, half(&want));
    }
}

#[test]
fn a_product_is_added_to_what_is_there() {
    let (m, k, n) = (14, 9, 35);
    let (a, b) = (numbers(m * k, 6), numbers(k * n, 7));
    let packed = Packed::new((Values::F32(&b), Mat::dense(k, n)), Threads::All);
    let mat = Mat::dense(m, k);
    let product: Vec<f32> = product((Values::F32(&a), mat), &packed, None, Threads::All);
    // A destination with a gap between its rows, which stays as it is.
    let (start, gap) = (numbers(m * (n + 3), 8), 3);
    let mut out = start.clone();
    add((&mut out, Mat::strided(m, n, n + gap)), (Values::F32(&a), mat), &packed, Threads::All);
    for (i, (got, start)) in out.iter().zip(&start).enumerate() {
        let (row, col) = (i / (n + gap), i % (n + gap));
        let want = if col < n { start + product[row * n + col] } else { *start };
        assert_eq!(*got, want, "[{row}, {col}]");
    }
}

#[test]
fn the_bits_do_not_depend_on_threads() {
    let (m, k, n) = (301, 1601, 203);
    let (a, b) = (numbers(m * k, 9), numbers(k * n, 10));
    let run = |threads: usize| -> Vec<f32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (a, b) = ((Values::F32(&a), Mat::dense(m, k)), (Values::F32(&b), Mat::dense(k, n)));
        pool.install(|| at_level(level(), a, b, None, Threads::All))
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
    // A row alone has the bits of the row among others.
    let row = 200;
    let alone: Vec<f32> = at_level(
        level(),
        (Values::F32(&a[row * k..(row + 1) * k]), Mat::dense(1, k)),
        (Values::F32(&b), Mat::dense(k, n)),
        None,
        Threads::One,
    );
    assert_eq!(alone, one[row * n..(row + 1) * n]);
}

#[test]
fn rounding_is_to_nearest_even_and_keeps_what_is_not_a_number() {
    let mut values = numbers(20_000, 11);
    values.extend([0.0, -0.0, 1e-40, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, 1.003_906_2]);
    for x in values {
        assert_eq!(pack::round(x), u32::from(bf16::from_f32(x).to_bits()), "{x}");
    }
    for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff, 0xff80_0001_u32] {
        let x = bf16::from_bits(pack::round(f32::from_bits(bits)) as u16);
        assert!(x.is_nan(), "{bits:x}");
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row_and_empty_products_are_zero() {
    let (m, k, n) = (5, 6, 40);
    let (mut a, b) = (numbers(m * k, 12), numbers(k * n, 13));
    a[2 * k] = f32::NAN;
    for level in levels() {
        let out: Vec<f32> = at_level(
            level,
            (Values::F32(&a), Mat::dense(m, k)),
            (Values::F32(&b), Mat::dense(k, n)),
            None,
            Threads::One,
        );
        for (i, row) in out.chunks_exact(n).enumerate() {
            assert!(row.iter().all(|x| x.is_nan() == (i == 2)), "{level:?} row {i}");
        }
    }
    let packed = Packed::new((Values::F32(&[]), Mat::dense(0, 3)), Threads::All);
    let bias = [1.0, 2.0, 3.0];
    let out: Vec<f32> =
        product((Values::F32(&[]), Mat::dense(2, 0)), &packed, Some(&bias), Threads::All);
    assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    let out: Vec<f32> = product((Values::F32(&[]), Mat::dense(0, 0)), &packed, None, Threads::All);
    assert!(out.is_empty());
}

#[test]
#[should_panic(expected = "bf16: Mat { rows: 2, cols: 4")]
fn shapes_that_do_not_chain_are_a_bug_of_the_caller() {
    let packed = Packed::new((Values::F32(&[0.0; 6]), Mat::dense(3, 2)), Threads::One);
    let _: Vec<f32> =
        product((Values::F32(&[0.0; 8]), Mat::dense(2, 4)), &packed, None, Threads::One);
}

/// A measurement, not a check: GFLOP/s over the products of a ViT-B step at batch 16.
/// `cargo test --release -p pad-ops --lib bf16 -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed() {
    const SHAPES: [(usize, usize); 11] = [
        (768, 2304),
        (768, 768),
        (768, 3072),
        (3072, 768),
        (512, 1536),
        (512, 512),
        (512, 2048),
        (2048, 512),
        (768, 64),
        (64, 768),
        (512, 768),
    ];
    let best = |work: &mut dyn FnMut()| {
        let mut best = f64::INFINITY;
        let start = std::time::Instant::now();
        let mut runs = 0;
        while runs < 3 || (start.elapsed().as_secs_f64() < 0.25 && runs < 60) {
            let start = std::time::Instant::now();
            work();
            best = best.min(start.elapsed().as_secs_f64());
            runs += 1;
        }
        best
    };
    println!(
        "    m     k     n |  f32 gemm | packed | packing b | bf16 to bf16 | d_x packed | d_weight"
    );
    for m in [800, 3152] {
        for (k, n) in SHAPES {
            let (a, b, y) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let half = |x: &[f32]| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
            let (a16, b16, y16) = (half(&a), half(&b), half(&y));
            let a_mat = Mat::dense(m, k);
            let b_mat = Mat::dense(n, k).t();
            let mut out = vec![0.0; m * n];
            let speed = |seconds: f64| 2e-9 * (m * k * n) as f64 / seconds;
            let f32_gemm = best(&mut || {
                crate::cpu::matmul::matmul(
                    (&mut out, Mat::dense(m, n)),
                    Into::Replace,
                    1.0,
                    (&a, a_mat),
                    (&b, b_mat),
                    Threads::All,
                );
            });
            let forward = Packed::new((Values::Bf16(&b16), b_mat), Threads::All);
            let spare = |out: &mut Vec<f32>, a: (Values, Mat), b: &Packed| {
                let mat = Mat::dense(a.1.rows, b.n);
                out.reserve((a.1.rows * b.n).saturating_sub(out.len()));
                out.clear();
                let spare = &mut out.spare_capacity_mut()[..a.1.rows * b.n];
                multiply(level(), (spare, mat), Into::Replace, a, b, None, Threads::All);
            };
            let packed = best(&mut || spare(&mut out, (Values::F32(&a), a_mat), &forward));
            let packing = best(&mut || {
                let b = Packed::new((Values::F32(&b), b_mat), Threads::All);
                spare(&mut out, (Values::F32(&a), a_mat), &b);
            });
            let to_half = best(&mut || {
                let _: Vec<bf16> =
                    product((Values::Bf16(&a16), a_mat), &forward, None, Threads::All);
            });
            let backward = Packed::new((Values::Bf16(&b16), Mat::dense(n, k)), Threads::All);
            let y_mat = Mat::dense(m, n);
            let d_x = best(&mut || spare(&mut out, (Values::Bf16(&y16), y_mat), &backward));
            let d_weight = best(&mut || {
                let x = Packed::new((Values::Bf16(&a16), a_mat), Threads::All);
                spare(&mut out, (Values::Bf16(&y16), y_mat.t()), &x);
            });
            println!(
                "{m:5} {k:5} {n:5} | {:9.0} | {:6.0} | {:9.0} | {:12.0} | {:10.0} | {:8.0}",
                speed(f32_gemm),
                speed(packed),
                speed(packing),
                speed(to_half),
                speed(d_x),
                speed(d_weight)
            );
        }
    }
}
