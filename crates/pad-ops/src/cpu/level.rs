//! Which vector instructions the kernels run with, found once at run time.

use std::sync::OnceLock;

use pulp::Arch;

/// The widest set that this processor has; `PAD_CPU=portable` in the environment asks for none.
fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| match std::env::var("PAD_CPU").as_deref() {
        Ok("portable") => Arch::Scalar,
        _ => Arch::new(),
    })
}

/// The vector instructions in use, for a log line at the start of a program.
pub fn cpu_level() -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        match arch() {
            Arch::V4(_) => return "avx512",
            Arch::V3(_) => return "avx2",
            _ => {}
        }
    }
    match arch() {
        Arch::Scalar => "portable",
        #[allow(unreachable_patterns)]
        _ => "vector",
    }
}

/// Runs a loop compiled once per instruction set. The closure must be inlined for that to help, so keep it a plain
/// loop over slices with `#[inline(always)]` callees.
#[inline(always)]
pub(crate) fn vectorized<R>(run: impl FnOnce() -> R) -> R {
    arch().dispatch(run)
}
