//! What elements of a file call each other.

use super::values::Scalar;

/// What one element calls another one: a number, or any text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(i64),
    Text(String),
}

impl Key {
    /// `None` for what cannot be a key.
    pub(super) fn of(value: &Scalar) -> Option<Self> {
        match value.whole() {
            Some(number) => Some(Self::Number(number)),
            None => match value {
                Scalar::Text(text) if !text.is_empty() => Some(Self::Text(text.clone())),
                _ => None,
            },
        }
    }

    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
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
