#!/usr/bin/env bash
# Compiles every kernel.cu to machine code for GPUs of compute capability 8.0 and 9.0, for f32 and bf16, with the nvcc of
# PATH (scripts/cuda-env.sh brings one), and says registers and spills. At run time NVRTC compiles the same sources.
set -euo pipefail
cd "$(dirname "$0")/../crates/pad-ops/src"
command -v nvcc >/dev/null || { echo "no nvcc in PATH: not run (scripts/cuda-env.sh brings one)"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# compile NAME STREAM VALUES "CONSTANT=VALUE.." FILE..: X is STREAM where it is not empty.
compile() {
    local name=$1 stream=$2 values=$3 constants=$4 constant capability registers
    shift 4
    {
        cat gpu/prelude.cuh
        echo "typedef $values T;"
        for constant in $constants; do echo "#define ${constant%=*} ${constant#*=}"; done
        [ -z "$stream" ] || echo "typedef $stream X;"
        cat "$@"
    } >"$folder/$name.cu"
    for capability in 80 90; do
        nvcc --cubin -arch "sm_$capability" -Xptxas -v -o "$folder/out" "$folder/$name.cu" 2>"$folder/log" ||
            { cat "$folder/log"; exit 1; }
        if grep -qE "warning|[1-9][0-9]* bytes spill" "$folder/log"; then cat "$folder/log"; exit 1; fi
        registers=$(grep -oE 'Used [0-9]+ registers' "$folder/log" | grep -oE '[0-9]+' | sort -n | tail -1)
        echo "$name ${stream:+$stream, }$values sm_$capability $constants:" \
            "$(grep -c 'Compiling entry' "$folder/log") kernels, at most $registers registers"
    done
}

# The heads of a ViT-B encoder (masked and whole), of its decoder, of ViT-H, and narrow ones; see `attention/device.rs`.
heads=(
    "HD=64 LANES=2 WIDTH=32 PITCH=36 GROUP=128 PER_BLOCK=2 TILE=32"
    "HD=64 LANES=2 WIDTH=32 PITCH=36 GROUP=256 PER_BLOCK=1 TILE=32"
    "HD=32 LANES=1 WIDTH=32 PITCH=32 GROUP=224 PER_BLOCK=1 TILE=32"
    "HD=80 LANES=4 WIDTH=20 PITCH=24 GROUP=224 PER_BLOCK=1 TILE=32"
    "HD=5 LANES=1 WIDTH=5 PITCH=5 GROUP=64 PER_BLOCK=4 TILE=32"
)
for kernel in */kernel.cu; do
    name=${kernel%/*}
    for values in float bf16; do
        case $name in
        adamw) compile "$name" "" "$values" "CHUNK=8192" "$kernel" ;;
        attention | branch)
            for stream in float bf16; do
                # Products are never wider than the stream.
                [ "$stream$values" != bf16float ] || continue
                if [ "$name" = branch ]; then
                    compile "$name" "$stream" "$values" "" gelu/kernel.cu dropout/kernel.cu "$kernel"
                    continue
                fi
                for sizes in "${heads[@]}"; do compile "$name" "$stream" "$values" "$sizes" "$kernel"; done
            done
            ;;
        *) compile "$name" "" "$values" "" "$kernel" ;;
        esac
    done
done
