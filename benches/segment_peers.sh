#!/bin/sh
# Segmentation beside PyTorch: training steps and sliding windows of the same network on the same sizes, in turn; prints
# medians, ratios and peak memory.
#
#   PYTHON=path/to/python benches/segment_peers.sh [RUNS]
#
# PYTHON names an interpreter with torch. THREADS (2), STEPS (3), MODEL (base), CROP (128) and BATCH (2) may be set.
set -eu
cd "$(dirname "$0")/.."
runs=${1:-1}
python=${PYTHON:-python3}
threads=${THREADS:-2}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

. benches/program.sh
bench=$(program segment)
for run in $(seq "$runs"); do
    for work in full frozen slide; do
        flags="--model ${MODEL:-base} --work $work --batch ${BATCH:-2} --crop ${CROP:-128} --threads $threads --steps ${STEPS:-3}"
        RAYON_NUM_THREADS=$threads "$bench" $flags | tail -n 1 >>"$out"
        OMP_NUM_THREADS=$threads "$python" benches/peers/upernet_torch.py $flags >>"$out"
    done
    echo "run $run of $runs done" >&2
done
"$python" - "$out" <<'PYTHON'
import collections, json, statistics, sys

rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows[row["work"], row["peer"] == "pad"].append(row)
ours = next(row for key, found in rows.items() if key[1] for row in found)
print(f"{ours['processor']}, level {ours['level']}, {ours['threads']} threads")
print(f"{'work':<8}{'ours s':>9}{'PyTorch':>9}{'speed':>8}{'ours MiB':>10}{'PyTorch':>9}{'memory':>8}")
for work in ("full", "frozen", "slide"):
    median = lambda mine, name: statistics.median(row[name] for row in rows[work, mine])
    ours, theirs = median(True, "seconds"), median(False, "seconds")
    memory, peer = median(True, "peak_mib"), median(False, "peak_mib")
    print(f"{work:<8}{ours:>9.3f}{theirs:>9.3f}{theirs / ours:>8.2f}{memory:>10.0f}{peer:>9.0f}{memory / peer:>8.2f}")
PYTHON
