#!/usr/bin/env bash
# CUDA's compilers on a machine without a GPU and without a CUDA installation, from the wheels that NVIDIA publishes on
# PyPI: 1.2 GB, about a minute. With it everything compiles and links; nothing runs, since the driver is a stand-in.
#
#   scripts/cuda-env.sh [FOLDER]           default: target/cuda
#   source FOLDER/env.sh                   CUDA_HOME, PATH, CUDA_COMPUTE_CAP, LIBRARY_PATH
#   cargo build --release --features cuda  10 to 20 minutes the first time: candle's kernels
#
# A type check needs none of this: see docs/gpu.md.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/target/cuda}
version=13.0.2
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ ! -x "$folder/venv/bin/pip" ]; then
    python3 -m venv "$folder/venv"
fi
"$folder/venv/bin/pip" install --quiet \
    "cuda-toolkit[nvcc,crt,nvvm,cudart,cccl,nvrtc,cublas,curand]==$version"
wheels=$(echo "$folder"/venv/lib/python3*/site-packages/nvidia/cu13)
[ -x "$wheels/bin/nvcc" ] || { echo "error: no nvcc in $wheels" >&2; exit 1; }

# The wheels' tree in the shape that build scripts look for.
home=$folder/home
rm -rf "$home"
mkdir -p "$home/lib64/stubs"
ln -s "$wheels/bin" "$wheels/include" "$wheels/nvvm" "$home/"
ln -s "$wheels/lib" "$home/lib"
ln -s "$wheels"/lib/* "$home/lib64/"
for library in cudart:13 cublas:13 cublasLt:13 curand:10 nvrtc:13; do
    ln -sf "lib${library%:*}.so.${library#*:}" "$home/lib64/lib${library%:*}.so"
done

# The driver's library comes with a GPU's driver; the linker needs its names only.
cargo fetch --quiet --manifest-path "$root/Cargo.toml"
sources=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-0.19.*/src/driver/sys/mod.rs | tail -1)
grep -oE 'fn cu[A-Za-z0-9_]+' "$sources" | sort -u | sed 's/fn \(.*\)/void \1(void) {}/' >"$folder/stub.c"
cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$home/lib64/stubs/libcuda.so" "$folder/stub.c"

cat >"$folder/env.sh" <<ENV
export CUDA_HOME='$home' CUDA_PATH='$home' CUDA_ROOT='$home'
export PATH='$home/bin':"\$PATH"
# PTX for 8.0 runs on every later GPU; CUDAFORGE_THREADS bounds the compiler processes.
export CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-80}" CUDAFORGE_THREADS="\${CUDAFORGE_THREADS:-1}"
export CUDARC_CUDA_VERSION=13000
export LIBRARY_PATH='$home/lib64:$home/lib64/stubs'"\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
export LD_LIBRARY_PATH='$home/lib64'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
ENV
"$home/bin/nvcc" --version | tail -2
echo "source $folder/env.sh"
