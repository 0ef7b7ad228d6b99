//! `data.yaml`: the names of classes and the places of images.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use saphyr_parser::{Event, Parser};

use crate::{
    Error, Result,
    sets::text::{PAGE_BYTES, read_text},
};

/// Maximum depth of lists in lists.
const DEEPEST: usize = 16;

/// Maximum number of bytes that aliases may repeat: a short file could stand for a very long one.
const REPEATED: usize = 1 << 20;

/// Maximum number of the highest class.
const MAX_CLASSES: usize = 10_000;

/// What is read of the file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Data {
    /// Names of the classes, by number; `None` if the file does not give them.
    pub(super) names: Option<Vec<String>>,
    /// The folder that places of images begin at.
    pub(super) path: Option<String>,
    /// Places of images (folders or lists) of each part.
    parts: Vec<(String, Vec<String>)>,
    /// Numbers behind the box of each line of labels: key points.
    pub(super) extra: usize,
}

impl Data {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`read_text`]; [`Error::Entry`] for another kind of file, aliases of lists and maps, names
    /// that are not as many as `nc` says.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, PAGE_BYTES)?;
        Self::parse(&text).map_err(|what| Error::Entry { path: path.into(), what })
    }

    /// Places of a part's images, by the first of these names that the file has.
    pub(super) fn places(&self, names: &[String]) -> &[String] {
        let of = |name: &String| self.parts.iter().find(|(part, _)| part == name);
        names.iter().find_map(of).map_or(&[], |(_, places)| places)
    }

    /// Errors are texts.
    fn parse(text: &str) -> Result<Self, String> {
        let Yaml::Map(entries) = document(text)? else {
            return Err("expected entries such as `names`, found none".into());
        };
        let mut data = Self::default();
        let mut count = None;
        for (key, value) in &entries {
            match (&*key.scalar().unwrap_or_default(), value) {
                ("names", names) => data.names = Some(class_names(names)?),
                ("nc", Yaml::Scalar(text)) => {
                    let number = text.trim().parse::<usize>().ok();
                    let number = number.filter(|number| (1..=MAX_CLASSES).contains(number));
                    let refuse =
                        || format!("`nc`: expected 1 to {MAX_CLASSES}, found `{}`", short(text));
                    count = Some(number.ok_or_else(refuse)?);
                }
                ("path", Yaml::Scalar(text)) if !is_null(text) => data.path = Some(text.clone()),
                ("kpt_shape", Yaml::List(shape)) => {
                    let sides =
                        shape.iter().map(|side| side.scalar()?.trim().parse::<usize>().ok());
                    let product = sides.collect::<Option<Vec<_>>>();
                    let product = product
                        .map(|sides| sides.iter().fold(1_usize, |a, b| a.saturating_mul(*b)));
                    data.extra = product.unwrap_or(0);
                }
                (part, Yaml::Scalar(place)) if !is_null(place) => {
                    data.parts.push((part.into(), vec![place.clone()]));
                }
                (part, Yaml::List(places)) => {
                    let places = places.iter().filter_map(Yaml::scalar).map(Cow::into_owned);
                    data.parts.push((part.into(), places.collect()));
                }
                _ => {}
            }
        }
        match (&data.names, count) {
            (Some(names), Some(count)) if names.len() != count => {
                Err(format!("`names`: expected {count} by `nc`, found {}", names.len()))
            }
            (None, Some(count)) => {
                data.names = Some((0..count).map(|class| format!("class {class}")).collect());
                Ok(data)
            }
            _ => Ok(data),
        }
    }
}

/// Names as a list, or by number; a number without a name is called by it. Errors are texts.
fn class_names(names: &Yaml) -> Result<Vec<String>, String> {
    let refuse = || "`names`: expected a list of names, or names by number".to_string();
    let named = match names {
        Yaml::List(names) => {
            let names: Option<Vec<_>> = names.iter().map(Yaml::scalar).collect();
            names.ok_or_else(refuse)?.into_iter().map(Cow::into_owned).enumerate().collect()
        }
        Yaml::Map(names) => {
            let named = names.iter().map(|(number, name)| {
                let number = number.scalar()?.trim().parse::<usize>().ok()?;
                Some((number, name.scalar()?.into_owned()))
            });
            named.collect::<Option<Vec<_>>>().ok_or_else(refuse)?
        }
        Yaml::Scalar(_) => return Err(refuse()),
    };
    let count = named.iter().map(|(number, _)| number.saturating_add(1)).max().unwrap_or(0);
    if !(1..=MAX_CLASSES).contains(&count) {
        return Err(format!("`names`: expected 1 to {MAX_CLASSES} names, found {count}"));
    }
    let mut all: Vec<String> = (0..count).map(|class| format!("class {class}")).collect();
    for (number, name) in named {
        if let (Some(place), false) = (all.get_mut(number), name.trim().is_empty()) {
            *place = name.trim().into();
        }
    }
    Ok(all)
}

/// Whether a text stands for no value.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null")
}

/// The first letters of a text from a file.
fn short(text: &str) -> String {
    text.chars().take(60).collect::<String>().escape_debug().to_string()
}

/// A document without types: `1`, `'1'` and `"1"` are one text.
enum Yaml {
    Scalar(String),
    List(Vec<Yaml>),
    Map(Vec<(Yaml, Yaml)>),
}

impl Yaml {
    fn scalar(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Scalar(text) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }
}

/// The first document of a text. Errors are texts.
fn document(text: &str) -> Result<Yaml, String> {
    /// What is being read: a list, or a map with the key that waits for its value.
    enum Open {
        List(Vec<Yaml>),
        Map(Vec<(Yaml, Yaml)>, Option<Yaml>),
    }
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: BTreeMap<usize, String> = BTreeMap::new();
    let mut repeated = 0;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| format!("expected YAML: {error}"))?;
        let done = match event {
            Event::Alias(anchor) => {
                let text = anchors.get(&anchor);
                let text = text.ok_or("aliases of lists and maps are not read")?;
                repeated += text.len();
                if repeated > REPEATED {
                    return Err(format!("aliases repeat more than {REPEATED} bytes"));
                }
                Yaml::Scalar(text.clone())
            }
            Event::Scalar(text, _, anchor, _) => {
                // 0 stands for none.
                if anchor > 0 {
                    anchors.insert(anchor, text.to_string());
                }
                Yaml::Scalar(text.into_owned())
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err(format!("more than {DEEPEST} lists in each other"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Yaml::List(items),
                Some(Open::Map(entries, _)) => Yaml::Map(entries),
                None => break,
            },
            Event::DocumentEnd | Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        match open.last_mut() {
            None => return Ok(done),
            Some(Open::List(items)) => items.push(done),
            Some(Open::Map(_, key @ None)) => *key = Some(done),
            Some(Open::Map(entries, key)) => {
                entries.extend(key.take().map(|key| (key, done)));
            }
        }
    }
    Err("expected entries such as `names`, found none".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, String> {
        Data::parse(text).map(|data| data.names.unwrap_or_default())
    }

    #[test]
    fn names_are_lists_or_maps() {
        let expected = Ok(vec!["person".to_string(), "car".to_string()]);
        for text in [
            "names: [person, car]",
            "names: ['person', \"car\"]  # two\nnc: 2\n",
            "names:\n- person\n- car\n",
            "names:\n  - person\n  - car\n",
            "names:\n  0: person\n  1: car\n",
            "names: {1: car, 0: person}",
            "---\r\nnames:\r\n  0: person\r\n  1: car\r\n",
            "nc: 2\nnames: [\n  person,\n  car,\n]",
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
        assert_eq!(
            names("names: {0: a, 2: c}"),
            Ok(["a", "class 1", "c"].map(String::from).into())
        );
        assert_eq!(names("nc: 2"), Ok(["class 0", "class 1"].map(String::from).into()));
        assert_eq!(names("names: [1, yes, ~]"), Ok(["1", "yes", "~"].map(String::from).into()));
    }

    #[test]
    fn places_are_texts_or_lists() {
        let data = Data::parse(
            "path: ../sets/a\ntrain: images/train\nval: [a/images, b.txt]\ntest:\nkpt_shape: [17, 3]\nnames: [a]",
        )
        .unwrap();
        assert_eq!(data.path.as_deref(), Some("../sets/a"));
        assert_eq!(data.places(&["train".into()]), ["images/train"]);
        assert_eq!(data.places(&["valid".into(), "val".into()]), ["a/images", "b.txt"]);
        assert!(data.places(&["test".into()]).is_empty());
        assert_eq!(data.extra, 51);
    }

    #[test]
    fn aliases_of_texts_are_these_texts() {
        let data = Data::parse(
            "train: &t images/train\nval: *t\ntest: [*t, &u \"b c\", *u]\nnames: [&a car, *a ]\nnc: 2",
        )
        .unwrap();
        assert_eq!(data.places(&["val".into()]), ["images/train"]);
        assert_eq!(data.places(&["test".into()]), ["images/train", "b c", "b c"]);
        assert_eq!(data.names, Some(vec!["car".into(), "car".into()]));
        // A name that is given anew means what it was given last, and one of nothing is no value.
        let data = Data::parse("a: &t b\nb: &t c\ntrain: *t\nval: &n ~\ntest: *n").unwrap();
        assert_eq!(data.places(&["train".into()]), ["c"]);
        assert!(data.places(&["test".into()]).is_empty());
    }

    #[test]
    fn faults_have_texts() {
        assert_eq!(names("nc: 3\nnames: [a]").unwrap_err(), "`names`: expected 3 by `nc`, found 1");
        assert_eq!(names("nc: x").unwrap_err(), "`nc`: expected 1 to 10000, found `x`");
        for text in ["a: &a [b]\nnames: *a", "a: &a {0: b}\nnames: *a", "names: &a [b, *a]"] {
            assert_eq!(names(text).unwrap_err(), "aliases of lists and maps are not read");
        }
        assert!(names("names: [*a]").unwrap_err().starts_with("expected YAML: "));
        let long = format!("a: &a {}\nnames: [{}]", "b".repeat(10_000), "*a , ".repeat(105));
        assert_eq!(names(&long).unwrap_err(), "aliases repeat more than 1048576 bytes");
        assert!(names("names: {99999999999999999999: a}").unwrap_err().contains("names by number"));
        assert!(
            names("names: {18446744073709551615: a}").unwrap_err().contains("expected 1 to 10000")
        );
        assert!(names(&"[".repeat(20)).unwrap_err().contains("in each other"));
        assert!(names(&"[".repeat(100_000)).is_err());
        assert_eq!(names("").unwrap_err(), "expected entries such as `names`, found none");
        assert_eq!(names("a").unwrap_err(), "expected entries such as `names`, found none");
        assert!(names("names: [a").unwrap_err().starts_with("expected YAML: "));
    }
}
