//! Names of folders in MSIP's layout.

/// The folder of a source's images.
pub(crate) const THERMAL: &str = "thermal";

/// The folder of a source's regions of interest, beside that of its images.
pub(crate) const ROI: &str = "roi";

/// The name of the RoI file of an image of this name below the root; see
/// [`ImageFolder::roi_path`](super::ImageFolder::roi_path). MSIP's layout is recognised by
/// `thermal` as the first folder or the second.
pub(crate) fn roi_name(image: &str) -> Option<String> {
    let mut folders: Vec<&str> = image.split('/').collect();
    let stem = folders.pop()?.split('.').next().unwrap_or_default();
    let file = format!("{stem}.txt");
    match folders.as_mut_slice() {
        [first, ..] if *first == THERMAL => *first = ROI,
        [_, second, ..] if *second == THERMAL => *second = ROI,
        _ => folders.insert(0, ROI),
    }
    folders.push(&file);
    Some(folders.join("/"))
}
