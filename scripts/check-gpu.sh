#!/usr/bin/env bash
# Type-checks the features for GPUs on a machine without any: cuda and nccl with a stand-in for NVIDIA's compiler, metal with
# Apple's frameworks left out. Kernels in CUDA C are compiled too where there is a real nvcc; the tests of pad-ops run them.
#   scripts/check-gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/cuda-kernels.sh
echo "-- cargo check --features cuda,nccl"
PATH=$PWD/scripts/cuda:$PATH CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000 \
    cargo check --locked --quiet -p pad-ops -p pad-ir --features pad-ir/nccl --lib --bench gpu_check --bench gpu_step --bench train_step
echo "-- cargo check --features metal"
scripts/metal-check.sh
