//! COCO's metrics, boxes and masks; prints one JSON line each. `benches/coco_peers.sh` does the same with pycocotools on the
//! same files.
//!
//!     cargo bench --bench coco -- ANNOTATIONS RESULTS [TIMES]

use std::{error::Error, path::Path, time::Instant};

use pad::heads::detection::coco::{CocoTruth, evaluate, evaluate_masks, read_results};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let golden = |what| {
        format!("{}/../../tests/golden/detection/masks_{what}.json", env!("CARGO_MANIFEST_DIR"))
    };
    let file = |place: usize, default| arguments.get(place).cloned().unwrap_or(default);
    let truth = CocoTruth::read(Path::new(&file(0, golden("gt"))))?;
    let results = read_results(Path::new(&file(1, golden("dt"))))?;
    let times: usize = arguments.get(2).map_or(Ok(9), |text| text.parse())?;
    for (work, metric) in
        [("coco boxes", evaluate as fn(&_, &_) -> _), ("coco masks", evaluate_masks)]
    {
        let mut measured = Vec::with_capacity(times);
        let mut stats = [None; 12];
        for _ in 0..times.max(1) {
            let start = Instant::now();
            stats = metric(&truth, &results)?.stats;
            measured.push(start.elapsed().as_secs_f64() * 1e3);
        }
        measured.sort_by(f64::total_cmp);
        let ms = measured[measured.len() / 2];
        // pycocotools' -1 for what is undefined.
        let stats = stats.map(|value| value.unwrap_or(-1.0));
        println!(r#"{{"peer":"pad","work":"{work}","ms":{ms:.3},"stats":{stats:?}}}"#);
    }
    Ok(())
}
