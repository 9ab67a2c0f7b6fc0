"""Every file, by safetensors' own reader and by the decoders of sheet.py.

    python check_files.py CHECKPOINTS MODEL

rondo reads back what the decoders read, bit for bit (fp4 to two units in the last place: it divides
absmax by the largest code, the file each code by it); it is close to MODEL's weights; what was not
quantized is MODEL's, byte for byte; files are as aligned as torch's mapped views need them.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

from cases import equal, files, near, read_folder, run
from sheet import DECODERS

SOURCE = read_folder(Path(sys.argv[2]))

# The largest relative error of a layer, by the beginning of a case's name.
LIMITS = {"int2": 0.9, "int3": 0.4, "int4": 0.25, "int5": 0.1, "int6": 0.05, "int8": 0.1,
          "fp8": 0.05, "f32": 0.05, "e8m0": 0.05, "mxfp8": 0.05}
LOOSEST_OF_4_BITS = 0.25


def check_container(path):
    with safe_open(path, "np") as file:
        assert file.metadata()["format"] in ("pt", "mlx"), file.metadata()
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__")
    sizes = {"F32": 4, "I32": 4, "U32": 4, "I64": 8, "F16": 2, "BF16": 2}
    for name, entry in header.items():
        place = 8 + length + entry["data_offsets"][0]
        assert place % sizes.get(entry["dtype"], 1) == 0, f"{name} is not aligned"


def check_error(name, path, value):
    weight = SOURCE[path + ".weight"].astype(np.float64)
    limit = LIMITS.get(name.split("-")[0], LOOSEST_OF_4_BITS)
    error = np.linalg.norm(value - weight) / np.linalg.norm(weight)
    assert error < limit, f"{path}: relative error {error:.3}"


def check_rest(tensors, quantized):
    for name, value in SOURCE.items():
        if name.removesuffix(".weight") not in quantized:
            assert tensors[name].dtype == value.dtype, name
            assert tensors[name].tobytes() == value.tobytes(), f"{name} changed"


def check(case):
    for path in files(case.folder):
        check_container(path)
    tensors, own = case.tensors(), case.values()
    compare = near if case.name.startswith("fp4") else equal
    found = DECODERS[case.format](tensors, case.config)
    assert sorted(found) == sorted(own), "other layers"
    for path, value in found.items():
        compare(own[path], value, path)
        check_error(case.name, path, value)
    check_rest(tensors, found)
    return f"{len(found)} layers"


if __name__ == "__main__":
    run(check, *DECODERS)
