#!/usr/bin/env python3
"""Files that once took far more memory or time than their size: writes them into a folder.

    scripts/bombs.py FOLDER [MODEL.safetensors]

MODEL is what `pad pretrain` leaves; configurations with absurd numbers are made of it.
"""
import json, os, struct, sys, zipfile, zlib

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
at = lambda name: os.path.join(folder, name)


def text(s):
    s = s.encode()
    return b"X" + struct.pack("<I", len(s)) + s


def number(n):
    return b"\x8a\x08" + struct.pack("<q", n)


def storage(key, elements):
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(elements) + b"tQ"


def tensor(store, count):
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + store + number(0) + b"(" + number(count) + b"t(" + number(1) + b"t"
            + b"\x89" + b"}" + b"tR")


def pth(name, pickle, storages):
    with zipfile.ZipFile(at(name), "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for key, size in storages:
            archive.writestr(f"archive/data/{key}", bytes(size))
        archive.writestr("archive/version", "3\n")


# A dictionary under a name of 1 MB with 6,400 tensors: each one's full name begins with it.
entries = b"".join(text(str(i)) + tensor(storage("0", 1), 1) for i in range(6400))
pth("names.pth", b"\x80\x02}(" + text("n" * (1 << 20)) + b"}(" + entries + b"uu.", [("0", 4)])
# 400 views of one storage of 8 MB.
views = b"".join(text(f"w{i}") + tensor(storage("0", 1 << 21), 1 << 21) for i in range(400))
pth("views.pth", b"\x80\x02}(" + views + b"u.", [("0", 1 << 23)])
# 20 MB of empty lists.
pth("lists.pth", b"\x80\x02" + b"]" * (20 << 20) + b".", [])

if len(sys.argv) > 2:
    data = open(sys.argv[2], "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header, values = json.loads(data[8:8 + length]), data[8 + length:]
    meta = header["__metadata__"]

    def changed(name, change):
        text_of = {key: value for key, value in meta.items()}
        for key, value in meta.items():
            try:
                config = json.loads(value)
            except ValueError:
                continue
            if isinstance(config, dict) and change(config):
                text_of[key] = json.dumps(config)
        new = json.dumps({**header, "__metadata__": text_of}).encode()
        new += b" " * (-len(new) % 8)
        open(at(name), "wb").write(struct.pack("<Q", len(new)) + new + values)

    def put(path, value):
        def change(config):
            found = False
            for part in [config, *[v for v in config.values() if isinstance(v, dict)]]:
                if path in part:
                    part[path] = value
                    found = True
            return found
        return change

    for path, value in [("mlp_ratio", 1e308), ("depth", 10**18), ("embed_dim", 2**62), ("patch_size", 10**12)]:
        changed(f"{path}.safetensors", put(path, value))
    changed("decoder_depth.safetensors", lambda c: put("decoder_depth", 10**9)(c) or ("depth" in c.get("decoder", {}) and put("depth", 10**9)(c["decoder"])))
    changed("image_size.safetensors", put("image_size", {"height": 102400, "width": 102400}))

# A picture of 8 x 8 with a mask of 60,000 x 60,000, and boxes with 60,000 attributes.
def png():
    raw = b"".join(b"\0" + bytes(range(8)) for _ in range(8))
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))

for split in ("train", "val"):
    os.makedirs(at(f"coco/{split}"), exist_ok=True)
    os.makedirs(at("coco/annotations"), exist_ok=True)
    open(at(f"coco/{split}/a.png"), "wb").write(png())
    side = 60_000
    json.dump({
        "images": [{"id": 1, "file_name": "a.png", "width": side, "height": side}],
        "annotations": [{"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, side, side], "iscrowd": 0,
                         "segmentation": {"size": [side, side], "counts": [0, side * side]}} for i in range(20)],
        "categories": [{"id": 1, "name": "person"}],
    }, open(at(f"coco/annotations/{split}.json"), "w"))
for sub in ("Annotations", "JPEGImages", "ImageSets/Main"):
    os.makedirs(at(f"voc/{sub}"), exist_ok=True)
for split in ("train", "val"):
    open(at(f"voc/ImageSets/Main/{split}.txt"), "w").write("a\n")
open(at("voc/JPEGImages/a.png"), "wb").write(png())
attributes = " ".join(f'a{i}="{i}"' for i in range(60_000))
open(at("voc/Annotations/a.xml"), "w").write(
    f"<annotation {attributes}><filename>a.png</filename><size><width>8</width><height>8</height></size><object><name>person</name>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>")
