#!/usr/bin/env bash
# What finds memory errors, undefined behaviour and hostile input, and licences: each where this machine has the tool, with the
# time it took; left out with the reason where it has not. None needs a network.
#   scripts/check-soundness.sh [SECONDS]     at most about SECONDS (default 900): later ones are left out, and fuzzing
#                                            takes what is there, up to a minute for each target
#   scripts/check-soundness.sh --all [FUZZ]  everything, FUZZ seconds for each fuzz target (default 60); for scripts/nightly.sh
set -euo pipefail
cd "$(dirname "$0")/.."
limit=900 fuzz=60 all=
if [ "${1:-}" = --all ]; then all=1 limit=1000000 fuzz=${2:-60}; else limit=${1:-900}; fi
out=${CARGO_TARGET_DIR:-$PWD/target}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

left_out() { echo "-- left out: $1: $2"; }
# Whether COMMAND.. runs here.
have() { "$@" >/dev/null 2>&1; }
# Whether there is time for what takes about $2 seconds where this machine has done nothing yet.
time_for() {
    [ $((SECONDS + $2)) -le "$limit" ] && return
    left_out "$1" "needs about $2 s, and $((limit > SECONDS ? limit - SECONDS : 0)) s are left; scripts/nightly.sh has it"
    return 1
}
# step NAME COMMAND..: its last lines if it fails, its time if it does not.
step() {
    local name=$1 from=$SECONDS
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -40 "$log"
        echo "error: $name failed: $*"
        exit 1
    fi
    echo "-- $name: $((SECONDS - from)) s$(grep -hE '^test result' "$log" | sed -E 's/^test result: ok\.( [0-9]+ passed).*/,\1/' | tr -d '\n')"
}

# Licences and sources of all dependencies; the test `tree` of pad-testkit checks licences with cargo alone.
if have cargo deny --version; then
    if cargo deny --version | grep -q . && ! cargo metadata --locked --offline --format-version 1 >/dev/null 2>&1; then
        left_out cargo-deny "crates of other systems are not on this machine, and it does not ask the network (cargo fetch)"
    else
        step "cargo-deny: licences, bans, sources" \
            cargo deny --locked --offline --log-level error check --hide-inclusion-graph licenses bans sources
    fi
else
    left_out cargo-deny "it is not installed (cargo install cargo-deny)"
fi

nightly=
have cargo +nightly --version && nightly=1
if [ -z "$nightly" ]; then
    for name in AddressSanitizer Miri "fuzz targets"; do left_out "$name" "needs a nightly toolchain"; done
    exit 0
fi

# Miri interprets: small tests only, no vector instructions, nothing of other languages.
if have cargo +nightly miri --version; then
    if time_for Miri 420; then
        export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-tree-borrows"
        export PROPTEST_CASES=4 RAYON_NUM_THREADS=2 PAD_CPU=portable CARGO_TARGET_DIR=$out/miri
        step "Miri: pad-ops" cargo +nightly miri test --locked --quiet -p pad-ops --lib -- \
            cpu::mat cpu::scratch cpu::bf16 rng text:: \
            --skip do_not_depend_on_threads --skip rounding_is --skip moments --skip products_are_those
        if [ -n "$all" ]; then
            step "Miri: pad-metrics" cargo +nightly miri test --locked --quiet -p pad-metrics --lib
        fi
        unset MIRIFLAGS PROPTEST_CASES RAYON_NUM_THREADS PAD_CPU CARGO_TARGET_DIR
    fi
else
    left_out Miri "it is not installed (rustup component add miri rust-src --toolchain nightly)"
fi

# Kernels, copies and buffers of pad-ops at every level of this processor, with their neighbours in memory poisoned.
host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
    x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu)
        if time_for AddressSanitizer 1080; then
            export RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$out/asan
            # Dependencies are half of the time where they are optimised as usual.
            quick="--config profile.dev.package.\"*\".opt-level=1"
            step "AddressSanitizer: pad-ops" cargo +nightly test --locked --quiet $quick -p pad-ops --target "$host" --lib
            if [ -n "$all" ]; then
                for level in portable avx2 avx512bf16; do
                    PAD_CPU=$level step "AddressSanitizer: pad-ops, PAD_CPU=$level" \
                        cargo +nightly test --locked --quiet $quick -p pad-ops --target "$host" --tests
                done
            fi
            unset RUSTFLAGS CARGO_TARGET_DIR
        fi
        ;;
    *) left_out AddressSanitizer "not on $host" ;;
esac

# Hostile input: every target, from its seeds.
if ! have cargo +nightly fuzz --version; then
    left_out "fuzz targets" "cargo-fuzz is not installed (cargo install cargo-fuzz)"
    exit 0
fi
targets=$(sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"/\1/p}' fuzz/Cargo.toml)
count=$(wc -w <<<"$targets")
if ! time_for "fuzz targets" $((240 + 5 * count / 2)); then exit 0; fi
seeds() {
    case $1 in
        jpeg | thermal_jpeg) echo tests/golden/data/jpeg ;;
        tiff) echo tests/golden/cases/I07 ;;
        pth) echo tests/golden/pth ;;
        safetensors) echo tests/golden/cases/C ;;
    esac
    [ ! -d "fuzz/seeds/$1" ] || echo "fuzz/seeds/$1"
}
one() {
    local corpus=$1/corpus/$2
    mkdir -p "$corpus"
    cargo +nightly fuzz run --target-dir "$1/fuzz" "$2" "$corpus" $(seeds "$2") -- \
        -max_total_time="$3" -rss_limit_mb=2048 -timeout=20 >"$1/fuzz-$2.log" 2>&1 ||
        { tail -30 "$1/fuzz-$2.log"; echo "error: fuzz target $2 failed (its input: fuzz/artifacts/$2)"; exit 255; }
    echo "   $2: $(grep -oE '^Done [0-9]+ runs' "$1/fuzz-$2.log" | tail -1)"
}
export -f one seeds
step "fuzz targets built" cargo +nightly fuzz build --target-dir "$out/fuzz"
jobs=$(nproc)
each=$fuzz
left=$(((limit - SECONDS) * jobs / count))
[ "$each" -le "$left" ] || each=$left
[ "$each" -gt 0 ] || { left_out "fuzz targets" "no time is left"; exit 0; }
from=$SECONDS
printf '%s\n' $targets | xargs -P "$jobs" -I{} bash -c "set -euo pipefail; one '$out' {} $each"
echo "-- $count fuzz targets, $each s each: $((SECONDS - from)) s"
