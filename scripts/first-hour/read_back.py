"""Reads an adapter file: its configuration, its tensors."""

import json
import sys

import numpy
from safetensors import safe_open

with safe_open(sys.argv[1], framework="numpy") as file:
    for key, value in sorted((file.metadata() or {}).items()):
        print(f"{key}: {value[:100]}")
        if value.startswith("{"):
            json.loads(value)
    names = sorted(file.keys())
    count = sum(file.get_tensor(name).size for name in names)
    assert names and all(numpy.isfinite(file.get_tensor(name)).all() for name in names)
    print(f"{len(names)} tensors, {count} values, the first is {names[0]} {file.get_tensor(names[0]).shape}")
