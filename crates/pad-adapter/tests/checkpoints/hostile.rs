//! Files of weights made to do harm, or damaged.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    checkpoint::{Checkpoint, FloatType, save},
    params::ParamStore,
    vit::{ViT, ViTConfig},
};
use pad_ops::rng::Key;
use pad_testkit::numbers;

use super::torch_file::{archive, dense, dict, floats, opened, storage, tensor};

fn refusal(bytes: &[u8], name: &str) -> String {
    opened(bytes, name).map(|_| ()).unwrap_err()
}

/// A flipped bit of a weight is a wrong weight: the archive's checksum tells.
#[test]
fn checksums_of_archives_are_compared() {
    let values = floats((0..64).map(|i| i as f32));
    let object = dict(&[("a", dense("0", &[64]))]);
    let sound = archive(&object, &[("data/0", values.clone())]);
    assert!(opened(&sound, "a.pth").is_ok());
    let at = sound.windows(values.len()).position(|window| window == values).unwrap();
    for bit in [0, 7, 100, 8 * values.len() - 1] {
        let mut bytes = sound.clone();
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            refusal(&bytes, "a.pth"),
            "FILE: `archive/data/0` in the archive: damaged: its checksum differs"
        );
    }
    // A view of a part of the storage reads, and checks, the whole storage.
    let part = dict(&[("a", tensor(&storage("FloatStorage", "0", 64, &[]), 2, &[2], &[1]))]);
    let mut bytes = archive(&part, &[("data/0", values.clone())]);
    let at = bytes.windows(values.len()).position(|window| window == values).unwrap();
    bytes[at + 250] ^= 1;
    assert!(refusal(&bytes, "a.pth").ends_with("its checksum differs"));
    // The pickle too.
    let mut bytes = sound;
    let at = bytes.windows(8).position(|window| window == b"torch\nFl").unwrap();
    bytes[at + 6] ^= 1;
    let text = refusal(&bytes, "a.pth");
    assert_eq!(text, "FILE: `archive/data.pkl` in the archive: damaged: its checksum differs");
}

#[test]
fn shapes_and_places_beyond_the_file() {
    let of = |offset: usize, shape: &[usize], stride: &[usize]| {
        let a = tensor(&storage("FloatStorage", "0", 4, &[]), offset, shape, stride);
        opened(&archive(&dict(&[("a", a)]), &[("data/0", floats([0.0; 4]))]), "a.pth")
    };
    for (offset, shape, stride) in [
        (0, &[5][..], &[1][..]),
        (1, &[4], &[1]),
        (usize::MAX >> 1, &[1], &[1]),
        (0, &[2, 2], &[usize::MAX >> 1, 1]),
        (0, &[1 << 62, 1 << 62], &[1 << 62, 1]),
        (0, &[1 << 62, 4], &[4, 1]),
    ] {
        let text = of(offset, shape, stride).map(|_| ()).unwrap_err();
        assert!(text.starts_with("FILE: tensor `a`: "), "{text}");
    }
    let text = of(0, &[0, 1 << 62, 1 << 62], &[1, 1, 1]).map(|_| ()).unwrap_err();
    assert!(text.ends_with("is beyond any file"), "{text}");
    assert!(of(0, &[0, 3], &[3, 1]).is_ok());
}

/// The header of a safetensors file, and no values.
fn header(json: &str) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
}

#[test]
fn shapes_of_safetensors_that_overflow() {
    for shape in ["[0,4611686018427387904,4611686018427387904]", "[4611686018427387904,0,8]"] {
        let json = format!(r#"{{"q":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
        let text = refusal(&header(&json), "a.safetensors");
        assert!(text.starts_with("FILE: "), "{text}");
        assert!(text.contains("beyond any memory") || text.contains("not a safetensors"), "{text}");
    }
    // By content, whatever the name.
    let json = r#"{"q":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
    for name in ["a.bin", "a.pth", "a.ckpt", "a"] {
        assert_eq!(opened(&header(json), name).unwrap().get("q").unwrap().dims(), [0], "{name}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("weights.pth");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let text = |path: &Path| {
        let name = path.display().to_string();
        Checkpoint::open(path).map(|_| ()).unwrap_err().to_string().replace(&name, "FILE")
    };
    assert_eq!(text(&pipe), "FILE: a pipe, expected a file");
    assert_eq!(text(Path::new("/dev/zero")), "FILE: a device, expected a file");
    // Beside or behind a file: an index that names a pipe, a config.json that is one.
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"a": "weights.pth"}}"#).unwrap();
    let error = Checkpoint::open(&index).map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("weights.pth: a pipe, expected a file"), "{error}");
    let config = folder.path().join("config.json");
    assert!(std::process::Command::new("mkfifo").arg(&config).status().unwrap().success());
    let file = folder.path().join("a.safetensors");
    let tensors = [("a".to_string(), numbers(&[2], DType::F32, 1))].into();
    save(&file, &tensors, &Default::default(), FloatType::AsIs).unwrap();
    assert!(Checkpoint::open(&file).unwrap().hub_config().is_none());
}

/// Dictionaries that name each other thousands of times, and one tensor under thousands of names:
/// each is looked at once, and their number is bounded.
#[test]
fn few_bytes_that_make_much_work() {
    let start = std::time::Instant::now();
    let names: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    // A dictionary whose values are one other dictionary, five levels deep; keyed by memo.
    let mut object = [b"}q\x00".to_vec()].concat();
    for level in 1..5_u8 {
        let entries: Vec<u8> = names
            .iter()
            .flat_map(|name| [super::torch_file::text(name), vec![b'h', level - 1]].concat())
            .collect();
        object = [object, b"0}(".to_vec(), entries, b"uq".to_vec(), vec![level]].concat();
    }
    let text = refusal(&archive(&object, &[]), "a.pth");
    assert!(text.contains("no dictionary of tensors"), "{text}");
    let tensor = dense("0", &[1]);
    let names: Vec<String> = (0..(1 << 17) + 1).map(|i| i.to_string()).collect();
    let entries: Vec<u8> = names
        .iter()
        .flat_map(|n| [super::torch_file::text(n), b"h\x00".to_vec()].concat())
        .collect();
    let object = [tensor, b"q\x000}(".to_vec(), entries, b"u".to_vec()].concat();
    let text = refusal(&archive(&object, &[("data/0", floats([1.0]))]), "a.pth");
    assert_eq!(text, "FILE: 131073 tensors, expected at most 131072");
    // A network behind each of thousands of prefixes.
    let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let names = (0..20_000).flat_map(|i| {
        ["patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.attn.qkv.weight"]
            .map(|name| format!("p{i}.{name}"))
    });
    let file = Checkpoint::from_tensors("FILE", names.map(|name| (name, one.clone())).collect());
    let text = file.to_ours(None).map(|_| ()).unwrap_err().to_string();
    assert!(
        text.starts_with("FILE: several networks, under the prefixes `p0.`, `p1.`, "),
        "{text}"
    );
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}

/// Names from files, in errors: escaped, and cut.
#[test]
fn errors_show_no_escapes_and_no_endless_names() {
    let red = "a\u{1b}[31m\r\nb\u{202e}";
    let check = |text: String| {
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(text.len() < 5000, "{} bytes", text.len());
    };
    for name in [red.to_string(), "x".repeat(10 << 20)] {
        let storage = storage("FloatStorage", "0", 4, &[]);
        let bytes = |shape: &[usize]| {
            let a = tensor(&storage, 0, shape, &[1]);
            archive(&dict(&[(&name, a)]), &[("data/0", floats([0.0; 4]))])
        };
        check(refusal(&bytes(&[5]), "a.pth"));
        let sound = opened(&bytes(&[4]), "a.pth").unwrap();
        check(sound.clone().to_ours(None).map(|_| ()).unwrap_err().to_string());
        let config = ViTConfig::new(8, 24, 1, 3);
        let store = ParamStore::from_checkpoint(sound, &Device::Cpu, Key::new(0));
        check(store.build(|vb| ViT::new(&config, vb)).map(|_| ()).unwrap_err().to_string());
        let none = archive(&dict(&[(&name, b"N".to_vec())]), &[]);
        check(refusal(&none, "a.pth"));
        let metadata =
            [("vit".to_string(), format!("{{\"{}\": 1}}", name.escape_default()))].into();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensors = [("a".to_string(), numbers(&[2], DType::F32, 1))].into();
        save(&path, &tensors, &metadata, FloatType::AsIs).unwrap();
        check(Checkpoint::open(&path).unwrap().vit_config().unwrap_err().to_string());
    }
}

/// A model that claims more than its file holds takes no memory: nothing is drawn for tensors that
/// are missing.
#[test]
fn missing_tensors_are_not_made() {
    let file = Checkpoint::from_tensors(
        "FILE",
        [("norm.bias".to_string(), Tensor::zeros(65536, DType::F32, &Device::Cpu).unwrap())].into(),
    );
    let config = ViTConfig { mlp_ratio: 16.0, ..ViTConfig::new(16, 65_536, 1024, 1024) };
    config.validate().unwrap();
    let start = std::time::Instant::now();
    let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0));
    let text = store.build(|vb| ViT::new(&config, vb)).map(|_| ()).unwrap_err().to_string();
    assert!(text.starts_with("FILE: the checkpoint is not this model's; missing 12"), "{text}");
    assert!(start.elapsed().as_secs() < 60);
    // From scratch it is refused before the machine is full.
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    let huge = ViTConfig { mlp_ratio: 16.0, ..ViTConfig::new(4096, 65_536, 1024, 1024) };
    let vb = store.var_builder();
    let shape = (huge.embed_dim * 1024, huge.hidden_dim());
    let text = vb.get(shape, "w").unwrap_err().to_string();
    assert!(text.contains("the model takes ") && text.contains("this machine has "), "{text}");
    let text = vb.get((1 << 62, 1 << 62), "v").unwrap_err().to_string();
    assert!(text.contains("is beyond any memory"), "{text}");
}
