//! Weights inside this program, by name.

use std::path::Path;

use pad::{checkpoint::Checkpoint, ops::text::near_name};

use crate::run::Result;

/// The name of the small backbone.
pub const ASSET: &str = "asset";

/// Weights inside this program.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What flags call them.
    pub name: &'static str,
    /// What they are: `backbone`, or the kind of a task's network, `segmentor` or `detector`.
    pub kind: &'static str,
    /// A safetensors file.
    pub bytes: &'static [u8],
}

/// All of them.
pub const SHIPPED: &[Shipped] =
    &[Shipped { name: ASSET, kind: "backbone", bytes: pad::assets::VIT_PICO_RGB }];

/// Those of a name.
pub fn find(name: &str) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| shipped.name == name)
}

/// Opens the weights inside this program that `source` names, or else the file.
///
/// # Errors
/// A file that cannot be read, with a near name if there is one.
pub fn open(source: &Path) -> Result<Checkpoint> {
    let name = source.to_str().unwrap_or_default();
    if let Some(shipped) = find(name) {
        return Ok(Checkpoint::from_safetensors(shipped.bytes, source)?);
    }
    let near = near_name(name, SHIPPED.iter().map(|shipped| shipped.name));
    match near.filter(|_| !source.exists()) {
        Some(near) => Err(format!("{name}: no such file (did you mean `{near}`?)").into()),
        None => Ok(Checkpoint::open(source)?),
    }
}

/// Checks that `source` is no name of weights of another kind inside this program.
///
/// # Errors
/// Such a name, with those of the kind.
pub fn expect_kind(source: &Path, kind: &str) -> Result<()> {
    match source.to_str().and_then(find).filter(|shipped| shipped.kind != kind) {
        Some(found) => Err(of_other_kind(found, kind, SHIPPED).into()),
        None => Ok(()),
    }
}

fn of_other_kind(found: &Shipped, kind: &str, all: &[Shipped]) -> String {
    let Shipped { name, kind: other, .. } = found;
    let names = all.iter().filter(|shipped| shipped.kind == kind);
    let expected: String = names.map(|shipped| format!("{}, or ", shipped.name)).collect();
    format!("{name} is a {other}, expected a {kind}: {expected}a file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_files() {
        assert!(open(Path::new(ASSET)).unwrap().get("blocks.5.norm1.weight").is_some());
        let error = |source: &str| open(Path::new(source)).unwrap_err().to_string();
        assert_eq!(error("aset"), "aset: no such file (did you mean `asset`?)");
        assert!(error("absent.safetensors").starts_with("absent.safetensors: No such file"));
    }

    #[test]
    fn weights_of_another_kind_are_named() {
        expect_kind(Path::new(ASSET), "backbone").unwrap();
        expect_kind(Path::new("a.safetensors"), "detector").unwrap();
        assert!(expect_kind(Path::new(ASSET), "detector").is_err());
        let asset = SHIPPED[0];
        let text = |all: &[Shipped]| of_other_kind(&asset, "detector", all);
        assert_eq!(text(&[asset]), "asset is a backbone, expected a detector: a file");
        let detector = Shipped { name: "night", kind: "detector", bytes: &[] };
        assert_eq!(
            text(&[asset, detector]),
            "asset is a backbone, expected a detector: night, or a file"
        );
    }
}
