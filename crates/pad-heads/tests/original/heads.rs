//! UPerNet and the auxiliary head.

use candle_core::{Tensor, Var};
use pad_heads::{
    Result,
    segmentation::{FcnConfig, FcnHead, LinearHead, UperConfig, UperHead},
};
use pad_ops::{
    CrossEntropy, ImageSize, Mode, PixelMean, cross_entropy2d, resize_bilinear, rng::Key,
};
use pad_testkit::{close, numbers};

use crate::recorded::Recorded;

const INPUTS: [usize; 4] = [18; 4];

fn build(recorded: &Recorded) -> (UperHead, FcnHead) {
    let uper = UperConfig { channels: 12, dropout: 0.0, ..UperConfig::default() };
    let fcn = FcnConfig { channels: 10, dropout: 0.0, ..FcnConfig::default() };
    recorded
        .store
        .build(|vb| -> Result<_> {
            Ok((
                UperHead::new(&uper, &INPUTS, 5, vb.pp("decode_head"))?,
                FcnHead::new(&fcn, 18, 5, vb.pp("auxiliary_head"))?,
            ))
        })
        .unwrap()
}

fn equals_the_original(file: &str, mode: Mode) {
    let recorded = Recorded::open(file);
    let (head, auxiliary) = build(&recorded);
    let maps: Vec<Var> = (0..4)
        .map(|i| Var::from_tensor(recorded.get(&format!("input.feature{i}"))).unwrap())
        .collect();
    let tracked: Vec<Tensor> = maps.iter().map(|map| map.as_tensor().clone()).collect();
    let labels = recorded.get("input.labels").squeeze(1).unwrap();
    let (_, height, width) = labels.dims3().unwrap();
    let decode = head.forward(&tracked, mode).unwrap();
    close("decode logits", &decode, recorded.get("out.decode_logits"), 1e-4);
    let aux = auxiliary.forward(&tracked, mode).unwrap();
    close("auxiliary logits", &aux, recorded.get("out.aux_logits"), 1e-4);
    let loss = |logits: &Tensor, mean: PixelMean, weight: f64| {
        let logits = resize_bilinear(logits, ImageSize { height, width }, false).unwrap();
        let options = CrossEntropy { mean, ..CrossEntropy::default() };
        let loss = cross_entropy2d(&logits, &labels, &options).unwrap();
        (loss * weight).unwrap().reshape(1).unwrap()
    };
    for (name, logits, weight) in [("decode", &decode, 1.0), ("aux", &aux, 0.4)] {
        let all = loss(logits, PixelMean::All, weight);
        close(name, &all, recorded.get(&format!("out.loss_{name}")), 1e-5);
        let valid = loss(logits, PixelMean::Valid, weight);
        close(name, &valid, recorded.get(&format!("out.loss_{name}_mean_over_valid")), 1e-5);
    }
    let total = loss(&decode, PixelMean::All, 1.0) + loss(&aux, PixelMean::All, 0.4);
    let total = total.unwrap().sum_all().unwrap();
    recorded.gradients_equal(&total);
    let grads = total.backward().unwrap();
    for (i, map) in maps.iter().enumerate() {
        let want = recorded.get(&format!("grad.input.feature{i}"));
        close(&format!("gradient of map {i}"), grads.get(map).unwrap(), want, 1e-3);
    }
    recorded.statistics_equal();
}

#[test]
fn evaluation() {
    equals_the_original("heads_eval", Mode::Eval);
}

#[test]
fn training() {
    equals_the_original("heads_train", Mode::Train(Key::new(1)));
}

#[test]
fn training_on_odd_sizes() {
    equals_the_original("heads_odd_train", Mode::Train(Key::new(1)));
}

#[test]
fn dropout_takes_whole_channels_in_training_alone() {
    let recorded = Recorded::open("heads_eval");
    let uper = UperConfig { channels: 12, dropout: 0.5, ..UperConfig::default() };
    let head = UperHead::new(&uper, &INPUTS, 5, recorded.store.var_builder().pp("decode_head"));
    let head = head.unwrap();
    let maps: Vec<Tensor> =
        (0..4).map(|i| recorded.get(&format!("input.feature{i}")).clone()).collect();
    let eval = head.forward(&maps, Mode::Eval).unwrap();
    close("no dropout", &eval, recorded.get("out.decode_logits"), 1e-4);
    let key = Key::new(1);
    let once = head.forward(&maps, Mode::Train(key)).unwrap();
    let again = head.forward(&maps, Mode::Train(key)).unwrap();
    close("the same key drops the same", &again, &once, 0.0);
    let other = head.forward(&maps, Mode::Train(key.epoch(1))).unwrap();
    assert!(pad_testkit::relative_difference(&other, &once) > 1e-2);
}

#[test]
fn refusals() {
    let recorded = Recorded::open("heads_eval");
    let (head, auxiliary) = build(&recorded);
    let map = recorded.get("input.feature0").clone();
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let three = vec![map.clone(); 3];
    assert_eq!(message(head.forward(&three, Mode::Eval)), "upernet: 3 feature maps, expected 4");
    assert_eq!(message(auxiliary.forward(&[map], Mode::Eval)), "fcn: 1 feature maps, expected 3");
    let bad =
        UperConfig { channels: 0, pool_scales: vec![1, 0], dropout: 1.0, ..UperConfig::default() };
    let refused = UperHead::new(&bad, &INPUTS, 5, recorded.store.var_builder());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "upernet: `channels` is 0, expected at least 1; `pool_scales` has a 0, expected sides of at least 1; \
         `dropout` is 1, expected 0 <= dropout < 1"
    );
    // One image leaves one value per channel for the smallest pooled map.
    let (head, _) = build(&recorded);
    let maps: Vec<Tensor> = (0..4)
        .map(|i| recorded.get(&format!("input.feature{i}")).narrow(0, 0, 1).unwrap())
        .collect();
    assert_eq!(
        message(head.forward(&maps, Mode::Train(Key::new(0)))),
        "batch_norm2d: `x` is 1, expected more than one value per channel to take statistics of"
    );
}

#[test]
fn a_linear_head_is_a_normalised_map_times_a_matrix() {
    use pad_adapter::params::ParamStore;
    let store = ParamStore::scratch(&candle_core::Device::Cpu, Key::new(3));
    let head = store.build(|vb| LinearHead::new(&[6, 6], 4, vb)).unwrap();
    let first = numbers(&[2, 6, 5, 7], candle_core::DType::F32, 1);
    let second = numbers(&[2, 6, 3, 4], candle_core::DType::F32, 2);
    let logits = head.forward(&[first, second.clone()], Mode::Eval).unwrap();
    assert_eq!(logits.dims(), [2, 4, 5, 7]);
    assert_eq!(
        head.forward(&[second], Mode::Eval).unwrap_err().to_string(),
        "linear: 1 feature maps, expected 2"
    );
}
