//! A reader of Python pickles that builds a description and executes nothing.
//!
//! Objects lie in one arena and name each other by index, so memory grows with the file's bytes and
//! no more, and nothing here recurses: no file can exhaust the stack.

use std::collections::BTreeMap;

/// An object's place in [`Pickle::objects`].
pub(super) type Id = usize;

/// An object that a pickle describes.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// Numbers that are not integers, bytes, `None`: not needed here.
    Other,
    /// An integer or a truth value.
    Int(i64),
    /// A string.
    Text(String),
    /// A tuple, list or set.
    Sequence(Vec<Id>),
    /// A dictionary, ordered or not.
    Dict(Vec<(Id, Id)>),
    /// `module.name`, one of [`is_known`].
    Global(String, String),
    /// A call that Python would make: callable, arguments.
    Call(Id, Id),
    /// A storage outside the pickle, by its tuple of facts.
    Stored(Id),
}

/// A pickle in memory.
#[derive(Debug, Default)]
pub(super) struct Pickle {
    objects: Vec<Object>,
    root: Id,
}

impl Pickle {
    /// Reads `bytes` up to the end of the first pickle in them.
    ///
    /// # Errors
    /// A description of the fault: a damaged pickle, or one with a function or class that no
    /// checkpoint needs.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { bytes, ..Default::default() };
        while reader.step()? {}
        let root = reader.pop()?;
        Ok(Self { objects: reader.objects, root })
    }

    /// The outermost object.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    /// One object.
    pub(super) fn get(&self, id: Id) -> &Object {
        self.objects.get(id).unwrap_or(&Object::Other)
    }

    /// The string at `id`.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
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

    /// The entries of the dictionary at `id` whose keys are strings.
    pub(super) fn entries(&self, id: Id) -> Option<Vec<(&str, Id)>> {
        match self.get(id) {
            Object::Dict(entries) => Some(
                entries.iter().filter_map(|&(key, value)| Some((self.text(key)?, value))).collect(),
            ),
            _ => None,
        }
    }
}

/// Functions and classes that state dictionaries and what training programs put beside them are
/// made of. None of them is ever run here; a file that names anything else is refused.
fn is_known(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter"),
        "argparse" => name == "Namespace",
        "torch" => {
            name.ends_with("Storage")
                || matches!(
                    name,
                    "Size"
                        | "device"
                        | "Tensor"
                        | "float16"
                        | "float32"
                        | "float64"
                        | "bfloat16"
                        | "uint8"
                        | "int8"
                        | "int16"
                        | "int32"
                        | "int64"
                        | "bool"
                )
        }
        "torch.storage" => matches!(name, "UntypedStorage" | "TypedStorage"),
        "torch._utils" => matches!(name, "_rebuild_tensor_v2" | "_rebuild_parameter"),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.nn.parameter" => name == "Parameter",
        "numpy" => {
            matches!(
                name,
                "dtype" | "ndarray" | "float32" | "float64" | "int32" | "int64" | "bool_"
            )
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" => {
            matches!(name, "scalar" | "_reconstruct")
        }
        "numpy.dtypes" => true,
        "builtins" | "__builtin__" => matches!(
            name,
            "set"
                | "frozenset"
                | "slice"
                | "complex"
                | "bytearray"
                | "bytes"
                | "range"
                | "int"
                | "float"
                | "str"
                | "bool"
                | "list"
                | "dict"
                | "tuple"
                | "object"
        ),
        "_codecs" => name == "encode",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "pathlib" | "pathlib._local" => name.ends_with("Path"),
        "mmengine.logging.history_buffer" => name == "HistoryBuffer",
        "mmengine.config.config" | "mmcv.utils.config" => name == "ConfigDict",
        "yacs.config" | "detectron2.config.config" => name == "CfgNode",
        _ => false,
    }
}

#[derive(Default)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
}

type Step<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Step<&'a [u8]> {
        let cut = || "the pickle is cut off".to_string();
        let count = usize::try_from(count).map_err(|_| cut())?;
        let end = self.at.checked_add(count).ok_or_else(cut)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(taken)
    }

    /// A little-endian number of `count` bytes, at most 8.
    fn number(&mut self, count: u64) -> Step<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn text(&mut self, count: u64) -> Step<String> {
        Ok(String::from_utf8_lossy(self.take(count)?).into_owned())
    }

    fn line(&mut self) -> Step<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("the pickle is cut off")?;
        let line = self.text(length as u64)?;
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, object: Object) {
        self.objects.push(object);
        self.stack.push(self.objects.len() - 1);
    }

    fn pop(&mut self) -> Step<Id> {
        // An object below the last mark belongs to an outer collection.
        let floor = self.marks.last().copied().unwrap_or(0);
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
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn sequence(&mut self, count: usize) -> Step<()> {
        let mut members = (0..count).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        members.reverse();
        self.push(Object::Sequence(members));
        Ok(())
    }

    /// Adds to the list on top of the stack; additions to other objects are skipped.
    fn append(&mut self, members: Vec<Id>) -> Step<()> {
        let id = self.last()?;
        if let Some(Object::Sequence(list)) = self.objects.get_mut(id) {
            list.extend(members);
        }
        Ok(())
    }

    /// Adds to the dictionary on top of the stack.
    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let id = self.last()?;
        if let Some(Object::Dict(entries)) = self.objects.get_mut(id) {
            entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn global(&mut self, module: String, name: String) -> Step<()> {
        if module.starts_with("__torch__") {
            return Err(
                "a TorchScript archive: load it in PyTorch and save its state_dict()".into()
            );
        }
        if !is_known(&module, &name) {
            return Err(format!(
                "the pickle names `{module}.{name}`, which no checkpoint needs: refused, and nothing in it was executed"
            ));
        }
        self.push(Object::Global(module, name));
        Ok(())
    }

    fn call(&mut self) -> Step<()> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let is_dict = matches!(
            self.objects.get(callable),
            Some(Object::Global(module, _)) if module == "collections"
        );
        self.push(if is_dict {
            Object::Dict(Vec::new())
        } else {
            Object::Call(callable, arguments)
        });
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Step<()> {
        let id = self.memo.get(&key).copied();
        self.stack.push(id.ok_or_else(|| format!("the pickle recalls {key}, never stored"))?);
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Step<()> {
        let id = self.last()?;
        self.memo.insert(key, id);
        Ok(())
    }

    /// Reads a value of a length that `count` bytes give.
    fn sized(&mut self, count: u64) -> Step<&'a [u8]> {
        let length = self.number(count)?;
        self.take(length)
    }

    /// One instruction; false at the end.
    fn step(&mut self) -> Step<bool> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(false),
            0x80 => drop(self.take(1)?), // protocol
            0x95 => drop(self.take(8)?), // frame
            b'(' => self.marks.push(self.stack.len()),
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
                self.push(integer(digits));
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
                self.push(Object::Sequence(members));
            }
            b']' | 0x8f => self.push(Object::Sequence(Vec::new())),
            b'a' => {
                let member = self.pop()?;
                self.append(vec![member])?;
            }
            b'e' | 0x90 => {
                let members = self.pop_to_mark()?;
                self.append(members)?;
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
                match (self.objects.get(module), self.objects.get(name)) {
                    (Some(Object::Text(module)), Some(Object::Text(name))) => {
                        let (module, name) = (module.clone(), name.clone());
                        self.global(module, name)?;
                    }
                    _ => return Err("the pickle names a class by something else than text".into()),
                }
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
        Ok(true)
    }

    fn push_text(&mut self, count: u64) -> Step<()> {
        let text = String::from_utf8_lossy(self.sized(count)?).into_owned();
        self.push(Object::Text(text));
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
            text(b"c__torch__.clip.model\nMultimodal\n."),
            "a TorchScript archive: load it in PyTorch and save its state_dict()"
        );
        // Every cut of a sound one.
        let sound = b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x05s.";
        assert!(Pickle::read(sound).is_ok());
        for end in 0..sound.len() {
            assert!(Pickle::read(&sound[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn deep_nesting_is_only_a_list() {
        let mut bytes = vec![b')'];
        bytes.extend(std::iter::repeat_n(0x85, 1_000_000));
        bytes.push(b'.');
        assert!(Pickle::read(&bytes).is_ok());
    }
}
