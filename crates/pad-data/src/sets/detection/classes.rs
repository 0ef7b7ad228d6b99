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

    /// Whether a file's category of this name is this class: letters and digits are compared, case
    /// and separators are not (`OtherVehicle` is `other_vehicle`).
    pub fn is_called(&self, name: &str) -> bool {
        let wanted = plain(name);
        plain(&self.name) == wanted || self.also.iter().any(|also| plain(also) == wanted)
    }
}

/// Letters and digits of a name, lower case.
fn plain(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
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
}

/// [`BoxClasses`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    classes: Vec<BoxClass>,
    #[serde(default)]
    others: Others,
}

impl TryFrom<Parts> for BoxClasses {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        Self::new(parts.classes, parts.others)
    }
}

impl From<BoxClasses> for Parts {
    fn from(classes: BoxClasses) -> Self {
        Self { classes: classes.classes, others: classes.others }
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
            for name in std::iter::once(&class.name).chain(&class.also) {
                if plain(name).is_empty() || !names.insert(plain(name)) {
                    return fault("names that differ in letters or digits", format!("`{name}`"));
                }
            }
            if !ids.insert(class.id) {
                return fault("a number for each class", format!("{} twice", class.id));
            }
        }
        Ok(Self { classes, others })
    }

    /// Classes of these names, numbered from 1.
    ///
    /// # Errors
    /// As [`BoxClasses::new`].
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let classes = names.into_iter().zip(1..).map(|(name, id)| BoxClass::new(name, id));
        Self::new(classes.collect(), Others::Refuse)
    }

    /// The classes of these names, in this order, with their numbers; boxes of all others are left
    /// out.
    ///
    /// # Errors
    /// [`Error::ClassNotFound`] for an unknown name; as [`BoxClasses::new`] for none or one twice.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self> {
        let selected = names.iter().map(|name| {
            let name = name.as_ref();
            let class = self.classes.iter().find(|class| class.is_called(name));
            class.cloned().ok_or_else(|| Error::ClassNotFound {
                class: name.into(),
                known: self.classes.iter().map(|class| class.name.clone()).collect(),
            })
        });
        Self::new(selected.collect::<Result<_>>()?, Others::LeaveOut)
    }

    /// The same classes, also under the names that `others` has for them.
    pub(super) fn with_names_of(mut self, others: &Self) -> Self {
        for other in &others.classes {
            let names: Vec<&String> = std::iter::once(&other.name).chain(&other.also).collect();
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
        }
    }

    /// HIT-UAV: person, car, bicycle, other vehicle; its `DontCare` is left out.
    pub fn hit_uav() -> Self {
        let names = ["person", "car", "bicycle", "other_vehicle"];
        let classes = names.iter().zip(1..).map(|(name, id)| BoxClass::with(name, id, &[]));
        Self { classes: classes.collect(), others: Others::LeaveOut }
    }

    /// LLVIP: people.
    pub fn llvip() -> Self {
        Self { classes: vec![BoxClass::new("person", 1)], others: Others::Refuse }
    }

    /// Objects of rendered scenes: person, car, bicycle, animal.
    #[cfg(feature = "scenes")]
    pub fn scenes() -> Self {
        let things = pad_scenes::Class::ALL.into_iter().filter(|class| class.is_thing());
        let classes = things.zip(1..).map(|(class, id)| BoxClass::with(class.name(), id, &[]));
        Self { classes: classes.collect(), others: Others::Refuse }
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

    /// The class that a file calls `name`; `None` if it is not one of them.
    pub fn by_name(&self, name: &str) -> Option<u32> {
        let place = self.classes.iter().position(|class| class.is_called(name))?;
        u32::try_from(place).ok()
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
            refused(vec![BoxClass::new("a b", 1), BoxClass::new("A_B", 2)]),
            "`classes` is `A_B`, expected names that differ in letters or digits"
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
