#!/bin/sh
# The table of docs/detection.md: what pre-training is worth to a small detector, with one small budget for all.
#
#   DATA=path/to/HIT-UAV INFRARED=path/to/unlabelled [DINO=path/to/dinov2_vits14.safetensors] benches/detection_table.sh [OUT]
#
# DATA is a labelled set (FORMAT, hit-uav); INFRARED holds images for the pre-training; with DINO a detector stands on it once. SEEDS
# (0 1 2), EPOCHS (6) and THREADS (all cores) may be set. Runs that are there already are not repeated.
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/detection_table}
threads=${THREADS:-}
pad=${PAD:-target/release/pad}
[ -x "$pad" ] || cargo build --release -p pad-ir-cli
mkdir -p "$out"

# The same for all (the recipe `table`): crops of 448 from images at 1.1 to 1.3 times their size (objects of 17 pixels are smaller than a patch), one
# image an update, evaluated at 800.
train() { # name, seed, flags
    name=$1-$2; seed=$2; shift 2
    [ -f "$out/$name/summary.json" ] && return
    rm -rf "${out:?}/$name"
    "$pad" detect train --recipe table --data "$DATA" --format "${FORMAT:-hit-uav}" --out "$out/$name" --seed "$seed" \
        --epochs "${EPOCHS:-6}" ${threads:+--threads "$threads"} "$@" >"$out/$name.txt" 2>&1
    rm -rf "$out/$name/checkpoints"
    echo "$name: $(grep '^   AP ' "$out/$name.txt") $(grep '^  AR1 ' "$out/$name.txt")"
}
pretrain() { # name, flags
    name=$1; shift
    [ -f "$out/$name/summary.json" ] && return
    rm -rf "${out:?}/$name"
    "$pad" pretrain --preset paper --data "$INFRARED" --out "$out/$name" --crop random --epochs 10 --batch-size 32 \
        --accumulate 1 --warmup-epochs 1 --image-size 128 --eval-every end --decoder-dim 128 --decoder-depth 2 --decoder-heads 4 --held-out 0.05 \
        ${threads:+--threads "$threads"} --workers 1 "$@" >"$out/$name.txt" 2>&1
    echo "$name: $(grep '^held-out' "$out/$name.txt")"
}

pretrain pretrain-full --paradigm full --blr 1e-3
pretrain pretrain-pad --paradigm pad --bottleneck 32 --blr 4e-3
for seed in ${SEEDS:-0 1 2}; do
    train scratch "$seed" --weights none --model pico
    train rgb-only "$seed" --weights asset --adapters none
    train full "$seed" --weights "$out/pretrain-full"
    train pad "$seed" --weights "$out/pretrain-pad"
done
if [ -n "${DINO:-}" ]; then
    train dino 0 --test-size 798 --normalize imagenet --weights "$DINO" \
        --model dinov2-small --adapters none --trained heads
fi
