"""COCO's metrics by pycocotools, on files that the benchmark `detection` writes: numbers and seconds.

    coco_eval.py ANNOTATIONS RESULTS [--masks]     the twelve numbers, and the time of COCOeval (without reading files)
    coco_eval.py --make DIR [--images N]           outlines, crowds and jittered detections from a seed, and their numbers

The second makes what `tests/golden/detection/masks_*.json` hold.
"""

import argparse, contextlib, io, json, os, time

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def evaluate(annotations, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        found = json.load(open(results))
        if kind == "segm":
            # As detectron2 does: areas are then those of the masks.
            for one in found:
                one.pop("bbox", None)
        found = truth.loadRes(found)
        start = time.perf_counter()
        run = COCOeval(truth, found, kind)
        run.evaluate()
        run.accumulate()
        seconds = time.perf_counter() - start
        run.summarize()
    precision = run.eval["precision"]
    per_class = {}
    for place, category in enumerate(run.params.catIds):
        values = precision[:, :, place, 0, -1]
        values = values[values > -1]
        per_class[truth.cats[category]["name"]] = float(values.mean()) if values.size else None
    return [float(stat) for stat in run.stats], per_class, seconds


def outline(rng, centre, radius, corners):
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = radius * rng.uniform(0.4, 1.0, corners)
    x = centre[0] + radii * np.cos(angles)
    y = centre[1] + radii * np.sin(angles)
    return [round(float(v), 2) for v in np.stack([x, y], 1).reshape(-1)]


def make(folder, images):
    rng = np.random.default_rng(7)
    height, width = 160, 200
    truth = {
        "images": [{"id": 3 * i + 1, "file_name": f"{i}.png", "width": width, "height": height} for i in range(images)],
        "categories": [{"id": 2, "name": "person"}, {"id": 5, "name": "car"}, {"id": 9, "name": "nothing of it"}],
        "annotations": [],
    }
    results, fills = [], []
    for image in truth["images"]:
        for _ in range(int(rng.integers(0, 7))):
            parts = []
            centre = rng.uniform([-5, -5], [width + 5, height + 5])
            radius = float(rng.choice([6.0, 14.0, 40.0, 90.0])) * rng.uniform(0.7, 1.3)
            for _ in range(int(rng.integers(1, 4))):
                parts.append(outline(rng, centre + rng.normal(0, radius / 2, 2), radius, int(rng.integers(3, 12))))
            if rng.random() < 0.2:
                parts[0] += parts[0][:2]  # closed by its first corner
            runs = masks.merge(masks.frPyObjects(parts, height, width))
            area = float(masks.area(runs))
            if area == 0:
                continue
            fills.append({"size": [height, width], "polygons": parts, "counts": runs["counts"].decode(), "area": int(area)})
            crowd = rng.random() < 0.1
            segmentation = parts
            if crowd:
                flat = masks.decode(runs).flatten(order="F")
                edges = np.flatnonzero(np.diff(flat)) + 1
                counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
                segmentation = {"size": [height, width], "counts": ([0] if flat[0] else []) + counts}
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image["id"], "category_id": int(rng.choice([2, 5])),
                "bbox": [float(v) for v in masks.toBbox(runs)], "area": area, "iscrowd": int(crowd),
                "segmentation": segmentation,
            })
            for _ in range(int(rng.integers(0, 4))):
                moved = [(np.array(part) + rng.normal(0, radius / 12, len(part))).tolist() for part in parts]
                found = masks.merge(masks.frPyObjects(moved, height, width))
                if masks.area(found) == 0:
                    continue
                results.append({
                    "image_id": image["id"], "category_id": truth["annotations"][-1]["category_id"],
                    "bbox": [float(v) for v in masks.toBbox(found)], "score": round(float(rng.uniform(0.05, 1)), 2),
                    "segmentation": {"size": [height, width], "counts": found["counts"].decode()},
                })
    path = lambda name: os.path.join(folder, f"masks_{name}.json")
    json.dump(truth, open(path("gt"), "w"))
    json.dump(results, open(path("dt"), "w"))
    json.dump(fills, open(path("fills"), "w"))
    stats, per_class, _ = evaluate(path("gt"), path("dt"), "segm")
    boxes, _, _ = evaluate(path("gt"), path("dt"), "bbox")
    json.dump({"stats": stats, "per_class_AP": per_class, "box_stats": boxes}, open(path("expected"), "w"), indent=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*")
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--make")
    parser.add_argument("--images", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make, arguments.images)
    else:
        stats, _, seconds = evaluate(*arguments.files, "segm" if arguments.masks else "bbox")
        print(json.dumps({"stats": stats, "seconds": seconds}))
