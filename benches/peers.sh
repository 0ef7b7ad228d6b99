#!/bin/sh
# Training steps and embeddings beside PyTorch: the same work, in turn, three times; prints medians and ratios.
#
#   PYTHON=path/to/python benches/peers.sh [RUNS]
#
# PYTHON names an interpreter with torch and numpy. THREADS (2) and STEPS (5) may be set.
set -eu
cd "$(dirname "$0")/.."
runs=${1:-3}
python=${PYTHON:-python3}
threads=${THREADS:-2}
steps=${STEPS:-5}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

cargo bench --no-run --bench train_step
for run in $(seq "$runs"); do
    for work in "pad 16 f32" "pad 16 bf16" "full 16 f32" "full 16 bf16" "embed 1 f32" "embed 16 f32" "embed 16 bf16"; do
        set -- $work
        flags="--model base --paradigm $1 --batch $2 --dtype $3 --threads $threads --steps $steps"
        # OMP_NUM_THREADS is for PyTorch, RAYON_NUM_THREADS for ours: neither may take more than the other.
        RAYON_NUM_THREADS=$threads cargo bench --quiet --bench train_step -- $flags | tail -n 1 >>"$out"
        OMP_NUM_THREADS=$threads "$python" benches/peers/pad_mae_torch.py $flags >>"$out"
    done
    echo "run $run of $runs done" >&2
done
"$python" - "$out" <<'PYTHON'
import collections, json, statistics, sys

rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows[row["paradigm"], row["batch"], row["dtype"], row["peer"] == "pad"].append(row)
print(f"{'work':<16}{'ours img/s':>12}{'PyTorch':>10}{'ratio':>8}{'ours MiB':>10}{'PyTorch':>10}{'ratio':>8}")
for paradigm, batch, dtype in dict.fromkeys(key[:3] for key in rows):
    ours, theirs = (rows[paradigm, batch, dtype, mine] for mine in (True, False))
    median = lambda rows, name: statistics.median(row[name] for row in rows)
    speed, peer = median(ours, "images_per_s"), median(theirs, "images_per_s")
    memory, peer_memory = median(ours, "peak_mib"), median(theirs, "peak_mib")
    print(f"{paradigm + ' ' + str(batch) + ' ' + dtype:<16}{speed:>12.2f}{peer:>10.2f}{speed / peer:>8.2f}"
          f"{memory:>10.0f}{peer_memory:>10.0f}{memory / peer_memory:>8.2f}")
PYTHON
