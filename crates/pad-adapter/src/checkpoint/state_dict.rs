//! Where the weights lie in what `torch.save` wrote: the one dictionary of tensors, wherever it is.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::DType;
use pad_ops::text::shown;

use super::pickle_objects::{Id, Pickle};

/// The option that names a dictionary, in errors.
const OPTION: &str = "the option `key`";

/// How many dictionaries deep the weights may lie below the outermost one.
const DEPTH: usize = 3;

/// The most tensors of a file: each takes some memory of its own, however few values it has. The
/// largest published checkpoints have some thousands.
pub(super) const MAX_TENSORS: usize = 1 << 17;

/// What a tensor is made of: its storage, and its layout there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The storage.
    pub(super) key: &'a str,
    pub(super) dtype: DType,
    /// First element.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// A tensor of the state dictionary, or why it cannot be read.
pub(super) type Entry<'a> = Result<Place<'a>, String>;

/// The tensors of the weights in `pickle`: those under `wanted` (names of dictionaries, with dots
/// between them), or of the one dictionary with weights.
///
/// # Errors
/// A description of the fault: no tensor, several dictionaries with weights, no dictionary of that
/// name.
pub(super) fn find<'a>(
    pickle: &Pickle<'a>,
    wanted: Option<&str>,
) -> Result<BTreeMap<&'a str, Entry<'a>>, String> {
    let root = pickle.root();
    let (top, path) = match wanted {
        Some(wanted) => (descend(pickle, root, wanted)?, wanted),
        None => (root, ""),
    };
    let mut found = collect(pickle, top, path);
    // Random states, averages of losses and the like may lie beside it, at the top.
    found.retain(|candidate| !candidate.entries.keys().all(|name| is_of_training(name)));
    // A dictionary of a few tensors beside that of the weights (a queue, a centre, averages of the
    // loss) does not count.
    let most = found.iter().map(|candidate| candidate.entries.len()).max().unwrap_or(0);
    found.retain(|candidate| 4 * candidate.entries.len() > most);
    let mut kept: Vec<Candidate<'a>> = Vec::new();
    for candidate in found {
        // One dictionary under two keys.
        if !kept.iter().any(|other| other.entries == candidate.entries) {
            kept.push(candidate);
        }
    }
    match kept.len() {
        1 if most > MAX_TENSORS => Err(format!("{most} tensors, expected at most {MAX_TENSORS}")),
        1 => Ok(kept.swap_remove(0).entries),
        0 => Err(nothing(pickle, top, path)),
        count => {
            let names: Vec<String> = kept.iter().take(8).map(Candidate::describe).collect();
            Err(format!(
                "{count} dictionaries of weights: {}; expected {OPTION} with the name of one",
                names.join(", ")
            ))
        }
    }
}

/// A dictionary with tensors.
struct Candidate<'a> {
    /// Names of the dictionaries around it.
    path: String,
    entries: BTreeMap<&'a str, Entry<'a>>,
}

impl Candidate<'_> {
    fn describe(&self) -> String {
        let tensors = self.entries.len();
        match self.path.as_str() {
            "" => format!("the outermost ({tensors} tensors)"),
            path => format!("`{}` ({tensors} tensors)", shown(path)),
        }
    }
}

/// Dictionaries that training programs keep beside the weights, whatever they hold.
fn is_of_training(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let starts = ["optim", "lr_sched", "sched", "callbacks", "loops", "rng", "random_state"];
    let parts = ["scheduler", "scaler", "loss", "criterion", "optimizer"];
    let whole = ["opt", "args", "arg", "cfg", "config", "meta", "amp", "hparams"];
    starts.iter().any(|start| key.starts_with(start))
        || parts.iter().any(|part| key.contains(part))
        || whole.contains(&key.as_str())
        || key.starts_with("hyper_parameters")
        || key == "message_hub"
}

/// The dictionaries with tensors at `top` and up to [`DEPTH`] levels below it, each once, however
/// often it is named.
fn collect<'a>(pickle: &Pickle<'a>, top: Id, path: &str) -> Vec<Candidate<'a>> {
    /// Of a file with more dictionaries of tensors than this the error lists no further ones.
    const MAX_FOUND: usize = 64;
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([top]);
    // A list or tuple at the top: the weights and what was saved with them.
    let mut level = match pickle.sequence(top).filter(|_| path.is_empty()) {
        Some(members) => {
            let members = members.iter().enumerate().take(MAX_FOUND);
            let dicts = members.filter(|(_, id)| pickle.is_dict(**id) && seen.insert(**id));
            dicts.map(|(at, &id)| (at.to_string(), id)).collect()
        }
        None => vec![(path.to_string(), top)],
    };
    for _ in 0..=DEPTH {
        let mut below = Vec::new();
        for (path, id) in level {
            let all = pickle.entries(id);
            let entries: BTreeMap<&str, Entry> = all
                .iter()
                .filter_map(|(name, id)| Some((*name, entry(pickle, *id)?)))
                .take(MAX_TENSORS + 1) // one too many is an error
                .collect();
            for (name, id) in all {
                if pickle.is_dict(id) && !is_of_training(name) && seen.insert(id) {
                    let name = shown(name);
                    below.push((
                        if path.is_empty() { name.to_string() } else { format!("{path}.{name}") },
                        id,
                    ));
                }
            }
            if !entries.is_empty() && found.len() < MAX_FOUND {
                found.push(Candidate { path, entries });
            }
        }
        level = below;
    }
    found
}

/// The dictionary that the names in `wanted` lead to. A name may have dots of its own.
fn descend(pickle: &Pickle<'_>, id: Id, wanted: &str) -> Result<Id, String> {
    if let (Some(members), Ok(at)) = (pickle.sequence(id), wanted.parse::<usize>()) {
        let found = members.get(at).copied().filter(|&id| pickle.is_dict(id));
        return found.ok_or_else(|| format!("`{at}` is not a dictionary of tensors"));
    }
    let entries = pickle.entries(id);
    if let Some(&found) = entries.get(wanted) {
        return match pickle.is_dict(found) {
            true => Ok(found),
            false => Err(format!("`{}` is not a dictionary of tensors", shown(wanted))),
        };
    }
    let split = wanted.match_indices('.').find_map(|(at, _)| {
        let below = *entries.get(&wanted[..at])?;
        pickle.is_dict(below).then_some((below, &wanted[at + 1..]))
    });
    match split {
        Some((below, rest)) => descend(pickle, below, rest),
        None => Err(format!("no key `{}`; {}", shown(wanted), keys(pickle, id))),
    }
}

/// The error for a file without weights.
fn nothing(pickle: &Pickle<'_>, top: Id, path: &str) -> String {
    let place = match path {
        "" => "in the file".to_string(),
        path => format!("under `{}`", shown(path)),
    };
    format!("no dictionary of tensors {place}; {}", keys(pickle, top))
}

fn keys(pickle: &Pickle<'_>, id: Id) -> String {
    let keys = pickle.entries(id).into_keys().take(12).map(|key| shown(key).to_string());
    let keys: Vec<String> = keys.collect();
    format!("keys there: {}", if keys.is_empty() { "none".into() } else { keys.join(", ") })
}

/// The tensor that `id` is or wraps; `None` for anything else.
fn entry<'a>(pickle: &Pickle<'a>, mut id: Id) -> Option<Entry<'a>> {
    // A parameter wraps its tensor, a subclass wraps the call: a few layers at most.
    for _ in 0..4 {
        let (callable, arguments) = pickle.call(id)?;
        let (module, name) = pickle.global(callable)?;
        let members = pickle.sequence(arguments)?;
        match (module, name) {
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter" | "Buffer") => id = *members.first()?,
            ("torch._tensor", "_rebuild_from_type_v2") => {
                let &[callable, _, arguments, ..] = members else { return None };
                let (module, name) = pickle.global(callable)?;
                return rebuilt(pickle, module, name, arguments);
            }
            _ => return rebuilt(pickle, module, name, arguments),
        }
    }
    None
}

/// The tensor of a call of one of PyTorch's functions that make tensors.
fn rebuilt<'a>(pickle: &Pickle<'a>, module: &str, name: &str, arguments: Id) -> Option<Entry<'a>> {
    if module != "torch._utils" {
        return None;
    }
    let members = pickle.sequence(arguments)?;
    Some(match name {
        "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" => {
            place(pickle, members, name.ends_with("v3"))
        }
        "_rebuild_sparse_tensor" => Err("a sparse tensor".into()),
        "_rebuild_qtensor" => Err("a quantised tensor".into()),
        "_rebuild_meta_tensor_no_storage" => Err("a tensor without values".into()),
        _ => return None,
    })
}

/// The layout that a call describes; `typed` for a storage without a type of its own.
fn place<'a>(pickle: &Pickle<'a>, members: &[Id], typed: bool) -> Entry<'a> {
    let damaged = || "its description is damaged".to_string();
    let &[storage, offset, shape, stride, ..] = members else { return Err(damaged()) };
    // ("storage", class, key, device, elements), of the first versions with a view of it behind.
    let facts = pickle.stored(storage).ok_or_else(damaged)?;
    let &[_, class, key, ..] = facts else { return Err(damaged()) };
    let (_, class) = pickle.global(class).ok_or_else(damaged)?;
    let dtype = if typed {
        // (.., requires_grad, hooks, dtype, metadata)
        let dtype = members.get(6).and_then(|&id| pickle.global(id));
        dtype_of(dtype.ok_or_else(damaged)?.1)?
    } else {
        dtype_of(class.strip_suffix("Storage").unwrap_or(class))?
    };
    let negated = members.get(if typed { 7 } else { 6 });
    if negated.is_some_and(|&id| !pickle.is_empty(id)) {
        return Err("a conjugated or negated view".into());
    }
    let shape = pickle.counts(shape).ok_or_else(damaged)?;
    let stride = pickle.counts(stride).ok_or_else(damaged)?;
    if shape.len() != stride.len() {
        return Err(damaged());
    }
    let key = pickle.text(key).ok_or_else(damaged)?;
    let mut offset = pickle.count(offset).ok_or_else(damaged)?;
    if let Some(&[_, start, _]) = facts.get(5).and_then(|&view| pickle.sequence(view)) {
        // A storage that is a part of another one, from an element on.
        let start = pickle.count(start).ok_or_else(damaged)?;
        offset = offset.checked_add(start).ok_or_else(damaged)?;
    }
    Ok(Place { key, dtype, offset, shape, stride })
}

/// The element type of a storage class (`Float`) or of a type by name (`float32`).
fn dtype_of(name: &str) -> Result<DType, String> {
    Ok(match name {
        "Float" | "float32" => DType::F32,
        "Double" | "float64" => DType::F64,
        "Half" | "float16" => DType::F16,
        "BFloat16" | "bfloat16" => DType::BF16,
        "float8_e4m3fn" => DType::F8E4M3,
        "Byte" | "Bool" | "uint8" | "bool" => DType::U8,
        "Short" | "int16" => DType::I16,
        "Int" | "int32" => DType::I32,
        "Long" | "int64" => DType::I64,
        "uint32" => DType::U32,
        other => return Err(format!("of the type {}", shown(other))),
    })
}
