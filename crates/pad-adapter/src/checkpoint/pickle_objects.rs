//! The objects that a pickle describes, and how they are looked up.

use std::{collections::BTreeMap, ops::Range};

/// An object's place in the arena.
pub(super) type Id = u32;

/// The object that stands for everything that is not needed here; always there.
pub(super) const OTHER: Id = 0;

/// An object that a pickle describes.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// Numbers that are not integers, bytes, `None`: not needed here.
    Other,
    /// An integer or a truth value.
    Int(i64),
    /// A string: its place in the pickle.
    Text(Range<u32>),
    /// A tuple, list or set.
    Sequence(Vec<Id>),
    /// A dictionary, ordered or not: keys and values in turn.
    Dict(Vec<Id>),
    /// `module.name`, one of the known ones: their places in the pickle.
    Global(Range<u32>, Range<u32>),
    /// A call that Python would make: callable, arguments.
    Call(Id, Id),
    /// A storage outside the pickle, by its tuple of facts.
    Stored(Id),
}

/// A pickle in memory.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) objects: Vec<Object>,
    pub(super) root: Id,
    /// Bytes of the pickle up to and with its last instruction.
    pub(super) length: usize,
}

impl<'a> Pickle<'a> {
    /// The outermost object.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    /// The bytes that the pickle takes, its last instruction included.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    fn get(&self, id: Id) -> &Object {
        self.objects.get(id as usize).unwrap_or(&Object::Other)
    }

    fn slice(&self, place: &Range<u32>) -> Option<&'a str> {
        let place = place.start as usize..place.end as usize;
        std::str::from_utf8(self.bytes.get(place)?).ok()
    }

    /// The string at `id`; `None` for other objects and for text that is not UTF-8.
    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Object::Text(place) => self.slice(place),
            _ => None,
        }
    }

    /// The integer at `id`, if it is not negative.
    pub(super) fn count(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The members of the tuple or list at `id`.
    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Sequence(members) => Some(members),
            _ => None,
        }
    }

    /// The integers of the tuple at `id`.
    pub(super) fn counts(&self, id: Id) -> Option<Vec<usize>> {
        self.sequence(id)?.iter().map(|&id| self.count(id)).collect()
    }

    /// Module and name of the function or class at `id`.
    pub(super) fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.get(id) {
            Object::Global(module, name) => Some((self.slice(module)?, self.slice(name)?)),
            _ => None,
        }
    }

    /// Callable and arguments of the call at `id`.
    pub(super) fn call(&self, id: Id) -> Option<(Id, Id)> {
        match self.get(id) {
            Object::Call(callable, arguments) => Some((*callable, *arguments)),
            _ => None,
        }
    }

    /// The facts of the storage at `id`.
    pub(super) fn stored(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Stored(facts) => self.sequence(*facts),
            _ => None,
        }
    }

    /// The facts of every storage that the pickle names.
    pub(super) fn all_stored(&self) -> impl Iterator<Item = &[Id]> {
        self.objects.iter().filter_map(|object| match object {
            Object::Stored(facts) => self.sequence(*facts),
            _ => None,
        })
    }

    /// Whether `id` is a dictionary.
    pub(super) fn is_dict(&self, id: Id) -> bool {
        matches!(self.get(id), Object::Dict(_))
    }

    /// Whether the dictionary at `id` is empty; `true` for other objects.
    pub(super) fn is_empty(&self, id: Id) -> bool {
        !matches!(self.get(id), Object::Dict(entries) if !entries.is_empty())
    }

    /// The entries of the dictionary at `id` whose keys are strings; of equal keys the last counts,
    /// as in Python.
    pub(super) fn entries(&self, id: Id) -> BTreeMap<&'a str, Id> {
        match self.get(id) {
            Object::Dict(entries) => {
                let pairs = entries.chunks_exact(2);
                pairs.filter_map(|pair| Some((self.text(pair[0])?, pair[1]))).collect()
            }
            _ => BTreeMap::new(),
        }
    }
}
