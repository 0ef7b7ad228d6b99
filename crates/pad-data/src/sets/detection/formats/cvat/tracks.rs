//! Tracks of CVAT's files: an object over the frames of a video.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::Node;

use super::{
    super::super::{
        assembly::Labelled,
        xml::{attribute, children, content, is_yes},
    },
    shapes::{Shape, shape},
};

/// Maximum number of frames that a description may count: without objects they cost nothing else.
const FRAMES: u64 = 1 << 20;

/// The shapes of a frame, or what is wrong with one.
pub(super) type Shapes = Vec<Result<Labelled, String>>;

/// Objects of the tracks of a file.
#[derive(Default)]
pub(super) struct Tracks {
    /// Number of frames by the description of the file; 0 without one.
    pub(super) count: u64,
    /// By part, if the file names it, and frame.
    pub(super) objects: BTreeMap<(Option<String>, u64), Shapes>,
    /// The tasks that the tracks of each part belong to: each counts its frames from 0.
    pub(super) tasks: BTreeMap<Option<String>, BTreeSet<String>>,
    /// Numbers of shapes that cover no area, by part and kind.
    pub(super) no_areas: BTreeMap<(Option<String>, String), usize>,
}

/// Reads the tracks of a file. A shape that is marked as outside is where its object is not seen.
pub(super) fn tracks(root: Node<'_, '_>) -> Tracks {
    let whole = |number: f64| {
        (number >= 0.0 && number <= FRAMES as f64 && number.fract() == 0.0).then_some(number as u64)
    };
    let mut tracks = Tracks::default();
    for track in children(root, "track") {
        let label = track.attribute("label").unwrap_or_default();
        let part = track.attribute("subset").filter(|part| !part.is_empty()).map(String::from);
        if let Some(task) = track.attribute("task_id") {
            tracks.tasks.entry(part.clone()).or_default().insert(task.trim().into());
        }
        for node in track.children().filter(|child| child.is_element()) {
            if is_yes(node.attribute("outside")) {
                continue;
            }
            let read = match shape(node, label) {
                Shape::Area(read) => read,
                Shape::NoArea(kind) => {
                    *tracks.no_areas.entry((part.clone(), kind)).or_default() += 1;
                    continue;
                }
                Shape::Other => continue,
            };
            let frame = attribute(node, "frame").and_then(|number| {
                let what = || format!("`frame`: expected 0 to {FRAMES}, found {number}");
                whole(number).ok_or_else(what)
            });
            let (frame, read) = match frame {
                Ok(frame) => (frame, read),
                Err(what) => (0, Err(what)),
            };
            tracks.objects.entry((part.clone(), frame)).or_default().push(read);
        }
    }
    let task = root.descendants().filter(|node| node.has_tag_name("size"));
    let sizes = task.filter_map(|node| content(node).trim().parse::<f64>().ok());
    tracks.count = sizes.filter_map(whole).max().unwrap_or(0);
    tracks
}
