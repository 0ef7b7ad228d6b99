//! Systematic sampling over intensity: InfMAE's information-aware masking (Liu et al., 2024).

use pad_ops::rng::Stream;

/// Ranks patches by intensity, dark first, and keeps one of each of `kept` equal ranges of ranks.
pub(super) fn one_of_each_range(intensity: &[f32], kept: usize, stream: &mut Stream) -> Vec<u32> {
    let patches = intensity.len();
    let mut ranked: Vec<u32> = (0..patches as u32).collect();
    // Stable: equal patches stay in the order of the grid.
    ranked.sort_by(|&a, &b| intensity[a as usize].total_cmp(&intensity[b as usize]));
    let start = |range: usize| range * patches / kept.max(1);
    let mut is_kept = vec![false; patches];
    for range in 0..kept {
        let count = start(range + 1) - start(range);
        is_kept[start(range) + stream.below(count as u64) as usize] = true;
    }
    let pick = |wanted: bool| {
        let chosen = ranked.iter().zip(&is_kept).filter(move |&(_, &kept)| kept == wanted);
        chosen.map(|(&patch, _)| patch)
    };
    pick(true).chain(pick(false)).collect()
}
