//! The operators of detection and ViTDet-B's maps; prints one JSON line each, in the form of
//! `benches/peers/detection_torch.py`, which does the same work with PyTorch and torchvision.
//!
//!     cargo bench --bench detection
//!     cargo bench --bench detection -- nms roi_align

use std::{error::Error, hint::black_box, time::Instant};

use candle_core::{DType, Device, Tensor, Var};
use pad::{
    ImageSize, Mode,
    data::{
        loader::{Batch, DetectionBatch},
        transform::detection::{DetectionTargets, Target},
    },
    heads::{
        backbone::{FeatureExtractor, SimplePyramid, WindowedConfig, WindowedViT},
        detection::{Detector, DetectorConfig},
        parameters,
    },
    ops::{ImageBox, RoiAlign, batched_nms, nms, roi_align},
    params::ParamStore,
    rng::Key,
    train::{AdamW, AdamWConfig, Gradients},
};
use pad_testkit::numbers;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Boxes of a 640 x 512 image in clusters, as proposals are; the peer draws its own of the same kind.
fn boxes(count: usize) -> Vec<[f32; 4]> {
    let mut stream = Key::new(3).stream();
    let mut uniform = |low: f64, high: f64| stream.range_f64(low, high) as f32;
    let mut boxes = Vec::with_capacity(count);
    let mut centre = (0.0, 0.0, 0.0);
    for i in 0..count {
        if i % 10 == 0 {
            centre = (uniform(0.0, 600.0), uniform(0.0, 480.0), uniform(16.0, 200.0));
        }
        let (x, y) = (centre.0 + uniform(-20.0, 20.0), centre.1 + uniform(-20.0, 20.0));
        let (w, h) = (centre.2 * uniform(0.7, 1.4), centre.2 * uniform(0.7, 1.4));
        boxes.push([x.max(0.0), y.max(0.0), (x + w).clamp(1.0, 640.0), (y + h).clamp(1.0, 512.0)]);
    }
    boxes
}

fn report<T>(name: &str, times: usize, mut work: impl FnMut() -> Result<T>) -> Result<()> {
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if !chosen.is_empty() && !chosen.iter().any(|part| name.contains(part.as_str())) {
        return Ok(());
    }
    black_box(work()?);
    let mut measured = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        black_box(work()?);
        measured.push(start.elapsed().as_secs_f64() * 1e3);
    }
    measured.sort_by(f64::total_cmp);
    println!(r#"{{"peer":"pad","work":"{name}","ms":{:.3}}}"#, measured[times / 2]);
    Ok(())
}

fn main() -> Result<()> {
    let proposals = boxes(5000);
    let scores = numbers(&[5000], DType::F32, 1).to_vec1::<f32>()?;
    let groups: Vec<u32> = (0..5000).map(|i| i % 5).collect();
    report("nms 5000", 20, || Ok(nms(&proposals, &scores, 0.7)?))?;
    report("batched_nms 5000, 5 groups", 20, || {
        Ok(batched_nms(&proposals, &scores, &groups, 0.7)?)
    })?;

    let scales = [0.25, 0.125, 0.0625, 0.03125];
    let maps: Vec<Var> = scales
        .iter()
        .map(|scale| {
            let side = |pixels: f32| (pixels * scale) as usize;
            Var::from_tensor(&numbers(&[1, 256, side(512.0), side(640.0)], DType::F32, 1))
        })
        .collect::<candle_core::Result<_>>()?;
    let tracked: Vec<Tensor> = maps.iter().map(|map| map.as_tensor().clone()).collect();
    let frozen: Vec<Tensor> = tracked.iter().map(Tensor::detach).collect();
    let level = pad::heads::detection::level_of;
    let roi = |&bbox: &[f32; 4]| ImageBox { map: level(bbox), image: 0, bbox };
    let rois: Vec<ImageBox> = proposals[..512].iter().map(roi).collect();
    let seven = RoiAlign::square(7);
    report("roi_align 512 x 256 x 7 x 7", 20, || Ok(roi_align(&frozen, &scales, &rois, seven)?))?;
    report("roi_align 512 x 256 x 7 x 7, with gradient", 10, || {
        let pooled = roi_align(&tracked, &scales, &rois, seven)?;
        Ok(pooled.sum_all()?.backward()?)
    })?;

    let config = WindowedConfig::default();
    let config = WindowedConfig {
        vit: pad::vit::ViTConfig { adapter: None, drop_path: 0.0, ..config.vit },
        relative_size: ImageSize::new(512, 640),
        ..config
    };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(1));
    let net = store.build(|vb| WindowedViT::new(&config, vb.pp("net")))?;
    let pyramid = store.build(|vb| SimplePyramid::new(768, 256, vb))?;
    let images = numbers(&[1, 3, 512, 640], DType::F32, 2);
    report("ViTDet-B maps 640 x 512", 3, || {
        let map = net.maps(&images, &[11], Mode::Eval)?.remove(0);
        Ok(pyramid.forward(&map)?)
    })?;
    drop((net, pyramid, store));

    let mut step = Step::new(config, &images)?;
    report("ViTDet-B step 640 x 512", 3, || step.run())
}

/// A training step of ViTDet-B with Faster R-CNN: forward, backward, AdamW.
struct Step {
    detector: Detector,
    optimizer: AdamW,
    batch: DetectionBatch,
}

impl Step {
    fn new(backbone: WindowedConfig, images: &Tensor) -> Result<Self> {
        let WindowedConfig { vit, relative_size, .. } = backbone;
        let config = DetectorConfig { vit, relative_size, ..DetectorConfig::default() };
        let store = ParamStore::scratch(&Device::Cpu, Key::new(1)).with_trained(|_| true);
        let detector = store.build(|vb| Detector::new(&config, vb))?;
        let optimizer = AdamW::new(parameters(&store, 0.1), AdamWConfig::default())?;
        assert_eq!(store.summary().frozen, 0, "everything trains");
        let boxes = boxes(20);
        let labels = (0..20).map(|i| i % 3).collect();
        let labels = DetectionTargets {
            sizes: vec![ImageSize::new(512, 640)],
            targets: vec![Target { boxes, labels, ..Default::default() }],
        };
        Ok(Self { detector, optimizer, batch: Batch::new(images.clone(), labels) })
    }

    fn run(&mut self) -> Result<f32> {
        let losses = self.detector.losses(&self.batch, Mode::Train(Key::new(1)))?;
        let total = losses.total.to_scalar::<f32>()?;
        let store = pad::ops::backward(&losses.total)?;
        let gradients = Gradients::from_store(self.optimizer.parameters(), &store, 1);
        self.optimizer.step(&gradients, 1e-5, 1)?;
        Ok(total)
    }
}
