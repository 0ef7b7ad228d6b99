#!/usr/bin/env bash
# Held-out losses of several paradigms over several seeds, same data and same number of steps.
#   scripts/paradigms.sh OUT [flags of pretrain ...]       e.g. scripts/paradigms.sh runs/table --data DIR --epochs 10
# PARADIGMS and SEEDS choose others than "pad decoder-only full" and "0 1 2".
set -euo pipefail
out=$1
shift
cargo build --release --quiet --example pretrain
mkdir -p "$out"
printf '%-14s %4s %10s %10s %10s %9s\n' paradigm seed before after trained images/s
for seed in ${SEEDS:-0 1 2}; do
    for paradigm in ${PARADIGMS:-pad decoder-only full}; do
        run=$out/$paradigm-$seed
        target/release/examples/pretrain "$@" --paradigm "$paradigm" --seed "$seed" --out "$run" >"$run.log" 2>&1 ||
            { tail -1 "$run.log"; exit 1; }
        number() { sed -n "s/^ *\"$1\": \([0-9.e-]*\),*$/\1/p" "$run/summary.json"; }
        printf '%-14s %4s %10.4f %10.4f %10d %9.1f\n' "$paradigm" "$seed" "$(number held_out_before)" \
            "$(number held_out_after)" "$(number trained)" "$(number images_per_s)"
    done
done
