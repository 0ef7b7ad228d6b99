//! A reader of Python pickles that builds a description and executes nothing.
//!
//! Objects lie in one arena and name each other by index; texts are places in the pickle and are
//! never copied; nothing here recurses. What the description takes is counted, and ends at
//! [`MAX_BYTES`]: no pickle exhausts memory or stack.

use std::{collections::BTreeMap, ops::Range};

use pad_ops::text::shown;

use super::{
    known_names::is_known,
    pickle_objects::{Id, OTHER, Object, Pickle},
};

/// The most memory that the description of a pickle may take, bytes. Those of published checkpoints
/// take less than one hundredth.
pub(super) const MAX_BYTES: usize = 128 << 20;

/// The error for a pickle that does not end.
pub(super) const CUT: &str = "the pickle is cut off";

impl<'a> Pickle<'a> {
    /// Reads `bytes` up to the end of the first pickle in them.
    ///
    /// # Errors
    /// A description of the fault: a damaged pickle, one with a function or class that no
    /// checkpoint needs, or one whose description is too large.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        Self::read_within(bytes, MAX_BYTES)
    }

    /// [`Pickle::read`] with another limit of memory, bytes.
    fn read_within(bytes: &'a [u8], most: usize) -> Result<Self, String> {
        if u32::try_from(bytes.len()).is_err() {
            return Err("a pickle of more than 4 GiB, expected at most 4 GiB".into());
        }
        let objects = vec![Object::Other];
        let mut reader = Reader { bytes, most, objects, ..Default::default() };
        while reader.step()? {}
        let root = reader.pop()?;
        Ok(Self { bytes, objects: reader.objects, root, length: reader.at })
    }
}

#[derive(Default)]
struct Reader<'a> {
    bytes: &'a [u8],
    /// The most memory that the description may take.
    most: usize,
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<u32>,
    memo: BTreeMap<u32, Id>,
    /// Members of all sequences and dictionaries.
    members: usize,
}

type Step<T> = Result<T, String>;

/// What an entry of the memo takes in a tree, about.
const MEMO_BYTES: usize = 24;

impl<'a> Reader<'a> {
    /// Checks what the description takes so far. Vectors may have twice the room that they use.
    fn check_size(&self) -> Step<()> {
        let bytes = self.objects.len() * size_of::<Object>()
            + (self.stack.len() + self.marks.len() + self.members) * size_of::<Id>()
            + self.memo.len() * MEMO_BYTES;
        if bytes <= self.most / 2 {
            return Ok(());
        }
        Err(format!(
            "the pickle describes {} objects after {} of its {} bytes, more than any checkpoint: refused",
            self.objects.len(),
            self.at,
            self.bytes.len()
        ))
    }

    fn skip(&mut self, count: u64) -> Step<Range<u32>> {
        let cut = || CUT.to_string();
        let count = usize::try_from(count).map_err(|_| cut())?;
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let place = self.at as u32..end.ok_or_else(cut)? as u32;
        self.at = place.end as usize;
        Ok(place)
    }

    fn take(&mut self, count: u64) -> Step<&'a [u8]> {
        let place = self.skip(count)?;
        Ok(&self.bytes[place.start as usize..place.end as usize])
    }

    /// A little-endian number of `count` bytes, at most 8.
    fn number(&mut self, count: u64) -> Step<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Step<Range<u32>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(CUT)?;
        let line = self.skip(length as u64)?;
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, object: Object) {
        if matches!(object, Object::Other) {
            return self.stack.push(OTHER);
        }
        self.objects.push(object);
        // The size is checked at every instruction, far below 2^32 objects.
        self.stack.push((self.objects.len() - 1) as Id);
    }

    fn pop(&mut self) -> Step<Id> {
        // An object below the last mark belongs to an outer collection.
        let floor = self.marks.last().map_or(0, |&mark| mark as usize);
        if self.stack.len() <= floor {
            return Err("the pickle takes more from its stack than is there".into());
        }
        self.stack.pop().ok_or_else(|| "the pickle's stack is empty".into())
    }

    fn last(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the pickle's stack is empty".into())
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("the pickle has no mark where one is needed")?;
        let members = self.stack.split_off((mark as usize).min(self.stack.len()));
        Ok(members)
    }

    fn collection(&mut self, make: fn(Vec<Id>) -> Object, members: Vec<Id>) {
        self.members += members.len();
        self.push(make(members));
    }

    fn sequence(&mut self, count: usize) -> Step<()> {
        let mut members = (0..count).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        members.reverse();
        self.collection(Object::Sequence, members);
        Ok(())
    }

    /// Adds to the list on top of the stack; additions to other objects are skipped.
    fn append(&mut self, members: &[Id]) -> Step<()> {
        let id = self.last()?;
        if let Some(Object::Sequence(list)) = self.objects.get_mut(id as usize) {
            list.extend(members);
            self.members += members.len();
        }
        Ok(())
    }

    /// Adds to the dictionary on top of the stack.
    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let id = self.last()?;
        if let Some(Object::Dict(entries)) = self.objects.get_mut(id as usize) {
            let whole = items.len() - items.len() % 2;
            entries.extend(&items[..whole]);
            self.members += whole;
        }
        Ok(())
    }

    fn text_at(&self, place: &Range<u32>) -> String {
        String::from_utf8_lossy(&self.bytes[place.start as usize..place.end as usize]).into_owned()
    }

    fn global(&mut self, module: Range<u32>, name: Range<u32>) -> Step<()> {
        // Longer ones are no names; they are not copied.
        let of = |place: &Range<u32>| {
            let end = place.end.min(place.start.saturating_add(256));
            self.text_at(&(place.start..end))
        };
        let (module_text, name_text) = (of(&module), of(&name));
        if module_text.starts_with("__torch__") {
            return Err(
                "a TorchScript archive: load it in PyTorch and save its state_dict()".into()
            );
        }
        let is_short = module.len() <= 256 && name.len() <= 256;
        if !is_short || !is_known(&module_text, &name_text) {
            return Err(format!(
                "the pickle names `{}`, which no checkpoint needs: refused, and nothing in it was executed",
                shown(&format!("{module_text}.{name_text}"))
            ));
        }
        self.push(Object::Global(module, name));
        Ok(())
    }

    fn call(&mut self) -> Step<()> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let is_dict = match self.objects.get(callable as usize) {
            Some(Object::Global(module, _)) => self.text_at(module) == "collections",
            _ => false,
        };
        if !is_dict {
            self.push(Object::Call(callable, arguments));
            return Ok(());
        }
        let entries = self.pairs(arguments);
        self.collection(Object::Dict, entries);
        Ok(())
    }

    /// The entries that the arguments `([[key, value], ..],)` give, as Python 2 writes ordered
    /// dictionaries; Python 3 adds them afterwards.
    fn pairs(&self, arguments: Id) -> Vec<Id> {
        let members = |id: Id| match self.objects.get(id as usize) {
            Some(Object::Sequence(members)) => members.as_slice(),
            _ => &[],
        };
        let Some(&list) = members(arguments).first() else { return Vec::new() };
        let pairs = members(list).iter().map(|&pair| members(pair));
        pairs.filter(|pair| pair.len() == 2).flatten().copied().collect()
    }

    fn recall(&mut self, key: u64) -> Step<()> {
        let id = u32::try_from(key).ok().and_then(|key| self.memo.get(&key).copied());
        self.stack.push(id.ok_or_else(|| format!("the pickle recalls {key}, never stored"))?);
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Step<()> {
        let id = self.last()?;
        let key = u32::try_from(key).map_err(|_| "the pickle's memo is too large")?;
        self.memo.insert(key, id);
        Ok(())
    }

    /// The place of a value whose length is stated in `count` bytes.
    fn sized(&mut self, count: u64) -> Step<Range<u32>> {
        let length = self.number(count)?;
        self.skip(length)
    }

    /// The place of the text at `id`.
    fn place_of(&self, id: Id) -> Step<Range<u32>> {
        match self.objects.get(id as usize) {
            Some(Object::Text(place)) => Ok(place.clone()),
            _ => Err("the pickle names a class by something else than text".into()),
        }
    }

    /// One instruction; false at the end.
    fn step(&mut self) -> Step<bool> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(false),
            0x80 => drop(self.take(1)?), // protocol
            0x95 => drop(self.take(8)?), // frame
            b'(' => self.marks.push(self.stack.len() as u32),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.last()?),
            b'N' => self.push(Object::Other),
            0x88 => self.push(Object::Int(1)),
            0x89 => self.push(Object::Int(0)),
            b'K' | b'M' => {
                let value = self.number(if code == b'K' { 1 } else { 2 })?;
                self.push(Object::Int(value as i64));
            }
            b'J' => {
                let value = self.number(4)? as u32;
                self.push(Object::Int(i64::from(value.cast_signed())));
            }
            0x8a | 0x8b => {
                let digits = self.sized(if code == 0x8a { 1 } else { 4 })?;
                let object = integer(&self.bytes[digits.start as usize..digits.end as usize]);
                self.push(object);
            }
            b'G' => {
                self.take(8)?;
                self.push(Object::Other);
            }
            b'X' | b'T' => self.push_text(4)?,
            0x8c | b'U' => self.push_text(1)?,
            0x8d => self.push_text(8)?,
            b'B' | b'C' | 0x8e | 0x96 => {
                self.sized(match code {
                    b'B' => 4,
                    b'C' => 1,
                    _ => 8,
                })?;
                self.push(Object::Other);
            }
            b'Q' => {
                let facts = self.pop()?;
                self.push(Object::Stored(facts));
            }
            b')' => self.sequence(0)?,
            0x85 => self.sequence(1)?,
            0x86 => self.sequence(2)?,
            0x87 => self.sequence(3)?,
            b't' | b'l' | 0x91 => {
                let members = self.pop_to_mark()?;
                self.collection(Object::Sequence, members);
            }
            b']' | 0x8f => self.push(Object::Sequence(Vec::new())),
            b'a' => {
                let member = self.pop()?;
                self.append(&[member])?;
            }
            b'e' | 0x90 => {
                let members = self.pop_to_mark()?;
                self.append(&members)?;
            }
            b'}' => self.push(Object::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Dict(Vec::new()));
                self.set_items(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.place_of(module)?, self.place_of(name)?);
                self.global(module, name)?;
            }
            b'R' | 0x81 => self.call()?,
            0x92 => {
                self.pop()?; // keywords
                self.call()?;
            }
            b'b' => drop(self.pop()?), // an object's state: attributes, never tensors of the dictionary
            b'h' => {
                let key = self.number(1)?;
                self.recall(key)?;
            }
            b'j' => {
                let key = self.number(4)?;
                self.recall(key)?;
            }
            b'q' => {
                let key = self.number(1)?;
                self.remember(key)?;
            }
            b'r' => {
                let key = self.number(4)?;
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            _ => {
                return Err(format!("the pickle holds the instruction {code:#04x}, not read here"));
            }
        }
        self.check_size()?;
        Ok(true)
    }

    fn push_text(&mut self, count: u64) -> Step<()> {
        let place = self.sized(count)?;
        self.push(Object::Text(place));
        Ok(())
    }
}

/// A little-endian integer in two's complement; `Other` beyond 64 bits.
fn integer(digits: &[u8]) -> Object {
    if digits.len() > 8 {
        return Object::Other;
    }
    let negative = digits.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 8];
    bytes[..digits.len()].copy_from_slice(digits);
    Object::Int(i64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        let value = |digits: &[u8]| match integer(digits) {
            Object::Int(value) => Some(value),
            _ => None,
        };
        assert_eq!(value(&[]), Some(0));
        assert_eq!(value(&[0xff]), Some(-1));
        assert_eq!(value(&[0x00, 0x01]), Some(256));
        assert_eq!(value(&[1; 9]), None);
    }

    #[test]
    fn damaged_pickles_are_errors() {
        let text = |bytes: &[u8]| Pickle::read(bytes).unwrap_err();
        assert_eq!(text(b""), "the pickle is cut off");
        assert_eq!(text(b"\x80\x02."), "the pickle takes more from its stack than is there");
        assert_eq!(text(b"X\xff\xff\xff\xff"), "the pickle is cut off");
        assert_eq!(text(b"Nt."), "the pickle has no mark where one is needed");
        assert_eq!(text(b"h\x05."), "the pickle recalls 5, never stored");
        assert_eq!(text(b"(0."), "the pickle takes more from its stack than is there");
        assert_eq!(text(b"i"), "the pickle holds the instruction 0x69, not read here");
        assert_eq!(
            text(b"cos\nsystem\n."),
            "the pickle names `os.system`, which no checkpoint needs: refused, and nothing in it was executed"
        );
        assert_eq!(
            text(b"c\x1b[31mos\nsystem\n."),
            "the pickle names `\\u{1b}[31mos.system`, which no checkpoint needs: refused, and nothing in it was \
             executed"
        );
        assert_eq!(
            text(b"c__torch__.clip.model\nMultimodal\n."),
            "a TorchScript archive: load it in PyTorch and save its state_dict()"
        );
        // Every cut of a sound one.
        let sound = b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x05s.";
        assert_eq!(Pickle::read(sound).unwrap().length(), sound.len());
        for end in 0..sound.len() {
            assert!(Pickle::read(&sound[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let bytes = b"\x80\x02}(X\x01\x00\x00\x00aK\x05X\x01\x00\x00\x00aK\x06K\x01K\x02u.";
        let pickle = Pickle::read(bytes).unwrap();
        let entries = pickle.entries(pickle.root());
        assert_eq!(entries.len(), 1);
        assert_eq!(pickle.count(entries["a"]), Some(6));
    }

    #[test]
    fn ordered_dictionaries_of_python_2() {
        let bytes = b"\x80\x02ccollections\nOrderedDict\n]]U\x01aK\x05e\x85R.";
        // The pairs, as lists in a list: [["a", 5]].
        let bytes = [&bytes[..27], b"](](U\x01aK\x05ee\x85R."].concat();
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.count(pickle.entries(pickle.root())["a"]), Some(5));
    }

    #[test]
    fn deep_nesting_is_only_a_list() {
        let mut bytes = vec![b')'];
        bytes.extend(std::iter::repeat_n(0x85, 1_000_000));
        bytes.push(b'.');
        assert!(Pickle::read(&bytes).is_ok());
    }

    /// Few bytes of a pickle that describe much: each ends early, before its description is large.
    #[test]
    fn bombs_end_early() {
        let refused = |bytes: Vec<u8>| {
            let text = Pickle::read_within(&bytes, MAX_BYTES / 64).unwrap_err();
            assert!(text.starts_with("the pickle describes "), "{text}");
            assert!(text.len() < 200, "{text}");
        };
        for code in [b']', b'}', b')', b'(', 0x88] {
            refused(vec![code; 1 << 20]);
        }
        // One long list, recalled and appended to itself.
        let mut bytes = b"]q\x00(".to_vec();
        bytes.extend(b"h\x00".repeat(1 << 20));
        bytes.push(b'e');
        refused(bytes);
        // A list of a thousand members, made again and again from the memo.
        let mut bytes = b"Nq\x00".to_vec();
        bytes.extend([b"(".to_vec(), b"h\x00".repeat(100), b"t".to_vec()].concat().repeat(4000));
        refused(bytes);
        // Entries of the memo.
        let mut bytes = b"N".to_vec();
        bytes.extend([0x94].repeat(1 << 20));
        refused(bytes);
    }
}
