//! Sliding windows over a fixed linear model; scales and flips.

use candle_core::{DType, Tensor};
use pad_heads::{
    Result,
    segmentation::{
        Augmentation, InferenceMode, SlidingWindow, predict, predict_logits, resized_logits,
    },
};
use pad_ops::{ImageSize, resize_bilinear};
use pad_testkit::{close, golden, numbers};

fn size_of(map: &Tensor) -> ImageSize {
    let (_, _, height, width) = map.dims4().unwrap();
    ImageSize { height, width }
}

fn sliding(window: usize, stride: usize) -> SlidingWindow {
    let (window, stride) = (ImageSize::square(window), ImageSize::square(stride));
    SlidingWindow { window, stride, batch_size: 1 }
}

#[test]
fn windows_equal_the_original() {
    let golden = golden("segmentation/slide");
    let model = |x: &Tensor| -> Result<Tensor> {
        let y = x.conv2d(&golden["param.weight"], 1, 2, 1, 1)?;
        let y = y.broadcast_add(&golden["param.bias"].reshape((1, 4, 1, 1))?)?;
        Ok(resize_bilinear(&y, size_of(x), false)?)
    };
    let mode = InferenceMode::Sliding(sliding(24, 16));
    for i in 0..5 {
        let images = &golden[&format!("input.{i}")];
        let logits = predict_logits(images, mode, &model).unwrap();
        close(&format!("logits {i}"), &logits, &golden[&format!("out.logits{i}")], 1e-5);
        let want = &golden[&format!("out.rescaled{i}")];
        let rescaled = resized_logits(&logits, size_of(want)).unwrap();
        close(&format!("rescaled {i}"), &rescaled, want, 1e-5);
        let classes = rescaled.argmax(1).unwrap().to_dtype(DType::U8).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert_eq!(flat(&classes), flat(&golden[&format!("out.pred{i}")]));
    }
    let want = &golden["out.prob1"];
    let plain = Augmentation::default();
    let probabilities = predict(&golden["input.1"], size_of(want), mode, &plain, &model).unwrap();
    close("probabilities", &probabilities, want, 1e-5);
}

#[test]
fn corners() {
    let image = ImageSize::new(1024, 600);
    let corners = SlidingWindow::default().corners(image);
    let rows: Vec<usize> = corners.iter().step_by(2).map(|corner| corner.0).collect();
    assert_eq!(rows, [0, 341, 512]);
    assert_eq!(corners[..2], [(0, 0), (0, 88)]);
    assert_eq!(SlidingWindow::default().corners(ImageSize::new(100, 512)), [(0, 0)]);
}

/// A model of every pixel by itself, so that mirroring and windows change nothing.
fn pointwise(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor::cat(&[x.narrow(1, 0, 1)?, x.narrow(1, 1, 1)?.sqr()?], 1)?)
}

#[test]
fn flips_come_back_the_right_way_round() {
    let images = numbers(&[2, 3, 9, 14], DType::F32, 4);
    let size = ImageSize::new(9, 14);
    let run = |augmentation: &Augmentation, mode| {
        predict(&images, size, mode, augmentation, &pointwise).unwrap()
    };
    let plain = run(&Augmentation::default(), InferenceMode::Whole);
    let sums = plain.sum(1).unwrap();
    close("probabilities", &sums, &sums.ones_like().unwrap(), 1e-6);
    let flip = Augmentation { flip: true, ..Augmentation::default() };
    close("flipped", &run(&flip, InferenceMode::Whole), &plain, 1e-6);
    close("windows", &run(&flip, InferenceMode::Sliding(sliding(5, 3))), &plain, 1e-6);
    let scales = Augmentation { scales: vec![0.5, 1.0, 1.75], flip: true };
    let scaled = run(&scales, InferenceMode::Whole);
    let (scaled, plain) = (scaled, plain);
    assert_eq!(scaled.dims(), plain.dims());
    let change = pad_testkit::relative_difference(&scaled, &plain);
    assert!((1e-3..0.5).contains(&change), "{change}");
}

#[test]
fn refusals() {
    let images = numbers(&[1, 3, 9, 14], DType::F32, 4);
    let message =
        |window: SlidingWindow| window.logits(&images, &pointwise).unwrap_err().to_string();
    assert_eq!(
        message(sliding(4, 5)),
        "sliding window: `stride` is 5x5, expected 1x1 to the window's 4x4"
    );
    let none = SlidingWindow { batch_size: 0, ..sliding(0, 0) };
    assert_eq!(
        message(none),
        "sliding window: `window` is 0x0, expected at least 1x1; `stride` is 0x0, expected 1x1 to the window's 0x0; \
         `batch_size` is 0, expected at least 1"
    );
    let smaller = |x: &Tensor| -> Result<Tensor> { pointwise(&x.narrow(2, 0, 1)?) };
    assert_eq!(
        sliding(4, 4).logits(&images, &smaller).unwrap_err().to_string(),
        "logits of shape [1, 2, 1, 4], expected (B, classes, H, W) with B, H, W = [1, 4, 4]"
    );
    let bad = Augmentation { scales: vec![1.0, 0.0], flip: false };
    let refused = predict(&images, ImageSize::square(4), InferenceMode::Whole, &bad, &pointwise);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "augmentation: `scales` has 0, expected finite numbers above 0"
    );
}
