//! Which vector instructions the kernels run with, found once at run time.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use crate::Error;

/// A set of vector instructions that some kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, CD, DQ, VL.
    Avx512,
    /// These and AVX512-BF16, the dot product of pairs of bf16.
    Avx512Bf16,
}

/// The levels by their names.
const NAMES: [(&str, Level); 4] = [
    ("portable", Level::Portable),
    ("avx2", Level::Avx2),
    ("avx512", Level::Avx512),
    ("avx512bf16", Level::Avx512Bf16),
];

/// The widest level that this processor has; `PAD_CPU=portable`, `PAD_CPU=avx2` or `PAD_CPU=avx512`
/// in the environment lowers it. Other values are reported by [`check_cpu_level`] and lower
/// nothing.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| found().min(highest().unwrap_or(Level::Avx512Bf16)))
}

/// The highest level that the environment allows.
fn highest() -> Result<Level, Error> {
    let Some(value) = std::env::var_os("PAD_CPU") else { return Ok(Level::Avx512Bf16) };
    let value = value.to_string_lossy();
    let known = NAMES.iter().find(|(name, _)| *name == value);
    known.map(|(_, level)| *level).ok_or_else(|| Error::UnknownName {
        what: "PAD_CPU",
        found: value.into_owned(),
        known: &["portable", "avx2", "avx512", "avx512bf16"],
    })
}

/// Returns whether a test can run code of `needed`; says that it is skipped if it cannot.
#[cfg(test)]
pub(crate) fn can_test(needed: Level) -> bool {
    if needed <= level() {
        return true;
    }
    let name = NAMES.iter().find(|(_, level)| *level == needed).map_or("", |(name, _)| name);
    let reason = match std::env::var_os("PAD_CPU") {
        Some(_) if needed <= found() => "PAD_CPU excludes it",
        _ => "this processor lacks it",
    };
    pad_testkit::skipped(name, reason);
    false
}

/// Checks the value of `PAD_CPU` in the environment, for the start of a program.
///
/// # Errors
/// [`Error::UnknownName`] for a value that names no level.
///
/// ```
/// // Without `PAD_CPU` the best level of the processor is taken; `PAD_CPU=sse9` would be an error.
/// assert_eq!(pad_ops::check_cpu_level().is_ok(), std::env::var_os("PAD_CPU").is_none_or(|level| {
///     ["portable", "avx2", "avx512", "avx512bf16"].iter().any(|known| level == *known)
/// }));
/// ```
pub fn check_cpu_level() -> Result<(), Error> {
    highest().map(|_| ())
}

#[cfg(target_arch = "x86_64")]
fn found() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512, is_x86_feature_detected!("avx512bf16")) {
        (true, true, true) => Level::Avx512Bf16,
        (true, true, false) => Level::Avx512,
        (true, false, _) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn found() -> Level {
    Level::Portable
}

/// Returns the vector instructions in use (`portable`, `avx2`, `avx512`, `avx512bf16`), for a log
/// line at the start of a program. On other architectures than x86-64 the compiler's own choice is
/// `portable` and vectorises too.
///
/// ```
/// assert!(["portable", "avx2", "avx512", "avx512bf16"].contains(&pad_ops::cpu_level()));
/// ```
pub fn cpu_level() -> &'static str {
    let name = NAMES.iter().find(|(_, other)| *other == level());
    name.map_or("portable", |(name, _)| name)
}

/// Compiles a function once for each [`Level`] and calls the widest that the processor has. Its
/// body, and what it calls in loops, must be `#[inline(always)]` functions over slices: anything
/// that is not inlined is compiled for the portable level (closures handed to iterators, above
/// all).
macro_rules! multiversioned {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident$(<$generic:ident: $bound:path>)?($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name$(<$generic: $bound>)?($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn portable$(<$generic: $bound>)?($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512$(<$generic: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                    portable($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2$(<$generic: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                    portable($($arg),*)
                }
                match $crate::cpu::level::level() {
                    $crate::cpu::level::Level::Avx512 | $crate::cpu::level::Level::Avx512Bf16 => {
                        // SAFETY: `level` found every instruction set that the function is compiled
                        // for.
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: as above.
                    $crate::cpu::level::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::level::Level::Portable => {}
                }
            }
            portable($($arg),*)
        }
    };
}
pub(crate) use multiversioned;

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests run at the level that is in use; the ones above it are reported.
    #[test]
    fn levels_that_are_not_tested_are_reported() {
        let missing = NAMES.iter().filter(|(_, other)| !can_test(*other));
        assert_eq!(missing.count(), NAMES.iter().filter(|(_, other)| *other > level()).count());
    }
}
