//! Files as `torch.save` writes them, made here: pickles by hand, storages, both layouts.

use std::{
    io::{Cursor, Write},
    path::Path,
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A string.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A whole number.
pub(crate) fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

/// A function or class.
pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// A tuple.
pub(crate) fn tuple(members: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &members.concat()[..], b"t"].concat()
}

/// A list.
pub(crate) fn list(members: &[Vec<u8>]) -> Vec<u8> {
    [b"](", &members.concat()[..], b"e"].concat()
}

/// A dictionary.
pub(crate) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &entries[..], b"u"].concat()
}

/// A whole pickle of protocol 2.
pub(crate) fn pickle(object: &[u8]) -> Vec<u8> {
    [&[0x80, 2][..], object, b"."].concat()
}

/// The facts of a storage, `elements` of `class`.
pub(crate) fn storage(class: &str, key: &str, elements: usize, view: &[Vec<u8>]) -> Vec<u8> {
    let facts = [
        vec![text("storage"), global("torch", class), text(key), text("cpu"), int(elements as i64)],
        view.to_vec(),
    ];
    [tuple(&facts.concat()), b"Q".to_vec()].concat()
}

/// A tensor over a storage.
pub(crate) fn tensor(storage: &[u8], offset: usize, shape: &[usize], stride: &[usize]) -> Vec<u8> {
    let counts = |counts: &[usize]| {
        tuple(&counts.iter().map(|&count| int(count as i64)).collect::<Vec<_>>())
    };
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let arguments = tuple(&[
        storage.to_vec(),
        int(offset as i64),
        counts(shape),
        counts(stride),
        vec![0x89],
        hooks,
    ]);
    [global("torch._utils", "_rebuild_tensor_v2"), arguments, b"R".to_vec()].concat()
}

/// A dense tensor of 32-bit floats that is the whole storage `key`.
pub(crate) fn dense(key: &str, shape: &[usize]) -> Vec<u8> {
    let mut stride = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        stride[axis - 1] = stride[axis] * shape[axis];
    }
    let count = shape.iter().product();
    tensor(&storage("FloatStorage", key, count, &[]), 0, shape, &stride)
}

/// The bytes of 32-bit floats.
pub(crate) fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// An archive as PyTorch 1.6 and later write it.
pub(crate) fn archive(object: &[u8], members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(&pickle(object)).unwrap();
    for (name, bytes) in members {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A file as PyTorch before 1.6 wrote it; of each storage the key, the number of elements and the
/// bytes.
pub(crate) fn legacy(object: &[u8], storages: &[(&str, u64, Vec<u8>)], little: bool) -> Vec<u8> {
    let magic = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
    let machine = dict(&[
        ("protocol_version", int(1001)),
        ("little_endian", vec![if little { 0x88 } else { 0x89 }]),
    ]);
    let keys = list(&storages.iter().map(|(key, ..)| text(key)).collect::<Vec<_>>());
    let mut file =
        [pickle(magic), pickle(&int(1001)), pickle(&machine), pickle(object), pickle(&keys)]
            .concat();
    for (_, elements, bytes) in storages {
        file.extend(elements.to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// The tensors in `bytes`, written to a file of that name, or the error, with `FILE` for the path.
pub(crate) fn opened(
    bytes: &[u8],
    name: &str,
) -> Result<pad_adapter::checkpoint::Checkpoint, String> {
    opened_with_key(bytes, name, None)
}

/// [`opened`] with the key of the weights.
pub(crate) fn opened_with_key(
    bytes: &[u8],
    name: &str,
    key: Option<&str>,
) -> Result<pad_adapter::checkpoint::Checkpoint, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    pad_adapter::checkpoint::Checkpoint::open_with_key(&path, key)
        .map_err(|error| error.to_string().replace(shown(&path), "FILE"))
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}
