//! Settings of all trainers, merged from files and flags.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Args, Command, FromArgMatches};
use pad::{
    Fusion, LoraConfig, LoraTarget, Scale,
    checkpoint::Checkpoint,
    data::{transform::Normalize, window::Window},
    heads::Trained,
    vit::ViTConfig,
};

use super::{
    Flags, Given, RunSettings, Settings, Start, Trainer,
    merge::{SETTINGS, was_rendered},
    names::Adapters,
    values::{Auto, BaseScale, EvalEvery, OrNone, Pixels},
};
use crate::{
    detect::Detect,
    pretrain::{Pretrain, settings::CropKind},
    segment::{Segment, settings::InferenceKind},
};

fn flags<P: Trainer>(arguments: &[&str]) -> Flags<P> {
    let command = Flags::<P>::augment_args(Command::new("pad").no_binary_name(true));
    Flags::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
}

fn merged<P: Trainer>(recipe: Option<&Path>, arguments: &[&str]) -> Settings<P> {
    try_merged(recipe, arguments).unwrap()
}

fn try_merged<P: Trainer>(
    recipe: Option<&Path>,
    arguments: &[&str],
) -> crate::run::Result<Settings<P>> {
    let recipe = recipe.map(|path| path.display().to_string());
    Settings::of(&Start { recipe, ..Default::default() }, &flags(arguments))
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn of_file<P: Trainer>(text: &str) -> Settings<P> {
    let (folder, _) = file(text);
    Settings::of_run(folder.path()).unwrap()
}

#[test]
fn presets_and_flags() {
    let demo = merged::<Segment>(None, &[]);
    assert_eq!(demo.own.base_scale, BaseScale(None));
    let small = merged::<Segment>(None, &["--data=x"]);
    assert_eq!((small.run.max_steps, small.run.epochs), (Some(2000), None));
    assert_eq!(small.run.normalize, Auto::Auto);
    let paper = merged::<Segment>(None, &["--data=x", "--device=cuda"]);
    assert_eq!(paper.run.max_steps, Some(14_400));
    // A flag replaces the others of its row.
    let epochs = merged::<Segment>(None, &["--data=x", "--epochs=7", "--blr=1e-3"]);
    assert_eq!((epochs.run.max_steps, epochs.run.epochs), (None, Some(7)));
    assert_eq!((epochs.run.lr, epochs.run.blr), (None, Some(1e-3)));
    let both = merged::<Segment>(None, &["--data=x", "--epochs=7", "--max-steps=9"]);
    assert_eq!((both.run.max_steps, both.run.epochs), (Some(9), Some(7)));
    let eval = merged::<Segment>(None, &["--data=x", "--eval-every=end"]);
    assert_eq!((eval.run.eval_steps, eval.run.eval_every), (None, EvalEvery::End));
    // A switch alone, and with a value.
    assert!(merged::<Detect>(None, &["--masks", "--cascade=true"]).own.masks);
    assert_eq!(merged::<Pretrain>(None, &["--adapter-norm=false"]).run.adapter_norm, Some(false));
}

#[test]
fn faults_name_file_line_and_a_near_name() {
    let fault = |text: &str| {
        let (_folder, path) = file(text);
        let error = try_merged::<Detect>(Some(&path), &[]).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "FILE")
    };
    assert_eq!(
        fault("# a recipe\nepochs = 3\nachors = [1.0]\n"),
        "FILE:3: unknown setting `achors` (did you mean `anchors`?)"
    );
    assert_eq!(
        fault("epochs = \"many\"\n"),
        "FILE:1: `epochs`: invalid type: string \"many\", expected usize"
    );
    assert_eq!(
        fault("seed = 1\ntrained = \"head\"\n"),
        "FILE:2: `trained`: trained parts: expected everything, adapters-and-heads or heads, found `head` (did you \
         mean `heads`?)"
    );
    assert!(fault("epochs = 3\nlr = \n").starts_with("FILE:2: "));
    assert_eq!(
        fault("lr = 1e-3\nblr = 1e-3\n"),
        "`lr` and `blr` are both given, expected one of them"
    );
    let (_folder, path) = file("program = \"segment\"\n");
    let error = try_merged::<Detect>(Some(&path), &[]).unwrap_err().to_string();
    assert!(error.ends_with(" is a run of `pad segment`, expected one of `pad detect`"), "{error}");
    assert_eq!(
        try_merged::<Detect>(Some(Path::new("flyr")), &[]).unwrap_err().to_string(),
        "recipe: expected demo, small, flir, hit-uav or table, found `flyr` (did you mean `flir`?)"
    );
}

#[test]
fn settings_of_the_first_versions_are_read() {
    let old = of_file::<Pretrain>(
        "sources = []\nno_roi = true\npercentiles = [2.0, 98.0]\nnormalize = \"msip\"\nchannels = 1\n\
         image_size = [96, 128]\nscale = \"learnable=0.5\"\ndropout = 0.0\neval_every = 0\nthreads = 0\n",
    );
    assert_eq!((old.own.sources, old.own.crop), (None, CropKind::Random));
    assert_eq!(old.run.levels.0, Window::Percentile { low: 2.0, high: 98.0 });
    assert_eq!(old.run.normalize, Auto::Given(Normalize::msip()));
    assert_eq!(
        (old.run.in_channels, old.run.adapter_dropout, old.run.threads),
        (1, Some(0.0), None)
    );
    assert_eq!(old.own.image_size.to_string(), "96,128");
    assert_eq!(scale_of(&old.run), Scale::Learnable { init: 0.5 });
    assert_eq!(old.run.eval_every, EvalEvery::End);

    let old = of_file::<Segment>(
        "dataset = \"scenes\"\nbase_scale = [0]\ncrop = [160]\nscene_size = [192, 256]\niterations = 200\n\
         max_steps = 4\neval_every = 100\nwarmup_iterations = 20\nextent = \"whole\"\nwindow = []\nstride = []\n\
         scales = [1.0, 1.5]\nflip_test = true\nblocks = []\nclass_weights = []\nfreeze_backbone = true\n\
         freeze_adapters = false\nfixed_window = [1.0, 9.0]\npercentiles = [1.0, 99.0]\n",
    );
    assert_eq!((old.run.max_steps, old.run.eval_steps), (Some(200), Some(100)));
    assert_eq!(old.run.warmup_steps, Some(20));
    assert_eq!((old.own.base_scale, old.own.crop_size), (BaseScale(None), Pixels::square(160)));
    assert_eq!((old.own.inference, old.own.slide_window), (InferenceKind::Whole, None));
    assert_eq!((old.own.test_scales.0, old.own.test_flip), (vec![1.0, 1.5], true));
    assert_eq!(old.own.trained.0, Trained::AdaptersAndHeads);
    assert_eq!(old.run.levels.0, Window::Fixed { low: 1.0, high: 9.0 });

    let old = of_file::<Detect>(
        "format = \"coco\"\nclasses = []\nimages = 10\nwindow = 0\nglobal_blocks = [1]\nchannels = 96\n\
         samples = 64\nscore = 0.1\nnms = 0.4\nmost = 30\nadapters = \"concat\"\nlr_steps = [0.8, 0.93]\n",
    );
    assert_eq!((old.own.classes, old.own.train_images), (None, Some(10)));
    assert_eq!((old.own.attention_window, old.own.pyramid_channels), (OrNone(None), 96));
    assert_eq!(old.own.batch_size_per_image, 64);
    assert_eq!((old.own.score_threshold, old.own.nms_threshold), (0.1, 0.4));
    assert_eq!((old.own.max_detections, old.run.adapters), (30, Some(Adapters::New)));
    assert_eq!(scale_of(&old.run), Scale::Patchwise(Fusion::Concat));
}

fn scale_of(run: &RunSettings) -> Scale {
    run.with_new_adapters(ViTConfig::pico(16)).adapter.unwrap().scale
}

#[test]
fn settings_of_other_objectives_are_refused() {
    let fault = |flags: &[&str]| try_merged::<Pretrain>(None, flags).unwrap_err().to_string();
    for objective in ["mae", "milan", "simmim"] {
        let name = format!("--objective={objective}");
        let end = format!("with objective {objective}, expected with objective features");
        let flags = [name.as_str(), "--teacher=clip", "--feature-loss=smooth-l1", "--all-patches"];
        assert_eq!(fault(&flags), format!("`feature_loss` {end}; `all_patches` {end}"));
        let defaults =
            [name.as_str(), "--teacher=clip", "--feature-loss=cosine", "--all-patches=false"];
        merged::<Pretrain>(None, &defaults);
    }
    let flags = ["--objective=features", "--teacher=clip", "--all-patches"];
    assert!(merged::<Pretrain>(None, &flags).own.all_patches);
}

/// The same settings by flags and in a file, and what they do not fit.
#[test]
fn adapters_by_kind() {
    let flags = ["--adapter=rslora", "--lora-rank=4", "--lora-targets=qkv,fc1"];
    let by_flags = merged::<Pretrain>(None, &flags).run;
    let text = "adapter = \"rslora\"\nlora_rank = 4\nlora_targets = [\"qkv\", \"fc1\"]\n";
    let by_file = of_file::<Pretrain>(text).run;
    let plain = ViTConfig::pico(16);
    let lora = by_flags.with_new_adapters(plain).lora.unwrap();
    assert_eq!(by_file.with_new_adapters(plain).lora, Some(lora));
    let targets = [LoraTarget::Qkv, LoraTarget::Fc1];
    let want = LoraConfig { rank_stabilized: true, ..LoraConfig::new(4, 8.0, &targets) };
    assert_eq!((lora, by_flags.with_new_adapters(plain).adapter), (want, None));
    // What the run's folder gets is read again.
    let again = merged::<Segment>(None, &["--adapter=dora", "--adapter-dropout=0.2"]);
    assert_eq!(of_file::<Segment>(&again.to_toml(None).unwrap()).run, again.run);
    let dora = again.run.with_new_adapters(plain).lora.unwrap();
    assert_eq!((dora.dora, dora.dropout), (true, 0.2));
    let known = ViTConfig { lora: Some(lora), ..plain };
    let named = merged::<Detect>(None, &["--adapter=adaptformer"]).run;
    let adaptformer = named.with_new_adapters(known);
    assert_eq!((adaptformer.lora, adaptformer.adapter.unwrap().scale), (None, Scale::Fixed(0.1)));

    let fault = |flags: &[&str]| try_merged::<Pretrain>(None, flags).unwrap_err().to_string();
    for kind in ["--adapter=pad", "--adapters=new"] {
        assert_eq!(
            fault(&["--lora-rank=4", kind]),
            "`lora_rank` with `adapter` pad, expected lora, rslora or dora"
        );
    }
    // Else it is said of those of the weights.
    assert_eq!(merged::<Pretrain>(None, &["--lora-rank=4"]).run.lora_rank, Some(4));
    assert_eq!(
        fault(&["--paradigm=pad", "--adapters=none"]),
        "`adapters` none with paradigm pad, which has some: expected auto or new"
    );
    assert_eq!(
        fault(&["--paradigm=full", "--adapters=new"]),
        "`adapters` new with paradigm full, which has none: expected auto or none"
    );
    assert_eq!(
        fault(&["--adapter=lora", "--lora-targets=qkv,key"]),
        "lora: `qkv` beside query, key or value, expected one or the other"
    );
}

/// A preset that was not named says nothing about adapters; flags and named recipes do.
#[test]
fn what_the_user_chose() {
    let (_folder, path) = file("bottleneck = 8\nscale = \"concat\"\nepochs = 3\n");
    let chosen = |recipe: Option<&str>, arguments: &[&str]| -> Vec<String> {
        let start = Start { recipe: recipe.map(String::from), ..Default::default() };
        Settings::chosen(&start, &flags::<Pretrain>(arguments)).unwrap().into_iter().collect()
    };
    assert_eq!(chosen(None, &["--data=x", "--lora-rank=4"]), ["data", "lora_rank"]);
    assert_eq!(
        chosen(path.to_str(), &["--seed=1"]),
        ["adapter_scale", "bottleneck", "epochs", "seed"]
    );
    assert!(chosen(Some("pad"), &[]).contains(&"bottleneck".to_string()));
    // The file of a run has all settings, and says which of them were chosen.
    let run = merged::<Pretrain>(Some(&path), &["--seed=1", "--stop-after=2"]);
    let names = ["bottleneck", "seed", "stop_after"].map(String::from);
    let (begun, config) = file(&run.to_toml(Some(&names.into())).unwrap());
    assert_eq!(chosen(config.to_str(), &["--beta2=0.9"]), ["beta2", "bottleneck", "seed"]);
    assert_eq!(of_file::<Pretrain>(&run.to_toml(Some(&Given::new())).unwrap()).own, run.own);
    let go_on = |folder: &Path| {
        let start = Start { resume: Some(folder.into()), ..Default::default() };
        Settings::ever_chosen(&start, &flags::<Pretrain>(&["--epochs=9"])).unwrap()
    };
    assert_eq!(
        go_on(begun.path()),
        Some(["bottleneck", "epochs", "seed"].map(String::from).into())
    );
    // Those of earlier versions do not: all of them count.
    let (begun, config) = file(&run.to_toml(None).unwrap());
    assert!(chosen(config.to_str(), &[]).contains(&"beta2".to_string()));
    assert_eq!(go_on(begun.path()), None);
    // Beside no program it is an unknown setting.
    let (_folder, path) = file("chosen = [\"seed\"]\n");
    let error = try_merged::<Pretrain>(Some(&path), &[]).unwrap_err().to_string();
    assert!(error.contains("unknown setting `chosen`"), "{error}");
    let resumed = Start { resume: Some("runs/x".into()), ..Default::default() };
    assert!(Settings::chosen(&resumed, &flags::<Pretrain>(&["--epochs=9"])).unwrap().is_empty());
}

/// A model's file does not say where the images of its run were, but whether there were any.
#[test]
fn the_note_of_a_model_has_no_places() {
    let model = |settings: &Settings<Detect>| {
        let mut model = Checkpoint::from_tensors("FILE", BTreeMap::new());
        model.set_metadata(format!("note.{SETTINGS}"), settings.to_note().unwrap());
        model
    };
    let on_scenes = merged::<Detect>(None, &["--size=96"]);
    let flags = ["--data=no-such-images", "--images-root=no-such-root", "--size=96"];
    let on_images = merged::<Detect>(None, &flags);
    assert_eq!(was_rendered(&model(&on_scenes)), Some(true));
    assert_eq!(was_rendered(&model(&on_images)), Some(false));
    assert_eq!(was_rendered(&Checkpoint::from_tensors("FILE", BTreeMap::new())), None);
    let mut read = Settings::<Detect>::of_model(&model(&on_images)).unwrap().unwrap();
    assert_eq!((read.own.size, &read.run.data, &read.own.images_root), (96, &None, &None));
    assert!(Settings::<Segment>::of_model(&model(&on_images)).unwrap().is_none());
    let (folder, _) = file(&on_images.to_toml(None).unwrap());
    read.take_images_of(folder.path()).unwrap();
    assert_eq!(read.run.data, on_images.run.data);
    assert_eq!(read.own.images_root, Some("no-such-root".into()));
}

/// A default that a flag's help tells is the default.
#[test]
fn help_tells_the_defaults() {
    let mut command = Flags::<Segment>::augment_args(Command::new("pad"));
    let help = command.render_long_help().to_string();
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "Images per micro-batch [default: 8]",
        "one number for both, pixels [default: 512; small: 224]",
        "Number of updates [default: 14400; small: 2000]",
        "Recipes: demo, small, soda, mfnet, table",
    ] {
        assert!(flat.contains(text), "{text}: {flat}");
    }
}
