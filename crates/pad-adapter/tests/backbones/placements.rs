//! Adapters behind a block's branches, other kinds beside the MLP, dropout of low-rank ones: the
//! block against a plain composition, forward and backward.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use pad_adapter::{
    AdapterActivation, AdapterConfig, AdapterKind, AdapterPlacement, LoraConfig, LoraTarget,
    checkpoint::Checkpoint,
    params::{ParamStore, Role},
    vit::{Block, Places, ViTConfig},
};
use pad_ops::{MatmulPrecision, Mode, reference, rng::Key};
use pad_testkit::{close, largest, numbers, relative_difference};

const DIM: usize = 16;
const HEADS: usize = 2;

type Named = BTreeMap<String, Tensor>;

fn config(adapter: Option<AdapterConfig>) -> ViTConfig {
    let adapter = adapter.map(|config| AdapterConfig { bottleneck: 4, ..config });
    ViTConfig {
        adapter,
        layer_scale: Some(0.5),
        mlp_ratio: 2.0,
        ..ViTConfig::new(8, DIM, 2, HEADS)
    }
}

/// A block whose tensors are all random numbers, and its store.
fn block(config: &ViTConfig) -> (Block, ParamStore) {
    let build = |store: &ParamStore| store.build(|vb| Block::new(config, 1, vb)).unwrap();
    let scratch = ParamStore::scratch(&Device::Cpu, Key::new(0));
    build(&scratch);
    let tensors = scratch.tensors(|_| true).into_iter().enumerate().map(|(i, (name, tensor))| {
        let values = (numbers(tensor.dims(), tensor.dtype(), i as u64 + 1) * 0.4).unwrap();
        // Norms and scales around one.
        let is_scale = name.ends_with("gamma") || name.contains("norm") && name.ends_with("weight");
        (name, if is_scale { (values + 1.0).unwrap() } else { values })
    });
    let file = Checkpoint::from_tensors("block", tensors.collect());
    let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0)).with_trained(|_| true);
    (build(&store), store)
}

fn linear(x: &Tensor, t: &Named, name: &str) -> Tensor {
    let weight = t[&format!("{name}.weight")].clone();
    reference::linear(x, &weight, Some(&t[&format!("{name}.bias")])).unwrap()
}

fn norm(x: &Tensor, t: &Named, name: &str, eps: f64) -> Tensor {
    let part = |end: &str| t[&format!("{name}.{end}")].clone();
    reference::layer_norm(x, &part("weight"), &part("bias"), eps).unwrap()
}

/// `s A(x)` of the adapter at `place`.
fn delta(x: &Tensor, mlp: &Tensor, t: &Named, place: &str, config: &AdapterConfig) -> Tensor {
    let at = |name: &str| format!("{place}adaptmlp.{name}");
    let inner = match config.norm {
        pad_adapter::AdapterNorm::In => norm(x, t, &at("adapter_layer_norm_before"), 1e-5),
        _ => x.clone(),
    };
    let down = linear(&inner, t, &at("down_proj"));
    let inner = match config.activation {
        AdapterActivation::Gelu => reference::gelu(&down).unwrap(),
        _ => down.relu().unwrap(),
    };
    let a = linear(&inner, t, &at("up_proj"));
    match config.scale {
        pad_adapter::Scale::Fixed(scale) => (a * scale).unwrap(),
        pad_adapter::Scale::Patchwise(fusion) => {
            let gate = &t[&format!("{place}scalar_pred.weight")];
            reference::fuse_patchwise(&a, mlp, gate, fusion).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// The block as the formulas say it.
fn plain(x: &Tensor, t: &Named, adapter: &AdapterConfig) -> Tensor {
    let sequential = adapter.placement != AdapterPlacement::Parallel;
    let behind = |h: Tensor, place: &str| (&h + delta(&h, &h, t, place, adapter)).unwrap();
    let packed = linear(&norm(x, t, "norm1", 1e-6), t, "attn.qkv");
    let heads = reference::attention_packed(&packed, HEADS).unwrap();
    let attended = linear(&heads, t, "attn.proj");
    let attended = match adapter.placement {
        AdapterPlacement::AfterBoth => behind(attended, "attn."),
        _ => attended,
    };
    let x = (x + attended.broadcast_mul(&t["ls1.gamma"]).unwrap()).unwrap();
    let hidden = linear(&norm(&x, t, "norm2", 1e-6), t, "mlp.fc1");
    let mlp = linear(&reference::gelu(&hidden).unwrap(), t, "mlp.fc2");
    if sequential {
        let mlp = behind(mlp, "").broadcast_mul(&t["ls2.gamma"]).unwrap();
        return (x + mlp).unwrap();
    }
    let beside = delta(&x, &mlp, t, "", adapter);
    ((x + beside).unwrap() + mlp.broadcast_mul(&t["ls2.gamma"]).unwrap()).unwrap()
}

fn loss(y: &Tensor) -> Tensor {
    (y * numbers(y.dims(), y.dtype(), 99)).unwrap().sum_all().unwrap()
}

#[test]
fn every_placement_is_its_formula() {
    let gelu = AdapterActivation::Gelu;
    let kinds = AdapterKind::ALL.into_iter().filter_map(AdapterKind::adapter);
    let others = [
        AdapterConfig { activation: gelu, ..AdapterConfig::default() },
        AdapterConfig { placement: AdapterPlacement::AfterMlp, ..AdapterConfig::default() },
        AdapterConfig { placement: AdapterPlacement::AfterBoth, ..AdapterConfig::default() },
    ];
    let x = numbers(&[2, 5, DIM], candle_core::DType::F32, 50);
    for adapter in kinds.chain(others) {
        let config = config(Some(adapter));
        let adapter = config.adapter.unwrap();
        let (block, store) = block(&config);
        let what = format!("{adapter:?}");
        let t: Named = store.tensors(|_| true);
        let count: usize = (t.iter())
            .filter(|(name, _)| Role::of(&format!("blocks.1.{name}")).is_adapter())
            .map(|(_, tensor)| tensor.elem_count())
            .sum();
        assert_eq!(count, adapter.block_parameter_count(DIM), "{what}");
        let want = plain(&x, &t, &adapter);
        let want_grads = loss(&want).backward().unwrap();
        for checkpointing in [false, true] {
            let block = block.clone().with_checkpointing(checkpointing);
            let got = block.forward(&x, Mode::Eval).unwrap();
            close(&what, &got, &want, 2e-5);
            let grads = loss(&got).backward().unwrap();
            for (name, tensor) in &t {
                let got = grads.get(tensor).unwrap_or_else(|| panic!("{what}: {name}"));
                close(&format!("{what}: {name}"), got, want_grads.get(tensor).unwrap(), 5e-5);
            }
        }
        let bf16 = block.clone().with_matmul_precision(MatmulPrecision::Bf16);
        let off = relative_difference(&bf16.forward(&x, Mode::Eval).unwrap(), &want);
        assert!(off > 0.0 && off < 0.05, "{what}: {off}");
        let patchwise = matches!(adapter.scale, pad_adapter::Scale::Patchwise(_));
        let scales = block.scales(&x, &Places::default()).unwrap();
        assert_eq!(scales.is_some(), patchwise, "{what}");
    }
}

#[test]
fn fresh_adapters_change_nothing() {
    let x = numbers(&[2, 5, DIM], candle_core::DType::F32, 50);
    let forward = |config: &ViTConfig| {
        let store = ParamStore::scratch(&Device::Cpu, Key::new(3));
        let block = store.build(|vb| Block::new(config, 1, vb)).unwrap();
        block.forward(&x, Mode::Eval).unwrap()
    };
    let want = forward(&config(None));
    for kind in AdapterKind::ALL {
        let adapted = ViTConfig { lora: kind.lora(), ..config(kind.adapter()) };
        close(kind.name(), &forward(&adapted), &want, 1e-6);
    }
}

/// Dropout in front of `A` alone, each adapter by itself: fused and composed alike, the same for
/// equal keys, absent in evaluation.
#[test]
fn low_rank_dropout() {
    let targets = [LoraTarget::Query, LoraTarget::Value, LoraTarget::Proj, LoraTarget::Fc2];
    let lora = |dropout| Some(LoraConfig { dropout, ..LoraConfig::new(2, 4.0, &targets) });
    let dropped = ViTConfig { lora: lora(0.5), ..config(None) };
    let (block, store) = block(&dropped);
    let x = numbers(&[2, 5, DIM], candle_core::DType::F32, 50);
    let train = |seed| Mode::Train(Key::new(seed));
    let run = |mode| block.forward(&x, mode).unwrap();
    let (first, again, other) = (run(train(1)), run(train(1)), run(train(2)));
    close("the same key", &first, &again, 0.0);
    assert!(largest(&(&first - &other).unwrap()) > 1e-3);
    assert!(largest(&(&first - run(Mode::Eval)).unwrap()) > 1e-3);
    let plain = ViTConfig { lora: lora(0.0), ..dropped };
    let without = store.build(|vb| Block::new(&plain, 1, vb)).unwrap();
    close("evaluation", &run(Mode::Eval), &without.forward(&x, Mode::Eval).unwrap(), 0.0);
    close("no dropout", &without.forward(&x, train(1)).unwrap(), &run(Mode::Eval), 1e-6);

    // The composed way of attention (`forward_with`) drops the same.
    let composed =
        block.forward_with(&x, train(1), |attention, x, mode| attention.forward(x, mode));
    close("composed", &composed.unwrap(), &first, 2e-5);
    // Recomputed activations see the same units, and their gradients are the same.
    let grads = loss(&first).backward().unwrap();
    let recomputed = block.clone().with_checkpointing(true).forward(&x, train(1)).unwrap();
    close("recomputed", &recomputed, &first, 0.0);
    let grads_again = loss(&recomputed).backward().unwrap();
    for (name, tensor) in store.tensors(Role::is_adapter) {
        close(&name, grads_again.get(&tensor).unwrap(), grads.get(&tensor).unwrap(), 1e-6);
    }
    assert!(store.tensors(Role::is_adapter).len() == 8);
}
