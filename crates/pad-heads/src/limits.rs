//! Upper bounds of sizes that come from files: beyond every published network, and small enough that
//! products of them do not overflow and that no memory is reserved for what no machine holds.

/// Channels, classes, hidden values.
pub(crate) const WIDTH: usize = 1 << 16;
/// Layers of a head.
pub(crate) const LAYERS: usize = 1 << 8;
/// Sides of pooled features, windows of tokens.
pub(crate) const SIDE: usize = 1 << 10;
/// Sides of an image, pixels.
pub(crate) const PIXELS: usize = 1 << 16;
/// Boxes of an image, before and after suppression, and samples of them.
pub(crate) const BOXES: usize = 1 << 20;
/// Entries of a list of anchors, scales or pools.
pub(crate) const ENTRIES: usize = 1 << 8;

/// A fault for each size, `(name, found, most)`, that is larger than its bound.
pub(crate) fn excesses<'a>(
    sizes: impl IntoIterator<Item = (&'a str, usize, usize)>,
) -> impl Iterator<Item = String> {
    let sizes = sizes.into_iter().filter(|(_, found, most)| found > most);
    sizes.map(|(name, found, most)| {
        let name = if name.contains('`') { name.to_string() } else { format!("`{name}`") };
        format!("{name} is {found}, expected at most {most}")
    })
}
