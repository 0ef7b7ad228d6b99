"""pycocotools' numbers of a set in HIT-UAV's own form, whose DontCare boxes are ignored.

    python benches/peers/ignored_regions.py --make tests/golden/cases/hit_uav_ap
    python benches/peers/ignored_regions.py --of normal_json/annotations/val.json OUT

The first writes `val.json` (annotations as the authors of HIT-UAV publish them), `results.json` (made detections) and
`expected.json`; the second makes detections for a published file. An ignored region is what COCO knows: a crowd of every
class.
"""

import argparse
import copy
import json
import random
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ["Person", "Car", "Bicycle", "OtherVehicle", "DontCare"]


def made(seed):
    """A small set: objects of four sizes and a few regions."""
    draw = random.Random(seed)
    images, annotations = [], []
    for number in range(12):
        images.append({"filename": f"{number}.png", "height": 512, "width": 640, "id": number})
        for _ in range(draw.randrange(0, 9)):
            region = draw.random() < 0.2
            side = draw.choice([12, 30, 70, 200])
            w, h = side + draw.randrange(12), side + draw.randrange(12)
            x, y = draw.randrange(640 - w), draw.randrange(512 - h)
            category = 4 if region else draw.choice([0, 0, 0, 1, 1, 2])
            annotations.append({
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                "area": w * h, "image_id": number, "bbox": [x, y, w, h],
                "category_id": category, "id": len(annotations),
            })
    categories = [{"supercategory": name, "id": i, "name": name} for i, name in enumerate(NAMES)]
    return {"images": images, "categories": categories, "annotation": annotations}


def detections(truth, seed):
    """Boxes near those of the truth, some inside regions, some of nothing."""
    draw = random.Random(seed)
    found = []
    for one in truth["annotation"]:
        x, y, w, h = one["bbox"]
        for _ in range(draw.randrange(0, 3)):
            shift = draw.choice([0.0, 0.05, 0.1, 0.3])
            box = [x + w * draw.uniform(-shift, shift), y + h * draw.uniform(-shift, shift),
                   w * draw.uniform(1 - shift, 1 + shift), h * draw.uniform(1 - shift, 1 + shift)]
            category = one["category_id"] if one["category_id"] < 4 else draw.randrange(4)
            if draw.random() < 0.1:
                category = draw.randrange(4)
            found.append({"image_id": one["image_id"], "category_id": category,
                          "bbox": [round(v, 2) for v in box], "score": round(draw.random(), 3)})
    for image in truth["images"]:
        for _ in range(draw.randrange(0, 2)):
            box = [draw.randrange(500), draw.randrange(400), 9 + draw.randrange(60), 9 + draw.randrange(60)]
            found.append({"image_id": image["id"], "category_id": draw.randrange(4), "bbox": box,
                          "score": round(draw.random(), 3)})
    return found


def measured(truth, found):
    """The twelve numbers and AP by class."""
    annotations, next_id = [], 1 + max(one["id"] for one in truth["annotation"])
    for one in copy.deepcopy(truth["annotation"]):
        if one["category_id"] < 4:
            # An id of 0 would count as unmatched.
            annotations.append({**one, "id": one["id"] + 1_000_000, "iscrowd": 0})
            continue
        for category in range(4):
            annotations.append({**one, "id": next_id, "category_id": category, "iscrowd": 1})
            next_id += 1
    coco = COCO()
    coco.dataset = {"images": truth["images"], "annotations": annotations,
                    "categories": [c for c in truth["categories"] if c["id"] < 4]}
    coco.createIndex()
    run = COCOeval(coco, coco.loadRes(found), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    precision = run.eval["precision"][:, :, :, 0, 2]
    by_class = []
    for category in range(4):
        of = precision[:, :, category]
        of = of[of > -1]
        by_class.append(float(np.mean(of)) if of.size else -1.0)
    return {"stats": [float(v) for v in run.stats], "per_class": by_class}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", type=Path)
    parser.add_argument("--of", nargs=2, type=Path)
    args = parser.parse_args()
    truth = made(1) if args.make else json.loads(args.of[0].read_text())
    out = args.make or args.of[1]
    out.mkdir(parents=True, exist_ok=True)
    found = detections(truth, 2)
    if args.make:
        (out / "val.json").write_text(json.dumps(truth))
    (out / "results.json").write_text(json.dumps(found))
    (out / "expected.json").write_text(json.dumps(measured(truth, found), indent=1) + "\n")


if __name__ == "__main__":
    main()
