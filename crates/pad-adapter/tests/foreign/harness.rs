//! What holds for an adapter in any model: fresh ones change nothing, gradients equal differences,
//! files go back onto their own backbone and onto no other.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use pad_adapter::{
    AdapterConfig,
    checkpoint::{AdapterContents, AdapterFile, Checkpoint, save_adapter},
    params::{ParamStore, Role},
};
use pad_ops::{Mode, rng::Key};
use pad_testkit::{close, numbers};

pub(crate) const CPU: Device = Device::Cpu;
pub(crate) const ADAPTER: AdapterConfig = AdapterConfig {
    bottleneck: 3,
    norm: pad_adapter::AdapterNorm::In,
    dropout: 0.1,
    scale: pad_adapter::Scale::Patchwise(pad_adapter::Fusion::Concat),
    placement: pad_adapter::AdapterPlacement::Parallel,
    activation: pad_adapter::AdapterActivation::Relu,
};

/// A model that was built.
pub(crate) type Network = Box<dyn Fn(&Tensor, Mode) -> Result<Tensor>>;

/// A model that is not this project's.
pub(crate) struct Foreign {
    pub(crate) name: &'static str,
    /// With adapters or without: what its own code does.
    pub(crate) build: fn(Option<&AdapterConfig>, VarBuilder) -> Result<Network>,
    pub(crate) input: fn() -> Tensor,
    /// Parts of it; adapters need not be among them.
    pub(crate) role_of: fn(&str) -> Role,
    /// Places of adapters, and the width of the tokens there.
    pub(crate) places: &'static [(&'static str, usize)],
}

impl Foreign {
    fn make(&self, store: &ParamStore, adapters: bool) -> Network {
        let config = adapters.then_some(&ADAPTER);
        let built = store.build(|vb| {
            Ok::<_, pad_adapter::Error>((self.build)(config, vb.to_dtype(DType::F64))?)
        });
        built.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Weights as a file of them would hold, none of them zero.
    pub(crate) fn weights(&self, salt: u64) -> Checkpoint {
        let store = ParamStore::scratch(&CPU, Key::new(salt));
        drop(self.make(&store, false));
        noisy(self.name, &store, salt)
    }

    /// The weights with adapters that act.
    fn with_adapters(&self, salt: u64) -> Checkpoint {
        let store = ParamStore::from_checkpoint(self.weights(1), &CPU, Key::new(salt))
            .with_fresh(Role::is_adapter);
        drop(self.make(&store, true));
        let mut all = self.weights(1);
        for (name, tensor) in noisy("", &store, salt).tensors() {
            if all.get(name).is_none() {
                all.insert(name.clone(), tensor.clone());
            }
        }
        all
    }

    /// A store on `weights` whose adapters train.
    fn store(&self, weights: Checkpoint) -> ParamStore {
        ParamStore::from_checkpoint(weights, &CPU, Key::new(7))
            .with_roles(self.role_of)
            .with_trained(Role::is_adapter)
    }

    pub(crate) fn check(&self) {
        self.fresh_adapters_change_nothing();
        self.gradients_equal_differences();
        self.files_know_their_backbone(false);
        self.files_know_their_backbone(true);
        self.unknown_names_are_no_heads();
    }

    fn fresh_adapters_change_nothing(&self) {
        let plain = self.make(&self.store(self.weights(1)), false);
        let store = self.store(self.weights(1)).with_fresh(Role::is_adapter);
        let adapted = self.make(&store, true);
        let input = (self.input)();
        let want = plain(&input, Mode::Eval).unwrap();
        close(self.name, &adapted(&input, Mode::Eval).unwrap(), &want, 1e-14);
        let counts = self.places.iter().map(|&(_, dim)| ADAPTER.parameter_count(dim));
        let summary = store.summary();
        assert_eq!(summary.trained, counts.sum::<usize>(), "{}: {summary}", self.name);
        assert_eq!(summary.unplanned, None, "{}", self.name);
        // Adapters that act do change it, and dropout acts in training alone.
        let acting = self.make(&self.store(self.with_adapters(3)), true);
        let with = acting(&input, Mode::Eval).unwrap();
        assert!(pad_testkit::relative_difference(&with, &want) > 1e-3, "{}", self.name);
        let trained = acting(&input, Mode::Train(Key::new(1))).unwrap();
        assert!(pad_testkit::relative_difference(&trained, &with) > 1e-6, "{}", self.name);
    }

    /// Slopes of the loss along directions of every tensor of every adapter.
    fn gradients_equal_differences(&self) {
        let store = self.store(self.with_adapters(3));
        let network = self.make(&store, true);
        let input = (self.input)();
        let probe = numbers(network(&input, Mode::Eval).unwrap().dims(), DType::F64, 99);
        let loss = || {
            let out = network(&input, Mode::Eval).unwrap();
            (out * &probe).unwrap().sum_all().unwrap()
        };
        let gradients = loss().backward().unwrap();
        let planned = store.planned();
        assert_eq!(planned.len(), 7 * self.places.len());
        for (salt, one) in planned.iter().enumerate() {
            let start = one.var.copy().unwrap().detach();
            let Some(gradient) = gradients.get(&one.var) else {
                panic!("{}: `{}` has no gradient", self.name, one.name)
            };
            let direction = numbers(start.dims(), DType::F64, 50 + salt as u64);
            let number = |tensor: Result<Tensor>| {
                tensor.unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
            };
            let length = number(gradient.sqr()).sqrt();
            assert!(length > 1e-9, "{}: the gradient of `{}` is zero", self.name, one.name);
            let slope = number(gradient * &direction);
            let at = |step: f64| {
                one.var.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let step = 1e-6;
            let differences = (at(step) - at(-step)) / (2.0 * step);
            one.var.set(&start).unwrap();
            let off = (slope - differences).abs() / length;
            assert!(
                off < 1e-6,
                "{}: `{}`: backward {slope}, differences {differences}",
                self.name,
                one.name
            );
        }
    }

    /// With the model's roles, or with none given.
    fn files_know_their_backbone(&self, roles_are_given: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.safetensors");
        let with_roles = |weights: Checkpoint| match roles_are_given {
            true => self.store(weights),
            false => ParamStore::from_checkpoint(weights, &CPU, Key::new(7)),
        };
        let store = with_roles(self.with_adapters(3));
        let network = self.make(&store, true);
        save_adapter(&path, &store, ADAPTER, &BTreeMap::new()).unwrap();
        let file = AdapterFile::open(&path).unwrap();
        assert_eq!((file.adapter(), file.config(), file.has_head()), (Some(ADAPTER), None, false));
        let mut places: Vec<&str> = self.places.iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        assert_eq!(file.places(), places);

        let again = self.make(&with_roles(file.onto(self.weights(1)).unwrap()), true);
        let input = (self.input)();
        let want = network(&input, Mode::Eval).unwrap();
        // Files are in f32.
        close(self.name, &again(&input, Mode::Eval).unwrap(), &want, 1e-6);

        // Every tensor that is no head's counts.
        let own = self.weights(1);
        for (name, tensor) in own.tensors() {
            let mut other = self.weights(1);
            other.insert(name.clone(), (tensor + 1e-3).unwrap());
            let is_head = match roles_are_given {
                true => (self.role_of)(name) == Role::Head,
                false => Role::of(name) == Role::Head,
            };
            match file.onto(other) {
                Ok(_) => assert!(is_head, "{}: another `{name}` was accepted", self.name),
                Err(error) => {
                    assert!(!is_head, "{}: {error}", self.name);
                    let text = error.to_string();
                    let start = format!(
                        "{}: this adapter belongs to the backbone {}, found the backbone ",
                        path.display(),
                        &file.backbone_digest()[..12]
                    );
                    assert!(text.starts_with(&start) && !text.contains('\n'), "{text}");
                }
            }
        }
        let mut less = self.weights(1);
        let gone = own.names().find(|name| (self.role_of)(name) != Role::Head).unwrap();
        less.remove(gone);
        assert!(file.onto(less).is_err(), "{}: without `{gone}`", self.name);
        let line = file.onto(self.weights(2)).unwrap_err().to_string();
        println!("{}", line.replace(&path.display().to_string(), self.name));

        // The head goes along if requested.
        if !roles_are_given {
            return;
        }
        let contents = AdapterContents::from(ADAPTER).with_head(true);
        save_adapter(&path, &store, contents, &BTreeMap::new()).unwrap();
        let file = AdapterFile::open(&path).unwrap();
        assert!(file.has_head());
        let mut headless = self.weights(1);
        headless.retain(|name| (self.role_of)(name) != Role::Head);
        let again = self.make(&self.store(file.onto(headless).unwrap()), true);
        close(self.name, &again(&input, Mode::Eval).unwrap(), &want, 1e-6);
        assert!(!file.without_head().has_head());
    }

    /// A store without roles of its own: names that no rule knows are no heads.
    fn unknown_names_are_no_heads(&self) {
        let known = |store: &ParamStore| {
            let of = |wanted: Role| store.tensors(move |role| role == wanted).len();
            (of(Role::Head), of(Role::Other))
        };
        let build = |plan: fn(Role) -> bool| {
            let store = ParamStore::from_checkpoint(self.with_adapters(3), &CPU, Key::new(7))
                .with_trained(plan);
            drop(self.make(&store, true));
            store
        };
        let store = build(Role::is_adapter);
        let (heads, others) = known(&store);
        let named = self.weights(1).names().filter(|name| Role::of(name) == Role::Head).count();
        assert_eq!(heads, named, "{}", self.name);
        match (others, store.unplanned()) {
            (0, None) => {}
            (tensors, Some(unplanned)) => {
                assert_eq!((unplanned.tensors, unplanned.trained), (tensors, false));
                let all = build(|role| !role.is_adapter()).unplanned().unwrap();
                assert!(all.trained && all.values == unplanned.values);
                let text = store.summary().to_string();
                let start =
                    format!("the plan freezes all {tensors} tensors ({} values)", all.values);
                assert!(text.lines().last().unwrap().starts_with(&start), "{text}");
            }
            other => panic!("{}: {other:?}", self.name),
        }
        assert!(build(|_| true).unplanned().is_none() && build(|_| false).unplanned().is_none());
    }
}

/// The tensors of a store with noise on them.
fn noisy(name: &str, store: &ParamStore, salt: u64) -> Checkpoint {
    let tensors = store.tensors(|_| true).into_iter().enumerate().map(|(i, (name, tensor))| {
        let noise = numbers(tensor.dims(), DType::F64, 1000 * salt + i as u64);
        (name, (tensor + (noise * 0.3).unwrap()).unwrap())
    });
    Checkpoint::from_tensors(name, tensors.collect())
}

/// Attention of `heads` heads: q, k, v (B, N, D); `mask` (N, N) is added to the scores.
pub(crate) fn attend(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, n, d) = q.dims3()?;
    let split = |x: &Tensor| x.reshape((b, n, heads, d / heads))?.transpose(1, 2)?.contiguous();
    let scores =
        (split(q)?.matmul(&split(k)?.t()?.contiguous()?)? * (1.0 / ((d / heads) as f64).sqrt()))?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    let mixed = pad_ops::softmax(&scores)?.matmul(&split(v)?)?;
    mixed.transpose(1, 2)?.reshape((b, n, d))
}

/// Images (2, 3, 8, 8).
pub(crate) fn images() -> Tensor {
    numbers(&[2, 3, 8, 8], DType::F64, 5)
}
