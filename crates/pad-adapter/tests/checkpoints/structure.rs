//! Where weights lie in a file, and what stands around their names.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use pad_adapter::checkpoint::{Backbone, BackboneOptions, Checkpoint, Format};
use pad_testkit::{golden_folder, numbers};

use super::torch_file::{
    archive, dense, dict, floats, global, int, list, opened, opened_with_key, storage, tensor,
    text, tuple,
};

/// A file with `object`, whose tensors lie in storages `0` and `1` of two values each.
fn file(object: &[u8]) -> Vec<u8> {
    archive(object, &[("data/0", floats([1.0, 2.0])), ("data/1", floats([3.0, 4.0]))])
}

fn weights(key: &str) -> Vec<u8> {
    dict(&[("a", dense(key, &[2])), ("b", dense(key, &[2])), ("c", dense(key, &[2]))])
}

fn first(checkpoint: &Checkpoint) -> f32 {
    checkpoint.get("a").unwrap().to_vec1::<f32>().unwrap()[0]
}

#[test]
fn the_one_dictionary_wherever_it_is() {
    for key in [
        "model",
        "state_dict",
        "teacher",
        "student",
        "model_state_dict",
        "model_ema",
        "ema",
        "net",
        "target_encoder",
        "state_dict_ema",
        "weights",
        "params",
        "module",
    ] {
        let nothing = || b"N".to_vec();
        for object in [
            weights("0"),
            dict(&[(key, weights("0")), ("epoch", int(3))]),
            dict(&[("epoch", int(3)), (key, dict(&[("module", weights("0"))]))]),
            dict(&[("a", dict(&[("b", dict(&[(key, weights("0"))]))]))]),
            // What training programs keep beside, however many tensors it has.
            dict(&[
                (key, weights("0")),
                ("optimizer", dict(&[("x", weights("1")), ("y", weights("1"))])),
                ("optimizer_states", dict(&[("z", weights("1"))])),
                ("lr_schedulers", dict(&[("z", weights("1"))])),
                ("grad_scaler", weights("1")),
                ("loss_fn", weights("1")),
                ("callbacks", dict(&[("EMA", weights("1"))])),
                ("args", nothing()),
                ("rng_state", dense("1", &[2])),
            ]),
        ] {
            let found = opened(&file(&object), "a.ckpt").unwrap_or_else(|e| panic!("{key}: {e}"));
            assert_eq!(first(&found), 1.0, "{key}");
        }
    }
}

#[test]
fn several_dictionaries_are_named() {
    let both = file(&dict(&[
        ("epoch", int(1)),
        ("model", weights("0")),
        ("ema", dict(&[("module", weights("1")), ("updates", int(5))])),
    ]));
    assert_eq!(
        opened(&both, "a.pth").map(|_| ()).unwrap_err(),
        "FILE: 2 dictionaries of weights: `model` (3 tensors), `ema.module` (3 tensors); expected the option `key` \
         with the name of one"
    );
    for (key, value) in [("model", 1.0), ("ema.module", 3.0), ("ema", 3.0)] {
        assert_eq!(first(&opened_with_key(&both, "a.pth", Some(key)).unwrap()), value, "{key}");
    }
    for key in ["mode", "ema.modul", "epoch", ""] {
        let error = opened_with_key(&both, "a.pth", Some(key)).map(|_| ()).unwrap_err();
        assert!(error.starts_with("FILE: "), "{key}: {error}");
    }
    // At the top and below; teacher and student; a key with dots of its own.
    let beside = dict(&[("a", dense("0", &[2])), ("b", dense("0", &[2])), ("ema", weights("1"))]);
    let error = opened(&file(&beside), "a.pth").map(|_| ()).unwrap_err();
    assert!(error.contains("the outermost (2 tensors), `ema` (3 tensors)"), "{error}");
    let distilled = file(&dict(&[("student", weights("0")), ("teacher", weights("1"))]));
    let error = opened(&distilled, "a.pth").map(|_| ()).unwrap_err();
    assert!(error.contains("`student`") && error.contains("`teacher`"), "{error}");
    let dotted = file(&dict(&[("net.ema", weights("1")), ("net", weights("0"))]));
    assert_eq!(first(&opened_with_key(&dotted, "a.pth", Some("net.ema")).unwrap()), 3.0);
    // One dictionary under two keys is one; a few tensors beside many are none.
    let twice = [
        b"}".to_vec(),
        b"(".to_vec(),
        text("x"),
        weights("0"),
        b"q\x07".to_vec(),
        text("y"),
        b"h\x07u".to_vec(),
    ];
    assert_eq!(first(&opened(&file(&twice.concat()), "a.pth").unwrap()), 1.0);
    let many: Vec<(String, Vec<u8>)> =
        (0..20).map(|i| (format!("w{i}"), dense("0", &[2]))).collect();
    let many: Vec<(&str, Vec<u8>)> = many.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let object = dict(&[("state_dict", dict(&many)), ("centre", dict(&[("c", dense("1", &[2]))]))]);
    assert_eq!(opened(&file(&object), "a.pth").unwrap().tensors().len(), 20);
}

/// What `torch.save([model.state_dict()])` and `torch.save((weights, optimizer))` write.
#[test]
fn weights_in_a_list_are_found() {
    assert_eq!(first(&opened(&file(&list(&[weights("0")])), "a.pth").unwrap()), 1.0);
    let counts = dict(&[("epoch", int(3))]);
    assert_eq!(first(&opened(&file(&tuple(&[weights("0"), counts])), "a.pth").unwrap()), 1.0);
    let both = opened(&file(&list(&[weights("0"), weights("1")])), "a.pth");
    let text = both.map(|_| ()).unwrap_err();
    assert!(text.contains("2 dictionaries of weights: `0` (3 tensors), `1` (3 tensors)"), "{text}");
}

#[test]
fn files_without_weights() {
    let error = |object: &[u8]| opened(&file(object), "a.pth").map(|_| ()).unwrap_err();
    assert_eq!(
        error(&dict(&[("epoch", int(3)), ("name", text("x"))])),
        "FILE: no dictionary of tensors in the file; keys there: epoch, name"
    );
    assert_eq!(
        error(&list(&[dense("0", &[2])])),
        "FILE: no dictionary of tensors in the file; keys there: none"
    );
    // Deeper than any program puts them.
    let deep = (0..6).fold(weights("0"), |inner, _| dict(&[("x", inner)]));
    assert!(error(&deep).contains("no dictionary of tensors"), "{}", error(&deep));
}

/// What `torch.save` writes for arguments, random states and metadata beside the weights.
#[test]
fn odd_objects_beside_the_weights() {
    let call = |module: &str, name: &str, arguments: &[Vec<u8>]| {
        [global(module, name), tuple(arguments), b"R".to_vec()].concat()
    };
    let object = dict(&[
        ("model", weights("0")),
        ("range2", call("__builtin__", "xrange", &[int(0), int(3), int(1)])),
        ("range3", call("builtins", "range", &[int(0), int(3), int(1)])),
        ("set", call("__builtin__", "set", &[list(&[int(1)])])),
        ("long", global("__builtin__", "long")),
        ("text", global("__builtin__", "unicode")),
        ("dtype", global("torch", "float16")),
        ("date", call("datetime", "timedelta", &[int(1), int(2), int(3)])),
        (
            "numpy",
            call("numpy.core.multiarray", "scalar", &[call("numpy", "dtype", &[text("f8")])]),
        ),
    ]);
    assert_eq!(first(&opened(&file(&object), "a.pth").unwrap()), 1.0);
    for (module, name) in [("__builtin__", "eval"), ("builtins", "exec"), ("os", "system")] {
        let object = dict(&[("model", weights("0")), ("x", call(module, name, &[text("1")]))]);
        let error = opened(&file(&object), "a.pth").map(|_| ()).unwrap_err();
        assert!(error.contains(&format!("the pickle names `{module}.{name}`")), "{error}");
    }
}

/// Tensors of types that are not read, beside the weights: listed, with why.
#[test]
fn tensors_that_cannot_be_read_are_listed() {
    let odd = |class: &str| tensor(&storage(class, "1", 1, &[]), 0, &[1], &[1]);
    let call = |name: &str| {
        [global("torch._utils", name), tuple(&[dense("1", &[2])]), b"R".to_vec()].concat()
    };
    let object = dict(&[
        ("a", dense("0", &[2])),
        ("int8", odd("CharStorage")),
        ("complex", odd("ComplexFloatStorage")),
        ("quantised", odd("QInt8Storage")),
        ("sparse", call("_rebuild_sparse_tensor")),
        ("huge", tensor(&storage("FloatStorage", "0", 2, &[]), 0, &[1 << 40], &[0])),
    ]);
    let found = opened(&file(&object), "a.pth").unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), ["a"]);
    let unread: Vec<(&str, &str)> =
        found.unread().iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
    assert_eq!(
        unread,
        [
            ("complex", "of the type ComplexFloat"),
            ("huge", "1099511627776 values over 1 stored ones: an expanded view"),
            ("int8", "of the type Char"),
            ("quantised", "of the type QInt8"),
            ("sparse", "a sparse tensor"),
        ]
    );
    // An expanded view of an acceptable size is read.
    let bias = tensor(&storage("FloatStorage", "0", 2, &[]), 1, &[3], &[0]);
    let found = opened(&file(&dict(&[("bias", bias)])), "a.pth").unwrap();
    assert_eq!(found.get("bias").unwrap().to_vec1::<f32>().unwrap(), [2.0; 3]);
}

#[test]
fn archives_of_big_endian_machines() {
    let big: Vec<u8> = [1.0_f32, -2.5].into_iter().flat_map(f32::to_be_bytes).collect();
    let object = dict(&[("a", dense("0", &[2]))]);
    let bytes = archive(&object, &[("byteorder", b"big".to_vec()), ("data/0", big)]);
    let found = opened(&bytes, "a.pth").unwrap();
    assert_eq!(found.get("a").unwrap().to_vec1::<f32>().unwrap(), [1.0, -2.5]);
}

/// The ViT of the golden files under timm's names, with `rename` applied to each.
fn renamed(rename: impl Fn(&str) -> String) -> Checkpoint {
    let path = golden_folder().join("vit/mae_fair_encoder_only.pth");
    let file = Checkpoint::open(path).unwrap();
    let tensors = file.tensors().iter().map(|(name, tensor)| (rename(name), tensor.clone()));
    Checkpoint::from_tensors("FILE", tensors.collect())
}

fn with(mut file: Checkpoint, names: &[&str]) -> Checkpoint {
    names.iter().for_each(|name| file.insert(*name, numbers(&[2], DType::F32, 1)));
    file
}

#[test]
fn prefixes_in_front_of_every_format() {
    let want: Vec<String> = renamed(str::to_string).names().map(str::to_string).collect();
    for prefix in [
        "model.",
        "net.",
        "encoder.",
        "module.encoder.",
        "model.module.",
        "module._orig_mod.model._orig_mod.encoder.",
        "a.b.c.",
        "student.backbone.",
    ] {
        // A head and a loss stand beside the network, as in programs built on Lightning.
        let file = renamed(|name| format!("{prefix}{name}"));
        let whole = file.tensors().len();
        let file = with(file, &["classifier.weight", "criterion.weight"]);
        let (found, report) = file.to_ours(None).unwrap_or_else(|e| panic!("{prefix}: {e}"));
        let names: Vec<String> = found.names().map(str::to_string).collect();
        assert_eq!(names, want, "{prefix}");
        assert_eq!(report.counts()[3], 2, "{prefix}: {report}");
        assert_eq!(report.changes.len(), whole + 2);
    }
    // Formats of others behind a prefix, with prefixes of their own.
    for (name, format) in
        [("vit", Format::Vit), ("dinov2", Format::Dinov2), ("clip_vision", Format::ClipVision)]
    {
        let file = Checkpoint::open(golden_folder().join("vit").join(name)).unwrap();
        let plain = file.clone().to_ours(None).unwrap().0;
        let tensors: BTreeMap<String, Tensor> = file
            .tensors()
            .iter()
            .map(|(name, tensor)| (format!("model.tower.{name}"), tensor.clone()))
            .collect();
        let wrapped = Checkpoint::from_tensors("FILE", tensors);
        assert_eq!(Format::detect(&wrapped).unwrap(), format, "{name}");
        let found = wrapped.to_ours(None).unwrap().0;
        assert_eq!(found.names().collect::<Vec<_>>(), plain.names().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn several_networks_in_one_dictionary() {
    let mut both = renamed(|name| format!("student.{name}"));
    both.merge(renamed(|name| format!("teacher.{name}")));
    let zero = Tensor::zeros(24, DType::F32, &Device::Cpu).unwrap();
    both.insert("student.norm.bias", zero);
    let text = both.clone().to_ours(None).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        text,
        "FILE: several networks, under the prefixes `student.`, `teacher.`; expected the option `prefix` with one"
    );
    for (prefix, is_zero) in [("student", true), ("teacher.", false)] {
        let options = BackboneOptions::default().with_prefix(Some(prefix.into()));
        let found = Backbone::from_checkpoint("FILE", both.clone(), &options).unwrap();
        let bias = found.checkpoint().get("norm.bias").unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bias.iter().all(|value| *value == 0.0), is_zero, "{prefix}");
    }
}

/// `ViTModel` under the names that transformers 5 gives its blocks, with and without `vit.`.
#[test]
fn names_of_transformers_5() {
    let four = Checkpoint::open(golden_folder().join("vit/vit")).unwrap();
    let plain = four.clone().to_ours(None).unwrap().0;
    let five = |name: &str| {
        let name = name.strip_prefix("vit.").unwrap_or(name).to_string();
        [
            ("encoder.layer.", "layers."),
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ]
        .iter()
        .fold(name, |name, (four, five)| name.replace(four, five))
    };
    for prefix in ["", "vit.", "module.vit."] {
        let tensors =
            four.tensors().iter().map(|(name, t)| (format!("{prefix}{}", five(name)), t.clone()));
        let file = Checkpoint::from_tensors("five", tensors.collect());
        assert!(file.names().any(|name| name.contains("layers.0.attention.q_proj.weight")));
        let (found, report) = file.to_ours(None).unwrap();
        assert_eq!(report.unknown(), [""; 0], "{prefix}");
        for (name, tensor) in plain.tensors() {
            let got = found.get(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(
                got.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                "{name}"
            );
        }
    }
}
