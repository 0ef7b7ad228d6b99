#!/usr/bin/env bash
# The features and processors that the tests do not run: type-checked where the compiler and libraries for it are there,
# left out with the reason where they are not.
#   scripts/check-features.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo="cargo --locked"
check() { echo "-- cargo check $*"; $cargo check --quiet "$@"; }
left_out() { echo "-- left out: $1: $2"; }
target() { rustup target list --installed 2>/dev/null | grep -qx "$1"; }

check -p pad-ir --no-default-features
check -p pad-ir -p pad-ir-cli --features pad-ir/hub
check -p pad-metrics -p pad-ops -p pad-ir-adapter -p pad-train -p pad-scenes -p pad-data -p pad-ssl -p pad-heads --no-default-features

if command -v mpicc >/dev/null && ls /usr/lib/*/libclang*.so* /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1; then
    check -p pad-train --features mpi
    if command -v mpirun >/dev/null; then
        echo "-- cargo test -p pad-ir-cli --features mpi --test parallel"
        $cargo test --quiet -p pad-ir-cli --features mpi --test parallel 2>&1 | grep -E '^test result|^skipped|panicked'
    else
        left_out "processes over MPI" "needs mpirun"
    fi
else
    left_out mpi "needs mpicc and libclang"
fi

# A dependency compiles a C file, so a cross compiler is needed beside the target.
if target aarch64-unknown-linux-gnu && command -v aarch64-linux-gnu-gcc >/dev/null; then
    check -p pad-ir --target aarch64-unknown-linux-gnu
else
    left_out aarch64 "needs the target aarch64-unknown-linux-gnu and aarch64-linux-gnu-gcc"
fi

# Never the newest compiler alone: `rust-version` is what it says.
minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if rustup toolchain list 2>/dev/null | grep -q "^$minimum"; then
    echo "-- cargo +$minimum check -p pad-ir"
    rustup run "$(rustup toolchain list | sed -n "s/^\($minimum[^ ]*\).*/\1/p" | head -1)" \
        cargo --locked check --quiet -p pad-ir --target-dir "${CARGO_TARGET_DIR:-target}/minimum"
else
    left_out "Rust $minimum" "the toolchain is not installed"
fi

# The kernels of processors without AVX-512, and without vectors of a known width.
if [ "$(uname -m)" = x86_64 ]; then
    for level in avx2 portable; do
        echo "-- PAD_CPU=$level cargo test --workspace --test gradients --test dense"
        # Of the workspace, whose dependencies are built for its other tests.
        PAD_CPU=$level $cargo test --quiet --workspace --test gradients --test dense 2>&1 | grep '^test result'
    done
fi
