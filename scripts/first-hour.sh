#!/usr/bin/env bash
# The first hour of a new user, from the packaged crates alone: what crates.io would serve is packed and unpacked in an
# empty folder, and then used as docs/guides says: an adapter in a ViT of one's own, the command `pad` built, pre-training
# on a folder of 16-bit PNGs, segmentation on a labelled folder, the weights read back in Python.
#   scripts/first-hour.sh [DIR]        DIR: the empty folder, outside of any cargo workspace (default: a temporary one)
# CARGO_TARGET_DIR is shared with the repository's builds. PYTHON names an interpreter (default: python3); without its
# module safetensors the last part is left out, and says so. CARGO_NET_OFFLINE=true works once the crates are there.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} CARGO_TERM_COLOR=never
case $CARGO_TARGET_DIR in /*) ;; *) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;; esac
hour=${1:-$(mktemp -d)}
mkdir -p "$hour"
hour=$(cd "$hour" && pwd)
scripts=$PWD/scripts
part() { printf '\n-- %s (%ss)\n' "$1" "$SECONDS"; }

part "packages"
rm -rf "$hour/packages" "$hour/own" "$hour/data" "$hour/runs"
mkdir -p "$hour/packages" "$hour/.cargo"
cargo package --workspace --exclude pad-testkit --no-verify --allow-dirty --quiet 2>/dev/null
for crate in pad-metrics pad-ops pad-ir-adapter pad-train pad-scenes pad-data pad-ssl pad-heads pad-ir pad-ir-cli; do
    archive=$(ls -t "$CARGO_TARGET_DIR/package/$crate"-[0-9]*.crate | head -1)
    # Not -p: files keep no date that is older than what was built from them before.
    tar xzmf "$archive" -C "$hour/packages"
    printf '%-16s %8d bytes, %3d files\n' "$crate" "$(wc -c <"$archive")" "$(tar tzf "$archive" | wc -l)"
done
# In place of the registry. The profile is what the guides advise: unoptimised tensors would take minutes.
{
    echo '[patch.crates-io]'
    for folder in "$hour"/packages/*; do
        name=$(basename "$folder")
        echo "${name%-*} = { path = \"$folder\" }"
    done
    printf '[profile.dev]\nopt-level = 1\ndebug = "line-tables-only"\n'
    printf '[profile.dev.package."*"]\nopt-level = 3\ndebug = false\n'
} >"$hour/.cargo/config.toml"

part "an adapter in one's own ViT"
cp -r "$scripts/first-hour" "$hour/own"
cp Cargo.lock "$hour/own/"
cd "$hour/own"
cargo run --quiet --bin own
cargo run --quiet --bin own_files -- "$hour/data"

part "the command pad"
cd "$hour/packages"/pad-ir-cli-[0-9]*
cargo build --quiet
pad=$CARGO_TARGET_DIR/debug/pad
"$pad" --version

cd "$hour"
part "pre-training on a folder of 16-bit PNGs"
"$pad" stats data/frames
"$pad" pretrain --data data/frames --epochs 2 --warmup-epochs 1 --batch-size 8 --image-size 96 --out runs/pretrain
ls runs/pretrain

part "segmentation on a labelled folder"
"$pad" segment train --data data/labelled --weights runs/pretrain --max-steps 20 --warmup-steps 2 --lr 1e-3 \
    --batch-size 4 --base-scale none --crop-size 96 --head-channels 32 --auxiliary-channels 16 --out runs/segment
ls runs/segment

part "the weights in Python"
python=${PYTHON:-python3}
if "$python" -c 'import numpy, safetensors' 2>/dev/null; then
    "$python" "$scripts/first-hour/read_back.py" runs/pretrain/adapter.safetensors
else
    echo "left out: $python has no module safetensors (pip install safetensors numpy)"
fi

part "done"
