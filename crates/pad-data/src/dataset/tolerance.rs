//! How many elements of a set may be unusable.

/// Returns whether a run can go on without `bad` of `of` elements, where `share` (0 to 1) of them
/// may be missing: that share, but at least one element, and never all of them. A share of 0
/// tolerates nothing.
///
/// ```
/// use pad_data::dataset::tolerated;
///
/// assert!(tolerated(5, 100, 0.05) && !tolerated(6, 100, 0.05));
/// assert!(tolerated(1, 6, 0.05) && !tolerated(2, 6, 0.05)); // one does not cost the whole
/// assert!(!tolerated(1, 6, 0.0) && !tolerated(1, 1, 1.0));
/// ```
pub fn tolerated(bad: usize, of: usize, share: f64) -> bool {
    bad == 0 || (share > 0.0 && bad < of && bad as f64 <= (share * of as f64).max(1.0))
}
