//! Backbones of today, tiny ones under every naming scheme: every entry of
//! `golden/backbones/index.json` is read; one that no test reads fails.

mod entry;
mod export;
mod lora;
mod operators;
mod parity;
mod placements;
mod presets;
mod resize;

use entry::{Entry, entries};

/// Each entry by its family; the same table as the tests use.
#[test]
fn every_entry_is_read() {
    let (mut found, mut failed) = (0, Vec::new());
    for entry in entries() {
        found += 1;
        let check = || match entry.family() {
            "ops" => operators::check(&entry),
            "interpolation" => resize::check(&entry),
            "lora" => lora::check(&entry),
            _ if entry.name == "siglip2_naflex" => parity::check_lists(&entry),
            "dinov2_reg" | "dinov3" | "eva02" | "siglip" | "pe" | "vit" | "beit" | "clip" => {
                parity::check(&entry);
            }
            other => panic!("{}: no test reads the family {other}", entry.name),
        };
        // Every entry's own message, not the first one's alone.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
            failed.push(entry.name.clone());
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    pad_testkit::expect_cases(found, 10..);
}

/// What the entry says that no comparison read.
#[track_caller]
pub(crate) fn all_read(entry: &Entry) {
    let unread = entry.unread();
    assert!(unread.is_empty(), "{}: nothing was compared with {unread:?}", entry.name);
}
