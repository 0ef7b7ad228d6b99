//! From labelled boxes to objects of a set's classes, for formats with a file for each image.

use std::{collections::BTreeMap, path::Path};

use pad_ops::ImageSize;

use super::{
    BoxClasses, LeftOut, Object, Others,
    bounds::bounded,
    entry::{DetectionOptions, FreeIds, ignored_region},
};
use crate::{Error, Result, sets::faults::Faults};

/// A box of a file.
pub(super) struct Labelled {
    /// Name of its category.
    pub(super) name: String,
    /// Left, top, right, bottom edge, pixels, continuous.
    pub(super) bbox: [f64; 4],
    pub(super) difficult: bool,
}

/// The classes of the names that the files of `path` hold. Where they hold none, `first` is what is
/// wrong with their first object, if they have one.
///
/// # Errors
/// [`Error::Entry`] for no name; as [`BoxClasses::named`].
pub(super) fn classes_named(
    names: &[&str],
    path: &Path,
    first: impl FnOnce() -> Option<Error>,
) -> Result<BoxClasses> {
    let fault = |what: String| Error::Entry { path: path.into(), what };
    if names.is_empty() {
        return Err(first().unwrap_or_else(|| fault("expected objects, found none".into())));
    }
    BoxClasses::named(names.iter().copied()).map_err(|error| fault(error.to_string()))
}

/// Makes objects of boxes and counts what is left out.
pub(super) struct Assembly<'a> {
    classes: &'a BoxClasses,
    options: &'a DetectionOptions,
    /// Class of each category's name.
    by_name: BTreeMap<String, Option<u32>>,
    left_out: LeftOut,
    faults: Faults,
    ids: FreeIds,
    /// Number of boxes so far.
    all: usize,
}

impl<'a> Assembly<'a> {
    /// For boxes of categories of these names.
    pub(super) fn new(
        classes: &'a BoxClasses,
        names: &[&str],
        options: &'a DetectionOptions,
        left_out: LeftOut,
    ) -> Self {
        let of = classes.of_categories(names);
        let by_name = names.iter().map(|name| (*name).to_string()).zip(of).collect();
        let faults = Faults::new(options.max_faulty);
        Self { classes, options, by_name, left_out, faults, ids: FreeIds::above(0), all: 0 }
    }

    /// Adds a box, or what is wrong with it, to the objects of an image of `size`. `fault` makes
    /// an error of a text.
    ///
    /// # Errors
    /// A category that is not one of the classes, if others are refused; the fault, where none is
    /// tolerated.
    pub(super) fn add(
        &mut self,
        labelled: Result<Labelled, String>,
        size: ImageSize,
        objects: &mut Vec<Object>,
        fault: impl Fn(String) -> Error,
    ) -> Result<()> {
        self.all += 1;
        let Labelled { name, bbox, difficult } = match labelled {
            Ok(labelled) => labelled,
            Err(what) => return self.faults.add(fault(what)),
        };
        let class = self.by_name.get(&name).copied().flatten();
        let is_region = class.is_none() && self.classes.ignores(&name);
        if class.is_none() && !is_region {
            if self.classes.others == Others::Refuse {
                let (list, name) = (self.classes.list(), name.escape_debug());
                let what = format!("expected one of the classes {list}, found `{name}`");
                return Err(fault(what));
            }
            *self.left_out.categories.entry(name).or_default() += 1;
            return Ok(());
        }
        let bounded = bounded(bbox, size, self.options.bad_boxes, &mut self.left_out);
        let bbox = match bounded {
            Ok(Some(bbox)) => bbox,
            Ok(None) => return Ok(()),
            Err(what) => return self.faults.add(fault(format!("box {bbox:?}: {what}"))),
        };
        let area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
        let (id, class) = (self.ids.next(), class.unwrap_or(0));
        let object = Object { bbox, class, area, crowd: false, difficult, id, mask: None };
        match is_region {
            true => {
                objects.append(&mut ignored_region(&object, self.classes.len(), &mut self.ids));
            }
            false => objects.push(object),
        }
        Ok(())
    }

    /// Reports what cannot be used of the boxes of the file or folder `path`.
    ///
    /// # Errors
    /// [`Error::TooManyFaults`].
    pub(super) fn close(self, path: &Path, what: &'static str) -> Result<LeftOut> {
        let Self { mut left_out, faults, all, .. } = self;
        left_out.faulty += faults.close(path, what, all)?;
        Ok(left_out)
    }
}
