//! Tar archives: every listed file lies inside the archive, after its header and before the next.
#![no_main]

use std::{io::Cursor, path::Path};

use libfuzzer_sys::fuzz_target;
use pad_data::shards::index;

fuzz_target!(|bytes: &[u8]| {
    let Ok(members) = index(&mut Cursor::new(bytes), Path::new("a.tar")) else { return };
    let mut end = 0;
    for member in members {
        assert!(member.at >= end + 512 && member.at % 512 == 0);
        end = member.at + member.bytes;
        assert!(end <= bytes.len() as u64);
        assert!(!member.name.is_empty() && !member.name.starts_with('/'));
        assert!(member.name.split('/').all(|part| part != ".."));
    }
});
