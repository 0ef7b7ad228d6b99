#!/usr/bin/env bash
# The table of docs/paradigms.md: every recipe of `pretrain`, small, with one budget for all, over several seeds.
#
#   DATA=scenes|FOLDER benches/paradigms.sh [OUT] [more flags of pretrain ...]
#
# SEEDS ("0 1 2"), EPOCHS (10), RECIPES (all), THREADS (all cores) and PAD (the command) may be set. Runs that are there already are not
# repeated. What is held out, its crops and its masks depend on the seed alone, so rows are compared within a seed.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/paradigms}
shift || true
pad=${PAD:-target/release/pad}
[ -x "$pad" ] || cargo build --release --quiet -p pad-ir-cli
mkdir -p "$out"
data=()
[ "${DATA:-scenes}" = scenes ] || data=(--data "$DATA")
epochs=${EPOCHS:-10}
recipes=${RECIPES:-scratch rgb-only full full-layer-decay fixed-scale per-layer-scale learnable-scale pad}

for seed in ${SEEDS:-0 1 2}; do
    for recipe in $recipes; do
        run=$out/$recipe-$seed
        [ -f "$run/summary.json" ] && continue
        rm -rf "${run:?}"
        # The small backbone of this repository in place of ViT-B, and steps that are worth something in a minute.
        weights=asset
        [ "$recipe" = scratch ] && weights=none
        model=auto
        [ "$recipe" = scratch ] && model=pico
        "$pad" pretrain --recipe "$recipe" "${data[@]}" --weights "$weights" --model "$model" --bottleneck 32 \
            --decoder-dim 128 --decoder-depth 2 --decoder-heads 4 --epochs "$epochs" --batch-size 32 --accumulate 1 \
            --blr "${BLR:-4e-3}" --warmup-epochs 2 --gate-frozen 0.4 --eval-every end --checkpoint-every 100000 --seed "$seed" \
            ${THREADS:+--threads "$THREADS"} --workers 1 --out "$run" "$@" >"$run.log" 2>&1 || { tail -1 "$run.log"; exit 1; }
        echo "$recipe, seed $seed: $(grep '^held-out' "$run.log")" >&2
    done
done

# One field of a summary.
number() { sed -n "s/^ *\"$2\": \([0-9.e-]*\),*$/\1/p" "$1/summary.json"; }
echo "| recipe | trained weights | before | after, by seed | mean | seconds | MiB at most |"
echo "|---|---|---|---|---|---|---|"
for recipe in $recipes; do
    for seed in ${SEEDS:-0 1 2}; do
        run=$out/$recipe-$seed
        echo "$(number "$run" trained) $(number "$run" held_out_before) $(number "$run" held_out_after)" \
            "$(number "$run" seconds) $(number "$run" peak_mib)"
    done | awk -v recipe="$recipe" '
        { trained = $1; before += $2; seeds = seeds sprintf(" %.4f", $3); sum += $3; squares += $3 * $3; seconds += $4
          if ($5 > memory) memory = $5 }
        END { mean = sum / NR; deviation = NR > 1 ? sqrt((squares - NR * mean * mean > 0 ? squares - NR * mean * mean : 0) / (NR - 1)) : 0
              printf "| %s | %d | %.4f |%s | %.4f ± %.4f | %.0f | %d |\n", recipe, trained, before / NR, seeds, mean, deviation, seconds / NR, memory }'
done
