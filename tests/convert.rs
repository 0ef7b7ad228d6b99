//! `pad convert`: every way in and out, and what it says of a bad file.

mod programs;

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use pad::{
    Mode,
    checkpoint::{Checkpoint, FloatType, Format, save},
    params::ParamStore,
    rng::Key,
    vit::ViT,
};
use pad_testkit::{close, golden, golden_folder};
use programs::{error_line, pretrain, program, success, write_images};

fn at(name: &str) -> PathBuf {
    golden_folder().join("vit").join(name)
}

/// What the program prints.
fn convert(input: &Path, output: &Path, more: &[&str]) -> String {
    let mut command = program("convert");
    command.arg(input).arg(output).args(more);
    String::from_utf8(success(command).stdout).unwrap()
}

fn refusal(input: &str, more: &[&str]) -> String {
    let mut command = program("convert");
    command.arg(input).args(more);
    error_line(&command.output().unwrap()).replace(input, "FILE")
}

#[test]
fn a_foreign_file_becomes_ours_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("dinov2.safetensors");
    let said = convert(&at("dinov2"), &output, &[]);
    let counts = "dinov2 -> ours: 61 tensors: 0 kept, 42 renamed, 18 joined, 1 dropped, 0 unknown";
    assert!(said.starts_with(counts), "{said}");
    assert!(said.contains("(mask token of another training)"), "{said}");
    assert!(said.ends_with(&format!("wrote {}: 48 tensors\n", output.display())), "{said}");
    // The file alone tells its model.
    let file = Checkpoint::open(&output).unwrap();
    let config = file.vit_config().unwrap();
    let vit = ParamStore::from_checkpoint(file, &candle_core::Device::Cpu, Key::new(0))
        .build(|vb| ViT::new(&config, vb))
        .unwrap();
    let want = golden("vit/dinov2");
    let tokens = vit.forward(&want["input.pixel_values"], Mode::Eval).unwrap();
    close("tokens", &tokens, &want["out.last_hidden_state"], 1e-4);

    // Some of its blocks: a student that begins with layers of its teacher.
    let shallow = folder.path().join("shallow.safetensors");
    let last = format!("--keep-blocks=0,{}", config.depth - 1);
    let said = convert(&output, &shallow, &[&last]);
    assert!(said.contains(&format!("2 of {} blocks kept", config.depth)), "{said}");
    let (student, teacher) =
        (Checkpoint::open(&shallow).unwrap(), Checkpoint::open(&output).unwrap());
    assert_eq!(student.vit_config().unwrap(), pad::vit::ViTConfig { depth: 2, ..config });
    let weight = |file: &Checkpoint, block: usize| {
        file.get(&format!("blocks.{block}.mlp.fc2.weight")).unwrap().to_vec2::<f32>().unwrap()
    };
    assert_eq!(weight(&student, 1), weight(&teacher, config.depth - 1));
    let refused = refusal(output.to_str().unwrap(), &["--list", "--keep-blocks=0,99"]);
    assert!(refused.contains("block 99 of"), "{refused}");

    // A reader that leaves after the first line does not keep the file from being written.
    let other = folder.path().join("other.safetensors");
    let mut command = program("convert");
    command.arg(at("dinov2")).arg(&other).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(programs::bytes(other.clone()), programs::bytes(output.clone()));
    std::fs::remove_file(other).unwrap();

    // Half the size with 16-bit floats; nothing at all with --list.
    let half = folder.path().join("half.safetensors");
    convert(&output, &half, &["--half"]);
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(&half) < size(&output) * 6 / 10, "{} {}", size(&half), size(&output));
    let mut list = program("convert");
    list.arg(&output).arg("--list");
    let said = String::from_utf8(success(list).stdout).unwrap();
    assert!(said.contains("\nblocks.0.attn.qkv.weight [72, 24] F32\n"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_run_goes_to_the_original_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, at) = (folder.path().join("data"), |name: &str| folder.path().join(name));
    write_images(&data, 12);
    let backbone = at("scratch/model.safetensors");
    success(pretrain(&data, &at("scratch"), &["--max-steps=1"]));
    let weights = format!("--weights={}", backbone.display());
    let more = ["--paradigm=pad", "--model=auto", "--max-steps=2", &weights];
    success(pretrain(&data, &at("pad"), &more));
    let adapter = format!("--adapter={}", at("pad/adapter.safetensors").display());

    let (there, back) = (at("there.safetensors"), at("back.safetensors"));
    convert(&backbone, &there, &[&adapter, "--to=original", "--prefix=backbone."]);
    let file = Checkpoint::open(&there).unwrap();
    assert!(file.names().all(|name| name.starts_with("backbone.")));
    assert!(file.get("backbone.blocks.5.scalar_pred.weight").is_some());
    assert_eq!(Format::detect(&file).unwrap(), Format::Original);
    convert(&there, &back, &[]);
    let whole = at("whole.safetensors");
    convert(&backbone, &whole, &[&adapter]);
    let (back, whole) = (Checkpoint::open(&back).unwrap(), Checkpoint::open(&whole).unwrap());
    for (name, tensor) in back.tensors() {
        let bits = |tensor: &Tensor| -> Vec<u32> {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        assert_eq!(bits(tensor), bits(whole.get(name).unwrap()), "{name}");
    }
    assert_eq!(back.vit_config().unwrap(), whole.vit_config().unwrap());
    assert!(back.vit_config().unwrap().adapter.is_some());
    // The folder of the run is the same, and nothing is replaced in silence.
    let of_run = at("of_run.safetensors");
    convert(&at("pad"), &of_run, &[]);
    assert_eq!(programs::bytes(of_run.clone()), programs::bytes(at("whole.safetensors")));
    let text = refusal(&at("pad").display().to_string(), &[&of_run.display().to_string()]);
    assert!(
        text.ends_with("of_run.safetensors: the file exists (--overwrite replaces it)"),
        "{text}"
    );
    convert(&at("pad"), &of_run, &["--overwrite", "--half"]);

    // Adapters of another backbone.
    let mut other = Checkpoint::open(&backbone).unwrap();
    let moved = (other.get("norm.bias").unwrap() + 0.5).unwrap();
    other.insert("norm.bias", moved);
    let path = at("other.safetensors");
    save(&path, other.tensors(), other.metadata(), FloatType::AsIs).unwrap();
    let output = at("refused.safetensors").display().to_string();
    let text = refusal(&path.display().to_string(), &[&output, &adapter]);
    assert!(text.contains("this adapter belongs to the backbone "), "{text}");
    assert!(!Path::new(&output).exists());
    convert(&path, Path::new(&output), &[&adapter, "--any-backbone"]);
}

/// Low-rank adapters: trained, resumed, to peft and back, merged, under others' names; all compute
/// the same.
#[test]
fn low_rank_adapters_go_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (data, at) = (folder.path().join("data"), |name: &str| folder.path().join(name));
    write_images(&data, 12);
    let flags = [
        "--paradigm=pad",
        "--model=auto",
        "--weights=asset",
        "--adapter=dora",
        "--lora-rank=2",
        "--lora-targets=query,value,fc1",
        "--adapter-dropout=0.1",
        "--decoder-dim=128",
        "--decoder-depth=2",
        "--decoder-heads=4",
        "--blr=1",
    ];
    let run = at("run");
    success(pretrain(&data, &run, &[&flags[..], &["--max-steps=3"]].concat()));
    // Stopped and continued: the same bits.
    let parts = at("parts");
    success(pretrain(&data, &parts, &[&flags[..], &["--max-steps=3", "--stop-after=2"]].concat()));
    let mut resume = program("pretrain");
    resume.arg("--resume").arg(&parts);
    success(resume);
    let adapter = |run: &Path| programs::bytes(run.join("adapter.safetensors"));
    assert_eq!(adapter(&run), adapter(&parts));

    // Features of the run, of peft's folder, of the merged model, of the latter as transformers has it.
    let embed = |weights: &Path, more: &[&str]| {
        let output = at("features.safetensors");
        let mut command = program("embed");
        command.arg(&data).arg("--out").arg(&output).arg("--overwrite");
        command.arg("--weights").arg(weights).args(["--image-size=64", "--workers=0"]).args(more);
        success(command);
        Checkpoint::open(&output).unwrap().get("features").unwrap().clone()
    };
    let want = embed(&run, &[]);
    let bare = embed(Path::new("asset"), &[]);
    assert!(pad_testkit::relative_difference(&bare, &want) > 1e-4);
    let peft = at("peft");
    let said = convert(&run, &peft, &["--names=peft"]);
    assert!(said.ends_with("an adapter of peft on asset\n"), "{said}");
    close("peft", &embed(&peft, &[]), &want, 1e-5);
    let again = at("again");
    convert(&peft, &again, &["--names=peft", "--backbone=asset"]);
    let tensors = |folder: &Path| programs::bytes(folder.join("adapter_model.safetensors"));
    assert_eq!(tensors(&peft).len(), tensors(&again).len());
    let (merged, hf) = (at("merged.safetensors"), at("hf.safetensors"));
    let said = convert(&peft, &merged, &["--merge"]);
    assert!(said.contains("low-rank adapters merged into the weights"), "{said}");
    close("merged", &embed(&merged, &[]), &want, 1e-4);
    let said = convert(&run, &hf, &["--merge", "--names=hf"]);
    assert!(said.contains("ours -> vit"), "{said}");
    close("merged, hf", &embed(&hf, &[]), &want, 1e-4);
    let there = Checkpoint::open(&hf).unwrap();
    assert!(there.get("vit.encoder.layer.0.attention.attention.query.weight").is_some());

    // What cannot be done is said in one line.
    let text = refusal(&peft.display().to_string(), &[&peft.display().to_string(), "--names=peft"]);
    assert!(text.ends_with(": the file exists (--overwrite replaces it)"), "{text}");
    let shallow = at("shallow").display().to_string();
    assert_eq!(
        refusal(&run.display().to_string(), &[&shallow, "--names=peft", "--keep-blocks=0,2"]),
        "--keep-blocks makes another backbone, which the names peft cannot hold"
    );
    assert!(!Path::new(&shallow).exists());
    success(pretrain(&data, &at("pad"), &[&flags[..3], &flags[7..], &["--max-steps=1"]].concat()));
    let output = at("refused.safetensors").display().to_string();
    let text = refusal(&at("pad").display().to_string(), &[&output, "--merge"]);
    assert!(text.starts_with("merge: an adapter beside the MLP has a nonlinearity"), "{text}");
    std::fs::write(
        peft.join("adapter_config.json"),
        r#"{"peft_type": "LORA", "lora_alpha": 4, "base_model_name_or_path": "facebook/dinov2-base"}"#,
    )
    .unwrap();
    let text = refusal(&peft.display().to_string(), &[&output]);
    assert!(
        text.ends_with("its backbone `facebook/dinov2-base` is not here: expected --backbone"),
        "{text}"
    );
    let mut wrong = program("pretrain");
    wrong
        .arg("--data")
        .arg(&data)
        .args(["--adapter=pad", "--lora-rank=4", "--out"])
        .arg(at("wrong"));
    let text = error_line(&wrong.output().unwrap());
    assert_eq!(text, "`lora_rank` with `adapter` pad, expected lora, rslora or dora");
}

/// `pretrain` and `embed` take files of other programs as they are.
#[test]
fn the_other_programs_read_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_images(&data, 12);
    for name in ["vit_mae", "clip_vision", "dinov2_swiglu"] {
        let output = folder.path().join(format!("{name}.safetensors"));
        let mut embed = program("embed");
        let weights = at(name).display().to_string();
        let size = if name.starts_with("dino") { "42" } else { "48" };
        embed.arg(&data).arg("--out").arg(&output);
        embed.args(["--weights", &weights, "--image-size", size]);
        success(embed);
        let features = Checkpoint::open(&output).unwrap();
        assert_eq!(features.get("features").unwrap().dims(), [12, 24], "{name}");
    }
    let more = [
        "--paradigm=pad",
        "--model=auto",
        "--image-size=32",
        "--max-steps=2",
        &format!("--weights={}", at("vit_mae").display()),
        "--decoder-dim=16",
        "--decoder-depth=2",
    ];
    let said = success(pretrain(&data, &folder.path().join("out"), &more));
    let said = programs::stderr(&said);
    assert!(said.contains("vit-mae -> ours: 94 tensors"), "{said}");
}

/// A fixed scale is in no tensor, and any scale would give a model.
#[test]
fn an_unknown_scale_must_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shapes: [(&str, &[usize]); 8] = [
        ("patch_embed.proj.weight", &[64, 3, 16, 16]),
        ("patch_embed.proj.bias", &[64]),
        ("cls_token", &[1, 1, 64]),
        ("pos_embed", &[1, 5, 64]),
        ("blocks.0.norm1.weight", &[64]),
        ("blocks.0.mlp.fc1.weight", &[256, 64]),
        ("blocks.0.mlp.fc2.weight", &[64, 256]),
        ("blocks.0.adaptmlp.down_proj.weight", &[8, 64]),
    ];
    let tensors: std::collections::HashMap<String, Tensor> = shapes
        .iter()
        .map(|(name, shape)| {
            let zeros = Tensor::zeros(*shape, candle_core::DType::F32, &candle_core::Device::Cpu);
            ((*name).to_string(), zeros.unwrap())
        })
        .collect();
    candle_core::safetensors::save(&tensors, at("fixed.safetensors")).unwrap();
    let input = at("fixed.safetensors").display().to_string();
    let out = at("out.safetensors").display().to_string();
    assert_eq!(
        refusal(&input, &[&out]),
        "FILE: vit: adapter: `scale` cannot be inferred: a fixed one is not stored with the tensors; expected \
         --adapter-scale, such as fixed=0.5"
    );
    assert!(!Path::new(&out).exists());
    convert(Path::new(&input), Path::new(&out), &["--adapter-scale=fixed=0.1"]);
    let adapter = Checkpoint::open(&out).unwrap().vit_config().unwrap().adapter.unwrap();
    assert_eq!(adapter.scale, pad::Scale::Fixed(0.1));
}

/// Weights under any name, key, prefix and wrapper, with odd tensors beside them.
#[test]
fn weights_as_people_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| golden_folder().join("cases/C").join(name);
    let want = folder.path().join("want.safetensors");
    convert(&at("weights.th"), &want, &[]);
    for (name, more, line) in [
        ("module_orig.pth", &[][..], "timm -> ours: 30 tensors"),
        ("orig_module.pth", &[], "timm -> ours: 30 tensors"),
        ("model_best.pth.tar", &[], "timm -> ours: 30 tensors"),
        ("lightning.ckpt", &[], "timm -> ours: 30 tensors"),
        ("lightning_compiled.pth", &[], "timm -> ours: 30 tensors"),
        ("encoder.pth", &["--prefix=encoder."], "timm -> ours: 30 tensors"),
        ("key_model_state_dict.pth", &["--key=model_state_dict"], "timm -> ours: 30 tensors"),
        ("nested_ema.pth", &["--key=ema"], "timm -> ours: 30 tensors"),
        ("odd_values.pth", &[], "timm -> ours: 30 tensors"),
        ("with_int8.pth", &[], "unread   q  (of the type Char)"),
        ("st_bool.safetensors", &[], "dropped  q  (whole numbers of a name that is not known)"),
        ("with_expanded.pth", &[], "dropped  head.bias  (classification head)"),
    ] {
        let output = folder.path().join(format!("{name}.safetensors"));
        let said = convert(&at(name), &output, more);
        assert!(said.contains(line), "{name}: {said}");
        let (output, want) = (Checkpoint::open(&output).unwrap(), Checkpoint::open(&want).unwrap());
        assert!(output.names().eq(want.names()), "{name}");
        for (tensor, values) in want.tensors() {
            let bits = |tensor: &Tensor| -> Vec<u32> {
                let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values.into_iter().map(f32::to_bits).collect()
            };
            assert!(bits(output.get(tensor).unwrap()) == bits(values), "{name}: {tensor}");
        }
    }
    let output = folder.path().join("dinov2.safetensors");
    let said = convert(&at("dinov2_chunked.pth"), &output, &[]);
    assert!(said.contains("(head of DINO's training)"), "{said}");
    let legacy = folder.path().join("legacy.safetensors");
    convert(&golden_folder().join("vit/mae_fair_legacy.pth"), &legacy, &[]);
    let plain = folder.path().join("plain.safetensors");
    convert(&golden_folder().join("vit/mae_fair.pth"), &plain, &[]);
    assert!(programs::bytes(legacy) == programs::bytes(plain));

    // The same flags where weights are only used.
    let data = folder.path().join("data");
    write_images(&data, 6);
    for (name, more) in [
        ("dinov2_teacher.pth", &[][..]),
        ("encoder.pth", &["--prefix=encoder"]),
        ("nested_ema.pth", &["--key=ema.module"]),
        ("with_bool.pth", &[]),
    ] {
        let mut embed = program("embed");
        let output = folder.path().join(format!("{name}.features.safetensors"));
        embed.arg(&data).arg("--out").arg(&output).arg("--weights").arg(at(name));
        success({
            embed.args(more);
            embed
        });
        let features = Checkpoint::open(&output).unwrap();
        assert_eq!(features.get("features").unwrap().dims(), [6, 64], "{name}");
    }
}

#[test]
fn bad_files_are_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors").display().to_string();
    let name = |path: &str| golden_folder().join(path).display().to_string();
    assert_eq!(
        refusal(&name("pth/malicious.pth"), &[&out]),
        "FILE: the pickle names `posix.system`, which no checkpoint needs: refused, and nothing in it was executed"
    );
    let text = refusal(&name("vit/absent.pth"), &[&out]);
    assert!(text.starts_with("FILE: No such file or directory"), "{text}");
    let text = refusal(&name("pos_embed.safetensors"), &[&out]);
    assert!(text.starts_with("FILE: the names are of no known format ("), "{text}");
    #[cfg(not(feature = "hub"))]
    assert_eq!(
        refusal("hf://facebook/dinov2-base", &[&out]),
        "FILE@main: built without the feature `hub`: add it, or download the file"
    );
    let good = name("vit/mae_fair.pth");
    let text = refusal(&good, &[&out, "--prefix=backbone."]);
    assert!(text.starts_with("FILE: no name begins with the prefix `backbone.`; "), "{text}");
    assert_eq!(
        refusal(&good, &[&out, "--prefix=a.", "--from-prefix=b."]),
        "--prefix and --from-prefix are both the input's without --to original"
    );
    let text = refusal(&good, &[&out, "--key=ema"]);
    assert!(text.starts_with("FILE: no key `ema`; keys there: "), "{text}");
    let text = refusal(&name("cases/C/st_i8.safetensors"), &[&out, "--key=ema"]);
    assert_eq!(text, "FILE: a safetensors file has no keys: expected --prefix in place of --key");
    let text = refusal(&name("cases/C/nan.pth"), &[&out]);
    assert!(text.contains(": tensor `") && text.contains(" is NaN, expected finite"), "{text}");
    assert_eq!(
        refusal(&good, &["weights.pth"]),
        "weights.pth: expected a name that ends with .safetensors"
    );
    let text = refusal(&good, &[&out, "--from=vit"]);
    assert_eq!(
        text,
        "FILE: no name is one of the format vit (found blocks.0.attn.proj.bias, blocks.0.attn.proj.weight, \
         blocks.0.attn.qkv.bias, blocks.0.attn.qkv.weight, ..)"
    );
    assert!(!Path::new(&out).exists());
}
