//! Names, numbers and colours of the classes of boxes, and which categories of a file they are.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, draw::Color};

/// One class of boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxClass {
    /// Name.
    pub name: String,
    /// Its number in COCO files: the `category_id` of results.
    pub id: i64,
    /// Other names of it in files.
    #[serde(default)]
    pub also: Vec<String>,
}

impl BoxClass {
    /// A class without other names.
    pub fn new(name: impl Into<String>, id: i64) -> Self {
        Self { name: name.into(), id, also: Vec::new() }
    }

    fn with(name: &str, id: i64, also: &[&str]) -> Self {
        let also = also.iter().map(ToString::to_string).collect();
        Self { name: name.into(), id, also }
    }

    /// Its name and its other names.
    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.also)
    }

    /// Whether a file's category of this name is this class: case and the separators between
    /// letters are not compared (`OtherVehicle` is `other_vehicle`), signs are (`mask+` is not
    /// `mask-`).
    pub fn is_called(&self, name: &str) -> bool {
        let wanted = plain(name);
        self.names().any(|own| plain(own) == wanted)
    }

    /// Whether one of its names is exactly this.
    fn is_exactly(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }
}

/// A name in lower case, without the separators between letters or digits.
fn plain(name: &str) -> String {
    let letters: Vec<char> = name.trim().chars().collect();
    let is_separator = |letter: char| letter.is_whitespace() || matches!(letter, '_' | '-' | '.');
    let mut plain = String::with_capacity(name.len());
    let mut held = Vec::new();
    for &letter in &letters {
        if is_separator(letter) {
            held.push(letter);
            continue;
        }
        let between = letter.is_alphanumeric() && plain.ends_with(char::is_alphanumeric);
        if !between {
            plain.extend(held.iter());
        }
        held.clear();
        plain.extend(letter.to_lowercase());
    }
    plain.extend(held);
    plain
}

/// What sets call regions whose content is not labelled.
const IGNORED: [&str; 6] =
    ["DontCare", "ignore", "ignored", "ignore region", "ignored region", "ignored regions"];

/// Whether a name says that the content of its boxes is not labelled.
fn is_ignored_region(name: &str) -> bool {
    IGNORED.iter().any(|known| plain(known) == plain(name))
}

/// What is done with boxes whose category is not one of the classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Others {
    /// The set is refused.
    #[default]
    Refuse,
    /// They are left out; their images stay.
    LeaveOut,
}

/// The classes of a set, in the order of a detector's outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct BoxClasses {
    classes: Vec<BoxClass>,
    /// What is done with other categories of a file.
    pub others: Others,
    /// Names of categories that mark regions whose content is not labelled (`DontCare`): not
    /// trained on, and neither right nor wrong in evaluation, as crowds of every class.
    pub ignored: Vec<String>,
}

/// [`BoxClasses`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    classes: Vec<BoxClass>,
    #[serde(default)]
    others: Others,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<String>,
}

impl TryFrom<Parts> for BoxClasses {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        Ok(Self { ignored: parts.ignored, ..Self::new(parts.classes, parts.others)? })
    }
}

impl From<BoxClasses> for Parts {
    fn from(classes: BoxClasses) -> Self {
        Self { classes: classes.classes, others: classes.others, ignored: classes.ignored }
    }
}

/// Maximum number of classes; more are rather a fault of the file.
const MAX_CLASSES: usize = 10_000;

impl BoxClasses {
    /// These classes, by number.
    ///
    /// # Errors
    /// [`Error::Setting`] unless there are 1 to 10,000, each with a name and a number of its own.
    pub fn new(classes: Vec<BoxClass>, others: Others) -> Result<Self> {
        let fault = |expected: &str, found: String| {
            Err(Error::Setting { name: "classes", expected: expected.into(), found })
        };
        if !(1..=MAX_CLASSES).contains(&classes.len()) {
            return fault("1 to 10000 classes", classes.len().to_string());
        }
        let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for class in &classes {
            for name in class.names() {
                if name.trim().is_empty() {
                    return fault("a name for each class", format!("`{name}`"));
                }
                if !names.insert(name) {
                    return fault("names that differ", format!("`{name}` twice"));
                }
            }
            if !ids.insert(class.id) {
                return fault("a number for each class", format!("{} twice", class.id));
            }
        }
        Ok(Self { classes, others, ignored: Vec::new() })
    }

    /// Classes of these names, numbered from 1.
    ///
    /// # Errors
    /// As [`BoxClasses::new`].
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let classes = names.into_iter().zip(1..).map(|(name, id)| BoxClass::new(name, id));
        Self::new(classes.collect(), Others::Refuse)
    }

    /// The classes of these names, in this order, under these names and with their numbers; boxes of
    /// all others are left out. Classes that are not selected and are called `DontCare`, `ignore` or
    /// the like are [ignored](BoxClasses::ignored).
    ///
    /// # Errors
    /// [`Error::ClassNotFound`] for an unknown name, and for one that two classes have but for case
    /// and separators; as [`BoxClasses::new`] for none or one twice.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self> {
        let selected = names.iter().map(|name| {
            let name = name.as_ref();
            let class = self.by_name(name).and_then(|class| self.classes.get(class as usize));
            let class = class.ok_or_else(|| Error::ClassNotFound {
                class: name.into(),
                known: self.classes.iter().map(|class| class.name.clone()).collect(),
            })?;
            let also = class.names().filter(|own| *own != name).cloned().collect();
            Ok(BoxClass { name: name.into(), id: class.id, also })
        });
        let mut selected = Self::new(selected.collect::<Result<_>>()?, Others::LeaveOut)?;
        selected.ignored.clone_from(&self.ignored);
        let is_selected = |class: &&BoxClass| selected.classes.iter().any(|one| one.id == class.id);
        let rest = self.classes.iter().filter(|class| !is_selected(class));
        let rest: Vec<String> = rest.map(|class| class.name.clone()).collect();
        selected.ignored.extend(rest.into_iter().filter(|name| is_ignored_region(name)));
        Ok(selected)
    }

    /// The same classes without those that are called `DontCare`, `ignore` or the like, which are
    /// [ignored](BoxClasses::ignored) instead, unless nothing else would remain.
    pub(super) fn with_ignored_regions(mut self) -> Self {
        let is_region = |class: &BoxClass| is_ignored_region(&class.name);
        if self.classes.iter().all(is_region) {
            return self;
        }
        let regions = self.classes.iter().filter(|class| is_region(class));
        self.ignored.extend(regions.map(|class| class.name.clone()));
        self.classes.retain(|class| !is_region(class));
        self
    }

    /// The same classes with the numbers that a file has for them.
    pub(super) fn with_ids_of(mut self, found: &Self) -> Self {
        let ids: Vec<Option<i64>> = self
            .classes
            .iter()
            .map(|class| class.names().find_map(|name| found.by_name(name)))
            .map(|place| place.and_then(|place| found.id(place)))
            .collect();
        let taken: BTreeSet<i64> = ids.iter().flatten().copied().collect();
        let mut free = (1..).filter(|id| !taken.contains(id));
        let mut own: BTreeSet<i64> = BTreeSet::new();
        for (class, id) in self.classes.iter_mut().zip(ids) {
            class.id = match id {
                Some(id) => id,
                None if !taken.contains(&class.id) && !own.contains(&class.id) => class.id,
                // A class that the file lacks must not have the number of another one.
                None => free.find(|id| !own.contains(id)).unwrap_or(class.id),
            };
            own.insert(class.id);
        }
        self
    }

    /// Whether a file's category of this name marks regions whose content is not labelled.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|ignored| plain(ignored) == plain(name))
    }

    /// The same classes, also under the names that `others` has for them.
    pub(super) fn with_names_of(mut self, others: &Self) -> Self {
        for other in &others.classes {
            let names: Vec<&String> = other.names().collect();
            let called = |name: &String| self.classes.iter().position(|one| one.is_called(name));
            let Some(place) = names.iter().find_map(|name| called(name)) else { continue };
            // A name that is a class of its own in the file stays that.
            let new = names.iter().filter(|name| called(name).is_none());
            let new: Vec<String> = new.map(|name| (*name).clone()).collect();
            if let Some(class) = self.classes.get_mut(place) {
                class.also.extend(new);
            }
        }
        self
    }

    /// FLIR ADAS as detectors are compared on it: person, bicycle, car; everything else is left
    /// out. Version 2 calls bicycles `bike`.
    pub fn flir() -> Self {
        Self {
            classes: vec![
                BoxClass::new("person", 1),
                BoxClass::with("bicycle", 2, &["bike"]),
                BoxClass::new("car", 3),
            ],
            others: Others::LeaveOut,
            ignored: Vec::new(),
        }
    }

    /// HIT-UAV: person, car, bicycle, other vehicle; its `DontCare` is
    /// [ignored](BoxClasses::ignored).
    pub fn hit_uav() -> Self {
        let names = ["person", "car", "bicycle", "other_vehicle"];
        let classes = names.iter().zip(1..).map(|(name, id)| BoxClass::with(name, id, &[]));
        let ignored = vec!["DontCare".to_string()];
        Self { classes: classes.collect(), others: Others::LeaveOut, ignored }
    }

    /// LLVIP: people.
    pub fn llvip() -> Self {
        let classes = vec![BoxClass::new("person", 1)];
        Self { classes, others: Others::Refuse, ignored: Vec::new() }
    }

    /// Objects of rendered scenes: person, car, bicycle, animal.
    #[cfg(feature = "scenes")]
    pub fn scenes() -> Self {
        let things = pad_scenes::Class::ALL.into_iter().filter(|class| class.is_thing());
        let classes = things.zip(1..).map(|(class, id)| BoxClass::with(class.name(), id, &[]));
        Self { classes: classes.collect(), others: Others::Refuse, ignored: Vec::new() }
    }

    /// The classes, by number.
    pub fn classes(&self) -> &[BoxClass] {
        &self.classes
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Always false: there is at least one class.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Name of a class; `?` for an unknown number.
    pub fn name(&self, class: u32) -> &str {
        self.classes.get(class as usize).map_or("?", |class| &class.name)
    }

    /// Number of a class in COCO files; `None` for an unknown class.
    pub fn id(&self, class: u32) -> Option<i64> {
        self.classes.get(class as usize).map(|class| class.id)
    }

    /// The class that a file calls `name`: the one of exactly this name, else the only one that
    /// [differs](BoxClass::is_called) in case and separators; `None` if it is not one of them.
    pub fn by_name(&self, name: &str) -> Option<u32> {
        let exactly = self.classes.iter().position(|class| class.is_exactly(name));
        let place = exactly.or_else(|| {
            let called = |(_, class): &(usize, &BoxClass)| class.is_called(name);
            let mut alike = self.classes.iter().enumerate().filter(called);
            match (alike.next(), alike.next()) {
                (Some((place, _)), None) => Some(place),
                _ => None,
            }
        })?;
        u32::try_from(place).ok()
    }

    /// The class of each of a file's categories: where one has exactly the name of a class, no
    /// other one is that class.
    pub(super) fn of_categories(&self, names: &[&str]) -> Vec<Option<u32>> {
        let exact: BTreeSet<usize> = self
            .classes
            .iter()
            .enumerate()
            .filter(|(_, class)| names.iter().any(|name| class.is_exactly(name)))
            .map(|(place, _)| place)
            .collect();
        let class_of = |&name: &&str| {
            let place = self.by_name(name)?;
            let class = self.classes.get(place as usize)?;
            (class.is_exactly(name) || !exact.contains(&(place as usize))).then_some(place)
        };
        names.iter().map(class_of).collect()
    }

    /// All names, for messages.
    pub(super) fn list(&self) -> String {
        let names: Vec<&str> = self.classes.iter().map(|class| class.name.as_str()).collect();
        names.join(", ")
    }

    /// A colour for class `class`, bright enough to be seen on grey. The hues go round by the
    /// golden ratio, so that any few classes in a row are far apart.
    pub fn color(class: u32) -> Color {
        const GOLDEN: f32 = 0.618_034;
        let turn = 6.0 * (f64::from(class) * f64::from(GOLDEN) + 0.02).fract() as f32;
        // Hue to RGB at full saturation: each channel is a trapezium over the six sextants.
        [0.0, 4.0, 2.0].map(|shift| {
            let place = (turn + shift) % 6.0;
            let level = ((place - 3.0).abs() - 1.0).clamp(0.0, 1.0);
            (55.0 + 200.0 * level).round() as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_letters_and_digits() {
        let classes = BoxClasses::hit_uav();
        assert_eq!(classes.by_name("OtherVehicle"), Some(3));
        assert_eq!(classes.by_name("other vehicle"), Some(3));
        assert_eq!(classes.by_name("DontCare"), None);
        assert_eq!(BoxClasses::flir().by_name("Bike"), Some(1));
        assert_eq!((classes.name(0), classes.name(9), classes.id(3)), ("person", "?", Some(4)));
    }

    #[test]
    fn names_that_differ_by_case_or_sign_are_classes_of_their_own() {
        let classes =
            BoxClasses::named(["Car", "car", "mask+", "mask-", ">100°C", "<100°C", "+", "-"])
                .unwrap();
        for (place, class) in (0..).zip(classes.classes()) {
            assert_eq!(classes.by_name(&class.name), Some(place), "{}", class.name);
        }
        // Two of them are called so.
        assert_eq!(classes.by_name("CAR"), None);
        assert_eq!(classes.by_name("Mask-"), Some(3));
        assert_eq!(classes.by_name("mask"), None);
        let one = classes.select(&["mask+", "car"]).unwrap();
        assert_eq!(
            one.of_categories(&["mask-", "mask+", "Car", "car", "MASK+"]),
            [None, Some(0), None, Some(1), None]
        );
    }

    #[test]
    fn regions_without_labels_are_no_class() {
        let found = BoxClasses::named(["car", "dont_care", "Ignored Regions"]).unwrap();
        let classes = found.clone().with_ignored_regions();
        assert_eq!(classes.list(), "car");
        assert!(classes.ignores("DontCare") && classes.ignores("ignored-regions"));
        assert!(!classes.ignores("car"));
        let selected = found.select(&["DontCare"]).unwrap();
        assert!(selected.list() == "DontCare" && !selected.ignores("DontCare"));
        assert!(selected.ignores("ignored regions"));
        assert!(found.select(&["car"]).unwrap().ignores("dontcare"));
        let text = serde_json::to_string(&classes).unwrap();
        assert_eq!(serde_json::from_str::<BoxClasses>(&text).unwrap(), classes);
        // The authors' file counts from 0.
        let ids = BoxClasses::new(
            vec![BoxClass::new("Person", 0), BoxClass::new("Car", 1), BoxClass::new("Bicycle", 2)],
            Others::Refuse,
        );
        let classes = BoxClasses::hit_uav().with_ids_of(&ids.unwrap());
        assert_eq!(
            [0, 1, 2, 3].map(|class| classes.id(class)),
            [Some(0), Some(1), Some(2), Some(4)]
        );
    }

    #[cfg(feature = "scenes")]
    #[test]
    fn scenes_have_four_classes_of_things() {
        let scenes = BoxClasses::scenes();
        assert_eq!(scenes.list(), "person, car, bicycle, animal");
        assert_eq!(scenes.classes().last().map(|class| class.id), Some(4));
    }

    #[test]
    fn classes_are_checked() {
        let refused = |classes: Vec<BoxClass>| {
            BoxClasses::new(classes, Others::Refuse).unwrap_err().to_string()
        };
        assert_eq!(refused(vec![]), "`classes` is 0, expected 1 to 10000 classes");
        assert_eq!(
            refused(vec![BoxClass::new("a b", 1), BoxClass::new("a b", 2)]),
            "`classes` is `a b` twice, expected names that differ"
        );
        assert_eq!(
            refused(vec![BoxClass::new(" ", 1)]),
            "`classes` is ` `, expected a name for each class"
        );
        assert_eq!(
            refused(vec![BoxClass::new("a", 1), BoxClass::new("b", 1)]),
            "`classes` is 1 twice, expected a number for each class"
        );
    }

    #[test]
    fn they_come_back_from_their_text() {
        let classes = BoxClasses::flir();
        let text = serde_json::to_string(&classes).unwrap();
        assert_eq!(serde_json::from_str::<BoxClasses>(&text).unwrap(), classes);
        let refused = serde_json::from_str::<BoxClasses>(r#"{"classes": []}"#).unwrap_err();
        assert!(refused.to_string().contains("expected 1 to 10000 classes"), "{refused}");
    }

    #[test]
    fn colours_of_neighbours_differ() {
        for class in 0..20 {
            let [a, b] = [class, class + 1].map(BoxClasses::color);
            let distance: i32 =
                a.iter().zip(b).map(|(&a, b)| (i32::from(a) - i32::from(b)).abs()).sum();
            assert!(distance > 150, "{class}: {a:?} {b:?}");
            assert!(a.contains(&255), "{a:?}");
        }
    }
}
