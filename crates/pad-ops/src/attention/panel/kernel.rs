//! What the kernels of panels share.

/// Queries of a panel.
pub(super) const LANES: usize = 32;
/// What loads of whole vectors may read beyond the last value.
pub(super) const SLACK: usize = 32;

/// The products of a panel, with some width of registers.
///
/// # Safety
/// Every function needs the instructions of its type.
pub(super) trait Kernel {
    /// Keys of a tile.
    const TILE: usize;

    /// `c[i][..] = sum_p a[p * TILE + i] b[p][..]` for the rows of a tile; `b` and `c` have rows of
    /// [`LANES`] values, of which the first `count` are used.
    ///
    /// # Safety
    /// `a` must be readable for `k` times `TILE` values, `b` for `k` rows, `c` writable for `TILE`
    /// rows.
    unsafe fn tile(count: usize, k: usize, a: *const f32, b: *const f32, c: *mut f32);

    /// The same product for `rows` rows of the result; `a_step` values lead from one `p` to the
    /// next.
    ///
    /// # Safety
    /// `a` must be readable up to `(k - 1) * a_step + rows`, and for [`SLACK`] values beyond its
    /// last; `b` for `k` rows, `c` writable for `rows` rows.
    unsafe fn columns(
        count: usize,
        k: usize,
        a: (*const f32, usize),
        b: *const f32,
        c: *mut f32,
        rows: usize,
    );

    /// `c[i][j] += sum_p a[i][p] b[p][j]` for `i < rows` of a tile and `j < width <= LANES`; `a` has
    /// rows of [`LANES`] values, `b` and `c` rows of `stride`.
    ///
    /// # Safety
    /// `a` must be readable for `TILE` rows, `b` for `k` rows and [`SLACK`] values more, `c`
    /// writable for `rows` rows of `width` values.
    unsafe fn add_rows(
        k: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        stride: usize,
        size: (usize, usize),
    );
}
