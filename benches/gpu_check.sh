#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: every operator against the CPU, then the PAD step (ViT-B, batch 256, bf16) beside PyTorch,
# with and without torch.compile.
#
#   benches/gpu_check.sh                 PYTHON names an interpreter with torch and numpy (default: python3)
#   BATCH=64 STEPS=20 benches/gpu_check.sh
#
# Ends with an error if an operator misses. nvcc must be in PATH, or CUDA_HOME set (docs/gpu.md).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v nvidia-smi >/dev/null || { echo "error: no nvidia-smi: a GPU and its driver are needed"; exit 1; }
python=${PYTHON:-python3}
batch=${BATCH:-256}
steps=${STEPS:-20}
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader

checked=0
cargo bench --quiet --features cuda --bench gpu_check || checked=1

flags="--model base --paradigm pad --batch $batch --dtype bf16 --steps $steps --device cuda"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
ours() { cargo bench --quiet --features cuda --bench train_step -- $flags --threads "$(nproc)" | tail -n 1; }
ours | tee -a "$out"
"$python" benches/peers/pad_mae_torch.py $flags | tee -a "$out"
"$python" benches/peers/pad_mae_torch.py $flags --compile | sed 's/"peer": "/&compiled /' | tee -a "$out"
# Once more, in the other order of warming up.
ours | tee -a "$out"
"$python" - "$out" <<'PYTHON'
import json, sys

rows = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
ours = max((row for row in rows if row["peer"] == "pad"), key=lambda row: row["images_per_s"])
print(f"{'who':<28}{'images/s':>10}{'MiB':>10}{'ours / theirs':>16}")
for row in rows:
    ratio = ours["images_per_s"] / row["images_per_s"]
    print(f"{row['peer']:<28}{row['images_per_s']:>10.1f}{row['peak_mib']:>10}{ratio:>16.2f}")
PYTHON
exit $checked
