#!/usr/bin/env bash
# `pad embed` on one file of every family and naming scheme, typed without any further flag: the command, and the first line
# that it prints or its error.
#
#   scripts/embed_backbones.sh IMAGES [GOLDEN]
#
# IMAGES is a folder with an image or more; GOLDEN a folder of small backbones (`tests/golden/backbones`). Wrong and ambiguous
# files come last. PAD is the command (`target/release/pad`).
set -euo pipefail
images=$(realpath "${1:?a folder of images}")
cd "$(dirname "$0")/.."
golden=${2:-tests/golden/backbones}
pad=${PAD:-target/release/pad}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

embed() { # WEIGHTS [FLAGS ...]
    echo "\$ pad embed IMAGES --weights ${1#"$work"/}${2:+ ${*:2}}"
    local said
    if said=$("$pad" -q embed "$images" --overwrite --out "$work/features.safetensors" --weights "$@" 2>&1); then
        echo "    ${said##*$'\n'}" | sed "s|$work/||"
    else
        echo "    ${said##*$'\n'}" | sed "s|$work/||g"
    fi
}

for entry in "$golden"/*/; do
    for file in "$entry"hf "$entry"original.safetensors "$entry"timm.safetensors; do
        [ -e "$file" ] && embed "$file"
    done
done

echo "# pooling layers of the file"
embed "$golden/siglip/hf" --pool head
embed "$golden/dinov3/hf" --pool head

echo "# wrong and ambiguous files"
printf 'hello' >"$work/text.safetensors"
embed "$work/text.safetensors"
head -c 3000 "$golden/dinov3/hf/model.safetensors" >"$work/cut.safetensors"
embed "$work/cut.safetensors"
embed "$golden/index.json"
embed "$golden/lora_hf"
embed "$work/absent.safetensors"
