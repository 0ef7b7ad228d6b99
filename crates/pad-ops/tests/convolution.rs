//! Convolutions of any stride, dilation, groups and kernel sides: against loops, the reference and
//! finite differences; and recorded by hand.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_ops::{Conv2dOptions, ImageSize, conv2d, conv2d_with, reference};
use pad_testkit::{Precision, close, gradcheck, largest, numbers};
use proptest::prelude::*;

const F32: DType = DType::F32;
const F64: DType = DType::F64;

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    /// Channels and outputs of a group.
    sides: [usize; 2],
    image: ImageSize,
    kernel: ImageSize,
    options: Conv2dOptions,
}

impl Case {
    fn operands(self, dtype: DType) -> [Tensor; 3] {
        let [channels, outputs] = self.sides;
        let groups = self.options.groups;
        let x = [self.batch, channels * groups, self.image.height, self.image.width];
        let weight = [outputs * groups, channels, self.kernel.height, self.kernel.width];
        [numbers(&x, dtype, 1), numbers(&weight, dtype, 2), numbers(&[outputs * groups], dtype, 3)]
    }
}

/// The formula, written out.
fn loops(case: Case) -> Tensor {
    let [x, weight, bias] =
        case.operands(F64).map(|t| t.flatten_all().unwrap().to_vec1::<f64>().unwrap());
    let (o, [channels, outputs], kernel) = (case.options, case.sides, case.kernel);
    let out = o.output_size(case.image, kernel).unwrap();
    let (h, w) = (case.image.height, case.image.width);
    let all = outputs * o.groups;
    let mut y = Vec::new();
    for image in 0..case.batch {
        for (output, &bias) in bias.iter().enumerate().take(all) {
            let group = output / outputs;
            for row in 0..out.height {
                for column in 0..out.width {
                    let mut sum = bias;
                    for channel in 0..channels {
                        for i in 0..kernel.height {
                            for j in 0..kernel.width {
                                let at = (row * o.stride.height + i * o.dilation.height)
                                    .checked_sub(o.padding.height)
                                    .filter(|&at| at < h);
                                let over = (column * o.stride.width + j * o.dilation.width)
                                    .checked_sub(o.padding.width)
                                    .filter(|&at| at < w);
                                let (Some(at), Some(over)) = (at, over) else { continue };
                                let plane =
                                    image * channels * o.groups + group * channels + channel;
                                let tap = (output * channels + channel) * kernel.height + i;
                                sum +=
                                    x[(plane * h + at) * w + over] * weight[tap * kernel.width + j];
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    Tensor::from_vec(y, (case.batch, all, out.height, out.width), &Device::Cpu).unwrap()
}

fn run(
    case: Case,
    dtype: DType,
    op: impl Fn(&Tensor, &Tensor, Option<&Tensor>, Conv2dOptions) -> pad_ops::Result<Tensor>,
) -> Vec<Tensor> {
    let vars = case.operands(dtype).map(|operand| Var::from_tensor(&operand).unwrap());
    let [x, weight, bias] = &vars;
    let y = op(x, weight, Some(bias), case.options).unwrap();
    let probe = numbers(y.dims(), F64, 77).to_dtype(dtype).unwrap();
    let grads = (&y * probe).unwrap().sum_all().unwrap().backward().unwrap();
    let wide = |tensor: &Tensor| tensor.to_dtype(F64).unwrap();
    let mut found = vec![wide(&y.detach())];
    found.extend(vars.iter().map(|var| wide(grads.get(var).unwrap())));
    found
}

/// Every tap may be beside the image: then all is zero.
fn compare(name: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    match largest(want) == 0.0 {
        true => assert_eq!(largest(got), 0.0, "{name}"),
        false => close(name, got, want, tolerance),
    }
}

fn agrees(case: Case) {
    let name = format!("{case:?}");
    let exact = run(case, F64, reference::conv2d_with);
    compare(&name, &exact[0], &loops(case), 1e-12);
    let narrow = run(case, F32, conv2d_with);
    for (i, (got, want)) in narrow.iter().zip(&exact).enumerate() {
        compare(&format!("{name}, {i}"), got, want, 3e-5);
    }
    let by_candle = run(case, F32, reference::conv2d_with);
    for (i, (got, want)) in by_candle.iter().zip(&exact).enumerate() {
        compare(&format!("{name}, reference {i}"), got, want, 3e-5);
    }
}

fn case(sides: [usize; 2], image: [usize; 2], kernel: [usize; 2], options: Conv2dOptions) -> Case {
    let size = |[height, width]: [usize; 2]| ImageSize { height, width };
    Case { batch: 2, sides, image: size(image), kernel: size(kernel), options }
}

#[test]
fn corners() {
    let size = ImageSize::new;
    let options =
        |padding, stride, dilation, groups| Conv2dOptions { padding, stride, dilation, groups };
    let (none, one, two) = (size(0, 0), size(1, 1), size(2, 2));
    for case in [
        case([3, 4], [7, 9], [2, 2], Conv2dOptions::padded(0)), // even
        case([3, 4], [7, 9], [4, 4], Conv2dOptions::padded(3)),
        case([3, 4], [7, 9], [1, 3], Conv2dOptions::padded(1)), // rectangular
        case([3, 4], [7, 9], [3, 2], options(size(1, 0), one, one, 1)),
        case([3, 4], [16, 12], [4, 4], options(none, size(4, 4), one, 1)), // patches
        case([3, 4], [17, 13], [4, 4], options(none, size(4, 4), one, 1)),
        case([3, 4], [7, 9], [3, 3], options(one, two, one, 1)),
        case([3, 4], [7, 9], [3, 3], options(two, size(1, 3), two, 1)),
        case([3, 4], [7, 9], [1, 1], options(none, two, one, 1)), // a stride over a plain kernel
        case([3, 4], [7, 9], [1, 1], options(one, one, one, 1)),
        case([1, 1], [9, 11], [7, 7], options(size(3, 3), one, one, 6)), // depthwise
        case([2, 3], [8, 8], [3, 3], options(one, two, one, 2)),
        case([16, 16], [9, 11], [3, 3], options(one, one, one, 2)), // wide groups, no tiles
        case([16, 17], [9, 11], [3, 3], options(one, two, one, 1)),
        case([16, 17], [9, 11], [3, 3], options(size(1, 0), one, one, 1)),
        case([16, 17], [9, 11], [3, 3], options(one, one, one, 1)), // Winograd's
        case([2, 2], [1, 1], [1, 1], options(size(4, 4), size(3, 2), size(5, 5), 1)),
        case([2, 2], [2, 3], [3, 3], options(size(5, 5), one, size(5, 4), 1)), // taps beside the image
    ] {
        agrees(case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]
    #[test]
    fn random_sizes(
        sides in (1_usize..4, 1_usize..4),
        image in (1_usize..12, 1_usize..12),
        kernel in (1_usize..5, 1_usize..5),
        padding in (0_usize..4, 0_usize..4),
        stride in (1_usize..4, 1_usize..4),
        dilation in (1_usize..4, 1_usize..4),
        groups in 1_usize..4,
    ) {
        let size = |(height, width)| ImageSize { height, width };
        let (padding, stride) = (size(padding), size(stride));
        let options = Conv2dOptions { padding, stride, dilation: size(dilation), groups };
        let (image, kernel) = (size(image), size(kernel));
        if options.output_size(image, kernel).is_ok() {
            agrees(Case { batch: 2, sides: [sides.0, sides.1], image, kernel, options });
        }
    }
}

#[test]
fn finite_differences() {
    let options = Conv2dOptions {
        padding: ImageSize::new(1, 2),
        stride: ImageSize::new(2, 1),
        dilation: ImageSize::new(1, 2),
        groups: 2,
    };
    let case = case([2, 3], [5, 6], [2, 3], options);
    let op =
        |t: &[Tensor]| -> Result<Tensor> { Ok(conv2d_with(&t[0], &t[1], Some(&t[2]), options)?) };
    gradcheck("conv2d", &case.operands(F32), Precision::F32, op);
    gradcheck("conv2d (f64)", &case.operands(F64), Precision::F64, op);
}

#[test]
fn halves_are_convolved() {
    // Candle has no convolution of bf16 on the CPU.
    for dtype in [DType::BF16, DType::F16] {
        let stride = ImageSize::new(2, 1);
        let options = Conv2dOptions { stride, groups: 2, ..Conv2dOptions::padded(1) };
        let case = case([2, 3], [6, 5], [3, 2], options);
        let (half, exact) = (run(case, dtype, conv2d_with), run(case, F64, conv2d_with));
        for (i, (got, want)) in half.iter().zip(&exact).enumerate() {
            close(&format!("{dtype:?}, {i}"), got, want, 3e-2);
        }
        let [x, weight, bias] = case.operands(dtype);
        let y = conv2d_with(&x, &weight, Some(&bias), options).unwrap();
        assert_eq!(y.dtype(), dtype);
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient() {
    let [x, weight, _] = case([2, 2], [5, 5], [2, 2], Conv2dOptions::padded(0)).operands(F32);
    let x = Var::from_tensor(&x).unwrap();
    let y = conv2d(&x, &weight, None, 0).unwrap();
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&weight).is_none());
    assert!(!conv2d(&x.detach(), &weight, None, 0).unwrap().track_op());
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let stride = ImageSize::square(2);
    for options in [
        Conv2dOptions { stride, ..Conv2dOptions::padded(1) },
        Conv2dOptions { groups: 8, ..Conv2dOptions::padded(2) },
    ] {
        let case = case([4, 4], [40, 33], [5, 4], options);
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let found = run(case, F32, conv2d_with);
                let bits = found.iter().map(|t| t.flatten_all().unwrap().to_vec1::<f64>().unwrap());
                bits.flatten().map(f64::to_bits).collect::<Vec<_>>()
            })
        };
        let one = bits(1);
        assert_eq!(one, bits(2));
        assert_eq!(one, bits(3));
    }
}
