//! What programs put around the names of a network, and how it is taken off: wrappers of training
//! on several devices and of compilers, prefixes of modules, blocks in chunks.

use std::collections::{BTreeMap, BTreeSet};

use pad_ops::text::shown;

/// Segments that compilers and sharding insert anywhere in a name.
const INSERTED: [&str; 4] =
    ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// The segment in front of all names of a network trained on several devices.
const MODULE: &str = "module";

/// Heads of self-distillation beside a backbone, which nothing here has.
const HEADS: [(&str, &str); 3] = [
    ("dino_head.", "head of DINO's training"),
    ("ibot_head.", "head of iBOT's training"),
    ("koleo_head.", "head of DINO's training"),
];

/// Names of a checkpoint without what programs put around them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// From the name without to the name in the file.
    names: BTreeMap<String, String>,
    /// Names in the file that are left out, with why.
    pub(super) dropped: BTreeMap<String, &'static str>,
}

impl Names {
    /// Takes off what stands in any number and order: inserted segments anywhere, `module.` in
    /// front; the numbers of chunks of blocks; the names that transformers 5 gives blocks become
    /// those of transformers 4. Two names that would become one keep what they have.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let files: Vec<String> = names.map(ToString::to_string).collect();
        let plain: Vec<String> = files.iter().map(|name| without_inserted(name)).collect();
        let plain = if is_distinct(&plain) { plain } else { files.clone() };
        Self { names: paired(plain, files), dropped: BTreeMap::new() }
    }

    /// Names without wrappers, each with the name in the file.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names.iter().map(|(plain, file)| (plain.as_str(), file.as_str()))
    }

    /// The name in the file of one without wrappers.
    pub(super) fn in_file<'a>(&'a self, plain: &'a str) -> &'a str {
        self.names.get(plain).map_or(plain, String::as_str)
    }

    /// The names that begin with `prefix`, without it; all others are left out.
    pub(super) fn under(&self, prefix: &str, why: &'static str) -> Self {
        let mut dropped = self.dropped.clone();
        let (mut plain, mut files) = (Vec::new(), Vec::new());
        for (name, file) in &self.names {
            match name.strip_prefix(prefix) {
                Some(rest) => {
                    plain.push(rest.to_string());
                    files.push(file.clone());
                }
                None => drop(dropped.insert(file.clone(), why)),
            }
        }
        Self { names: paired(plain, files), dropped }
    }

    /// The names that begin with `prefix`, without it, as if there were no others.
    pub(super) fn only_under(&self, prefix: &str) -> Self {
        let inside = self.names.range(prefix.to_string()..);
        let inside = inside.map_while(|(name, file)| Some((name.strip_prefix(prefix)?, file)));
        let (plain, files) = inside.map(|(name, file)| (name.to_string(), file.clone())).unzip();
        Self { names: paired(plain, files), dropped: BTreeMap::new() }
    }

    /// The names under the prefix that a user gives, with or without its last dot.
    ///
    /// # Errors
    /// A description of the fault, with the prefixes that there are, if no name begins so.
    pub(super) fn under_given(&self, prefix: &str) -> Result<Self, String> {
        const WHY: &str = "not under the prefix";
        let with_dot = format!("{}.", prefix.trim_end_matches('.'));
        let starts = |prefix: &str| self.names.keys().any(|name| name.starts_with(prefix));
        if starts(&with_dot) {
            return Ok(self.under(&with_dot, WHY));
        }
        // As the names are in the file, wrappers included.
        let raw = Self {
            names: self.names.values().map(|file| (file.clone(), file.clone())).collect(),
            dropped: self.dropped.clone(),
        };
        if raw.names.keys().any(|name| name.starts_with(&with_dot)) {
            return Ok(raw.under(&with_dot, WHY));
        }
        let firsts: BTreeSet<&str> =
            self.names.keys().filter_map(|name| Some(name.split_once('.')?.0)).collect();
        let firsts: Vec<String> =
            firsts.into_iter().take(12).map(|first| format!("{}.", shown(first))).collect();
        Err(format!(
            "no name begins with the prefix `{}`; they begin with {}",
            shown(&with_dot),
            if firsts.is_empty() { "none".into() } else { firsts.join(", ") }
        ))
    }

    /// The prefixes in front of `mark`.
    pub(super) fn prefixes_of(&self, mark: &str) -> BTreeSet<&str> {
        let before = |name: &'_ String| name.strip_suffix(mark).map(str::len);
        let prefixes = self.names.keys().filter_map(|name| Some(&name[..before(name)?]));
        prefixes.filter(|prefix| prefix.ends_with('.')).collect()
    }

    /// Leaves out heads of self-distillation, unless there is nothing else.
    pub(super) fn without_heads(mut self) -> Self {
        let head =
            |name: &str| HEADS.iter().find(|(head, _)| name.starts_with(head)).map(|(_, why)| *why);
        if self.names.keys().all(|name| head(name).is_some()) {
            return self;
        }
        self.names.retain(|name, file| match head(name) {
            Some(why) => {
                self.dropped.insert(file.clone(), why);
                false
            }
            None => true,
        });
        self
    }
}

fn is_distinct(names: &[String]) -> bool {
    names.iter().collect::<BTreeSet<_>>().len() == names.len()
}

/// From names without wrappers to those in the file; names that would become one stay as they are.
fn paired(plain: Vec<String>, files: Vec<String>) -> BTreeMap<String, String> {
    let cleaned = clean(plain.clone());
    let plain = if is_distinct(&cleaned) { cleaned } else { plain };
    plain.into_iter().zip(files).collect()
}

/// A name without the segments that are inserted anywhere.
fn without_inserted(name: &str) -> String {
    let kept = name.split('.').filter(|segment| !INSERTED.contains(segment));
    kept.collect::<Vec<_>>().join(".")
}

/// Names without `module.` in front of all of them, with blocks in one row, and with the names of
/// transformers 4.
fn clean(mut names: Vec<String>) -> Vec<String> {
    let start = format!("{MODULE}.");
    while !names.is_empty() && names.iter().all(|name| name.starts_with(&start)) {
        names.iter_mut().for_each(|name| drop(name.drain(..start.len())));
    }
    in_one_row(&mut names);
    as_transformers_4(&mut names);
    names
}

/// The place of a block in chunks: `blocks.CHUNK.BLOCK.` within a name.
fn chunked(name: &str) -> Option<(usize, usize, usize, usize)> {
    let at = match name.starts_with("blocks.") {
        true => 0,
        false => name.find(".blocks.")? + 1,
    };
    let from = at + "blocks.".len();
    let (chunk, rest) = name[from..].split_once('.')?;
    let (block, _) = rest.split_once('.')?;
    let end = from + chunk.len() + 1 + block.len();
    Some((from, end, chunk.parse().ok()?, block.parse().ok()?))
}

/// Gives blocks in chunks, as DINOv2 trains them (`blocks.0.1.norm1.weight`), their number in the
/// row. DINOv2 counts them through; where each chunk begins with 0, they follow each other.
fn in_one_row(names: &mut [String]) {
    // Per network: several may lie beside each other.
    let mut networks: BTreeMap<String, BTreeSet<(usize, usize)>> = BTreeMap::new();
    for name in names.iter() {
        if let Some((from, _, chunk, block)) = chunked(name) {
            networks.entry(name[..from].to_string()).or_default().insert((chunk, block));
        }
    }
    let numbers: BTreeMap<String, BTreeMap<(usize, usize), usize>> = networks
        .into_iter()
        .map(|(network, places)| {
            let blocks: BTreeSet<usize> = places.iter().map(|&(_, block)| block).collect();
            let through = blocks.len() == places.len();
            let number =
                |(at, place): (usize, (usize, usize))| (place, if through { place.1 } else { at });
            (network, places.into_iter().enumerate().map(number).collect())
        })
        .collect();
    for name in names {
        let Some((from, end, chunk, block)) = chunked(name) else { continue };
        let Some(number) = numbers.get(&name[..from]).and_then(|n| n.get(&(chunk, block))) else {
            continue;
        };
        *name = format!("{}{number}{}", &name[..from], &name[end..]);
    }
}

/// Parts of a block: transformers 5, transformers 4.
const ATTENTION: [(&str, &str); 4] = [
    ("attention.q_proj.", "attention.attention.query."),
    ("attention.k_proj.", "attention.attention.key."),
    ("attention.v_proj.", "attention.attention.value."),
    ("attention.o_proj.", "attention.output.dense."),
];
const MLP: [(&str, &str); 2] = [("mlp.fc1.", "intermediate.dense."), ("mlp.fc2.", "output.dense.")];

/// Rows of blocks: transformers 5, transformers 4. A row without a name in front of it is the
/// encoder's.
const ROWS: [(&str, &str); 4] = [
    ("decoder.layers.", "decoder.decoder_layers."),
    ("decoder.decoder_layers.", "decoder.decoder_layers."),
    ("encoder.layers.", "encoder.layer."),
    ("layers.", "encoder.layer."),
];

/// Gives the blocks of `ViTModel`, `ViTMAEModel` and `Dinov2Model` of transformers 5
/// (`layers.0.attention.q_proj.weight`) the names of transformers 4.
fn as_transformers_4(names: &mut [String]) {
    const EMBEDDING: &str = "embeddings.patch_embeddings.projection.weight";
    let prefixes: BTreeSet<String> = names
        .iter()
        .filter_map(|name| name.strip_suffix(EMBEDDING).map(ToString::to_string))
        .collect();
    // The MLP of `Dinov2Model` has the same names in both.
    let renames_mlp = names.iter().any(|name| name.contains(".layernorm_before."));
    for prefix in prefixes {
        for name in names.iter_mut() {
            // The decoder stands beside the encoder's prefix, such as `vit.`.
            let inside = name.strip_prefix(prefix.as_str()).map(|rest| (prefix.as_str(), rest));
            let (prefix, rest) = inside.unwrap_or(("", name.as_str()));
            if let Some(renamed) = block_of_transformers_5(rest, renames_mlp) {
                *name = format!("{prefix}{renamed}");
            }
        }
    }
}

/// The name of a part of a block in transformers 4, if `name` is one of transformers 5.
fn block_of_transformers_5(name: &str, renames_mlp: bool) -> Option<String> {
    let (row, rest) =
        ROWS.iter().find_map(|(five, four)| Some((*four, name.strip_prefix(five)?)))?;
    let (number, part) = rest.split_once('.')?;
    number.parse::<usize>().ok()?;
    let renamed = |table: &[(&str, &str)]| {
        table.iter().find_map(|(five, four)| Some(format!("{four}{}", part.strip_prefix(five)?)))
    };
    let mlp = || renames_mlp.then(|| renamed(&MLP)).flatten();
    let part = renamed(&ATTENTION).or_else(mlp).unwrap_or_else(|| part.to_string());
    Some(format!("{row}{number}.{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(names: &[&str]) -> Vec<String> {
        let found = Names::of(names.iter().copied());
        let by_file: BTreeMap<&str, &str> =
            found.pairs().map(|(plain, file)| (file, plain)).collect();
        names.iter().map(|name| by_file[name].to_string()).collect()
    }

    #[test]
    fn wrappers_in_any_number_and_order() {
        for wrapper in [
            "",
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "module.module._orig_mod.module.",
            "_fsdp_wrapped_module._orig_mod.",
        ] {
            let names = ["cls_token", "blocks.0.norm1.bias"].map(|n| format!("{wrapper}{n}"));
            let names = names.each_ref().map(String::as_str);
            assert_eq!(plain(&names), ["cls_token", "blocks.0.norm1.bias"], "{wrapper}");
        }
        // Inside a name, where single blocks are compiled.
        assert_eq!(
            plain(&["model._orig_mod.a", "model.blocks.0._orig_mod.b"]),
            ["model.a", "model.blocks.0.b"]
        );
        // `module.` in front of some names only is a part of them.
        assert_eq!(plain(&["module.a", "b"]), ["module.a", "b"]);
        // Names that would become one stay.
        assert_eq!(plain(&["_orig_mod.a", "a"]), ["_orig_mod.a", "a"]);
    }

    #[test]
    fn blocks_in_chunks() {
        // As DINOv2 counts them.
        assert_eq!(
            plain(&["blocks.0.0.a", "blocks.0.1.a", "blocks.1.2.a", "blocks.1.2.b.w"]),
            ["blocks.0.a", "blocks.1.a", "blocks.2.a", "blocks.2.b.w"]
        );
        // Each chunk from 0 on.
        assert_eq!(
            plain(&["x.blocks.0.0.a", "x.blocks.0.1.a", "x.blocks.1.0.a", "x.blocks.1.1.a"]),
            ["x.blocks.0.a", "x.blocks.1.a", "x.blocks.2.a", "x.blocks.3.a"]
        );
        assert_eq!(plain(&["blocks.0.norm1.bias"]), ["blocks.0.norm1.bias"]);
    }

    #[test]
    fn blocks_of_transformers_5() {
        let embedding = "vit.embeddings.patch_embeddings.projection.weight";
        assert_eq!(
            plain(&[
                embedding,
                "vit.layers.3.attention.q_proj.weight",
                "vit.layers.3.attention.o_proj.bias",
                "vit.layers.3.layernorm_before.bias",
                "vit.layers.3.mlp.fc1.bias",
                "vit.layers.3.mlp.fc2.bias",
                "decoder.decoder_layers.0.attention.v_proj.bias",
                "decoder.decoder_layers.0.mlp.fc2.bias",
                "vit.layernorm.weight",
            ])[1..],
            [
                "vit.encoder.layer.3.attention.attention.query.weight",
                "vit.encoder.layer.3.attention.output.dense.bias",
                "vit.encoder.layer.3.layernorm_before.bias",
                "vit.encoder.layer.3.intermediate.dense.bias",
                "vit.encoder.layer.3.output.dense.bias",
                "decoder.decoder_layers.0.attention.attention.value.bias",
                "decoder.decoder_layers.0.output.dense.bias",
                "vit.layernorm.weight",
            ]
        );
        // DINOv2's MLP keeps its names; CLIP has others.
        let names = [
            "embeddings.patch_embeddings.projection.weight",
            "encoder.layers.0.attention.k_proj.bias",
            "encoder.layers.0.mlp.fc1.bias",
        ];
        let want = ["encoder.layer.0.attention.attention.key.bias", "encoder.layer.0.mlp.fc1.bias"];
        assert_eq!(plain(&names)[1..], want);
        let clip = ["embeddings.class_embedding", "encoder.layers.0.self_attn.k_proj.bias"];
        assert_eq!(plain(&clip), clip);
    }

    #[test]
    fn prefixes() {
        let names = Names::of(["model.a.w", "model.b", "head.c"].into_iter());
        assert_eq!(names.prefixes_of("a.w").into_iter().collect::<Vec<_>>(), ["model."]);
        for prefix in ["model", "model."] {
            let under = names.under_given(prefix).unwrap();
            assert_eq!(under.pairs().collect::<Vec<_>>(), [("a.w", "model.a.w"), ("b", "model.b")]);
            assert_eq!(under.dropped["head.c"], "not under the prefix");
        }
        assert_eq!(
            names.under_given("net").unwrap_err(),
            "no name begins with the prefix `net.`; they begin with head., model."
        );
        // Wrapped behind the prefix too.
        let names = Names::of(["student.module.a", "student.module.b", "teacher.a"].into_iter());
        assert_eq!(names.under_given("student").unwrap().in_file("a"), "student.module.a");
    }
}
