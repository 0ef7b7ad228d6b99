//! The most memory that hostile files of weights take: the size of the file and a constant.
//!
//! One test alone in its program, so that nothing else is counted.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Cursor, Write},
    sync::atomic::{AtomicUsize, Ordering},
};

use pad_adapter::checkpoint::Checkpoint;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Counts what is allocated, and its highest value.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn grow(bytes: usize) {
        let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(now, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A block that moves is there twice for a moment.
        Self::grow(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a file may take beside its own size.
const CONSTANT: usize = 256 << 20;

/// Opens `bytes` as a file and returns the most memory that it took, in bytes, and the result.
fn opened(bytes: &[u8]) -> (usize, Result<Checkpoint, String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    std::fs::write(&path, bytes).unwrap();
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let found = Checkpoint::open(&path).map_err(|error| error.to_string());
    (PEAK.load(Ordering::Relaxed) - before, found)
}

fn archive(pickle: &[u8], storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    for (key, bytes) in storages {
        zip.start_file(format!("archive/data/{key}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A tensor `[rows, 1024]` over the storage `0` of two million floats, from `offset` on.
fn tensor(offset: u32, rows: u32, stride: [u32; 2]) -> Vec<u8> {
    let int = |value: u32| [b"J", &value.to_le_bytes()[..]].concat();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        int(1 << 21),
        b"tQ".to_vec(),
        int(offset),
        [&int(rows)[..], &int(1024), b"\x86"].concat(),
        [&int(stride[0])[..], &int(stride[1]), b"\x86"].concat(),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

fn dictionary(entries: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.flat_map(|(name, value)| [text(&name), value].concat()).collect();
    [b"\x80\x02}(", &entries[..], b"u."].concat()
}

#[test]
fn hostile_files_take_their_size_and_a_constant() {
    let storage = vec![0_u8; 8 << 20];
    let check = |what: &str, bytes: &[u8]| {
        let (peak, found) = opened(bytes);
        println!("{what}: {} KiB of file, {} KiB at most", bytes.len() >> 10, peak >> 10);
        assert!(peak <= bytes.len() + CONSTANT, "{what}: {peak} bytes");
        (peak, found)
    };

    // One megabyte of a name, stored once and named again and again: 6.4 GB before.
    let name = "x".repeat(1 << 20);
    let mut pickle =
        [b"\x80\x02".to_vec(), text(&name), b"q\x000".to_vec(), b"}(".to_vec()].concat();
    for _ in 0..6400 {
        pickle.extend([b"h\x00".to_vec(), tensor(0, 1, [1024, 1])].concat());
    }
    pickle.extend(b"u.");
    let (peak, found) = check("memoised names", &archive(&pickle, &[("0", storage.clone())]));
    assert_eq!(found.unwrap().tensors().len(), 1);
    assert!(peak < 64 << 20, "{peak}");
    // Names of modules in the memo.
    let mut pickle = [b"\x80\x04".to_vec(), text(&name), b"q\x000(".to_vec()].concat();
    for _ in 0..6400 {
        pickle.extend(b"h\x00h\x00\x93");
    }
    pickle.extend(b"l.");
    check("memoised modules", &archive(&pickle, &[])).1.unwrap_err();

    // 400 views of one storage of 8 MB: 3.8 GB before.
    let whole = (0..400).map(|i| (format!("w{i}"), tensor(0, 2048, [1024, 1])));
    let (peak, found) =
        check("shared views", &archive(&dictionary(whole), &[("0", storage.clone())]));
    assert_eq!(found.unwrap().tensors().len(), 400);
    assert!(peak < 32 << 20, "{peak}");
    let turned = (0..400).map(|i| (format!("w{i}"), tensor(0, 2048, [1, 2048])));
    let (peak, found) =
        check("turned views", &archive(&dictionary(turned), &[("0", storage.clone())]));
    assert_eq!(found.unwrap().tensors().len(), 400);
    assert!(peak < 32 << 20, "{peak}");
    // Views with gaps must be copied: refused beyond the file's size and 64 MiB.
    let gaps = (0..400).map(|i| (format!("w{i}"), tensor(0, 1023, [2048, 2])));
    let (_, found) =
        check("views with gaps", &archive(&dictionary(gaps), &[("0", storage.clone())]));
    let error = found.map(|_| ()).unwrap_err();
    assert!(error.contains("more than it holds"), "{error}");
    let repeated = (0..400).map(|i| (format!("w{i}"), tensor(0, 1 << 14, [0, 1])));
    check("expanded views", &archive(&dictionary(repeated), &[("0", storage)])).1.unwrap_err();

    // 20 MB of one instruction: 2.7 GB before.
    for code in *b"])}(N\x88\x94" {
        let pickle = [&[0x80, 2, b'N'][..], &vec![code; 20 << 20]].concat();
        let what = format!("instruction {code:#04x}");
        check(&what, &archive(&pickle, &[])).1.unwrap_err();
    }

    // An archive of many members.
    let members: Vec<(String, Vec<u8>)> =
        (0..300_000).map(|i| (i.to_string(), Vec::new())).collect();
    let members: Vec<(&str, Vec<u8>)> =
        members.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let bytes = archive(b"\x80\x02}.", &members);
    drop(members);
    let error = check("members", &bytes).1.map(|_| ()).unwrap_err();
    assert!(error.contains("expected at most 262144"), "{error}");
}
