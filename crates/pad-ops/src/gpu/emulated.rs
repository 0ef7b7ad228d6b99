//! Kernels as a program for the CPU, for tests: the same source, compiled as C++, fed with the same
//! launch.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use candle_core::{CpuStorage, DType, Layout, Result, backend::BackendStorage, bail};
use half::bf16;

use super::launch::{BLOCK, Key, Launch, Number};

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static LAUNCHES: Cell<usize> = const { Cell::new(0) };
    static RUN: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// The kernels that this thread has run.
pub(super) fn kernels_run() -> BTreeSet<&'static str> {
    RUN.with_borrow(BTreeSet::clone)
}

/// Launches of this thread so far.
pub(super) fn launches() -> usize {
    LAUNCHES.get()
}

pub(super) fn is_on() -> bool {
    ON.get()
}

/// Whether there is a C++ compiler.
pub(crate) fn has_compiler() -> bool {
    Command::new("c++").arg("--version").output().is_ok_and(|found| found.status.success())
}

/// Runs `work` with operators that have a GPU kernel going through it, on tensors of the CPU.
pub(crate) fn through<R>(work: impl FnOnce() -> R) -> R {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(false);
        }
    }
    let _off = Off;
    ON.set(true);
    work()
}

/// The program of a source and type of values, compiled if it is not there yet.
fn program(launch: &Launch) -> Result<PathBuf> {
    static COMPILED: Mutex<Option<HashMap<Key, PathBuf>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = compiled.get_or_insert_with(HashMap::new);
    let key = launch.key();
    if let Some(path) = compiled.get(&key) {
        return Ok(path.clone());
    }
    let text = launch.text()?;
    let names = text.split("__global__ void ").skip(1).filter_map(|rest| rest.split('(').next());
    let entries: String = names.map(|name| format!("{{\"{name}\", entry<{name}>}}, ")).collect();
    let main = include_str!("emulated.cpp").replace("KERNELS", &entries);
    let mut hash = DefaultHasher::new();
    (&text, &main).hash(&mut hash);
    let stem = format!("{}-{}-{:016x}", launch.source.name, launch.values.as_str(), hash.finish());
    let folder = std::env::current_exe()?.with_file_name("kernels").join(stem);
    let (path, parts) = (folder.join("program"), folder.join(std::process::id().to_string()));
    if !path.is_file() {
        fs::create_dir_all(&parts)?;
        fs::write(parts.join("kernel.inc"), &text)?;
        fs::write(parts.join("main.cpp"), main)?;
        let made = Command::new("c++")
            .args(["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-fno-strict-aliasing"])
            .args(["main.cpp", "-o", "program"])
            .current_dir(&parts)
            .output()?;
        if !made.status.success() {
            bail!("{}: {}", launch.source.name, String::from_utf8_lossy(&made.stderr));
        }
        fs::rename(parts.join("program"), &path)?;
        fs::remove_dir_all(&parts)?;
    }
    compiled.insert(key, path.clone());
    Ok(path)
}

fn bytes_of(storage: &CpuStorage, layout: &Layout) -> Result<Vec<u8>> {
    let Some((from, to)) = layout.contiguous_offsets() else { bail!("not contiguous") };
    Ok(match storage {
        CpuStorage::F32(values) => values[from..to].iter().flat_map(|v| v.to_le_bytes()).collect(),
        CpuStorage::BF16(values) => values[from..to].iter().flat_map(|v| v.to_le_bytes()).collect(),
        CpuStorage::U32(values) => values[from..to].iter().flat_map(|v| v.to_le_bytes()).collect(),
        CpuStorage::F64(values) => values[from..to].iter().flat_map(|v| v.to_le_bytes()).collect(),
        CpuStorage::U8(values) => values[from..to].to_vec(),
        other => bail!("a kernel takes no operands of {:?}", other.dtype()),
    })
}

/// What the program knows an argument as; see `emulated.cpp`.
#[derive(Clone, Copy)]
enum Kind {
    Array = 0,
    Number = 1,
    Absent = 2,
    Entry = 3,
    Table = 4,
}

/// `value`: bytes of a value of the array.
fn argument(kind: Kind, bytes: &[u8], value: usize) -> Vec<u8> {
    [&[kind as u8, value as u8][..], &(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// Where arrays lie, and in which order threads take turns.
#[derive(Clone, Copy)]
enum Order {
    /// Arrays end where memory ends.
    Forwards = 0,
    /// Arrays begin where memory begins, and all of them are aligned.
    Backwards = 1,
    /// Arrays end one value before memory does: no vector of four of an array that is made of them is
    /// aligned.
    Unaligned = 2,
}

fn execute(launch: &Launch, input: &[u8], order: Order) -> Result<Vec<u8>> {
    let mut child = Command::new(program(launch)?)
        .arg(launch.function)
        .args([launch.blocks, BLOCK, order as usize].map(|number| number.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let Some(mut stdin) = child.stdin.take() else { bail!("no stdin") };
    stdin.write_all(input)?;
    drop(stdin);
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!("{}: {}", launch.function, String::from_utf8_lossy(&done.stderr));
    }
    Ok(done.stdout)
}

fn numbers<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn storage_of(dtype: DType, bytes: &[u8]) -> Result<CpuStorage> {
    Ok(match dtype {
        DType::F32 => CpuStorage::F32(numbers(bytes).map(f32::from_le_bytes).collect()),
        DType::BF16 => CpuStorage::BF16(numbers(bytes).map(bf16::from_le_bytes).collect()),
        DType::F64 => CpuStorage::F64(numbers(bytes).map(f64::from_le_bytes).collect()),
        other => bail!("a kernel gives no results of {other:?}"),
    })
}

/// Outputs, and what the arrays of the table became.
pub(super) fn run(
    launch: &Launch,
    inputs: &[Option<(&CpuStorage, &Layout)>],
    table: &[Option<(&CpuStorage, &Layout)>],
) -> Result<[Vec<CpuStorage>; 2]> {
    LAUNCHES.set(LAUNCHES.get() + 1);
    let (mut input, mut read) = (Vec::new(), 0);
    for operand in inputs {
        match operand {
            Some((storage, layout)) => {
                let bytes = bytes_of(storage, layout)?;
                read += bytes.len();
                input.extend(argument(Kind::Array, &bytes, storage.dtype().size_in_bytes()));
            }
            None => input.extend(argument(Kind::Absent, &[], 0)),
        }
    }
    for entry in table {
        let bytes = entry.map_or(Ok(Vec::new()), |(storage, layout)| bytes_of(storage, layout))?;
        let value = entry.map_or(0, |(storage, _)| storage.dtype().size_in_bytes());
        input.extend(argument(Kind::Entry, &bytes, value));
    }
    if !table.is_empty() {
        input.extend(argument(Kind::Table, &[], 0));
    }
    for (dtype, shape) in launch.outputs() {
        match shape.elem_count() {
            0 => input.extend(argument(Kind::Absent, &[], 0)),
            // Values that no kernel writes: a NaN shows.
            count => {
                let value = dtype.size_in_bytes();
                input.extend(argument(Kind::Array, &vec![0xFF; count * value], value));
            }
        }
    }
    for number in &launch.numbers {
        let bytes = match number {
            Number::Int(number) => number.to_le_bytes().to_vec(),
            Number::Float(number) => number.to_le_bytes().to_vec(),
            Number::Double(number) => number.to_le_bytes().to_vec(),
        };
        input.extend(argument(Kind::Number, &bytes, 0));
    }
    let output = execute(launch, &input, Order::Forwards)?;
    // Threads that take turns the other way round give the same bits, unless one does not wait for
    // another.
    if output != execute(launch, &input, Order::Backwards)? {
        bail!("{}: the result hangs on the order of threads", launch.function);
    }
    if output != execute(launch, &input, Order::Unaligned)? {
        bail!("{}: the result hangs on where arrays begin", launch.function);
    }
    RUN.with_borrow_mut(|run| run.insert(launch.function));
    let mut rest = output.get(read..).unwrap_or_default();
    let mut take = |dtype: DType, count: usize| {
        let bytes = count * dtype.size_in_bytes();
        match rest.split_at_checked(bytes) {
            Some((taken, behind)) => {
                rest = behind;
                storage_of(dtype, taken)
            }
            None => bail!("{}: {} bytes came back", launch.function, output.len()),
        }
    };
    let changed = table.iter().flatten();
    let changed = changed
        .map(|(storage, layout)| take(storage.dtype(), layout.shape().elem_count()))
        .collect::<Result<_>>()?;
    let written = launch.outputs().filter(|(_, shape)| shape.elem_count() > 0);
    let made = written.map(|(dtype, shape)| take(*dtype, shape.elem_count()));
    let made = made.collect::<Result<_>>()?;
    if !rest.is_empty() {
        bail!("{}: {} bytes came back", launch.function, output.len());
    }
    Ok([made, changed])
}
