#!/usr/bin/env bash
# Kills runs of the three trainers, resumes them, and compares what they leave with what a run leaves that nothing disturbed:
# result, best checkpoint, weights and moments of the last one, log. Random kills (SIGKILL) fall at any time of a run, up to
# four in one; chosen ones fall between two of its file operations, spread evenly over all of them.
#   scripts/kills.sh [RANDOM [CHOSEN [SEED]]]      numbers of kills over the three trainers: 200, 60
#   PAD=FILE scripts/kills.sh ..                   a program that was built with pad-ops/fault-injection
#   TRAINERS="segment detect" scripts/kills.sh ..  of these alone: a third of the kills each
set -euo pipefail
cd "$(dirname "$0")/.."
random=${1:-200} chosen=${2:-60} seed=${3:-$$}
RANDOM=$seed
ulimit -c 0 # a chosen kill is an abort
export RUST_LOG=warn
these=${TRAINERS:-}
[ -n "${these//[[:space:]]/}" ] || these="pretrain segment detect"
for trainer in $these; do
    case $trainer in
        pretrain | segment | detect) ;;
        *) echo "error: TRAINERS: expected pretrain, segment or detect, found \`$trainer\`" >&2; exit 2 ;;
    esac
done
unset PAD_FAIL_FILE_OPERATION
if [ -z "${PAD:-}" ]; then
    cargo build --locked --quiet -p pad-ir-cli -p pad-ops --features pad-ops/fault-injection
    PAD=${CARGO_TARGET_DIR:-target}/debug/pad
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

common="--preset=paper --batch-size=2 --workers=1 --threads=1 --checkpoint-every=2"
pretrain="pretrain $common --model=pico --paradigm=scratch --image-size=64 --scenes=14 --decoder-dim=32 --decoder-depth=1
    --epochs=2 --warmup-epochs=1 --accumulate=1 --held-out=0.2 --eval-every=1 --ema=0.9"
segment="segment train $common --weights=asset --crop-size=48 --base-scale=none --ratio=0.8,1.2 --head-channels=8
    --auxiliary-channels=4 --bottleneck=4 --max-steps=6 --eval-steps=3 --lr=1e-3 --scenes=6 --val-scenes=3 --scene-size=48,64"
detect="detect train $common --weights=none --model=pico --size=64 --attention-window=2 --drop-path=0 --pyramid-channels=16
    --head-dim=32 --proposals=50 --batch-size-per-image=32 --epochs=2 --warmup-steps=2 --scenes=6 --val-scenes=3"

# start TRAINER RUN: begins a run, or goes on with it; the program takes the place of the shell.
start() {
    local flags=${!1}
    if [ -f "$2/config.toml" ]; then
        local words=(${flags%%--*})
        exec "$PAD" "${words[@]}" --resume "$2" --resume-anyway >"$2.out" 2>&1
    fi
    exec "$PAD" $flags --out "$2" >"$2.out" 2>&1
}

# finish TRAINER RUN: undisturbed to its end.
finish() {
    if ! (start "$1" "$2"); then
        echo "error: $1: a killed run does not go on:" >&2
        tail -5 "$2.out" >&2
        exit 1
    fi
}

# left RUN: sums of what a run leaves, without times and speeds.
left() (
    cd "$1"
    # A run that was killed before its first checkpoint begins anew, beside the log of its beginning.
    ls -A . checkpoints | grep -vE '^summary-|\.old(-[0-9]+)?$'
    sha256sum ./*.safetensors checkpoints/best checkpoints/*/*.safetensors
    grep -E '"(best_step|steps)"' summary.json
    sed -E 's/,"train\/(images_per_s|seconds)":[^,}]*//g' log.jsonl
)

# compare TRAINER RUN WHAT
compare() {
    left "$folder/$1" >"$folder/want"
    left "$2" >"$folder/found"
    if ! diff "$folder/want" "$folder/found" >"$folder/differences"; then
        echo "error: $1, $3 (seed $seed): another result" >&2
        head -20 "$folder/differences" >&2
        exit 1
    fi
    rm -rf "$2" "$2.out"
}

# milliseconds of a run
duration() {
    local from=$(date +%s%3N)
    finish "$1" "$2"
    echo $(($(date +%s%3N) - from))
}

# operations TRAINER: number of file operations of a run, by bisection
operations() {
    local low=1 high=2 middle
    dies() { rm -rf "$folder/count"; ! (PAD_FAIL_FILE_OPERATION="$2!" start "$1" "$folder/count"); }
    while dies "$1" $high; do low=$high high=$((2 * high)); done
    while [ $((high - low)) -gt 1 ]; do
        middle=$(((low + high) / 2))
        if dies "$1" $middle; then low=$middle; else high=$middle; fi
    done
    rm -rf "$folder/count" "$folder/count.out"
    echo "$low"
}

for number in 0 1 2; do
    trainers=(pretrain segment detect)
    trainer=${trainers[$number]}
    [[ " $(echo $these) " == *" $trainer "* ]] || continue
    duration "$trainer" "$folder/$trainer" >/dev/null # and once more, with files in the system's cache
    run=$folder/run
    length=$(duration "$trainer" "$run")
    compare "$trainer" "$run" "undisturbed"
    wanted=$(((random + 2 - number) / 3)) kills=0 runs=0
    while [ $kills -lt $wanted ]; do
        for _ in 1 2 3 4; do
            [ $kills -lt $wanted ] || break
            (start "$trainer" "$run") &
            child=$!
            at=$((RANDOM * length / 32768))
            sleep "$((at / 1000)).$(printf '%03d' $((at % 1000)))"
            kill -KILL $child 2>/dev/null || true
            status=0
            wait $child 2>/dev/null || status=$?
            case $status in
                137) kills=$((kills + 1)) ;;
                0) break ;; # it was faster
                *) echo "error: $trainer: exit status $status" >&2; tail -5 "$run.out" >&2; exit 1 ;;
            esac
        done
        finish "$trainer" "$run"
        runs=$((runs + 1))
        compare "$trainer" "$run" "killed at random"
    done
    all=$(operations "$trainer")
    wanted=$(((chosen + 2 - number) / 3))
    for ((i = 0; i < wanted; i++)); do
        operation=$((1 + (wanted > 1 ? i * (all - 1) / (wanted - 1) : 0)))
        status=0
        (PAD_FAIL_FILE_OPERATION="$operation!" start "$trainer" "$run") || status=$?
        if [ $status != 134 ]; then
            echo "error: $trainer: exit status $status at operation $operation of $all" >&2
            tail -5 "$run.out" >&2
            exit 1
        fi
        finish "$trainer" "$run"
        compare "$trainer" "$run" "killed at operation $operation of $all"
    done
    echo "$trainer: $kills random kills in $runs runs of $length ms, $wanted chosen ones of $all file operations: same bits"
done
