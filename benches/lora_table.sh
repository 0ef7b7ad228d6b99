#!/usr/bin/env bash
# The table of docs/backbones.md: PAD's adapters beside LoRA with as many trained values, on a frozen DINOv2 ViT-S/14 and
# real infrared images, over several seeds: the loss on held-out images, and what the features are worth to nearest
# neighbours. Pixels are not normalised patch by patch: so short a run learns nothing of a patch's details.
#
#   WEIGHTS=dinov2_vits14.safetensors DATA=FOLDER LABELLED=FOLDER benches/lora_table.sh [OUT] [more flags of pad pretrain ...]
#
# DATA is a folder of infrared images (sources below it). LABELLED is HIT-UAV: `train/images` and `val/images`; the class of an
# image is the angle of the camera, which its name holds (day or night, altitude, angle, ..). SEEDS ("0 1 2"), STEPS
# (150), BLR (3e-2, for both better than 1e-1 after 60 updates), SIZE (168 pixels), BATCH (16), SOURCES (all), ROWS (all),
# THREADS (all cores) and PAD (the command) may be set. Runs that are there already are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/lora_table}
shift || true
pad=${PAD:-target/release/pad}
[ -x "$pad" ] || cargo build --release --quiet -p pad-ir-cli
: "${WEIGHTS:?the file of DINOv2 ViT-S/14}" "${DATA:?a folder of infrared images}" "${LABELLED:?the folder of HIT-UAV}"
size=${SIZE:-168}
mkdir -p "$out"

# One folder a class, of links.
classes=$out/classes
if [ ! -d "$classes" ]; then
    for split in train val; do
        for image in "$(realpath "$LABELLED")/$split/images"/*; do
            angle=$(basename "$image" | cut -d_ -f3)
            mkdir -p "$classes.part/$split/angle$angle"
            ln -sf "$image" "$classes.part/$split/angle$angle/"
        done
    done
    mv "$classes.part" "$classes"
fi

# Trained values of a block of ViT-S: 24,221; 24,192; 24,576.
flags() {
    case $1 in
        pad) echo --adapter pad --bottleneck 29 ;;
        lora) echo --adapter lora --lora-rank 7 --lora-targets query,value,fc1 ;;
        lora-qv) echo --adapter lora --lora-rank 16 --lora-targets query,value ;;
        *) echo "$1: expected pad, lora or lora-qv" >&2; return 1 ;;
    esac
}
rows=${ROWS:-pad lora lora-qv}

probe() { # WEIGHTS JSON
    [ -f "$2" ] || "$pad" probe "$classes" --weights "$1" ${3:+--model "$3"} --method knn --image-size "$size" \
        ${THREADS:+--threads "$THREADS"} --json "$2" >"$2.log" 2>&1 || { tail -1 "$2.log" >&2; exit 1; }
}
probe "$WEIGHTS" "$out/bare.json" dinov2-small

for seed in ${SEEDS:-0 1 2}; do
    for row in $rows; do
        run=$out/$row-$seed
        if [ ! -f "$run/summary.json" ]; then
            rm -rf "${run:?}"
            # shellcheck disable=SC2046
            "$pad" pretrain --preset small --data "$DATA" ${SOURCES:+--sources "$SOURCES"} --weights "$WEIGHTS" \
                --model dinov2-small --paradigm pad $(flags "$row") --image-size "$size" --decoder-dim 128 \
                --decoder-depth 2 --decoder-heads 4 --max-steps "${STEPS:-150}" --batch-size "${BATCH:-16}" --accumulate 1 \
                --norm-pix-loss false --blr "${BLR:-3e-2}" --warmup-steps "$((${STEPS:-150} / 10))" --gate-frozen 0.4 --eval-every end \
                --checkpoint-every 100000 --workers 1 --seed "$seed" ${THREADS:+--threads "$THREADS"} --out "$run" "$@" \
                >"$run.log" 2>&1 || { tail -1 "$run.log" >&2; exit 1; }
            echo "$row, seed $seed: $(grep '^held-out' "$run.log")" >&2
        fi
        probe "$run" "$run/knn.json"
    done
done

# One field of a file.
number() { sed -n "s/^ *\"$2\": \([0-9.e-]*\),*$/\1/p" "$1" | head -1; }
percent() { awk -v share="$1" 'BEGIN { printf "%.1f", 100 * share }'; }
echo "| adapters | trained values | held-out loss before | after, by seed | mean | k-NN, by seed (bare backbone $(percent "$(number "$out/bare.json" balanced_accuracy)")%) | mean | seconds | MiB at most |"
echo "|---|---|---|---|---|---|---|---|---|"
for row in $rows; do
    for seed in ${SEEDS:-0 1 2}; do
        run=$out/$row-$seed
        echo "$(number "$run/summary.json" trained) $(number "$run/summary.json" held_out_before)" \
            "$(number "$run/summary.json" held_out_after) $(number "$run/knn.json" balanced_accuracy)" \
            "$(number "$run/summary.json" seconds) $(number "$run/summary.json" peak_mib)"
    done | awk -v row="$row" '
        function spread(sum, squares) { left = squares - sum * sum / NR; return NR > 1 && left > 0 ? sqrt(left / (NR - 1)) : 0 }
        { trained = $1; before += $2; losses = losses sprintf(" %.4f", $3); sum += $3; squares += $3 * $3
          hit = 100 * $4; hits = hits sprintf(" %.1f", hit); right += hit; rights += hit * hit
          seconds += $5; if ($6 > memory) memory = $6 }
        END { printf "| %s | %d | %.4f |%s | %.4f ± %.4f |%s | %.1f ± %.1f | %.0f | %d |\n", row, trained, before / NR, losses,
                  sum / NR, spread(sum, squares), hits, right / NR, spread(right, rights), seconds / NR, memory }'
done
