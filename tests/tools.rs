//! The subcommands beside the trainers: their flags, what they say, what they leave.

mod programs;

use std::{
    path::Path,
    process::{Output, Stdio},
};

use pad::checkpoint::Checkpoint;
use pad_testkit::golden_folder;
use programs::{error_line, pretrain, program, stderr, success, write_images};

fn output(name: &str, flags: &[&str]) -> Output {
    program(name).args(flags).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every value is checked before anything is read or opened: DIR and the weights do not exist.
#[test]
fn values_are_checked_first() {
    let table: [(&str, &[&str], &str); 16] = [
        ("embed", &["--device=tpu"], "for '--device <NAME>': expected cpu, cuda, cuda:N or metal"),
        (
            "embed",
            &["--pool=means"],
            "expected mean, class, tokens or head, found `means` (did you mean `mean`?)",
        ),
        ("embed", &["--image-size=0"], "expected HEIGHT,WIDTH or one number for both, in pixels"),
        ("embed", &["--normalize=imagenett"], "(did you mean `imagenet`?)"),
        ("embed", &["--adapter-scale=conkat"], "(did you mean `concat`?)"),
        ("embed", &["--model=bas"], "'base'"),
        ("embed", &["--batch-size=0"], "expected a whole number of 1 or more"),
        ("embed", &["--fit=middle"], "[possible values: center, whole]"),
        ("embed", &["--out=features.npy"], "expected a name that ends with .safetensors"),
        ("embed", &["--patch-size=8"], "--model <NAME>"),
        ("probe", &["--held-out=1"], "expected a number above 0 and below 1"),
        ("probe", &["--pool=tokens"], "[possible values: mean, class]"),
        ("probe", &["--weight-decays=-1"], "expected a number of 0 or more"),
        ("reconstruct", &["--threads=0"], "expected a whole number of 1 or more"),
        ("stats", &["--percentiles=50,101"], "expected a number from 0 to 100"),
        ("masks", &["--mask-ratio=1"], "expected a number above 0 and below 1"),
    ];
    for (name, flags, want) in table {
        let output = output(name, &[&["absent"], flags].concat());
        assert!(!output.status.success(), "{name} {flags:?}");
        assert!(stderr(&output).contains(want), "{name} {flags:?}: {}", stderr(&output));
    }
}

/// What does not exist is said to be missing, whatever it was meant to be.
#[test]
fn missing_weights_are_named() {
    for (name, flags) in
        [("reconstruct", ["--run", "runs/absent"]), ("probe", ["--weights", "absent.safetensors"])]
    {
        let error = error_line(&output(name, &flags));
        let want = format!("{}: No such file or directory", flags[1]);
        assert!(error.contains(&want), "{name}: {error}");
    }
    // Names of weights inside the program are no files, whatever lies in the working directory.
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("data"), 2);
    std::fs::create_dir(folder.path().join("asset")).unwrap();
    for config in ["config.toml", "asset/config.toml"] {
        std::fs::write(folder.path().join(config), "image_size = \n").unwrap();
    }
    let mut embed = program("embed");
    embed.current_dir(folder.path()).args(["data", "--out=f.safetensors", "--image-size=32"]);
    success(embed);
    for task in ["segment", "detect"] {
        let mut eval = program(task);
        eval.current_dir(folder.path()).args(["eval", "--weights=asset"]);
        let error = error_line(&eval.output().unwrap());
        assert!(error.starts_with("asset is a backbone, expected a "), "{error}");
    }
    let error = error_line(&output("probe", &["--weights", "aset"]));
    assert_eq!(error, "aset: no such file (did you mean `asset`?)");
}

/// Flags of training are not accepted where nothing trains.
#[test]
fn flags_of_training_are_unknown() {
    for name in
        ["embed", "probe", "reconstruct", "masks", "stats", "shards", "roi", "msip", "convert"]
    {
        for flag in ["--paradigm=pad", "--epochs=0", "--blr=1", "--objective=mae", "--force"] {
            if (name, flag) == ("probe", "--epochs=0") {
                continue; // of --method finetune
            }
            let output = output(name, &["absent", flag]);
            let flag = flag.split('=').next().unwrap();
            let want = format!("error: unexpected argument '{flag}' found");
            assert!(stderr(&output).starts_with(&want), "{name}: {}", stderr(&output));
        }
    }
}

#[test]
fn features_say_how_they_were_made() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("features.safetensors"));
    write_images(&data, 5);
    let dinov2 = golden_folder().join("vit/dinov2");
    let embed = |flags: &[&str]| {
        let mut command = program("embed");
        command.arg(&data).arg("--out").arg(&out).arg("--weights").arg(&dinov2);
        command.arg("--image-size=42").args(flags);
        command
    };
    let text = said(&success(embed(&[])));
    let input = "input: 42x42, the centre of each image after its short side is resized to 48";
    assert!(text.starts_with(input), "{text}");
    assert!(
        text.contains("normalisation: imagenet (that of the weights); 16-bit levels: 1%,99%"),
        "{text}"
    );
    assert!(text.contains("features [5, 24] of 5 images"), "{text}");
    let metadata = |path: &Path| Checkpoint::open(path).unwrap().metadata().clone();
    let notes = metadata(&out);
    assert_eq!(notes["input_mean"], "0.485,0.456,0.406");
    assert_eq!((notes["fit"].as_str(), notes["image_size"].as_str()), ("center", "42x42"));
    assert_eq!((notes["levels"].as_str(), notes["pool"].as_str()), ("1%,99%", "mean"));

    // Not replaced in silence; the whole image is another input.
    let error = error_line(&embed(&["--fit=whole"]).output().unwrap());
    assert!(error.ends_with("the file exists (--overwrite replaces it)"), "{error}");
    let values = |path: &Path| {
        let file = Checkpoint::open(path).unwrap();
        file.get("features").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let center = values(&out);
    let text = said(&success(embed(&["--fit=whole", "--overwrite", "--normalize=msip"])));
    assert!(text.contains("each image as a whole"), "{text}");
    assert!(text.contains("normalisation: msip (--normalize)"), "{text}");
    assert_ne!(values(&out), center);
    assert_eq!(metadata(&out)["input_mean"], "0.3801,0.3801,0.3801");
}

/// The folder of a run, its adapter file, and the same with the backbone by its name are one model;
/// on another backbone every command says the same line.
#[test]
fn weights_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = at("data");
    write_images(&data, 12);
    success(pretrain(&data, &at("scratch"), &["--max-steps=1"]));
    success(pretrain(&data, &at("other"), &["--max-steps=1", "--seed=1"]));
    let backbone = at("scratch/model.safetensors").display().to_string();
    let weights = format!("--weights={backbone}");
    let pad = ["--paradigm=pad", "--model=auto", "--max-steps=2", &weights];
    success(pretrain(&data, &at("run"), &pad));
    let run = at("run").display().to_string();
    let adapter = at("run/adapter.safetensors").display().to_string();

    let features = |name: &str, flags: &[&str]| {
        let out = at(name);
        let mut command = program("embed");
        command.arg("--data").arg(&data).arg("--out").arg(&out).args(flags);
        let text = said(&success(command));
        assert!(text.starts_with("input: 64x64, "), "the size of the run: {text}");
        let file = Checkpoint::open(&out).unwrap();
        file.get("features").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let of_run = features("a.safetensors", &["--run", &run]);
    assert_eq!(features("b.safetensors", &["--weights", &adapter]), of_run);
    let named = features("c.safetensors", &["--weights", &adapter, "--backbone", &backbone]);
    assert_eq!(named, of_run);
    // A model that is named has the adapters that the file has.
    let named = features("e.safetensors", &["--weights", &adapter, "--model=pico"]);
    assert_eq!(named, of_run);
    let drawn = |name: &str, weights: &str| {
        let out = at(name).display().to_string();
        let flags = ["--count=1", "--weights", weights, "--out", &out];
        let output = output("reconstruct", &flags);
        assert!(output.status.success(), "{}", stderr(&output));
        programs::bytes(at(name).join("reconstruction.png"))
    };
    assert!(drawn("of-run", &run) == drawn("of-adapter", &adapter), "the decoder is beside it");
    assert_ne!(features("d.safetensors", &["--run", at("scratch").to_str().unwrap()]), of_run);

    let other = at("other/model.safetensors").display().to_string();
    let laid = ["--weights", &adapter, "--backbone", &other];
    let data = data.display().to_string();
    let out = at("whole.safetensors").display().to_string();
    let lines: Vec<String> = [
        output("embed", &[&[data.as_str(), "--out", &out], &laid[..]].concat()),
        output("reconstruct", &[&[data.as_str()], &laid[..]].concat()),
        output("convert", &[&other, &out, "--adapter", &adapter]),
    ]
    .iter()
    .map(error_line)
    .collect();
    assert!(lines[0].contains("this adapter belongs to the backbone "), "{}", lines[0]);
    assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
    let drawn = output("reconstruct", &[&data, "--run", &run, "--out", &run]);
    let error = error_line(&drawn);
    assert!(
        error.ends_with("reconstruction.png: the file exists (--overwrite replaces it)"),
        "{error}"
    );
}

#[test]
fn pictures_are_explained_and_never_replace_others() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let pictures = at("pictures");
    let flags = ["--count=2", "--image-size=64", "--out", &pictures];
    let first = output("reconstruct", &flags);
    assert!(first.status.success(), "{}", stderr(&first));
    assert!(said(&first).contains("what asset makes of removed patches"), "{}", said(&first));
    assert!(said(&first).contains("its true\n  mean and variance back"), "{}", said(&first));
    assert!(said(&first).contains("asset has no patchwise scales"), "{}", said(&first));
    let error = error_line(&output("reconstruct", &flags));
    assert!(error.ends_with("the file exists (--overwrite replaces it)"), "{error}");

    let masks = ["--count=1", "--image-size=96", "--out", &at("masks.png")];
    let drawn = output("masks", &masks);
    assert!(drawn.status.success(), "{}", stderr(&drawn));
    assert!(said(&drawn).contains("input, random, block, cells, attention, intensity"));
    assert!(error_line(&output("masks", &masks)).contains("the file exists"));
    assert!(output("masks", &[&masks[..], &["--overwrite"]].concat()).status.success());
}

/// A reader that closes the pipe early (`| head -1`) ends the command quietly.
#[test]
fn a_closed_pipe_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    write_images(folder.path(), 3);
    let mut command = program("stats");
    command.arg(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

/// What every command has stands behind the flags of its own.
#[test]
fn global_flags_come_last() {
    for arguments in [&["stats"][..], &["reconstruct"], &["roi"], &["segment", "predict"]] {
        let mut command = program(arguments[0]);
        command.args(&arguments[1..]).arg("-h");
        let help = said(&success(command));
        let options = help.split_once("\nOptions:\n").unwrap().1;
        let options = options.split("\n\n").next().unwrap();
        let names: Vec<&str> =
            options.lines().map(str::trim_start).filter(|line| line.starts_with('-')).collect();
        let first = names.iter().position(|line| line.starts_with("-q")).unwrap();
        let last: Vec<&str> = names[first..].iter().map(|line| &line[..2]).collect();
        assert_eq!(last, ["-q", "-v", "-h", "-V"], "{help}");
    }
}

#[test]
fn images_that_are_not_used_are_counted() {
    let mut stats = program("stats");
    stats.arg(golden_folder().join("cases/T/mixed"));
    let said = stderr(&success(stats));
    assert!(
        said.contains(
            "8 of 16 images are not used: only those in folders `thermal` are, which siteB lack"
        ),
        "{said}"
    );
}
