"""Times the Python reference of the region search on the images that `benches/roi.rs` takes.

    python roi_reference.py [FOLDER] [IMAGES] [--grow] [--out FILE]

Needs selectivesearch==0.4 (with scikit-image) and Pillow; one thread. `--grow` adds the growth table,
`--out` writes each image's rectangles as JSON. Best of 3 calls, processor time.
"""

import argparse
import json
import pathlib
import statistics
import time
import warnings

import numpy
import selectivesearch
from PIL import Image

SIZES = [(160, 128), (320, 256), (640, 512), (1280, 1024)]
CALLS = 3


def rectangles(gray):
    """Regions of at least 600 pixels, 40 a side and an aspect of at most 3, sorted."""
    _, regions = selectivesearch.selective_search(
        numpy.dstack([gray] * 3), scale=600, sigma=0.9, min_size=30
    )
    kept = set()
    for region in regions:
        _, _, width, height = region["rect"]
        if region["size"] >= 600 and min(width, height) >= 40:
            if max(width, height) / min(width, height) <= 3:
                kept.add(tuple(int(number) for number in region["rect"]))
    return sorted(kept)


def measure(gray):
    best = float("inf")
    for _ in range(CALLS):
        start = time.process_time()
        found = rectangles(gray)
        best = min(best, time.process_time() - start)
    return best, found


def report(name, images):
    results = [measure(numpy.asarray(image)) for image in images]
    times = [seconds * 1e3 for seconds, _ in results]
    pixels = [image.width * image.height for image in images]
    print(
        f"{name:>10}: median {statistics.median(times):7.1f} ms, mean {statistics.mean(times):7.1f} ms, "
        f"{statistics.mean(t / n for t, n in zip(times, pixels)) * 1e6:6.0f} ns per pixel, "
        f"{statistics.mean(len(found) for _, found in results):5.1f} RoIs",
        flush=True,
    )
    return [found for _, found in results]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).parents[2] / "tests/golden/data/img"
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=default)
    parser.add_argument("images", nargs="?", type=int, default=20, help="how many, evenly spaced")
    parser.add_argument("--grow", action="store_true", help="also resized, as benches/roi.rs does")
    parser.add_argument("--out", type=pathlib.Path, help="file for the rectangles")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    paths = sorted(path for path in options.folder.iterdir() if path.suffix in (".png", ".jpg"))
    step = max(1, -(-len(paths) // max(1, options.images)))
    paths = paths[::step]
    images = [Image.open(path).convert("L") for path in paths]
    print(f"{len(images)} images of {options.folder}, one thread, best of {CALLS} calls")
    found = report("as it is", images)
    if options.out:
        options.out.write_text(
            json.dumps({path.name: rectangles for path, rectangles in zip(paths, found)})
        )
    if options.grow:
        for size in SIZES:
            resized = [image.resize(size, Image.Resampling.BICUBIC) for image in images]
            report(f"{size[0]}x{size[1]}", resized)


if __name__ == "__main__":
    main()
