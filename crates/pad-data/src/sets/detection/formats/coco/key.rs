//! What elements of a file call each other.

use std::collections::BTreeMap;

use super::values::Scalar;

/// What one element calls another one: a number, or any text. A text that is spelt as numbers are
/// (`7`) is that number; any other (`007`, `7.0`, `1e1`) is a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(i64),
    Text(String),
}

impl Key {
    /// `None` for what cannot be a key.
    pub(super) fn of(value: &Scalar) -> Option<Self> {
        let Scalar::Text(text) = value else { return value.whole().map(Self::Number) };
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == *text => Some(Self::Number(number)),
            _ => (!text.is_empty()).then(|| Self::Text(text.clone())),
        }
    }

    /// The number that its digits mean: `007` and `7.0` mean 7.
    pub(super) fn meaning(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => {
                let text = text.trim();
                text.strip_suffix(".0").unwrap_or(text).parse().ok()
            }
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.escape_debug().fmt(f),
        }
    }
}

/// The keys of the elements of a file by the numbers that they mean; `None` where several mean one
/// number.
pub(super) struct Meanings(BTreeMap<i64, Option<Key>>);

impl Meanings {
    /// Of keys that differ.
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut meanings: BTreeMap<i64, Option<Key>> = BTreeMap::new();
        for key in keys {
            if let Some(number) = key.meaning() {
                let several = meanings.contains_key(&number);
                meanings.insert(number, (!several).then(|| key.clone()));
            }
        }
        Self(meanings)
    }

    /// The only key that means the number of `key`, for where no element has exactly that.
    pub(super) fn only(&self, key: &Key) -> Option<&Key> {
        self.0.get(&key.meaning()?)?.as_ref()
    }

    /// The number of an element: its key, or what that means if no other one does.
    pub(super) fn number(&self, key: &Key) -> Option<i64> {
        match key {
            Key::Number(number) => Some(*number),
            Key::Text(_) => key.meaning().filter(|_| self.only(key) == Some(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::of(&Scalar::Text(text.into())).unwrap()
    }

    #[test]
    fn texts_are_numbers_if_they_are_spelt_so() {
        assert_eq!(["7", "-7", "0"].map(key), [7, -7, 0].map(Key::Number));
        for text in ["007", "+7", "7.0", "1e1", " 7", "-0", "18446744073709551615", "im7"] {
            assert_eq!(key(text), Key::Text(text.into()));
        }
        let scalars = [Scalar::Whole(7), Scalar::Float(7.0)];
        assert!(scalars.iter().all(|value| Key::of(value) == Some(Key::Number(7))));
        let nothing = [Scalar::Absent, Scalar::Float(7.5), Scalar::Text(String::new())];
        assert!(nothing.iter().all(|value| Key::of(value).is_none()));
    }

    #[test]
    fn a_number_means_the_only_key_of_its_digits() {
        let keys = ["0007", "01", "1", "im2", "1e1", "3.0"].map(key);
        let meanings = Meanings::of(keys.iter());
        assert_eq!(meanings.only(&Key::Number(7)), Some(&keys[0]));
        assert_eq!(meanings.only(&key("07")), Some(&keys[0]));
        assert_eq!(meanings.only(&Key::Number(3)), Some(&keys[5]));
        // Two of them mean 1, and `1e1` is not spelt in digits.
        let none = [Key::Number(1), key("001"), Key::Number(10), Key::Number(2), key("im2")];
        assert!(none.iter().all(|key| meanings.only(key).is_none()));
        let numbers = keys.each_ref().map(|key| meanings.number(key));
        assert_eq!(numbers, [Some(7), None, Some(1), None, None, Some(3)]);
    }
}
