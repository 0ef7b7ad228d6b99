#!/bin/sh
# The tables of docs/segmentation.md: what pre-training is worth on a labelled infrared set, with one small budget for all.
#
#   DATA=path/to/labelled INFRARED=path/to/unlabelled DINO=path/to/dinov2_vits14.safetensors benches/segment_table.sh [OUT]
#
# DATA is a folder with images/, masks/ and classes.toml; INFRARED holds images for the pre-training; without DINO the second
# table is left out. SEEDS (0 1 2), ITERATIONS (120) and THREADS (1) may be set. Runs that are there already are not repeated.
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/segment_table}
seeds=${SEEDS:-0 1 2}
threads=${THREADS:-1}
pad=${PAD:-target/release/pad}
[ -x "$pad" ] || cargo build --release -p pad-ir-cli
mkdir -p "$out"

# The same for all (the recipe `table`): images of 192 x 144, crops of 128 (126 for patches of 14), 8 images an update.
train() { # name, seed, flags
    name=$1-$2; seed=$2; shift 2
    [ -f "$out/$name/summary.json" ] && return
    rm -rf "${out:?}/$name"
    "$pad" segment train --recipe table --data "$DATA" --out "$out/$name" --seed "$seed" --crop-size "$crop" \
        --max-steps "${ITERATIONS:-120}" --layer-decay "$decay" --class-weights "${WEIGHTS:-1,4}" --threads "$threads" "$@" \
        >"$out/$name.txt" 2>&1
    rm -rf "$out/$name/checkpoints"
    echo "$name: $(grep '^mIoU' "$out/$name.txt")"
}
pretrain() { # name, flags
    name=$1; shift
    [ -f "$out/$name/summary.json" ] && return
    rm -rf "${out:?}/$name"
    "$pad" pretrain --preset paper --data "$INFRARED" --out "$out/$name" --crop random --epochs "$epochs" --batch-size 32 \
        --accumulate 1 --warmup-epochs 1 --image-size "$crop" --eval-every end --decoder-dim 128 --decoder-depth 2 --decoder-heads 4 \
        --held-out 0.05 --threads "$threads" --workers 1 "$@" >"$out/$name.txt" 2>&1
    echo "$name: $(grep '^held-out' "$out/$name.txt")"
}

crop=128 decay=0.8 epochs=${EPOCHS:-10}
pretrain pretrain-full --paradigm full --blr 1e-3
pretrain pretrain-pad --paradigm pad --bottleneck 32 --blr 4e-3
for seed in $seeds; do
    train scratch "$seed" --normalize msip --paradigm scratch
    train rgb-only "$seed" --normalize msip --paradigm rgb-only
    train full "$seed" --normalize msip --paradigm full --weights "$out/pretrain-full"
    train pad "$seed" --normalize msip --paradigm pad --weights "$out/pretrain-pad"
done
if [ -n "${DINO:-}" ]; then
    crop=126 decay=1 epochs=${DINO_EPOCHS:-3}
    pretrain pretrain-dino --weights "$DINO" --model dinov2-small --paradigm pad --bottleneck 32 \
        --normalize imagenet --blr 4e-3
    for seed in $seeds; do
        for head in linear uper; do
            frozen="--head $head --trained adapters-and-heads --normalize imagenet"
            train "random-$head" "$seed" $frozen --paradigm scratch --model dinov2-small
            train "dino-$head" "$seed" $frozen --paradigm rgb-only --weights "$DINO" --model dinov2-small
            train "dino-adapters-$head" "$seed" $frozen --paradigm pad --trained heads --weights "$out/pretrain-dino"
        done
    done
fi
"${PYTHON:-python3}" - "$out" <<'PYTHON'
import collections, glob, json, os, statistics, sys

rows = collections.defaultdict(list)
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*", "summary.json"))):
    summary = json.load(open(path))
    if "val" in summary:
        name = os.path.basename(os.path.dirname(path)).rpartition("-")[0]
        rows[name].append((summary["val"], summary["trained"]))
print(f"{'run':<24}{'seeds':>6}{'mIoU':>16}{'last class IoU':>17}{'trained':>12}")
for name, runs in rows.items():
    def cell(values):
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.2f}{spread}"
    mean = cell([100 * val["mean_iou"] for val, _ in runs])
    last = cell([100 * val["classes"][-1]["iou"] for val, _ in runs])
    print(f"{name:<24}{len(runs):>6}{mean:>16}{last:>17}{runs[0][1]:>12,}")
PYTHON
