"""Times Pillow and numpy on what `benches/loader.rs` times: decode, crop around a region of interest, bicubic to 224 x 224,
flip, float tensor, normalise.

    python loader_reference.py FOLDER

FOLDER holds NAME/thermal/* and NAME/roi/*.txt. One thread. Needs Pillow and numpy.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import math
import pathlib
import random
import sys
import time

import numpy
from PIL import Image

EPOCHS = 5
SIDE = 224
MEAN, STD = numpy.float32(0.3801), numpy.float32(0.1871)


def plain_crop(width, height):
    """A random part of 20% to 100% of the image, its aspect 3/4 to 4/3."""
    for _ in range(10):
        area = random.uniform(0.2, 1.0) * width * height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


def roi_crop(width, height, rois):
    """A part around a random region, moved and scaled."""
    large = random.random() > 0.85
    for _ in range(20 if rois else 0):
        x, y, w, h = random.choice(rois)
        cx = round(x + w / 2) + round(w * random.uniform(-0.4, 0.4))
        cy = round(y + h / 2) + round(h * random.uniform(-0.4, 0.4))
        w, h = max(60, w * random.uniform(0.7, 1.5)), max(60, h * random.uniform(0.7, 1.5))
        x1, x2 = max(0, round(cx - w / 2)), min(width - 1, round(cx + w / 2))
        y1, y2 = max(0, round(cy - h / 2)), min(height - 1, round(cy + h / 2))
        if x2 - x1 < 60 or y2 - y1 < 60:
            continue
        if large and (x2 - x1) * (y2 - y1) < 0.15 * width * height:
            continue
        return x1, y1, x2, y2
    return plain_crop(width, height)


def load(path, roi_path, out):
    image = Image.open(path).convert("RGB")
    rois = []
    if roi_path.exists():
        for line in roi_path.read_text().splitlines():
            rois.append([int(number) for number in line.split(",")])
    image = image.crop(roi_crop(image.width, image.height, rois))
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = numpy.asarray(image).transpose(2, 0, 1).astype(numpy.float32)
    values /= 255
    values -= MEAN
    values /= STD
    out[...] = values


def main():
    root = pathlib.Path(sys.argv[1])
    for source in sorted(path for path in root.iterdir() if (path / "thermal").is_dir()):
        paths = sorted((source / "thermal").iterdir())
        rois = [source / "roi" / (path.name.split(".")[0] + ".txt") for path in paths]
        best = 0.0
        for epoch in range(EPOCHS):
            random.seed(epoch)
            start = time.perf_counter()
            batch = numpy.empty((32, 3, SIDE, SIDE), numpy.float32)
            for place, (path, roi) in enumerate(zip(paths, rois)):
                if place % 32 == 0:
                    batch = numpy.empty((32, 3, SIDE, SIDE), numpy.float32)
                load(path, roi, batch[place % 32])
            best = max(best, len(paths) / (time.perf_counter() - start))
        print(
            f"loader {source.name:>8}: {best:7.0f} images/s ({len(paths)} images, one thread, "
            f"best of {EPOCHS})",
            flush=True,
        )


if __name__ == "__main__":
    main()
