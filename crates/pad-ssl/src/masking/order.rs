//! The order of patches that a mask is made of: kept ones first.

/// Returns the kept patches, then the removed ones, each in row-major order.
pub(super) fn kept_first(removed: &[bool]) -> Vec<u32> {
    let pick = |wanted: bool| {
        let chosen = removed.iter().enumerate().filter(move |&(_, &removed)| removed == wanted);
        chosen.map(|(patch, _)| patch as u32)
    };
    pick(false).chain(pick(true)).collect()
}
