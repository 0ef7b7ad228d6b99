//! What users get wrong, and the one line that they are told.

mod programs;

use std::{collections::BTreeMap, path::Path};

use pad::checkpoint::{Checkpoint, FloatType, save};
use programs::{error_line, pretrain, program, stderr, success, write_images};

fn data(folder: &Path, count: usize) -> std::path::PathBuf {
    let data = folder.join("data");
    write_images(&data, count);
    data
}

#[test]
fn folders_without_images() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, out) = (folder.path().join("empty"), folder.path().join("out"));
    std::fs::create_dir(&empty).unwrap();
    let error = error_line(&pretrain(&empty, &out, &[]).output().unwrap());
    assert_eq!(
        error,
        format!(
            "{}: no image found (looked for png, jpg, jpeg, bmp, tif, tiff, npy, seq, csq, fff)",
            empty.display()
        )
    );
    assert!(!out.exists(), "a run that cannot begin leaves no folder");
    let absent = folder.path().join("absent");
    let error = error_line(&pretrain(&absent, &out, &[]).output().unwrap());
    assert!(error.starts_with(&format!("{}: ", absent.display())), "{error}");
}

#[test]
fn a_few_bad_images_among_good_ones_are_reported_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 40);
    let cut = data.join("007.png");
    let bytes = programs::bytes(cut.clone());
    std::fs::write(&cut, &bytes[..bytes.len() / 3]).unwrap();
    std::fs::write(data.join("zero.png"), b"").unwrap();
    image::GrayImage::new(5, 5).save(data.join("tiny.png")).unwrap();
    let (allowed, out) = (["--max-unreadable=0.2"], folder.path().join("out"));
    let output = success(pretrain(&data, &out, &allowed));
    let said = stderr(&output);
    for name in ["007.png", "zero.png", "tiny.png"] {
        assert!(said.contains(name), "{name} is not reported: {said}");
    }
    assert!(said.contains("the image is 5x5, at least 16x16 is needed"), "{said}");
    // More than the allowed share is an error that counts them.
    let out = folder.path().join("strict");
    let error = error_line(&pretrain(&data, &out, &["--max-unreadable=0"]).output().unwrap());
    assert!(error.contains("could not be read, more than the allowed share 0; first: "), "{error}");
}

#[test]
fn checkpoints_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 12);
    let scratch = folder.path().join("scratch");
    success(pretrain(&data, &scratch, &["--max-steps=1"]));
    let good = Checkpoint::open(scratch.join("model.safetensors")).unwrap();
    let weights = folder.path().join("weights.safetensors");
    let error = |change: &dyn Fn(&mut Checkpoint)| {
        let mut file = good.clone();
        change(&mut file);
        save(&weights, file.tensors(), file.metadata(), FloatType::AsIs).unwrap();
        let name = weights.display().to_string();
        let out = folder.path().join("refused");
        let weights = format!("--weights={name}");
        let more = ["--paradigm=pad", "--model=auto", &weights];
        let text = error_line(&pretrain(&data, &out, &more).output().unwrap());
        assert!(!out.exists(), "{text}");
        text.replace(&name, "FILE")
    };
    let start = "FILE: the checkpoint is not this model's; ";
    assert_eq!(
        error(&|file| drop(file.remove("norm.bias"))),
        format!("{start}missing 1: norm.bias")
    );
    assert_eq!(
        error(&|file| file.insert("head.bias", file.get("norm.bias").unwrap().clone())),
        format!("{start}unexpected 1: head.bias")
    );
    assert_eq!(
        error(&|file| {
            let short = file.get("norm.bias").unwrap().narrow(0, 0, 8).unwrap();
            file.insert("norm.bias", short.contiguous().unwrap());
        }),
        format!("{start}wrong shape 1: norm.bias (expected [160], found [8])")
    );
    // A model of another depth or patch size than the flags say.
    let last =
        (0..).take_while(|b| good.get(&format!("blocks.{b}.norm1.bias")).is_some()).count() - 1;
    let shallow = error(&|file| {
        let names: Vec<String> = file.tensors().keys().cloned().collect();
        let block = format!("blocks.{last}.");
        names
            .iter()
            .filter(|name| name.starts_with(&block))
            .for_each(|name| drop(file.remove(name)));
    });
    let start_of_block = format!("{start}missing 12: blocks.{last}.attn.proj.bias");
    assert!(shallow.starts_with(&start_of_block), "{shallow}");
    save(&weights, good.tensors(), good.metadata(), FloatType::AsIs).unwrap();
    let name = format!("--weights={}", weights.display());
    let more = ["--paradigm=pad", "--model=pico", "--patch-size=8", &name];
    let text = error_line(&pretrain(&data, &folder.path().join("p8"), &more).output().unwrap());
    let wrong = "patch_embed.proj.weight (expected [160, 3, 8, 8], found [160, 3, 16, 16])";
    assert!(text.contains(wrong), "{text}");
    // The sound file trains.
    save(&weights, good.tensors(), good.metadata(), FloatType::AsIs).unwrap();
    let name = format!("--weights={}", weights.display());
    let out = folder.path().join("adapters");
    let more = ["--paradigm=pad", "--model=auto", "--max-steps=2", &name];
    success(pretrain(&data, &out, &more));

    // Its adapters belong to that backbone and to no other.
    let other = BTreeMap::from_iter(good.tensors().iter().map(|(name, tensor)| {
        let moved = if name == "norm.bias" { (tensor + 0.5).unwrap() } else { tensor.clone() };
        (name.clone(), moved)
    }));
    save(&weights, &other, good.metadata(), FloatType::AsIs).unwrap();
    let pictures = folder.path().join("pictures");
    let draw = |any_backbone: bool| {
        let mut command = program("reconstruct");
        command
            .arg(&data)
            .arg("--run")
            .arg(&out)
            .arg("--out")
            .arg(&pictures)
            .args(["--count", "2"]);
        if any_backbone {
            command.arg("--any-backbone");
        }
        command.output().unwrap()
    };
    let text = error_line(&draw(false));
    assert!(text.contains("this adapter belongs to the backbone "), "{text}");
    assert!(draw(true).status.success());
    assert!(pictures.join("scales.png").exists());
}

#[test]
fn settings_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 12);
    let text = |more: &[&str]| {
        error_line(&pretrain(&data, &folder.path().join("out"), more).output().unwrap())
    };
    let table: [(&[&str], &str); 9] = [
        (&["--image-size=70"], "`image_size` is 70x70, expected sides divisible by 16"),
        (&["--mask-ratio=0.99"], "`mask_ratio` is 0.99, which keeps 0 of 16 patches"),
        (&["--dtype=f16"], "expected f32 or bf16, found `f16`"),
        (&["--in-channels=2"], "`in_channels` is 2, expected 1 or 3 to 64"),
        (&["--paradigm=magic"], "expected pad, full, scratch or decoder-only, found `magic`"),
        (
            &["--normalize=nonsense"],
            "normalize: expected msip, downstream, imagenet, clip or MEAN,STD",
        ),
        (&["--device=tpu"], "expected cpu, cuda, cuda:N or metal"),
        (&["--paradigm=pad", "--weights=none"], "paradigm pad needs weights to start from"),
        (&["--sources=nowhere"], "`source` is nowhere, expected one of ."),
    ];
    for (more, want) in table {
        let said = text(more);
        assert!(said.contains(want), "{more:?}: {said}");
    }
    // A typing error in a recipe is named, not ignored.
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, "epochz = 3\n").unwrap();
    let mut command = program("pretrain");
    let error = error_line(&command.arg("--recipe").arg(&recipe).output().unwrap());
    assert!(
        error.contains("recipe.toml:1: unknown setting `epochz` (did you mean `epochs`?)"),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 12);
    let out = folder.path().join("out");
    let more = ["--blr=1e12", "--checkpoint-every=1", "--epochs=30"];
    let command = &mut pretrain(&data, &out, &more);
    let error = error_line(&command.output().unwrap());
    assert!(error.starts_with("step "), "{error}");
    assert!(error.contains("the loss is ") || error.contains("is not finite"), "{error}");
    assert!(error.contains("last good checkpoint: "), "{error}");
}

#[test]
fn features_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 9);
    let scratch = folder.path().join("scratch");
    success(pretrain(&data, &scratch, &["--max-steps=1"]));
    let output = folder.path().join("features.safetensors");
    let mut embed = program("embed");
    embed.arg(&data).arg("--out").arg(&output).arg("--run").arg(&scratch).args(["--pool", "class"]);
    success(embed);
    let file = Checkpoint::open(&output).unwrap();
    assert_eq!(file.get("features").unwrap().dims(), [9, 160]);
    let names: Vec<String> = serde_json::from_str(&file.metadata()["names"]).unwrap();
    assert_eq!((names.len(), names[3].as_str()), (9, "003.png"));
}

/// Every command that lays adapters on a backbone refuses another one in the same line.
#[test]
fn an_adapter_of_another_backbone_is_refused_in_the_same_words_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 12);
    let at = |name: &str| folder.path().join(name);
    success(pretrain(&data, &at("scratch"), &["--max-steps=1"]));
    let weights = at("weights.safetensors");
    std::fs::copy(at("scratch/model.safetensors"), &weights).unwrap();
    let source = format!("--weights={}", weights.display());
    let more = ["--paradigm=pad", "--model=auto", "--max-steps=1", &source];
    success(pretrain(&data, &at("adapters"), &more));
    // The same file with another norm.
    let good = Checkpoint::open(&weights).unwrap();
    let other = BTreeMap::from_iter(good.tensors().iter().map(|(name, tensor)| {
        let moved = if name == "norm.bias" { (tensor + 0.5).unwrap() } else { tensor.clone() };
        (name.clone(), moved)
    }));
    save(&weights, &other, good.metadata(), FloatType::AsIs).unwrap();

    let adapter = at("adapters/adapter.safetensors").display().to_string();
    let backbone = weights.display().to_string();
    let out = at("refused").display().to_string();
    let data = data.display().to_string();
    let with = ["--weights", &adapter, "--backbone", &backbone];
    let refused = |arguments: &[&str]| {
        let mut command = program(arguments[0]);
        let error = error_line(&command.args(&arguments[1..]).output().unwrap());
        assert!(!at("refused").exists(), "{error}");
        error
    };
    let pretrain = refused(&[&["pretrain", "--data", &data, "--out", &out], &with[..]].concat());
    assert!(pretrain.contains("this adapter belongs to the backbone "), "{pretrain}");
    assert!(pretrain.contains("--any-backbone"), "{pretrain}");
    for arguments in [
        [&["segment", "train", "--out", &out], &with[..]].concat(),
        [&["detect", "train", "--out", &out], &with[..]].concat(),
        [&["embed", data.as_str()], &with[..]].concat(),
        vec!["convert", &backbone, "refused.safetensors", "--adapter", &adapter],
    ] {
        assert_eq!(refused(&arguments), pretrain, "{arguments:?}");
    }
}

/// NaN in the weights: every program that opens them names the tensor, and none leaves a result.
#[test]
fn weights_that_are_no_numbers_are_refused_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 12);
    let at = |name: &str| folder.path().join(name);
    success(pretrain(&data, &at("scratch"), &["--max-steps=1"]));
    let good = Checkpoint::open(at("scratch/model.safetensors")).unwrap();
    let with_fault = |name: &str, tensor: &str, value: f32| {
        let mut file = good.clone();
        let found = file.get(tensor).unwrap();
        let shape = found.dims().to_vec();
        let mut values = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values[3] = value;
        let device = candle_core::Device::Cpu;
        file.insert(tensor, candle_core::Tensor::from_vec(values, shape, &device).unwrap());
        save(at(name), file.tensors(), file.metadata(), FloatType::AsIs).unwrap();
        at(name).display().to_string()
    };
    let nan = with_fault("nan.safetensors", "blocks.1.norm1.weight", f32::NAN);
    let infinite = with_fault("inf.safetensors", "decoder_norm.bias", f32::INFINITY);
    let out = at("refused").display().to_string();
    let data = data.display().to_string();
    let refused = |arguments: &[&str]| {
        let mut command = program(arguments[0]);
        let error = error_line(&command.args(&arguments[1..]).output().unwrap());
        assert!(!at("refused").exists(), "{error}");
        error
    };
    let features = at("refused.safetensors").display().to_string();
    let want = format!(
        "{nan}: tensor `blocks.1.norm1.weight`: value 3 of 160 is NaN, expected finite numbers (1 are not)"
    );
    for arguments in [
        vec!["embed", &data, "--out", &features, "--weights", &nan],
        vec!["pretrain", "--data", &data, "--out", &out, "--weights", &nan, "--paradigm", "pad"],
        vec!["segment", "train", "--out", &out, "--weights", &nan],
        vec!["detect", "train", "--out", &out, "--weights", &nan],
        vec!["reconstruct", &data, "--out", &out, "--weights", &nan],
        vec!["convert", &nan, "refused.safetensors"],
    ] {
        assert_eq!(refused(&arguments), want, "{arguments:?}");
    }
    let text = refused(&["reconstruct", &data, "--out", &out, "--weights", &infinite]);
    assert!(text.contains("tensor `decoder_norm.bias`: value 3 of 32 is inf"), "{text}");
}

/// Values that are out of all bounds end at once, whatever takes them.
#[test]
fn values_beyond_every_machine() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 12);
    let out = folder.path().join("out");
    let text = |more: &[&str]| error_line(&pretrain(&data, &out, more).output().unwrap());
    for (more, want) in [
        (&["--threads=1000000"][..], "threads: `count` is 1000000, expected at most "),
        (&["--workers=1000000"], "`workers` is 1000000, expected at most 1024"),
        (&["--image-size=102400"], "expected sides of at most 32768 pixels"),
        (&["--decoder-depth=1000000000"], "decoder: `depth` is 1000000000, expected at most 1024"),
        (&["--decoder-dim=4611686018427387904"], "decoder: `embed_dim` is 4611686018427387904"),
        (&["--patch-size=4294967296"], "`patch_size` is 4294967296, expected at most 4096"),
        (&["--batch-size=4611686018427387904"], "`batch_size` is 4611686018427387904, expected"),
        (&["--bottleneck=4611686018427387904"], "`bottleneck` is 4611686018427387904, expected"),
    ] {
        let said = text(more);
        assert!(said.contains(want), "{more:?}: {said}");
    }
    assert!(!out.exists());
    // From the metadata of a file.
    let mut file = Checkpoint::from_safetensors(pad::assets::VIT_PICO_RGB, "asset").unwrap();
    let weights = folder.path().join("weights.safetensors");
    for (find, put) in [
        (r#""mlp_ratio":4.0"#, r#""mlp_ratio":1e308"#),
        (r#""depth":6"#, r#""depth":1000000000000000000"#),
        (r#""decoder_depth":2"#, r#""decoder_depth":1000000000"#),
        (r#""patch_size":16"#, r#""patch_size":4611686018427387904"#),
    ] {
        let sound = file.metadata().clone();
        for key in ["vit", "mae"] {
            if let Some(json) = sound.get(key).filter(|json| json.contains(find)) {
                file.set_metadata(key, json.replace(find, put));
            }
        }
        assert_ne!(*file.metadata(), sound, "{find}");
        save(&weights, file.tensors(), file.metadata(), FloatType::AsIs).unwrap();
        let mut reconstruct = program("reconstruct");
        reconstruct.arg(&data).arg("--weights").arg(&weights).arg("--out").arg(&out);
        let error = error_line(&reconstruct.output().unwrap());
        assert!(error.contains(", expected at most ") && error.contains("metadata `"), "{error}");
        for (key, value) in sound {
            file.set_metadata(key, value);
        }
    }
    let mut command = pretrain(&data, &out, &[]);
    let error = error_line(&command.env("PAD_CPU", "nonsense").output().unwrap());
    assert_eq!(error, "PAD_CPU: expected portable, avx2, avx512 or avx512bf16, found `nonsense`");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let data = data(folder.path(), 12);
    let out = folder.path().join("out");
    for (path, kind) in [(pipe.as_path(), "a pipe"), (Path::new("/dev/zero"), "a device")] {
        let want = format!("{}: {kind}, expected a file", path.display());
        for flag in ["--weights", "--recipe"] {
            let mut command = pretrain(&data, &out, &["--paradigm=pad"]);
            let error = error_line(&command.arg(flag).arg(path).output().unwrap());
            if flag == "--weights" {
                assert_eq!(error, want);
            }
        }
        let mut convert = program("convert");
        let error = error_line(&convert.arg(path).arg("--list").output().unwrap());
        assert_eq!(error, want);
    }
}

/// A run and its weights are found from any working directory, and after both have moved.
#[test]
fn runs_are_used_from_anywhere() {
    let root = tempfile::tempdir().unwrap();
    let old = root.path().join("old");
    data(&old, 12);
    success(pretrain(&old.join("data"), &old.join("scratch"), &["--max-steps=1"]));
    std::fs::rename(old.join("scratch/model.safetensors"), old.join("w.safetensors")).unwrap();
    let more = ["--paradigm=pad", "--model=auto", "--max-steps=3", "--weights=w.safetensors"];
    let mut train = pretrain(Path::new("data"), Path::new("runs/w"), &more);
    train.current_dir(&old);
    success(train);
    let uses = |tree: &str| {
        let run = format!("{tree}/runs/w");
        for (number, arguments) in [
            vec!["embed", "DATA", "--run", &run, "--out"],
            vec!["embed", "DATA", "--weights", &run, "--out"],
            vec!["convert", &run],
            vec!["reconstruct", "DATA", "--run", &run, "--count", "2", "--out"],
        ]
        .into_iter()
        .enumerate()
        {
            let data = format!("{tree}/data");
            let arguments =
                arguments.iter().map(|text| if *text == "DATA" { &data } else { *text });
            let mut command = program(arguments.clone().next().unwrap());
            command.args(arguments.skip(1)).arg(format!("{tree}-{number}.safetensors"));
            command.current_dir(root.path());
            success(command);
        }
    };
    uses("old");
    std::fs::rename(&old, root.path().join("new")).unwrap();
    uses("new");
    // The run goes on there, with a word on what is where.
    let mut resume = program("pretrain");
    resume.args(["--resume", "new/runs/w", "--max-steps", "4"]).current_dir(root.path());
    let said = stderr(&success(resume));
    assert!(said.contains("w.safetensors is not there: "), "{said}");
    assert!(said.contains("`weights` is ") && said.contains(" at the start of the run"), "{said}");
}
