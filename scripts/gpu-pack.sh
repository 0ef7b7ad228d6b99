#!/usr/bin/env bash
# Builds the checks of a GPU (gpu_check, gpu_step, train_step) on a machine without one, and packs them with the script that
# runs them into target/gpu/pad-gpu.tar.xz, for a machine without Rust and network.
#
#   scripts/gpu-pack.sh                  with CUDA: the compilers of scripts/cuda-env.sh (1.2 GB), 15 to 30 minutes
#   scripts/gpu-pack.sh --stand-in       without: the same programs for the CPU, to try the archive and the script
#
# CUDA_COMPUTE_CAP names the GPU (default 90: H100, H200). On the other machine:
#
#   python3 -m tarfile -e pad-gpu.tar.xz pad-gpu && OUT=results pad-gpu/gpu_lease.sh
#
# Fails if the archive is larger than 20 MiB or a program needs a newer glibc than 2.39 (Ubuntu 24.04).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
limit_mib=20
newest_glibc=2.39
stand_in=0
case "${1:-}" in
"") ;;
--stand-in) stand_in=1 ;;
*) echo "error: expected nothing or --stand-in, found $1" >&2; exit 2 ;;
esac

programs=(gpu_check gpu_step train_step)
flags=()
for program in "${programs[@]}"; do flags+=(--bench "$program"); done
if [ $stand_in = 1 ]; then
    # The development profile: what is tried is the archive, not the speed.
    build=("${CARGO:-cargo}" test --locked --no-run -p pad-ir "${flags[@]}")
else
    scripts/cuda-env.sh "$target/cuda"
    # Not before `source`, which would undo it: the build script of candle's kernels reads it too.
    export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
    # shellcheck disable=SC1091
    source "$target/cuda/env.sh"
    build=("${CARGO:-cargo}" bench --locked --no-run -p pad-ir --features cuda "${flags[@]}")
fi
folder=$target/gpu
[ $stand_in = 0 ] || folder=$target/gpu-stand-in
rm -rf "$folder/pad-gpu"
mkdir -p "$folder/pad-gpu"
messages=$folder/build.json
"${build[@]}" --message-format=json-render-diagnostics >"$messages"

for program in "${programs[@]}"; do
    built=$(python3 - "$messages" "$program" <<'PYTHON'
import json, sys

found = None
for line in open(sys.argv[1]):
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message["target"]["name"] == sys.argv[2]:
        found = message.get("executable") or found
print(found or "")
PYTHON
    )
    [ -n "$built" ] || { echo "error: cargo built no $program" >&2; exit 1; }
    strip -o "$folder/pad-gpu/$program" "$built"
    needs=$(objdump -T "$folder/pad-gpu/$program" | grep -oE 'GLIBC_[0-9.]+' | sed 's/GLIBC_//' | sort -uV | tail -1)
    if [ "$(printf '%s\n' "$needs" "$newest_glibc" | sort -V | tail -1)" != "$newest_glibc" ]; then
        echo "error: $program needs glibc $needs, expected at most $newest_glibc" >&2
        exit 1
    fi
    echo "$program: $(du -k "$folder/pad-gpu/$program" | cut -f1) KiB, glibc $needs"
done
cp benches/gpu_lease.sh benches/peers/pad_mae_torch.py "$folder/pad-gpu/"
{
    git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown
    [ $stand_in = 0 ] && echo "cuda ${CUDA_COMPUTE_CAP:-90}" || echo "stand-in"
} >"$folder/pad-gpu/BUILT"
archive=$folder/pad-gpu.tar.xz
# One dictionary over all programs: they share most of their code.
tar -C "$folder/pad-gpu" --owner=0 --group=0 --sort=name -cf - . | xz -T1 -6 --lzma2=preset=6,dict=128MiB >"$archive"
size=$(stat -c %s "$archive")
echo "$archive: $(((size + 1048575) / 1048576)) MiB ($size bytes)"
if [ "$size" -gt $((limit_mib << 20)) ]; then
    echo "error: the archive has more than $limit_mib MiB" >&2
    exit 1
fi
