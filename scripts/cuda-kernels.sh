#!/usr/bin/env bash
# Compiles every kernel.cu to machine code for GPUs of compute capability 8.0 and 9.0, for f32 and bf16, with the nvcc of
# PATH (scripts/cuda-env.sh brings one), and says registers and spills. At run time NVRTC compiles the same sources.
set -euo pipefail
cd "$(dirname "$0")/../crates/pad-ops/src"
command -v nvcc >/dev/null || { echo "no nvcc in PATH: not run (scripts/cuda-env.sh brings one)"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for kernel in */kernel.cu; do
    name=${kernel%/*}
    for values in float bf16; do
        { cat gpu/prelude.cuh; echo "typedef $values T;"; cat "$kernel"; } >"$folder/$name.cu"
        for capability in 80 90; do
            nvcc --cubin -arch "sm_$capability" -Xptxas -v -o "$folder/out" "$folder/$name.cu" 2>"$folder/log" ||
                { cat "$folder/log"; exit 1; }
            if grep -qE "warning|[1-9][0-9]* bytes spill" "$folder/log"; then cat "$folder/log"; exit 1; fi
            registers=$(grep -oE 'Used [0-9]+ registers' "$folder/log" | grep -oE '[0-9]+' | sort -n | tail -1)
            echo "$name $values sm_$capability: $(grep -c 'Compiling entry' "$folder/log") kernels, at most $registers registers"
        done
    done
done
