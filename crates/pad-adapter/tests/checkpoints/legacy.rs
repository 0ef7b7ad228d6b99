//! Files of PyTorch before 1.6.

use candle_core::DType;
use pad_adapter::checkpoint::Checkpoint;
use pad_testkit::golden_folder;

use super::torch_file::{
    dense, dict, floats, global, int, legacy, opened, opened_with_key, storage, tensor, text, tuple,
};

#[test]
fn a_file_of_pytorch_is_the_same_as_its_zip() {
    let at = |name: &str| golden_folder().join("vit").join(name);
    let old = Checkpoint::open(at("mae_fair_legacy.pth")).unwrap();
    let new = Checkpoint::open(at("mae_fair.pth")).unwrap();
    assert_eq!(old.names().collect::<Vec<_>>(), new.names().collect::<Vec<_>>());
    for (name, tensor) in new.tensors() {
        let found = old.get(name).unwrap();
        assert_eq!(found.dims(), tensor.dims(), "{name}");
        let bits = |tensor: &candle_core::Tensor| -> Vec<u32> {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        assert_eq!(bits(found), bits(tensor), "{name}");
    }
}

/// A storage that several tensors share, views of every kind, a storage of another type between,
/// which belongs to no weight.
fn sound() -> Vec<u8> {
    let shared = storage("FloatStorage", "11", 6, &[]);
    // A storage that is a view of another one: key, first element, number.
    let part = tuple(&[text("11v"), int(2), int(4)]);
    let view = storage("FloatStorage", "11", 6, &[part]);
    let object = dict(&[
        (
            "state_dict",
            dict(&[
                ("whole", tensor(&shared, 0, &[2, 3], &[3, 1])),
                ("turned", tensor(&shared, 0, &[3, 2], &[1, 3])),
                ("part", tensor(&shared, 4, &[2], &[1])),
                ("gaps", tensor(&shared, 1, &[3], &[2])),
                ("repeated", tensor(&shared, 5, &[3], &[0])),
                ("view", tensor(&view, 1, &[2], &[1])),
                ("half", tensor(&storage("HalfStorage", "30", 2, &[]), 0, &[2], &[1])),
                ("none", tensor(&shared, 0, &[0, 3], &[3, 1])),
            ]),
        ),
        (
            "optimizer",
            dict(&[("seen", tensor(&storage("LongStorage", "2", 1, &[]), 0, &[1], &[1]))]),
        ),
    ]);
    let half = [0x3c00_u16, 0xc000].iter().flat_map(|v| v.to_le_bytes()).collect();
    legacy(
        &object,
        &[
            ("11", 6, floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])),
            ("2", 1, 9_i64.to_le_bytes().to_vec()),
            ("30", 2, half),
        ],
        true,
    )
}

#[test]
fn shared_storages_and_views() {
    let file = opened(&sound(), "old.pth.tar").unwrap();
    let values = |name: &str| -> Vec<f64> {
        let tensor = file.get(name).unwrap().to_dtype(DType::F64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(values("whole"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(values("turned"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(file.get("turned").unwrap().dims(), [3, 2]);
    assert_eq!(values("part"), [4.0, 5.0]);
    assert_eq!(values("gaps"), [1.0, 3.0, 5.0]);
    assert_eq!(values("repeated"), [5.0; 3]);
    assert_eq!(values("view"), [3.0, 4.0]);
    assert_eq!(values("half"), [1.0, -2.0]);
    assert_eq!(file.get("none").unwrap().dims(), [0, 3]);
    assert_eq!(file.tensors().len(), 8);
}

/// Python 2 gives ordered dictionaries their entries as an argument: `OrderedDict([[k, v], ..])`.
#[test]
fn dictionaries_of_python_2() {
    let pair = [b"](".to_vec(), text("w"), dense("0", &[2]), b"e".to_vec()].concat();
    let pairs = [b"](".to_vec(), pair, b"e".to_vec()].concat();
    let object = [global("collections", "OrderedDict"), tuple(&[pairs]), b"R".to_vec()].concat();
    let file = opened(&legacy(&object, &[("0", 2, floats([1.0, 2.0]))], true), "a.pth").unwrap();
    assert_eq!(file.get("w").unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0]);
}

#[test]
fn what_is_refused() {
    let object = dict(&[("a", dense("0", &[2]))]);
    let text = |bytes: &[u8]| opened(bytes, "a.pth").map(|_| ()).unwrap_err();
    let storage = [("0", 2, floats([1.0, 2.0]))];
    assert_eq!(
        text(&legacy(&object, &storage, false)),
        "FILE: written by a big-endian machine, by PyTorch before 1.6: not read here"
    );
    // More elements than the file has bytes for; fewer than the tensor needs; none at all.
    let long = [("0", u64::MAX / 4, floats([1.0, 2.0]))];
    assert_eq!(text(&legacy(&object, &long, true)), "FILE: cut off in the storage `0`");
    let short = [("0", 1, floats([1.0]))];
    assert_eq!(
        text(&legacy(&object, &short, true)),
        "FILE: tensor `a`: 8 bytes expected in the storage `0`, found 4"
    );
    assert_eq!(text(&legacy(&object, &[], true)), "FILE: the storage `0`: it is absent");
    let version = legacy(&object, &storage, true);
    let at = version.windows(8).position(|w| w == 1001_i64.to_le_bytes()).unwrap();
    let mut newer = version.clone();
    newer[at..at + 8].copy_from_slice(&1002_i64.to_le_bytes());
    assert_eq!(text(&newer), "FILE: version 1002 of PyTorch's format before 1.6, expected 1001");
    let code = dict(&[("a", [global("posix", "system"), b")R".to_vec()].concat())]);
    assert!(text(&legacy(&code, &[], true)).starts_with("FILE: the pickle names `posix.system`"));
    // PyTorch 0.1 wrote tar archives; a pickle of something else; a key that is not there.
    let mut tar = vec![0_u8; 1024];
    tar[..8].copy_from_slice(b"sys_info");
    tar[257..262].copy_from_slice(b"ustar");
    assert_eq!(
        text(&tar),
        "FILE: a tar archive, as PyTorch before 0.1.10 wrote: load it in PyTorch and save it again"
    );
    assert_eq!(
        text(b"\x80\x04\x95\x05\0\0\0\0\0\0\0}\x94."),
        "FILE: a pickle, but not one of torch.save: load it in Python and save its tensors"
    );
    let text = opened_with_key(&sound(), "a.pth", Some("model")).map(|_| ()).unwrap_err();
    assert_eq!(text, "FILE: no key `model`; keys there: optimizer, state_dict");
}

#[test]
fn every_cut_is_an_error_and_every_flip_an_error_or_a_file() {
    let sound = sound();
    for end in 0..sound.len() {
        assert!(opened(&sound[..end], "a.pth").is_err(), "{end}");
    }
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        drop(opened(&bytes, "a.pth")); // no panic
    }
}
