//! An entry of the index: its description, its tensors, and which of them were compared.

use std::{cell::RefCell, collections::BTreeMap, collections::BTreeSet, path::PathBuf};

use candle_core::{Device, Tensor};
use pad_adapter::vit::{
    Activation, PatchGrid, Positions, QkvBias, RelativeBias, RelativeResize, TableResize, ViTConfig,
};
use pad_ops::{AxialRope, ImageSize, RopeAxes, RopeCoordinates, RopePairs, RopeSpan};
use pad_testkit::{close, golden, golden_folder, index};
use serde_json::Value;

/// What the tests allow, of the largest value.
pub(crate) const TOLERANCE: f64 = 2e-5;

pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) facts: Value,
    tensors: BTreeMap<String, Tensor>,
    read: RefCell<BTreeSet<String>>,
}

pub(crate) fn folder() -> PathBuf {
    golden_folder().join("backbones")
}

/// All entries.
pub(crate) fn entries() -> Vec<Entry> {
    let index = index("backbones/index");
    let entries = index.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with('_'));
    entries.map(|(name, facts)| Entry::new(name, facts.clone())).collect()
}

impl Entry {
    fn new(name: &str, facts: Value) -> Self {
        let tensors = golden(&format!("backbones/{name}"));
        Self { name: name.into(), facts, tensors, read: RefCell::default() }
    }

    pub(crate) fn family(&self) -> &str {
        self.facts["family"].as_str().unwrap()
    }

    pub(crate) fn find(&self, key: &str) -> Option<&Tensor> {
        let found = self.tensors.get(key);
        if found.is_some() {
            self.read.borrow_mut().insert(key.into());
        }
        found
    }

    #[track_caller]
    pub(crate) fn get(&self, key: &str) -> &Tensor {
        self.find(key).unwrap_or_else(|| panic!("{}: no tensor `{key}`", self.name))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    #[track_caller]
    pub(crate) fn compare(&self, key: &str, got: &Tensor) {
        let want = self.get(key).clone();
        close(&format!("{} {key}", self.name), got, &want, TOLERANCE);
    }

    /// Outputs and gradients that nothing was compared with.
    pub(crate) fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        let wanted = self.keys().filter(|key| !key.contains("input."));
        let unread = wanted.filter(|key| !read.contains(*key));
        unread.map(str::to_string).collect()
    }

    /// The weights' files by naming scheme: `timm`, `original`, `hf`.
    pub(crate) fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let listed = self.facts["files"].as_array().unwrap().iter();
        let listed = listed.map(|file| file.as_str().unwrap());
        let scheme = |file: &str| match file.rsplit('/').next().unwrap() {
            "timm.safetensors" => Some("timm"),
            "original.safetensors" => Some("original"),
            "model.safetensors" => Some("hf"),
            _ => None,
        };
        let files = listed.filter_map(|file| Some((scheme(file)?, folder().join(file))));
        files.collect()
    }

    /// The model as the index describes it: how timm runs it.
    pub(crate) fn config(&self) -> ViTConfig {
        let model = &self.facts["model"];
        let number = |key: &str| model[key].as_u64().unwrap() as usize;
        let flag = |key: &str| model[key].as_bool().unwrap();
        let grid_of = |value: &Value| -> Option<PatchGrid> {
            let sides = value.as_array()?;
            Some(PatchGrid::new(sides[0].as_u64()? as usize, sides[1].as_u64()? as usize))
        };
        let patch = number("patch_size");
        let table = &model["pos_table"];
        let native = self.facts["sizes"].as_array().map(|sizes| {
            let size = sizes[0].as_array().unwrap();
            let side = |i: usize| size[i].as_u64().unwrap() as usize / patch;
            PatchGrid::new(side(0), side(1))
        });
        let relative = match model["relative_position"].as_str() {
            None => RelativeBias::None,
            Some("per block") => RelativeBias::PerBlock,
            Some("shared") => RelativeBias::Shared,
            Some(other) => panic!("{other}"),
        };
        let grid = match (grid_of(&table["grid"]), relative, native) {
            (Some(grid), ..) => grid,
            (None, RelativeBias::None, _) => PatchGrid::new(4, 4),
            (None, _, native) => native.unwrap(),
        };
        let dim = number("embed_dim");
        let (class, swiglu) = (flag("class_token"), model["mlp"] != "plain");
        ViTConfig {
            image_size: ImageSize::new(grid.height * patch, grid.width * patch),
            in_channels: number("in_channels"),
            mlp_ratio: number("mlp_hidden") as f64 / dim as f64,
            activation: match model["activation"].as_str().unwrap() {
                _ if swiglu => Activation::SwiGlu,
                "gelu" => Activation::Gelu,
                "gelu_tanh" => Activation::GeluTanh,
                "quick_gelu" => Activation::QuickGelu,
                other => panic!("{other}"),
            },
            mlp_norm: flag("mlp_norm"),
            attention_norm: flag("attn_inner_norm"),
            qkv_bias: match model["qkv_bias"].as_str().unwrap() {
                "qkv" => QkvBias::All,
                "qv" => QkvBias::QueryValue,
                "none" => QkvBias::None,
                other => panic!("{other}"),
            },
            class_token: class,
            register_tokens: number("register_tokens"),
            positions: match table["rows"].as_str() {
                None => Positions::None,
                Some("class+patches") => Positions::Table,
                Some("patches") => Positions::Patches,
                Some(other) => panic!("{other}"),
            },
            pos_resize: match (table["mode"].as_str(), table["antialias"].as_bool()) {
                (None, _) | (Some("bicubic"), Some(true)) => TableResize::BicubicAntialias,
                (Some("bilinear"), Some(true)) => TableResize::BilinearAntialias,
                other => panic!("{other:?}"),
            },
            rope: rope(&model["rope"]),
            relative_bias: relative,
            relative_resize: RelativeResize::Linear,
            pre_norm: flag("pre_norm"),
            patch_bias: flag("patch_bias"),
            final_norm: flag("final_norm"),
            layer_scale: model["layer_scale"].as_str().map(|_| 1e-5),
            norm_eps: model["norm_eps"].as_f64().unwrap(),
            ..ViTConfig::new(patch, dim, number("depth"), number("num_heads"))
        }
    }
}

/// Rotary positions of a description.
pub(crate) fn rope(facts: &Value) -> Option<AxialRope> {
    if facts.is_null() {
        return None;
    }
    let reference = facts["reference_grid"].as_array().map(|grid| {
        let side = |i: usize| grid[i].as_u64().unwrap() as usize;
        [side(0), side(1)]
    });
    Some(AxialRope {
        base: facts["temperature"].as_f64().unwrap(),
        coordinates: match facts["coordinates"].as_str().unwrap() {
            "centred" => RopeCoordinates::Centred(match facts["normalize"].as_str().unwrap() {
                "separate" => RopeSpan::Separate,
                "max" => RopeSpan::Longer,
                "min" => RopeSpan::Shorter,
                other => panic!("{other}"),
            }),
            "index" => {
                RopeCoordinates::Index { offset: facts["offset"].as_f64().unwrap(), reference }
            }
            other => panic!("{other}"),
        },
        pairs: match facts["layout"].as_str().unwrap() {
            "half" => RopePairs::Halves,
            "interleaved" => RopePairs::Neighbours,
            other => panic!("{other}"),
        },
        axes: match facts["axes"].as_str().unwrap() {
            "yx" => RopeAxes::RowsFirst,
            "xy" => RopeAxes::ColumnsFirst,
            other => panic!("{other}"),
        },
    })
}

/// A table of angles (L, E / 2) as the references keep them, (L, E).
pub(crate) fn spread(table: &Tensor, pairs: RopePairs) -> Tensor {
    let (rows, half) = table.dims2().unwrap();
    match pairs {
        RopePairs::Halves => Tensor::cat(&[table, table], 1).unwrap(),
        RopePairs::Neighbours => {
            Tensor::stack(&[table, table], 2).unwrap().reshape((rows, 2 * half)).unwrap()
        }
    }
}

pub(crate) const CPU: Device = Device::Cpu;
