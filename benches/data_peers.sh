#!/bin/sh
# Region search and loader beside their Python references, on the same images, one thread each, one after the other.
#
#   benches/data_peers.sh FOLDER [IMAGES]
#
# FOLDER holds JPEG or PNG images directly in it (e.g. infrared frames of 640 x 512); IMAGES (default 12) of them, evenly
# spaced, are used for the region search, ten times as many for the loader. PYTHON names an interpreter with Pillow and
# numpy; with selectivesearch==0.4 (scikit-image) too, the region search is compared. PAD_RUN is put before every measured
# command (e.g. a lock or `taskset -c 1`).
set -eu
folder=$(cd "$1" && pwd)
images=${2:-12}
python=${PYTHON:-python3}
run=${PAD_RUN:-}
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

. benches/program.sh
loader=$(program loader)
roi=$(program roi)
pad=${PAD:-target/release/pad}
[ -n "${PAD:-}" ] || cargo build --release -p pad-ir-cli

# The same frames as grey JPEG, RGB JPEG and grey PNG.
"$python" - "$folder" "$work/set" $((images * 10)) <<'PYTHON'
import pathlib, sys
from PIL import Image

folder, out, wanted = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
paths = paths[:: max(1, -(-len(paths) // wanted))]
for name, mode, suffix, options in (
    ("jpeg", "L", "jpg", {"quality": 95}),
    ("jpeg-rgb", "RGB", "jpg", {"quality": 95}),
    ("png", "L", "png", {}),
):
    thermal = out / name / "thermal"
    thermal.mkdir(parents=True)
    for path in paths:
        Image.open(path).convert(mode).save(thermal / f"{path.stem.split('.')[0]}.{suffix}", **options)
PYTHON
"$pad" roi "$work/set"

$run "$loader" "$work/set" | tee "$work/loader.ours"
$run "$python" benches/peers/loader_reference.py "$work/set" | tee "$work/loader.peer"
$run "$roi" "$folder" "$images" | tee "$work/roi.ours"
if "$python" -c "import selectivesearch" 2>/dev/null; then
    OMP_NUM_THREADS=1 $run "$python" benches/peers/roi_reference.py "$folder" "$images" | tee "$work/roi.peer"
else
    echo "region search: no selectivesearch for $python, not compared"
fi

"$python" - "$work" <<'PYTHON'
import pathlib, re, sys

work = pathlib.Path(sys.argv[1])

def numbers(name, pattern):
    path = work / name
    return {m[1]: float(m[2]) for m in re.finditer(pattern, path.read_text())} if path.exists() else {}

rate = r"loader +(\S+): +([0-9.]+) images/s"
ours, peer = numbers("loader.ours", rate), numbers("loader.peer", rate)
for name in sorted(ours.keys() & peer.keys()):
    print(f"ratio, loader {name}: {ours[name] / peer[name]:.1f} x per core")
mean = r" +(as it is): median +[0-9.]+ ms, mean +([0-9.]+) ms"
ours, peer = numbers("roi.ours", mean), numbers("roi.peer", mean)
for name in sorted(ours.keys() & peer.keys()):
    print(f"ratio, region search: {peer[name] / ours[name]:.0f} x per core")
PYTHON
