use super::*;

/// Values between -1 and 1.
fn numbers(len: usize, salt: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + salt * 104_729) % 509) as f32 / 254.5 - 1.0).collect()
}

/// Attention and its gradient in f64, head by head: `(out, d_qkv)`.
fn oracle(qkv: &[f32], d_out: &[f32], s: &Sizes) -> (Vec<f64>, Vec<f64>) {
    let (n, e) = (s.n, s.head_dim);
    let (mut out, mut d_qkv) = (vec![0.0; s.b * n * s.d], vec![0.0; qkv.len()]);
    for (image, head) in (0..s.b * s.heads).map(|task| (task / s.heads, task % s.heads)) {
        let at = |part, row: usize, c: usize| s.packed(image, part, head) + row * 3 * s.d + c;
        let value = |part, row, c| f64::from(qkv[at(part, row, c)]);
        let place = |row: usize, c: usize| (image * n + row) * s.d + head * e + c;
        let scale = (e as f64).powf(-0.5);
        for i in 0..n {
            let logit = |j| -> f64 {
                let terms = (0..e).map(|c| value(Part::Queries, i, c) * value(Part::Keys, j, c));
                terms.sum::<f64>() * scale
            };
            let most = (0..n).map(logit).fold(f64::MIN, f64::max);
            let p: Vec<f64> = (0..n).map(|j| (logit(j) - most).exp()).collect();
            let sum: f64 = p.iter().sum();
            let p: Vec<f64> = p.iter().map(|p| p / sum).collect();
            let d_o = |c| f64::from(d_out[place(i, c)]);
            let d_p: Vec<f64> =
                (0..n).map(|j| (0..e).map(|c| d_o(c) * value(Part::Values, j, c)).sum()).collect();
            let inner: f64 = p.iter().zip(&d_p).map(|(p, d)| p * d).sum();
            for (j, (p, d_p)) in p.iter().zip(&d_p).enumerate() {
                let d_s = p * (d_p - inner) * scale;
                for c in 0..e {
                    out[place(i, c)] += p * value(Part::Values, j, c);
                    d_qkv[at(Part::Values, j, c)] += p * d_o(c);
                    d_qkv[at(Part::Queries, i, c)] += d_s * value(Part::Keys, j, c);
                    d_qkv[at(Part::Keys, j, c)] += d_s * value(Part::Queries, i, c);
                }
            }
        }
    }
    (out, d_qkv)
}

type Run<'a> = &'a (dyn Fn(&mut [f32], &mut [f32]) + Sync);

/// Odd numbers of tokens and channels, one token, whole panels: every kernel against sums in f64,
/// the same bits for any number of threads.
#[test]
fn every_kernel_agrees_with_exact_sums() {
    let sizes = [
        (1, 1, 1, 4),
        (2, 5, 3, 8),
        (1, 32, 2, 16),
        (1, 50, 2, 64),
        (2, 77, 2, 20),
        (1, 97, 1, 33),
    ];
    for (b, n, heads, head_dim) in sizes {
        let s = Sizes { b, n, d: heads * head_dim, heads, head_dim };
        let qkv = numbers(b * n * 3 * s.d, 1);
        let d_out = numbers(b * n * s.d, 2);
        let (want, d_want) = oracle(&qkv, &d_out, &s);
        let packed: Packed<'_, f32> = (&qkv, &[], None);
        let by_eight: Run<'_> = &|out, d_qkv| {
            forward_by::<Eights, _>(packed, &s, out);
            backward_by::<Eights, _>(packed, &d_out, &s, d_qkv);
        };
        let by_widest: Run<'_> = &|out, d_qkv| {
            forward(packed, &s, out);
            backward(packed, &d_out, &s, d_qkv);
        };
        let kernels = [("eight", by_eight), ("widest", by_widest)];
        let count = if available() { 2 } else { 1 };
        for (name, run) in kernels.into_iter().take(count) {
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let (mut out, mut d_qkv) = (vec![f32::NAN; want.len()], vec![f32::NAN; qkv.len()]);
                pool.install(|| run(&mut out, &mut d_qkv));
                (out, d_qkv)
            };
            let (out, d_qkv) = with(1);
            assert_eq!((&out, &d_qkv), (&with(3).0, &with(2).1), "{name} {s:?}: threads");
            for (got, want) in out.iter().zip(&want).chain(d_qkv.iter().zip(&d_want)) {
                let off = (f64::from(*got) - want).abs();
                assert!(off < 2e-5, "{name} {s:?}: {got}, want {want}");
            }
        }
    }
}
