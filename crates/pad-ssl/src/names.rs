//! Values that are chosen by name.

use crate::Error;

/// Returns the error for a name that is not among `known`.
pub(crate) fn unknown(what: &'static str, found: &str, known: &'static [&'static str]) -> Error {
    pad_ops::Error::UnknownName { what, known, found: found.into() }.into()
}
