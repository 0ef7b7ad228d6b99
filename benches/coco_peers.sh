#!/bin/sh
# COCO's metrics beside pycocotools: the same annotations and detections, the same numbers, and how much faster.
#
#   [PYTHON=path/to/python] [IMAGES=1000] benches/coco_peers.sh
#
# PYTHON has numpy and pycocotools. Without reading files, on both sides.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
. benches/program.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
peer=benches/peers/coco_eval.py
"$python" $peer --make "$folder" --images "${IMAGES:-1000}"
gt=$folder/masks_gt.json dt=$folder/masks_dt.json
"$(program coco)" "$gt" "$dt" >"$folder/ours"
"$python" $peer "$gt" "$dt" >"$folder/boxes"
"$python" $peer "$gt" "$dt" --masks >"$folder/masks"
"$python" - "$folder" <<'PY'
import json, sys
folder = sys.argv[1]
read = lambda name: [json.loads(line) for line in open(f"{folder}/{name}")]
for ours, name in zip(read("ours"), ["boxes", "masks"]):
    (peer,) = read(name)
    equal = "equal" if ours["stats"] == peer["stats"] else f"DIFFER: {ours['stats']} {peer['stats']}"
    print(f"{ours['work']}: {ours['ms']:.1f} ms, pycocotools {1e3 * peer['seconds']:.1f} ms, {1e3 * peer['seconds'] / ours['ms']:.0f} x; numbers {equal}")
PY
