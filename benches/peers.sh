#!/bin/sh
# Training steps and embeddings beside PyTorch: the same work, in turn, three times; prints the processor, medians and
# ratios.
#
#   PYTHON=path/to/python benches/peers.sh [RUNS]
#
# PYTHON names an interpreter with torch and numpy; with timm too, DINOv2 ViT-S/14 is compared. THREADS (2), STEPS (5) and
# WORKS (lines of "model paradigm batch dtype") may be set. `PAD_CPU=avx2` on a machine with AVX-512 is not a machine
# without it; where it is set, PyTorch is held to AVX2 as well.
set -eu
cd "$(dirname "$0")/.."
runs=${1:-3}
python=${PYTHON:-python3}
threads=${THREADS:-2}
steps=${STEPS:-5}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

. benches/program.sh
bench=$(program train_step)
if [ "${PAD_CPU:-}" = avx2 ]; then
    export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
fi
works=${WORKS:-"base pad 16 f32
base pad 16 bf16
base full 16 f32
base full 16 bf16
base embed 1 f32
base embed 16 f32
base embed 16 bf16"}
if [ -z "${WORKS:-}" ] && "$python" -c "import timm" 2>/dev/null; then
    works="$works
dinov2-small pad 16 f32
dinov2-small embed 16 f32"
fi
for run in $(seq "$runs"); do
    echo "$works" | while read -r model paradigm batch dtype; do
        flags="--model $model --paradigm $paradigm --batch $batch --dtype $dtype --threads $threads --steps $steps"
        # OMP_NUM_THREADS is for PyTorch, RAYON_NUM_THREADS for ours: neither may take more than the other.
        RAYON_NUM_THREADS=$threads "$bench" $flags </dev/null | tail -n 1 >>"$out"
        # Without the instruction PyTorch takes minutes for a step in bf16: nothing to compare with.
        if [ "$dtype" = f32 ] || grep -qw avx512_bf16 /proc/cpuinfo; then
            OMP_NUM_THREADS=$threads "$python" benches/peers/pad_mae_torch.py $flags </dev/null >>"$out"
        fi
    done
    echo "run $run of $runs done" >&2
done
"$python" - "$out" <<'PYTHON'
import collections, json, statistics, sys

rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows[row["model"], row["paradigm"], row["batch"], row["dtype"], row["peer"] == "pad"].append(row)
# Without bf16 instructions a work in it has no peer, and all may be such.
ours, theirs = (
    next((row for key, found in rows.items() if key[-1] == mine for row in found), None) for mine in (True, False)
)
peer = f"; {theirs['peer']}: {theirs['level']}" if theirs else "; no peer ran"
print(f"{ours['processor']}, {ours['threads']} threads; ours: level {ours['level']}{peer}")
print(f"{'work':<28}{'ours img/s':>12}{'PyTorch':>10}{'ratio':>8}{'ours MiB':>10}{'PyTorch':>10}{'ratio':>8}")
for work in dict.fromkeys(key[:4] for key in rows):
    ours, theirs = (rows[*work, mine] for mine in (True, False))
    median = lambda rows, name: statistics.median(row[name] for row in rows)
    speed, memory = median(ours, "images_per_s"), median(ours, "peak_mib")
    if not theirs:
        print(f"{' '.join(map(str, work)):<28}{speed:>12.2f}{'-':>10}{'-':>8}{memory:>10.0f}{'-':>10}{'-':>8}")
        continue
    peer, peer_memory = median(theirs, "images_per_s"), median(theirs, "peak_mib")
    print(f"{' '.join(map(str, work)):<28}{speed:>12.2f}{peer:>10.2f}{speed / peer:>8.2f}"
          f"{memory:>10.0f}{peer_memory:>10.0f}{memory / peer_memory:>8.2f}")
PYTHON
