//! Tracks of CVAT's files: an object over the frames of a video.

use std::collections::BTreeMap;

use roxmltree::Node;

use super::{
    super::super::{
        assembly::Labelled,
        xml::{attribute, children, is_yes},
    },
    shapes::object,
};

/// Maximum number of frames that a description may count: without objects they cost nothing else.
const FRAMES: u64 = 1 << 20;

/// The shapes of a frame, or what is wrong with one.
pub(super) type Shapes = Vec<Result<Labelled, String>>;

/// Objects of the tracks of a file.
pub(super) struct Tracks {
    /// Number of frames by the description of the file; 0 without one.
    pub(super) count: u64,
    /// By part, if the file names it, and frame.
    pub(super) objects: BTreeMap<(Option<String>, u64), Shapes>,
}

/// Reads the tracks of a file. A shape that is marked as outside is where its object is not seen.
pub(super) fn tracks(root: Node<'_, '_>) -> Tracks {
    let whole = |number: f64| {
        (number >= 0.0 && number <= FRAMES as f64 && number.fract() == 0.0).then_some(number as u64)
    };
    let mut objects = BTreeMap::<_, Vec<_>>::new();
    for track in children(root, "track") {
        let label = track.attribute("label").unwrap_or_default();
        let part = track.attribute("subset").filter(|part| !part.is_empty()).map(String::from);
        for shape in track.children().filter(|child| child.is_element()) {
            if is_yes(shape.attribute("outside")) {
                continue;
            }
            let Some(read) = object(shape, label) else { continue };
            let frame = attribute(shape, "frame").and_then(|number| {
                let what = || format!("`frame`: expected 0 to {FRAMES}, found {number}");
                whole(number).ok_or_else(what)
            });
            let (frame, read) = match frame {
                Ok(frame) => (frame, read),
                Err(what) => (0, Err(what)),
            };
            objects.entry((part.clone(), frame)).or_default().push(read);
        }
    }
    let task = root.descendants().filter(|node| node.has_tag_name("size"));
    let sizes = task.filter_map(|node| node.text()?.trim().parse::<f64>().ok());
    let count = sizes.filter_map(whole).max().unwrap_or(0);
    Tracks { count, objects }
}
